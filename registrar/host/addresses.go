package host

import (
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/registrar"
)

// lookEvery is how often the machine's addresses are read, which takes a tenth of a
// millisecond. Only some systems send events for a change.
const lookEvery = 2 * time.Second

// places are the addresses at which the registrar serves now.
type places struct {
	asap, enrp []netip.AddrPort
	own        []netip.Addr
	machine    []netip.Addr
}

// look reads where the registrar serves.
func (l *loop) look() places {
	p := places{asap: l.ep.LocalAddrs(), machine: machineAddrs()}
	if l.enrp != nil {
		p.enrp, p.own = l.enrp.LocalAddrs(), ownAddrs(l.h.cfg.ENRP, p.machine)
	}
	return p
}

// ownAddrs are the addresses at which an endpoint bound to these accepts associations, on
// a machine with these addresses.
func ownAddrs(bound []netip.AddrPort, machine []netip.Addr) []netip.Addr {
	var own []netip.Addr
	for _, b := range bound {
		a := b.Addr().Unmap()
		if !a.IsUnspecified() {
			own = append(own, a)
			continue
		}
		for _, m := range machine {
			if (m.Is4() || a.Is6()) && !slices.Contains(own, m) { // [::] stands for both families
				own = append(own, m)
			}
		}
	}
	return own
}

// machineAddrs are all addresses of the machine.
func machineAddrs() []netip.Addr {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var addrs []netip.Addr
	for _, ia := range list {
		if n, ok := ia.(*net.IPNet); ok {
			if a, ok := netip.AddrFromSlice(n.IP); ok {
				addrs = append(addrs, a.Unmap())
			}
		}
	}
	return addrs
}

// lookAgain tells the registrar where it serves if that has changed, and joins the
// multicast groups on new interfaces.
func (l *loop) lookAgain(now time.Time) {
	l.looked = now
	p := l.look()
	if len(p.asap) == 0 || slices.Equal(p.asap, l.places.asap) && slices.Equal(p.enrp, l.places.enrp) && slices.Equal(p.own, l.places.own) &&
		slices.Equal(p.machine, l.places.machine) {
		return
	}
	l.setPlaces(p)
	for _, g := range l.groups {
		g.Changed()
	}
	l.handle(registrar.Addresses{Addrs: p.asap, ENRP: p.enrp, Own: p.own, Machine: p.machine})
}

func (l *loop) setPlaces(p places) {
	l.places = p
	l.h.local.Store(&p.asap)
	l.h.enrp.Store(&p.enrp)
}
