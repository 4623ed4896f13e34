package sctp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

const (
	// ourStreams is the number of streams that we offer in each direction.
	// ASAP and ENRP use one.
	ourStreams = 64
	// rtoInitial is the time between the first two INITs to an address
	// (RFC 9260, Section 16).
	rtoInitial = time.Second
	// nextAddr is the time until the next of several addresses is tried.
	nextAddr = 300 * time.Millisecond
	// unsentRounds is how often an INIT to each address must fail to be sent
	// for the call to fail: there is no route, say. One round may be a moment
	// without buffers, or an interface that is about to come up.
	unsentRounds = 2
)

// ourParams are the parameters of an INIT or INIT ACK of ours to a peer, which
// goes from an address of ours.
func (e *udpEndpoint) ourParams(peer, from netip.Addr) initParams {
	return initParams{
		tag: newTag(), tsn: random32(), rwnd: uint32(recvWindow(e.m.lim)),
		out: ourStreams, in: ourStreams, addrs: e.listed(peer, from),
	}
}

// call prepares an association to be called. The endpoint's mutex is held.
func (a *udpAssoc) call(to Dest) {
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
		a.end(ConnectFailed, a.m.lim.errFull())
		return
	}
	err := a.findCalls(to)
	if err == nil {
		err = a.m.add(a, a.calls...)
	}
	if err != nil {
		a.end(ConnectFailed, err)
	}
}

// findCalls finds out where INITs may go. a.mu is held.
func (a *udpAssoc) findCalls(to Dest) error {
	ours, self := a.ep.addrs(), false
	machine := a.m.machine.now()
	for _, ap := range machine.foreignPorts(to.Addrs) {
		ip := ap.Addr().Unmap()
		if ap.Port() != a.peerPort || ap.Port() == 0 || len(a.calls) >= maxPeerAddrs {
			continue
		}
		sock, from := a.ep.route(ip)
		if sock == nil {
			continue
		}
		port := to.EncapPort
		if port == 0 {
			port = a.m.encap.port(netip.AddrPortFrom(ip, a.peerPort))
		}
		if slices.Contains(ours, ip) && a.peerPort == a.ep.port && port == sock.local().Port() {
			self = true
			continue
		}
		if p := (path{sock, from, netip.AddrPortFrom(ip, port)}); !slices.Contains(a.calls, p) {
			a.calls = append(a.calls, p)
		}
	}
	switch {
	case len(a.calls) == 0 && self:
		return errSelf
	case len(a.calls) == 0:
		return fmt.Errorf("no address of %v can be reached from %v", to.Addrs, a.ep.bound)
	}
	return nil
}

// add enters an association into the tables, unless the peer has one.
func (m *udpMux) add(a *udpAssoc, at ...path) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var addrs []netip.AddrPort
	for _, p := range at {
		if m.peers[peerKey{a.ep.port, a.peerPort, p.to}] != nil {
			return ErrConnected
		}
		addrs = append(addrs, p.to)
	}
	if m.tags[a.local.tag] != nil {
		return errors.New("verification tag is taken") // 1 in 4 billion
	}
	m.tags[a.local.tag] = a
	m.index(a, addrs...)
	return nil
}

// handshake sends INIT or COOKIE ECHO, again if it was before. a.mu is held.
func (a *udpAssoc) handshake(now time.Time) {
	n := max(len(a.calls), 1)
	round := a.tries / n
	wait := rtoInitial << min(round, 6)
	if a.state == stateCookieEchoed {
		wait = rtoInitial << min(a.tries, 6)
		a.transmit(a.path.Load(), a.peerTag.Load(), chunk{typ: chunkCookieEcho, body: a.peer.cookie})
	} else {
		p := a.calls[a.tries%n]
		if err := a.transmit(&p, 0, chunk{typ: chunkInit, body: a.local.body()}); err == nil {
			a.unsent = 0
		} else if a.unsent++; a.unsent >= unsentRounds*n {
			a.end(ConnectFailed, err)
			return
		}
		if a.tries%n < n-1 {
			wait = nextAddr
		}
	}
	a.tries++
	a.timer = now.Add(wait)
}

