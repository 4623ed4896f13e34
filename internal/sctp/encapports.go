package sctp

import (
	"container/list"
	"net/netip"
	"sync"
)

// maxEncapPorts bounds the peers whose UDP port is remembered.
const maxEncapPorts = 1 << 16

// EncapPorts remembers the UDP port that an SCTP endpoint was last heard from
// (RFC 6951, Section 4), also after its associations have ended: that is when
// one wants to call it. The least recently heard are forgotten first. It may
// be used from any goroutine; the zero value is ready.
type EncapPorts struct {
	mu    sync.Mutex
	ports map[netip.AddrPort]*list.Element // by IP address and SCTP port
	order list.List                        // of encapPort, latest first
}

type encapPort struct {
	peer netip.AddrPort
	udp  uint16
}

// Learn remembers a UDP port. Only a packet that has shown its verification
// tag or cookie may teach; heard says that it came from this very address,
// while an address that the peer merely claims does not replace what is known.
func (e *EncapPorts) Learn(peer netip.AddrPort, udp uint16, heard bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if el, ok := e.ports[peer]; ok {
		if heard {
			el.Value = encapPort{peer, udp}
			e.order.MoveToFront(el)
		}
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

// Port is the UDP port to call a peer at.
func (e *EncapPorts) Port(peer netip.AddrPort) uint16 {
	e.mu.Lock()
	defer e.mu.Unlock()
	if el, ok := e.ports[peer]; ok {
		return el.Value.(encapPort).udp
	}
	return EncapPort
}
