package registrar

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// elementAt is an element of a peer at an address.
func elementAt(id uint32, home rserpool.ServerID, at string) rserpool.PoolElement {
	pe := peerElement(id, home)
	pe.UserTransport.Addrs = []netip.Addr{netip.MustParseAddr(at)}
	pe.ASAPTransport.Addrs = pe.UserTransport.Addrs
	return pe
}

// muteWorld has own elements, of which each answers over an association with its number, and elements
// of a peer at hosts that accept calls, or do not answer them, and acknowledge nothing.
type muteWorld struct {
	*world
	accepts bool
	stopped AssocID // that answers no more
	calls   AssocID
}

func newMuteWorld(t *testing.T, own, mute int, accepts bool) *muteWorld {
	w := &muteWorld{world: newPeerWorld(t), accepts: accepts, calls: 10000}
	w.meetAt(9000, greater, "10.0.9.9", "10.0.9.9")
	for i := 1; i <= own; i++ {
		at := fmt.Sprintf("10.0.2.%d", i)
		w.up(AssocID(i), rserpool.ViaKernel, at)
		w.recv(AssocID(i), reg("own", uint32(i), at))
	}
	for i := 1; i <= mute; i++ {
		w.tell(9000, update(greater, enrp.AddPE, "mute", elementAt(uint32(0x1000+i), greater, fmt.Sprintf("10.3.0.%d", i))))
	}
	w.trace = nil
	return w
}

// run lets time pass. present is whether the peer is.
func (w *muteWorld) run(d time.Duration, present bool) {
	w.t.Helper()
	for range d / (100 * time.Millisecond) {
		lines := w.trace
		w.trace = nil
		for _, l := range lines {
			w.answer(l)
		}
		if present {
			w.tell(9000, &enrp.Presence{Sender: greater})
		}
		w.pass(100 * time.Millisecond)
	}
	w.trace = nil
}

func (w *muteWorld) answer(line string) {
	var ref, via, assoc, id int
	var at string
	if n, _ := fmt.Sscanf(line, "connect #%d via %d to [%s", &ref, &via, &at); n == 3 && w.accepts && strings.HasPrefix(at, "10.3.") {
		w.calls++
		w.handle(Connecting{Ref: uint64(ref), Assoc: w.calls})
		w.up(w.calls, rserpool.ViaKernel, strings.TrimRight(at, "]"))
	}
	if n, _ := fmt.Sscanf(line, "%d < keep-alive own:%x", &assoc, &id); n == 2 && AssocID(assoc) != w.stopped {
		w.recv(AssocID(assoc), ack("own", uint32(id)))
	}
}

// TestMuteElements: elements that only a peer has named, and that do not answer, are no reason for
// the registrar's guard. Those of the reference implementation accept calls and acknowledge keep-alives
// of their home only. An own element that hangs is out in time.
func TestMuteElements(t *testing.T) {
	for _, accepts := range []bool{true, false} {
		for _, taken := range []bool{true, false} {
			w := newMuteWorld(t, 12, 40, accepts)
			if taken { // the peer disappears
				w.down(9000)
				w.run(20*time.Second, false)
				if w.r.Stats().Takeovers.Won != 1 {
					t.Fatal("the peer is not taken over")
				}
			} else { // the peer does not name them any more
				w.tell(9000, &enrp.Presence{Sender: greater, HasChecksum: true, Checksum: 0xfffe})
				w.tell(9000, &enrp.HandleTableResponse{Sender: greater})
				w.run(20*time.Second, true)
			}
			w.stopped = 1
			w.run(20*time.Second, !taken)
			own, _ := w.r.Sight("own", 1)
			mute, _ := w.r.Sight("mute", 0x1001)
			if got := w.r.Stats().Guards; got != 0 || !own.Suspect || !mute.Suspect {
				t.Errorf("accepts calls %v, taken over %v: the guard has begun %d times; suspects: the own element that hangs %v, the mute ones %v",
					accepts, taken, got, own.Suspect, mute.Suspect)
			}
		}
	}
}

