// Package kernel uses the kernel's SCTP (Linux only).
//
// An endpoint listens with one one-to-many socket (RFC 6458, Section 3) and gives each
// association that comes up a socket of its own (Section 9.2). By default the kernel's
// buffers belong to the socket, not to the association (net.sctp.sndbuf_policy and
// rcvbuf_policy 0): on a shared socket, a peer that sends what the kernel cannot deliver,
// or reads nothing, would fill the buffers of all others.
//
// Each socket has a goroutine that waits for messages and notifications and calls the
// Handler. Send passes a message to the kernel directly. If the kernel has no room, the
// message is queued, and another goroutine sends the queue. Half-open associations of peers
// cost nothing here: their state is in the cookie (RFC 9260, Section 5.1.3).
package kernel

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/localaddr"
)

const (
	// streams is the number of streams that are requested and granted in each
	// direction. ASAP and ENRP use only stream 0.
	streams = 10
	// rtoInitial is RTO.Initial (RFC 9260, Section 16).
	rtoInitial = time.Second
	// rtoMax is RTO.Max. It is less than the 60 s of RFC 9260, Section 16, so that
	// the loss of a peer is noticed in seconds for any round-trip time.
	rtoMax = 10 * time.Second
	// initTimeoutMax is the longest interval between INITs.
	initTimeoutMax = 2 * time.Second
	// pathMTU is the largest packet, in bytes; every IPv6 path carries it. There is
	// no path MTU discovery, which fails on the many networks that drop ICMP.
	pathMTU = 1280
	// receiveBuffer and sendBuffer are the sizes of each socket's buffers to ask
	// for, in bytes; the kernel doubles them for its own structures. The receive
	// window is receiveBuffer. A process without privileges gets at most
	// net.core.rmem_max and wmem_max, which are 208 KiB by default.
	receiveBuffer = 128 << 10
	sendBuffer    = 64 << 10
)

// Supported reports whether this machine's kernel has SCTP.
func Supported() bool {
	s, err := openSocket(false)
	if err != nil {
		return false
	}
	_ = s.close()
	return true
}

// EncapPort returns the UDP port at which the kernel itself serves SCTP in UDP in this
// network namespace (net.sctp.udp_port); 0 if it does not.
func EncapPort() uint16 { return uint16(sysctlValue("udp_port")) }

// sysctlValue returns net.sctp.name of this network namespace; 0 if there is none.
func sysctlValue(name string) uint64 {
	b, err := os.ReadFile("/proc/sys/net/sctp/" + name)
	if err != nil {
		return 0
	}
	n, _ := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 32)
	return n
}

// endpoint is a port of kernel SCTP.
type endpoint struct {
	sock *socket
	lim  sctp.Limits
	ids  *sctp.IDs
	h    sctp.Handler
	port uint16
	// bound are the addresses that are bound now; only follow uses it after Listen.
	binding binding
	bound   []netip.Addr
	machine *localaddr.View
	mobile  bool // ListenConfig.Mobile
	// unfollow ends the following of the machine's addresses, if they are followed.
	unfollow func()
	n        *sctp.Counters
	// encapDefault is the UDP port of peers for which none is set
	// (net.sctp.encap_port); 0 is SCTP over IP. serves is EncapPort().
	encapDefault, serves uint16
	addip                bool // dynamic address reconfiguration is on
	encap                sctp.EncapPorts

	done chan struct{} // closed by Close
	wg   sync.WaitGroup

	// Mu guards byKernel as well. While it is held, neither the Handler runs nor is
	// an association locked.
	sctp.Table[*assoc]
	byKernel map[int32]*assoc
}

var _ sctp.Endpoint = (*endpoint)(nil)

// Listen makes an endpoint.
func Listen(cfg sctp.ListenConfig, lim sctp.Limits, ids *sctp.IDs, n *sctp.Counters, m *localaddr.View, h sctp.Handler) (sctp.Endpoint, error) {
	addrs, port, both, err := cfg.BindAddrs()
	if err != nil {
		return nil, err
	}
	lim = lim.WithDefaults()
	lim.Associations = min(lim.Associations, sctp.Descriptors())
	e := newEndpoint(bindingOf(addrs), lim, m)
	err = e.listen(slices.ContainsFunc(addrs, netip.Addr.Is6), port)
	if both && sctp.NoFamily(err) { // no IPv6
		e.binding.all6 = false
		err = e.listen(false, port)
	}
	if err != nil {
		return nil, fmt.Errorf("listen with kernel SCTP: %w", err)
	}
	e.ids, e.n, e.h, e.mobile = ids, n, h, cfg.Mobile
	e.wg.Go((&reader{e: e, sock: e.sock}).loop)
	if e.mobile || e.binding.follows() {
		e.unfollow = m.Follow(e.follow)
	}
	return e, nil
}

