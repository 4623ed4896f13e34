package registrar

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// TestContest: two registrars are the home of one element.
func TestContest(t *testing.T) {
	begin := func(t *testing.T, other rserpool.ServerID) *world {
		w := newPeerWorld(t)
		w.meet(2, other)
		w.up(1, rserpool.ViaKernel, "10.0.1.1")
		w.recv(1, reg("a", 1, "10.0.1.1"))
		w.skip("registration granted", "handle_update ADD_PE")
		return w
	}
	t.Run("smaller", func(t *testing.T) {
		w := begin(t, smaller)
		w.tell(2, update(smaller, enrp.AddPE, "a", peerElement(1, smaller)))
		w.want("2 < handle_update ADD_PE a:1@fffffff")
		w.wantHomes("a:1@fffffff")
	})
	t.Run("greater, alive here", func(t *testing.T) {
		w := begin(t, greater)
		w.tell(2, update(greater, enrp.AddPE, "a", peerElement(1, greater)))
		w.want("1 < keep-alive a:1 from 10000001 H")
		w.recv(1, ack("a", 1))
		w.want("2 < handle_update ADD_PE a:1@10000001")
		w.wantHomes("a:1@10000001")
	})
	t.Run("handed over", func(t *testing.T) {
		w := begin(t, greater)
		w.tell(2, update(greater, enrp.AddPE, "a", peerElement(1, testServer)))
		w.pass(8 * time.Second) // the next keep-alive
		if got := "1 < keep-alive a:1 from 10000001 H"; len(w.trace) == 0 || w.trace[0] != got {
			t.Errorf("got %q, want %q first", w.trace, got)
		}
	})
	t.Run("handed over while asked", func(t *testing.T) {
		w := begin(t, greater)
		w.tell(2, update(greater, enrp.AddPE, "a", peerElement(1, greater)))
		w.tell(2, update(greater, enrp.AddPE, "a", peerElement(1, testServer)))
		w.recv(1, ack("a", 1)) // to a keep-alive that the other's may have followed
		w.skip("keep-alive", "handle_update ADD_PE")
		w.until(time.Second)
		w.want("1 < keep-alive a:1 from 10000001 H")
	})
	t.Run("given back, and deregistered", func(t *testing.T) {
		w := begin(t, greater)
		other := peerElement(1, greater)
		other.ASAPTransport.Port++ // another process of the host
		w.tell(2, update(greater, enrp.AddPE, "a", other))
		w.tell(2, update(greater, enrp.AddPE, "a", peerElement(1, testServer))) // it has yielded
		w.skip("keep-alive")
		w.recv(1, dereg("a", 1)) // before the keep-alive is acknowledged
		w.want("2 < handle_update DEL_PE a:1@10000001", "1 < deregistration a:1")
		w.wantHomes()
	})
	t.Run("given back by another", func(t *testing.T) {
		w := begin(t, greater)
		w.meet(3, smaller)
		other := peerElement(1, greater)
		other.ASAPTransport.Port++
		w.tell(2, update(greater, enrp.AddPE, "a", other))
		w.tell(3, update(smaller, enrp.AddPE, "a", peerElement(1, testServer)))
		w.skip("keep-alive")
		w.recv(1, dereg("a", 1))
		w.wantHomes("a:1@20000002") // the one that contests it still has it
	})
	t.Run("greater, dead here", func(t *testing.T) {
		w := begin(t, greater)
		w.tell(2, update(greater, enrp.AddPE, "a", peerElement(1, greater)))
		w.skip("keep-alive")
		w.pass(5 * time.Second)
		w.want("2 < handle_update ADD_PE a:1@20000002")
		w.wantHomes("a:1@20000002")
	})
}

// TestElementMoves: an element may change its home. Another host may not take over its
// identifier in this way.
func TestElementMoves(t *testing.T) {
	w := newPeerWorld(t)
	w.meet(2, greater)
	w.tell(2, update(greater, enrp.AddPE, "a", peerElement(1, greater)))
	w.up(1, rserpool.ViaKernel, "10.0.1.9")
	w.recv(1, reg("a", 1, "10.0.1.9"))
	w.want("2 < handle_update to 20000002 ADD_PE a:1@20000002")
	w.tell(2, update(greater, enrp.AddPE, "a", peerElement(1, greater)))
	w.want("1 < registration rejected a:1 cause 4")
	w.up(4, rserpool.ViaKernel, "10.0.1.1")
	w.recv(4, reg("a", 1, "10.0.1.1"))
	w.want("2 < handle_update ADD_PE a:1@10000001", "4 < registration granted a:1")
	w.wantHomes("a:1@10000001")
	w.tell(2, update(greater, enrp.AddPE, "b", peerElement(2, greater)))
	w.recv(4, dereg("b", 2))
	w.want("2 < handle_update ADD_PE b:2@10000001", "2 < handle_update DEL_PE b:2@10000001", "4 < deregistration b:2")
	w.wantHomes("a:1@10000001")
}

// TestContestGap: a peer that contests an element as soon as that is settled does not have the element
// asked, and all peers told, more often than once a second.
func TestContestGap(t *testing.T) {
	w := newPeerWorld(t)
	w.meet(2, greater)
	w.meet(3, third)
	w.up(1, rserpool.ViaKernel, "10.0.1.1")
	w.recv(1, reg("a", 1, "10.0.1.1"))
	w.skip("registration granted", "handle_update ADD_PE")
	asked, told := 0, 0
	for range 500 { // 5 s
		w.tell(2, update(greater, enrp.AddPE, "a", peerElement(1, greater)))
		w.pass(10 * time.Millisecond)
		for _, line := range slices.Clone(w.trace) {
			if kind(line) == "keep-alive" {
				asked++
				w.recv(1, ack("a", 1))
			}
		}
		for _, line := range w.trace {
			if strings.HasPrefix(line, "3 < handle_update ADD_PE a:1@10000001") {
				told++
			}
		}
		w.trace = nil
	}
	if asked < 4 || asked > 6 || told < 4 || told > 6 {
		t.Errorf("the element is asked %d times in 5 s, and another peer told %d times; want once a second", asked, told)
	}
	w.wantHomes("a:1@10000001")
}

// TestGivenBackInRush: an element that a peer gives back is asked within a second, also while very
// many come, and also if its keep-alive is due sooner anyway.
func TestGivenBackInRush(t *testing.T) {
	for _, before := range []time.Duration{2 * time.Second, 500 * time.Millisecond} {
		w := newPeerWorld(t)
		w.meet(2, greater)
		w.up(1, rserpool.ViaKernel, "10.0.1.1")
		w.recv(1, reg("a", 1, "10.0.1.1"))
		w.recv(1, ack("a", 1))
		e := w.r.find("a", 1)
		w.pass(w.r.timers.At(&e.keepAlive).Sub(w.now) - before)
		w.r.rush.until = w.now.Add(time.Minute)
		w.tell(2, update(greater, enrp.AddPE, "a", peerElement(1, testServer)))
		if w.pass(1100 * time.Millisecond); !e.waiting {
			t.Errorf("with a keep-alive due in %v, the element is not asked within a second", before)
		}
	}
}
