package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/wire"
)

// reader reads a socket and calls the Handler.
type reader struct {
	e      *endpoint
	sock   *socket
	kid    int32  // the association of the socket; 0 if it is the endpoint's
	failed error  // of the socket, as the kernel has told it last
	skip   bool   // ignore the rest of a notification that came in parts
	from   []byte // a sockaddr: the peer's primary address, while a notification is handled
	peeled []*reader
}

// loop runs until the socket is closed or its association ends.
func (r *reader) loop() {
	for r.waitResumed() {
		err := r.sock.receive(r.part, r.handled)
		switch {
		case err == nil:
		case errors.Is(err, os.ErrClosed), !r.e.pause(10 * time.Millisecond):
			return
		default:
			r.failed = err // the notification of the association's end follows
		}
	}
	_ = r.sock.close()
}

// part handles a message, a notification, or a part of either.
func (r *reader) part(p part) {
	whole := p.flags&unix.MSG_EOR != 0
	switch {
	case p.flags&flagNotification == 0:
		r.e.received(p.info, p.b, whole)
	case !r.skip:
		r.from = p.from
		r.notified(p.b)
		fallthrough
	default:
		r.skip = !whole
	}
}

// handled is called after each batch. It begins to read the sockets of new associations,
// whose first messages may have been in the batch, and reports whether the association of
// this socket has ended or is paused.
func (r *reader) handled() bool {
	for _, b := range r.peeled {
		r.e.wg.Go(b.loop)
	}
	r.peeled = nil
	if r.kid == 0 {
		return false
	}
	a := r.e.byName(r.kid)
	return a == nil || a.gate.Paused() != nil
}

// waitResumed waits while the association of this socket is paused. It returns false if
// the association has ended.
func (r *reader) waitResumed() bool {
	if r.kid == 0 {
		return true
	}
	a := r.e.byName(r.kid)
	if a == nil {
		return false
	}
	for c := a.gate.Paused(); c != nil; c = a.gate.Paused() {
		select {
		case <-c:
		case <-time.After(pausedLook):
			// The news that the association has ended is behind what is not read.
			if _, err := r.sock.addrs(optPeerAddrs, r.kid); err != nil {
				a.gate.Break()
			}
		}
	}
	return true
}

// pausedLook is how often a paused association is looked at.
const pausedLook = time.Second

// pause waits and returns whether the endpoint is still open.
func (e *endpoint) pause(d time.Duration) bool {
	select {
	case <-e.done:
		return false
	case <-time.After(d):
		return true
	}
}

// byName finds an association by the kernel's name.
func (e *endpoint) byName(kid int32) *assoc {
	e.Mu.RLock()
	defer e.Mu.RUnlock()
	return e.byKernel[kid]
}

// received handles a message or a part of one.
func (e *endpoint) received(info *rcvInfo, part []byte, whole bool) {
	if info == nil {
		return
	}
	a := e.byName(info.assoc)
	if a == nil || a.ignored {
		return // refused or aborted
	}
	if len(a.partial)+len(part) > e.lim.MessageSize {
		a.partial, a.ignored = nil, true
		a.abort(sctp.Overrun, fmt.Errorf("peer sent a message of more than %d bytes", e.lim.MessageSize))
		return
	}
	if !whole || a.partial != nil {
		a.partial = append(a.partial, part...)
		if !whole {
			return
		}
		part, a.partial = a.partial, nil
	} else {
		part = append([]byte(nil), part...)
	}
	a.emit(sctp.Event{Type: sctp.Received, Message: sctp.Message{Data: part, PPID: htonl(info.ppid), Stream: info.stream}})
}

// notified handles a notification (RFC 6458, Section 6.1).
func (r *reader) notified(b []byte) {
	e := r.e
	if len(b) < 8 {
		return
	}
	switch typ := ne.Uint16(b); {
	case typ == noteAssocChange && len(b) >= 20:
		r.changed(assocChange{
			state: ne.Uint16(b[8:]),
			cause: binary.BigEndian.Uint16(b[10:]),
			kid:   int32(ne.Uint32(b[16:])),
			info:  b[20:],
		})
	case typ == notePeerAddrChange && len(b) >= 148:
		r.peerAddrChanged(int32(ne.Uint32(b[136:])), int32(ne.Uint32(b[144:])))
	case typ == notePartialDelivery && len(b) >= 16:
		// The rest of the message will not arrive.
		if a := e.byName(int32(ne.Uint32(b[12:]))); a != nil {
			a.partial = nil
		}
	}
}