// TestSweepRate: peers that name elements and do not name them, by turns, have so many of them called,
// however often they do it. Each of the elements is at a port of its own of one host.
func TestSweepRate(t *testing.T) {
	for _, tt := range []struct{ peers, rate int }{{1, sweepRate}, {16, sweepRates}} {
		w := newPeerWorld(t)
		var list []rserpool.PoolElement
		for i := range uint32(100) {
			list = append(list, peerElement(i+1, 0))
			list[i].ASAPTransport.Port = uint16(1000 + i)
		}
		calls := 0
		tell := func(i int, m enrp.Message) {
			for _, a := range w.r.Handle(w.now, Received{Assoc: AssocID(2 + i), PPID: enrp.PPID, Data: encodeENRP(t, m)}) {
				if a, ok := a.(Connect); ok && a.To[0].Addr() == netip.MustParseAddr("10.0.1.1") {
					calls++
				}
			}
		}
		for i := range tt.peers {
			w.meet(AssocID(2+i), rserpool.ServerID(greater+i))
		}
		const seconds, gap = 3, 20 * time.Millisecond
		for n := range uint16(seconds * time.Second / gap) {
			for i := range tt.peers {
				id := rserpool.ServerID(greater + i)
				table := &enrp.HandleTableResponse{Sender: id}
				if n%2 == 0 {
					table.Pools = []enrp.PoolEntry{{Handle: rserpool.PoolHandle(fmt.Sprint(i)), Elements: list}}
				}
				tell(i, &enrp.Presence{Sender: id, HasChecksum: true, Checksum: 0xff00 + n})
				tell(i, table)
			}
			w.now = w.now.Add(gap)
			w.r.Handle(w.now, Tick{})
		}
		if most := (seconds + 2) * tt.rate; calls > most || calls < tt.rate {
			t.Errorf("%d peers: the host is called %d times in %d s, want up to %d", tt.peers, calls, seconds, most)
		}
	}
}

// standsInFor has this registrar stand in for the home of an element at 10.0.1.1, and its call accepted
// over association 7.
func (w *world) standsInFor(pe rserpool.PoolElement) {
	w.t.Helper()
	w.meet(2, greater)
	w.tell(2, update(greater, enrp.AddPE, "a", pe))
	passed := pe
	passed.Home = third // which is not known here
	w.tell(2, update(greater, enrp.AddPE, "a", passed))
	w.tell(2, &enrp.Presence{Sender: greater, HasChecksum: true, Checksum: 0xfffe})
	w.tell(2, &enrp.HandleTableResponse{Sender: greater})
	w.want("2 < handle_table_request to 20000002 W", "connect #1 via 0 to [10.0.1.1:40000]")
	w.handle(Connecting{Ref: 1, Assoc: 7})
}

// wantStandsIn: this registrar stands in for the home of the element.
func (w *world) wantStandsIn(suspect bool) {
	w.t.Helper()
	if s, ok := w.r.Sight("a", 1); !ok || s.Home != third || s.Suspect != suspect || s.Unconfirmed == suspect {
		w.t.Errorf("at %v: the element is %+v, known %v; want a suspect: %v, of %x", w.now.Sub(w.start), s, ok, suspect, uint32(third))
	}
}

// TestStandInClaim: another host claims the identifier of an element for whose home this registrar
// stands in. If the host of the element has accepted the call, the element may live, though it
// acknowledges keep-alives of its home only.
func TestStandInClaim(t *testing.T) {
	const refused, granted = "8 < registration rejected a:1 cause 4", "8 < registration granted a:1"
	accept := func(w *world) { w.up(7, rserpool.ViaKernel, "10.0.1.1:40000") }
	claim := func(w *world) {
		w.trace = nil
		w.up(8, rserpool.ViaKernel, "10.0.66.66:40000")
		w.recv(8, reg("a", 1, "10.0.66.66"))
	}
	for _, tt := range []struct {
		name string
		do   func(w *world)
		want string
	}{
		{"while the call is not answered yet, which is accepted then", func(w *world) {
			claim(w)
			w.pass(time.Second)
			accept(w)
			w.pass(5 * time.Second)
		}, refused},
		{"while the call is not answered", func(w *world) {
			claim(w)
			w.handle(AssocDown{Assoc: 7, Reason: DownSilent})
		}, granted},
		{"while the call is refused", func(w *world) {
			claim(w)
			w.handle(AssocDown{Assoc: 7, Reason: DownRefused})
		}, granted},
		{"while it is asked", func(w *world) {
			accept(w)
			claim(w)
			w.pass(5 * time.Second)
		}, refused},
		{"after that", func(w *world) {
			accept(w)
			w.pass(6 * time.Second)
			w.wantStandsIn(true)
			claim(w)
			w.pass(2 * time.Second)
			w.wantStandsIn(true)
		}, refused},
		{"after that, and its host ends the association and refuses another one", func(w *world) {
			accept(w)
			w.pass(6 * time.Second)
			claim(w)
			w.handle(AssocDown{Assoc: 7, Reason: DownByPeer})
			w.refused(2, 9)
		}, granted},
		{"it was heard, and answers no more", func(w *world) {
			accept(w)
			w.recv(7, ack("a", 1))
			claim(w)
			w.pass(11 * time.Second)
		}, granted},
		{"it acknowledges", func(w *world) {
			accept(w)
			w.recv(7, ack("a", 1))
			claim(w)
			w.pass(time.Second)
			w.recv(7, ack("a", 1))
		}, refused},
		{"another registrar asks for one", func(w *world) {
			accept(w)
			w.pass(6 * time.Second)
			w.trace = nil
			asked := peerElement(1, testServer)
			w.tell(2, &enrp.HandleUpdate{Sender: greater, Receiver: testServer, Action: enrp.AddPE, Handle: "a", Element: asked})
			w.pass(3 * time.Second)
			w.wantStandsIn(true)
		}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newPeerWorld(t)
			w.standsInFor(peerElement(1, greater))
			tt.do(w)
			var got string
			for _, l := range w.trace {
				if strings.HasPrefix(l, "8 < registration") {
					got += l
				}
				if strings.Contains(l, "handle_update") && tt.want != granted {
					t.Errorf("the peers are told %q", l)
				}
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			w.trace = nil
		})
	}
}

