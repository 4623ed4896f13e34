package kernel

import (
	"fmt"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// socket is a one-to-many SCTP socket (RFC 6458, Section 3), or one that was made from it
// for one association (Section 9.2). It is non-blocking and waits for input in Go's
// poller. Any goroutine may call its methods, but only one receive.
type socket struct {
	file *os.File
	raw  syscall.RawConn
	v6   bool // AF_INET6, which allows IPv4 addresses as well
}

// openSocket opens a socket that is not bound yet.
func openSocket(v6 bool) (*socket, error) {
	family := unix.AF_INET
	if v6 {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_SCTP)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	return newSocket(fd, v6)
}

// newSocket makes a socket of a descriptor, which it owns.
func newSocket(fd int, v6 bool) (s *socket, err error) {
	s = &socket{file: os.NewFile(uintptr(fd), "sctp"), v6: v6}
	if s.raw, err = s.file.SyscallConn(); err != nil {
		_ = s.file.Close()
		return nil, err
	}
	return s, nil
}

func (s *socket) close() error { return s.file.Close() }

// control calls f with the descriptor, which stays open during the call.
func (s *socket) control(f func(fd int) error) error {
	var err error
	if e := s.raw.Control(func(fd uintptr) { err = f(int(fd)) }); e != nil {
		return e
	}
	return err
}

// setOption sets an SCTP socket option.
func setOption[T any](s *socket, name string, option int, value *T) error {
	return s.control(func(fd int) error {
		_, _, e := unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.IPPROTO_SCTP, uintptr(option),
			uintptr(unsafe.Pointer(value)), unsafe.Sizeof(*value), 0)
		if e != 0 {
			return fmt.Errorf("set socket option %s: %w", name, e)
		}
		return nil
	})
}

// getOption reads an SCTP socket option into value, which holds the arguments of the request.
func getOption[T any](s *socket, name string, option int, value *T) error {
	return s.control(func(fd int) error {
		size := uint32(unsafe.Sizeof(*value))
		_, _, e := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.IPPROTO_SCTP, uintptr(option),
			uintptr(unsafe.Pointer(value)), uintptr(unsafe.Pointer(&size)), 0)
		if e != 0 {
			return fmt.Errorf("get socket option %s: %w", name, e)
		}
		return nil
	})
}

// bind binds the socket to addresses with one port and returns the port. Port 0 is a free one.
func (s *socket) bind(addrs []netip.Addr, port uint16) (uint16, error) {
	first, rest := addrs[0], addrs[1:]
	err := s.control(func(fd int) error {
		var sa unix.Sockaddr = &unix.SockaddrInet6{Port: int(port), Addr: first.As16(), ZoneId: scopeID(first.Zone())}
		if first.Is4() {
			sa = &unix.SockaddrInet4{Port: int(port), Addr: first.As4()}
		}
		if err := unix.Bind(fd, sa); err != nil {
			return fmt.Errorf("bind %v: %w", netip.AddrPortFrom(first, port), err)
		}
		got, err := unix.Getsockname(fd)
		if err != nil {
			return os.NewSyscallError("getsockname", err)
		}
		switch got := got.(type) {
		case *unix.SockaddrInet4:
			port = uint16(got.Port)
		case *unix.SockaddrInet6:
			port = uint16(got.Port)
		}
		return nil
	})
	for _, a := range rest {
		if err != nil {
			break
		}
		err = s.bindAlso(netip.AddrPortFrom(a, port))
	}
	return port, err
}

// bindAlso binds one more address (sctp_bindx; RFC 6458, Section 9.1).
func (s *socket) bindAlso(ap netip.AddrPort) error { return s.bindx(optBindAdd, ap) }

// unbind removes an address.
func (s *socket) unbind(ap netip.AddrPort) error { return s.bindx(optBindRemove, ap) }

func (s *socket) bindx(option int, ap netip.AddrPort) error {
	sa := appendSockaddr(nil, ap)
	return s.control(func(fd int) error {
		_, _, e := unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.IPPROTO_SCTP, uintptr(option),
			uintptr(unsafe.Pointer(&sa[0])), uintptr(len(sa)), 0)
		if e != 0 {
			return fmt.Errorf("bind %v: %w", ap, e)
		}
		return nil
	})
}

// connect starts an association and returns the kernel's name for it
// (sctp_connectx; RFC 6458, Section 9.9).
func (s *socket) connect(addrs []netip.AddrPort) (int32, error) {
	var packed []byte
	for _, ap := range addrs {
		packed = appendSockaddr(packed, ap)
	}
	p := connectAddrs{size: int32(len(packed)), addrs: unsafe.Pointer(&packed[0])}
	err := s.control(func(fd int) error {
		size := uint32(unsafe.Sizeof(p))
		_, _, e := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.IPPROTO_SCTP, optConnect,
			uintptr(unsafe.Pointer(&p)), uintptr(unsafe.Pointer(&size)), 0)
		if e != 0 && e != unix.EINPROGRESS {
			return e
		}
		return nil
	})
	return p.assoc, err
}

// peel makes a socket for an association, with the options of this socket and with what has
// arrived for the association (sctp_peeloff; RFC 6458, Section 9.2).
func (s *socket) peel(assoc int32) (*socket, error) {
	p := peelOff{assoc: assoc, flags: unix.SOCK_NONBLOCK | unix.SOCK_CLOEXEC}
	if err := getOption(s, "SCTP_SOCKOPT_PEELOFF_FLAGS", optPeelOff, &p); err != nil {
		return nil, err
	}
	return newSocket(int(p.fd), s.v6)
}

