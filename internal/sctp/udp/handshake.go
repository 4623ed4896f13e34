package udp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/localaddr"
	"github.com/rserpool/coredns-rserpool/internal/sctp/wire"
)

const (
	// ourStreams is the number of streams that are offered in each direction. ASAP
	// and ENRP use one.
	ourStreams = 64
	// rtoInitial is the time between the first two INITs to an address
	// (RFC 9260, Section 16).
	rtoInitial = time.Second
	// nextAddr is the time between INITs to different addresses.
	nextAddr = 300 * time.Millisecond
	// unsentRounds is how often INITs to all addresses must be impossible to send
	// before Connect fails, for example without a route. The first time may be a
	// moment without buffers, or an interface that is just coming up.
	unsentRounds = 2
)

// ourParams returns the parameters of an INIT or INIT ACK to a peer that is sent from a
// local address.
func (e *endpoint) ourParams(peer, from netip.Addr) wire.InitParams {
	return wire.InitParams{
		Tag: e.m.newTag(), TSN: random32(), RWND: uint32(recvWindow(e.m.lim)),
		Out: ourStreams, In: ourStreams, Addrs: e.listed(peer, from),
	}
}

// connect prepares an association for its handshake. The endpoint's mutex is held.
func (a *assoc) connect(to sctp.Dest) {
	now := a.m.clock.now()
	a.timer, a.giveUp = now, now.Add(a.m.lim.HandshakeTime)
	if len(to.Addrs) > 0 {
		a.peerPort = to.Addrs[0].Port()
		first := to.Addrs[0].Addr().Unmap()
		a.local = a.ep.ourParams(first, a.ep.source(first))
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ep.full() {
		a.end(sctp.ConnectFailed, a.m.lim.ErrFull())
		return
	}
	err := a.findTargets(to)
	if err == nil {
		err = a.m.add(a, a.targets...)
	}
	if err != nil {
		a.end(sctp.ConnectFailed, err)
	}
}

// findTargets finds where INITs are sent. a.mu is held.
func (a *assoc) findTargets(to sctp.Dest) error {
	ours, self := a.ep.addrs(), false
	machine := a.m.machine.Now()
	for _, ap := range machine.Foreign(to.Addrs) {
		ip := localaddr.NamedZone(ap.Addr().Unmap())
		if ap.Port() != a.peerPort || ap.Port() == 0 || len(a.targets) >= wire.MaxPeerAddrs {
			continue
		}
		sock, from := a.ep.route(ip)
		if sock == nil {
			continue
		}
		port := to.EncapPort
		if port == 0 {
			port = a.m.encap.Port(netip.AddrPortFrom(ip, a.peerPort))
		}
		if slices.Contains(ours, ip) && a.peerPort == a.ep.port && port == sock.local().Port() {
			self = true
			continue
		}
		if p := (path{sock, from, netip.AddrPortFrom(ip, port)}); !slices.Contains(a.targets, p) {
			a.targets = append(a.targets, p)
		}
	}
	switch {
	case len(a.targets) == 0 && self:
		return errSelf
	case len(a.targets) == 0:
		return fmt.Errorf("no address of %v can be reached from %v", to.Addrs, a.ep.bound)
	}
	return nil
}

// add adds an association to the tables, unless there is one with the peer.
func (m *Mux) add(a *assoc, at ...path) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var addrs []netip.AddrPort
	for _, p := range at {
		if m.peers[peerKey{a.ep.port, a.peerPort, p.to}] != nil {
			return sctp.ErrConnected
		}
		addrs = append(addrs, p.to)
	}
	if m.tags[a.local.Tag] != nil {
		return errors.New("verification tag is in use, try again") // 1 in 4 billion
	}
	m.tags[a.local.Tag] = a
	m.index(a, addrs...)
	return nil
}

// handshake sends or repeats INIT or COOKIE ECHO. a.mu is held.
func (a *assoc) handshake(now time.Time) {
	n := max(len(a.targets), 1)
	round := a.tries / n
	wait := rtoInitial << min(round, 6)
	if a.state == stateCookieEchoed {
		wait = rtoInitial << min(a.tries, 6)
		a.transmit(a.path.Load(), a.peerTag.Load(), wire.Chunk{Type: wire.ChunkCookieEcho, Body: a.peer.Cookie})
	} else {
		p := a.targets[a.tries%n]
		if err := a.transmit(&p, 0, wire.Chunk{Type: wire.ChunkInit, Body: a.local.Body()}); err == nil {
			a.unsent = 0
		} else if a.unsent++; a.unsent >= unsentRounds*n {
			a.end(sctp.ConnectFailed, err)
			return
		}
		if a.tries%n < n-1 {
			wait = nextAddr
		}
	}
	a.tries++
	a.timer = now.Add(wait)
}