// TestStandInClaimSuspect: another host claims the identifier of an element for whose home this
// registrar stands in, and then that home names it as a suspect. The claim is granted as any one on a
// suspect of a peer.
func TestStandInClaimSuspect(t *testing.T) {
	w := newPeerWorld(t)
	w.standsInFor(peerElement(1, greater))
	w.up(7, rserpool.ViaKernel, "10.0.1.1:40000")
	w.recv(7, ack("a", 1))
	w.pass(time.Second)
	w.up(8, rserpool.ViaKernel, "10.0.66.66:40000")
	w.recv(8, reg("a", 1, "10.0.66.66"))
	w.skip("keep-alive")
	w.tell(2, silentFor(greater, "a", 1, time.Second))
	w.wantSuspect("a", 1, greater, time.Second)
	w.want("2 < handle_update to 20000002 ADD_PE a:1@20000002")
	w.pass(2*time.Second - 1)
	w.skip("presence")
	w.want()
	w.pass(1)
	w.want("2 < handle_update ADD_PE a:1@10000001", "8 < registration granted a:1")
}

// TestStandInOfMentor: while a registrar starts, it stands in for the home of a member and of a suspect.
// Then the mentor says that both are the registrar's own. The suspect is still silent, and stays one.
func TestStandInOfMentor(t *testing.T) {
	w := newPeerWorld(t, "10.0.9.2:9901")
	w.meet(2, greater)
	w.meet(3, third)
	w.tell(2, &enrp.ListResponse{Sender: greater})
	part := func(more bool, list ...rserpool.PoolElement) {
		w.tell(2, &enrp.HandleTableResponse{Sender: greater, More: more, Pools: []enrp.PoolEntry{{Handle: "a", Elements: list}}})
	}
	w.tell(3, update(third, enrp.AddPE, "a", peerElement(1, third)))
	w.tell(3, silentFor(third, "a", 2, time.Second))
	w.down(3)
	for range 4 { // third is dead, and greater hears it
		w.trace = nil
		w.pass(2500 * time.Millisecond)
		part(true, peerElement(3, greater))
		if slices.Contains(w.trace, "2 < list_request to 20000002") {
			w.tell(2, &enrp.ListResponse{Sender: greater, Servers: []rserpool.ServerInformation{{ID: third, Transport: peerElement(1, third).ASAPTransport}}})
		}
	}
	w.wantStandsIn(false)
	silent, _ := w.r.Sight("a", 2)
	if silent.Home != third || !silent.Suspect || w.r.Ready() {
		t.Fatalf("got %+v, ready %v, want this registrar to stand in for %x before it is ready", silent, w.r.Ready(), uint32(third))
	}
	bare := peerElement(1, testServer) // could not be called
	bare.ASAPTransport = rserpool.Transport{}
	part(false, bare, peerElement(2, testServer))
	w.wantHomes("a:1@10000001", "a:3@20000002")
	w.wantSuspect("a", 2, testServer, 11*time.Second)
	w.trace = nil
}

// TestStandInClaimByHost: another process of the element's host claims that the element has left.
func TestStandInClaimByHost(t *testing.T) {
	w := newPeerWorld(t)
	w.standsInFor(peerElement(1, greater))
	w.up(7, rserpool.ViaKernel, "10.0.1.1:40000")
	w.pass(6 * time.Second)
	w.up(8, rserpool.ViaKernel, "10.0.1.1:40001")
	w.trace = nil
	w.recv(8, dereg("a", 1))
	w.pass(2 * time.Second)
	w.wantStandsIn(true)
	w.skip("keep-alive", "deregistration")
}

