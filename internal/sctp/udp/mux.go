package udp

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/localaddr"
	"github.com/rserpool/coredns-rserpool/internal/sctp/wire"
)

// Mux is the user-space SCTP of a Stack: the UDP sockets that its endpoints
// share, and the associations over them. Packets find their association by its
// verification tag, and where a packet does not carry ours (INIT, and ABORT or
// SHUTDOWN COMPLETE with the T bit) by UDP address and SCTP ports.
type Mux struct {
	lim  sctp.Limits
	logf func(string, ...any)
	// machine knows the addresses of this machine, and its routes.
	machine *localaddr.View
	bind    func(netip.AddrPort) (datagrams, error)
	key     []byte // of the cookies
	clock   clock
	encap   sctp.EncapPorts
	n       sctp.Counters
	blue    limiter // of answers to packets out of the blue
	bufs    sync.Pool
	wg      sync.WaitGroup

	mu        sync.RWMutex
	encapPort uint16 // 0 until the first socket is bound
	socks     map[netip.Addr]*boundSocket
	ports     map[uint16]*endpoint
	tags      map[uint32]*assoc
	peers     map[peerKey]*assoc
}

// boundSocket is a socket and the number of endpoints that use it.
type boundSocket struct {
	datagrams
	users int
}

// peerKey names the association with a peer as seen from outside.
type peerKey struct {
	local, peer uint16 // SCTP ports
	from        netip.AddrPort
}

// New makes the SCTP in UDP of a Stack, at a UDP port; 0 takes a free one. It opens
// no socket yet.
func New(lim sctp.Limits, encapPort uint16, machine *localaddr.View) *Mux {
	m := &Mux{
		lim:       lim,
		logf:      machine.Logf,
		machine:   machine,
		bind:      func(a netip.AddrPort) (datagrams, error) { return listenUDP(a) },
		key:       make([]byte, 32),
		clock:     newClock(time.Now),
		blue:      limiter{each: blueEach, all: blueAll, addrs: blueAddrs},
		encapPort: encapPort,
		socks:     map[netip.Addr]*boundSocket{},
		ports:     map[uint16]*endpoint{},
		tags:      map[uint32]*assoc{},
		peers:     map[peerKey]*assoc{},
	}
	m.n.Logf = m.logf
	_, _ = rand.Read(m.key) // never fails
	return m
}

// Stats gives the counters.
func (m *Mux) Stats() sctp.Stats { return m.n.Stats() }

// EncapPort is the UDP port; 0 if it is to be a free one and nothing has listened yet.
func (m *Mux) EncapPort() uint16 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.encapPort
}

// Wait waits for the sockets' goroutines, once all endpoints are closed.
func (m *Mux) Wait() { m.wg.Wait() }

// ErrPortInUse says that an SCTP port is taken within the Stack.
var ErrPortInUse = errors.New("SCTP port is in use by another endpoint of this stack")

// bindTries is how often a free UDP port is sought that several addresses have.
const bindTries = 8

// acquire binds the addresses, or joins the sockets that have them, and
// returns the sockets. Addresses without a socket of their own are served by
// one bound to the unspecified address of their family. m.mu is held.
func (m *Mux) acquire(addrs []netip.Addr) ([]*boundSocket, error) {
	free := m.encapPort == 0
	for try := 0; ; try++ {
		socks, err := m.tryAcquire(addrs)
		if err == nil {
			return socks, nil
		}
		if !free || try >= bindTries {
			return nil, fmt.Errorf("UDP port %d: %w", m.encapPort, err)
		}
		m.encapPort = 0
	}
}

func (m *Mux) tryAcquire(addrs []netip.Addr) (socks []*boundSocket, err error) {
	defer func() {
		if err != nil {
			m.release(socks)
			socks = nil
		}
	}()
	for _, a := range addrs {
		s := m.socks[a]
		if s == nil {
			s = m.socks[unspecified(a)]
		}
		if s == nil {
			d, err := m.bind(netip.AddrPortFrom(a, m.encapPort))
			if err != nil {
				return socks, err
			}
			m.encapPort = d.local().Port()
			s = &boundSocket{datagrams: d}
			m.socks[a] = s
			m.wg.Add(1)
			go m.readLoop(s)
		}
		s.users++
		socks = append(socks, s)
	}
	return socks, nil
}

// release gives up sockets of acquire. m.mu is held.
func (m *Mux) release(socks []*boundSocket) {
	for _, s := range socks {
		if s.users--; s.users == 0 {
			delete(m.socks, s.local().Addr())
			_ = s.close()
		}
	}
}