// unreachable handles the report that nobody received one of our packets.
func (a *assoc) unreachable(h wire.Header, chunks []byte, u *unreachableError) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch a.state {
	case stateCookieWait:
		if len(chunks) < 8 || h.Tag != 0 || binary.BigEndian.Uint32(chunks[4:]) != a.local.Tag {
			return
		}
		a.dropTarget(func(p path) bool { return p.to == u.to }, u)
	case stateCookieEchoed:
		if a.reflects(h.Tag) {
			a.end(sctp.ConnectFailed, u)
		}
	case stateEstablished:
		if a.reflects(h.Tag) {
			a.refusedAt(u)
		}
	case stateClosed:
	}
}

// dropTarget sends no more INITs to an address that has refused. Connect fails if it was
// the last one, for what all of them have said. a.mu is held.
func (a *assoc) dropTarget(at func(path) bool, why error) {
	before := len(a.targets)
	a.targets = slices.DeleteFunc(a.targets, at)
	if before == len(a.targets) {
		return
	}
	a.failures = append(a.failures, why)
	if len(a.targets) == 0 {
		a.end(sctp.ConnectFailed, sctp.JoinFailures(a.failures))
		return
	}
	a.timer = a.m.clock.now()
	a.poke()
}

// onInit answers an INIT without keeping state (RFC 9260, Sections 5.1 and 5.2).
func (m *Mux) onInit(in arrival, body []byte) {
	m.mu.RLock()
	e, a := m.ports[in.Dst], m.peers[in.key()]
	m.mu.RUnlock()
	if e == nil || !e.covers(in.to) {
		m.n.OutOfTheBlue.Add(1)
		if why := m.Unserved[in.Dst]; e == nil && why != nil {
			m.n.Unserved(sctp.UDP, netip.AddrPortFrom(in.from.Addr(), in.Src), why)
		}
		m.refuse(in, body, 0)
		return
	}
	if a == nil && e.behind() {
		return
	}
	p, err := wire.ParseInit(body)
	if err != nil || p.Cookie != nil {
		m.n.Malformed.Add(1)
		cause := uint16(wire.CauseInvalidParameter)
		if errors.Is(err, wire.ErrHostName) {
			cause = wire.CauseUnresolvableAddr
		}
		m.refuse(in, body, cause)
		return
	}
	m.cameFrom(&p, in.from.Addr())
	c := wire.Cookie{Made: m.clock.stampNow(), Local: in.Dst, PeerPort: in.Src, From: in.from, To: in.to}
	ours := wire.InitParams{}
	if a != nil {
		var ok bool
		if ours, ok = a.collide(p, &c, in.from.Addr()); !ok {
			m.refuse(in, body, wire.CauseNewAddresses)
			return
		}
	}
	if ours.Tag == 0 {
		ours = e.ourParams(in.from.Addr(), in.to)
	}
	c.Tag, c.TSN = ours.Tag, ours.TSN
	ours.Unreported, p.Unreported = p.Unreported, nil
	c.Peer = p
	ours.Cookie = c.Seal(m.key)
	in.answer(p.Tag, wire.Chunk{Type: wire.ChunkInitAck, Body: ours.Body()})
}

// cameFrom says from which address an INIT or INIT ACK arrived, and leaves out the listed
// addresses that cannot be used. Packets to addresses that this machine has too would not
// leave it.
func (m *Mux) cameFrom(p *wire.InitParams, from netip.Addr) {
	p.From(from)
	machine := m.machine.Now()
	same := machine.Own(from)
	p.Addrs = slices.DeleteFunc(p.Addrs, func(ip netip.Addr) bool {
		return !same && machine.Own(ip) || !inScope(ip, from) || ip.Is6() && ip.IsLinkLocalUnicast()
	})
}

// refuse answers an INIT with an ABORT.
func (m *Mux) refuse(in arrival, body []byte, cause uint16) {
	if len(body) < 4 || !m.ootb.allow(in.from.Addr(), m.clock.now()) {
		return
	}
	tag := binary.BigEndian.Uint32(body)
	if tag == 0 {
		return
	}
	c := wire.Chunk{Type: wire.ChunkAbort}
	if cause != 0 {
		c.Body = wire.AppendTLV(nil, cause, nil)
	}
	in.answer(tag, c)
}

// collide returns what to answer to an INIT of a peer with which there is an association
// already. While we connect to it, that is the content of our own INIT (RFC 9260,
// Section 5.2.1), so that both handshakes become one association. Later the INIT may be a
// restart: the cookie names the association that it would end (Section 5.2.2). ok is
// false if a restart brings new addresses, which is refused.
func (a *assoc) collide(p wire.InitParams, c *wire.Cookie, from netip.Addr) (ours wire.InitParams, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch a.state {
	case stateCookieWait:
		ours = a.local
	case stateCookieEchoed:
		ours = a.local
		c.TieTag, c.TiePeer = a.local.Tag, a.peerTag.Load()
	case stateEstablished:
		known := a.addrs()
		for _, ip := range p.Addrs {
			if !slices.Contains(known, netip.AddrPortFrom(ip, a.peerPort)) {
				return ours, false
			}
		}
		c.TieTag, c.TiePeer = a.local.Tag, a.peerTag.Load()
	case stateClosed:
	}
	return ours, true
}

