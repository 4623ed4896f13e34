package registrar

import (
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
		if w.trace[0] != "2 < takeover_server 30000003" {
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
