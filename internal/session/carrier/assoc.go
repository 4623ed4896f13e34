package carrier

import (
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
)

// Assoc is an association. Any goroutine may call its methods, and none of them blocks.
type Assoc struct {
	c     *Carrier
	id    uint64
	h     Handler
	to    sctp.Dest        // of Connect
	keys  []netip.AddrPort // of c.peers; guarded by c.mu
	tries int              // of retry; only the Handler's goroutine uses it
	place atomic.Pointer[place]
	peer  atomic.Pointer[sctp.Event] // Up, or the last PeerAddrs
	isUp  atomic.Bool
	stray atomic.Bool // aborted because the peer speaks TLS

	mu    sync.Mutex
	early sctp.SendQueue // sent before Up
	over  bool           // Down has come before Up, or Shutdown or Abort was called
}

// place is an endpoint and its name for the association.
type place struct {
	e  *endpoint
	id sctp.AssocID
}

// nowhere is the place of an association without an endpoint.
var nowhere place

// maxTries is how many endpoints Connect tries in turn. More than one are needed only if
// a peer has addresses that are not known when associations with it are started.
const maxTries = 16

// Send queues a message. It does not copy m.Data, which the caller must not change
// afterwards. The error is sctp.ErrQueueFull if the peer has not read enough of what was
// sent to it (the event Writable follows, or Up), sctp.ErrNoAssoc or sctp.ErrClosed if the association has ended or is ending, and any other one if the message is invalid.
func (a *Assoc) Send(m sctp.Message) error {
	if !a.isUp.Load() {
		if sent, err := a.sendEarly(m); sent {
			return err
		}
	}
	p := a.place.Load()
	return p.e.Send(p.id, m)
}

// sendEarly keeps a message until the association is up; false if it is.
func (a *Assoc) sendEarly(m sctp.Message) (sent bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.isUp.Load():
		return false, nil
	case a.over:
		return true, sctp.ErrNoAssoc
	case !a.early.Push(m, a.c.limits):
		return true, sctp.ErrQueueFull
	}
	return true, nil
}

// Pause stops the association's events: up to 4 more messages may come, and then nothing
// but Writable until Resume. The peer's window closes, so that it must wait; other
// associations go on. Pause has no effect before Up. Shutdown, Abort and the end of the
// association resume.
func (a *Assoc) Pause() { a.call(sctp.Endpoint.Pause) }

// Resume goes on with the events.
func (a *Assoc) Resume() { a.call(sctp.Endpoint.Resume) }

func (a *Assoc) call(method func(sctp.Endpoint, sctp.AssocID)) {
	if p := a.place.Load(); p.e != nil {
		method(p.e.Endpoint, p.id)
	}
}

// Shutdown ends the association when all queued messages are delivered, or after
// sctp.GraceTime. Down (LocalClose) follows.
func (a *Assoc) Shutdown() { a.stop(sctp.Endpoint.Shutdown) }

// Abort ends the association at once. Down (LocalClose) follows.
func (a *Assoc) Abort() { a.stop(sctp.Endpoint.Abort) }

func (a *Assoc) stop(how func(sctp.Endpoint, sctp.AssocID)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.over = true
	a.call(how)
}

// Peer returns the peer's confirmed addresses with its port, the primary one first; none
// before Up.
func (a *Assoc) Peer() []netip.AddrPort {
	if ev := a.peer.Load(); ev != nil {
		return ev.Peer
	}
	return nil
}

// LocalAddrs returns the addresses of the local endpoint with its port.
func (a *Assoc) LocalAddrs() []netip.AddrPort {
	if p := a.place.Load(); p.e != nil {
		return p.e.LocalAddrs()
	}
	return nil
}

// handle calls the Handler.
func (a *Assoc) handle(ev sctp.Event) {
	ev.Assoc = sctp.AssocID(a.id)
	a.h(a, ev)
}

// up notes that the association is established, and sends what waits.
func (a *Assoc) up(e *endpoint, ev sctp.Event) {
	a.peer.Store(&ev)
	a.mu.Lock()
	for _, m := range a.early.Drain() {
		_ = e.Send(ev.Assoc, m) // the transport's queue is as long as ours
	}
	a.isUp.Store(true)
	a.mu.Unlock()
	a.learn(e, ev)
}

// readdressed notes new addresses of the peer.
func (a *Assoc) readdressed(e *endpoint, ev sctp.Event) {
	a.peer.Store(&ev)
	a.learn(e, ev)
}

func (a *Assoc) learn(e *endpoint, ev sctp.Event) {
	a.c.mu.Lock()
	defer a.c.mu.Unlock()
	a.c.learn(a, e, ev.Peer)
	a.c.learn(a, e, ev.Claimed)
}

// down removes the association from its endpoint. It reports whether another endpoint is
// tried, because this one has an association with the peer already.
func (a *Assoc) down(e *endpoint, ev sctp.Event) (again bool) {
	e.mu.Lock()
	delete(e.assocs, ev.Assoc)
	e.mu.Unlock()
	a.c.mu.Lock()
	defer a.c.mu.Unlock()
	a.c.leave(a, e)
	a.mu.Lock()
	defer a.mu.Unlock()
	again = !a.isUp.Load() && isTaken(ev) && a.tries < maxTries && !a.over && !a.c.closed
	if !again {
		a.over = true
		a.early.Drain()
		return false
	}
	a.tries++
	a.c.connect(a, e.slot+1)
	return true
}
