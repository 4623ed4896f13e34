package localaddr

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// The addresses of two DNS root servers stand for the Internet. Nothing is sent to them.
var (
	world4 = netip.MustParseAddr("198.41.0.4")
	world6 = netip.MustParseAddr("2001:503:ba3e::2:30")
)

// Read asks the kernel for interfaces and addresses (rtnetlink(7)), and by two lookups for
// the source addresses of the default routes: a dump of all routes is long on a router.
func Read() (State, error) {
	links, err := readLinks()
	if err != nil {
		return State{}, err
	}
	addrs, err := readAddrs()
	if err != nil {
		return State{}, err
	}
	var world []netip.Addr
	for _, to := range []netip.Addr{world4, world6} {
		if a, err := sourceAddr(to); err == nil {
			world = append(world, a)
		}
	}
	return sortAddrs(links, addrs, world), nil
}

// readLinks reads the interfaces.
func readLinks() ([]netLink, error) {
	msgs, err := dump(syscall.RTM_GETLINK)
	var links []netLink
	for _, m := range msgs {
		if m.Header.Type != syscall.RTM_NEWLINK || len(m.Data) < syscall.SizeofIfInfomsg {
			continue
		}
		flags := binary.NativeEndian.Uint32(m.Data[8:])
		l := netLink{
			index: int(binary.NativeEndian.Uint32(m.Data[4:])),
			up:    flags&syscall.IFF_UP != 0, loopback: flags&syscall.IFF_LOOPBACK != 0,
		}
		eachAttr(m.Data[syscall.SizeofIfInfomsg:], func(typ uint16, v []byte) {
			switch {
			case typ == unix.IFLA_IFNAME:
				l.name = cString(v)
			case typ == unix.IFLA_MASTER && len(v) >= 4:
				l.master = int(binary.NativeEndian.Uint32(v))
			case typ == unix.IFLA_LINKINFO:
				eachAttr(v, func(typ uint16, v []byte) {
					if typ == unix.IFLA_INFO_KIND {
						l.kind = cString(v)
					}
				})
			}
		})
		links = append(links, l)
	}
	return links, err
}

// readAddrs reads the addresses of all interfaces.
func readAddrs() ([]netAddr, error) {
	msgs, err := dump(syscall.RTM_GETADDR)
	var addrs []netAddr
	for _, m := range msgs {
		if m.Header.Type != syscall.RTM_NEWADDR || len(m.Data) < syscall.SizeofIfAddrmsg {
			continue
		}
		bits, flags := int(m.Data[1]), uint32(m.Data[2])
		a := netAddr{link: int(binary.NativeEndian.Uint32(m.Data[4:]))}
		var local, address netip.Addr
		eachAttr(m.Data[syscall.SizeofIfAddrmsg:], func(typ uint16, v []byte) {
			switch {
			case typ == unix.IFA_LOCAL:
				local, _ = netip.AddrFromSlice(v)
			case typ == unix.IFA_ADDRESS:
				address, _ = netip.AddrFromSlice(v)
			case typ == unix.IFA_FLAGS && len(v) >= 4:
				flags = binary.NativeEndian.Uint32(v)
			}
		})
		if !local.IsValid() { // of a point-to-point interface, IFA_ADDRESS is the peer's
			local = address
		}
		a.prefix = netip.PrefixFrom(local, bits)
		a.secondary = flags&unix.IFA_F_SECONDARY != 0
		a.deprecated = flags&unix.IFA_F_DEPRECATED != 0
		a.tentative = flags&unix.IFA_F_DADFAILED != 0 ||
			flags&unix.IFA_F_TENTATIVE != 0 && flags&unix.IFA_F_OPTIMISTIC == 0
		if local.IsValid() {
			addrs = append(addrs, a)
		}
	}
	return addrs, err
}

func dump(what int) ([]syscall.NetlinkMessage, error) {
	b, err := syscall.NetlinkRIB(what, syscall.AF_UNSPEC)
	if err != nil {
		return nil, os.NewSyscallError("netlink", err)
	}
	return syscall.ParseNetlinkMessage(b)
}

// eachAttr calls f for each attribute (rtnetlink(7), struct rtattr).
func eachAttr(b []byte, f func(typ uint16, v []byte)) {
	for len(b) >= unix.SizeofRtAttr {
		n := int(binary.NativeEndian.Uint16(b))
		if n < unix.SizeofRtAttr || n > len(b) {
			return
		}
		f(binary.NativeEndian.Uint16(b[2:])&^uint16(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), b[unix.SizeofRtAttr:n])
		b = b[min((n+3)&^3, len(b)):]
	}
}

// cString returns the text before the zero byte.
func cString(b []byte) string { return unix.ByteSliceToString(b) }

// PreferPublic is IPV6_PREFER_SRC_PUBLIC (RFC 5014), for the socket option
// IPV6_ADDR_PREFERENCES.
const PreferPublic = 2

// sourceAddr connects a UDP socket, which sends nothing, and reads its address. It does so by
// plain system calls: when a registrar is lost, all elements of the machine look for their
// address at once.
func sourceAddr(to netip.Addr) (netip.Addr, error) {
	family, sa := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Port: 9})
	switch {
	case to.Is4():
		sa.(*unix.SockaddrInet4).Addr = to.As4()
	case to.Zone() != "":
		return dialedFrom(to)
	default:
		family, sa = unix.AF_INET6, &unix.SockaddrInet6{Port: 9, Addr: to.As16()}
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return netip.Addr{}, noRoute(to, os.NewSyscallError("socket", err))
	}
	defer unix.Close(fd)
	preferPublic(fd, to)
	if err := unix.Connect(fd, sa); err != nil {
		return netip.Addr{}, noRoute(to, os.NewSyscallError("connect", err))
	}
	sa, err = unix.Getsockname(fd)
	switch local := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrFrom4(local.Addr), nil
	case *unix.SockaddrInet6:
		return localOf(local), nil
	}
	return netip.Addr{}, noRoute(to, os.NewSyscallError("getsockname", err))
}

// localOf is an IPv6 address of this machine with its zone, if it has one.
func localOf(sa *unix.SockaddrInet6) netip.Addr {
	a := netip.AddrFrom16(sa.Addr)
	if i, err := net.InterfaceByIndex(int(sa.ZoneId)); sa.ZoneId != 0 && err == nil {
		a = a.WithZone(i.Name)
	}
	return a.Unmap()
}

func preferPublic(fd int, to netip.Addr) {
	if to.Is6() {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_ADDR_PREFERENCES, PreferPublic)
	}
}

// dialedFrom is sourceAddr for an address with a zone.
func dialedFrom(to netip.Addr) (netip.Addr, error) {
	return dialed(&net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { preferPublic(int(fd), to) })
	}}, to)
}
