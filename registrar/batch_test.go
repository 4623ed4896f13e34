package registrar

import (
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/registrar/internal/ledger"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// fill has a peer announce n elements of its own, of pool a.
func (w *world) fill(id AssocID, server rserpool.ServerID, n int) {
	w.t.Helper()
	for i := range uint32(n) {
		b, err := update(server, enrp.AddPE, "a", peerElement(i+1, server)).Append(nil)
		if err != nil {
			w.t.Fatal(err)
		}
		w.kept.note(w.r.Handle(w.now, Received{Assoc: id, PPID: enrp.PPID, Data: b}))
	}
	w.check()
}

// homes returns the number of elements of a registrar.
func (w *world) homes(id rserpool.ServerID) int {
	if p := w.r.peers.byID[id]; p != nil {
		return members(p.roster)
	}
	return 0
}

// TestInherit: a registrar takes over the elements of a dead one in parts. Other events
// come between two parts.
func TestInherit(t *testing.T) {
	const n = 2*moveBatch + 10
	begin := func(t *testing.T) *world {
		w := newPeerWorld(t)
		w.meet(2, greater)
		w.meet(3, third)
		w.fill(3, third, n)
		w.down(3)
		w.pass(5 * time.Second) // it is found dead
		w.tell(2, &enrp.InitTakeover{Sender: greater, Target: third})
		w.tell(2, &enrp.TakeoverServer{Sender: greater, Target: third})
		if got := w.homes(greater); got != moveBatch {
			t.Fatalf("got %d elements at once, want %d", got, moveBatch)
		}
		w.skip("connect", "init_takeover", "init_takeover_ack")
		return w
	}
	t.Run("undisturbed", func(t *testing.T) {
		w := begin(t)
		w.pass(3 * takeGap)
		if got := w.homes(greater); got != n || w.r.peers.byID[third] != nil {
			t.Errorf("got %d elements of the heir, want %d; the dead one is known: %v", got, n, w.r.peers.byID[third] != nil)
		}
	})
	t.Run("heir changes them", func(t *testing.T) {
		w := begin(t)
		w.tell(2, update(greater, enrp.DelPE, "a", peerElement(n, greater)))
		w.tell(2, update(greater, enrp.AddPE, "a", peerElement(n-1, testServer+7)))
		w.tell(2, update(greater, enrp.AddPE, "a", peerElement(n-1, greater)))
		w.tell(2, &enrp.Presence{Sender: greater, HasChecksum: true, Checksum: 1})
		w.want() // no audit: the sum will come right
		w.pass(3 * takeGap)
		if got := w.homes(greater); got != n-1 {
			t.Errorf("got %d elements of the heir, want %d", got, n-1)
		}
	})
	t.Run("heir takes its time", func(t *testing.T) {
		w := begin(t)
		w.tell(2, &enrp.InitTakeover{Sender: greater, Target: third})
		w.pass(3 * takeGap)
		if got := w.homes(greater); got != n {
			t.Errorf("got %d elements of the heir, want %d", got, n)
		}
	})
	t.Run("it lives", func(t *testing.T) {
		w := begin(t)
		w.meet(8, third)
		w.pass(time.Second)
		if got := w.homes(third); got != n-moveBatch {
			t.Errorf("got %d elements, want %d: no more pass on", got, n-moveBatch)
		}
		if w.r.inherits(w.r.peers.byID[greater]) {
			t.Error("it still has an heir")
		}
	})
	t.Run("heir dies", func(t *testing.T) {
		w := begin(t)
		heir := w.r.peers.byID[greater]
		w.r.forget(heir) // as it would be, had it no elements yet
		w.pass(time.Second)
		if got := members(w.r.roster); got != n-moveBatch {
			t.Errorf("took over %d elements, want the %d that had not passed on", got, n-moveBatch)
		}
	})
}

// TestSweep: elements that a peer no longer lists are called in parts.
func TestSweep(t *testing.T) {
	const n = 2*takeBatch + 10
	w := newPeerWorld(t)
	w.meet(2, greater)
	w.meet(3, third)
	w.fill(2, greater, n)
	var sum enrp.Checksum
	sum.Add("a", 5)
	w.tell(2, &enrp.Presence{Sender: greater, HasChecksum: true, Checksum: sum.Value()})
	w.want("2 < handle_table_request to 20000002 W")
	named := &enrp.HandleTableResponse{Sender: greater, Pools: []enrp.PoolEntry{{Handle: "a", Elements: []rserpool.PoolElement{peerElement(5, greater)}}}}
	w.tell(2, named)
	w.want("connect #1 via 0 to [10.0.1.1:40000]")
	if got := w.homes(greater); got != n-takeBatch {
		t.Fatalf("got %d elements, want %d", got, n-takeBatch)
	}
	// The next element of the sweep leaves, another one moves away, one is new.
	next := w.r.peers.byID[greater].audit.sweep.Peek()
	w.tell(2, update(greater, enrp.DelPE, "a", next.PE().PoolElement))
	w.tell(2, update(greater, enrp.AddPE, "a", peerElement(n, third)))
	w.tell(2, update(greater, enrp.AddPE, "a", peerElement(n+1, greater)))
	w.tell(2, named) // nobody has asked
	w.pass(5 * takeGap)
	if got := w.homes(greater); got != 2 {
		t.Errorf("got %d elements, want those that were named and are new", got)
	}
	if got := w.homes(third); got != 1 {
		t.Errorf("got %d elements of another registrar, want 1", got)
	}
	if got := w.r.roster.LenOf(ledger.Unconfirmed); got != n-3 {
		t.Errorf("this registrar stands in for the home of %d elements, want %d", got, n-3)
	}
	if got := w.r.roster.Checksum(); !enrp.ChecksumsMatch(got, 0) {
		t.Errorf("the checksum of the own elements is %04x, want that of none", got)
	}
	w.skip("connect")
	if got := w.r.Stats(); got.Resyncs != 1 || got.Swept != n-3 {
		t.Errorf("got %d resynchronisations, %d swept", got.Resyncs, got.Swept)
	}
	if w.r.peers.byID[greater].audit != (audit{}) {
		t.Error("the audit does not end")
	}
}
