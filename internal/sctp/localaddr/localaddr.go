package localaddr

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Reachable are the addresses of this machine that other machines can
// reach, as far as the machine itself can tell. It is empty where there is no
// network. An address counts if
//
//   - the system uses it as the source of packets to the Internet, whatever
//     interface it is on: there is a default route by it; or
//   - its interface leads to a network: any but the loopback interface, dummy
//     interfaces, and bridges that have no ports, or only ports to containers
//     and virtual machines of this machine (docker0, virbr0, cni0). A bridge
//     with a network card, a VLAN or a bond among its ports leads to a network.
//
// The addresses of such bridges and dummies are the same on many machines: a
// peer that is told of one finds itself there, or somebody else. Left out are
// link-local addresses too, and all that do not last or are not the machine's
// own: temporary, tentative and deprecated IPv6 addresses, and further IPv4
// addresses in a network that the interface has an address in, such as the
// virtual address of a redundancy protocol.
//
// Those with a default route come first. The list is read anew in each call,
// which takes a tenth of a millisecond.
func Reachable() []netip.Addr {
	s, err := Read()
	if err != nil {
		return nil
	}
	return s.Offered
}

// Source is the address of this machine from which packets to another
// address leave, by the routes as they are now. Of several IPv6 addresses it
// prefers a stable one to a temporary one (RFC 5014). It fails where there is
// no route.
func Source(to netip.Addr) (netip.Addr, error) { return sourceAddr(to.Unmap()) }

// netLink is a network interface.
type netLink struct {
	index, master int // master is the index of the bridge, bond or the like that it belongs to
	name          string
	kind          string // as of `ip -d link`; empty for network cards
	up, loopback  bool
}

// netAddr is an address of an interface, with its prefix length.
type netAddr struct {
	link   int
	prefix netip.Prefix
	// secondary says: of IPv4, that an earlier address is in the same network;
	// of IPv6, that it is a temporary one.
	secondary  bool
	tentative  bool // not known to be unique yet, or known not to be
	deprecated bool
}

// State is what a machine's addresses are good for.
type State struct {
	Offered  []netip.Addr // Reachable
	Loopback []netip.Addr
	Other    []LeftOut
}

// LeftOut is an address that is not offered.
type LeftOut struct {
	Addr netip.Addr
	Why  string
}

// Own says whether an address is one of the machine's.
func (s *State) Own(a netip.Addr) bool {
	return a.IsLoopback() || slices.Contains(s.Offered, a) ||
		slices.ContainsFunc(s.Other, func(o LeftOut) bool { return o.Addr == a })
}

// sortAddrs sorts a machine's addresses by their use; world are the sources of
// packets to the Internet.
func sortAddrs(links []netLink, addrs []netAddr, world []netip.Addr) State {
	var s State
	byIndex := map[int]netLink{}
	for _, l := range links {
		byIndex[l.index] = l
	}
	for _, a := range addrs {
		ip, link := a.prefix.Addr(), byIndex[a.link]
		switch why := unfit(a, link, links, addrs, slices.Contains(world, ip)); {
		case ip.IsMulticast() || slices.Contains(s.Offered, ip):
		case ip.IsLoopback():
			s.Loopback = append(s.Loopback, ip)
		case why != "":
			s.Other = append(s.Other, LeftOut{ip, why})
		default:
			s.Offered = append(s.Offered, ip)
		}
	}
	slices.SortStableFunc(s.Offered, func(a, b netip.Addr) int { return worldLast(world, b) - worldLast(world, a) })
	return s
}

func worldLast(world []netip.Addr, a netip.Addr) int {
	if slices.Contains(world, a) {
		return 1
	}
	return 0
}

// unfit says why an address is of no use to other machines; empty if it is.
func unfit(a netAddr, link netLink, links []netLink, addrs []netAddr, world bool) string {
	ip := a.prefix.Addr()
	switch {
	case !link.up:
		return link.name + " is down"
	case ip.IsLinkLocalUnicast():
		return "link-local"
	case a.tentative:
		return "not known to be unique"
	case a.deprecated:
		return "deprecated"
	case ip.Is6() && a.secondary:
		return "temporary"
	case world:
		return ""
	case a.secondary || ip.Is4() && hasNetwork(a, addrs):
		return "a further address in its network"
	case link.loopback:
		return "on the loopback interface"
	case link.kind == "bridge" && !hasUplink(link, links):
		return link.name + " is a bridge without an uplink"
	case isDummy(link.kind):
		return link.name + " leads to no network"
	}
	return ""
}

// hasNetwork says whether an address of a single one (/32) is in the network
// of another address of its interface.
func hasNetwork(a netAddr, addrs []netAddr) bool {
	return a.prefix.IsSingleIP() && slices.ContainsFunc(addrs, func(b netAddr) bool {
		return b.link == a.link && !b.prefix.IsSingleIP() && b.prefix.Contains(a.prefix.Addr())
	})
}

// hasUplink says whether a bridge has a port that leads out of the machine.
func hasUplink(bridge netLink, links []netLink) bool {
	return slices.ContainsFunc(links, func(l netLink) bool {
		return l.master == bridge.index && l.kind != "veth" && l.kind != "tun" && !isDummy(l.kind)
	})
}

func isDummy(kind string) bool { return kind == "dummy" || kind == "ifb" || kind == "nlmon" }