// assocChange is an SCTP_ASSOC_CHANGE (RFC 6458, Section 6.1.1).
type assocChange struct {
	state, cause uint16
	kid          int32
	info         []byte // the peer's ABORT without its header, if it sent one
}

func (r *reader) changed(c assocChange) {
	a := r.e.byName(c.kid)
	switch c.state {
	case commUp:
		r.came(c.kid)
	case restart:
		if a != nil {
			a.finish(sctp.PeerAbort, sctp.ErrRestarted)
		}
		r.came(c.kid)
	case commLost, shutdownComp, cantStartAssoc:
		if a != nil {
			a.finish(c.reason(r.aborted()))
		}
	}
}

// aborted reports whether the kernel says, beside its notification, that the peer has aborted
// the association of this socket. The notification does not tell an ABORT without a cause
// from a peer that is silent: the socket's error does.
func (r *reader) aborted() bool {
	if r.kid == 0 {
		return false
	}
	_ = r.sock.control(func(fd int) error {
		if e, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR); err == nil && e != 0 {
			r.failed = unix.Errno(e)
		}
		return nil
	})
	return errors.Is(r.failed, unix.ECONNRESET)
}

// reason returns why an association has ended. aborted tells that the peer has aborted it,
// which the notification may not.
func (c *assocChange) reason(aborted bool) (sctp.Reason, error) {
	switch {
	case c.state == shutdownComp:
		return sctp.PeerShutdown, nil
	case c.state == cantStartAssoc:
		// An ABORT, or ICMP protocol unreachable. It is not a time-out: the kernel tries
		// for longer than HandshakeTime.
		if !wire.IsRefusal(c.cause) {
			return sctp.ConnectFailed, fmt.Errorf("peer aborted the association: %s", wire.CauseText(c.cause))
		}
		if c.cause != 0 {
			return sctp.ConnectFailed, fmt.Errorf("%w: %s", sctp.ErrRefused, wire.CauseText(c.cause))
		}
		return sctp.ConnectFailed, sctp.ErrRefused
	case len(c.info) >= 4:
		return sctp.PeerAbort, fmt.Errorf("%w: %s", sctp.ErrAborted, wire.CauseText(c.cause))
	case aborted:
		return sctp.PeerAbort, sctp.ErrAborted
	case c.cause != 0:
		return sctp.Overrun, fmt.Errorf("the kernel aborted the association: %s", wire.CauseText(c.cause))
	}
	return sctp.Lost, sctp.ErrTimeout
}

// came handles a new association, whichever side has started it.
func (r *reader) came(kid int32) {
	e := r.e
	peer := r.sock.peerAddrs(kid)
	if len(peer) == 0 {
		r.wasThere(kid)
		return
	}
	sock := r.sock
	if r.kid == 0 {
		var err error
		e.machine.Inside(func() { sock, err = r.sock.peel(kid) })
		if hasEnded(err) {
			r.wasThere(kid)
			return
		}
		if err != nil {
			r.refuse(kid, peer[0], err)
			return
		}
		// The socket's reader closes it in any case.
		r.peeled = append(r.peeled, &reader{e: e, sock: sock, kid: kid})
	}
	a := e.admit(kid, sock, peer[0])
	if a == nil {
		refused := reader{e: e, sock: sock}
		refused.refuse(kid, peer[0], e.lim.ErrFull())
		return
	}
	if peer[0].Addr().IsLoopback() {
		// Only the loopback interface is known to carry larger packets.
		_ = setOption(sock, "SCTP_PEER_ADDR_PARAMS", optPeerAddrParams, pathParams(kid, peer[0], pmtudEnable))
	}
	peer = e.quietOwn(sock, kid, peer)
	confirmed, claimed := sock.confirmed(kid, peer)
	e.retryPaths(sock, kid, len(confirmed))
	sock.askClaimed(kid, claimed)
	a.up(sctp.Event{Peer: confirmed, Claimed: claimed, EncapPort: e.learnEncapPorts(sock, kid, confirmed)})
}

