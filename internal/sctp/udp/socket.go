package udp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
)

// datagrams is a bound UDP socket, or one of a network in memory in tests.
type datagrams interface {
	// read waits for one packet and returns its source and destination. Its error is
	// an *unreachableError if an ICMP error has arrived for one of our packets.
	read(b []byte) (n int, from netip.AddrPort, to netip.Addr, err error)
	// write sends one packet. from is the source address; if it is invalid, the
	// system chooses. An error means that nothing was sent.
	write(b []byte, to netip.AddrPort, from netip.Addr) error
	// local returns the bound address and port.
	local() netip.AddrPort
	close() error
}

// unreachableError reports an ICMP error for one of our packets. quote is the beginning of
// that packet's payload, as far as the ICMP message has it.
type unreachableError struct {
	to    netip.AddrPort
	quote []byte
	err   error
}

func (e *unreachableError) Error() string { return fmt.Sprintf("%v is unreachable: %v", e.to, e.err) }
func (e *unreachableError) Unwrap() error { return e.err }

// Is reports that sctp.ErrRefused describes the error: the host answers, and nobody listens.
func (e *unreachableError) Is(target error) bool { return target == sctp.ErrRefused }

// socket is a UDP socket of one address family.
type socket struct {
	conn *net.UDPConn
	addr netip.AddrPort
	oob  []byte

	mu      sync.Mutex
	refused []*unreachableError
}

var _ datagrams = (*socket)(nil)

// receiveBuffer and sendBuffer are the sizes of the buffers to ask the system for, in bytes.
// It may grant less; Linux grants at most net.core.rmem_max and wmem_max, 208 KiB by default,
// to a process without privileges. One socket has the packets of all peers: after a restart,
// thousands call at the same time.
const (
	receiveBuffer = 4 << 20
	sendBuffer    = 1 << 20
)

// listenUDP binds a UDP socket. An IPv6 socket receives no IPv4 packets: each family has a
// socket of its own.
func listenUDP(addr netip.AddrPort) (*socket, error) {
	network := "udp6"
	if addr.Addr().Is4() {
		network = "udp4"
	}
	conn, err := net.ListenUDP(network, net.UDPAddrFromAddrPort(addr))
	if err != nil {
		return nil, err
	}
	_ = conn.SetReadBuffer(receiveBuffer)
	_ = conn.SetWriteBuffer(sendBuffer)
	// Answers must be sent from the address that a packet was sent to.
	if addr.Addr().Is4() {
		err = ipv4.NewPacketConn(conn).SetControlMessage(ipv4.FlagDst, true)
	} else {
		err = ipv6.NewPacketConn(conn).SetControlMessage(ipv6.FlagDst, true)
	}
	if err == nil {
		err = setOptions(conn, addr.Addr().Is4())
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("setting up %v: %w", addr, err)
	}
	bound := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	return &socket{
		conn: conn,
		addr: netip.AddrPortFrom(addr.Addr(), bound.Port()),
		oob:  make([]byte, 512),
	}, nil
}

func (s *socket) local() netip.AddrPort { return s.addr }

func (s *socket) close() error { return s.conn.Close() }

// Only one goroutine calls read.
func (s *socket) read(b []byte) (int, netip.AddrPort, netip.Addr, error) {
	for {
		if e := s.nextRefused(); e != nil {
			return 0, netip.AddrPort{}, netip.Addr{}, e
		}
		n, oobn, _, from, err := s.conn.ReadMsgUDPAddrPort(b, s.oob)
		switch {
		case err == nil:
			from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
			return n, from, s.destination(s.oob[:oobn]), nil
		case errors.Is(err, net.ErrClosed):
			return 0, netip.AddrPort{}, netip.Addr{}, err
		case errors.Is(err, os.ErrDeadlineExceeded):
			// write has left an error to read from the error queue.
			_ = s.conn.SetReadDeadline(time.Time{})
		}
		refused, more := readUnreachable(s.conn)
		s.mu.Lock()
		s.refused = append(s.refused, refused...)
		s.mu.Unlock()
		if !more && len(refused) == 0 && !errors.Is(err, os.ErrDeadlineExceeded) && !transient(err) {
			return 0, netip.AddrPort{}, netip.Addr{}, err
		}
	}
}

func (s *socket) nextRefused() *unreachableError {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.refused) == 0 {
		return nil
	}
	e := s.refused[0]
	s.refused = s.refused[1:]
	return e
}

// destination returns the address that a packet was sent to.
func (s *socket) destination(oob []byte) netip.Addr {
	var ip net.IP
	if s.addr.Addr().Is4() {
		var cm ipv4.ControlMessage
		if cm.Parse(oob) == nil {
			ip = cm.Dst
		}
	} else {
		var cm ipv6.ControlMessage
		if cm.Parse(oob) == nil {
			ip = cm.Dst
		}
	}
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}

func (s *socket) write(b []byte, to netip.AddrPort, from netip.Addr) error {
	var oob []byte
	if from.IsValid() && s.addr.Addr().IsUnspecified() {
		if from.Is4() {
			oob = (&ipv4.ControlMessage{Src: from.AsSlice()}).Marshal()
		} else {
			oob = (&ipv6.ControlMessage{Src: from.AsSlice()}).Marshal()
		}
	}
	_, _, err := s.conn.WriteMsgUDPAddrPort(b, oob, to)
	if err != nil && !errors.Is(err, net.ErrClosed) && transient(err) {
		// The system reports the error of an earlier packet to the next writer.
		// Leave it to read, and send this packet.
		_ = s.conn.SetReadDeadline(time.Now())
		_, _, err = s.conn.WriteMsgUDPAddrPort(b, oob, to)
	}
	return err
}
