package stack

import (
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/secure"
)

// astray reports whether an event is the beginning of TLS, which is not spoken here, or comes
// behind that. It ends the association of such a peer, and has Down and the log say why. Over TCP,
// the transport does so.
func (e *endpoint) astray(ev *sctp.Event) bool {
	switch ev.Type {
	case sctp.Received:
		if e.s.cfg.Framing.Len == nil || !secure.IsTLS(ev.Message.Data) {
			return false
		}
		e.mu.Lock()
		e.strays[ev.Assoc] = struct{}{}
		e.mu.Unlock()
		for _, k := range e.kinds {
			k.Abort(ev.Assoc)
		}
		return true
	case sctp.Down:
		e.mu.RLock()
		_, is := e.strays[ev.Assoc]
		e.mu.RUnlock()
		if !is {
			return false
		}
		e.mu.Lock()
		delete(e.strays, ev.Assoc)
		e.mu.Unlock()
		if ev.Reason == sctp.LocalClose {
			ev.Reason, ev.Err = sctp.Overrun, secure.ErrTLSAtPlain
		}
		e.s.tlsN.Cut(ev.Kind, ev.Peer[0], secure.ErrTLSAtPlain)
	case sctp.Up, sctp.SendFailed, sctp.PeerAddrs, sctp.Writable, sctp.PeerDone:
	}
	return false
}