// unreachable takes in that a packet of ours was refused.
func (a *udpAssoc) unreachable(h header, chunks []byte, u *unreachableError) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch a.state {
	case stateCookieWait:
		if len(chunks) < 8 || h.tag != 0 || binary.BigEndian.Uint32(chunks[4:]) != a.local.tag {
			return
		}
		a.dropCall(func(p path) bool { return p.to == u.to }, u)
	case stateCookieEchoed:
		if a.reflects(h.tag) {
			a.end(ConnectFailed, u)
		}
	case stateEstablished:
		if a.reflects(h.tag) {
			a.refusedAt(u)
		}
	}
}

// dropCall calls no more at an address from which the call was refused; it
// fails when that was the last one. a.mu is held.
func (a *udpAssoc) dropCall(at func(path) bool, why error) {
	a.calls = slices.DeleteFunc(a.calls, at)
	if len(a.calls) == 0 {
		a.end(ConnectFailed, why)
		return
	}
	a.timer = a.m.clock.now()
	a.poke()
}

// onInit answers an INIT without keeping anything (RFC 9260, Sections 5.1
// and 5.2).
func (m *udpMux) onInit(in arrival, body []byte) {
	m.mu.RLock()
	e, a := m.ports[in.dst], m.peers[in.key()]
	m.mu.RUnlock()
	if e == nil || !e.covers(in.to) {
		m.n.outOfTheBlue.Add(1)
		m.refuse(in, body, 0)
		return
	}
	p, err := parseInit(body)
	if err != nil || p.cookie != nil {
		m.n.malformed.Add(1)
		cause := uint16(causeInvalidParameter)
		if errors.Is(err, errHostName) {
			cause = causeUnresolvableAddr
		}
		m.refuse(in, body, cause)
		return
	}
	p.from(in.from.Addr())
	c := cookie{made: m.clock.stampNow(), local: in.dst, peerPort: in.src, from: in.from, to: in.to}
	ours := initParams{}
	if a != nil {
		var ok bool
		if ours, ok = a.collide(p, &c, in.from.Addr()); !ok {
			m.refuse(in, body, causeNewAddresses)
			return
		}
	}
	if ours.tag == 0 {
		ours = e.ourParams(in.from.Addr(), in.to)
	}
	c.tag, c.tsn = ours.tag, ours.tsn
	ours.unreported, p.unreported = p.unreported, nil
	c.peer = p
	ours.cookie = c.seal(m.key)
	in.answer(p.tag, chunk{typ: chunkInitAck, body: ours.body()})
}

// refuse answers an INIT with an ABORT.
func (m *udpMux) refuse(in arrival, body []byte, cause uint16) {
	if len(body) < 4 || !m.blue.allow(in.from.Addr(), m.clock.now()) {
		return
	}
	tag := binary.BigEndian.Uint32(body)
	if tag == 0 {
		return
	}
	c := chunk{typ: chunkAbort}
	if cause != 0 {
		c.body = appendTLV(nil, cause, nil)
	}
	in.answer(tag, c)
}

// collide says what to answer to an INIT from a peer that there is an
// association with: while we are calling it, what we told it ourselves
// (RFC 9260, Section 5.2.1), so that both calls become one association. Later
// it may be a restart, which the cookie ties to the association that it would
// end (Section 5.2.2); that must not bring new addresses.
func (a *udpAssoc) collide(p initParams, c *cookie, from netip.Addr) (ours initParams, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch a.state {
	case stateCookieWait:
		ours = a.local
	case stateCookieEchoed:
		ours = a.local
		c.tieTag, c.tiePeer = a.local.tag, a.peerTag.Load()
	case stateEstablished:
		known := a.addrs()
		for _, ip := range p.addrs {
			if !slices.Contains(known, netip.AddrPortFrom(ip, a.peerPort)) {
				return ours, false
			}
		}
		c.tieTag, c.tiePeer = a.local.tag, a.peerTag.Load()
	}
	return ours, true
}

