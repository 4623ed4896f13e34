package registrar

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/registrar/internal/ledger"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// restarted is a world that goes on from what another one has kept, after a while in which
// no registrar was there.
func restarted(t *testing.T, before *world, after time.Duration, change ...func(*Config)) *world {
	t.Helper()
	w := newWorld(t, change...)
	w.now = before.now.Add(after)
	w.start = w.now
	w.kept.elements = before.kept.elements
	for _, k := range before.kept.sorted() {
		w.kept.note(w.r.Handle(w.now, Restore{Alive: before.now, Elements: []Kept{k}}))
	}
	w.handle(Restore{Alive: before.now, Peers: before.kept.peers})
	return w
}

func (w *world) serve() {
	w.t.Helper()
	w.handle(Serving{Addrs: peers("10.0.9.1:3863")})
}

// twoElements is a world with elements 1 and 2 of pool p at 10.0.0.1.
func twoElements(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.up(1, rserpool.ViaUDP, "10.0.0.1")
	w.recv(1, reg("p", 1, "10.0.0.1"))
	w.recv(1, reg("p", 2, "10.0.0.1"))
	w.skip("registration granted")
	return w
}

// wantStates compares the own elements with their states.
func (w *world) wantStates(want ...string) {
	w.t.Helper()
	var got []string
	for _, e := range w.r.entries(w.r.roster) {
		got = append(got, fmt.Sprintf("%s:%x %s", e.Handle(), uint32(e.ID()), [...]string{"member", "unconfirmed", "suspect"}[e.State()]))
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		w.t.Fatalf("at %v: got %q, want %q", w.now.Sub(w.start), got, want)
	}
}

// TestRestore: the elements of a former process are in the handlespace before the registrar
// serves, are called together, and are members once they acknowledge.
func TestRestore(t *testing.T) {
	w := restarted(t, twoElements(t), time.Minute)
	w.wantElements("p:1", "p:2")
	if !w.r.Answers() {
		t.Error("does not answer")
	}
	w.want()
	w.serve()
	w.want("connect #1 via 2 to [10.0.0.1:40000]")
	w.wantStates("p:1 unconfirmed", "p:2 unconfirmed")
	if s := w.r.Stats(); s.Restored != 2 || s.Unconfirmed != 2 || s.Own != 2 || s.Elements != 2 {
		t.Errorf("stats: %+v", s)
	}
	w.handle(Connecting{Ref: 1, Assoc: 7})
	w.up(7, rserpool.ViaUDP, "10.0.0.1")
	w.want("7"+ka1, "7"+ka2)
	w.recv(7, ack("p", 1))
	w.wantStates("p:1 member", "p:2 unconfirmed")
	w.logs = true
	w.recv(7, ack("p", 2))
	w.logs = false
	w.want("log the check of the stored elements has ended after 0s: none is silent any more")
	w.wantStates("p:1 member", "p:2 member")
	w.until(8 * time.Second) // supervised as ever
	w.skip("keep-alive")
}

// TestRestoreEncapPort: an element on SCTP in UDP is called at the UDP port that it had. The
// transport, which began with the registrar, does not know it.
func TestRestoreEncapPort(t *testing.T) {
	before := newWorld(t)
	before.handle(AssocUp{Assoc: 1, Peer: peers("10.0.0.1"), Via: rserpool.ViaUDP, EncapPort: 5555})
	before.recv(1, reg("p", 1, "10.0.0.1"))
	w := restarted(t, before, time.Minute)
	w.serve()
	w.want("connect #1 via 2 to [10.0.0.1:40000] in UDP 5555")
}

