// Package multicast sends datagrams to a multicast group, and receives those that others
// send to it, on all interfaces of the machine. Several processes on a machine can be in
// a group.
package multicast

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// maxDatagram is the most bytes of a datagram that are delivered. The rest is cut
	// off.
	maxDatagram = 2048
	// rejoinEvery is how often Send looks for new interfaces, besides Changed.
	rejoinEvery = 30 * time.Second
	// errorPause is the wait after an error, which may last, so that it does not keep
	// the processor busy.
	errorPause = 100 * time.Millisecond
)

// Group is a multicast group on all interfaces that can multicast. Datagrams are sent
// from the group's port: the reference implementation connects to the registrar at the
// datagram's source. Its methods may be called from any goroutine.
type Group struct {
	addr   netip.AddrPort
	socket socket
	logf   func(warn bool, text string)

	out     chan []byte
	sending sync.Once // starts write
	failed  atomic.Uint64
	closed  chan struct{}
	wg      sync.WaitGroup

	mu       sync.Mutex          // guards the memberships
	joined   map[int]*membership // by the interface's index
	refused  map[int]struct{}    // too many memberships, and logged
	joinedAt time.Time
}

// membership is an interface on which the group is joined.
type membership struct {
	name   string
	outer  bool // not the loopback interface, which often takes no IPv6 multicast
	down   bool // nothing is sent; the system keeps the membership
	failed bool // the last datagram could not be sent
}

// Join opens a socket and joins the group where that is possible; it is no error if there
// is no interface yet. Each datagram to the group is delivered, in a goroutine of the
// Group, which deliver may block. logf gets the lines for the operator.
func Join(addr netip.AddrPort, deliver func(from netip.AddrPort, datagram []byte), logf func(warn bool, text string)) (*Group, error) {
	if err := Check(addr); err != nil {
		return nil, err
	}
	s, err := open(addr)
	if err != nil {
		return nil, fmt.Errorf("multicast group %v: %w", addr, err)
	}
	g := newGroup(addr, s, logf)
	g.join()
	g.wg.Go(func() { g.read(deliver) })
	return g, nil
}

// Check says why an address cannot be that of a group, nil if it can.
func Check(addr netip.AddrPort) error {
	if !addr.Addr().IsMulticast() || addr.Port() == 0 {
		return fmt.Errorf("%v is not a multicast address with a port, such as 239.0.0.1:3863", addr)
	}
	return nil
}

func newGroup(addr netip.AddrPort, s socket, logf func(bool, string)) *Group {
	return &Group{
		addr: addr, socket: s, logf: logf, out: make(chan []byte, 1), closed: make(chan struct{}),
		joined: make(map[int]*membership), refused: make(map[int]struct{}),
	}
}

// Changed is to be called when the machine's interfaces have changed. It joins the group
// on new ones, and leaves it on those that are gone.
func (g *Group) Changed() { g.join() }

// Failed is the number of datagrams that could not be sent on an interface.
func (g *Group) Failed() uint64 { return g.failed.Load() }

// Send sends a datagram soon on all interfaces, or not at all if the last one is still
// waiting. It never waits.
func (g *Group) Send(b []byte) {
	g.sending.Do(func() { g.wg.Go(g.write) })
	select {
	case g.out <- b:
	default:
		g.failed.Add(1)
	}
}

// Close leaves the group and waits for the goroutines. Nothing may be sent any more.
func (g *Group) Close() error {
	close(g.closed)
	err := g.socket.Close()
	g.wg.Wait()
	return err
}

// join joins the group on interfaces that have come up, and leaves it on those that are
// gone.
func (g *Group) join() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.joinedAt = time.Now()
	ifs, err := net.Interfaces()
	if err != nil {
		return
	}
	g.leaveGone(ifs)
	for i := range ifs {
		m := g.joined[ifs[i].Index]
		usable := ifs[i].Flags&net.FlagUp != 0 && ifs[i].Flags&(net.FlagMulticast|net.FlagLoopback) != 0
		switch {
		case !usable:
			delete(g.refused, ifs[i].Index)
			if m != nil {
				m.down = true
			}
		case m == nil || m.down:
			g.joinOn(&ifs[i])
		}
	}
}

// leaveGone leaves the group on interfaces that are gone. Linux does not: their memberships
// would count for its limit until the socket is closed.
func (g *Group) leaveGone(present []net.Interface) {
	gone := func(index int) bool {
		return !slices.ContainsFunc(present, func(ifi net.Interface) bool { return ifi.Index == index })
	}
	for i := range g.joined {
		if gone(i) {
			_ = g.socket.leave(i) // another system may have left already
			delete(g.joined, i)
		}
	}
	maps.DeleteFunc(g.refused, func(i int, _ struct{}) bool { return gone(i) })
}

// joinOn joins the group on an interface. The socket may have a membership of it
// (EADDRINUSE), which has no effect any more if the interface was in another network
// namespace meanwhile: a new one takes its place.
func (g *Group) joinOn(ifi *net.Interface) {
	err := g.socket.join(ifi)
	if errors.Is(err, syscall.EADDRINUSE) {
		_ = g.socket.leave(ifi.Index)
		err = g.socket.join(ifi)
	}
	if err == nil {
		g.joined[ifi.Index] = &membership{name: ifi.Name, outer: ifi.Flags&net.FlagLoopback == 0}
		delete(g.refused, ifi.Index)
	} else if _, told := g.refused[ifi.Index]; !told && errors.Is(err, syscall.ENOBUFS) {
		g.refused[ifi.Index] = struct{}{}
		g.logf(true, fmt.Sprintf("interface %s cannot join %v: %v; raise net.ipv4.igmp_max_memberships, which limits the interfaces of a socket", ifi.Name, g.addr, err))
	}
}

// write is the goroutine that sends.
func (g *Group) write() {
	for {
		select {
		case b := <-g.out:
			if time.Since(g.lastJoin()) >= rejoinEvery {
				g.join()
			}
			g.sendAll(b)
		case <-g.closed:
			return
		}
	}
}

func (g *Group) lastJoin() time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.joinedAt
}

func (g *Group) sendAll(b []byte) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, m := range g.joined {
		if m.down {
			continue
		}
		err := g.socket.send(b, i)
		if err != nil {
			g.failed.Add(1)
		}
		if failed := err != nil; failed != m.failed {
			m.failed = failed
			g.tell(m, err)
		}
	}
}

// tell logs that sending on an interface fails, or works again.
func (g *Group) tell(m *membership, err error) {
	if err != nil {
		g.logf(m.outer, fmt.Sprintf("interface %s cannot send multicast to %v: %v", m.name, g.addr, err))
	} else {
		g.logf(false, fmt.Sprintf("interface %s sends multicast to %v again", m.name, g.addr))
	}
}

// read is the goroutine that delivers datagrams. Datagrams to other groups, and to the
// port of this one alone, arrive as well on some systems.
func (g *Group) read(deliver func(netip.AddrPort, []byte)) {
	b := make([]byte, maxDatagram)
	for {
		n, from, to, err := g.socket.receive(b)
		switch udp, ok := from.(*net.UDPAddr); {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			select {
			case <-g.closed:
				return
			case <-time.After(errorPause):
			}
		case ok && (to == nil || to.Equal(g.addr.Addr().AsSlice())):
			a := udp.AddrPort()
			deliver(netip.AddrPortFrom(a.Addr().Unmap(), a.Port()), append([]byte{}, b[:n]...))
		}
	}
}
