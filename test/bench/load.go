package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// question is a query with what a good response has.
type question struct {
	packet             []byte
	answers, additions uint16
}

func newQuestion(name string, qtype uint16, answers, additions int) question {
	m := new(dns.Msg).SetQuestion(name, qtype)
	packet, err := m.Pack()
	if err != nil {
		panic(err) // the names are this program's
	}
	return question{packet: packet, answers: uint16(answers), additions: uint16(additions)}
}

// check returns the error in a response.
func (q *question) check(b []byte) error {
	if len(b) < 12 {
		return fmt.Errorf("response of %d bytes", len(b))
	}
	rcode := b[3] & 0xf
	answers, additions := binary.BigEndian.Uint16(b[6:]), binary.BigEndian.Uint16(b[10:])
	if rcode != 0 || answers != q.answers || additions != q.additions {
		return fmt.Errorf("response has rcode %d, %d answers, %d additional records; want 0, %d, %d",
			rcode, answers, additions, q.answers, q.additions)
	}
	return nil
}

// load asks a name server, from several sockets, random ones of its questions.
type load struct {
	socks []*socket
}

// sockets from which a load comes, and how many queries each has outstanding
// at most.
const (
	sockets = 4
	window  = 16
)

// patience is how long a response may take before it counts as lost.
const patience = 5 * time.Second

type socket struct {
	network   string
	addr      string
	conn      *dns.Conn
	questions []question
	rand      *rand.Rand
	next      uint16
	// pending has, by the query's ID, when it was sent and what it asks.
	pending   [1 << 16]pending
	buf       []byte
	latencies []time.Duration
}

type pending struct {
	sent     atomic.Int64 // nanoseconds since start; 0 is none
	question int32
}

var start = time.Now()

func clock() int64 { return int64(time.Since(start)) }

// tally is what became of the queries of a load.
type tally struct {
	sent, lost int
	latencies  []time.Duration
}

// p99 is the 99th percentile of the latencies.
func (t *tally) p99() time.Duration {
	slices.Sort(t.latencies)
	if len(t.latencies) == 0 {
		return 0
	}
	return t.latencies[len(t.latencies)*99/100]
}

// newLoad makes a load by "udp" or "tcp".
func newLoad(network, addr string, questions []question) *load {
	l := new(load)
	for i := range sockets {
		l.socks = append(l.socks, &socket{
			network: network, addr: addr, questions: questions,
			rand: rand.New(rand.NewPCG(uint64(i), 1)), buf: make([]byte, 4096),
		})
	}
	return l
}

// dial connects the socket if it is not connected. A connection by TCP is for one turn: the
// server closes one that is idle for long.
func (s *socket) dial() (err error) {
	if s.network == "tcp" {
		s.close()
	}
	if s.conn == nil {
		s.conn, err = dns.Dial(s.network, s.addr)
	}
	return err
}

func (s *socket) close() {
	if s.conn != nil {
		_ = s.conn.Close()
		s.conn = nil
	}
}

func (l *load) close() {
	for _, s := range l.socks {
		s.close()
	}
}

// flood asks n queries, each as soon as there is room.
func (l *load) flood(n int) (tally, error) {
	return l.gather(func(s *socket) (int, int, error) { return s.flood(n / len(l.socks)) })
}

// pace asks rate queries a second, evenly spread, for a while.
func (l *load) pace(rate int, d time.Duration) (tally, error) {
	return l.gather(func(s *socket) (int, int, error) { return s.pace(rate/len(l.socks), d) })
}

func (l *load) gather(run func(*socket) (sent, lost int, err error)) (tally, error) {
	var t tally
	var errs []error
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, s := range l.socks {
		wg.Go(func() {
			s.latencies = s.latencies[:0]
			var sent, lost int
			err := s.dial()
			if err == nil {
				sent, lost, err = run(s)
			}
			mu.Lock()
			defer mu.Unlock()
			t.sent += sent
			t.lost += lost
			t.latencies = append(t.latencies, s.latencies...)
			errs = append(errs, err)
		})
	}
	wg.Wait()
	return t, errors.Join(errs...)
}

// send sends a query.
func (s *socket) send() error {
	s.next++
	i := s.rand.IntN(len(s.questions))
	packet := append(s.buf[:0], s.questions[i].packet...)
	binary.BigEndian.PutUint16(packet, s.next)
	p := &s.pending[s.next]
	p.question = int32(i)
	p.sent.Store(clock())
	_, err := s.conn.Write(packet)
	return err
}

// receive waits for a response and checks it. It reports whether it was waited
// for: what counts as lost may come yet.
func (s *socket) receive(buf []byte) (bool, error) {
	n, err := s.conn.Read(buf)
	if err != nil {
		return false, err
	}
	if n < 2 {
		return false, fmt.Errorf("response of %d bytes", n)
	}
	p := &s.pending[binary.BigEndian.Uint16(buf)]
	at := p.sent.Swap(0)
	if at == 0 {
		return false, nil
	}
	s.latencies = append(s.latencies, time.Duration(clock()-at))
	return true, s.questions[p.question].check(buf[:n])
}

func (s *socket) flood(n int) (sent, lost int, err error) {
	buf := make([]byte, dns.MaxMsgSize)
	outstanding := 0
	for done := 0; done < n; {
		for ; outstanding < window && sent < n; outstanding++ {
			if err := s.send(); err != nil {
				return sent, lost, err
			}
			sent++
		}
		if done%64 == 0 { // often enough, and a system call less
			_ = s.conn.SetReadDeadline(time.Now().Add(patience))
		}
		good, err := s.receive(buf)
		switch {
		case isTimeout(err):
			s.forget()
			lost += outstanding
			done += outstanding
			outstanding = 0
		case err != nil:
			return sent, lost, err
		case good:
			outstanding--
			done++
		}
	}
	return sent, lost, nil
}

// forget gives up on all that is outstanding.
func (s *socket) forget() {
	for i := range s.pending {
		s.pending[i].sent.Store(0)
	}
}

func (s *socket) pace(rate int, d time.Duration) (sent, lost int, err error) {
	end := time.Now().Add(d)
	stop := make(chan error, 1)
	go func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		begin := time.Now()
		for now := begin; now.Before(end); now = <-tick.C {
			for sent < int(now.Sub(begin).Seconds()*float64(rate)) {
				if err := s.send(); err != nil {
					stop <- err
					return
				}
				sent++
			}
		}
		// What is out has this long to come.
		_ = s.conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		stop <- nil
	}()
	_ = s.conn.SetReadDeadline(end.Add(patience))
	buf := make([]byte, dns.MaxMsgSize)
	for {
		if _, err = s.receive(buf); err != nil {
			break
		}
	}
	if isTimeout(err) {
		err = nil
	}
	err = errors.Join(err, <-stop)
	s.forget()
	return sent, sent - len(s.latencies), err
}

func isTimeout(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
}
