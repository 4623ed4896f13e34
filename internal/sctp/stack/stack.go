// Package stack joins the transports of a machine: the kernel's SCTP, SCTP in UDP and TCP.
// An endpoint of a [Stack] has one port for all of them, and an association has a name
// that is unique over all of them. Connect with Kind Any tries them by Happy Eyeballs
// (RFC 8305).
package stack

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"syscall"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/kernel"
	"github.com/rserpool/coredns-rserpool/internal/sctp/localaddr"
	"github.com/rserpool/coredns-rserpool/internal/sctp/secure"
	"github.com/rserpool/coredns-rserpool/internal/sctp/udp"
)

// Config configures a Stack. The zero value is a good client.
type Config struct {
	// Only, if not Any, is the one transport to offer beside TCP. With Any there is
	// SCTP in UDP in user space, and kernel SCTP if the kernel has it. If the
	// kernel itself serves the encapsulation port (net.sctp.udp_port), user space
	// leaves that port to it.
	Only sctp.Kind
	// EncapPort is the local UDP port of user-space SCTP, which all endpoints of the
	// Stack share; 0 is a free one, for clients and pool elements.
	EncapPort uint16
	// Framing separates messages over TCP. Without it, TCP is not offered.
	Framing sctp.Framing
	// TLS, if set, puts TLS 1.3 on all associations; Framing is needed then. The endpoints
	// can be used with secure.Recheck.
	TLS *secure.Config
	// Unserved says why peers may call an SCTP port that no endpoint has, for the log. Only
	// SCTP in UDP in user space logs this: the kernel itself refuses a peer.
	Unserved map[uint16]error
	// Limits bound what peers can make an endpoint hold; zero fields have defaults.
	Limits sctp.Limits
	// Logf, if set, logs one line for an operator, for example that the kernel has
	// no SCTP.
	Logf func(format string, args ...any)
	// Machine, if set, has the machine's addresses. It is for tests.
	Machine *localaddr.View
}

// Stack is the SCTP of a process: the transports that its machine offers, and the UDP
// sockets that its endpoints share. Any goroutine may call its methods.
type Stack struct {
	cfg    Config
	kernel bool
	udp    *udp.Mux // nil without SCTP in user space
	tcp    sctp.Counters
	// kernelN are the counters of kernel SCTP, tlsN those of TLS over SCTP.
	kernelN, tlsN sctp.Counters
	// lim are the limits of the transports.
	lim sctp.Limits
	ids sctp.IDs
	// machine has the addresses of this machine.
	machine *localaddr.View
	// kernelEncaps says that the kernel serves SCTP in UDP at the configured port.
	kernelEncaps bool

	mu        sync.Mutex
	closed    bool
	endpoints map[*endpoint]struct{}
}

// errNoKernel is the error if the kernel has no SCTP.
var errNoKernel = errors.New("this kernel has no SCTP: load it (modprobe sctp), or use SCTP in UDP (transport udp in the Corefile, --via udp of rsp)")

var (
	errNoFraming    = errors.New("TCP cannot be offered without a framing of messages")
	errNoFramingTLS = errors.New("TLS cannot be offered without a framing of messages")
)

