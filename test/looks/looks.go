// Package looks watches a pool in DNS while a test plays with its elements, and tells
// from which answer on an element was named, and until when.
package looks

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// Patience is how long a test waits for an answer that must come.
const Patience = time.Minute

// Looks are the answers to a question for all elements of a pool that is asked all the
// time.
type Looks struct {
	t    testing.TB
	pool string
	stop chan struct{}
	done chan struct{}

	mu   sync.Mutex
	cond sync.Cond
	list []Look
}

// Look is one answer.
type Look struct {
	Sent, Back time.Time
	IDs        map[uint32]bool // the elements that it names
	Err        error           // there was no answer, another one than NOERROR, or an empty one
	Lost       bool            // there was no answer
}

// answerTime is how long a client waits for an answer.
const answerTime = 2 * time.Second

// pause is the time between two questions: in the kernel lab (test/lab), they would keep
// its processor busy.
func pause() time.Duration {
	if os.Getenv("IN_UML") != "" {
		return 25 * time.Millisecond
	}
	return 10 * time.Millisecond
}

// Start begins to ask a server for a pool, by its name in DNS, over a connection of UDP,
// 100 times a second at most. The end of the test ends it.
func Start(t testing.TB, conn net.Conn, pool string) *Looks {
	w := &Looks{t: t, pool: pool, stop: make(chan struct{}), done: make(chan struct{})}
	w.cond.L = &w.mu
	go func() {
		defer close(w.done)
		defer conn.Close()
		tick := time.NewTicker(pause())
		defer tick.Stop()
		for {
			select {
			case <-w.stop:
				return
			case <-tick.C:
			}
			l := lookAt(conn, pool)
			w.mu.Lock()
			w.list = append(w.list, l)
			w.cond.Broadcast()
			w.mu.Unlock()
		}
	}()
	t.Cleanup(w.end)
	return w
}

func (w *Looks) end() {
	select {
	case <-w.stop:
	default:
		close(w.stop)
	}
	<-w.done
}

// lookAt asks once.
func lookAt(conn net.Conn, pool string) Look {
	c := &dns.Conn{Conn: conn, UDPSize: dns.MaxMsgSize}
	m := new(dns.Msg).SetQuestion(pool, dns.TypeSRV).SetEdns0(16384, false)
	l := Look{Sent: time.Now()}
	_ = conn.SetDeadline(l.Sent.Add(answerTime))
	if l.Err = c.WriteMsg(m); l.Err != nil {
		l.Lost = true
		return l
	}
	r, err := c.ReadMsg()
	for err == nil && r.Id != m.Id { // an answer that came too late
		r, err = c.ReadMsg()
	}
	l.Back = time.Now()
	switch {
	case err != nil:
		l.Err, l.Lost = err, true
	case r.Rcode != dns.RcodeSuccess:
		l.Err = errors.New(dns.RcodeToString[r.Rcode])
	case len(r.Answer) == 0:
		l.Err = errors.New("NODATA")
	case r.Truncated:
		l.Err = errors.New("the answer is truncated")
	default:
		l.IDs = make(map[uint32]bool)
		for _, rr := range r.Answer {
			var id uint32
			if srv, ok := rr.(*dns.SRV); ok {
				_, _ = fmt.Sscanf(srv.Target, "pe-%x.", &id)
				l.IDs[id] = true
			}
		}
	}
	return l
}

// Until waits for an answer, to a question that was sent after a time, of which f is
// true.
func (w *Looks) Until(what string, since time.Time, d time.Duration, f func(Look) bool) Look {
	w.t.Helper()
	deadline := time.Now().Add(d)
	late := time.AfterFunc(d, w.cond.Broadcast)
	defer late.Stop()
	w.mu.Lock()
	defer w.mu.Unlock()
	for n := 0; ; {
		for ; n < len(w.list); n++ {
			if l := w.list[n]; !l.Sent.Before(since) && f(l) {
				return l
			}
		}
		if !time.Now().Before(deadline) {
			var last Look
			if n > 0 {
				last = w.list[n-1]
			}
			w.t.Fatalf("no answer for %s within %v: %s; the last one: %d elements, %v", w.pool, d, what, len(last.IDs), last.Err)
		}
		w.cond.Wait()
	}
}

// All waits for an answer, to a question from now on, that names so many elements.
func (w *Looks) All(n int) {
	w.t.Helper()
	w.Until(fmt.Sprintf("%d elements", n), time.Now(), Patience, func(l Look) bool { return len(l.IDs) == n })
}

// Out waits until an element is not named any more, and tells how long after a time that
// was.
func (w *Looks) Out(id uint32, since time.Time) time.Duration {
	w.t.Helper()
	l := w.Until(fmt.Sprintf("without %08x", id), since, Patience, func(l Look) bool { return !l.IDs[id] })
	return l.Sent.Sub(since)
}

// In waits until an element is named, and tells how long after a time that was.
func (w *Looks) In(id uint32, since time.Time) time.Duration {
	w.t.Helper()
	l := w.Until(fmt.Sprintf("with %08x", id), since, Patience, func(l Look) bool { return l.IDs[id] })
	return l.Back.Sub(since)
}

// Between are the answers to the questions that were sent and answered in that time. One that
// was answered later may tell of what happened then.
func (w *Looks) Between(from, to time.Time) (list []Look) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range w.list {
		if !l.Sent.Before(from) && !l.Back.After(to) {
			list = append(list, l)
		}
	}
	return list
}

// NeverEmpty checks that no question since a time was without an element in its answer,
// and that none was without an answer, but for those for which that is excused. It tells
// how many were, and when the first and the last one.
func (w *Looks) NeverEmpty(since time.Time, excused ...func(sent time.Time) bool) {
	w.t.Helper()
	list := w.Between(since, time.Now())
	bad := slices.DeleteFunc(slices.Clone(list), func(l Look) bool {
		return l.Err == nil || l.Lost && slices.ContainsFunc(excused, func(f func(time.Time) bool) bool { return f(l.Sent) })
	})
	if len(bad) == 0 {
		w.t.Logf("%d answers for %s, each with elements", len(list), w.pool)
		return
	}
	first, last := bad[0], bad[len(bad)-1]
	w.t.Errorf("%d of %d answers for %s are without an element, from %v to %v: %v ... %v", len(bad), len(list), w.pool,
		first.Sent.Sub(since).Round(time.Millisecond), last.Sent.Sub(since).Round(time.Millisecond), first.Err, last.Err)
}

// Settled is how long after a time the first answer came from which on all answers
// are right.
func (w *Looks) Settled(since time.Time, right func(Look) bool) time.Duration {
	var from time.Time
	for _, l := range w.Between(since, time.Now()) {
		switch {
		case !right(l):
			from = time.Time{}
		case from.IsZero():
			from = l.Back
		}
	}
	if from.IsZero() {
		return 1<<63 - 1
	}
	return from.Sub(since)
}

// Spread is the least, the median and the greatest of some durations.
func Spread(list []time.Duration) string {
	if len(list) == 0 {
		return "none"
	}
	slices.Sort(list)
	ms := func(d time.Duration) time.Duration { return d.Round(time.Millisecond) }
	return fmt.Sprintf("%v, %v, %v (least, median, greatest of %d)", ms(list[0]), ms(list[len(list)/2]), ms(list[len(list)-1]), len(list))
}
