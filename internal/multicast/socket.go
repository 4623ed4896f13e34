package multicast

import (
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// socket is what IPv4 and IPv6 have in common.
type socket interface {
	// join joins the group on an interface.
	join(*net.Interface) error
	// leave leaves the group on an interface, which may be gone.
	leave(ifIndex int) error
	// send sends to the group on an interface.
	send(b []byte, ifIndex int) error
	// receive reads a datagram. to is the address to which it was sent, nil where the
	// system does not tell.
	receive(b []byte) (n int, from net.Addr, to net.IP, err error)
	Close() error
}

// open opens a socket on the group's port. The port can be opened by other processes as
// well: package net sets SO_REUSEADDR, and binds all addresses, if the address is
// multicast.
func open(addr netip.AddrPort) (socket, error) {
	network := "udp4"
	if addr.Addr().Is6() {
		network = "udp6"
	}
	conn, err := net.ListenPacket(network, addr.String())
	if err != nil {
		return nil, err
	}
	to := net.UDPAddrFromAddrPort(addr)
	var s socket
	if addr.Addr().Is4() {
		c := ipv4.NewPacketConn(conn)
		_ = c.SetControlMessage(ipv4.FlagDst, true) // not on all systems
		err = c.SetMulticastLoopback(true)
		s = &socket4{c, to}
	} else {
		c := ipv6.NewPacketConn(conn)
		_ = c.SetControlMessage(ipv6.FlagDst, true)
		err = c.SetMulticastLoopback(true)
		s = &socket6{c, to}
	}
	if err != nil { // other processes of this machine would not receive what is sent
		_ = conn.Close()
		return nil, fmt.Errorf("loop multicast back: %w", err)
	}
	return s, nil
}

type socket4 struct {
	*ipv4.PacketConn
	to *net.UDPAddr
}

func (s *socket4) join(ifi *net.Interface) error { return s.JoinGroup(ifi, s.to) }

func (s *socket4) leave(ifIndex int) error {
	return s.LeaveGroup(&net.Interface{Index: ifIndex}, s.to)
}

func (s *socket4) send(b []byte, ifIndex int) error {
	_, err := s.WriteTo(b, &ipv4.ControlMessage{IfIndex: ifIndex}, s.to)
	return err
}

func (s *socket4) receive(b []byte) (int, net.Addr, net.IP, error) {
	n, cm, from, err := s.ReadFrom(b)
	if cm == nil {
		return n, from, nil, err
	}
	return n, from, cm.Dst, err
}

type socket6 struct {
	*ipv6.PacketConn
	to *net.UDPAddr
}

func (s *socket6) join(ifi *net.Interface) error { return s.JoinGroup(ifi, s.to) }

func (s *socket6) leave(ifIndex int) error {
	return s.LeaveGroup(&net.Interface{Index: ifIndex}, s.to)
}

func (s *socket6) send(b []byte, ifIndex int) error {
	_, err := s.WriteTo(b, &ipv6.ControlMessage{IfIndex: ifIndex}, s.to)
	return err
}

func (s *socket6) receive(b []byte) (int, net.Addr, net.IP, error) {
	n, cm, from, err := s.ReadFrom(b)
	if cm == nil {
		return n, from, nil, err
	}
	return n, from, cm.Dst, err
}
