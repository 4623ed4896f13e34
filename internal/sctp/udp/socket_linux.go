package udp

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/localaddr"
)

// setOptions asks for ICMP errors, prefers stable IPv6 addresses to temporary ones (RFC
// 5014), and turns path MTU discovery off (RFC 6951, Section 5.6): where ICMP is dropped,
// packets that are too long would be lost for ever. IPv4 packets may be fragmented on the
// way; IPv6 packets above the minimum MTU are sent in fragments.
func setOptions(c *net.UDPConn, is4 bool) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var opt error
	err = raw.Control(func(fd uintptr) {
		// A privileged process gets more than net.core.rmem_max.
		_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer)
		if is4 {
			opt = sctp.Join(
				unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_RECVERR, 1),
				unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DONT))
			return
		}
		opt = sctp.Join(
			unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVERR, 1),
			unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DONT),
			unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MTU, ipv6MinMTU),
			unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_ADDR_PREFERENCES, localaddr.PreferPublic))
	})
	return sctp.Join(err, opt)
}

// transient reports whether an error of a UDP socket concerns only one packet.
func transient(err error) bool {
	for _, e := range []error{
		unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EMSGSIZE, unix.EPROTO,
		unix.EACCES, unix.EPERM, unix.EOPNOTSUPP, unix.EHOSTDOWN, unix.ENOPROTOOPT, unix.ENOBUFS,
		unix.ENOMEM, unix.EINTR, unix.ENETDOWN, unix.ENONET,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// maxUnreachable is how many ICMP errors are read at a time.
const maxUnreachable = 64

// readUnreachable empties the socket's error queue (ip(7), IP_RECVERR).
func readUnreachable(c *net.UDPConn) (errs []*unreachableError, more bool) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, false
	}
	b, oob := make([]byte, 256), make([]byte, 512)
	_ = raw.Control(func(fd uintptr) {
		for more = true; len(errs) < maxUnreachable; {
			n, oobn, _, from, err := unix.Recvmsg(int(fd), b, oob, unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
			if err != nil {
				more = err == unix.EINTR
				if more {
					continue
				}
				return
			}
			if e := parseUnreachable(oob[:oobn], from); e != nil {
				e.quote = append([]byte(nil), b[:n]...)
				errs = append(errs, e)
			}
		}
	})
	return errs, more
}

// icmpKind is the type and code of an ICMP or ICMPv6 message.
type icmpKind struct {
	is6       bool
	typ, code uint8
}

// refusals are the ICMP errors that come from the host itself and say that nobody listens:
// port unreachable, and protocol unreachable, which for IPv6 is the parameter problem
// "unrecognized Next Header" (RFC 792; RFC 4443, Sections 3.1 and 3.4). All others tell
// about the way there.
var refusals = map[icmpKind]bool{
	{false, 3, 2}: true, {false, 3, 3}: true,
	{true, 1, 4}: true, {true, 4, 1}: true,
}

// parseUnreachable reads the struct sock_extended_err of a message from the error queue;
// from is where our packet was sent. It returns nil unless the error says that nobody
// listens there.
func parseUnreachable(oob []byte, from unix.Sockaddr) *unreachableError {
	var to netip.AddrPort
	switch a := from.(type) {
	case *unix.SockaddrInet4:
		to = netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		to = netip.AddrPortFrom(netip.AddrFrom16(a.Addr).WithZone(localaddr.Zone(a.ZoneId)), uint16(a.Port))
	default:
		return nil
	}
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	for _, m := range msgs {
		is4 := m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_RECVERR
		is6 := m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_RECVERR
		if !is4 && !is6 || len(m.Data) < 8 {
			continue
		}
		origin := m.Data[4]
		if origin != unix.SO_EE_ORIGIN_ICMP && origin != unix.SO_EE_ORIGIN_ICMP6 {
			continue
		}
		if !refusals[icmpKind{is6, m.Data[5], m.Data[6]}] {
			continue
		}
		return &unreachableError{to: to, err: unix.Errno(binary.NativeEndian.Uint32(m.Data))}
	}
	return nil
}