// onCookieEcho makes an association from a cookie that the peer sends back (RFC 9260,
// Sections 5.1.5 and 5.2.4). rest are the chunks after it.
func (m *Mux) onCookieEcho(in arrival, body, rest []byte) {
	c, err := wire.OpenCookie(body, m.key, m.clock.stampNow())
	if errors.Is(err, wire.ErrCookie) || c.Local != in.Dst || c.PeerPort != in.Src || c.Tag != in.Tag ||
		c.From.Addr() != in.from.Addr().WithZone("") {
		m.n.BadCookie.Add(1)
		return
	}
	m.mu.RLock()
	e, a, old := m.ports[in.Dst], m.tags[c.Tag], m.peers[in.key()]
	m.mu.RUnlock()
	switch {
	case e == nil || !e.covers(in.to):
		m.n.OutOfTheBlue.Add(1)
		return
	case a != nil:
		a.cookieEchoed(in, c)
	case err != nil:
		m.n.BadCookie.Add(1)
		in.answer(c.Peer.Tag, wire.Chunk{Type: wire.ChunkError, Body: wire.AppendTLV(nil, wire.CauseStaleCookie, make([]byte, 4))})
		return
	case e.behind(), old != nil && !old.restarts(c):
		return
	default:
		var full bool
		if a, full = e.accept(in, c, old); full {
			m.n.Refuse(sctp.UDP, netip.AddrPortFrom(in.from.Addr(), in.Src), m.lim.ErrFull())
			in.answer(c.Peer.Tag, wire.Chunk{Type: wire.ChunkAbort, Body: wire.AppendTLV(nil, wire.CauseOutOfResource, nil)})
		}
		if a == nil {
			return
		}
	}
	if len(rest) > 0 {
		a.receive(in, rest)
	}
}

// cookieEchoed handles a cookie with our tag: both sides have connected to each other, or
// the cookie has arrived twice (actions B and D of RFC 9260, Section 5.2.4).
func (a *assoc) cookieEchoed(in arrival, c wire.Cookie) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch a.state {
	case stateCookieWait, stateCookieEchoed:
		a.acknowledge(in, c)
	case stateEstablished:
		if a.reflects(c.Peer.Tag) {
			in.answer(c.Peer.Tag, wire.Chunk{Type: wire.ChunkCookieAck})
		}
	case stateClosed:
	}
}

// acknowledge establishes the association of a cookie. The COOKIE ACK is sent first,
// because the peer discards data before it. a.mu is held.
func (a *assoc) acknowledge(in arrival, c wire.Cookie) {
	a.peer = c.Peer
	in.answer(c.Peer.Tag, wire.Chunk{Type: wire.ChunkCookieAck})
	a.establish(in)
}

// restarts reports whether a cookie is that of the peer's restart (action A of RFC 9260,
// Section 5.2.4), and ends the association if it is.
func (a *assoc) restarts(c wire.Cookie) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.state == stateClosed {
		return true
	}
	if a.state != stateEstablished || c.TieTag != a.local.Tag || !a.reflects(c.TiePeer) || a.reflects(c.Peer.Tag) {
		return false
	}
	a.end(sctp.PeerAbort, sctp.ErrRestarted)
	return true
}

// accept makes the association of a cookie; nil if the endpoint is full or closed, or has
// begun to connect to the peer meanwhile: then that handshake goes on. Its Up follows the Down
// of the association that it replaces.
func (e *endpoint) accept(in arrival, c wire.Cookie, replaces *assoc) (a *assoc, full bool) {
	e.Mu.Lock()
	defer e.Mu.Unlock()
	switch {
	case e.Closed:
		return nil, false
	case e.full() && replaces == nil:
		return nil, true
	}
	a = e.newAssoc()
	a.after = replaces
	a.peerPort = c.PeerPort
	a.local = wire.InitParams{Tag: c.Tag, TSN: c.TSN, RWND: uint32(recvWindow(e.m.lim)), Out: ourStreams, In: ourStreams, Addrs: e.listed(in.from.Addr(), in.to)}
	a.mu.Lock()
	defer a.mu.Unlock()
	if e.m.add(a, path{to: in.from}) != nil {
		return nil, false
	}
	a.acknowledge(in, c)
	if a.state != stateEstablished {
		return nil, false
	}
	a.untold = true
	e.backlog.Add(1)
	e.start(a)
	return a, false
}
