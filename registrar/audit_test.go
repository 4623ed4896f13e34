package registrar

import (
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// TestAudit: RFC 5353, Section 3.6.3.
func TestAudit(t *testing.T) {
	w := newPeerWorld(t)
	w.meet(2, greater)
	for id := range uint32(3) {
		w.tell(2, update(greater, enrp.AddPE, "a", peerElement(id+1, greater)))
	}
	var sum enrp.Checksum
	for id := range rserpool.PEID(3) {
		sum.Add("a", id+1)
	}
	w.tell(2, &enrp.Presence{Sender: greater, HasChecksum: true, Checksum: sum.Value()})
	w.want()
	sum.Remove("a", 1)
	w.tell(2, &enrp.Presence{Sender: greater, HasChecksum: true, Checksum: sum.Value()})
	w.want("2 < handle_table_request to 20000002 W")
	w.tell(2, &enrp.HandleTableResponse{Sender: greater, More: true, Pools: []enrp.PoolEntry{{Handle: "a", Elements: []rserpool.PoolElement{peerElement(2, greater)}}}})
	w.want("2 < handle_table_request to 20000002 W")
	w.tell(2, update(greater, enrp.AddPE, "a", peerElement(7, greater)))
	w.tell(2, &enrp.HandleTableResponse{Sender: greater, Pools: []enrp.PoolEntry{{Handle: "a", Elements: []rserpool.PoolElement{peerElement(3, greater)}}}})
	w.want("connect #1 via 0 to [10.0.1.1:40000]")
	w.wantHomes("a:1@10000001", "a:2@20000002", "a:3@20000002", "a:7@20000002")
	w.refused(1, 5)
	w.wantHomes("a:2@20000002", "a:3@20000002", "a:7@20000002")
}

// TestStandIn: a registrar stands in for the home of an element that an audited peer does not name any
// more.
func TestStandIn(t *testing.T) {
	const sum = 0xfffe // of no table here
	begin := func(t *testing.T) *world {
		w := newPeerWorld(t)
		w.meet(2, greater)
		w.tell(2, update(greater, enrp.AddPE, "a", peerElement(1, greater)))
		w.tell(2, update(greater, enrp.AddPE, "a", peerElement(1, third))) // which is not known here
		if got := w.r.Stats().UpdatesRefused; got != 0 {
			t.Errorf("%d updates are refused, want none", got)
		}
		w.tell(2, &enrp.Presence{Sender: greater, HasChecksum: true, Checksum: sum})
		w.tell(2, &enrp.HandleTableResponse{Sender: greater})
		w.want("2 < handle_table_request to 20000002 W", "connect #1 via 0 to [10.0.1.1:40000]")
		w.handle(Connecting{Ref: 1, Assoc: 7})
		return w
	}
	answers := func(t *testing.T) *world {
		w := begin(t)
		w.up(7, rserpool.ViaUDP, "10.0.1.1:40000")
		w.want("7 < keep-alive a:1 from 10000001")
		w.recv(7, ack("a", 1))
		w.want()
		return w
	}
	standsIn := func(w *world, want bool) {
		t.Helper()
		s, ok := w.r.Sight("a", 1)
		if got := ok && s.Home == third && s.Unconfirmed; got != want {
			t.Errorf("the element is %+v, known %v; stands in %v, want %v", s, ok, got, want)
		}
	}
	t.Run("answers", func(t *testing.T) {
		w := answers(t)
		standsIn(w, true)
		w.until(20 * time.Second)
		w.want("7 < keep-alive a:1 from 10000001")
		w.recv(7, ack("a", 1))
		standsIn(w, true)
		w.wantHomes("a:1@10000001")
		w.tell(2, &enrp.HandleTableRequest{Sender: greater, OwnChildrenOnly: true})
		w.tell(2, &enrp.HandleTableRequest{Sender: greater})
		w.want("2 < handle_table_response to 20000002", "2 < handle_table_response to 20000002 a:1@30000003")
	})
	t.Run("its home comes", func(t *testing.T) {
		w := answers(t)
		w.meet(3, third)
		w.tell(3, update(third, enrp.AddPE, "a", peerElement(1, third)))
		w.wantHomes("a:1@30000003")
		w.want()
	})
	t.Run("its home says that it has left", func(t *testing.T) {
		w := answers(t)
		w.meet(3, third)
		w.tell(3, update(third, enrp.DelPE, "a", peerElement(1, third)))
		w.wantHomes()
		w.want()
	})
	t.Run("its home says that it is a suspect", func(t *testing.T) {
		w := answers(t)
		w.meet(3, third)
		w.tell(3, silentFor(third, "a", 1, 2*time.Second))
		w.wantSuspect("a", 1, third, 2*time.Second)
		w.want()
	})
	t.Run("another registrar says that it has left", func(t *testing.T) {
		w := answers(t)
		w.tell(2, update(greater, enrp.DelPE, "a", peerElement(1, third)))
		standsIn(w, true)
	})
	t.Run("is not to be removed here", func(t *testing.T) {
		w := answers(t)
		acts := w.handle(Remove{Handle: "a", ID: 1})
		if got, ok := acts[len(acts)-1].(Removed); !ok || got.Result != RemovalElsewhere || got.Home != third {
			t.Errorf("got %+v, want that %x is its home", acts, uint32(third))
		}
		standsIn(w, true)
		w.trace = nil
	})
	t.Run("is gone", func(t *testing.T) {
		w := begin(t)
		w.handle(AssocDown{Assoc: 7, Reason: DownRefused})
		w.wantHomes()
		w.want() // the peers are told nothing
	})
	t.Run("has left", func(t *testing.T) {
		w := answers(t)
		w.recv(7, dereg("a", 1))
		w.wantHomes()
		w.want("2 < handle_update ADD_PE a:1@10000001", "2 < handle_update DEL_PE a:1@10000001", "7 < deregistration a:1")
	})
	t.Run("registers here", func(t *testing.T) {
		w := answers(t)
		w.recv(7, reg("a", 1, "10.0.1.1"))
		w.want("2 < handle_update ADD_PE a:1@10000001", "7 < registration granted a:1")
	})
	t.Run("is silent", func(t *testing.T) {
		w := begin(t)
		w.handle(AssocDown{Assoc: 7, Reason: DownSilent})
		w.wantSuspect("a", 1, testServer, 0)
		w.wantHomes("a:1@10000001") // the only one of its pool
		w.want()
		w.until(10 * time.Second)
		w.want("connect #2 via 0 to [10.0.1.1:40000]")
		w.handle(Connecting{Ref: 2, Assoc: 8})
		w.up(8, rserpool.ViaUDP, "10.0.1.1:40000")
		w.want("8 < keep-alive a:1 from 10000001")
		w.recv(8, ack("a", 1))
		standsIn(w, true)
		w.want()
	})
}

// TestSweepConnected: an element's home no longer lists it, but the element has an
// association with this registrar, and may believe that this is its home. The registrar
// sends it a keep-alive before removing it.
func TestSweepConnected(t *testing.T) {
	sweep := func(t *testing.T) *world {
		w := newPeerWorld(t)
		w.meet(2, greater)
		w.up(1, rserpool.ViaKernel, "10.0.1.1:40000")
		w.tell(2, update(greater, enrp.AddPE, "a", peerElement(1, greater)))
		w.tell(2, &enrp.Presence{Sender: greater, HasChecksum: true})
		w.want("2 < handle_table_request to 20000002 W")
		w.tell(2, &enrp.HandleTableResponse{Sender: greater})
		w.want("1 < keep-alive a:1 from 10000001 H")
		return w
	}
	t.Run("answered", func(t *testing.T) {
		w := sweep(t)
		w.recv(1, ack("a", 1))
		w.want("2 < handle_update ADD_PE a:1@10000001")
		w.wantHomes("a:1@10000001")
	})
	t.Run("not answered", func(t *testing.T) {
		w := sweep(t)
		w.until(4 * time.Second)
		w.want("2 < handle_update DEL_PE a:1@10000001", "1 < deregistration a:1")
		w.wantHomes()
	})
}

// TestTable: the parts of a download, while the handlespace changes.
func TestTable(t *testing.T) {
	w := newPeerWorld(t)
	w.meet(2, greater)
	w.up(1, rserpool.ViaKernel, "10.0.1.1")
	const n = 1000
	for id := range uint32(n) {
		w.recv(1, reg("a", id+1, "10.0.1.1"))
	}
	w.tell(2, update(greater, enrp.AddPE, "a", peerElement(n+1, greater)))
	for _, own := range []bool{true, false} {
		w.skip("registration granted", "deregistration", "removed", "handle_table_response", "handle_update ADD_PE", "handle_update DEL_PE")
		parts, all := 0, ""
		for more := true; more; parts++ {
			w.tell(2, &enrp.HandleTableRequest{Sender: greater, OwnChildrenOnly: own})
			all += w.trace[len(w.trace)-1]
			more = strings.Contains(w.trace[len(w.trace)-1], " M")
			if parts == 0 {
				w.recv(1, dereg("a", n-1))
			}
		}
		if parts < 3 {
			t.Errorf("got %d parts, want several", parts)
		}
		want := n - 1
		if !own {
			want++
		}
		if got := strings.Count(all, " a:"); got != want {
			t.Errorf("own %v: got %d elements, want %d", own, got, want)
		}
	}
	w.tell(2, &enrp.HandleTableRequest{Sender: greater})
	w.pass(5 * time.Second) // it does not go on
	if len(w.r.peers.sessions) != 0 {
		t.Error("a download that stalls does not end")
	}
}

// TestStandInLogged: one line says what becomes of elements that a peer does not name any more. None says
// that a pool is empty.
func TestStandInLogged(t *testing.T) {
	w := newPeerWorld(t)
	w.meet(2, greater)
	w.tell(2, update(greater, enrp.AddPE, "a", peerElement(1, greater)))
	w.tell(2, update(greater, enrp.AddPE, "a", peerElement(2, greater)))
	w.tell(2, &enrp.Presence{Sender: greater, HasChecksum: true, Checksum: 0xfffe})
	w.trace, w.logs = nil, true
	w.tell(2, &enrp.HandleTableResponse{Sender: greater})
	const line = "resynchronised with registrar 20000002: it has 0 pool elements; 2 pool elements that it does not name any more are called, and stay while they answer"
	if got := strings.Join(w.trace, "\n"); !strings.Contains(got, line) || strings.Contains(got, "last element") {
		t.Errorf("got %q, want %q and no pool that is empty", got, line)
	}
	w.trace = nil
}

// TestStandInSuspect: the same for a suspect that its home has passed to one that is not known here. It
// is not removed: it may be the last one of its pool.
func TestStandInSuspect(t *testing.T) {
	w := newPeerWorld(t)
	w.meet(2, greater)
	w.tell(2, silentFor(greater, "a", 1, 5*time.Second))
	w.tell(2, update(greater, enrp.AddPE, "a", peerElement(1, third)))
	w.tell(2, &enrp.Presence{Sender: greater, HasChecksum: true, Checksum: 0xfffe})
	w.tell(2, &enrp.HandleTableResponse{Sender: greater})
	w.want("2 < handle_table_request to 20000002 W", "connect #1 via 0 to [10.0.1.1:40000]")
	w.wantSuspect("a", 1, testServer, 5*time.Second)
	w.wantHomes("a:1@10000001")
	w.tell(2, &enrp.HandleTableRequest{Sender: greater, OwnChildrenOnly: true, Suspects: true})
	w.want("2 < handle_table_response to 20000002")
	w.handle(Connecting{Ref: 1, Assoc: 7})
	w.up(7, rserpool.ViaUDP, "10.0.1.1:40000")
	w.recv(7, ack("a", 1))
	w.want("7 < keep-alive a:1 from 10000001")
	if s, _ := w.r.Sight("a", 1); s.Home != third || s.Suspect || !s.Unconfirmed {
		t.Errorf("got %+v, want an element that answers", s)
	}
}

// TestAuditHolds: if the rosters of two peers are out of date, an element that has moved from one to
// the other is not called until the table of the latter has come, or does not come.
func TestAuditHolds(t *testing.T) {
	table := func(w *world, assoc AssocID, home rserpool.ServerID, elements ...rserpool.PoolElement) {
		m := &enrp.HandleTableResponse{Sender: home}
		if len(elements) > 0 {
			m.Pools = []enrp.PoolEntry{{Handle: "a", Elements: elements}}
		}
		w.tell(assoc, m)
	}
	for _, tt := range []struct {
		name string
		come func(w *world)
		want []string
	}{
		{"the other table comes", func(w *world) {
			w.pass(time.Second)
			table(w, 3, third, peerElement(1, third))
			w.pass(holdGap)
		}, []string{"a:1@30000003"}},
		{"the other table does not come", func(w *world) { w.pass(w.r.cfg.Timers.MaxTimeNoResponse + holdGap) }, []string{"a:1@10000001"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newPeerWorld(t)
			w.meet(2, greater)
			w.meet(3, third)
			w.tell(2, update(greater, enrp.AddPE, "a", peerElement(1, greater)))
			w.tell(2, &enrp.Presence{Sender: greater, HasChecksum: true, Checksum: 0x1234})
			w.tell(3, &enrp.Presence{Sender: third, HasChecksum: true, Checksum: 0x1234})
			table(w, 2, greater)
			w.wantHomes("a:1@20000002")
			w.pass(time.Second)
			w.wantHomes("a:1@20000002")
			tt.come(w)
			w.wantHomes(tt.want...)
			w.trace = nil
		})
	}
}

// TestAuditHoldsForSilent: the same if the latter does not respond yet.
func TestAuditHoldsForSilent(t *testing.T) {
	w := newPeerWorld(t)
	w.meet(2, greater)
	w.meet(3, third)
	w.tell(2, update(greater, enrp.AddPE, "a", peerElement(1, greater)))
	w.handle(AssocDown{Assoc: 3})
	w.tell(2, &enrp.Presence{Sender: greater, HasChecksum: true, Checksum: 0x1234})
	w.tell(2, &enrp.HandleTableResponse{Sender: greater})
	w.pass(time.Second)
	w.wantHomes("a:1@20000002")
	w.skip("handle_table_request", "connect", "presence")
	w.meet(4, third)
	w.tell(4, update(third, enrp.AddPE, "a", peerElement(1, third)))
	w.pass(time.Second)
	w.wantHomes("a:1@30000003")
	w.trace = nil
}

// TestAuditSuspectsOnly: updates of a peer that has only suspects may be lost, too.
func TestAuditSuspectsOnly(t *testing.T) {
	w := newPeerWorld(t)
	w.meet(2, greater)
	w.tell(2, silentFor(greater, "a", 1, time.Second))
	presence := func() {
		w.tell(2, &enrp.Presence{Sender: greater, HasChecksum: true, Checksum: w.r.peers.byID[greater].roster.Checksum()})
	}
	presence()
	w.want()
	w.r.peers.byID[greater].missed = true
	presence()
	w.want("2 < handle_table_request to 20000002 W")
}

// TestAuditSuspectsTwice: if a peer has suspects when its updates may have been lost, a second audit
// follows, and no third one.
func TestAuditSuspectsTwice(t *testing.T) {
	w := newPeerWorld(t)
	w.meet(2, greater)
	w.tell(2, silentFor(greater, "a", 1, time.Second))
	p := w.r.peers.byID[greater]
	p.missed = true
	presence := &enrp.Presence{Sender: greater, HasChecksum: true, Checksum: p.roster.Checksum()}
	table := &enrp.HandleTableResponse{Sender: greater, Pools: []enrp.PoolEntry{{
		Handle: "a", Elements: []rserpool.PoolElement{peerElement(1, greater)}, Suspects: map[int]time.Duration{0: 2 * time.Second},
	}}}
	for range 2 {
		w.tell(2, presence)
		w.want("2 < handle_table_request to 20000002 W")
		w.tell(2, table)
	}
	w.tell(2, presence)
	w.want()
}
