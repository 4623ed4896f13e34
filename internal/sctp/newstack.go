package sctp

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"syscall"
)

// Stack is the SCTP of a process: the kinds that its machine offers, and the
// UDP sockets that its endpoints share. Its methods may be called from any
// goroutine.
type Stack struct {
	cfg    StackConfig
	kernel bool
	udp    *udpMux // nil if user space stays out
	tcp    counters
	// kernelN counts for the kernel's SCTP.
	kernelN counters
	ids     idAllocator
	// machine knows the addresses of this machine.
	machine *machine
	// kernelEncaps says that the kernel does SCTP in UDP for us.
	kernelEncaps bool

	mu        sync.Mutex
	closed    bool
	endpoints map[*endpoint]struct{}
}

// errNoKernel says what to do where the kernel has no SCTP.
var errNoKernel = errors.New("this kernel has no SCTP: load it (modprobe sctp), or use SCTP in UDP (transport udp in the Corefile, --via udp of rsp)")

// NewStack makes a Stack. It opens no socket yet. With KernelOnly it fails
// where the kernel has no SCTP.
func NewStack(cfg StackConfig) (*Stack, error) {
	cfg.Limits = cfg.Limits.withDefaults()
	if cfg.Logf == nil {
		cfg.Logf = func(string, ...any) {}
	}
	s := &Stack{cfg: cfg, machine: newMachine(cfg.Logf), endpoints: map[*endpoint]struct{}{}}
	s.tcp.logf, s.kernelN.logf = cfg.Logf, cfg.Logf
	user := true
	switch cfg.Mode {
	case UDPOnly:
	case KernelOnly, Auto:
		s.kernel = kernelSupported()
		user = cfg.Mode == Auto
	default:
		return nil, fmt.Errorf("unknown transport mode %d", cfg.Mode)
	}
	switch {
	case cfg.Mode == KernelOnly && !s.kernel:
		return nil, errNoKernel
	case cfg.Mode == Auto && !s.kernel:
		cfg.Logf("sctp: the kernel has no SCTP, so SCTP is served in UDP only (RFC 6951)")
	case cfg.Mode == Auto && cfg.EncapPort != 0 && kernelEncapPort() == cfg.EncapPort:
		user, s.kernelEncaps = false, true
		cfg.Logf("sctp: the kernel itself serves SCTP in UDP port %d (net.sctp.udp_port)", cfg.EncapPort)
	}
	if user {
		key := make([]byte, 32)
		_, _ = rand.Read(key) // never fails
		s.udp = newUDPMux(cfg.Limits, cfg.EncapPort, key, s.machine, func(a netip.AddrPort) (datagrams, error) {
			return listenUDP(a)
		})
	}
	return s, nil
}

// Kinds are the kinds of SCTP that the Stack offers, the preferred one first.
// SCTP in UDP by the kernel is of Kind Kernel, though a Dest of Kind UDP has
// the kernel call so. TCP is not among them: whether an endpoint has it is a matter of its
// ListenConfig.
func (s *Stack) Kinds() []Kind {
	var kinds []Kind
	if s.kernel {
		kinds = append(kinds, Kernel)
	}
	if s.udp != nil {
		kinds = append(kinds, UDP)
	}
	return kinds
}

// Stats gives the Stack's counters.
func (s *Stack) Stats() Stats {
	var st Stats
	if s.udp != nil {
		st = s.udp.n.stats()
	}
	for _, n := range []*counters{&s.tcp, &s.kernelN} {
		o := n.stats()
		st.Overruns += o.Overruns
		st.Refused += o.Refused
		st.Panics += o.Panics
	}
	return st
}

// EncapPort is the local UDP port of SCTP in UDP: the configured one, or the
// one that was taken for the first endpoint. It is 0 before that, and where
// there is no SCTP in UDP.
func (s *Stack) EncapPort() uint16 {
	switch {
	case s.kernelEncaps:
		return s.cfg.EncapPort
	case s.udp == nil:
		return 0
	}
	s.udp.mu.RLock()
	defer s.udp.mu.RUnlock()
	return s.udp.encapPort
}

// portTries is how many random ports Listen tries when the port that is free
// for one kind of transport is in use for another.
const portTries = 100

// Listen makes an endpoint of all the kinds that the Stack offers, with one
// port for all of them, and of TCP if cfg asks for it. Port 0 is one that is
// free for each of them. The Handler must not call Close, which waits for it.
func (s *Stack) Listen(cfg ListenConfig, h Handler) (Endpoint, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	e, err := s.listen(cfg, h)
	for try := 0; err != nil && try < portTries && wantsAnyPort(cfg) && isPortInUse(err); try++ {
		// A dynamic port (RFC 6335, Section 6).
		e, err = s.listen(onPort(cfg, 49152+uint16(random32()%16384)), h)
	}
	if err != nil {
		return nil, err
	}
	s.endpoints[e] = struct{}{}
	return e, nil
}

// wantsAnyPort says whether cfg leaves the port open.
func wantsAnyPort(cfg ListenConfig) bool {
	return !slices.ContainsFunc(cfg.Addrs, func(a netip.AddrPort) bool { return a.Port() != 0 })
}

func isPortInUse(err error) bool {
	return errors.Is(err, errInUse) || errors.Is(err, syscall.EADDRINUSE)
}

func (s *Stack) listen(cfg ListenConfig, h Handler) (*endpoint, error) {
	e := newEndpoint(s, h)
	if err := e.listen(cfg); err != nil {
		_ = e.closeKinds()
		return nil, err
	}
	return e, nil
}

// Close closes the endpoints that are left, and all sockets.
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
		s.udp.wg.Wait()
	}
	return errors.Join(errs...)
}

func (s *Stack) forget(e *endpoint) {
	s.mu.Lock()
	delete(s.endpoints, e)
	s.mu.Unlock()
}
