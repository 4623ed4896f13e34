package registrar

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

const bridge = "172.17.0.1" // docker0's, on each machine

func addrsOf(list ...string) []netip.Addr {
	var addrs []netip.Addr
	for _, a := range list {
		addrs = append(addrs, netip.MustParseAddr(a))
	}
	return addrs
}

func discovers(c *Config) { c.Discover = true }

// connects returns the Connect actions so far, without their numbers.
func (w *world) connects() []string {
	var list []string
	for _, line := range w.trace {
		if line, ok := strings.CutPrefix(line, "connect "); ok {
			_, to, _ := strings.Cut(line, " to ")
			list = append(list, to)
		}
	}
	w.skip("announce", "connect", "handle_table_request", "list_request", "presence")
	return list
}

func (w *world) wantConnects(want ...string) {
	w.t.Helper()
	if got := w.connects(); !slices.Equal(got, want) {
		w.t.Fatalf("at %v: calls to %q, want %q", w.now.Sub(w.start), got, want)
	}
}

// joins has a registrar accept the last Connect and become a peer.
func (w *world) joins(id AssocID, m *enrp.Presence, proved string) {
	w.t.Helper()
	w.accepts(w.r.refs, id, proved)
	w.tell(id, m)
	w.skip("list_request", "presence")
	if p := w.r.peers.byID[m.Sender]; p == nil || p.link == nil {
		w.t.Fatalf("registrar %v is no peer", m.Sender)
	}
}

// TestHeardIsNotAlone: the log says so if the registrar receives announces of another one
// and cannot connect to it.
func TestHeardIsNotAlone(t *testing.T) {
	w := newDiscoveryWorld(t)
	w.hears("10.0.0.2", presenceAt(greater, "10.0.0.2"))
	w.handle(Connecting{Ref: 1})
	w.trace, w.logs = nil, true
	for range 30 {
		w.pass(time.Second)
		for ref := range w.r.peers.connecting {
			w.handle(Connecting{Ref: ref})
		}
	}
	got := strings.Join(w.trace, "\n")
	if strings.Contains(got, "no other registrar") || !strings.Contains(got, "registrar 20000002 is heard from 10.0.0.2") {
		t.Errorf("says %s", got)
	}
}

// announces returns the addresses in the announces so far.
func (w *world) announces(acts []Action) (asapAt, enrpAt []netip.Addr) {
	w.t.Helper()
	for _, act := range acts {
		a, ok := act.(Announce)
		if !ok {
			continue
		}
		if a.ENRP {
			m, _, err := enrp.Parse(a.Data)
			if err != nil {
				w.t.Fatal(err)
			}
			enrpAt = m.(*enrp.Presence).Info.Transport.Addrs
			continue
		}
		m, _, err := asap.Parse(a.Data)
		if err != nil {
			w.t.Fatal(err)
		}
		asapAt = m.(*asap.ServerAnnounce).Transports[0].Addrs
	}
	return asapAt, enrpAt
}

// TestAddressesAnnounced: announces and presences name the present addresses. A
// registrar that starts before the network is up finds its peers when it is.
func TestAddressesAnnounced(t *testing.T) {
	w := newWorld(t, discovers, func(c *Config) { c.Peers = peers("10.0.0.9:9901") })
	w.handle(Serving{Addrs: peers("127.0.0.1:3863"), ENRP: peers("127.0.0.1:9901"), Announce: true})
	a, e := w.announces(w.handle(Tick{}))
	if want := addrsOf("127.0.0.1"); !slices.Equal(a, want) || !slices.Equal(e, want) {
		t.Fatalf("before the network is up: announces %v and %v, want %v", a, e, want)
	}
	w.handle(Connecting{Ref: 1}) // no route
	w.pass(20 * time.Second)
	w.handle(Connecting{Ref: w.r.refs})
	if !w.r.Ready() {
		t.Fatal("not ready")
	}
	w.pass(5 * time.Second)
	for ref := range w.r.peers.connecting {
		w.handle(Connecting{Ref: ref})
	}
	w.trace, w.logs = nil, true
	w.handle(Addresses{Addrs: peers("10.0.0.1:3863", "127.0.0.1:3863"), ENRP: peers("10.0.0.1:9901", "127.0.0.1:9901")})
	w.want("log the machine's addresses have changed: the registrar offers ASAP at [10.0.0.1:3863] and ENRP at [10.0.0.1:9901], before at [127.0.0.1:3863] and [127.0.0.1:9901]")
	w.logs = false
	a, e = w.announces(w.handle(Tick{}))
	if want := addrsOf("10.0.0.1"); !slices.Equal(a, want) || !slices.Equal(e, want) {
		t.Errorf("when it is: announces %v and %v, want %v", a, e, want)
	}
	w.pass(time.Second)
	w.trace = slices.DeleteFunc(w.trace, func(s string) bool { return strings.HasPrefix(s, "announce") })
	w.wantConnects("[10.0.0.9:9901]") // not in a PEER-HEARTBEAT-CYCLE
	w.pass(4 * time.Second)
	if n := strings.Count(strings.Join(w.trace, "\n"), "announce presence"); n < 3 {
		t.Errorf("%d presences in 4 s, want one a second: some may get lost", n)
	}
	w.hears("10.0.0.2", presenceAt(greater, "10.0.0.2"))
	w.wantConnects("[10.0.0.2:9901]")
}

