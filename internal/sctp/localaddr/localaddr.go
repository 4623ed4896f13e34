// Package localaddr knows the addresses of this machine: which of them other machines can
// reach, and from which one packets to a destination are sent.
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

// Reachable returns the addresses of this machine that other machines can reach, as far
// as this machine can tell; none without a network. An address is among them if
//
//   - the system uses it as the source of packets to the Internet, on any interface:
//     it has a default route; or
//   - its interface leads to a network: any interface but the loopback interface, dummy
//     interfaces, and bridges that have no ports or only ports to containers and virtual
//     machines of this machine (docker0, virbr0, cni0). A bridge with a network card, a
//     VLAN or a bond among its ports leads to a network.
//
// Many machines have the same addresses on such bridges and dummy interfaces, so that a
// peer would connect to itself or to another host. Also left out are link-local
// addresses; temporary, tentative and deprecated IPv6 addresses; and further IPv4
// addresses in a network in which the interface has an address already, such as the
// virtual address of a redundancy protocol.
//
// Addresses with a default route come first. Each call reads the list again, which
// takes a tenth of a millisecond.
func Reachable() []netip.Addr {
	s, err := Read()
	if err != nil {
		return nil
	}
	return s.Offered
}

// Source returns the address of this machine from which packets to another address are
// sent, by the present routes. Of several IPv6 addresses it prefers a stable one to a
// temporary one (RFC 5014). It fails with a *RouteError if there is no route.
func Source(to netip.Addr) (netip.Addr, error) { return sourceAddr(to.Unmap()) }

// netLink is a network interface.
type netLink struct {
	index, master int // master is the index of its bridge or bond
	name          string
	kind          string // as of `ip -d link`; empty for network cards
	up, loopback  bool
}

// netAddr is an address of an interface, with its prefix length.
type netAddr struct {
	link   int
	prefix netip.Prefix
	// secondary says that an earlier address is in the same network (IPv4), or that
	// the address is temporary (IPv6).
	secondary  bool
	tentative  bool // another machine may have it, or has it
	deprecated bool
}

// State is a machine's addresses by their use.
type State struct {
	Offered  []netip.Addr // Reachable
	loopback []netip.Addr
	Other    []LeftOut
}

// LeftOut is an address that is not offered, and the reason.
type LeftOut struct {
	Addr netip.Addr
	Why  string
	down bool // its interface is down
}

// Own reports whether the machine has an address.
func (s *State) Own(a netip.Addr) bool {
	return a.IsLoopback() || slices.Contains(s.Offered, a) ||
		slices.ContainsFunc(s.Other, func(o LeftOut) bool { return o.Addr == a })
}

// sortAddrs sorts a machine's addresses by their use. world are the source addresses of
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
			s.loopback = append(s.loopback, ip)
		case why != "":
			s.Other = append(s.Other, LeftOut{ip, why, !link.up})
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

// unfit returns why other machines cannot use an address; empty if they can.
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

// hasNetwork reports whether an address with the prefix length 32 is in the network of
// another address of its interface.
func hasNetwork(a netAddr, addrs []netAddr) bool {
	return a.prefix.IsSingleIP() && slices.ContainsFunc(addrs, func(b netAddr) bool {
		return b.link == a.link && !b.prefix.IsSingleIP() && b.prefix.Contains(a.prefix.Addr())
	})
}

// hasUplink reports whether a bridge has a port that leads out of the machine.
func hasUplink(bridge netLink, links []netLink) bool {
	return slices.ContainsFunc(links, func(l netLink) bool {
		return l.master == bridge.index && l.kind != "veth" && l.kind != "tun" && !isDummy(l.kind)
	})
}

func isDummy(kind string) bool { return kind == "dummy" || kind == "ifb" || kind == "nlmon" }

// Life is how long a View uses the addresses that it has read.
const Life = 5 * time.Second

// View holds the machine's addresses, reads them again every few seconds, and logs which
// are offered when that changes. Any goroutine may use it.
type View struct {
	Read   func() (State, error)                // the function readShared, except in tests
	Source func(netip.Addr) (netip.Addr, error) // the function Source, except in tests
	Logf   func(string, ...any)
	// Inside runs a function in the endpoint's network namespace: that of the
	// process, except in tests.
	Inside func(func())

	mu     sync.Mutex
	asked  time.Time
	state  State
	err    error // of the last read
	logged string

	followers followers
}

// shared is the last reading of the addresses, for all Views of the process. If its elements
// lose their registrar, all of them look at the addresses in the same moment.
var shared struct {
	mu    sync.Mutex
	at    time.Time
	state State
	err   error
}

// sharedLife is how long it is used. It is less than settle: what is read after a change that
// the system has reported is not from before that change.
const sharedLife = settle / 2

func readShared() (State, error) {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if time.Since(shared.at) >= sharedLife {
		shared.state, shared.err = Read()
		shared.at = time.Now()
	}
	return shared.state, shared.err
}

func New(logf func(string, ...any)) *View {
	return &View{Read: readShared, Source: Source, Logf: logf, Inside: func(f func()) { f() }}
}

// Now returns the addresses, which may have been read up to Life ago.
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

// List returns the offered addresses and after them the loopback ones, and logs which
// are offered.
func (m *View) List() []netip.Addr {
	s := m.Now()
	m.mu.Lock()
	if m.err != nil {
		m.log(fmt.Sprintf("sctp: the addresses of this machine cannot be read: %v", m.err))
	} else {
		m.log(s.String())
	}
	m.mu.Unlock()
	return append(slices.Clone(s.Offered), s.loopback...)
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

// log logs a text if it is not that of the last line. m.mu is held.
func (m *View) log(text string) {
	if text != m.logged {
		m.logged = text
		m.Logf("%s", text)
	}
}

// String returns in one line which addresses are offered and which are not.
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

// notable returns the addresses that are left out and that an operator may want: not
// link-local, deprecated and temporary ones.
func (s State) notable() []LeftOut {
	return slices.DeleteFunc(slices.Clone(s.Other), func(o LeftOut) bool {
		return o.Addr.IsLinkLocalUnicast() || o.Addr.Is6() && (o.Why == "temporary" || o.Why == "deprecated")
	})
}

// dialed connects a UDP socket to an address and returns its local address.
func dialed(d *net.Dialer, to netip.Addr) (netip.Addr, error) {
	c, err := d.Dial("udp", netip.AddrPortFrom(to, 9).String())
	if err != nil {
		return netip.Addr{}, noRoute(to, err)
	}
	defer c.Close()
	local := c.LocalAddr().(*net.UDPAddr).AddrPort().Addr()
	return local.Unmap(), nil
}

// RouteError is the error if this machine cannot send packets to an address.
type RouteError struct {
	why string
	err error
}

func (e *RouteError) Error() string { return e.why }

// Unwrap returns the system's error.
func (e *RouteError) Unwrap() error { return e.err }

// noRoute returns the error for an address that no packet can be sent to. It has only the
// system's reason: the address and port of the failed dial mean nothing to the user.
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

// hasInterface reports whether a zone is the name or the number of an interface.
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
