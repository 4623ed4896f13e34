package soak

import (
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// asker asks a server at a steady rate and has each answer checked.
type asker struct {
	stop     chan struct{}
	wg       sync.WaitGroup
	asked    atomic.Int64
	failures atomic.Int64
	excused  atomic.Int64
	slowest  atomic.Int64 // nanoseconds

	mu    sync.Mutex
	first []string // failures in words
}

// question is what to ask, and what is right: check is told when the question
// went out.
type question struct {
	name  string
	qtype uint16
	check func(m *dns.Msg, sent time.Time) error
	// excuse, if set, tells whether a question that was sent then needs no answer.
	excuse func(sent time.Time) bool
}

// answerTime is how long a client waits for an answer. The lab's one processor is shared by
// the server, the client and the processes that start meanwhile.
func answerTime() time.Duration {
	if inLab() {
		return 10 * time.Second
	}
	return 2 * time.Second
}

// ask begins to ask rate questions a second, each worker one at a time over a
// socket of its own. next is called by several goroutines at once.
func ask(t *testing.T, addr string, rate, workers int, next func(i int64) question) *asker {
	t.Helper()
	a := &asker{stop: make(chan struct{})}
	t.Cleanup(a.end)
	due := make(chan struct{}, workers)
	a.wg.Go(func() {
		defer close(due)
		const every = 5 * time.Millisecond
		tick := time.NewTicker(every)
		defer tick.Stop()
		start, sent := time.Now(), int64(0)
		for {
			select {
			case <-a.stop:
				return
			case now := <-tick.C:
				for want := int64(now.Sub(start).Seconds() * float64(rate)); sent < want; sent++ {
					select {
					case due <- struct{}{}:
					case <-a.stop:
						return
					}
				}
			}
		}
	})
	for range workers {
		a.wg.Go(func() {
			for range due {
				q := next(a.asked.Add(1))
				if err := a.exchange(addr, q); err != nil {
					a.fail(fmt.Errorf("%s %s: %w", q.name, dns.TypeToString[q.qtype], err))
				}
			}
		})
	}
	return a
}

// exchange asks one question, once, over a socket of its own: the port is
// another each time, and so is the goroutine that serves it.
func (a *asker) exchange(addr string, q question) error {
	conn, err := net.Dial("udp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	c := &dns.Conn{Conn: conn, UDPSize: 4096}
	m := new(dns.Msg).SetQuestion(q.name, q.qtype)
	m.SetEdns0(1232, false)
	sent := time.Now()
	_ = conn.SetDeadline(sent.Add(answerTime()))
	err = c.WriteMsg(m)
	var r *dns.Msg
	if err == nil {
		r, err = c.ReadMsg()
	}
	if err != nil {
		if q.excuse != nil && q.excuse(sent) {
			a.excused.Add(1)
			return nil
		}
		return fmt.Errorf("sent at %s: %w", sent.Format("15:04:05.000"), err)
	}
	took := int64(time.Since(sent))
	for old := a.slowest.Load(); took > old && !a.slowest.CompareAndSwap(old, took); old = a.slowest.Load() {
	}
	if r.Id != m.Id {
		return fmt.Errorf("answer to another question: %v", r)
	}
	return q.check(r, sent)
}

func (a *asker) fail(err error) {
	a.failures.Add(1)
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.first) < 5 {
		a.first = append(a.first, fmt.Sprintf("%s %v", time.Now().Format("15:04:05.000"), err))
	}
}

// end ends the asking.
func (a *asker) end() {
	select {
	case <-a.stop:
	default:
		close(a.stop)
	}
	a.wg.Wait()
}

// judge ends the asking and fails the test if an answer was wrong or missing.
func (a *asker) judge(t *testing.T) {
	t.Helper()
	a.end()
	t.Logf("%d questions, %d failed, the slowest answer took %v", a.asked.Load(), a.failures.Load(), time.Duration(a.slowest.Load()))
	if n := a.failures.Load(); n > 0 {
		t.Errorf("%d of %d questions failed:", n, a.asked.Load())
		for _, f := range a.first {
			t.Error(f)
		}
	}
}
