package registrar

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/registrar/internal/ledger"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// silentFor is an update that an element of the sender has been suspect for a time.
func silentFor(sender rserpool.ServerID, h string, id uint32, d time.Duration) *enrp.HandleUpdate {
	m := update(sender, enrp.DelPE, h, peerElement(id, sender))
	m.Suspect, m.Silent = true, d
	return m
}

// wantSuspect says since when an element has been a suspect of a home.
func (w *world) wantSuspect(h string, id uint32, home rserpool.ServerID, silent time.Duration) {
	w.t.Helper()
	x := w.r.ledger.Find(rserpool.PoolHandle(h), rserpool.PEID(id))
	if x == nil || x.State() != ledger.Suspect || x.Roster().Home() != home || w.now.Sub(x.Since()) != silent {
		w.t.Fatalf("at %v: element %s:%x is %+v, want a suspect of %x for %v", w.now.Sub(w.start), h, id, x, uint32(home), silent)
	}
}

// TestForeignSuspect: a home tells of its suspects, and that they are back or gone. While one
// element of the pool is none, they are in no answer; they never count for the checksum.
func TestForeignSuspect(t *testing.T) {
	w := newPeerWorld(t)
	w.meet(2, greater)
	w.meet(3, third)
	var sum enrp.Checksum
	agree := func() {
		t.Helper()
		w.tell(2, &enrp.Presence{Sender: greater, HasChecksum: true, Checksum: sum.Value()})
		w.want()
	}
	for id := range uint32(2) {
		w.tell(2, update(greater, enrp.AddPE, "a", peerElement(id+1, greater)))
		sum.Add("a", rserpool.PEID(id+1))
	}
	w.tell(3, update(third, enrp.AddPE, "a", peerElement(3, third)))
	w.tell(2, silentFor(greater, "a", 1, 5*time.Second))
	sum.Remove("a", 1)
	w.wantHomes("a:2@20000002", "a:3@30000003")
	w.wantSuspect("a", 1, greater, 5*time.Second)
	agree()
	w.pass(1500 * time.Millisecond)
	w.tell(2, silentFor(greater, "a", 1, 6*time.Second)) // the same again, in whole seconds
	w.wantSuspect("a", 1, greater, 6500*time.Millisecond)

	w.tell(2, silentFor(greater, "a", 2, 0))
	sum.Remove("a", 2)
	w.wantHomes("a:3@30000003") // of another home
	w.tell(3, silentFor(third, "a", 3, 0))
	w.wantHomes("a:1@20000002", "a:2@20000002", "a:3@30000003") // guarded
	agree()
	w.tell(2, update(greater, enrp.AddPE, "a", peerElement(2, greater)))
	sum.Add("a", 2)
	w.wantHomes("a:2@20000002") // it is back
	agree()
	w.tell(2, update(greater, enrp.DelPE, "a", peerElement(1, greater)))
	if w.r.ledger.Find("a", 1) != nil {
		t.Error("a suspect that is gone is left")
	}
	w.tell(2, update(greater, enrp.DelPE, "a", peerElement(2, greater)))
	sum.Remove("a", 2)
	w.wantHomes("a:3@30000003") // the last one is guarded
	agree()

	w.tell(3, silentFor(third, "b", 7, time.Minute)) // it was not known
	w.wantHomes("a:3@30000003", "b:7@30000003")
	w.wantSuspect("b", 7, third, time.Minute)
	refused := w.r.Stats().UpdatesRefused
	w.tell(2, silentFor(greater, "b", 7, time.Second)) // not of its home
	w.wantSuspect("b", 7, third, time.Minute)
	other := silentFor(greater, "b", 8, time.Second)
	other.Element.Home = third
	w.tell(2, other)
	if got := w.r.Stats().UpdatesRefused; got != refused+2 || w.r.ledger.Find("b", 8) != nil {
		t.Errorf("%d updates refused, want %d", got, refused+2)
	}
	w.want()
}

