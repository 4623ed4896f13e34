package udp

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/localaddr"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
)

// ether is a UDP network in memory, with which user-space SCTP is tested in
// virtual time.
type ether struct {
	// delay says how long a packet takes, and whether it arrives at all.
	// It may change the packet. nil is 1 ms for all.
	delay func(from, to netip.AddrPort, b []byte) (time.Duration, bool)
	down  error // why nothing can be sent
	// refuse says why a packet cannot be sent; nil is as delay says.
	refuse func(from, to netip.AddrPort) error

	mu    sync.Mutex
	socks map[netip.AddrPort]*etherSock
	sent  int
	ports uint16
}

func newEther() *ether { return &ether{socks: map[netip.AddrPort]*etherSock{}, ports: 40000} }

// etherSock is a UDP socket of a wire.
type etherSock struct {
	w    *ether
	addr netip.AddrPort
	in   chan etherPacket
	done chan struct{}
}

type etherPacket struct {
	b    []byte
	from netip.AddrPort
	err  error
}

func (w *ether) bind(a netip.AddrPort) (datagrams, error) { return w.sock(a) }

func (w *ether) sock(a netip.AddrPort) (*etherSock, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if a.Port() == 0 {
		w.ports++
		a = netip.AddrPortFrom(a.Addr(), w.ports)
	}
	if w.socks[a] != nil {
		return nil, fmt.Errorf("%v is in use", a)
	}
	s := &etherSock{w: w, addr: a, in: make(chan etherPacket, 10000), done: make(chan struct{})}
	w.socks[a] = s
	return s, nil
}

func (s *etherSock) local() netip.AddrPort { return s.addr }

func (s *etherSock) read(b []byte) (int, netip.AddrPort, netip.Addr, error) {
	select {
	case p := <-s.in:
		return copy(b, p.b), p.from, s.addr.Addr(), p.err
	case <-s.done:
		return 0, netip.AddrPort{}, netip.Addr{}, net.ErrClosed
	}
}

func (s *etherSock) write(b []byte, to netip.AddrPort, _ netip.Addr) error {
	b = append([]byte(nil), b...)
	w := s.w
	w.mu.Lock()
	if w.down != nil {
		defer w.mu.Unlock()
		return w.down
	}
	if w.refuse != nil {
		if err := w.refuse(s.addr, to); err != nil {
			w.mu.Unlock()
			return err
		}
	}
	w.sent++
	d, ok := time.Millisecond, true
	if w.delay != nil {
		d, ok = w.delay(s.addr, to, b)
	}
	d += time.Duration(w.sent) // so that what is sent together comes in order
	w.mu.Unlock()
	if ok {
		time.AfterFunc(d, func() { w.deliver(etherPacket{b: b, from: s.addr}, to) })
	}
	return nil
}

func (w *ether) deliver(p etherPacket, to netip.AddrPort) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if d := w.socks[to]; d != nil {
		select {
		case d.in <- p:
		default:
		}
	}
}

func (s *etherSock) close() error {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if s.w.socks[s.addr] == s {
		delete(s.w.socks, s.addr)
	}
	select {
	case <-s.done:
	default:
		close(s.done)
	}
	return nil
}

// set changes how packets travel.
func (w *ether) set(delay func(from, to netip.AddrPort, b []byte) (time.Duration, bool)) {
	w.mu.Lock()
	w.delay = delay
	w.mu.Unlock()
}

// cut has nothing be sent any more, for a reason; nil ends that.
func (w *ether) cut(why error) {
	w.mu.Lock()
	w.down = why
	w.mu.Unlock()
}

// bad is a network that loses, doubles and disorders packets.
func bad(rng *rand.Rand, loss float64) func(from, to netip.AddrPort, b []byte) (time.Duration, bool) {
	return func(netip.AddrPort, netip.AddrPort, []byte) (time.Duration, bool) {
		return time.Duration(rng.IntN(50)) * time.Millisecond, rng.Float64() >= loss
	}
}

// mux makes a user-space SCTP on the wire.
func (w *ether) mux(t testing.TB, lim sctp.Limits, encap uint16) *Mux {
	logf := t.Logf
	if _, fuzzing := t.(*testing.F); fuzzing { // F.Logf panics while a target runs
		logf = func(string, ...any) {}
	}
	view := localaddr.New(logf)
	view.Read = func() (localaddr.State, error) { return localaddr.State{}, nil }
	view.Source = func(netip.Addr) (netip.Addr, error) { return netip.Addr{}, errors.New("a wire has no routes") }
	m := New(lim.WithDefaults(), encap, view)
	m.bind = w.bind
	return m
}

// site makes an endpoint of a mux.
func (m *Mux) site(t testing.TB, addrs ...string) *sctptest.Site {
	t.Helper()
	x := sctptest.NewSite(t)
	x.Patience = 10 * time.Minute
	e, err := m.Listen(sctp.ListenConfig{Addrs: to(addrs...).Addrs}, new(sctp.IDs), x.Handle)
	if err != nil {
		t.Fatalf("listen on %s: %v", addrs, err)
	}
	x.Endpoint = e
	return x
}

// end closes sites and waits for their sockets' goroutines, as a synctest
// bubble must be empty at the end.
func end(sites ...*sctptest.Site) {
	for _, s := range sites {
		s.Close()
		s.Endpoint.(*endpoint).m.wg.Wait()
	}
}

// crash makes a mux go away as its process does, without a word.
func (m *Mux) crash(w *ether) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for a, s := range w.socks {
		if b := m.socks[a.Addr()]; b != nil && b.datagrams == s {
			delete(w.socks, a)
		}
	}
}

// packets is the number of packets sent so far.
func (w *ether) packets() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sent
}

// assocOf returns a site's association.
func assocOf(x *sctptest.Site, id sctp.AssocID) *assoc {
	e := x.Endpoint.(*endpoint)
	e.Mu.RLock()
	defer e.Mu.RUnlock()
	return e.All[id]
}