// TestRestoreRegistration: an element that registers again is a member. One of another host
// does not get the identifier of a restored element that lives.
func TestRestoreRegistration(t *testing.T) {
	w := restarted(t, twoElements(t), time.Second)
	w.serve()
	w.skip("connect")
	w.up(3, rserpool.ViaUDP, "10.0.0.1:5000")
	w.recv(3, reg("p", 1, "10.0.0.1"))
	w.want("3 < registration granted p:1")
	w.wantStates("p:1 member", "p:2 unconfirmed")
	w.up(4, rserpool.ViaUDP, "10.0.0.4")
	w.recv(4, reg("p", 2, "10.0.0.4"))
	w.want()
	w.handle(Connecting{Ref: 1, Assoc: 7})
	w.up(7, rserpool.ViaUDP, "10.0.0.1")
	w.skip("keep-alive")
	w.recv(7, ack("p", 2))
	w.want("4 < registration rejected p:2 cause 4")
	w.wantStates("p:1 member", "p:2 member")
}

// TestRestoreLife: the life of an element begins anew with the registrar.
func TestRestoreLife(t *testing.T) {
	before := newWorld(t)
	before.up(1, rserpool.ViaUDP, "10.0.0.1")
	before.recv(1, reg("p", 1, "10.0.0.1", func(e *rserpool.PoolElement) { e.Life = 100 }))
	before.recv(1, reg("p", 2, "10.0.0.1", func(e *rserpool.PoolElement) { e.Life = -1 }))
	w := restarted(t, before, 20*time.Minute)
	if got := w.r.find("p", 1).PE().Expires.Sub(w.now); got != 100*time.Second {
		t.Errorf("its life has %v left, want 100 s", got)
	}
	if got := w.r.find("p", 2).PE().Expires; !got.IsZero() {
		t.Errorf("an endless life ends at %v", got)
	}
	w.serve()
	w.handle(Connecting{Ref: 1, Assoc: 7})
	w.up(7, rserpool.ViaUDP, "10.0.0.1")
	for range 300 { // it acknowledges, and does not renew
		w.answerAll(t)
		w.pass(time.Second)
	}
	w.wantStates("p:2 member")
}

// TestRestoreOld: what has been silent for GuardLife is forgotten: all elements, if the
// registrar was away for as long, or a suspect.
func TestRestoreOld(t *testing.T) {
	w := restarted(t, twoElements(t), time.Hour+time.Second)
	w.logs = true
	w.wantElements()
	if w.r.Answers() != true || w.r.restored.any { // it is alone, and ready with nothing
		t.Error("a lone registrar does not answer")
	}
	w.serve()
	w.want("log started with 0 pool elements of the stored state, without 2 because this registrar was away for 1h0m1s by its clock (GUARD-LIFE 1h0m0s)")

	before := twoElements(t)
	before.kept.elements[keptKey{"p", 2}].Suspect = before.now.Add(-59 * time.Minute)
	w = restarted(t, before, 30*time.Second)
	w.wantStates("p:1 unconfirmed", "p:2 suspect")
	w = restarted(t, before, 2*time.Minute)
	w.wantStates("p:1 unconfirmed")
}

// TestRestoreClock: if the clock was set back before the start, what is stored lies in the
// future. A suspect is removed in time all the same.
func TestRestoreClock(t *testing.T) {
	before := twoElements(t)
	before.kept.elements[keptKey{"p", 1}].Suspect = before.now
	w := restarted(t, before, -24*time.Hour)
	w.serve()
	w.wantStates("p:1 suspect", "p:2 unconfirmed")
	w.skip("connect")
	w.handle(Connecting{Ref: 1, Assoc: 7})
	w.up(7, rserpool.ViaUDP, "10.0.0.1")
	w.skip("keep-alive")
	for range 11 * 60 {
		w.recv(7, ack("p", 2))
		w.pass(time.Second)
		w.skip("keep-alive", "removed", "deregistration")
	}
	w.wantStates("p:2 member")
}

// TestRestoreFull: elements for which the limits have no room are forgotten, and the log
// warns.
func TestRestoreFull(t *testing.T) {
	w := restarted(t, twoElements(t), time.Second, func(c *Config) { c.Limits.Elements = 1 })
	w.logs = true
	w.serve()
	w.wantElements("p:1")
	w.want("log started with 1 pool element of the stored state, without 1 for which the limits have no room", "connect #1 via 2 to [10.0.0.1:40000]")
}