// TestSuspectForgotten: a suspect of a peer is removed at last, if nothing is heard of it.
func TestSuspectForgotten(t *testing.T) {
	w := newPeerWorld(t)
	w.meet(2, greater)
	life := w.r.cfg.Timers.GuardLife + w.r.cfg.Timers.MaxTimeLastHeard
	stay := func(d time.Duration) { // while the peer lives
		for end := w.now.Add(d); w.now.Before(end); {
			w.pass(min(30*time.Second, end.Sub(w.now)))
			w.tell(2, &enrp.Presence{Sender: greater})
			w.skip("presence", "list_request")
		}
	}
	for id := range uint32(3) {
		w.tell(2, silentFor(greater, "a", id+1, time.Duration(10*id)*time.Second))
	}
	w.tell(2, silentFor(greater, "b", 9, life)) // too late
	if w.r.ledger.Find("b", 9) != nil {
		t.Error("a suspect is filed that would be forgotten at once")
	}
	stay(time.Minute)
	w.tell(2, update(greater, enrp.AddPE, "a", peerElement(3, greater))) // was the first to go
	stay(life - time.Minute - 10*time.Second - 1)
	w.wantSuspect("a", 2, greater, life-1)
	w.pass(1)
	if w.r.ledger.Find("a", 2) != nil {
		t.Error("a suspect stays for ever")
	}
	w.wantSuspect("a", 1, greater, life-10*time.Second)
	stay(10*time.Second + 1)
	w.wantHomes("a:3@20000002")
	if w.r.ledger.Suspects() != 0 || w.r.peers.byID[greater].vigil.timer.Armed() {
		t.Error("suspects are left, or are waited for")
	}
}

// TestSuspectsInTables: a peer that understands suspects gets them behind the members of their
// home; another one does not.
func TestSuspectsInTables(t *testing.T) {
	w := newPeerWorld(t)
	w.meet(2, greater)
	w.meet(3, third)
	w.tell(2, silentFor(greater, "a", 1, 5*time.Second))
	w.tell(2, update(greater, enrp.AddPE, "a", peerElement(2, greater)))
	w.tell(2, update(greater, enrp.AddPE, "b", peerElement(3, greater)))
	w.pass(2 * time.Second)
	w.tell(3, &enrp.HandleTableRequest{Sender: third, Suspects: true})
	w.want("3 < handle_table_response to 30000003 a:2@20000002 b:3@20000002 a:1@20000002?7s")
	w.tell(3, &enrp.HandleTableRequest{Sender: third})
	w.want("3 < handle_table_response to 30000003 a:2@20000002 b:3@20000002")
}

// TestAuditSuspects: in an audit, a suspect is what the home names so; one that it names in
// neither way is removed.
func TestAuditSuspects(t *testing.T) {
	begin := func(t *testing.T) *world {
		w := newPeerWorld(t)
		w.meet(2, greater)
		for id := range uint32(4) {
			w.tell(2, update(greater, enrp.AddPE, "a", peerElement(id+1, greater)))
		}
		w.tell(2, silentFor(greater, "a", 3, time.Second))
		w.tell(2, silentFor(greater, "a", 4, time.Second))
		w.tell(2, &enrp.Presence{Sender: greater, HasChecksum: true})
		w.want("2 < handle_table_request to 20000002 W")
		return w
	}
	t.Run("understood", func(t *testing.T) {
		w := begin(t)
		w.tell(2, silentFor(greater, "a", 8, time.Second)) // meanwhile; it is gone when the table is made
		w.tell(2, &enrp.HandleTableResponse{Sender: greater, Pools: []enrp.PoolEntry{{
			Handle: "a", Elements: []rserpool.PoolElement{peerElement(1, greater), peerElement(2, greater), peerElement(4, greater), peerElement(5, greater)},
			Suspects: map[int]time.Duration{1: 7 * time.Second, 3: time.Minute},
		}}})
		w.wantHomes("a:1@20000002", "a:4@20000002")
		w.wantSuspect("a", 2, greater, 7*time.Second)
		w.wantSuspect("a", 5, greater, time.Minute)
		if w.r.ledger.Find("a", 3) != nil || w.r.ledger.Find("a", 8) != nil {
			t.Error("a suspect that the home does not name is left")
		}
		w.tell(2, silentFor(greater, "a", 9, time.Second))
		w.wantSuspect("a", 9, greater, time.Second)
	})
	t.Run("older than an update", func(t *testing.T) {
		w := begin(t)
		w.tell(2, update(greater, enrp.AddPE, "a", peerElement(3, greater))) // over another association
		w.tell(2, &enrp.HandleTableResponse{Sender: greater, Pools: []enrp.PoolEntry{{
			Handle: "a", Elements: []rserpool.PoolElement{peerElement(1, greater), peerElement(2, greater), peerElement(3, greater)},
			Suspects: map[int]time.Duration{2: 7 * time.Second},
		}}})
		w.wantHomes("a:1@20000002", "a:2@20000002", "a:3@20000002")
	})
	t.Run("not understood", func(t *testing.T) {
		w := begin(t)
		w.tell(2, &enrp.HandleTableResponse{Sender: greater, Pools: []enrp.PoolEntry{{
			Handle: "a", Elements: []rserpool.PoolElement{peerElement(1, greater)},
		}}})
		w.want("connect #1 via 0 to [10.0.1.1:40000]") // to a member that it does not name
		w.refused(1, 5)
		w.wantHomes("a:1@20000002")
		if w.r.ledger.Suspects() != 0 {
			t.Errorf("%d suspects are left", w.r.ledger.Suspects())
		}
	})
}