// onCookieEcho makes an association of a cookie that has come back
// (RFC 9260, Sections 5.1.5 and 5.2.4). The rest are the chunks after it.
func (m *udpMux) onCookieEcho(in arrival, body, rest []byte) {
	c, err := openCookie(body, m.key, m.clock.stampNow())
	if errors.Is(err, errCookie) || c.local != in.dst || c.peerPort != in.src || c.tag != in.tag ||
		c.from.Addr() != in.from.Addr().WithZone("") {
		m.n.badCookie.Add(1)
		return
	}
	m.mu.RLock()
	e, a, old := m.ports[in.dst], m.tags[c.tag], m.peers[in.key()]
	m.mu.RUnlock()
	switch {
	case e == nil || !e.covers(in.to):
		m.n.outOfTheBlue.Add(1)
		return
	case a != nil:
		a.cookieEchoed(in, c)
	case err != nil:
		m.n.badCookie.Add(1)
		in.answer(c.peer.tag, chunk{typ: chunkError, body: appendTLV(nil, causeStaleCookie, make([]byte, 4))})
		return
	case old != nil && !old.restarts(c):
		return
	default:
		if a = e.accept(in, c, old); a == nil {
			m.n.refuse(UDP, netip.AddrPortFrom(in.from.Addr(), in.src), m.lim.errFull())
			in.answer(c.peer.tag, chunk{typ: chunkAbort, body: appendTLV(nil, causeOutOfResource, nil)})
			return
		}
	}
	if len(rest) > 0 {
		a.receive(in, rest)
	}
}

// cookieEchoed takes in a cookie that bears our tag: both sides have called
// each other, or it has come twice (actions B and D of RFC 9260,
// Section 5.2.4).
func (a *udpAssoc) cookieEchoed(in arrival, c cookie) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch a.state {
	case stateCookieWait, stateCookieEchoed:
		a.acknowledge(in, c)
	case stateEstablished:
		if a.reflects(c.peer.tag) {
			in.answer(c.peer.tag, chunk{typ: chunkCookieAck})
		}
	}
}

// acknowledge establishes the association that a cookie stands for. The peer
// takes no data before the COOKIE ACK, so that goes first. a.mu is held.
func (a *udpAssoc) acknowledge(in arrival, c cookie) {
	a.peer = c.peer
	in.answer(c.peer.tag, chunk{typ: chunkCookieAck})
	a.establish(in)
}

// restarts says whether a cookie is that of the peer's restart (action A of
// RFC 9260, Section 5.2.4), and ends the association if so.
func (a *udpAssoc) restarts(c cookie) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.state == stateClosed {
		return true
	}
	if a.state != stateEstablished || c.tieTag != a.local.tag || !a.reflects(c.tiePeer) || a.reflects(c.peer.tag) {
		return false
	}
	a.end(PeerAbort, errRestarted)
	return true
}

// accept makes the association that a cookie stands for; nil if there is no
// room. It comes up after the one that it replaces has been told down.
func (e *udpEndpoint) accept(in arrival, c cookie, replaces *udpAssoc) *udpAssoc {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed || e.full() && replaces == nil {
		return nil
	}
	a := e.newAssoc()
	a.after = replaces
	a.peerPort = c.peerPort
	a.local = initParams{tag: c.tag, tsn: c.tsn, rwnd: uint32(recvWindow(e.m.lim)), out: ourStreams, in: ourStreams}
	a.mu.Lock()
	defer a.mu.Unlock()
	if e.m.add(a, path{to: in.from}) != nil {
		return nil
	}
	a.acknowledge(in, c)
	if a.state != stateEstablished {
		return nil
	}
	e.start(a)
	return a
}