// withPeer is a world that has restarted after a registrar with a peer and four elements,
// some of them suspects.
func withPeer(t *testing.T, suspects ...rserpool.PEID) *world {
	t.Helper()
	before := newPeerWorld(t, "10.0.9.2:9901")
	before.pass(20 * time.Second)
	before.up(1, rserpool.ViaUDP, "10.0.0.1")
	for id := range uint32(4) {
		before.recv(1, reg("p", id+1, "10.0.0.1"))
	}
	for _, id := range suspects {
		before.kept.elements[keptKey{"p", id}].Suspect = before.now
	}
	w := restarted(t, before, 3*time.Second, func(c *Config) { c.Peers = peers("10.0.9.2:9901") })
	w.handle(Serving{Addrs: peers("10.0.0.9:3863"), ENRP: peers("10.0.0.9:9901")})
	w.skip("connect")
	return w
}

// atHomeOf is an element of withPeer as a peer knows it.
func atHomeOf(id uint32, home rserpool.ServerID) rserpool.PoolElement {
	e := reg("p", id, "10.0.0.1").Element
	e.Home = home
	e.ASAPTransport = rserpool.Transport{Type: rserpool.SCTP, Port: 40000, Addrs: e.UserTransport.Addrs}
	return e
}

// TestRestoreWithPeers: the registrar answers at once. It claims no element from its peers
// before it knows what they know. What the mentor says of an element wins.
func TestRestoreWithPeers(t *testing.T) {
	w := withPeer(t)
	if w.r.Ready() || !w.r.Answers() {
		t.Errorf("ready %v, answers %v", w.r.Ready(), w.r.Answers())
	}
	w.wantHomes("p:1@10000001", "p:2@10000001", "p:3@10000001", "p:4@10000001")
	w.handle(Connecting{Ref: 2, Assoc: 7})
	w.up(7, rserpool.ViaUDP, "10.0.0.1")
	w.recv(7, ack("p", 1))
	w.recv(7, ack("p", 2))
	w.skip("keep-alive")
	w.wantStates("p:1 unconfirmed", "p:2 unconfirmed", "p:3 unconfirmed", "p:4 unconfirmed")
	w.meet(2, greater)
	w.tell(2, &enrp.HandleTableRequest{Sender: greater, OwnChildrenOnly: true})
	w.want("2 < handle_table_response to 20000002 R")
	w.tell(2, &enrp.ListResponse{Sender: greater})
	w.want("2 < handle_table_request to 20000002")
	w.tell(2, &enrp.HandleTableResponse{Sender: greater, Pools: []enrp.PoolEntry{{Handle: "p", Elements: []rserpool.PoolElement{
		atHomeOf(2, greater), atHomeOf(3, testServer), atHomeOf(4, third), atHomeOf(5, greater),
	}}}})
	w.want("2 < handle_update ADD_PE p:1@10000001") // it has acknowledged, and the mentor does not know it
	w.wantHomes("p:1@10000001", "p:2@20000002", "p:3@10000001", "p:4@30000003", "p:5@20000002")
	w.wantStates("p:1 member", "p:3 member")
	if !w.r.Ready() {
		t.Error("not ready")
	}
	w.recv(7, ack("p", 3)) // members need not be announced
	w.want()
}

