package udp

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

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
		if is4 {
			opt = errors.Join(
				unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_RECVERR, 1),
				unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DONT))
			return
		}
		opt = errors.Join(
			unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVERR, 1),
			unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DONT),
			unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MTU, ipv6MinMTU),
			unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_ADDR_PREFERENCES, localaddr.PreferPublic))
	})
	return errors.Join(err, opt)
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

// parseUnreachable reads the struct sock_extended_err of a message from the error queue;
// from is where our packet was sent. It returns nil unless the error says that nobody
// listens there.
func parseUnreachable(oob []byte, from unix.Sockaddr) *unreachableError {
	var to netip.AddrPort
	switch a := from.(type) {
	case *unix.SockaddrInet4:
		to = netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		to = netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port))
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
		errno := unix.Errno(binary.NativeEndian.Uint32(m.Data))
		if errno != unix.ECONNREFUSED {
			continue
		}
		return &unreachableError{to: to, err: errno}
	}
	return nil
}
