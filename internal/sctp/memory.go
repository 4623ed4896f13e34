package sctp

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Network is a network in memory for tests. It behaves as SCTP in the kernel
// does, without delay: each endpoint's events come one after the other, in the
// order of what caused them, from one goroutine, so that a Handler that blocks
// stops its own endpoint only. All time is that of package time, and so of a
// testing/synctest bubble, in which a single-threaded test is deterministic.
//
// Its methods, and those of its endpoints, may be called from any goroutine.
type Network struct {
	// HandshakeTime is how long a call over a cut, or of a frozen endpoint,
	// lasts; LostTime how long an association survives one. Set them before
	// the first Listen.
	HandshakeTime, LostTime time.Duration

	mu        sync.Mutex
	ids       idAllocator
	lim       Limits
	nextPort  uint16
	endpoints []*memEndpoint // alive and frozen ones, in the order of Listen
	cuts      map[[2]netip.Addr]bool
}

// NewNetwork makes a network with the limits' defaults: calls last 10 s, and
// associations are lost after 40 s of silence.
func NewNetwork() *Network {
	lim := Limits{}.withDefaults()
	return &Network{
		HandshakeTime: lim.HandshakeTime,
		LostTime:      time.Duration(lim.Misses+1) * lim.Heartbeat,
		lim:           lim,
		nextPort:      49152,
		cuts:          map[[2]netip.Addr]bool{},
	}
}

// memEndpoint is an endpoint of a Network. Its fields are guarded by the
// network's mutex.
type memEndpoint struct {
	nw     *Network
	addrs  []netip.AddrPort
	h      Handler
	wake   chan struct{}
	done   chan struct{}
	events []memEvent
	assocs []*memAssoc // in the order of their making
	frozen bool
	dead   bool // killed: nothing more is handled
	closed bool
}

var _ Endpoint = (*memEndpoint)(nil)

// memEvent is an event on its way to a Handler.
type memEvent struct {
	Event
	a *memAssoc
}

// Listen makes an endpoint. cfg.Addrs must be explicit; port 0 takes a free one.
func (nw *Network) Listen(cfg ListenConfig, h Handler) (Endpoint, error) {
	addrs, port, _, err := bindAddrs(cfg)
	if err != nil {
		return nil, err
	}
	nw.mu.Lock()
	defer nw.mu.Unlock()
	if port == 0 {
		port = nw.nextPort
		nw.nextPort++
	}
	e := &memEndpoint{nw: nw, h: h, wake: make(chan struct{}, 1), done: make(chan struct{})}
	for _, a := range addrs {
		ap := netip.AddrPortFrom(a, port)
		if a.IsUnspecified() {
			return nil, fmt.Errorf("address %v: a network in memory wants explicit ones", a)
		}
		if nw.at(ap) != nil {
			return nil, fmt.Errorf("address %v is in use", ap)
		}
		e.addrs = append(e.addrs, ap)
	}
	nw.endpoints = append(nw.endpoints, e)
	go e.run()
	return e, nil
}

// at finds the endpoint with an address. nw.mu is held, as in all that follows
// but the exported methods.
func (nw *Network) at(ap netip.AddrPort) *memEndpoint {
	for _, e := range nw.endpoints {
		if slices.Contains(e.addrs, ap) {
			return e
		}
	}
	return nil
}

// Cut stops all packets between two addresses, in both directions.
func (nw *Network) Cut(a, b netip.Addr) {
	nw.mu.Lock()
	defer nw.mu.Unlock()
	nw.cuts[[2]netip.Addr{a, b}] = true
	nw.changed()
}

// Heal undoes Cut: what was held is delivered, and calls go on.
func (nw *Network) Heal(a, b netip.Addr) {
	nw.mu.Lock()
	defer nw.mu.Unlock()
	delete(nw.cuts, [2]netip.Addr{a, b})
	delete(nw.cuts, [2]netip.Addr{b, a})
	nw.changed()
}

// Kill makes an endpoint vanish as a killed process does under the kernel's
// SCTP: its peers see PeerAbort, its own Handler nothing any more.
func (nw *Network) Kill(ep Endpoint) {
	nw.mu.Lock()
	defer nw.mu.Unlock()
	e := ep.(*memEndpoint)
	for _, a := range slices.Clone(e.assocs) {
		a.leave(PeerAbort)
	}
	e.dead, e.events = true, nil
	nw.remove(e)
	e.poke()
}

// Freeze makes an endpoint go silent, as a machine does that lost power or its
// network: its peers see Lost after LostTime, its own Handler nothing any more.
func (nw *Network) Freeze(ep Endpoint) {
	nw.mu.Lock()
	defer nw.mu.Unlock()
	ep.(*memEndpoint).frozen = true
	nw.changed()
}

func (nw *Network) remove(e *memEndpoint) {
	nw.endpoints = slices.DeleteFunc(nw.endpoints, func(x *memEndpoint) bool { return x == e })
}

