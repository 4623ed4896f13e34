package registrar

import (
	"encoding/hex"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/internal/tlv"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// upUDP establishes an association of SCTP in UDP, whose packets come from the first
// address.
func (w *world) upUDP(id AssocID, translated bool, addrs ...string) {
	w.t.Helper()
	w.handle(AssocUp{Assoc: id, Peer: peers(addrs...), Via: rserpool.ViaUDP, EncapPort: 31000, Translated: translated})
}

func at(addrs ...string) func(*rserpool.PoolElement) {
	return func(e *rserpool.PoolElement) { e.UserTransport.Addrs = addrsOf(addrs...) }
}

// user is the user transport of an element.
func (w *world) user(h string, id uint32) rserpool.Transport {
	w.t.Helper()
	e := w.r.find(rserpool.PoolHandle(h), rserpool.PEID(id))
	if e == nil {
		w.t.Fatalf("no element %s:%x", h, id)
	}
	return e.PE().UserTransport
}

// TestBehindNAT: which addresses of an element over SCTP in UDP are registered, and
// whether the element is told that they are different.
func TestBehindNAT(t *testing.T) {
	for _, tt := range []struct {
		name       string
		peer       []string // where it is seen, and what it lists
		translated bool
		m          *asap.Registration
		want       []netip.Addr // nil: refused
		told       bool
	}{
		{"container that lists nothing", []string{"192.0.2.9"}, false, reg("p", 1, "172.17.0.2"), addrsOf("192.0.2.9"), true},
		{"container that lists all", []string{"192.0.2.9", "172.17.0.2", "fd00::2"}, true, reg("p", 1, "172.17.0.2"), addrsOf("192.0.2.9"), true},
		{"two addresses offered", []string{"192.0.2.9", "172.17.0.2", "fd00::2"}, true, reg("p", 1, "172.17.0.2", userSCTP(0), at("172.17.0.2", "fd00::2")), addrsOf("192.0.2.9"), true},
		{"offers where it is seen", []string{"192.0.2.9", "172.17.0.2"}, true, reg("p", 1, "192.0.2.9"), addrsOf("192.0.2.9"), false},
		{"several real addresses", []string{"192.0.2.9", "198.51.100.9"}, false, reg("p", 1, "192.0.2.9", userSCTP(0), at("198.51.100.9", "192.0.2.9")), addrsOf("198.51.100.9", "192.0.2.9"), false},
		{"the second of two real addresses", []string{"192.0.2.9", "198.51.100.9"}, false, reg("p", 1, "198.51.100.9"), addrsOf("198.51.100.9"), false},
		{"its own beside another one", []string{"192.0.2.9"}, false, reg("p", 1, "192.0.2.9", userSCTP(0), at("192.0.2.9", "172.17.0.2")), nil, false},
		{"loopback offered", []string{"192.0.2.9"}, false, reg("p", 1, "127.0.0.1"), nil, false},
		{"none offered", []string{"192.0.2.9"}, false, reg("p", 1, "0.0.0.0"), nil, false},
		{"multicast offered", []string{"192.0.2.9"}, false, reg("p", 1, "224.0.0.1"), nil, false},
		{"another family", []string{"192.0.2.9"}, false, reg("p", 1, "fd00::2"), nil, false},
		{"seen on the loopback", []string{"127.0.0.1"}, false, reg("p", 1, "172.17.0.2"), nil, false},
		{"seen link-local", []string{"fe80::1"}, false, reg("p", 1, "fd00::2"), nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.upUDP(1, tt.translated, tt.peer...)
			offered := tt.m.Element.UserTransport.Clone()
			acts := w.handle(Received{Assoc: 1, PPID: asap.PPID, Data: encode(t, tt.m)})
			if tt.want == nil {
				info := tlvOf(t, offered)
				w.want("1 < registration rejected p:1 cause 3(" + info + ")")
				return
			}
			registered := offered.Clone()
			registered.Addrs = tt.want
			want := "1 < registration granted p:1"
			if tt.told {
				want += " cause 3(" + tlvOf(t, offered) + tlvOf(t, registered) + ")"
			}
			w.want(want)
			if got := w.user("p", 1); !got.Equal(registered) {
				t.Errorf("registered is %v, want %v", got, registered)
			}
			logged := false
			for _, a := range acts {
				l, ok := a.(Log)
				logged = logged || ok && l.Text == `pool element 00000001 of pool "p" is registered at the address that its packets come from: it offers `+addrsText(offered.Addrs)+", and its packets come from 192.0.2.9"
			}
			if logged != tt.told {
				t.Errorf("logged %v, want %v: %v", logged, tt.told, acts)
			}
		})
	}
}

func tlvOf(t *testing.T, tr rserpool.Transport) string {
	t.Helper()
	b, err := tlv.AppendTransport(nil, &tr)
	if err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(b)
}