func unspecified(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// maxPacket is the largest UDP payload there is.
const maxPacket = 65535

// readAgain is how soon a socket that failed is read again.
const readAgain = 100 * time.Millisecond

// readLoop takes packets off a socket until it is closed.
func (m *Mux) readLoop(s *boundSocket) {
	defer m.wg.Done()
	b := make([]byte, maxPacket)
	failed := false
	for {
		n, from, to, err := s.read(b)
		var u *unreachableError
		switch {
		case err == nil:
			m.guard(func() { m.receive(s, b[:n], from, to) })
		case errors.As(err, &u):
			m.guard(func() { m.unreachable(u) })
		case errors.Is(err, net.ErrClosed):
			return
		default:
			if !failed {
				m.logf("sctp: UDP socket %v cannot be read, trying again: %v", s.local(), err)
			}
			failed = true
			time.Sleep(readAgain)
		}
	}
}

// guard keeps a panic from ending the process. What it hits is one packet.
func (m *Mux) guard(f func()) {
	defer func() {
		if r := recover(); r != nil {
			m.n.Panics.Add(1)
			m.logf("sctp: a packet made the UDP transport panic: %v", r)
		}
	}()
	f()
}

// receive handles one packet. It keeps no part of b.
func (m *Mux) receive(s *boundSocket, b []byte, from netip.AddrPort, to netip.Addr) {
	h, chunks, err := wire.ParsePacket(b)
	if err != nil {
		m.countBad(err)
		return
	}
	first, rest, ok := wire.NextChunk(chunks)
	if !ok {
		m.n.Malformed.Add(1)
		return
	}
	in := arrival{sock: s, from: from, to: to, Header: h}
	switch {
	case first.Type == wire.ChunkInit:
		if h.Tag != 0 || len(rest) != 0 {
			m.n.Malformed.Add(1)
			return
		}
		m.onInit(in, first.Body)
	case h.Tag == 0:
		m.n.Malformed.Add(1)
	case first.Type == wire.ChunkCookieEcho:
		m.onCookieEcho(in, first.Body, rest)
	default:
		if a := m.find(in, first); a == nil || !a.receive(in, chunks) {
			m.outOfTheBlue(in, first)
		}
	}
}

// arrival is the way by which a packet came.
type arrival struct {
	sock *boundSocket
	from netip.AddrPort // UDP
	to   netip.Addr     // ours; may be invalid if the system does not tell
	wire.Header
}

// key is how the association that a packet belongs to looks from outside.
func (in *arrival) key() peerKey { return peerKey{in.Dst, in.Src, in.from} }

// answer sends a packet back where one came from.
func (in *arrival) answer(tag uint32, c ...wire.Chunk) {
	_ = in.sock.write(wire.PacketOf(wire.Header{Src: in.Dst, Dst: in.Src, Tag: tag}, c...), in.from, in.to)
}

// cameFrom says whether a path leads to where the packet came from.
func (in *arrival) cameFrom(p path) bool { return p.to.Addr() == in.from.Addr() }

func (m *Mux) countBad(err error) {
	if errors.Is(err, wire.ErrChecksum) {
		m.n.BadChecksum.Add(1)
	} else {
		m.n.Malformed.Add(1)
	}
}

// find gives the association that a packet belongs to (RFC 9260, Section 8.5).
func (m *Mux) find(in arrival, first wire.Chunk) *assoc {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if (first.Type == wire.ChunkAbort || first.Type == wire.ChunkShutdownComplete) && first.Flags&wire.FlagT != 0 {
		if a := m.peers[in.key()]; a != nil && a.reflects(in.Tag) {
			return a
		}
		return nil
	}
	a := m.tags[in.Tag]
	if a == nil || a.ep.port != in.Dst || a.peerPort != in.Src {
		return nil
	}
	return a
}

// sctp.OutOfTheBlue answers a packet that belongs to no association as RFC 9260,
// Section 8.4, says, at a limited rate.
func (m *Mux) outOfTheBlue(in arrival, first wire.Chunk) {
	m.n.OutOfTheBlue.Add(1)
	switch first.Type {
	case wire.ChunkAbort, wire.ChunkShutdownComplete, wire.ChunkCookieAck, wire.ChunkError, wire.ChunkInitAck:
		return
	}
	if !m.blue.allow(in.from.Addr(), m.clock.now()) {
		return
	}
	if first.Type == wire.ChunkShutdownAck {
		in.answer(in.Tag, wire.Chunk{Type: wire.ChunkShutdownComplete, Flags: wire.FlagT})
		return
	}
	in.answer(in.Tag, wire.Chunk{Type: wire.ChunkAbort, Flags: wire.FlagT})
}

// unreachable ends what a refused packet belongs to. The packet's own header
// must be quoted, so that nobody who does not see our packets can do it.
func (m *Mux) unreachable(u *unreachableError) {
	if len(u.quote) < wire.CommonHeaderLen {
		return
	}
	h, chunks := wire.ParseHeader(u.quote)
	m.mu.RLock()
	a := m.peers[peerKey{h.Src, h.Dst, netip.AddrPortFrom(u.to.Addr().Unmap(), u.to.Port())}]
	m.mu.RUnlock()
	if a != nil {
		a.unreachable(h, chunks, u)
	}
}

// newTag gives a tag that no association has. m.mu need not be held: cookies
// hold tags that nobody knows of until they come back, and a clash is seen then.
func newTag() uint32 {
	for {
		if t := random32(); t != 0 {
			return t
		}
	}
}

// random32 is a number that a peer cannot guess.
func random32() uint32 {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails
	return binary.BigEndian.Uint32(b[:])
}

// getBuf gives a buffer for the largest row of records that pion can hold.
func (m *Mux) getBuf() *[]byte {
	if b, ok := m.bufs.Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, recvWindow(m.lim)+pionMTU)
	return &b
}

func (m *Mux) putBuf(b *[]byte) { m.bufs.Put(b) }