// TestSuspectsOfMentor: a registrar that starts gets the suspects of all homes, and has those
// asked that were its own.
func TestSuspectsOfMentor(t *testing.T) {
	w := newPeerWorld(t, "10.0.9.2:9901")
	w.meet(2, greater)
	w.tell(2, &enrp.ListResponse{Sender: greater})
	w.tell(2, &enrp.HandleTableResponse{Sender: greater, Pools: []enrp.PoolEntry{
		{Handle: "a", Elements: []rserpool.PoolElement{peerElement(1, testServer), peerElement(2, greater), peerElement(3, third)}, Suspects: map[int]time.Duration{0: 3 * time.Second, 1: 4 * time.Second, 2: 5 * time.Second}},
		{Handle: "b", Elements: []rserpool.PoolElement{peerElement(4, third), peerElement(5, third)}, Suspects: map[int]time.Duration{1: time.Hour}},
	}})
	w.wantHomes("a:1@10000001", "a:2@20000002", "a:3@30000003", "b:4@30000003")
	w.wantSuspect("a", 1, testServer, 3*time.Second)
	w.wantSuspect("a", 2, greater, 4*time.Second)
	w.wantSuspect("a", 3, third, 5*time.Second)
	w.wantSuspect("b", 5, third, time.Hour)
	if x := w.r.find("a", 1); x == nil || x.probe == nil {
		t.Error("a suspect of ours is not called")
	}
}

// TestTakeoverOfSuspects: suspects have the heir of their home for their home, which calls
// them.
func TestTakeoverOfSuspects(t *testing.T) {
	begin := func(t *testing.T) *world {
		w := newPeerWorld(t)
		w.meet(2, greater)
		w.meet(3, third)
		w.tell(3, silentFor(third, "a", 1, time.Second)) // it has nothing else
		w.down(3)
		w.want("connect #1 via 1 to [10.0.9.3:9901]")
		w.handle(Connecting{Ref: 1})
		w.pass(5 * time.Second)
		w.skip("connect", "init_takeover")
		return w
	}
	t.Run("by this registrar", func(t *testing.T) {
		w := begin(t)
		w.tell(2, &enrp.InitTakeoverAck{Sender: greater, Target: third})
		w.pass(time.Millisecond)
		w.want("2 < takeover_server 30000003", "connect #3 via 0 to [10.0.1.1:40000]")
		w.wantSuspect("a", 1, testServer, 6*time.Second+time.Millisecond)
		w.wantHomes("a:1@10000001") // guarded
	})
	t.Run("by a peer", func(t *testing.T) {
		w := begin(t)
		w.tell(2, &enrp.InitTakeover{Sender: greater, Target: third})
		w.tell(2, &enrp.TakeoverServer{Sender: greater, Target: third})
		w.wantSuspect("a", 1, greater, 6*time.Second)
		w.tell(2, &enrp.Presence{Sender: greater, HasChecksum: true, Checksum: w.r.peers.byID[greater].roster.Checksum()})
		w.want("2 < init_takeover_ack to 20000002 30000003", "2 < handle_table_request to 20000002 W") // it may not know the suspect
		w.tell(2, update(greater, enrp.AddPE, "a", peerElement(1, greater)))
		if x := w.r.ledger.Find("a", 1); x.State() != ledger.Member {
			t.Error("it is not back")
		}
	})
	t.Run("forgotten", func(t *testing.T) {
		w := begin(t)
		w.r.forget(w.r.peers.byID[third])
		if w.r.ledger.Find("a", 1) != nil {
			t.Error("a suspect has no home")
		}
	})
}

