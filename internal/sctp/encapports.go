package sctp

import (
	"container/list"
	"net/netip"
	"sync"
)

// maxEncapPorts bounds the number of peers whose UDP port is remembered.
const maxEncapPorts = 1 << 16

// EncapPorts remembers the UDP ports that SCTP endpoints last sent from (RFC 6951,
// Section 4). They are needed to connect to an endpoint whose association has ended.
// The least recently used are forgotten first. Any goroutine may use it; the zero
// value is ready.
type EncapPorts struct {
	mu    sync.Mutex
	ports map[netip.AddrPort]*list.Element // by IP address and SCTP port
	order list.List                        // of encapPort, latest first
}

type encapPort struct {
	peer netip.AddrPort
	udp  uint16
}

// Learn remembers a UDP port. The caller has checked the packet's verification tag
// or cookie, and that the address is confirmed (RFC 9260, Section 5.4).
func (e *EncapPorts) Learn(peer netip.AddrPort, udp uint16) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if el, ok := e.ports[peer]; ok {
		el.Value = encapPort{peer, udp}
		e.order.MoveToFront(el)
		return
	}
	if e.ports == nil {
		e.ports = make(map[netip.AddrPort]*list.Element)
	}
	e.ports[peer] = e.order.PushFront(encapPort{peer, udp})
	if len(e.ports) > maxEncapPorts {
		old := e.order.Back()
		delete(e.ports, old.Value.(encapPort).peer)
		e.order.Remove(old)
	}
}

// Port returns the UDP port to send to a peer at, 9899 if none is known.
func (e *EncapPorts) Port(peer netip.AddrPort) uint16 {
	e.mu.Lock()
	defer e.mu.Unlock()
	if el, ok := e.ports[peer]; ok {
		return el.Value.(encapPort).udp
	}
	return EncapPort
}
