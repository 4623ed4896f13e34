package sctp

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

// udpMux is the user-space SCTP of a Stack: the UDP sockets that its endpoints
// share, and the associations over them. Packets find their association by its
// verification tag, and where a packet does not carry ours (INIT, and ABORT or
// SHUTDOWN COMPLETE with the T bit) by UDP address and SCTP ports.
type udpMux struct {
	lim  Limits
	logf func(string, ...any)
	// machine knows the addresses of this machine, and its routes.
	machine *machine
	bind    func(netip.AddrPort) (datagrams, error)
	key     []byte // of the cookies
	clock   clock
	encap   encapPorts
	n       counters
	blue    limiter // of answers to packets out of the blue
	bufs    sync.Pool
	wg      sync.WaitGroup

	mu        sync.RWMutex
	encapPort uint16 // 0 until the first socket is bound
	socks     map[netip.Addr]*boundSocket
	ports     map[uint16]*udpEndpoint
	tags      map[uint32]*udpAssoc
	peers     map[peerKey]*udpAssoc
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

func newUDPMux(lim Limits, encapPort uint16, key []byte, machine *machine,
	bind func(netip.AddrPort) (datagrams, error),
) *udpMux {
	m := &udpMux{
		lim:       lim,
		logf:      machine.logf,
		machine:   machine,
		bind:      bind,
		key:       key,
		clock:     newClock(time.Now),
		blue:      limiter{each: blueEach, all: blueAll, addrs: blueAddrs},
		encapPort: encapPort,
		socks:     map[netip.Addr]*boundSocket{},
		ports:     map[uint16]*udpEndpoint{},
		tags:      map[uint32]*udpAssoc{},
		peers:     map[peerKey]*udpAssoc{},
	}
	m.n.logf = m.logf
	return m
}

// errInUse says that an SCTP port is taken within the Stack.
var errInUse = errors.New("SCTP port is in use by another endpoint of this stack")

// bindTries is how often a free UDP port is sought that several addresses have.
const bindTries = 8

// acquire binds the addresses, or joins the sockets that have them, and
// returns the sockets. Addresses without a socket of their own are served by
// one bound to the unspecified address of their family. m.mu is held.
func (m *udpMux) acquire(addrs []netip.Addr) ([]*boundSocket, error) {
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

func (m *udpMux) tryAcquire(addrs []netip.Addr) (socks []*boundSocket, err error) {
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
func (m *udpMux) release(socks []*boundSocket) {
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
func (m *udpMux) readLoop(s *boundSocket) {
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
func (m *udpMux) guard(f func()) {
	defer func() {
		if r := recover(); r != nil {
			m.n.panics.Add(1)
			m.logf("sctp: a packet made the UDP transport panic: %v", r)
		}
	}()
	f()
}

// receive handles one packet. It keeps no part of b.
func (m *udpMux) receive(s *boundSocket, b []byte, from netip.AddrPort, to netip.Addr) {
	h, chunks, err := parsePacket(b)
	if err != nil {
		m.countBad(err)
		return
	}
	first, rest, ok := nextChunk(chunks)
	if !ok {
		m.n.malformed.Add(1)
		return
	}
	in := arrival{sock: s, from: from, to: to, header: h}
	switch {
	case first.typ == chunkInit:
		if h.tag != 0 || len(rest) != 0 {
			m.n.malformed.Add(1)
			return
		}
		m.onInit(in, first.body)
	case h.tag == 0:
		m.n.malformed.Add(1)
	case first.typ == chunkCookieEcho:
		m.onCookieEcho(in, first.body, rest)
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
	header
}

// key is how the association that a packet belongs to looks from outside.
func (in *arrival) key() peerKey { return peerKey{in.dst, in.src, in.from} }

// answer sends a packet back where one came from.
func (in *arrival) answer(tag uint32, c ...chunk) {
	_ = in.sock.write(packetOf(header{in.dst, in.src, tag}, c...), in.from, in.to)
}

// cameFrom says whether a path leads to where the packet came from.
func (in *arrival) cameFrom(p path) bool { return p.to.Addr() == in.from.Addr() }

func (m *udpMux) countBad(err error) {
	if errors.Is(err, errChecksum) {
		m.n.badChecksum.Add(1)
	} else {
		m.n.malformed.Add(1)
	}
}

// find gives the association that a packet belongs to (RFC 9260, Section 8.5).
func (m *udpMux) find(in arrival, first chunk) *udpAssoc {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if (first.typ == chunkAbort || first.typ == chunkShutdownComplete) && first.flags&flagT != 0 {
		if a := m.peers[in.key()]; a != nil && a.reflects(in.tag) {
			return a
		}
		return nil
	}
	a := m.tags[in.tag]
	if a == nil || a.ep.port != in.dst || a.peerPort != in.src {
		return nil
	}
	return a
}

// outOfTheBlue answers a packet that belongs to no association as RFC 9260,
// Section 8.4, says, at a limited rate.
func (m *udpMux) outOfTheBlue(in arrival, first chunk) {
	m.n.outOfTheBlue.Add(1)
	switch first.typ {
	case chunkAbort, chunkShutdownComplete, chunkCookieAck, chunkError, chunkInitAck:
		return
	}
	if !m.blue.allow(in.from.Addr(), m.clock.now()) {
		return
	}
	if first.typ == chunkShutdownAck {
		in.answer(in.tag, chunk{typ: chunkShutdownComplete, flags: flagT})
		return
	}
	in.answer(in.tag, chunk{typ: chunkAbort, flags: flagT})
}

// unreachable ends what a refused packet belongs to. The packet's own header
// must be quoted, so that nobody who does not see our packets can do it.
func (m *udpMux) unreachable(u *unreachableError) {
	if len(u.quote) < commonHeaderLen {
		return
	}
	h, chunks := parseHeader(u.quote)
	m.mu.RLock()
	a := m.peers[peerKey{h.src, h.dst, netip.AddrPortFrom(u.to.Addr().Unmap(), u.to.Port())}]
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
func (m *udpMux) getBuf() *[]byte {
	if b, ok := m.bufs.Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, recvWindow(m.lim)+pionMTU)
	return &b
}

func (m *udpMux) putBuf(b *[]byte) { m.bufs.Put(b) }