// Life is how long the machine's addresses are taken as known.
const Life = 5 * time.Second

// View gives the machine's addresses, asking the system only now and then,
// and logs which are offered when that changes. Any goroutine may use it.
type View struct {
	Read   func() (State, error)                // Read but in tests
	Source func(netip.Addr) (netip.Addr, error) // Source but in tests
	Logf   func(string, ...any)
	// Inside runs a function in the endpoint's network namespace, which is that
	// of the process but in tests.
	Inside func(func())

	mu    sync.Mutex
	asked time.Time
	state State
	err   error // of the last read
	told  string
}

func New(logf func(string, ...any)) *View {
	return &View{Read: Read, Source: Source, Logf: logf, Inside: func(f func()) { f() }}
}

// Now gives the addresses as of some seconds ago.
func (m *View) Now() State {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.asked.IsZero() && time.Since(m.asked) < Life {
		return m.state
	}
	if s, err := m.Read(); err == nil {
		m.state, m.err = s, nil
	} else {
		m.err = err
	}
	m.asked = time.Now()
	return m.state
}

// List gives the addresses to offer, and after them the loopback ones, and logs
// which they are.
func (m *View) List() []netip.Addr {
	s := m.Now()
	m.mu.Lock()
	if m.err != nil {
		m.tell(fmt.Sprintf("sctp: the addresses of this machine cannot be read: %v", m.err))
	} else {
		m.tell(s.String())
	}
	m.mu.Unlock()
	return append(slices.Clone(s.Offered), s.Loopback...)
}

// Expand replaces unspecified addresses by the machine's of their family.
func (m *View) Expand(bound []netip.Addr) []netip.Addr {
	if !slices.ContainsFunc(bound, netip.Addr.IsUnspecified) {
		return bound
	}
	machine := m.List()
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

// tell logs what is new. m.mu is held.
func (m *View) tell(text string) {
	if text != m.told {
		m.told = text
		m.Logf("%s", text)
	}
}

// String says which addresses are offered and which are not, in one line.
func (s State) String() string {
	var b strings.Builder
	switch {
	case len(s.Offered) > 0:
		b.WriteString("sctp: no address is named, so peers are told of ")
	case len(s.Other) > 0:
		b.WriteString("sctp: this machine has no address that other machines can use: they cannot connect to it")
	default:
		b.WriteString("sctp: this machine has only loopback addresses: other machines cannot connect to it")
	}
	for i, a := range s.Offered {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(a.String())
	}
	for i, o := range s.notable() {
		if i == 0 {
			b.WriteString("; name the addresses to listen on to use one of ")
		} else {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%v (%s)", o.Addr, o.Why)
	}
	return b.String()
}

// notable are the addresses left out that somebody might miss: not link-local,
// deprecated and temporary ones, which come and go.
func (s State) notable() []LeftOut {
	return slices.DeleteFunc(slices.Clone(s.Other), func(o LeftOut) bool {
		return o.Addr.IsLinkLocalUnicast() || o.Addr.Is6() && (o.Why == "temporary" || o.Why == "deprecated")
	})
}

// dialedFrom connects a UDP socket to an address and gives its own address.
func dialedFrom(d *net.Dialer, to netip.Addr) (netip.Addr, error) {
	c, err := d.Dial("udp", netip.AddrPortFrom(to, 9).String())
	if err != nil {
		return netip.Addr{}, noRoute(to, err)
	}
	defer c.Close()
	local := c.LocalAddr().(*net.UDPAddr).AddrPort().Addr()
	return local.Unmap(), nil
}

// RouteError says that this machine cannot send packets to an address.
type RouteError struct {
	why string
	err error
}

func (e *RouteError) Error() string { return e.why }

// Unwrap gives the system's error.
func (e *RouteError) Unwrap() error { return e.err }

// noRoute is the error for an address that no packet can be sent to. The port
// that was dialed says nothing to the user, so only the system's reason is told.
func noRoute(to netip.Addr, err error) error {
	why := fmt.Sprintf("no route to %v", to)
	var errno syscall.Errno
	switch zone := to.Zone(); {
	case zone != "" && !hasInterface(zone):
		why = "this machine has no interface " + zone
	case zone == "" && to.Is6() && to.IsLinkLocalUnicast():
		why += fmt.Sprintf(": name the interface of a link-local address, as in %v%%eth0", to)
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH):
	case errors.As(err, &errno):
		why += ": " + errno.Error()
	default:
		why += ": " + err.Error()
	}
	return &RouteError{why, err}
}

// hasInterface says whether a zone is the name or the number of an interface.
func hasInterface(zone string) bool {
	if n, err := strconv.Atoi(zone); err == nil {
		_, err = net.InterfaceByIndex(n)
		return err == nil
	}
	_, err := net.InterfaceByName(zone)
	return err == nil
}

// Foreign returns a peer's addresses without those that this machine has too,
// reachable or not: packets to those do not leave this machine. If all of them are
// this machine's, the peer runs on this machine, and all are returned.
func (s *State) Foreign(peer []netip.AddrPort) []netip.AddrPort {
	if !slices.ContainsFunc(peer, func(ap netip.AddrPort) bool { return !s.Own(ap.Addr().Unmap()) }) {
		return peer
	}
	return slices.DeleteFunc(slices.Clone(peer), func(ap netip.AddrPort) bool { return s.Own(ap.Addr().Unmap()) })
}
