package host

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"github.com/rserpool/coredns-rserpool/registrar"
)

const (
	// maxDatagram bounds a datagram that is taken; longer ones are cut, and
	// then malformed.
	maxDatagram = 2048
	// maxHeard is how many of them a second are looked at.
	maxHeard = 200
	// rejoinEvery is how often new interfaces are looked for, unless the machine's
	// addresses have changed.
	rejoinEvery = 30 * time.Second
)

// group is the multicast group of server announces (RFC 5352, Section 3.6), or
// that of registrars' presences, on all interfaces that can multicast, those
// that come later included. It is sent from the group's port, since the
// reference implementation calls the registrar at the datagram's source.
type group struct {
	addr   netip.AddrPort
	enrp   bool
	conn   *net.UDPConn
	caster caster
	out    chan []byte
	failed atomic.Uint64
	// changed says that there may be other interfaces now.
	changed atomic.Bool
	logf    func(warn bool, text string)

	// The writer's:
	joined   map[int]*joined  // by the interface's index
	refused  map[int]struct{} // too many memberships, and logged
	joinedAt time.Time
}

// joined is an interface.
type joined struct {
	name   string
	outer  bool // not the loopback, which often takes no IPv6 multicast
	failed bool // the last datagram did not get out
}

// caster is what IPv4 and IPv6 have in common.
type caster interface {
	// join joins the group on an interface.
	join(*net.Interface) error
	// send sends to the group on an interface.
	send(b []byte, ifIndex int) error
	// receive reads a datagram, and tells whether it was sent to the group.
	receive(b []byte) (n int, from net.Addr, toGroup bool, err error)
}