// wasThere handles an association that has ended before the kernel's notification of its
// beginning was read. Its messages, which the peer may believe to be delivered, and the
// notification of its end follow on the endpoint's socket.
func (r *reader) wasThere(kid int32) {
	peer, n := parseSockaddr(r.from)
	if n == 0 || r.kid != 0 {
		return
	}
	if a := r.e.admit(kid, r.sock, peer); a != nil {
		a.up(sctp.Event{Peer: []netip.AddrPort{peer}})
	}
}

// admit adds an association to the tables; nil if the limit is reached.
func (e *endpoint) admit(kid int32, sock *socket, peer netip.AddrPort) *assoc {
	e.Mu.Lock()
	defer e.Mu.Unlock()
	a := e.byKernel[kid]
	if a == nil {
		if e.Closed || len(e.All) >= e.lim.Associations {
			return nil
		}
		a = e.newAssoc()
		a.kid = kid
		e.Add(a.id, a)
		e.byKernel[kid] = a
	}
	a.mu.Lock()
	a.sock, a.peer = sock, peer
	a.mu.Unlock()
	return a
}

// refuse aborts an association that cannot be kept.
func (r *reader) refuse(kid int32, peer netip.AddrPort, err error) {
	if hasEnded(err) {
		return
	}
	r.e.n.Refuse(sctp.Kernel, peer, sctp.NoDescriptor(err))
	var c outbound
	c.init()
	_ = r.sock.send(&c, nil, sndInfo{flags: sndAbort, assoc: kid})
}

// retryPaths has the association live as long as one of the peer's confirmed addresses.
// The kernel counts time-outs over all of them, and an address fails at one more than its
// limit, so that the association's limit is that many for each. The kernel accepts no more
// than the sum of the addresses' limits (RFC 9260, Section 8.2): these are raised by one
// while the association's limit is set.
func (e *endpoint) retryPaths(sock *socket, kid int32, paths int) {
	misses := uint16(min(e.lim.Misses, 255))
	_ = setOption(sock, "SCTP_PEER_ADDR_PARAMS", optPeerAddrParams, missesParams(kid, misses+1))
	_ = setOption(sock, "SCTP_ASSOCINFO", optAssocInfo,
		&assocParams{assoc: kid, maxRetrans: (misses+1)*uint16(max(paths, 1)) - 1})
	_ = setOption(sock, "SCTP_PEER_ADDR_PARAMS", optPeerAddrParams, missesParams(kid, misses))
}

// learnEncapPorts remembers the UDP ports of a peer's confirmed addresses, if it has any, and
// returns that of the first address, which is the primary one.
func (e *endpoint) learnEncapPorts(sock *socket, kid int32, confirmed []netip.AddrPort) (primary uint16) {
	if e.serves == 0 {
		return 0
	}
	for i, ap := range confirmed {
		u := udpEncaps{assoc: kid}
		copy(u.address(), appendSockaddr(nil, ap))
		if getOption(sock, "SCTP_REMOTE_UDP_ENCAPS_PORT", optRemoteEncapsPort, &u) != nil {
			continue
		}
		if port := binary.BigEndian.Uint16(u.port[:]); port != 0 {
			e.encap.Learn(ap, port)
			if i == 0 {
				primary = port
			}
		}
	}
	return primary
}

// peerAddrChanged handles an SCTP_PEER_ADDR_CHANGE (RFC 6458, Section 6.1.2).
func (r *reader) peerAddrChanged(state, kid int32) {
	e := r.e
	switch state {
	case addrAdded, addrRemoved, addrMadePrimary, addrConfirmed:
	default:
		return // a change of reachability, which only the kernel uses
	}
	a := e.byName(kid)
	if a == nil {
		return
	}
	peer := r.sock.peerAddrs(kid)
	a.mu.Lock()
	is := a.state == stateUp
	if len(peer) > 0 {
		a.peer = peer[0]
	}
	a.mu.Unlock()
	confirmed, claimed := r.sock.confirmed(kid, e.quietOwn(r.sock, kid, peer))
	e.retryPaths(r.sock, kid, len(confirmed))
	e.learnEncapPorts(r.sock, kid, confirmed)
	if is && len(confirmed) > 0 {
		a.emit(sctp.Event{Type: sctp.PeerAddrs, Peer: confirmed, Claimed: claimed})
	}
}