// TestStandInLife: the registration life of an element ends at its home. If this registrar becomes the
// home, the life begins anew.
func TestStandInLife(t *testing.T) {
	for _, ours := range []bool{false, true} {
		w := newPeerWorld(t)
		pe := peerElement(1, greater)
		pe.Life = 30
		w.standsInFor(pe)
		w.up(7, rserpool.ViaKernel, "10.0.1.1:40000")
		w.recv(7, ack("a", 1))
		w.acking(40 * time.Second)
		w.wantStandsIn(false)
		if !ours {
			continue
		}
		gives := pe
		gives.Home = testServer
		w.tell(2, update(greater, enrp.AddPE, "a", gives))
		w.acking(20 * time.Second)
		w.wantHomes("a:1@10000001")
		if s, _ := w.r.Sight("a", 1); s.Home != testServer || s.Unconfirmed {
			t.Fatalf("got %+v, want an own member", s)
		}
		if k := w.kept.elements[keptKey{"a", 1}]; k == nil {
			t.Error("it is not kept")
		}
		w.acking(20 * time.Second)
		w.wantHomes()
	}
}

// acking lets time pass in which the element acknowledges over association 7, and the peer is present.
func (w *world) acking(d time.Duration) {
	w.t.Helper()
	for end := w.now.Add(d); w.now.Before(end); {
		w.trace = nil
		w.tell(2, &enrp.Presence{Sender: greater})
		w.pass(time.Second)
		for _, l := range w.trace {
			if strings.HasPrefix(l, "7 < keep-alive") {
				w.recv(7, ack("a", 1))
			}
		}
	}
	w.trace = nil
}

// TestStandInAgain: an association that is left from a call does not show that the element holds this
// registrar for its home.
func TestStandInAgain(t *testing.T) {
	for _, own := range []bool{false, true} {
		w := newPeerWorld(t)
		w.standsInFor(peerElement(1, greater))
		w.up(7, rserpool.ViaKernel, "10.0.1.1:40000")
		w.recv(7, ack("a", 1))
		w.trace = nil
		want := []string{"2 < handle_table_request to 20000002 W", "7 < keep-alive a:1 from 10000001"}
		if own {
			w.recv(7, reg("a", 1, "10.0.1.1"))
			w.recv(7, dereg("a", 1))
			want[1] += " H"
		}
		w.tell(2, update(greater, enrp.AddPE, "a", peerElement(1, greater)))
		w.pass(time.Second)
		w.trace = nil
		w.tell(2, &enrp.Presence{Sender: greater, HasChecksum: true, Checksum: 0xfffe})
		w.tell(2, &enrp.HandleTableResponse{Sender: greater})
		w.want(want...)
	}
}

// TestStandInNotKept: after a restart, an element for whose home this registrar has stood in is none of its
// own.
func TestStandInNotKept(t *testing.T) {
	w := newPeerWorld(t)
	w.standsInFor(peerElement(1, greater))
	w.up(7, rserpool.ViaKernel, "10.0.1.1:40000")
	w.recv(7, ack("a", 1))
	w.wantStandsIn(false)
	w.handle(KeepAll{First: true})
	w.trace = nil
	if len(w.kept.elements) != 0 {
		t.Errorf("kept: %v, want nothing", w.kept.elements)
	}
	w.recv(7, reg("a", 1, "10.0.1.1"))
	w.trace = nil
	if len(w.kept.elements) != 1 {
		t.Errorf("kept: %v, want the element that has registered", w.kept.elements)
	}
}

// unnamed has a peer name n elements, each at the address of its host, and name none of them in its
// next table. Nobody serves at their hosts. It returns how long that takes until all have left.
func (w *world) unnamed(assoc AssocID, id rserpool.ServerID, n int, host func(i int) netip.Addr) time.Duration {
	w.t.Helper()
	handle := func(ev Event) {
		queue := []Event{ev}
		for len(queue) > 0 {
			for _, a := range w.r.Handle(w.now, queue[0]) {
				if c, ok := a.(Connect); ok {
					call := AssocID(1<<20 + c.Ref)
					queue = append(queue, Connecting{Ref: c.Ref, Assoc: call}, AssocDown{Assoc: call, Reason: DownRefused})
				}
			}
			queue = queue[1:]
		}
	}
	for i := range n {
		e := peerElement(uint32(i+1), id)
		e.ASAPTransport.Addrs, e.ASAPTransport.Port = []netip.Addr{host(i)}, uint16(1000+i)
		handle(Received{Assoc: assoc, PPID: enrp.PPID, Data: encodeENRP(w.t, update(id, enrp.AddPE, fmt.Sprint("of ", assoc), e))})
	}
	w.tell(assoc, &enrp.Presence{Sender: id, HasChecksum: true, Checksum: w.r.peers.byID[id].roster.Checksum() ^ 0x5555})
	begun := w.now
	handle(Received{Assoc: assoc, PPID: enrp.PPID, Data: encodeENRP(w.t, &enrp.HandleTableResponse{Sender: id})})
	for w.r.roster.LenAll()+w.r.peers.byID[id].roster.LenAll() > 0 && w.now.Sub(begun) < time.Minute {
		w.now = w.now.Add(holdGap)
		handle(Tick{})
	}
	w.check()
	return w.now.Sub(begun)
}