// TestClaimOnSuspect: an identifier of a peer's suspect passes to another host, unless the
// element answers its home.
func TestClaimOnSuspect(t *testing.T) {
	begin := func(t *testing.T) *world {
		w := newPeerWorld(t)
		w.meet(2, greater)
		w.tell(2, update(greater, enrp.AddPE, "a", peerElement(1, greater)))
		w.up(1, rserpool.ViaKernel, "10.0.1.9")
		return w
	}
	ask := "2 < handle_update to 20000002 ADD_PE a:1@20000002"
	t.Run("granted by the home", func(t *testing.T) {
		w := begin(t)
		w.tell(2, silentFor(greater, "a", 1, time.Second))
		w.recv(1, reg("a", 1, "10.0.1.9"))
		w.want(ask)
		w.pass(time.Second)
		w.tell(2, update(greater, enrp.DelPE, "a", peerElement(1, greater)))
		w.want("2 < handle_update ADD_PE a:1@10000001", "1 < registration granted a:1")
	})
	t.Run("no word from the home", func(t *testing.T) {
		w := begin(t)
		w.recv(1, reg("a", 1, "10.0.1.9"))
		w.want(ask)
		w.pass(time.Second)
		w.tell(2, silentFor(greater, "a", 1, 0)) // asked again, because it is a suspect now
		w.want(ask)
		w.pass(2*time.Second - 1)
		w.want()
		w.pass(1)
		w.want("2 < handle_update ADD_PE a:1@10000001", "1 < registration granted a:1")
		w.wantHomes("a:1@10000001")
		w.tell(2, silentFor(greater, "a", 1, time.Minute)) // it has not heard yet
		w.wantHomes("a:1@10000001")
	})
	t.Run("alive", func(t *testing.T) {
		w := begin(t)
		w.tell(2, silentFor(greater, "a", 1, time.Second))
		w.recv(1, reg("a", 1, "10.0.1.9"))
		w.want(ask)
		w.tell(2, update(greater, enrp.AddPE, "a", peerElement(1, greater)))
		w.want("1 < registration rejected a:1 cause 4")
		w.pass(5 * time.Second)
		w.wantHomes("a:1@20000002")
	})
}

// TestClaimsOnSuspect: a registration by another host and a deregistration by another process of
// its own host wait on a peer's suspect. Their time is over, and before this registrar has noticed, the
// home names the suspect once more. Both are granted afterwards, the registration last, and if it does
// not fit the pool, it is refused.
func TestClaimsOnSuspect(t *testing.T) {
	for _, tt := range []struct {
		name        string
		policy      rserpool.PolicyType
		want, homes []string
	}{
		{"fits", rserpool.RoundRobin,
			[]string{"2 < handle_update ADD_PE a:1@10000001", "3 < deregistration a:1", "1 < registration granted a:1"},
			[]string{"a:1@10000001", "a:2@20000002"}},
		{"does not fit", rserpool.Random,
			[]string{"2 < handle_update ADD_PE a:1@10000001", "2 < handle_update DEL_PE a:1@10000001", "3 < deregistration a:1", "1 < registration rejected a:1 cause 5(0008000800000001)"},
			[]string{"a:2@20000002"}},
	} {
		for _, order := range []string{"registers first", "deregisters first"} {
			t.Run(tt.name+", "+order, func(t *testing.T) {
				w := newPeerWorld(t)
				w.meet(2, greater)
				w.tell(2, update(greater, enrp.AddPE, "a", peerElement(1, greater)))
				w.tell(2, update(greater, enrp.AddPE, "a", peerElement(2, greater)))
				w.up(1, rserpool.ViaKernel, "10.0.1.9")
				w.up(3, rserpool.ViaKernel, "10.0.1.1:5")
				claims := []func(){
					func() { w.recv(1, reg("a", 1, "10.0.1.9", policy(tt.policy))) },
					func() { w.recv(3, dereg("a", 1)) },
				}
				if order == "deregisters first" {
					slices.Reverse(claims)
				}
				for _, claim := range claims {
					claim()
				}
				w.tell(2, silentFor(greater, "a", 1, 0))
				w.skip("handle_update ADD_PE")
				w.now = w.now.Add(2 * time.Second)
				w.tell(2, silentFor(greater, "a", 1, 2*time.Second))
				w.want()
				w.pass(0)
				w.want(tt.want...)
				w.wantHomes(tt.homes...)
			})
		}
	}
}

