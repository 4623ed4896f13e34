package host

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
	"github.com/rserpool/coredns-rserpool/registrar"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// tardy takes a second for each message, and notes up to when timers run.
type tardy struct {
	due  time.Time
	seen []string
}

func (c *tardy) Handle(now time.Time, ev registrar.Event) []registrar.Action {
	switch ev := ev.(type) {
	case registrar.Received:
		time.Sleep(time.Second)
		c.seen = append(c.seen, string(ev.Data))
	case registrar.Tick:
		if !ev.Until.Before(c.due) {
			c.seen = append(c.seen, "deadline")
			c.due = now.Add(time.Hour)
		}
	}
	return nil
}
func (c *tardy) NextDeadline() (time.Time, bool) { return c.due, true }
func (c *tardy) Ready() bool                     { return true }
func (c *tardy) Answers() bool                   { return true }
func (c *tardy) Stats() registrar.Stats          { return registrar.Stats{} }

// What has come before a deadline is handled before it, however much comes, and
// what comes later does not put it off forever.
func TestDeadlineAfterInput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, err := newHost(Config{})
		if err != nil {
			t.Fatal(err)
		}
		c := &tardy{due: time.Now().Add(10 * time.Second)}
		h.core = c
		l := newLoop(h)
		if l.ep, err = sctptest.NewNetwork().Listen(sctp.ListenConfig{Addrs: []netip.AddrPort{netip.MustParseAddrPort(hostAddr)}}, l.onEvent); err != nil {
			t.Fatal(err)
		}
		defer l.ep.Close()
		go l.run(registrar.Serving{})
		for i := range 40 { // two for each that is handled
			go l.enqueue(registrar.Received{Data: []byte(fmt.Sprint(i))})
			synctest.Wait()
			time.Sleep(500 * time.Millisecond)
		}
		time.Sleep(time.Minute)
		close(l.quit)
		<-l.ended
		at := slices.Index(c.seen, "deadline")
		if at < 20 || at > 39 {
			t.Errorf("deadline after %d messages, want it after the 20 that came before it, and before the last: %v", at, c.seen)
		}
	})
}

// slow is an endpoint with a long send queue until some time after the first keep-alive.
type slow struct {
	sctp.Endpoint
	queued time.Duration
	asked  time.Time
}

func (s *slow) Send(_ sctp.AssocID, m sctp.Message) error {
	if asap.MessageType(m.Data[0]) == asap.TypeEndpointKeepAlive && s.asked.IsZero() {
		s.asked = time.Now()
	}
	return nil
}

func (s *slow) Behind(sctp.AssocID) bool { return time.Since(s.asked) < s.queued }
func (s *slow) LocalAddrs() []netip.AddrPort {
	return []netip.AddrPort{netip.MustParseAddrPort(hostAddr)}
}
func (s *slow) Shutdown(sctp.AssocID) {}
func (s *slow) Close() error          { return nil }

// TestKeepAliveBehindQueue: the time for the acknowledgement begins when the keep-alive
// has left the send queue.
func TestKeepAliveBehindQueue(t *testing.T) {
	for _, tt := range []struct{ queued, suspect time.Duration }{
		{0, 3 * time.Second}, {8 * time.Second, 11 * time.Second}, {time.Hour, 12 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			h, err := newHost(Config{})
			if err != nil {
				t.Fatal(err)
			}
			l := newLoop(h)
			ep := &slow{queued: tt.queued}
			l.ep = ep
			go l.run(registrar.Serving{})
			l.enqueue(registrar.AssocUp{Assoc: 1, Via: rserpool.ViaKernel, Peer: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:1")}})
			b, err := registration("p", 1, "10.0.0.1").Append(nil)
			if err != nil {
				t.Fatal(err)
			}
			l.enqueue(registrar.Received{Assoc: 1, PPID: asap.PPID, Data: b})
			synctest.Wait()
			guarded := false // the only element of a pool is a suspect
			for !guarded {
				time.Sleep(100 * time.Millisecond)
				synctest.Wait()
				_, guarded = h.Space().Pool("p").Doubt()
			}
			if got := time.Since(ep.asked); got < tt.suspect || got > tt.suspect+time.Second {
				t.Errorf("queued for %v: a suspect %v after the keep-alive, want %v", tt.queued, got, tt.suspect)
			}
			close(l.quit)
			<-l.ended
		})
	}
}

// stuffed is an endpoint whose peers read nothing.
type stuffed struct{ sctp.Endpoint }

func (stuffed) Full(sctp.AssocID) bool { return true }

// No answer is built while the send queue to a user is full. The other messages of
// that user count.
func TestNoAnswerWithoutRoom(t *testing.T) {
	h, err := newHost(Config{})
	if err != nil {
		t.Fatal(err)
	}
	l := newLoop(h)
	l.ep = stuffed{}
	l.step(registrar.AssocUp{Assoc: 1, Via: rserpool.ViaKernel, Peer: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:1")}})
	for _, m := range []asap.Message{&asap.HandleResolution{Handle: "p"}, &asap.EndpointKeepAliveAck{Handle: "p", ID: 1}} {
		b, _ := m.Append(nil)
		l.step(registrar.Received{Assoc: 1, PPID: asap.PPID, Data: b})
	}
	s := h.core.Stats()
	if n := s.ResolutionsFailed; n != [len(n)]uint64{} {
		t.Errorf("got failed resolutions %v, want none looked at", n)
	}
	if l.stats.SendsRefused != 1 || s.SendsFailed != 1 || s.KeepAlivesUnexpected != 1 {
		t.Errorf("%d refused, %d failed, %d acknowledgements; want 1 each", l.stats.SendsRefused, s.SendsFailed, s.KeepAlivesUnexpected)
	}
}
