package registrar

import (
	"fmt"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// RFC 5352, Section 3.5: the registrar sends the element a keep-alive at once, and removes
// the element if the keep-alive fails.
func TestUnreachable(t *testing.T) {
	w := newWorld(t)
	w.up(1, rserpool.ViaKernel, "10.0.0.1")
	w.up(2, rserpool.ViaTCP, "10.0.0.2")
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
	if s := w.r.Stats(); s.Unreachable != 7 || s.Suspected[SilentNoAck] != 1 {
		t.Errorf("stats: %+v", s)
	}
}

// RFC 5352, Section 3.5: the counter exceeds MAX-BAD-PE-REPORT. One client counts once.
func TestUnreachableReports(t *testing.T) {
	setup := func(t *testing.T) *world {
		w := newWorld(t, func(c *Config) { c.Timers.MaxBadPEReport = 3 })
		w.up(1, rserpool.ViaKernel, "10.0.0.1")
		w.recv(1, reg("p", 1, "10.0.0.1"))
		w.want("1 < registration granted p:1")
		return w
	}
	// report reports the element over an association; the element acknowledges.
	report := func(w *world, id AssocID) {
		w.recv(id, unreachable("p", 1))
		w.pass(time.Second)
		w.recv(1, ack("p", 1))
		w.skip("deregistration", "keep-alive", "removed")
	}
	t.Run("one client", func(t *testing.T) {
		w := setup(t)
		for i := range 100 {
			id := AssocID(10 + i)
			w.up(id, rserpool.ViaTCP, fmt.Sprintf("10.0.0.2:%d", 1000+i))
			report(w, id)
		}
		w.wantElements("p:1")
	})
	t.Run("one IPv6 network", func(t *testing.T) {
		w := setup(t)
		for i := range 10 {
			id := AssocID(10 + i)
			w.up(id, rserpool.ViaTCP, fmt.Sprintf("2001:db8::%x", 1+i))
			report(w, id)
		}
		w.wantElements("p:1")
	})
	t.Run("four clients", func(t *testing.T) {
		w := setup(t)
		for i := range 4 {
			w.wantElements("p:1")
			id := AssocID(10 + i)
			w.up(id, rserpool.ViaTCP, fmt.Sprintf("10.0.0.%d", 10+i))
			report(w, id)
		}
		w.wantElements()
		if got := w.r.Stats().Removed[RemovedReported]; got != 1 {
			t.Errorf("removed: got %d, want 1", got)
		}
	})
	t.Run("any number of clients, by default", func(t *testing.T) {
		w := newWorld(t)
		w.up(1, rserpool.ViaKernel, "10.0.0.1")
		w.recv(1, reg("p", 1, "10.0.0.1"))
		for i := range 1000 {
			id := AssocID(10 + i)
			w.up(id, rserpool.ViaTCP, fmt.Sprintf("10.0.%d.%d", 1+i/250, 1+i%250))
			w.recv(id, unreachable("p", 1))
			w.recv(1, ack("p", 1))
		}
		w.wantElements("p:1")
	})
	t.Run("four clients in a long time", func(t *testing.T) {
		w := setup(t)
		for i := range 8 {
			id := AssocID(10 + i)
			w.up(id, rserpool.ViaTCP, fmt.Sprintf("10.0.0.%d", 10+i))
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
		w.up(2, rserpool.ViaTCP, "10.0.0.2")
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
		w.up(2, rserpool.ViaTCP, "10.0.0.2")
		w.down(1)
		w.want("connect #1 via 1 to [10.0.0.1:40000]")
		w.recv(2, unreachable("p", 1))
		w.want()
	})
}

// TestUnreachableForeign: RFC 5352, Section 3.5, for a foreign element. The registrar sends
// it a keep-alive, and leaves it out of answers for a while if it cannot connect. It does
// not notify the home, and keeps the element in the handlespace.
func TestUnreachableForeign(t *testing.T) {
	const (
		call   = "connect #1 via 0 to [10.0.1.1:40000]"
		asked  = " < keep-alive p:1 from 10000001"
		second = "1 < resolution p policy 1 2"
	)
	begin := func(t *testing.T) *world {
		w := newPeerWorld(t)
		w.meet(2, greater)
		w.tell(2, update(greater, enrp.AddPE, "p", peerElement(1, greater)))
		e := peerElement(2, greater)
		e.ASAPTransport.Port++
		w.tell(2, update(greater, enrp.AddPE, "p", e))
		w.up(1, rserpool.ViaTCP, "10.0.0.9")
		w.recv(1, unreachable("p", 1))
		w.want(call)
		w.recv(1, unreachable("p", 1)) // one at a time
		w.want()
		return w
	}
	left := func(w *world, out bool) {
		w.t.Helper()
		for range 4 {
			w.recv(1, resolve("p"))
			got := w.trace[0]
			w.skip("resolution", "close", "list_request", "presence")
			if alone := got == second; alone != out {
				w.t.Fatalf("at %v: got %q, left out: want %v", w.now.Sub(w.start), got, out)
			}
		}
		w.wantHomes("p:1@20000002", "p:2@20000002")
	}
	up := func(w *world) {
		w.handle(Connecting{Ref: 1, Assoc: 5})
		w.up(5, rserpool.ViaKernel, "10.0.1.1")
		w.want("5" + asked)
	}
	failed := func(w *world) {
		w.handle(SendFailed{Assoc: 5, Data: encode(w.t, &asap.EndpointKeepAlive{Server: testServer, Handle: "p", ID: 1, HasID: true})})
	}
	for _, tt := range []struct {
		name string
		do   func(w *world)
		out  bool
	}{
		{"no call", func(w *world) { w.handle(Connecting{Ref: 1}) }, false},
		{"call refused", func(w *world) { w.refused(1, 5) }, true},
		{"call lost", func(w *world) { w.handle(Connecting{Ref: 1, Assoc: 5}); w.down(5) }, false},
		{"certificate not valid at this time", func(w *world) {
			w.handle(Connecting{Ref: 1, Assoc: 5})
			w.handle(AssocDown{Assoc: 5, Reason: DownUntimely})
		}, false},
		{"send failed", func(w *world) { up(w); failed(w) }, false},
		{"acknowledged", func(w *world) { up(w); w.recv(5, ack("p", 1)); failed(w) }, false},
		{"not acknowledged", func(w *world) { up(w); w.pass(4 * time.Second); failed(w) }, false},
		{"ended", func(w *world) { up(w); w.down(5) }, false},
		{"call not answered", func(w *world) {
			w.handle(Connecting{Ref: 1, Assoc: 5})
			w.pass(4 * time.Second)
			w.want("5 abort")
			w.down(5)
		}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := begin(t)
			tt.do(w)
			left(w, tt.out)
			if n := w.r.Stats().Avoided; (n == 1) != tt.out || n > 1 {
				t.Errorf("%d elements are counted as left out", n)
			}
			if tt.out {
				w.pass(29 * time.Second)
				left(w, true)
				w.pass(2 * time.Second)
			}
			left(w, false)
		})
	}
	t.Run("the home tells of it", func(t *testing.T) {
		w := begin(t)
		w.refused(1, 5)
		left(w, true)
		w.tell(2, update(greater, enrp.AddPE, "p", peerElement(1, greater)))
		left(w, false)
		w.recv(1, unreachable("p", 1))
		w.want("connect #2 via 0 to [10.0.1.1:40000]")
	})
	t.Run("the only one", func(t *testing.T) {
		w := begin(t)
		w.tell(2, update(greater, enrp.DelPE, "p", peerElement(2, greater)))
		w.refused(1, 5)
		w.recv(1, resolve("p"))
		w.want("1 < resolution p policy 1 1")
	})
	t.Run("once a second", func(t *testing.T) {
		w := begin(t)
		up(w)
		for range 300 {
			w.recv(1, unreachable("p", 1))
			w.recv(5, ack("p", 1))
			w.pass(10 * time.Millisecond)
		}
		w.want("5"+asked, "5"+asked)
	})
	t.Run("many", func(t *testing.T) {
		w := begin(t)
		handle := func(ev Event) int { return len(w.r.Handle(w.now, ev)) } // with checks it takes half a minute
		calls := 0
		for i := range 2 * maxInquiries {
			h := fmt.Sprint("q", i)
			b, _ := update(greater, enrp.AddPE, h, peerElement(1, greater)).Append(nil)
			handle(Received{Assoc: 2, PPID: enrp.PPID, Data: b})
			calls += handle(Received{Assoc: 1, PPID: asap.PPID, Data: encode(t, unreachable(h, 1))})
		}
		if calls != maxInquiryConnects-1 {
			t.Errorf("%d calls at the same time, want %d", calls, maxInquiryConnects-1)
		}
		for i := range 2 * maxInquiries {
			handle(Connecting{Ref: uint64(i + 1), Assoc: AssocID(1000 + i)})
			handle(AssocDown{Assoc: AssocID(1000 + i), Reason: DownRefused})
			handle(Received{Assoc: 1, PPID: asap.PPID, Data: encode(t, unreachable(fmt.Sprint("q", i), 1))})
		}
		w.check()
		if n := len(w.r.inquiries.all); n != maxInquiries {
			t.Errorf("%d inquiries, want %d", n, maxInquiries)
		}
	})
}
