package sctp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// readLoop takes what the kernel has for us and calls the Handler.
func (e *kernelEndpoint) readLoop() {
	in := newInbound()
	skip := false // the rest of a notification that came in parts
	for {
		err := e.sock.receive(in, &e.waiting, func(part []byte, flags int, info *rcvInfo) {
			whole := flags&unix.MSG_EOR != 0
			switch {
			case flags&flagNotification == 0:
				e.received(info, part, whole)
			case !skip:
				e.notified(part)
				fallthrough
			default:
				skip = !whole
			}
		})
		if errors.Is(err, os.ErrClosed) || !e.pause(10*time.Millisecond) {
			return
		}
	}
}

// pause waits, and says whether the endpoint is still open then.
func (e *kernelEndpoint) pause(d time.Duration) bool {
	select {
	case <-e.done:
		return false
	case <-time.After(d):
		return true
	}
}

// byName finds an association by the kernel's name.
func (e *kernelEndpoint) byName(kid int32) *kernelAssoc {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.byKernel[kid]
}

// received takes a message or a part of one.
func (e *kernelEndpoint) received(info *rcvInfo, part []byte, whole bool) {
	if info == nil {
		return
	}
	a := e.byName(info.assoc)
	if a == nil || a.deaf {
		return // refused or aborted
	}
	if len(a.partial)+len(part) > e.lim.MessageSize {
		a.partial, a.deaf = nil, true
		a.abort(Overrun, fmt.Errorf("the peer sent a message of more than %d bytes", e.lim.MessageSize))
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
	a.emit(Event{Type: Received, Message: Message{Data: part, PPID: htonl(info.ppid), Stream: info.stream}})
}

// notified takes a notification (RFC 6458, Section 6.1).
func (e *kernelEndpoint) notified(b []byte) {
	if len(b) < 8 {
		return
	}
	switch typ := ne.Uint16(b); {
	case typ == noteAssocChange && len(b) >= 20:
		e.changed(assocChange{
			state: ne.Uint16(b[8:]),
			cause: binary.BigEndian.Uint16(b[10:]),
			kid:   int32(ne.Uint32(b[16:])),
			info:  b[20:],
		})
	case typ == notePeerAddrChange && len(b) >= 148:
		e.peerAddrChanged(int32(ne.Uint32(b[136:])), int32(ne.Uint32(b[144:])))
	case typ == notePartialDelivery && len(b) >= 16:
		// The rest of the message will not come.
		if a := e.byName(int32(ne.Uint32(b[12:]))); a != nil {
			a.partial = nil
		}
	case typ == noteSenderDry && len(b) >= 12:
		if a := e.byName(int32(ne.Uint32(b[8:]))); a != nil {
			a.dry()
		}
	}
}

// assocChange is an SCTP_ASSOC_CHANGE (RFC 6458, Section 6.1.1).
type assocChange struct {
	state, cause uint16
	kid          int32
	info         []byte // the peer's ABORT without its header, if one came
}

func (e *kernelEndpoint) changed(c assocChange) {
	a := e.byName(c.kid)
	switch c.state {
	case commUp:
		e.came(c.kid)
	case restart:
		if a != nil {
			a.finish(PeerAbort, errRestarted)
		}
		e.came(c.kid)
	case commLost, shutdownComp, cantStartAssoc:
		if a != nil {
			a.finish(c.reason())
		}
	}
}

// reason says how an association has ended.
func (c *assocChange) reason() (Reason, error) {
	switch {
	case c.state == shutdownComp:
		return PeerShutdown, nil
	case len(c.info) >= 4:
		return PeerAbort, fmt.Errorf("the peer aborted it: %s", causeText(c.cause))
	case c.cause != 0:
		return PeerAbort, fmt.Errorf("it was aborted: %s", causeText(c.cause))
	case c.state == cantStartAssoc:
		// Not for time: the kernel would try for longer than we do.
		return ConnectFailed, errRefused
	}
	return Lost, errTimeout
}

// came takes a new association, ours or the peer's.
func (e *kernelEndpoint) came(kid int32) {
	peer := e.peerAddrs(kid)
	if len(peer) == 0 {
		return // it has ended already
	}
	e.mu.Lock()
	a := e.byKernel[kid]
	if a == nil && !e.closed {
		if len(e.assocs) < e.lim.Associations {
			a = e.newAssoc()
			a.kid = kid
			e.assocs[a.id], e.byKernel[kid] = a, a
		} else {
			var c sendCall
			c.init()
			_ = e.sock.send(&c, nil, sndInfo{flags: sndAbort, assoc: kid})
		}
	}
	e.mu.Unlock()
	if a != nil {
		if peer[0].Addr().IsLoopback() {
			// The one way on which larger packets are known to pass.
			_ = setOption(e.sock, "SCTP_PEER_ADDR_PARAMS", optPeerAddrParams, pathParams(kid, peer[0], pmtudEnable))
		}
		peer = e.quietOwn(kid, peer)
		a.up(peer, e.learnEncapPort(kid, peer))
	}
}

// learnEncapPort remembers at which UDP port the peer is, if it is at one, and
// returns that of its primary address.
func (e *kernelEndpoint) learnEncapPort(kid int32, peer []netip.AddrPort) (primary uint16) {
	if e.serves == 0 {
		return 0
	}
	for i, ap := range peer {
		u := udpEncaps{assoc: kid}
		copy(u.address(), appendSockaddr(nil, ap))
		if getOption(e.sock, "SCTP_REMOTE_UDP_ENCAPS_PORT", optRemoteEncapsPort, &u) != nil {
			continue
		}
		if port := binary.BigEndian.Uint16(u.port[:]); port != 0 {
			e.encap.learn(ap, port, i == 0)
			if i == 0 {
				primary = port
			}
		}
	}
	return primary
}

// peerAddrChanged takes an SCTP_PEER_ADDR_CHANGE (RFC 6458, Section 6.1.2).
func (e *kernelEndpoint) peerAddrChanged(state, kid int32) {
	switch state {
	case addrAdded, addrRemoved, addrMadePrimary:
	default:
		return // reachability, which is the kernel's business
	}
	a := e.byName(kid)
	if a == nil {
		return
	}
	a.mu.Lock()
	is := a.state == kernelUp
	a.mu.Unlock()
	if peer := e.quietOwn(kid, e.peerAddrs(kid)); is && len(peer) > 0 {
		a.emit(Event{Type: PeerAddrs, Peer: peer})
	}
}