// joinGroup opens the socket and joins the group where that is possible.
func joinGroup(addr netip.AddrPort, enrp bool, logf func(warn bool, text string)) (*group, error) {
	conn, err := listenShared(addr)
	if err != nil {
		return nil, err
	}
	g := &group{addr: addr, enrp: enrp, conn: conn, out: make(chan []byte, 1), logf: logf, joined: make(map[int]*joined), refused: make(map[int]struct{})}
	if addr.Addr().Is4() {
		g.caster, err = newCaster4(conn, addr)
	} else {
		g.caster, err = newCaster6(conn, addr)
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	g.join()
	return g, nil
}

// join joins the group on interfaces that have come up, and forgets those that
// are gone.
func (g *group) join() {
	g.joinedAt = time.Now()
	ifs, err := net.Interfaces()
	if err != nil {
		return
	}
	present := make(map[int]struct{})
	for i := range ifs {
		if ifs[i].Flags&net.FlagUp == 0 || ifs[i].Flags&net.FlagMulticast == 0 && ifs[i].Flags&net.FlagLoopback == 0 {
			continue
		}
		present[ifs[i].Index] = struct{}{}
		if g.joined[ifs[i].Index] != nil {
			continue
		}
		// An interface that was down is a member still (EADDRINUSE).
		err := g.caster.join(&ifs[i])
		if err == nil || errors.Is(err, syscall.EADDRINUSE) {
			g.joined[ifs[i].Index] = &joined{name: ifs[i].Name, outer: ifs[i].Flags&net.FlagLoopback == 0}
			delete(g.refused, ifs[i].Index)
		} else if _, told := g.refused[ifs[i].Index]; !told && errors.Is(err, syscall.ENOBUFS) {
			g.refused[ifs[i].Index] = struct{}{}
			g.logf(true, fmt.Sprintf("interface %s cannot join %v: %v; raise net.ipv4.igmp_max_memberships, which limits the interfaces of a socket", ifs[i].Name, g.addr, err))
		}
	}
	for i := range g.refused {
		if _, ok := present[i]; !ok {
			delete(g.refused, i)
		}
	}
	for i := range g.joined {
		if _, ok := present[i]; !ok {
			delete(g.joined, i)
		}
	}
}

// send sends a datagram soon, or not at all if the last one is still waiting.
func (g *group) send(b []byte) {
	select {
	case g.out <- b:
	default:
		g.failed.Add(1)
	}
}

// write is the goroutine that sends, until close.
func (g *group) write() {
	for b := range g.out {
		if g.changed.Swap(false) || time.Since(g.joinedAt) >= rejoinEvery {
			g.join()
		}
		for i, ifi := range g.joined {
			err := g.caster.send(b, i)
			if err != nil {
				g.failed.Add(1)
			}
			if failed := err != nil; failed != ifi.failed {
				ifi.failed = failed
				g.tell(ifi, err)
			}
		}
	}
}

// tell says that an interface takes nothing, or does again.
func (g *group) tell(ifi *joined, err error) {
	if err != nil {
		g.logf(ifi.outer, fmt.Sprintf("interface %s takes no multicast to %v: %v", ifi.name, g.addr, err))
	} else {
		g.logf(false, fmt.Sprintf("interface %s takes multicast to %v again", ifi.name, g.addr))
	}
}

// read is the goroutine that hands datagrams to the loop, until close.
func (g *group) read(to chan<- registrar.Event, quit <-chan struct{}) {
	b := make([]byte, maxDatagram)
	second, heard := time.Now(), 0
	for {
		n, from, toGroup, err := g.caster.receive(b)
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			select { // an error that lasts must not keep the processor busy
			case <-quit:
				return
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		if now := time.Now(); now.Sub(second) >= time.Second {
			second, heard = now, 0
		}
		heard++
		udp, ok := from.(*net.UDPAddr)
		if !ok || !toGroup || heard > maxHeard {
			continue
		}
		select {
		case to <- registrar.Announced{From: udp.AddrPort(), Data: append([]byte(nil), b[:n]...), ENRP: g.enrp}:
		case <-quit:
			return
		}
	}
}

// close ends read and write. Nothing may be sent any more.
func (g *group) close() {
	close(g.out)
	_ = g.conn.Close()
}

type caster4 struct {
	c  *ipv4.PacketConn
	to *net.UDPAddr
}

func newCaster4(conn *net.UDPConn, addr netip.AddrPort) (caster, error) {
	c := ipv4.NewPacketConn(conn)
	if err := c.SetControlMessage(ipv4.FlagDst, true); err != nil {
		return nil, fmt.Errorf("ask for destination addresses: %w", err)
	}
	if err := c.SetMulticastLoopback(true); err != nil { // for others on this machine
		return nil, fmt.Errorf("loop multicast back: %w", err)
	}
	return &caster4{c, net.UDPAddrFromAddrPort(addr)}, nil
}

func (c *caster4) join(ifi *net.Interface) error { return c.c.JoinGroup(ifi, c.to) }

func (c *caster4) send(b []byte, ifIndex int) error {
	_, err := c.c.WriteTo(b, &ipv4.ControlMessage{IfIndex: ifIndex}, c.to)
	return err
}

func (c *caster4) receive(b []byte) (int, net.Addr, bool, error) {
	n, cm, from, err := c.c.ReadFrom(b)
	return n, from, cm != nil && cm.Dst.Equal(c.to.IP), err
}

type caster6 struct {
	c  *ipv6.PacketConn
	to *net.UDPAddr
}

func newCaster6(conn *net.UDPConn, addr netip.AddrPort) (caster, error) {
	c := ipv6.NewPacketConn(conn)
	if err := c.SetControlMessage(ipv6.FlagDst, true); err != nil {
		return nil, fmt.Errorf("ask for destination addresses: %w", err)
	}
	if err := c.SetMulticastLoopback(true); err != nil {
		return nil, fmt.Errorf("loop multicast back: %w", err)
	}
	return &caster6{c, net.UDPAddrFromAddrPort(addr)}, nil
}

func (c *caster6) join(ifi *net.Interface) error { return c.c.JoinGroup(ifi, c.to) }

func (c *caster6) send(b []byte, ifIndex int) error {
	_, err := c.c.WriteTo(b, &ipv6.ControlMessage{IfIndex: ifIndex}, c.to)
	return err
}

func (c *caster6) receive(b []byte) (int, net.Addr, bool, error) {
	n, cm, from, err := c.c.ReadFrom(b)
	return n, from, cm != nil && cm.Dst.Equal(c.to.IP), err
}