// TestSuspectAnnounced: a peer has heard from a suspect of this registrar, which yields it.
func TestSuspectAnnounced(t *testing.T) {
	for _, table := range []bool{false, true} {
		w := newPeerWorld(t)
		w.meet(2, greater) // to which no element is yielded at once otherwise
		w.up(1, rserpool.ViaKernel, "10.0.1.1")
		w.recv(1, reg("a", 1, "10.0.1.1"))
		w.pass(20 * time.Second)
		if table {
			w.tell(2, &enrp.Presence{Sender: greater, HasChecksum: true, Checksum: 7})
		}
		if !slices.Contains(w.trace, "2 < handle_update DEL_PE a:1@10000001?0s") {
			t.Fatalf("got %q, want the peer told of a suspect", w.trace)
		}
		w.trace = nil
		w.pass(2 * time.Second)
		w.skip("keep-alive")
		w.tell(2, &enrp.HandleTableRequest{Sender: greater, Suspects: true})
		if got := strings.Join(w.trace, ""); !strings.HasPrefix(got, "2 < handle_table_response to 20000002 a:1@10000001?") {
			t.Errorf("got %q, want the suspect in the table", got)
		}
		w.trace = nil
		if table {
			w.tell(2, &enrp.HandleTableResponse{Sender: greater, Pools: []enrp.PoolEntry{{Handle: "a", Elements: []rserpool.PoolElement{peerElement(1, greater)}}}})
		} else {
			w.tell(2, update(greater, enrp.AddPE, "a", peerElement(1, greater)))
		}
		w.want("2 < handle_update ADD_PE a:1@20000002")
		w.wantHomes("a:1@20000002")
		if x := w.r.ledger.Find("a", 1); x.State() != ledger.Member {
			t.Error("it is not a member of the peer")
		}
	}
}

// TestSuspectLeft: two homes have the same suspect. The one that leaves it to the other one tells
// all peers, which would refuse what the other one says of it.
func TestSuspectLeft(t *testing.T) {
	w := newPeerWorld(t)
	w.meet(2, smaller)
	w.meet(3, third)
	w.up(1, rserpool.ViaKernel, "10.0.1.1")
	w.recv(1, reg("a", 1, "10.0.1.1"))
	w.pass(20 * time.Second)
	w.wantSuspect("a", 1, testServer, w.now.Sub(w.r.find("a", 1).Since()))
	w.trace = nil
	w.tell(2, silentFor(smaller, "a", 1, 2*time.Second))
	w.wantSuspect("a", 1, smaller, 2*time.Second)
	w.want("2 < handle_update DEL_PE a:1@fffffff?2s", "3 < handle_update DEL_PE a:1@fffffff?2s")
	if s := w.r.Stats(); s.Yields != 1 {
		t.Errorf("%d elements yielded, want 1", s.Yields)
	}
}

// TestSuspectGiven: a home leaves its suspect to another one. That one may have removed the suspect
// before the update came, and is audited. If it is not known, the former home is.
func TestSuspectGiven(t *testing.T) {
	w := newPeerWorld(t)
	w.meet(2, greater)
	w.meet(3, third)
	w.tell(3, silentFor(third, "a", 1, time.Second))
	given := silentFor(third, "a", 1, 5*time.Second)
	given.Element.Home = greater
	w.tell(3, given)
	w.wantSuspect("a", 1, greater, 5*time.Second)
	w.tell(2, &enrp.Presence{Sender: greater, HasChecksum: true})
	w.want("2 < handle_table_request to 20000002 W")
	w.tell(2, update(greater, enrp.DelPE, "a", peerElement(1, greater)))
	w.wantHomes()

	w.tell(3, silentFor(third, "b", 1, time.Second))
	w.tell(3, &enrp.Presence{Sender: third, HasChecksum: true})
	w.want()
	given = silentFor(third, "b", 1, 5*time.Second)
	given.Element.Home = 0x40000004
	w.tell(3, given)
	w.wantSuspect("b", 1, third, time.Second)
	w.tell(3, &enrp.Presence{Sender: third, HasChecksum: true})
	w.want("3 < handle_table_request to 30000003 W")
}
