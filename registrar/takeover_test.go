package registrar

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// TestTakeover: RFC 5353, Section 3.5.
func TestTakeover(t *testing.T) {
	begin := func(t *testing.T) *world {
		w := newPeerWorld(t)
		w.meet(2, greater)
		w.meet(3, third)
		w.tell(3, update(third, enrp.AddPE, "a", peerElement(1, third)))
		w.down(3)
		w.want("connect #1 via 1 to [10.0.9.3:9901]")
		w.handle(Connecting{Ref: 1})
		w.pass(4900 * time.Millisecond)
		w.skip("connect")
		w.tell(2, &enrp.ListRequest{Sender: greater})
		w.want("2 < list_response to 20000002")
		w.pass(100 * time.Millisecond)
		return w
	}
	init := "2 < init_takeover 30000003"
	t.Run("agreed", func(t *testing.T) {
		w := begin(t)
		w.want(init)
		w.tell(2, &enrp.InitTakeoverAck{Sender: greater, Target: third})
		w.want("2 < takeover_server 30000003")
		w.pass(time.Millisecond)
		w.want("connect #3 via 0 to [10.0.1.1:40000]")
		w.handle(Connecting{Ref: 3, Assoc: 7})
		w.up(7, rserpool.ViaUDP, "10.0.1.1")
		w.want("7 < keep-alive a:1 from 10000001 H")
		w.recv(7, ack("a", 1))
		w.want("2 < handle_update ADD_PE a:1@10000001")
	})
	t.Run("not answered", func(t *testing.T) {
		w := begin(t)
		w.want(init)
		w.pass(5 * time.Second)
		if len(w.trace) < 2 || w.trace[0] != "2 < list_request to 20000002" || w.trace[1] != "2 < takeover_server 30000003" {
			t.Errorf("got %q", w.trace)
		}
	})
	t.Run("stopped", func(t *testing.T) {
		w := begin(t)
		w.want(init)
		w.meet(8, third)
		w.pass(20 * time.Second)
		w.wantHomes("a:1@30000003")
		if got := w.r.Stats().Takeovers; got.Stopped != 1 || got.Won != 0 {
			t.Errorf("got %v", got)
		}
	})
	t.Run("greater wins", func(t *testing.T) {
		w := begin(t)
		w.want(init)
		w.tell(2, &enrp.InitTakeover{Sender: greater, Target: third})
		w.want("2 < init_takeover_ack to 20000002 30000003")
		w.tell(2, &enrp.InitTakeoverAck{Sender: greater, Target: third}) // too late
		w.want()
		w.tell(2, &enrp.TakeoverServer{Sender: greater, Target: third})
		w.wantHomes("a:1@20000002")
	})
	t.Run("winner vanishes", func(t *testing.T) {
		w := begin(t)
		w.tell(2, &enrp.InitTakeover{Sender: greater, Target: third})
		w.skip("init_takeover", "init_takeover_ack")
		w.pass(10 * time.Second)
		if !slices.Contains(w.trace, init) {
			t.Errorf("got %q, want another try", w.trace)
		}
	})
	t.Run("winner dies", func(t *testing.T) {
		w := begin(t)
		w.meet(4, smaller)
		w.tell(2, &enrp.InitTakeover{Sender: greater, Target: third})
		w.tell(4, &enrp.InitTakeover{Sender: smaller, Target: third}) // gives way as well
		w.down(2)
		w.pass(5100 * time.Millisecond) // it is found dead
		if want := "4 < init_takeover 30000003"; w.trace[len(w.trace)-1] != want {
			t.Errorf("got %q, want %q last", w.trace, want)
		}
	})
	t.Run("smaller loses", func(t *testing.T) {
		w := begin(t)
		w.meet(4, smaller)
		w.tell(4, &enrp.InitTakeover{Sender: smaller, Target: third})
		for _, line := range w.trace {
			if strings.Contains(line, "ack") {
				t.Errorf("got %q", line)
			}
		}
	})
	t.Run("of us", func(t *testing.T) {
		w := begin(t)
		w.skip("init_takeover")
		w.tell(2, &enrp.InitTakeover{Sender: greater, Target: testServer})
		w.want("2 < presence ffff")
	})
}

// dropCalls leaves calls out of what was done since the last want or skip.
func (w *world) dropCalls() {
	w.trace = slices.DeleteFunc(w.trace, func(line string) bool { return kind(line) == "connect" })
}