// TestRestoreSuspectOfPeer: what has become a suspect of a peer meanwhile is that one's, at
// which an operator can remove it.
func TestRestoreSuspectOfPeer(t *testing.T) {
	w := withPeer(t, 2)
	w.handle(Connecting{Ref: 2, Assoc: 7})
	w.meet(2, greater)
	w.tell(2, &enrp.HandleTableRequest{Sender: greater, OwnChildrenOnly: true})
	w.tell(2, &enrp.ListResponse{Sender: greater})
	w.tell(2, &enrp.HandleTableResponse{Sender: greater, Pools: []enrp.PoolEntry{{Handle: "p",
		Elements: []rserpool.PoolElement{atHomeOf(1, greater), atHomeOf(2, greater)},
		Suspects: map[int]time.Duration{0: time.Second, 1: time.Second}}}})
	w.wantStates("p:3 unconfirmed", "p:4 unconfirmed")
	if n := w.r.ledger.Pool("p").Suspects; n != 2 {
		t.Errorf("%d suspects in the pool, want 2", n)
	}
	w.check()
	removed := &enrp.HandleUpdate{Sender: greater, Action: enrp.DelPE, Handle: "p", Element: atHomeOf(1, greater)}
	w.tell(2, removed)
	if w.r.ledger.Find("p", 1) != nil {
		t.Error("an element that its home has removed is still there")
	}
}

// TestSuspectAtTwoHomes: if two registrars have the same silent element, it is left to the
// one with the smaller identifier.
func TestSuspectAtTwoHomes(t *testing.T) {
	for _, tt := range []struct {
		peer rserpool.ServerID
		left bool
	}{{smaller, true}, {greater, false}} {
		w := newPeerWorld(t, "10.0.9.2:9901")
		w.pass(20 * time.Second)
		w.up(1, rserpool.ViaUDP, "10.0.0.1")
		w.recv(1, reg("p", 1, "10.0.0.1"))
		w.pass(20 * time.Second)
		w.wantStates("p:1 suspect")
		w.trace = nil
		w.meet(2, tt.peer)
		w.tell(2, &enrp.HandleUpdate{Sender: tt.peer, Action: enrp.DelPE, Handle: "p", Element: atHomeOf(1, tt.peer), Suspect: true, Silent: time.Second})
		if left := w.r.find("p", 1) == nil; left != tt.left {
			t.Errorf("left to %v: %v, want %v", tt.peer, left, tt.left)
		}
		w.check()
	}
}

// TestRestoreWithoutMentor: if no peer answers, those that have acknowledged are members at
// the end of the start, and the others when they do. A suspect that acknowledges meanwhile is
// in the answers at once. A peer that comes later gets those that it names.
func TestRestoreWithoutMentor(t *testing.T) {
	w := withPeer(t, 2, 3)
	w.wantStates("p:1 unconfirmed", "p:2 suspect", "p:3 suspect", "p:4 unconfirmed")
	w.wantElements("p:1", "p:4")
	w.handle(Connecting{Ref: 2, Assoc: 7})
	w.up(7, rserpool.ViaUDP, "10.0.0.1")
	w.recv(7, ack("p", 1))
	w.recv(7, ack("p", 2))
	w.wantStates("p:1 unconfirmed", "p:2 unconfirmed", "p:3 suspect", "p:4 unconfirmed")
	w.wantElements("p:1", "p:2", "p:4")
	w.skip("keep-alive")
	w.logs = true
	w.pass(10 * time.Second)
	if want := "log no peer has sent the handlespace: starting with 4 pool elements"; !slices.Contains(w.trace, want) {
		t.Errorf("the log does not say %q: %q", want, w.trace)
	}
	w.logs = false
	w.wantStates("p:1 member", "p:2 member", "p:3 suspect", "p:4 unconfirmed")
	if !w.r.Ready() {
		t.Error("not ready")
	}
	w.trace = nil
	w.meet(2, greater)
	w.tell(2, update(greater, enrp.AddPE, "p", atHomeOf(4, greater)))
	w.wantHomes("p:1@10000001", "p:2@10000001", "p:4@20000002")
	w.recv(7, ack("p", 3))
	if s := w.r.find("p", 3).State(); s != ledger.Member {
		t.Errorf("a suspect that acknowledges after the start is in state %d", s)
	}
}