// TestBehindNATCalled: this registrar, and the one that takes it over, probe an element
// behind a NAT at the address that its packets come from. Nobody gets its private
// addresses.
func TestBehindNATCalled(t *testing.T) {
	w := newWorld(t)
	w.handle(Serving{Addrs: peers("10.0.0.1:3863"), ENRP: peers("10.0.0.1:9901")})
	w.meet(9, greater)
	w.upUDP(1, true, "192.0.2.9:5000", "172.17.0.2:5000")
	w.want()
	data := encode(t, reg("p", 1, "172.17.0.2", asapAt(5000, "172.17.0.2")))
	for _, act := range w.handle(Received{Assoc: 1, PPID: asap.PPID, Data: data}) {
		s, ok := act.(*Send)
		if !ok || s.Assoc != 9 {
			continue
		}
		m, _, err := enrp.Parse(s.Data)
		if err != nil {
			t.Fatal(err)
		}
		e := m.(*enrp.HandleUpdate).Element
		for _, tr := range []rserpool.Transport{e.UserTransport, e.ASAPTransport} {
			if len(tr.Addrs) != 1 || tr.Addrs[0] != netip.MustParseAddr("192.0.2.9") {
				t.Errorf("the peer is told %v", tr)
			}
		}
		if e.ASAPTransport.Port != 5000 || e.EncapPort != 31000 {
			t.Errorf("the peer is told port %d in UDP %d", e.ASAPTransport.Port, e.EncapPort)
		}
	}
	w.skip("registration granted", "handle_update ADD_PE")
	w.down(1)
	w.want("connect #1 via 2 to [192.0.2.9:5000]")
}

// TestBehindNATKernel: SCTP without UDP gets no such treatment, because no association
// could be opened in the other direction.
func TestBehindNATKernel(t *testing.T) {
	w := newWorld(t)
	w.up(1, rserpool.ViaKernel, "192.0.2.9")
	w.logs = true
	w.recv(1, reg("p", 1, "172.17.0.2"))
	w.want(`log registration of pool element 00000001 in pool "p" by 192.0.2.9 is refused: invalid values: it offers 172.17.0.2, and its packets come from 192.0.2.9`,
		"1 < registration rejected p:1 cause 3("+tlvOf(t, reg("p", 1, "172.17.0.2").Element.UserTransport)+")")
	// The kernel's own SCTP in UDP is SCTP in UDP.
	w.logs = false
	w.handle(AssocUp{Assoc: 2, Peer: peers("192.0.2.8"), Via: rserpool.ViaKernel, EncapPort: 9899})
	w.recv(2, reg("p", 2, "172.17.0.2"))
	if got := w.user("p", 2); got.Addrs[0] != netip.MustParseAddr("192.0.2.8") {
		t.Errorf("registered is %v", got)
	}
}

// TestNATAppears: if the packets of an association come from another address later, it
// keeps its elements, and registers no others.
func TestNATAppears(t *testing.T) {
	w := newWorld(t)
	w.upUDP(1, false, "192.0.2.9", "198.51.100.9")
	w.recv(1, reg("p", 1, "198.51.100.9"))
	w.handle(AssocAddrs{Assoc: 1, Peer: peers("203.0.113.1", "192.0.2.9", "198.51.100.9"), Translated: true})
	w.skip("registration granted")
	w.recv(1, reg("p", 1, "198.51.100.9"))
	if got := w.user("p", 1); got.Addrs[0] != netip.MustParseAddr("203.0.113.1") {
		t.Errorf("registered is %v, want the address that it is seen at", got)
	}
	w.pass(time.Second)
}

// TestSharedAddressElement: an element names docker0's address beside its own. This
// machine has docker0, too, so only the other address counts as the element's.
func TestSharedAddressElement(t *testing.T) {
	both := addrsOf("10.0.0.5", bridge)
	for _, tt := range []struct {
		name string
		peer []string
		m    *asap.Registration
		want []netip.Addr // nil: refused
	}{
		{"told by the transport", []string{"10.0.0.5", bridge}, reg("p", 1, "10.0.0.5", userSCTP(0), at("10.0.0.5", bridge)), both[:1]},
		{"left out by the transport", []string{"10.0.0.5"}, reg("p", 1, "10.0.0.5", userSCTP(0), at(bridge, "10.0.0.5"), asapAt(40000, bridge, "10.0.0.5")), both[:1]},
		{"nothing else", []string{"10.0.0.5", bridge}, reg("p", 1, bridge), nil},
		{"on this machine", []string{"10.0.0.1", bridge}, reg("p", 1, "10.0.0.1", userSCTP(0), at("10.0.0.1", bridge)), addrsOf("10.0.0.1", bridge)},
		{"over the loopback", []string{"127.0.0.1", bridge}, reg("p", 1, bridge), addrsOf(bridge)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.handle(Serving{Addrs: peers("10.0.0.1:3863"), Machine: addrsOf("127.0.0.1", "10.0.0.1", bridge)})
			w.up(1, rserpool.ViaKernel, tt.peer...)
			w.recv(1, tt.m)
			if tt.want == nil {
				w.want("1 < registration rejected p:1 cause 3(" + tlvOf(t, tt.m.Element.UserTransport) + ")")
				return
			}
			w.want("1 < registration granted p:1")
			if got := w.user("p", 1).Addrs; !slices.Equal(got, tt.want) {
				t.Errorf("registered at %v, want %v", got, tt.want)
			}
			// A process of this machine is not the element's host by docker0.
			w.up(2, rserpool.ViaKernel, bridge+":999")
			w.recv(2, dereg("p", 1))
			if got, remote := w.trace[0], tt.peer[0] == "10.0.0.5"; remote && got != "2 < deregistration p:1 cause a" {
				t.Errorf("a process at docker0 deregisters the element: %s", got)
			}
		})
	}
}

