package registrar

import (
	"fmt"
	"testing"
	"time"
)

// RFC 5352, Section 3.5: asked at once, and removed if the keep-alive fails.
func TestUnreachable(t *testing.T) {
	w := newWorld(t)
	w.up(1, ViaKernel, "10.0.0.1")
	w.up(2, ViaTCP, "10.0.0.2")
	w.recv(1, reg("p", 1, "10.0.0.1"))
	w.want("1 < registration granted p:1")
	w.recv(2, unreachable("p", 9)) // not known
	w.recv(2, unreachable("q", 1))
	w.want()
	w.recv(2, unreachable("p", 1))
	w.want("1" + ka1)
	for range 4 { // one keep-alive at a time, and its time is not prolonged
		w.pass(1200 * time.Millisecond)
		w.recv(2, unreachable("p", 1))
		w.want()
	}
	w.pass(200 * time.Millisecond)
	w.wantElements()
	if s := w.r.Stats(); s.Unreachable != 7 || s.Removed[RemovedNoAck] != 1 {
		t.Errorf("stats: %+v", s)
	}
}

// RFC 5352, Section 3.5: the counter exceeds MAX-BAD-PE-REPORT. One client
// counts once, whatever it does.
func TestUnreachableReports(t *testing.T) {
	setup := func(t *testing.T) *world {
		w := newWorld(t, func(c *Config) { c.Timers.MaxBadPEReport = 3 })
		w.up(1, ViaKernel, "10.0.0.1")
		w.recv(1, reg("p", 1, "10.0.0.1"))
		w.want("1 < registration granted p:1")
		return w
	}
	// report reports over association id, and the element answers.
	report := func(w *world, id AssocID) {
		w.recv(id, unreachable("p", 1))
		w.pass(time.Second)
		w.recv(1, ack("p", 1))
		w.trace = nil
	}
	t.Run("one client", func(t *testing.T) {
		w := setup(t)
		for i := range 100 {
			id := AssocID(10 + i)
			w.up(id, ViaTCP, fmt.Sprintf("10.0.0.2:%d", 1000+i))
			report(w, id)
		}
		w.wantElements("p:1")
	})
	t.Run("one IPv6 network", func(t *testing.T) {
		w := setup(t)
		for i := range 10 {
			id := AssocID(10 + i)
			w.up(id, ViaTCP, fmt.Sprintf("2001:db8::%x", 1+i))
			report(w, id)
		}
		w.wantElements("p:1")
	})
	t.Run("four clients", func(t *testing.T) {
		w := setup(t)
		for i := range 4 {
			w.wantElements("p:1")
			id := AssocID(10 + i)
			w.up(id, ViaTCP, fmt.Sprintf("10.0.0.%d", 10+i))
			report(w, id)
		}
		w.wantElements()
		if got := w.r.Stats().Removed[RemovedReported]; got != 1 {
			t.Errorf("removed: got %d, want 1", got)
		}
	})
	t.Run("any number of clients, by default", func(t *testing.T) {
		w := newWorld(t)
		w.up(1, ViaKernel, "10.0.0.1")
		w.recv(1, reg("p", 1, "10.0.0.1"))
		for i := range 1000 {
			id := AssocID(10 + i)
			w.up(id, ViaTCP, fmt.Sprintf("10.0.%d.%d", 1+i/250, 1+i%250))
			w.recv(id, unreachable("p", 1))
			w.recv(1, ack("p", 1))
		}
		w.wantElements("p:1")
	})
	t.Run("four clients in a long time", func(t *testing.T) {
		w := setup(t)
		for i := range 8 {
			id := AssocID(10 + i)
			w.up(id, ViaTCP, fmt.Sprintf("10.0.0.%d", 10+i))
			report(w, id)
			for range 12 {
				w.pass(1700 * time.Millisecond)
				w.recv(1, ack("p", 1))
			}
		}
		w.wantElements("p:1")
	})
	t.Run("keep-alives are not provoked more than once a second", func(t *testing.T) {
		w := setup(t)
		w.up(2, ViaTCP, "10.0.0.2")
		for range 1000 {
			w.recv(2, unreachable("p", 1))
			w.recv(1, ack("p", 1))
			w.pass(10 * time.Millisecond)
		}
		if n := len(w.trace); n < 8 || n > 13 {
			t.Errorf("keep-alives in 10 s: got %d, want about 10", n)
		}
	})
	t.Run("of a probed element", func(t *testing.T) {
		w := setup(t)
		w.up(2, ViaTCP, "10.0.0.2")
		w.down(1)
		w.want("connect #1 via 1 to [10.0.0.1:40000]")
		w.recv(2, unreachable("p", 1))
		w.want()
	})
}