// TestTakeoverOfLiving: a peer wants to take over one that this registrar hears.
func TestTakeoverOfLiving(t *testing.T) {
	begin := func(t *testing.T) *world {
		w := newPeerWorld(t)
		w.meet(2, greater)
		w.meet(3, third)
		w.tell(3, update(third, enrp.AddPE, "a", peerElement(1, third)))
		w.tell(2, &enrp.InitTakeover{Sender: greater, Target: third})
		w.tell(2, &enrp.InitTakeover{Sender: greater, Target: third}) // again
		w.want("3 < presence to 30000003 R ffff")
		w.tell(2, &enrp.ListRequest{Sender: greater})
		w.want("2 < list_response to 20000002") // it has not responded yet
		return w
	}
	t.Run("it responds", func(t *testing.T) {
		w := begin(t)
		w.tell(3, &enrp.Presence{Sender: third})
		w.tell(2, &enrp.ListRequest{Sender: greater})
		w.want("2 < list_response to 20000002 30000003")
		w.pass(10 * time.Second)
		w.tell(2, &enrp.TakeoverServer{Sender: greater, Target: third})
		w.want()
		w.wantHomes("a:1@30000003")
		if got := w.r.Stats().Peers[PeerActive]; got != 2 {
			t.Errorf("%d peers are active, want both", got)
		}
	})
	t.Run("it does not", func(t *testing.T) {
		w := begin(t)
		w.pass(2500 * time.Millisecond)
		w.want("2 < init_takeover_ack to 20000002 30000003")
		w.tell(2, &enrp.TakeoverServer{Sender: greater, Target: third})
		w.wantHomes("a:1@20000002")
	})
	t.Run("its link ends", func(t *testing.T) {
		w := begin(t)
		w.down(3)
		w.dropCalls()
		w.pass(5 * time.Second)
		w.dropCalls()
		w.want("2 < init_takeover_ack to 20000002 30000003")
	})
	t.Run("the host was suspended", func(t *testing.T) {
		w := begin(t)
		w.now = w.now.Add(8 * time.Second)
		w.handle(Tick{})
		w.want()
		w.tell(3, &enrp.Presence{Sender: third})
		w.pass(10 * time.Second)
		w.want()
	})
}

// TestTakeoverVouched: the peer that is to be taken over is heard by another one, and only cannot be
// reached from here.
func TestTakeoverVouched(t *testing.T) {
	begin := func(t *testing.T) *world {
		w := newPeerWorld(t)
		w.meet(2, greater)
		w.meet(3, third)
		w.meet(4, smaller)
		w.tell(3, update(third, enrp.AddPE, "a", peerElement(1, third)))
		w.tell(3, silentFor(third, "a", 2, time.Second))
		w.down(3)
		w.handle(Connecting{Ref: 1})
		w.pass(5 * time.Second)
		w.dropCalls()
		w.want("2 < init_takeover 30000003", "4 < init_takeover 30000003")
		return w
	}
	list := func(w *world) {
		info := rserpool.ServerInformation{ID: third, Transport: rserpool.Transport{Type: rserpool.SCTP, Port: 9901, Addrs: []netip.Addr{netip.MustParseAddr("10.0.9.3")}}}
		w.pass(2500 * time.Millisecond)
		w.dropCalls()
		w.want("4 < list_request to fffffff")
		w.tell(4, &enrp.ListResponse{Sender: smaller, Servers: []rserpool.ServerInformation{info}})
		w.pass(2501 * time.Millisecond)
	}
	t.Run("vouched", func(t *testing.T) {
		w := begin(t)
		w.tell(2, &enrp.InitTakeoverAck{Sender: greater, Target: third})
		w.logs = true
		list(w)
		const line = "does not respond to this registrar, but registrar 0fffffff hears it: check the network between the two"
		if got := strings.Join(w.trace, "\n"); !strings.Contains(got, line) || strings.Contains(got, "takeover_server") {
			t.Errorf("got %q, want that it says %q, and takes nothing over", got, line)
		}
		w.trace, w.logs = nil, false
		s, _ := w.r.Sight("a", 1)
		silent, _ := w.r.Sight("a", 2)
		if s.Home != third || !s.Unconfirmed || silent.Home != third || !silent.Suspect {
			t.Errorf("got %+v and %+v, want this registrar to stand in for %x", s, silent, uint32(third))
		}
		if got := w.r.Stats().Takeovers; got.Begun != 1 || got.Stopped != 1 || got.Won != 0 {
			t.Errorf("got takeovers %+v", got)
		}
		w.meet(5, third)
		w.tell(5, &enrp.HandleUpdate{Sender: third, Handle: "a", Element: peerElement(1, third)})
		w.wantHomes("a:1@30000003")
		w.trace = nil
	})
	t.Run("by one that wants to take over as well", func(t *testing.T) {
		w := begin(t)
		w.tell(2, &enrp.InitTakeoverAck{Sender: greater, Target: third})
		w.tell(4, &enrp.InitTakeover{Sender: smaller, Target: third}) // has to give way
		list(w)
		w.dropCalls()
		w.want("2 < takeover_server 30000003", "4 < takeover_server 30000003")
	})
	t.Run("and then it agrees", func(t *testing.T) {
		w := begin(t)
		w.tell(2, &enrp.InitTakeoverAck{Sender: greater, Target: third})
		w.pass(2500 * time.Millisecond)
		w.dropCalls()
		w.want("4 < list_request to fffffff")
		w.tell(4, &enrp.InitTakeoverAck{Sender: smaller, Target: third})
		w.want("2 < takeover_server 30000003", "4 < takeover_server 30000003")
	})
}