// New makes a Stack. It opens no socket yet. If Config.Only is Kernel, New fails if the
// kernel has no SCTP.
func New(cfg Config) (*Stack, error) {
	cfg.Limits = cfg.Limits.WithDefaults()
	if cfg.Logf == nil {
		cfg.Logf = func(string, ...any) {}
	}
	s := &Stack{cfg: cfg, lim: cfg.Limits, machine: cfg.Machine, endpoints: map[*endpoint]struct{}{}}
	if s.machine == nil {
		s.machine = localaddr.New(cfg.Logf)
	}
	s.tcp.Logf, s.kernelN.Logf, s.tlsN.Logf = cfg.Logf, cfg.Logf, cfg.Logf
	if cfg.TLS != nil {
		s.lim = secure.BelowLimits(cfg.Limits)
	}
	user := cfg.Only == sctp.Any || cfg.Only == sctp.UDP
	s.kernel = (cfg.Only == sctp.Any || cfg.Only == sctp.Kernel) && kernel.Supported()
	switch {
	case cfg.Only == sctp.TCP && cfg.Framing.Len == nil:
		return nil, errNoFraming
	case cfg.TLS != nil && cfg.Framing.Len == nil:
		return nil, errNoFramingTLS
	case cfg.Only == sctp.Kernel && !s.kernel:
		return nil, errNoKernel
	case cfg.Only == sctp.Any && !s.kernel:
		cfg.Logf("sctp: the kernel has no SCTP, so SCTP is served in UDP only (RFC 6951)")
	case cfg.Only == sctp.Any && cfg.EncapPort != 0 && kernel.EncapPort() == cfg.EncapPort:
		user, s.kernelEncaps = false, true
		cfg.Logf("sctp: the kernel itself serves SCTP in UDP port %d (net.sctp.udp_port)", cfg.EncapPort)
	}
	if user {
		s.udp = udp.New(s.lim, cfg.EncapPort, s.machine)
		s.udp.Unserved = cfg.Unserved
	}
	return s, nil
}

// Stats returns the counters.
func (s *Stack) Stats() sctp.Stats {
	var st sctp.Stats
	if s.udp != nil {
		st = s.udp.Stats()
	}
	for _, n := range []*sctp.Counters{&s.tcp, &s.kernelN, &s.tlsN} {
		o := n.Stats()
		st.Overruns += o.Overruns
		st.Refused += o.Refused
		st.Panics += o.Panics
	}
	return st
}

// EncapPort returns the local UDP port of SCTP in UDP: the configured one, or the free one
// that the first endpoint was given. It is 0 before that, and without SCTP in UDP.
func (s *Stack) EncapPort() uint16 {
	switch {
	case s.kernelEncaps:
		return s.cfg.EncapPort
	case s.udp == nil:
		return 0
	}
	return s.udp.EncapPort()
}

// portTries is how many random ports Listen tries if a port that is free for one
// transport is in use for another.
const portTries = 100

// Listen makes an endpoint of all transports that the Stack offers, with one port for all
// of them. It accepts TCP connections if cfg says so. Port 0 is a port that is free for
// each transport. The Handler must not call Close, which waits for the Handler.
func (s *Stack) Listen(cfg sctp.ListenConfig, h sctp.Handler) (sctp.Endpoint, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, sctp.ErrClosed
	}
	e, err := s.listen(cfg, h)
	for try := 0; err != nil && try < portTries && wantsAnyPort(cfg) && isPortInUse(err); try++ {
		// A dynamic port (RFC 6335, Section 6).
		e, err = s.listen(onPort(cfg, 49152+rand.N(uint16(16384))), h)
	}
	if err != nil {
		return nil, err
	}
	s.endpoints[e] = struct{}{}
	return e, nil
}

// wantsAnyPort reports whether cfg accepts any port.
func wantsAnyPort(cfg sctp.ListenConfig) bool {
	return !slices.ContainsFunc(cfg.Addrs, func(a netip.AddrPort) bool { return a.Port() != 0 })
}

func isPortInUse(err error) bool {
	return errors.Is(err, udp.ErrPortInUse) || errors.Is(err, syscall.EADDRINUSE)
}

func (s *Stack) listen(cfg sctp.ListenConfig, h sctp.Handler) (*endpoint, error) {
	e := newEndpoint(s, h)
	if err := e.listen(cfg); err != nil {
		_ = e.closeKinds()
		return nil, err
	}
	return e, nil
}

// Close closes the remaining endpoints and all sockets.
func (s *Stack) Close() error {
	s.mu.Lock()
	s.closed = true
	left := make([]*endpoint, 0, len(s.endpoints))
	for e := range s.endpoints {
		left = append(left, e)
	}
	s.mu.Unlock()
	var errs []error
	for _, e := range left {
		errs = append(errs, e.Close())
	}
	if s.udp != nil {
		s.udp.Wait()
	}
	return sctp.Join(errs...)
}

func (s *Stack) forget(e *endpoint) {
	s.mu.Lock()
	delete(s.endpoints, e)
	s.mu.Unlock()
}