// TestStartOutlivesNetwork: if the network comes up while the registrar looks for
// others, it continues to look.
func TestStartOutlivesNetwork(t *testing.T) {
	w := newWorld(t, discovers)
	w.handle(Serving{ENRP: peers("127.0.0.1:9901")})
	w.pass(4 * time.Second)
	w.handle(Addresses{ENRP: peers("10.0.0.1:9901")})
	w.pass(4 * time.Second)
	if w.r.Ready() {
		t.Fatal("ready 4 s after the network")
	}
	for range 10 { // an address that comes and goes does not delay it forever
		w.handle(Addresses{ENRP: peers("10.0.0.1:9901", "10.0.0.2:9901")})
		w.handle(Addresses{ENRP: peers("10.0.0.1:9901")})
		w.pass(time.Second)
	}
	if !w.r.Ready() {
		t.Error("not ready")
	}
}

// TestOwnAnnounceComesBack: a message of this registrar with its former addresses does
// not count as another registrar's.
func TestOwnAnnounceComesBack(t *testing.T) {
	w := newWorld(t, discovers)
	w.handle(Serving{Addrs: peers("10.0.0.1:3863"), ENRP: peers("10.0.0.1:9901"), Announce: true})
	sent := w.handle(Tick{})
	w.handle(Addresses{Addrs: peers("10.0.0.5:3863"), ENRP: peers("10.0.0.5:9901")})
	w.handle(Tick{})
	w.trace, w.logs = nil, true
	for _, act := range sent {
		if a, ok := act.(Announce); ok {
			w.handle(Announced{From: netip.MustParseAddrPort("10.0.0.1:9901"), Data: a.Data, ENRP: a.ENRP})
		}
	}
	w.want()
	w.hears("10.0.0.7", presenceAt(testServer, "10.0.0.7"))
	w.want("log another registrar, at 10.0.0.7:9901, has this registrar's server identifier 10000001: change server_id on one of the two",
		"log registrar 10000001 is heard from 10.0.0.7: connecting to 10.0.0.7:9901", "connect #1 via 0 to [10.0.0.7:9901]")
}

// TestAddressesTold: peers get new addresses at once, and never those of a bridge.
func TestAddressesTold(t *testing.T) {
	w := newPeerWorld(t)
	w.meet(2, greater)
	w.handle(Addresses{Addrs: peers("10.0.0.1:3863"), ENRP: peers("10.0.0.1:9901"), Own: addrsOf("10.0.0.1", bridge)})
	w.want()
	acts := w.handle(Addresses{Addrs: peers("10.0.0.1:3863"), ENRP: peers("10.0.0.1:9901", "10.0.0.5:9901")})
	w.want("2 < presence ffff")
	m, _, err := enrp.Parse(acts[1].(*Send).Data)
	if p, ok := m.(*enrp.Presence); err != nil || !ok || !slices.Equal(p.Info.Transport.Addrs, addrsOf("10.0.0.1", "10.0.0.5")) {
		t.Errorf("told %v, %v", m, err)
	}
}