// TestRestoreStoredPeers: a registrar that looks for others by multicast connects at once to
// where its peers were.
func TestRestoreStoredPeers(t *testing.T) {
	before := newPeerWorld(t, "10.0.9.2:9901")
	before.pass(20 * time.Second)
	before.meet(2, greater)
	before.pass(40 * time.Second)
	w := restarted(t, before, time.Second, func(c *Config) { c.Discover = true })
	w.handle(Serving{Addrs: peers("10.0.0.9:3863"), ENRP: peers("10.0.0.9:9901")})
	w.want("connect #1 via 0 to [10.0.9.2:9901]")
	if w.r.Ready() {
		t.Error("ready before the peer was asked")
	}
}

// TestRestoreRandom: whatever happens to a registrar, its next process begins with its own
// elements, and each of those that live is a member in the end.
func TestRestoreRandom(t *testing.T) {
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 7))
		w := newWorld(t)
		for a := range AssocID(3) {
			w.up(a+1, rserpool.ViaUDP, fmt.Sprintf("10.0.0.%d", a+1))
		}
		for range 200 {
			a := AssocID(1 + r.IntN(3))
			h, id := fmt.Sprintf("p%d", r.IntN(3)), uint32(1+r.IntN(5)+10*int(a))
			if r.IntN(3) == 0 {
				w.recv(a, dereg(h, id))
			} else {
				w.recv(a, reg(h, id, fmt.Sprintf("10.0.0.%d", a)))
			}
			w.pass(time.Duration(r.IntN(100)) * time.Millisecond)
		}
		want := names(w)
		w = restarted(t, w, time.Duration(r.IntN(1000))*time.Second)
		if got := names(w); !slices.Equal(got, want) {
			t.Fatalf("seed %d: got %q, want %q", seed, got, want)
		}
		w.serve()
		w.answerAll(t)
		if got := names(w); !slices.Equal(got, want) || members(w.r.roster) != len(want) {
			t.Fatalf("seed %d: got %q with %d members, want %q", seed, got, members(w.r.roster), want)
		}
		if n := w.r.roster.LenOf(ledger.Unconfirmed); n > 0 {
			t.Errorf("seed %d: %d are unconfirmed", seed, n)
		}
	}
}

// names are the own elements.
func names(w *world) (list []string) {
	for _, e := range w.r.entries(w.r.roster) {
		list = append(list, fmt.Sprintf("%s:%x", e.Handle(), uint32(e.ID())))
	}
	slices.Sort(list)
	return list
}

// answerAll accepts all connections, and acknowledges all keep-alives.
func (w *world) answerAll(t *testing.T) {
	t.Helper()
	for n := AssocID(100); len(w.trace) > 0; n++ {
		lines := w.trace
		w.trace = nil
		for _, l := range lines {
			var ref uint64
			var a AssocID
			var element string
			var at string
			if _, err := fmt.Sscanf(l, "connect #%d via 2 to [%s", &ref, &at); err == nil {
				n++
				w.handle(Connecting{Ref: ref, Assoc: n})
				w.up(n, rserpool.ViaUDP, strings.TrimSuffix(at, "]"))
			} else if _, err := fmt.Sscanf(l, "%d < keep-alive %s", &a, &element); err == nil {
				h, hex, _ := strings.Cut(element, ":")
				var id uint32
				_, _ = fmt.Sscanf(hex, "%x", &id)
				w.recv(a, ack(h, id))
			}
		}
	}
}

// TestConfirmedOnce: during a long start an element acknowledges again and again, which takes no
// memory.
func TestConfirmedOnce(t *testing.T) {
	w := restarted(t, twoElements(t), time.Second, func(c *Config) { c.Peers = peers("10.0.9.2:9901") })
	w.handle(Serving{Addrs: peers("10.0.9.1:3863"), ENRP: peers("10.0.9.1:9901")})
	e := w.r.find("p", 1)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 1 << 20 {
		if !w.r.confirmLater(e) {
			t.Fatal("the start is over")
		}
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
		t.Errorf("%d bytes for acknowledgements of one element", n)
	}
	w.pass(time.Minute) // nobody has the handlespace
	if s := e.State(); s != ledger.Member {
		t.Errorf("after the start, the element that has acknowledged is in state %d", s)
	}
	w.trace = nil
}
