package sctp

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// wire is a UDP network in memory, with which user-space SCTP is tested in
// virtual time.
type wire struct {
	// delay says how long a packet takes, and whether it arrives at all.
	// It may change the packet. nil is 1 ms for all.
	delay func(from, to netip.AddrPort, b []byte) (time.Duration, bool)
	down  error // why nothing can be sent
	// refuse says why a packet cannot be sent; nil is as delay says.
	refuse func(from, to netip.AddrPort) error

	mu    sync.Mutex
	socks map[netip.AddrPort]*wireSock
	sent  int
	ports uint16
}

func newWire() *wire { return &wire{socks: map[netip.AddrPort]*wireSock{}, ports: 40000} }

// wireSock is a UDP socket of a wire.
type wireSock struct {
	w    *wire
	addr netip.AddrPort
	in   chan wirePacket
	done chan struct{}
}

type wirePacket struct {
	b    []byte
	from netip.AddrPort
	err  error
}

func (w *wire) bind(a netip.AddrPort) (datagrams, error) { return w.sock(a) }

func (w *wire) sock(a netip.AddrPort) (*wireSock, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if a.Port() == 0 {
		w.ports++
		a = netip.AddrPortFrom(a.Addr(), w.ports)
	}
	if w.socks[a] != nil {
		return nil, fmt.Errorf("%v is in use", a)
	}
	s := &wireSock{w: w, addr: a, in: make(chan wirePacket, 10000), done: make(chan struct{})}
	w.socks[a] = s
	return s, nil
}

func (s *wireSock) local() netip.AddrPort { return s.addr }

func (s *wireSock) read(b []byte) (int, netip.AddrPort, netip.Addr, error) {
	select {
	case p := <-s.in:
		return copy(b, p.b), p.from, s.addr.Addr(), p.err
	case <-s.done:
		return 0, netip.AddrPort{}, netip.Addr{}, net.ErrClosed
	}
}

func (s *wireSock) write(b []byte, to netip.AddrPort, _ netip.Addr) error {
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
		time.AfterFunc(d, func() { w.deliver(wirePacket{b: b, from: s.addr}, to) })
	}
	return nil
}

func (w *wire) deliver(p wirePacket, to netip.AddrPort) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if d := w.socks[to]; d != nil {
		select {
		case d.in <- p:
		default:
		}
	}
}

func (s *wireSock) close() error {
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
func (w *wire) set(delay func(from, to netip.AddrPort, b []byte) (time.Duration, bool)) {
	w.mu.Lock()
	w.delay = delay
	w.mu.Unlock()
}

// cut has nothing be sent any more, for a reason; nil ends that.
func (w *wire) cut(why error) {
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
func (w *wire) mux(t testing.TB, lim Limits, encap uint16) *udpMux {
	machine := newMachine(t.Logf)
	machine.read = func() (machineState, error) { return machineState{}, nil }
	machine.source = func(netip.Addr) (netip.Addr, error) { return netip.Addr{}, errors.New("a wire has no routes") }
	return newUDPMux(lim.withDefaults(), encap, []byte("key"), machine, w.bind)
}

// site makes an endpoint of a mux.
func (m *udpMux) site(t testing.TB, addrs ...string) *site {
	t.Helper()
	x := &site{t: t, events: make(chan Event, 10000)}
	e, err := m.listen(ListenConfig{Addrs: memDest(addrs...).Addrs}, new(idAllocator), func(ev Event) { x.events <- ev })
	if err != nil {
		t.Fatalf("listen on %s: %v", addrs, err)
	}
	x.Endpoint = e
	return x
}

// end closes sites and waits for their sockets' goroutines, as a synctest
// bubble must be empty at the end.
func (x *site) end(more ...*site) {
	for _, s := range append(more, x) {
		s.Close()
		s.Endpoint.(*udpEndpoint).m.wg.Wait()
	}
}

// crash makes a mux go away as its process does, without a word.
func (m *udpMux) crash(w *wire) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for a, s := range w.socks {
		if b := m.socks[a.Addr()]; b != nil && b.datagrams == s {
			delete(w.socks, a)
		}
	}
}

// packets is the number of packets sent so far.
func (w *wire) packets() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sent
}