// TestLostAddress: after the loss of an address, the registrar connects again to peers
// that do not respond over the present link, before they take it over.
func TestLostAddress(t *testing.T) {
	w := newPeerWorld(t)
	w.meet(2, greater)
	w.meet(3, third)
	w.handle(Addresses{Addrs: peers("10.0.0.5:3863"), ENRP: peers("10.0.0.5:9901")})
	w.want("2 < presence ffff", "3 < presence ffff", "2 < presence to 20000002 R ffff", "3 < presence to 30000003 R ffff")
	w.tell(3, &enrp.Presence{Sender: third})
	w.pass(1250 * time.Millisecond)
	w.want("2 abort")
	w.down(2)
	w.wantConnects("[10.0.9.2:9901]")
	w.pass(time.Minute / 2)
	if w.r.peers.byID[third].link.id != 3 {
		t.Error("the peer that answers is called too")
	}
}

// TestPeerMoves: a peer connects from a new address before this registrar has noticed that
// the old link is dead. The new link is used in less than MAX-TIME-NO-RESPONSE.
func TestPeerMoves(t *testing.T) {
	w := newPeerWorld(t)
	w.meet(2, greater)
	w.tell(2, update(greater, enrp.AddPE, "a", peerElement(1, greater)))
	call := func(id AssocID) {
		w.handle(AssocUp{Assoc: id, Peer: peers("10.0.9.7:9901"), Via: rserpool.ViaKernel, ENRP: true})
		m := presenceAt(greater, "10.0.9.7")
		m.HasChecksum = false // no audit
		w.tell(id, m)
	}
	call(3)
	w.want("2 < presence to 20000002 R ffff", "3 close")
	w.down(3)
	w.pass(time.Second)
	call(4)
	w.want("4 close")
	w.down(4)
	w.pass(time.Second)
	call(6)
	w.want("2 abort")
	w.down(2)
	w.want()
	w.wantHomes("a:1@20000002")
	p := w.r.peers.byID[greater]
	if p.link == nil || p.link.id != 6 || p.state != PeerActive || p.conn.addrs[0] != netip.MustParseAddrPort("10.0.9.7:9901") {
		t.Errorf("peer is %v at %v", p.state, p.conn.addrs)
	}
}

// TestOwnAddressConfigured: all registrars have a virtual address configured as a peer.
// The registrar that has the address connects to itself once. When another registrar has
// the address, it connects to that one.
func TestOwnAddressConfigured(t *testing.T) {
	const virtual = "10.0.0.100"
	w := newWorld(t, func(c *Config) { c.Peers = peers(virtual + ":9901") })
	w.handle(Serving{ENRP: peers("10.0.0.1:9901"), Own: addrsOf("10.0.0.1", virtual)})
	w.wantConnects("[10.0.0.100:9901]")
	w.accepts(1, 2, virtual)
	w.handle(AssocUp{Assoc: 3, Peer: peers(virtual + ":9901"), Via: rserpool.ViaKernel, ENRP: true})
	w.trace, w.logs = nil, true
	w.tell(3, presenceAt(testServer, "10.0.0.1")) // our own presence on its other end
	w.tell(2, presenceAt(testServer, "10.0.0.1"))
	w.want("log a registrar at 10.0.0.100 has this registrar's server identifier 10000001: it cannot be a peer", "3 close", "2 close")
	w.down(2)
	w.down(3)
	w.pass(10 * time.Minute)
	w.want("log no peer has sent the handlespace: starting with an empty handlespace")
	w.handle(Addresses{ENRP: peers("10.0.0.1:9901"), Own: addrsOf("10.0.0.1")})
	w.pass(w.r.cfg.Timers.PeerHeartbeat)
	w.wantConnects("[10.0.0.100:9901]")
}

// TestPeerBehindNAT: a registrar in a container names its private address. This registrar
// connects to the address from which the other one has connected, and lists that address
// for its peers.
func TestPeerBehindNAT(t *testing.T) {
	w := newWorld(t)
	w.handle(Serving{ENRP: peers("10.0.0.1:9901")})
	w.handle(AssocUp{Assoc: 2, Peer: peers("192.0.2.9:9901"), Via: rserpool.ViaUDP, EncapPort: 9899, ENRP: true})
	w.tell(2, presenceAt(greater, "172.17.0.2"))
	w.skip("list_request", "presence")
	w.down(2)
	w.wantConnects("[192.0.2.9:9901 172.17.0.2:9901]")
}
