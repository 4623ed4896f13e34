package carrier

import (
	"errors"
	"net/netip"
	"sync"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/secure"
)

// endpoint is a local SCTP endpoint with its associations.
type endpoint struct {
	sctp.Endpoint
	c     *Carrier
	slot  int // of c.slots; -1 if the endpoint belongs to a Listener
	users int // associations
	// peers counts associations by the peer's address. c.mu guards it, slot and users.
	peers  map[netip.AddrPort]int
	accept func(*Assoc, sctp.Event) Handler

	// mu guards assocs. While it is held, no event of a new association is handled.
	mu     sync.RWMutex
	assocs map[sctp.AssocID]*Assoc
}

// connect starts an association.
func (e *endpoint) connect(a *Assoc) {
	e.mu.Lock()
	defer e.mu.Unlock()
	id := e.Connect(a.to) // not 0: only Close of the Carrier closes an endpoint that is in a slot
	a.place.Store(&place{e, id})
	e.assocs[id] = a
}

// handle is the Handler of the endpoint.
func (e *endpoint) handle(ev sctp.Event) {
	e.mu.RLock()
	a := e.assocs[ev.Assoc]
	e.mu.RUnlock()
	switch {
	case a == nil && ev.Type == sctp.Up:
		e.accepted(ev)
		return
	case a == nil:
		return // refused before
	}
	switch ev.Type {
	case sctp.Up:
		a.up(e, ev)
	case sctp.PeerAddrs:
		a.readdressed(e, ev)
	case sctp.Down:
		if a.down(e, ev) {
			return
		}
		ev = a.explain(ev)
	case sctp.Received:
		if a.astray(e, ev) {
			return
		}
	case sctp.SendFailed, sctp.Writable, sctp.PeerDone:
	}
	a.handle(ev)
}

// astray reports whether a message is the beginning of TLS, which this side has not, or comes
// behind that. It ends the association of such a peer. No message of ASAP begins like that.
func (a *Assoc) astray(e *endpoint, ev sctp.Event) bool {
	m := &ev.Message
	if a.c.cfg.Member == nil && m.PPID == asap.PPID && secure.IsTLS(m.Data) {
		a.stray.Store(true)
		e.Abort(ev.Assoc)
	}
	return a.stray.Load()
}

// explain says more of the end of an association.
func (a *Assoc) explain(ev sctp.Event) sctp.Event {
	switch {
	case a.stray.Load() && ev.Reason == sctp.LocalClose:
		ev.Reason, ev.Err = sctp.Overrun, secure.ErrTLSAtPlain
	case a.c.cfg.Member != nil:
		ev.Err = a.c.cfg.Member.Explain(ev.Err)
	}
	return ev
}

// accepted handles an association that the peer has started.
func (e *endpoint) accepted(ev sctp.Event) {
	a := &Assoc{c: e.c, id: uint64(e.c.ids.Next())}
	a.isUp.Store(true)
	a.place.Store(&place{e, ev.Assoc})
	a.peer.Store(&ev)
	if e.accept != nil {
		a.h = e.accept(a, ev)
	}
	if a.h == nil {
		e.Abort(ev.Assoc)
		return
	}
	e.c.mu.Lock()
	e.c.enter(a, e, nil)
	e.c.mu.Unlock()
	e.mu.Lock()
	e.assocs[ev.Assoc] = a
	e.mu.Unlock()
	a.handle(ev)
}

// Listener is an SCTP port at which peers connect.
type Listener struct{ e *endpoint }

// Listen accepts associations at local addresses, which have one port; port 0 is a free
// one, and no address is the same as [::]:0. accept is called with each new association
// and its event Up. It returns the association's Handler, which is then called with Up;
// nil refuses the association. What is said of Handlers holds for accept.
func (c *Carrier) Listen(local []netip.AddrPort, accept func(a *Assoc, up sctp.Event) Handler) (*Listener, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, sctp.ErrClosed
	}
	e, err := c.open(sctp.ListenConfig{Addrs: local, Mobile: true}, accept)
	if err != nil {
		return nil, err
	}
	c.listening[e] = struct{}{}
	return &Listener{e}, nil
}

// LocalAddrs returns the addresses that the Listener listens on, with its port.
func (l *Listener) LocalAddrs() []netip.AddrPort { return l.e.LocalAddrs() }

// EncapPort returns the UDP port at which the Listener is reached over SCTP in UDP; 0 if
// it is not.
func (l *Listener) EncapPort() uint16 {
	if l.e.c.stack == nil {
		return 0
	}
	return l.e.c.stack.EncapPort()
}

// Close aborts the associations. Their Handlers are called with Down (LocalClose) before it
// returns, and not afterwards.
func (l *Listener) Close() error {
	c := l.e.c
	c.mu.Lock()
	delete(c.listening, l.e)
	c.mu.Unlock()
	return l.e.Close()
}

// isTaken reports whether an event says that the endpoint has an association with the
// peer already.
func isTaken(ev sctp.Event) bool { return errors.Is(ev.Err, sctp.ErrConnected) }
