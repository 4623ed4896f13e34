package endpoint

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// maxAnnounceSize bounds an announce; longer ones are cut off, and fail to
// parse.
const maxAnnounceSize = 2048

// listener takes the datagrams of a multicast group.
type listener struct {
	conn  net.PacketConn
	group netip.Addr
	joins func(*net.Interface) error
	read  readFunc
	wg    sync.WaitGroup
}

// readFunc reads a datagram and tells which address it was sent to, if known.
type readFunc func([]byte) (n int, to net.IP, from net.Addr, err error)

// listenAnnounces joins the group on every interface that allows it. Several
// processes on a machine may do so.
func listenAnnounces(group netip.AddrPort, deliver func(Event)) (*listener, error) {
	if !group.Addr().IsMulticast() || group.Port() == 0 {
		return nil, fmt.Errorf("announce group %v is not a multicast address with a port, such as 239.0.0.1:3863", group)
	}
	network := "udp4"
	if group.Addr().Is6() {
		network = "udp6"
	}
	conn, err := net.ListenPacket(network, group.String())
	if err != nil {
		return nil, fmt.Errorf("announce group %v: %w", group, err)
	}
	l := &listener{conn: conn, group: group.Addr()}
	l.setUp()
	l.joinAll()
	l.wg.Go(func() { l.run(deliver) })
	return l, nil
}

// setUp gives the ways to join and to read. Datagrams for other groups on the
// port come too, on some systems, so that the destination is asked for where
// the system tells it.
func (l *listener) setUp() {
	to := &net.UDPAddr{IP: l.group.AsSlice()}
	if l.group.Is4() {
		p := ipv4.NewPacketConn(l.conn)
		_ = p.SetControlMessage(ipv4.FlagDst, true)
		l.joins = func(i *net.Interface) error { return p.JoinGroup(i, to) }
		l.read = func(b []byte) (int, net.IP, net.Addr, error) {
			n, cm, from, err := p.ReadFrom(b)
			if cm == nil {
				return n, nil, from, err
			}
			return n, cm.Dst, from, err
		}
		return
	}
	p := ipv6.NewPacketConn(l.conn)
	_ = p.SetControlMessage(ipv6.FlagDst, true)
	l.joins = func(i *net.Interface) error { return p.JoinGroup(i, to) }
	l.read = func(b []byte) (int, net.IP, net.Addr, error) {
		n, cm, from, err := p.ReadFrom(b)
		if cm == nil {
			return n, nil, from, err
		}
		return n, cm.Dst, from, err
	}
}

// joinAll joins the group on the interfaces that there are. It is no error if
// there are none yet: the Transport calls again when the interfaces change.
func (l *listener) joinAll() {
	interfaces, err := net.Interfaces()
	if err != nil {
		return
	}
	for i := range interfaces {
		_ = l.joins(&interfaces[i]) // an error, too, where it is a member already
	}
}

func (l *listener) run(deliver func(Event)) {
	buf := make([]byte, maxAnnounceSize)
	for {
		n, to, from, err := l.read(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(100 * time.Millisecond) // not to spin on an error that stays
			continue
		}
		if a, ok := netip.AddrFromSlice(to); ok && a.Unmap() != l.group {
			continue
		}
		udp, ok := from.(*net.UDPAddr)
		if !ok {
			continue
		}
		src := udp.AddrPort()
		deliver(Event{
			Announce: append([]byte{}, buf[:n]...),
			From:     netip.AddrPortFrom(src.Addr().Unmap(), src.Port()),
		})
	}
}

func (l *listener) close() error {
	err := l.conn.Close()
	l.wg.Wait()
	return err
}