// addrs returns the addresses of a peer, or of this socket if the association is 0.
func (s *socket) addrs(option int, assoc int32) ([]netip.AddrPort, error) {
	// sctp_getaddrs: association, number, addresses.
	var b [maxAddrsOption]byte
	ne.PutUint32(b[:], uint32(assoc))
	if err := getOption(s, "addresses", option, &b); err != nil {
		return nil, err
	}
	var out []netip.AddrPort
	rest := b[8:]
	for range ne.Uint32(b[4:]) {
		ap, n := parseSockaddr(rest)
		if n == 0 {
			break
		}
		out = append(out, ap)
		rest = rest[n:]
	}
	return out, nil
}

// A recvmmsg reads up to recvBatch messages, notifications or parts of either, each of up to
// recvPart bytes. Longer ones come in several parts.
const (
	recvBatch = 4
	recvPart  = 4 << 10
)

// inbound holds the arguments and results of one recvmmsg.
type inbound struct {
	msgs    [recvBatch]mmsghdr
	iov     [recvBatch]unix.Iovec
	control [recvBatch]rcvControl
	name    [recvBatch]unix.RawSockaddrInet6 // the peer's primary address for notifications
	buf     [recvBatch][recvPart]byte
}

// mmsghdr is struct mmsghdr.
type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
}

// inbounds are those that no socket uses.
var inbounds = sync.Pool{New: func() any { return newInbound() }}

func newInbound() *inbound {
	in := new(inbound)
	for i := range in.msgs {
		in.iov[i].Base = &in.buf[i][0]
		in.iov[i].SetLen(recvPart)
		h := &in.msgs[i].hdr
		h.Iov = &in.iov[i]
		h.SetIovlen(1)
		h.Control = (*byte)(unsafe.Pointer(&in.control[i]))
	}
	return in
}

// fetch reads what has arrived, without waiting, and returns the number of parts.
func (in *inbound) fetch(fd uintptr) (int, syscall.Errno) {
	for i := range in.msgs {
		in.control[i].hdr = unix.Cmsghdr{}
		h := &in.msgs[i].hdr
		h.SetControllen(int(unsafe.Sizeof(in.control[i])))
		h.Name, h.Namelen = (*byte)(unsafe.Pointer(&in.name[i])), unix.SizeofSockaddrInet6
	}
	for {
		n, _, e := unix.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&in.msgs)), recvBatch, unix.MSG_DONTWAIT, 0, 0)
		if e != unix.EINTR {
			return int(n), e
		}
	}
}

// part is a message, a notification, or a part of either.
type part struct {
	b     []byte
	flags int      // of recvmsg
	info  *rcvInfo // nil for notifications
	from  []byte   // a sockaddr of the peer
}

// at returns one part of those that fetch has read.
func (in *inbound) at(i int) part {
	m := &in.msgs[i]
	p := part{b: in.buf[i][:min(m.n, recvPart)], flags: int(m.hdr.Flags)}
	if h := &in.control[i].hdr; h.Level == unix.IPPROTO_SCTP && h.Type == ancillaryRcvInfo {
		p.info = &in.control[i].info
	}
	name := (*[unix.SizeofSockaddrInet6]byte)(unsafe.Pointer(&in.name[i]))
	p.from = name[:min(m.hdr.Namelen, unix.SizeofSockaddrInet6)]
	return p
}

// receive calls handle for each part that arrives, and handled after each batch, until
// handled returns true or an error occurs.
func (s *socket) receive(handle func(part), handled func() (enough bool)) error {
	var errno syscall.Errno
	// The poller's Read resets its readiness only at its beginning, not between
	// tries. So all is done in one Read, and if a batch was not full, the next try
	// can wait for the poller.
	err := s.raw.Read(func(fd uintptr) bool {
		in := inbounds.Get().(*inbound)
		defer inbounds.Put(in)
		for {
			n, e := in.fetch(fd)
			if e != 0 && e != unix.EAGAIN {
				errno = e
				return true
			}
			for i := range n {
				handle(in.at(i))
			}
			if handled() {
				return true
			}
			if n < recvBatch {
				return false
			}
		}
	})
	if err == nil && errno != 0 {
		err = os.NewSyscallError("recvmmsg", errno)
	}
	return err
}

// outbound holds the arguments and the result of one sendmsg. Its owner locks it.
type outbound struct {
	msg     unix.Msghdr
	iov     unix.Iovec
	control sndControl
	errno   syscall.Errno
	do      func(fd uintptr)
}

func (c *outbound) init() {
	c.msg.Iov = &c.iov
	c.msg.SetIovlen(1)
	c.msg.Control = (*byte)(unsafe.Pointer(&c.control))
	c.msg.SetControllen(int(unsafe.Sizeof(c.control)))
	c.control.hdr.Level, c.control.hdr.Type = unix.IPPROTO_SCTP, ancillarySndInfo
	c.control.hdr.SetLen(unix.CmsgLen(int(unsafe.Sizeof(c.control.info))))
	c.do = func(fd uintptr) {
		for {
			_, _, c.errno = unix.Syscall(unix.SYS_SENDMSG, fd, uintptr(unsafe.Pointer(&c.msg)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
			if c.errno != unix.EINTR {
				return
			}
		}
	}
}

// send passes a message to the kernel, or with sndAbort or sndEOF a request to end the
// association. It never waits: if there is no room, the error is unix.EAGAIN.
func (s *socket) send(c *outbound, data []byte, info sndInfo) error {
	c.iov = unix.Iovec{}
	if len(data) > 0 {
		c.iov.Base = &data[0]
		c.iov.SetLen(len(data))
	}
	c.control.info = info
	err := s.raw.Control(c.do)
	c.iov.Base = nil
	if err == nil && c.errno != 0 {
		err = c.errno
	}
	return err
}