// linked says whether two addresses can reach each other.
func (nw *Network) linked(a, b netip.Addr) bool {
	return a.Is4() == b.Is4() && !nw.cuts[[2]netip.Addr{a, b}] && !nw.cuts[[2]netip.Addr{b, a}]
}

// reach says whether an endpoint can reach an address of another now.
func (e *memEndpoint) reach(to netip.Addr) bool {
	return slices.ContainsFunc(e.addrs, func(ap netip.AddrPort) bool { return e.nw.linked(ap.Addr(), to) })
}

// changed has every association see what the network is now like.
func (nw *Network) changed() {
	for _, e := range slices.Clone(nw.endpoints) {
		for _, a := range slices.Clone(e.assocs) {
			if a.peer == nil {
				a.connect()
			} else {
				a.check()
			}
		}
	}
}

// Connect implements Endpoint.
func (e *memEndpoint) Connect(to Dest) AssocID {
	e.nw.mu.Lock()
	defer e.nw.mu.Unlock()
	if e.closed || e.dead {
		return 0
	}
	if a := e.coming(to); a != nil {
		return a.id
	}
	a := e.newAssoc(to.Kind)
	a.to = to
	a.connect()
	if a.peer == nil && !a.ended {
		a.after(e.nw.HandshakeTime, func() { a.end(ConnectFailed, errTimeout) })
	}
	return a.id
}

// coming finds an association that the peer has made and that the Handler has
// not been told of: both sides call each other, and it is the one of both.
func (e *memEndpoint) coming(to Dest) *memAssoc {
	for _, a := range e.assocs {
		if a.peer != nil && !a.told && !a.ended && slices.ContainsFunc(to.Addrs, func(ap netip.AddrPort) bool {
			return slices.Contains(a.peer.ep.addrs, ap)
		}) {
			return a
		}
	}
	return nil
}

func (e *memEndpoint) assoc(id AssocID) *memAssoc {
	for _, a := range e.assocs {
		if a.id == id {
			return a
		}
	}
	return nil
}

// Send implements Endpoint.
func (e *memEndpoint) Send(id AssocID, m Message) error {
	e.nw.mu.Lock()
	defer e.nw.mu.Unlock()
	a := e.assoc(id)
	switch {
	case e.closed || e.dead:
		return ErrClosed
	case a == nil || a.closing:
		return ErrNoAssoc
	case len(m.Data) == 0 || len(m.Data) > e.nw.lim.MessageSize:
		return errors.New("message is empty or too long")
	case a.peer != nil && a.peer.inbox >= e.nw.lim.SendQueueMessages || !a.held.push(m, e.nw.lim):
		return ErrQueueFull
	}
	a.check()
	return nil
}

// Shutdown implements Endpoint.
func (e *memEndpoint) Shutdown(id AssocID) {
	e.nw.mu.Lock()
	defer e.nw.mu.Unlock()
	a := e.assoc(id)
	if a == nil || a.closing {
		return
	}
	a.closing = true
	if a.peer == nil {
		a.end(LocalClose, nil)
		return
	}
	a.check()
	if !a.ended {
		a.stopTimer()
		a.after(graceTime, func() { a.leave(PeerAbort) })
	}
}

// Abort implements Endpoint.
func (e *memEndpoint) Abort(id AssocID) {
	e.nw.mu.Lock()
	defer e.nw.mu.Unlock()
	if a := e.assoc(id); a != nil {
		a.leave(PeerAbort)
	}
}

// LocalAddrs implements Endpoint.
func (e *memEndpoint) LocalAddrs() []netip.AddrPort { return slices.Clone(e.addrs) }

// Close implements Endpoint.
func (e *memEndpoint) Close() error {
	e.nw.mu.Lock()
	if !e.closed {
		e.closed = true
		for _, a := range slices.Clone(e.assocs) {
			a.leave(PeerAbort)
		}
		e.nw.remove(e)
		e.poke()
	}
	e.nw.mu.Unlock()
	<-e.done
	return nil
}

// push queues an event for the Handler.
func (e *memEndpoint) push(ev memEvent) {
	if e.dead {
		return
	}
	ev.Assoc, ev.Kind = ev.a.id, ev.a.kind
	e.events = append(e.events, ev)
	e.poke()
}

func (e *memEndpoint) poke() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// run calls the Handler until the endpoint is closed or killed.
func (e *memEndpoint) run() {
	defer close(e.done)
	for {
		ev, ok, over := e.pop()
		switch {
		case ok:
			e.h(ev)
		case over:
			return
		default:
			<-e.wake
		}
	}
}

// pop takes the next event.
func (e *memEndpoint) pop() (ev Event, ok, over bool) {
	e.nw.mu.Lock()
	defer e.nw.mu.Unlock()
	if len(e.events) == 0 || e.frozen || e.dead {
		return ev, false, e.closed || e.dead
	}
	next := e.events[0]
	e.events = e.events[1:]
	switch next.Type {
	case Up:
		next.a.told = true
	case Received:
		next.a.inbox--
	}
	return next.Event, true, false
}