// newEndpoint makes an endpoint without a socket.
func newEndpoint(b binding, lim sctp.Limits, m *localaddr.View) *endpoint {
	return &endpoint{
		binding: b, lim: lim, machine: m,
		encapDefault: uint16(sysctlValue("encap_port")),
		serves:       EncapPort(),
		addip:        sysctlValue("addip_enable") != 0,
		done:         make(chan struct{}),
		byKernel:     map[int32]*assoc{},
	}
}

// configure sets the socket's options. Those that are not necessary may fail.
func (e *endpoint) configure() error {
	s, lim := e.sock, e.lim
	err := s.control(func(fd int) error {
		// Closing the socket, also by the end of the process, aborts the
		// associations: the peers are notified at once.
		linger := unix.Linger{Onoff: 1}
		err := os.NewSyscallError("set SO_LINGER", unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &linger))
		if s.v6 {
			err = sctp.Join(err, os.NewSyscallError("clear IPV6_V6ONLY", unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0)))
		}
		for _, opt := range [...]struct{ force, set, size int }{
			{unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, sendBuffer},
			{unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, receiveBuffer},
		} {
			if unix.SetsockoptInt(fd, unix.SOL_SOCKET, opt.force, opt.size) != nil {
				_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, opt.set, opt.size)
			}
		}
		// The sockets of associations have this socket's port and the addresses
		// that it had when they were made. An address that was lost and is back
		// must be free to bind. While a socket listens, no other can bind its
		// port.
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
		return err
	})
	one, interleave := int32(1), int32(1)
	// sctp_event_subscribe up to the tenth event, which all kernels accept. There
	// is no notification of undelivered messages: without a lifetime, messages are
	// undelivered only when the association ends.
	events := [10]uint8{1: 1, 2: 1, 6: 1} // association, address, partial delivery
	err = sctp.Join(err,
		setOption(s, "SCTP_EVENTS", optEvents, &events),
		setOption(s, "SCTP_RECVRCVINFO", optRecvRcvInfo, &one),
		setOption(s, "SCTP_NODELAY", optNoDelay, &one),
		// Without this, a peer that sends only half of a message blocks the
		// messages of all others.
		setOption(s, "SCTP_FRAGMENT_INTERLEAVE", optFragInterleave, &interleave),
		setOption(s, "SCTP_INITMSG", optInitMsg, &initMsg{
			outStreams: streams, maxInStreams: streams,
			maxAttempts: uint16(min(lim.HandshakeTime/rtoInitial+1, 100)),
			maxTimeout:  uint16(initTimeoutMax.Milliseconds()),
		}))
	if err != nil {
		return err
	}
	// A message that is too long is noticed before it is complete.
	point := uint32(lim.MessageSize + 1)
	_ = setOption(s, "SCTP_PARTIAL_DELIVERY_POINT", optPartialDelivery, &point)
	_ = setOption(s, "SCTP_RTOINFO", optRTOInfo, &rtoInfo{
		initial: uint32(rtoInitial.Milliseconds()), max: uint32(rtoMax.Milliseconds()),
	})
	_ = setOption(s, "SCTP_ASSOCINFO", optAssocInfo, &assocParams{maxRetrans: uint16(min(lim.Misses, 255))})
	_ = setOption(s, "SCTP_PEER_ADDR_PARAMS", optPeerAddrParams,
		heartbeatParams(uint32(max(lim.Heartbeat.Milliseconds(), 1)), uint16(min(lim.Misses, 255))))
	return nil
}

// LocalAddrs implements Endpoint.
func (e *endpoint) LocalAddrs() []netip.AddrPort {
	var out []netip.AddrPort
	listed, err := e.sock.addrs(optLocalAddrs, 0)
	if err != nil {
		return nil // closed
	}
	for _, ap := range listed {
		if a := ap.Addr(); !a.IsLinkLocalUnicast() || slices.Contains(e.binding.named, a) {
			out = append(out, netip.AddrPortFrom(a, e.port))
		}
	}
	slices.SortStableFunc(out, func(a, b netip.AddrPort) int { return loopbackLast(a.Addr()) - loopbackLast(b.Addr()) })
	return out
}

