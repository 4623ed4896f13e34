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

// Mux is the user-space SCTP of a process: the UDP sockets that its endpoints share, and
// the associations over them. The association of a packet is found by the verification
// tag, or by UDP address and SCTP ports if the packet does not have our tag (INIT, and
// ABORT or SHUTDOWN COMPLETE with the T bit).
type Mux struct {
	// Unserved says why peers may call an SCTP port that no endpoint has, for the log. It is
	// set before the first endpoint is made.
	Unserved map[uint16]error

	lim  sctp.Limits
	logf func(string, ...any)
	// machine has the addresses and routes of this machine.
	machine *localaddr.View
	bind    func(netip.AddrPort) (datagrams, error)
	key     []byte // of the cookies
	clock   clock
	draw    func() uint32 // a number that a peer cannot guess
	encap   sctp.EncapPorts
	n       sctp.Counters
	ootb    limiter // of answers to packets of no association
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

// peerKey is what the packets of an association have in common.
type peerKey struct {
	local, peer uint16 // SCTP ports
	from        netip.AddrPort
}

// New makes a Mux at a UDP port; 0 is a free one. It opens no socket yet.
func New(lim sctp.Limits, encapPort uint16, machine *localaddr.View) *Mux {
	m := &Mux{
		lim:       lim,
		logf:      machine.Logf,
		machine:   machine,
		bind:      func(a netip.AddrPort) (datagrams, error) { return listenUDP(a) },
		key:       make([]byte, 32),
		clock:     newClock(time.Now),
		draw:      random32,
		ootb:      limiter{each: ootbEach, all: ootbAll, addrs: ootbAddrs},
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

// Stats returns the counters.
func (m *Mux) Stats() sctp.Stats { return m.n.Stats() }

// EncapPort returns the UDP port; 0 before a free one has been chosen.
func (m *Mux) EncapPort() uint16 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.encapPort
}

// Wait waits for the sockets' goroutines. All endpoints must be closed.
func (m *Mux) Wait() { m.wg.Wait() }

// ErrPortInUse: another endpoint of the Mux has the SCTP port.
var ErrPortInUse = errors.New("SCTP port is in use by another endpoint of this process")

// bindTries is how many UDP ports are tried to find one that is free on all addresses.
const bindTries = 8

// acquire returns sockets for the addresses: those that are bound already, or one that is
// bound to the unspecified address of the family, or new ones. m.mu is held.
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

// release gives sockets of acquire back. m.mu is held.
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

// maxPacket is the largest UDP payload, in bytes.
const maxPacket = 65535

// readAgain is the time after which a socket that failed is read again.
const readAgain = 100 * time.Millisecond

// readLoop handles the packets of a socket until it is closed.
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
				m.logf("sctp: reading UDP socket %v failed, trying again: %v", s.local(), err)
			}
			failed = true
			time.Sleep(readAgain)
		}
	}
}

// guard recovers a panic in the handling of one packet.
func (m *Mux) guard(f func()) {
	defer func() {
		if r := recover(); r != nil {
			m.n.Panicked("the handling of a packet over UDP", r)
		}
	}()
	f()
}

// receive handles one packet. It does not keep b.
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

// arrival says where a packet came from and where it was sent to.
type arrival struct {
	sock *boundSocket
	from netip.AddrPort // UDP
	to   netip.Addr     // ours; invalid if the system does not say
	wire.Header
}

// key returns the key of the association that a packet belongs to.
func (in *arrival) key() peerKey { return peerKey{in.Dst, in.Src, in.from} }

// answer sends a packet to where another one came from.
func (in *arrival) answer(tag uint32, c ...wire.Chunk) {
	_ = in.sock.write(wire.PacketOf(wire.Header{Src: in.Dst, Dst: in.Src, Tag: tag}, c...), in.from, in.to)
}

// cameFrom reports whether a path leads to where the packet came from.
func (in *arrival) cameFrom(p path) bool { return p.to.Addr() == in.from.Addr() }

func (m *Mux) countBad(err error) {
	if errors.Is(err, wire.ErrChecksum) {
		m.n.BadChecksum.Add(1)
	} else {
		m.n.Malformed.Add(1)
	}
}

// find returns the association that a packet belongs to (RFC 9260, Section 8.5).
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

// outOfTheBlue answers a packet that belongs to no association (RFC 9260, Section 8.4), at
// a limited rate.
func (m *Mux) outOfTheBlue(in arrival, first wire.Chunk) {
	m.n.OutOfTheBlue.Add(1)
	switch first.Type {
	case wire.ChunkAbort, wire.ChunkShutdownComplete, wire.ChunkCookieAck, wire.ChunkError, wire.ChunkInitAck:
		return
	}
	if !m.ootb.allow(in.from.Addr(), m.clock.now()) {
		return
	}
	if first.Type == wire.ChunkShutdownAck {
		in.answer(in.Tag, wire.Chunk{Type: wire.ChunkShutdownComplete, Flags: wire.FlagT})
		return
	}
	in.answer(in.Tag, wire.Chunk{Type: wire.ChunkAbort, Flags: wire.FlagT})
}

// unreachable handles an ICMP error. It must quote the header of our packet, so that only
// a host that sees our packets can end an association.
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

// newTag returns a random tag that no association has. One that is in use would be given away
// with an INIT ACK, and the COOKIE ECHO would then seem to be that of its owner: the peer would
// get no answer, however often it repeated it. With thousands of associations this is not rare.
func (m *Mux) newTag() uint32 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	for {
		if t := m.draw(); t != 0 && m.tags[t] == nil {
			return t
		}
	}
}

// random32 returns a number that a peer cannot guess.
func random32() uint32 {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails
	return binary.BigEndian.Uint32(b[:])
}

// getBuf returns a buffer for the largest message that pion can hold.
func (m *Mux) getBuf() *[]byte {
	if b, ok := m.bufs.Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, recvWindow(m.lim)+pionMTU)
	return &b
}

func (m *Mux) putBuf(b *[]byte) { m.bufs.Put(b) }