// TestSweepHosts: elements that have left a peer without a word are called faster if they are at many
// hosts.
func TestSweepHosts(t *testing.T) {
	const n = 10000
	for _, tt := range []struct {
		name        string
		host        func(i int) netip.Addr
		least, most time.Duration
	}{
		{"one host", func(int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 1, 1}) }, (n/sweepRate - 3) * time.Second, (n/sweepRate + 1) * time.Second},
		{"one network of IPv6", func(i int) netip.Addr {
			return netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 13: byte(i >> 16), 14: byte(i >> 8), 15: byte(i)})
		}, (n/sweepRate - 3) * time.Second, (n/sweepRate + 1) * time.Second},
		{"many hosts", func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}) }, n / sweepRates * time.Second / 2, 14 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newPeerWorld(t)
			w.meet(2, greater)
			got := w.unnamed(2, greater, n, tt.host)
			if got < tt.least || got > tt.most {
				t.Errorf("%d elements take %v, want %v to %v", n, got, tt.least, tt.most)
			}
			w.trace = nil
		})
	}
}

// TestStandInReports: reports of users have an element asked, for whose home this registrar stands in.
// They remove it only at its home.
func TestStandInReports(t *testing.T) {
	w := newPeerWorld(t)
	w.r.cfg.Timers.MaxBadPEReport = 1
	w.standsInFor(peerElement(1, greater))
	w.up(7, rserpool.ViaKernel, "10.0.1.1:40000")
	w.recv(7, ack("a", 1))
	w.trace = nil
	for id := range AssocID(3) {
		w.pass(minAskGap)
		w.up(20+id, rserpool.ViaTCP, fmt.Sprintf("10.0.0.%d", 20+id))
		w.recv(20+id, unreachable("a", 1))
		w.want("7 < keep-alive a:1 from 10000001")
		w.recv(7, ack("a", 1))
	}
	w.wantStandsIn(false)
}

// TestStandInKept: an element that acknowledges nothing, for whose home this registrar stands in, stays
// while its host accepts associations: it may acknowledge keep-alives of its home. It is the only one of
// its pool.
func TestStandInKept(t *testing.T) {
	const gap = 2*overdueGap + time.Second
	for _, tt := range []struct {
		name string
		do   func(w *world)
		kept bool
	}{
		{"the association stands", func(*world) {}, true},
		{"the host ends it, and accepts another one", func(w *world) {
			w.left(7)
			w.handle(Connecting{Ref: 2, Assoc: 8})
			w.pass(time.Second)
			w.up(8, rserpool.ViaKernel, "10.0.1.1:40000")
		}, true},
		{"the host does not answer another call", func(w *world) { w.down(7) }, false},
		{"the host refuses another one", func(w *world) { w.left(7); w.refused(2, 8) }, false},
		{"a day passes", func(w *world) { w.present(standInLife) }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newPeerWorld(t)
			w.standsInFor(peerElement(1, greater))
			w.up(7, rserpool.ViaKernel, "10.0.1.1:40000")
			w.present(2 * time.Hour)
			w.wantStandsIn(true)
			tt.do(w)
			w.present(gap)
			w.wantHomes([]string{"a:1@10000001"}[:count(tt.kept)]...)
			if s := w.r.Stats(); tt.kept && (s.PoolsEmptied != 0 || s.PoolsGuarded != 1) {
				t.Errorf("pools: %d emptied, %d guarded", s.PoolsEmptied, s.PoolsGuarded)
			}
		})
	}
}

// present lets time pass in which only the peer is heard, over association 2.
func (w *world) present(d time.Duration) {
	w.t.Helper()
	for end := w.now.Add(d); w.now.Before(end); {
		w.tell(2, &enrp.Presence{Sender: greater})
		w.pass(min(20*time.Second, end.Sub(w.now)))
		w.trace = nil
	}
}