func loopbackLast(a netip.Addr) int {
	if a.IsLoopback() {
		return 1
	}
	return 0
}

// Connect implements Endpoint. Two SCTP endpoints have at most one association (RFC 9260,
// Section 1.3): if there is one already, it fails with ErrConnected.
func (e *endpoint) Connect(to sctp.Dest) sctp.AssocID {
	e.Mu.Lock()
	defer e.Mu.Unlock()
	if e.Closed {
		return 0
	}
	a := e.newAssoc()
	kid, err := e.connect(to)
	e.Add(a.id, a)
	if err != nil {
		// EADDRNOTAVAIL: the association has a socket of its own.
		if errors.Is(err, unix.EISCONN) || errors.Is(err, unix.EALREADY) || errors.Is(err, unix.EADDRNOTAVAIL) {
			err = sctp.ErrConnected
		}
		err = fmt.Errorf("connect to %v: %w", to.Addrs, err)
		e.wg.Go(func() { a.finish(sctp.ConnectFailed, err) })
		return a.id
	}
	a.kid = kid
	e.byKernel[kid] = a
	a.timer = time.AfterFunc(e.lim.HandshakeTime, func() {
		a.abortIf(stateConnecting, sctp.ConnectFailed, fmt.Errorf("connect to %v: %w", to.Addrs, sctp.ErrTimeout))
	})
	return a.id
}

// connect has the kernel start an association. e.Mu is held, so that the reader looks for
// it only when it is in the table.
func (e *endpoint) connect(to sctp.Dest) (int32, error) {
	addrs := make([]netip.AddrPort, 0, len(to.Addrs))
	for _, ap := range to.Addrs {
		a := ap.Addr().Unmap()
		if !a.IsValid() || ap.Port() == 0 || ap.Port() != to.Addrs[0].Port() {
			return 0, fmt.Errorf("bad address %v: want addresses of one port other than 0", ap)
		}
		if a.Is4() || e.sock.v6 {
			addrs = append(addrs, netip.AddrPortFrom(a, ap.Port()))
		}
	}
	s := e.machine.Now()
	addrs = e.nearFirst(s.Foreign(addrs))
	if len(addrs) == 0 {
		return 0, errors.New("no address of a family that this endpoint is bound to")
	}
	// A kernel that encapsulates by default reaches no peer without UDP.
	if to.Kind != sctp.UDP && (to.EncapPort == 0 || e.encapDefault == 0) {
		return e.sock.connect(addrs)
	}
	if e.serves == 0 {
		return 0, errors.New("the kernel does not serve SCTP in UDP here (net.sctp.udp_port is 0)")
	}
	port := to.EncapPort
	if port == 0 {
		port = e.encap.Port(addrs[0])
	}
	if err := e.setEncapPort(port); err != nil {
		return 0, err
	}
	defer func() { _ = e.setEncapPort(e.encapDefault) }()
	return e.sock.connect(addrs)
}

// setEncapPort sets the UDP port of peers for the following connections.
func (e *endpoint) setEncapPort(port uint16) error {
	u := udpEncaps{port: [2]byte{byte(port >> 8), byte(port)}}
	ne.PutUint16(u.address(), unix.AF_INET)
	return setOption(e.sock, "SCTP_REMOTE_UDP_ENCAPS_PORT", optRemoteEncapsPort, &u)
}

// Close implements Endpoint. It reports every association Down.
func (e *endpoint) Close() error {
	left, first := e.CloseTable()
	if !first {
		e.wg.Wait()
		return nil
	}
	close(e.done)
	if e.unfollow != nil {
		e.unfollow()
	}
	err := e.sock.close() // aborts all associations: SO_LINGER
	for _, a := range left {
		_ = a.socket().close()
		a.finish(sctp.LocalClose, nil)
	}
	e.wg.Wait()
	return err
}

// hasEnded reports whether an error of the kernel means that it no longer knows an
// association.
func hasEnded(err error) bool { return isGone(err) || errors.Is(err, unix.EINVAL) }

// isGone reports whether an error of the kernel means that the association has ended or is
// ending. Its notification follows.
func isGone(err error) bool {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return errors.Is(err, os.ErrClosed)
	}
	switch errno {
	case unix.EPIPE, unix.ESHUTDOWN, unix.ENOTCONN, unix.ECONNRESET, unix.ETIMEDOUT, unix.ECONNABORTED:
		return true
	}
	return false
}