// TestSharedAddressForeign: a peer's element names docker0's address beside its own. A
// process of this machine, which has docker0, too, is not on its host for that reason,
// and is not asked in its place.
func TestSharedAddressForeign(t *testing.T) {
	begin := func(t *testing.T, addrs ...string) *world {
		w := newPeerWorld(t)
		w.handle(Addresses{Addrs: peers("10.0.0.1:3863"), ENRP: peers("10.0.0.1:9901"), Machine: addrsOf("127.0.0.1", "10.0.0.1", bridge)})
		w.meet(2, greater)
		e := peerElement(1, greater)
		e.ASAPTransport.Addrs = addrsOf(addrs...)
		e.UserTransport = rserpool.Transport{Type: rserpool.SCTP, Port: 7, Addrs: e.ASAPTransport.Addrs}
		w.tell(2, update(greater, enrp.AddPE, "p", e))
		w.up(1, rserpool.ViaKernel, bridge) // from the element's ASAP port even
		w.want()
		return w
	}
	const ask = "2 < handle_update to 20000002 ADD_PE p:1@20000002"
	t.Run("registration", func(t *testing.T) {
		w := begin(t, "10.0.1.1", bridge)
		w.recv(1, reg("p", 1, bridge, userSCTP(0)))
		w.want(ask)
		w.wantHomes("p:1@20000002")
	})
	t.Run("deregistration", func(t *testing.T) {
		w := begin(t, "10.0.1.1", bridge)
		w.recv(1, dereg("p", 1))
		w.want("1" + refusedDereg)
		w.wantHomes("p:1@20000002")
	})
	t.Run("taken over", func(t *testing.T) {
		w := begin(t, bridge, "10.0.1.1")
		w.down(2)
		w.handle(Connecting{Ref: 1})
		w.pass(5*time.Second + time.Millisecond)
		if got, want := w.trace[len(w.trace)-1], "connect #3 via 0 to [10.0.1.1:40000]"; got != want {
			t.Fatalf("got %q, want %q last", w.trace, want)
		}
		w.skip("connect")
		w.recv(1, dereg("p", 1))
		w.want("1" + refusedDereg)
	})
	t.Run("on this machine", func(t *testing.T) {
		w := begin(t, "10.0.0.1", bridge)
		w.recv(1, reg("p", 1, bridge, userSCTP(0)))
		w.want("2 < handle_update ADD_PE p:1@10000001", "1 < registration granted p:1")
	})
}

// TestBehindOneNAT: two elements are behind one NAT and have the same SCTP port. Their
// UDP ports distinguish them.
func TestBehindOneNAT(t *testing.T) {
	w := newWorld(t)
	for i, id := range []AssocID{1, 2} {
		w.handle(AssocUp{Assoc: id, Peer: peers("192.0.2.1:3863"), Via: rserpool.ViaUDP, EncapPort: uint16(5001 + i)})
		w.recv(id, reg("p", uint32(id), "192.0.2.1"))
	}
	w.skip("registration granted")
	w.down(1)
	w.want("connect #1 via 2 to [192.0.2.1:3863] in UDP 5001") // not a keep-alive to the other one
	w.handle(AssocUp{Assoc: 3, Peer: peers("192.0.2.1:3863"), Via: rserpool.ViaUDP, EncapPort: 5001})
	w.handle(AssocUp{Assoc: 4, Peer: peers("192.0.2.1:3863"), Via: rserpool.ViaUDP, EncapPort: 5003})
	w.handle(Connecting{Ref: 1}) // it has called at the same time
	w.want("3 < keep-alive p:1 from 10000001")
	w.recv(3, ack("p", 1))
	w.wantElements("p:1", "p:2")
}
