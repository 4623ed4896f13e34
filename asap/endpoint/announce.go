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
	conn net.PacketConn
	wg   sync.WaitGroup
}

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
	read, err := join(conn, group.Addr())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("announce group %v: %w", group, err), conn.Close())
	}
	l := &listener{conn: conn}
	l.wg.Go(func() { l.run(group.Addr(), read, deliver) })
	return l, nil
}

// readFunc reads a datagram and tells which address it was sent to, if known.
type readFunc func([]byte) (n int, to net.IP, from net.Addr, err error)

// join joins the group on all interfaces and gives the way to read. Datagrams
// for other groups on the port come too, on some systems, so that the
// destination is asked for where the system tells it.
func join(conn net.PacketConn, group netip.Addr) (readFunc, error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	to := &net.UDPAddr{IP: group.AsSlice()}
	joined := false
	if group.Is4() {
		p := ipv4.NewPacketConn(conn)
		for i := range interfaces {
			joined = p.JoinGroup(&interfaces[i], to) == nil || joined
		}
		_ = p.SetControlMessage(ipv4.FlagDst, true)
		if !joined {
			return nil, errors.New("no interface lets us join it")
		}
		return func(b []byte) (int, net.IP, net.Addr, error) {
			n, cm, from, err := p.ReadFrom(b)
			if cm == nil {
				return n, nil, from, err
			}
			return n, cm.Dst, from, err
		}, nil
	}
	p := ipv6.NewPacketConn(conn)
	for i := range interfaces {
		joined = p.JoinGroup(&interfaces[i], to) == nil || joined
	}
	_ = p.SetControlMessage(ipv6.FlagDst, true)
	if !joined {
		return nil, errors.New("no interface lets us join it")
	}
	return func(b []byte) (int, net.IP, net.Addr, error) {
		n, cm, from, err := p.ReadFrom(b)
		if cm == nil {
			return n, nil, from, err
		}
		return n, cm.Dst, from, err
	}, nil
}

func (l *listener) run(group netip.Addr, read readFunc, deliver func(Event)) {
	buf := make([]byte, maxAnnounceSize)
	for {
		n, to, from, err := read(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(100 * time.Millisecond) // not to spin on an error that stays
			continue
		}
		if a, ok := netip.AddrFromSlice(to); ok && a.Unmap() != group {
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
