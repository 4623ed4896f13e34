package registrar

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// TestYieldEnds: peers that want to take a dead one over, again and again, and do not, keep its
// elements in the answers no longer than twice MAX-TIME-NO-RESPONSE.
func TestYieldEnds(t *testing.T) {
	for name, by := range map[string][]rserpool.ServerID{
		"smaller": {smaller}, "greater": {greater}, "by turns": {smaller, greater},
	} {
		t.Run(name, func(t *testing.T) {
			w := newPeerWorld(t)
			w.meet(2, smaller)
			w.meet(3, greater)
			w.meet(4, third)
			w.tell(4, update(third, enrp.AddPE, "a", peerElement(1, third)))
			w.down(4)
			// It is found dead within MAX-TIME-NO-RESPONSE, yielded for twice that time, and dying for
			// that time.
			for range 20 {
				w.pass(time.Second)
				for _, id := range by {
					w.tell(map[rserpool.ServerID]AssocID{smaller: 2, greater: 3}[id], &enrp.InitTakeover{Sender: id, Target: third})
				}
			}
			w.pass(time.Second)
			w.wantHomes("a:1@10000001")
			w.trace = nil
		})
	}
}

// TestRivalsAreCountedOnce: what a peer repeats takes no memory.
func TestRivalsAreCountedOnce(t *testing.T) {
	w := newPeerWorld(t)
	w.meet(2, smaller)
	w.meet(3, third)
	w.tell(3, update(third, enrp.AddPE, "a", peerElement(1, third)))
	w.down(3)
	w.pass(5 * time.Second)
	for range 100 {
		w.tell(2, &enrp.InitTakeover{Sender: smaller, Target: third})
	}
	if p := w.r.peers.byID[third]; p.state != PeerDying || len(p.takeover.rivals) != 1 {
		t.Errorf("the peer is %v, with the takeover %+v; want one rival", p.state, p.takeover)
	}
	w.trace = nil
}

// TestTakeoverOfSuspect: a registrar whose link has ended is not dead yet, so no other one can take it
// over.
func TestTakeoverOfSuspect(t *testing.T) {
	begin := func(t *testing.T) *world {
		w := newPeerWorld(t)
		w.meet(2, greater)
		w.meet(3, third)
		w.tell(3, update(third, enrp.AddPE, "a", peerElement(1, third)))
		w.down(3)
		w.pass(10 * time.Millisecond)
		w.tell(2, &enrp.TakeoverServer{Sender: greater, Target: third})
		w.tell(2, &enrp.InitTakeover{Sender: greater, Target: third})
		w.tell(2, &enrp.TakeoverServer{Sender: greater, Target: third})
		w.skip("connect")
		w.wantHomes("a:1@30000003")
		return w
	}
	t.Run("it is back", func(t *testing.T) {
		w := begin(t)
		w.pass(2 * time.Second)
		w.meet(4, third)
		w.tell(2, &enrp.TakeoverServer{Sender: greater, Target: third})
		w.pass(5 * time.Second)
		w.dropCalls()
		w.want()
		w.wantHomes("a:1@30000003")
	})
	t.Run("it is dead", func(t *testing.T) {
		w := begin(t)
		w.pass(2500 * time.Millisecond)
		w.dropCalls()
		w.want("2 < init_takeover_ack to 20000002 30000003")
		w.tell(2, &enrp.TakeoverServer{Sender: greater, Target: third})
		w.wantHomes("a:1@20000002")
	})
	t.Run("its link ends after the question", func(t *testing.T) {
		w := newPeerWorld(t)
		w.meet(2, greater)
		w.meet(3, third)
		w.tell(3, update(third, enrp.AddPE, "a", peerElement(1, third)))
		w.tell(2, &enrp.InitTakeover{Sender: greater, Target: third})
		w.skip("presence")
		w.pass(2 * time.Second)
		w.down(3)
		w.pass(500 * time.Millisecond)
		w.dropCalls()
		w.want("2 < init_takeover_ack to 20000002 30000003") // before the other one stops waiting
	})
}

// TestAliveGap: a peer that takes this registrar for dead gets a presence each time, and all others at
// most one a second.
func TestAliveGap(t *testing.T) {
	w := newPeerWorld(t)
	for i := AssocID(2); i < 32; i++ {
		w.meet(i, rserpool.ServerID(0x20000000+i))
	}
	for range 100 {
		w.tell(2, &enrp.TakeoverServer{Sender: 0x20000002, Target: testServer})
		w.tell(2, &enrp.InitTakeover{Sender: 0x20000002, Target: testServer})
	}
	if got, want := len(w.trace), 30+199; got != want {
		t.Errorf("%d presences for 200 messages, want %d", got, want)
	}
	w.trace = nil
	w.pass(time.Second)
	w.skip("list_request", "presence")
	w.tell(3, &enrp.InitTakeover{Sender: 0x20000003, Target: testServer})
	if len(w.trace) != 30 {
		t.Errorf("%d presences for a message one second later, want one to each peer", len(w.trace))
	}
	w.trace = nil
}

// TestLinksWithoutWord: a host at the place of a peer accepts links and ends them in good order, but
// says nothing. That does not keep the peer.
func TestLinksWithoutWord(t *testing.T) {
	w := newPeerWorld(t)
	w.meet(2, greater)
	w.tell(2, update(greater, enrp.AddPE, "a", peerElement(1, greater)))
	w.handle(AssocDown{Assoc: 2, Reason: DownRenew}) // from now on, this registrar connects
	id := AssocID(100)
	for range 70 {
		for _, line := range slices.Clone(w.trace) {
			var ref int
			if n, _ := fmt.Sscanf(line, "connect #%d via", &ref); n == 1 && strings.Contains(line, "10.0.9.2:9901") {
				id++
				w.handle(Connecting{Ref: uint64(ref), Assoc: id})
				w.handle(AssocUp{Assoc: id, Peer: peers("10.0.9.2:9901"), Via: rserpool.ViaKernel, ENRP: true})
				w.handle(AssocDown{Assoc: id, Reason: DownFarewell})
			}
		}
		w.trace = nil
		w.pass(time.Second)
	}
	w.wantHomes("a:1@10000001")
	w.trace = nil
}
