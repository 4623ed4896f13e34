package sctp

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

// ReachableAddrs are the addresses of this machine that other machines can
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
func ReachableAddrs() []netip.Addr {
	s, err := readMachine()
	if err != nil {
		return nil
	}
	return s.offered
}

// SourceAddr is the address of this machine from which packets to another
// address leave, by the routes as they are now. Of several IPv6 addresses it
// prefers a stable one to a temporary one (RFC 5014). It fails where there is
// no route.
func SourceAddr(to netip.Addr) (netip.Addr, error) { return sourceAddr(to.Unmap()) }

// ForeignAddrs are a peer's addresses without those that this machine has too,
// be they reachable or not: they do not lead to another machine. If all are
// this machine's, so is the peer, and all are given.
func ForeignAddrs(addrs []netip.Addr) []netip.Addr {
	s, err := readMachine()
	if err != nil {
		return addrs
	}
	return s.foreign(addrs)
}

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

// machineState is what a machine's addresses are good for.
type machineState struct {
	offered  []netip.Addr // ReachableAddrs
	loopback []netip.Addr
	other    []leftOut
}

// leftOut is an address that is not offered.
type leftOut struct {
	addr netip.Addr
	why  string
}

// own says whether an address is one of the machine's.
func (s *machineState) own(a netip.Addr) bool {
	return a.IsLoopback() || slices.Contains(s.offered, a) ||
		slices.ContainsFunc(s.other, func(o leftOut) bool { return o.addr == a })
}

// sortAddrs sorts a machine's addresses by their use; world are the sources of
// packets to the Internet.
func sortAddrs(links []netLink, addrs []netAddr, world []netip.Addr) machineState {
	var s machineState
	byIndex := map[int]netLink{}
	for _, l := range links {
		byIndex[l.index] = l
	}
	for _, a := range addrs {
		ip, link := a.prefix.Addr(), byIndex[a.link]
		switch why := unfit(a, link, links, addrs, slices.Contains(world, ip)); {
		case ip.IsMulticast() || slices.Contains(s.offered, ip):
		case ip.IsLoopback():
			s.loopback = append(s.loopback, ip)
		case why != "":
			s.other = append(s.other, leftOut{ip, why})
		default:
			s.offered = append(s.offered, ip)
		}
	}
	slices.SortStableFunc(s.offered, func(a, b netip.Addr) int { return worldLast(world, b) - worldLast(world, a) })
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

// machineLife is how long the machine's addresses are taken as known.
const machineLife = 5 * time.Second

// machine gives the machine's addresses, asking the system only now and then,
// and logs which are offered when that changes. Any goroutine may use it.
type machine struct {
	read   func() (machineState, error)         // readMachine but in tests
	source func(netip.Addr) (netip.Addr, error) // SourceAddr but in tests
	logf   func(string, ...any)
	// inside runs a function in the endpoint's network namespace, which is that
	// of the process but in tests.
	inside func(func())

	mu    sync.Mutex
	asked time.Time
	state machineState
	err   error // of the last read
	told  string
}

func newMachine(logf func(string, ...any)) *machine {
	return &machine{read: readMachine, source: SourceAddr, logf: logf, inside: func(f func()) { f() }}
}

// now gives the addresses as of some seconds ago.
func (m *machine) now() machineState {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.asked.IsZero() && time.Since(m.asked) < machineLife {
		return m.state
	}
	if s, err := m.read(); err == nil {
		m.state, m.err = s, nil
	} else {
		m.err = err
	}
	m.asked = time.Now()
	return m.state
}

// list gives the addresses to offer, and after them the loopback ones, and logs
// which they are.
func (m *machine) list() []netip.Addr {
	s := m.now()
	m.mu.Lock()
	if m.err != nil {
		m.tell(fmt.Sprintf("sctp: the addresses of this machine cannot be read: %v", m.err))
	} else {
		m.tell(s.String())
	}
	m.mu.Unlock()
	return append(slices.Clone(s.offered), s.loopback...)
}

// tell logs what is new. m.mu is held.
func (m *machine) tell(text string) {
	if text != m.told {
		m.told = text
		m.logf("%s", text)
	}
}

// String says which addresses are offered and which are not, in one line.
func (s machineState) String() string {
	var b strings.Builder
	switch {
	case len(s.offered) > 0:
		b.WriteString("sctp: no address is named, so peers are told of ")
	case len(s.other) > 0:
		b.WriteString("sctp: this machine has no address that other machines can use: they cannot connect to it")
	default:
		b.WriteString("sctp: this machine has only loopback addresses: other machines cannot connect to it")
	}
	for i, a := range s.offered {
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
		fmt.Fprintf(&b, "%v (%s)", o.addr, o.why)
	}
	return b.String()
}

// notable are the addresses left out that somebody might miss: not link-local,
// deprecated and temporary ones, which come and go.
func (s machineState) notable() []leftOut {
	return slices.DeleteFunc(slices.Clone(s.other), func(o leftOut) bool {
		return o.addr.IsLinkLocalUnicast() || o.addr.Is6() && (o.why == "temporary" || o.why == "deprecated")
	})
}

// foreign is ForeignAddrs.
func (s *machineState) foreign(addrs []netip.Addr) []netip.Addr {
	if !slices.ContainsFunc(addrs, func(a netip.Addr) bool { return !s.own(a) }) {
		return addrs
	}
	return slices.DeleteFunc(slices.Clone(addrs), s.own)
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
	To  netip.Addr
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
	return &RouteError{to, why, err}
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

// foreignPorts is foreign for addresses with ports.
func (s *machineState) foreignPorts(peer []netip.AddrPort) []netip.AddrPort {
	if !slices.ContainsFunc(peer, func(ap netip.AddrPort) bool { return !s.own(ap.Addr().Unmap()) }) {
		return peer
	}
	return slices.DeleteFunc(slices.Clone(peer), func(ap netip.AddrPort) bool { return s.own(ap.Addr().Unmap()) })
}
