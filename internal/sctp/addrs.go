package sctp

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// addrsLife is how long the machine's addresses are taken as known.
const addrsLife = 5 * time.Second

// machineAddrs gives the machine's addresses, asking the system only now and
// then. The zero value is ready; any goroutine may use it.
type machineAddrs struct {
	mu    sync.Mutex
	asked time.Time
	addrs []netip.Addr
}

// list gives the addresses, others before loopback ones, without link-local
// IPv6 ones: they mean nothing without an interface, which SCTP cannot say.
func (m *machineAddrs) list() []netip.Addr {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.addrs != nil && time.Since(m.asked) < addrsLife {
		return m.addrs
	}
	ifaddrs, err := net.InterfaceAddrs()
	if err != nil && m.addrs != nil {
		return m.addrs
	}
	var addrs []netip.Addr
	for _, ia := range ifaddrs {
		n, ok := ia.(*net.IPNet)
		if !ok {
			continue
		}
		if a, ok := netip.AddrFromSlice(n.IP); ok && !a.IsLinkLocalUnicast() && !a.IsMulticast() {
			addrs = append(addrs, a.Unmap())
		}
	}
	slices.SortStableFunc(addrs, func(a, b netip.Addr) int { return loopbackLast(a) - loopbackLast(b) })
	m.addrs, m.asked = addrs, time.Now()
	return addrs
}

func loopbackLast(a netip.Addr) int {
	if a.IsLoopback() {
		return 1
	}
	return 0
}

// expand replaces unspecified addresses by the machine's of their family.
func expand(bound, machine []netip.Addr) []netip.Addr {
	var out []netip.Addr
	for _, b := range bound {
		if !b.IsUnspecified() {
			out = append(out, b)
			continue
		}
		for _, a := range machine {
			if a.Is4() == b.Is4() && !slices.Contains(out, a) {
				out = append(out, a)
			}
		}
	}
	return out
}

// inScope says whether an address that one side has is of use to the other,
// whose address is far: loopback addresses are for those on the same machine.
func inScope(a, far netip.Addr) bool { return !a.IsLoopback() || far.IsLoopback() }

// bindAddrs reads a ListenConfig: the addresses, :: split into both families,
// and the port.
func bindAddrs(cfg ListenConfig) (addrs []netip.Addr, port uint16, both bool, err error) {
	list := cfg.Addrs
	if len(list) == 0 {
		list = []netip.AddrPort{netip.AddrPortFrom(netip.IPv6Unspecified(), 0)}
	}
	port = list[0].Port()
	for _, ap := range list {
		a := ap.Addr().Unmap()
		if !a.IsValid() || a.IsMulticast() || ap.Port() != port {
			return nil, 0, false, &net.AddrError{Err: "addresses to listen on must be unicast and have one port", Addr: ap.String()}
		}
		if !slices.Contains(addrs, a) {
			addrs = append(addrs, a)
		}
		if a == netip.IPv6Unspecified() {
			both = true
		}
	}
	if both && !slices.Contains(addrs, netip.IPv4Unspecified()) {
		addrs = append(addrs, netip.IPv4Unspecified())
	}
	return addrs, port, both, nil
}
