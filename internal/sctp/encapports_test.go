package sctp

import (
	"net/netip"
	"testing"
)

// TestEncapPorts checks what is remembered of whom.
func TestEncapPorts(t *testing.T) {
	var e EncapPorts
	peer := func(i int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 3863)
	}
	if p := e.Port(peer(1)); p != EncapPort {
		t.Errorf("Got port %d for one not heard of, want %d", p, EncapPort)
	}
	e.Learn(peer(1), 1000)
	e.Learn(peer(1), 3000)
	if p := e.Port(peer(1)); p != 3000 {
		t.Errorf("Got port %d, want 3000, the last heard", p)
	}
	for i := range maxEncapPorts + 10 {
		e.Learn(peer(i+2), 5000)
	}
	if len(e.ports) != maxEncapPorts || e.order.Len() != maxEncapPorts {
		t.Errorf("Got %d remembered, want %d", len(e.ports), maxEncapPorts)
	}
	if p := e.Port(peer(1)); p != EncapPort {
		t.Errorf("Got port %d of the one to be forgotten first", p)
	}
}
