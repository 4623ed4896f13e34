// Package sctptest is for tests: a network in memory, and what the tests of several
// packages share.
package sctptest

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
)

// Network is a network in memory. It behaves as kernel SCTP without delays. The events of
// an endpoint are reported by one goroutine in the order of their causes, so that a
// Handler that blocks stops only its own endpoint. Time is that of package time, and thus
// of a testing/synctest bubble, in which a test with one goroutine is deterministic.
//
// Any goroutine may call its methods and those of its endpoints.
type Network struct {
	// handshakeTime is how long Connect lasts over a cut or to a frozen endpoint,
	// lostTime how long an association survives that. Set them before Listen.
	handshakeTime, lostTime time.Duration

	mu        sync.Mutex
	ids       sctp.IDs
	lim       sctp.Limits
	nextPort  uint16
	endpoints []*endpoint // alive and frozen ones, in the order of Listen
	cuts      map[[2]netip.Addr]bool
}

// NewNetwork makes a network. Connect lasts 10 s at most, and associations are lost after
// 40 s of silence, the defaults of sctp.Limits.
func NewNetwork() *Network {
	lim := sctp.Limits{}.WithDefaults()
	return &Network{
		handshakeTime: lim.HandshakeTime,
		lostTime:      time.Duration(lim.Misses+1) * lim.Heartbeat,
		lim:           lim,
		nextPort:      49152,
		cuts:          map[[2]netip.Addr]bool{},
	}
}

// endpoint is an endpoint of a Network, whose mutex guards it.
type endpoint struct {
	nw     *Network
	addrs  []netip.AddrPort
	name   string // Event.Identity of its peers' Up
	h      sctp.Handler
	wake   chan struct{}
	done   chan struct{}
	events []event
	assocs []*assoc // in the order of their making
	frozen bool
	dead   bool // killed: nothing more is handled
	lost   bool // killed, and its peers have not been told
	closed bool
}

var _ sctp.Endpoint = (*endpoint)(nil)

// event is an event that the Handler has not been called with yet.
type event struct {
	sctp.Event
	a *assoc
}

// Listen makes an endpoint. Its addresses must be specified; port 0 is a free one.
func (nw *Network) Listen(cfg sctp.ListenConfig, h sctp.Handler) (sctp.Endpoint, error) {
	return nw.As("").Listen(cfg, h)
}

// Named is a Network as one machine sees it that has a certificate.
type Named struct {
	nw   *Network
	name string
}

// As returns the Network as it is for the owner of an identity: the peers of its endpoints
// get that in Up, as over TLS.
func (nw *Network) As(name string) Named { return Named{nw, name} }

// Listen is Listen of the Network.
func (n Named) Listen(cfg sctp.ListenConfig, h sctp.Handler) (sctp.Endpoint, error) {
	nw := n.nw
	addrs, port, _, err := cfg.BindAddrs()
	if err != nil {
		return nil, err
	}
	nw.mu.Lock()
	defer nw.mu.Unlock()
	if port == 0 {
		port = nw.nextPort
		nw.nextPort++
	}
	e := &endpoint{nw: nw, name: n.name, h: h, wake: make(chan struct{}, 1), done: make(chan struct{})}
	for _, a := range addrs {
		ap := netip.AddrPortFrom(a, port)
		if a.IsUnspecified() {
			return nil, fmt.Errorf("address %v: a network in memory needs specified addresses", a)
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

// at returns the endpoint with an address. nw.mu is held, as in all methods that are not
// exported.
func (nw *Network) at(ap netip.AddrPort) *endpoint {
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

// Heal undoes Cut: waiting messages are delivered, and waiting Connects go on.
func (nw *Network) Heal(a, b netip.Addr) {
	nw.mu.Lock()
	defer nw.mu.Unlock()
	delete(nw.cuts, [2]netip.Addr{a, b})
	delete(nw.cuts, [2]netip.Addr{b, a})
	nw.changed()
}

// Kill ends an endpoint as kernel SCTP does for a killed process: its peers get PeerAbort,
// its own Handler gets no more events.
func (nw *Network) Kill(ep sctp.Endpoint) {
	nw.mu.Lock()
	defer nw.mu.Unlock()
	e := ep.(*endpoint)
	for _, a := range slices.Clone(e.assocs) {
		a.leave(sctp.PeerAbort)
	}
	e.dead, e.events = true, nil
	nw.remove(e)
	e.poke()
}

// Vanish ends an endpoint as a killed process with SCTP in UDP ends: nothing tells its
// peers. A peer finds out when it sends something, or when another endpoint with the same
// address connects to it.
func (nw *Network) Vanish(ep sctp.Endpoint) {
	nw.mu.Lock()
	defer nw.mu.Unlock()
	e := ep.(*endpoint)
	for _, a := range e.assocs {
		a.stopTimer()
	}
	e.dead, e.lost, e.events = true, true, nil
	nw.remove(e)
	e.poke()
}

// Freeze silences an endpoint like a machine that has lost its power or its network: its
// peers get Lost after 40 s, its own Handler gets no more events.
func (nw *Network) Freeze(ep sctp.Endpoint) {
	nw.mu.Lock()
	defer nw.mu.Unlock()
	ep.(*endpoint).frozen = true
	nw.changed()
}

func (nw *Network) remove(e *endpoint) {
	nw.endpoints = slices.DeleteFunc(nw.endpoints, func(x *endpoint) bool { return x == e })
}

// linked reports whether packets between two addresses arrive.
func (nw *Network) linked(a, b netip.Addr) bool {
	return a.Is4() == b.Is4() && !nw.cuts[[2]netip.Addr{a, b}] && !nw.cuts[[2]netip.Addr{b, a}]
}

// reach reports whether an endpoint can reach an address of another now.
func (e *endpoint) reach(to netip.Addr) bool {
	return slices.ContainsFunc(e.addrs, func(ap netip.AddrPort) bool { return e.nw.linked(ap.Addr(), to) })
}

// changed has every association look at the network after a change.
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
func (e *endpoint) Connect(to sctp.Dest) sctp.AssocID {
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
		a.after(e.nw.handshakeTime, func() { a.end(sctp.ConnectFailed, sctp.ErrTimeout) })
	}
	return a.id
}

// coming returns an association that the peer has started and that has not been reported
// Up yet: if both sides connect to each other, they share it.
func (e *endpoint) coming(to sctp.Dest) *assoc {
	for _, a := range e.assocs {
		if a.to.Addrs == nil && a.peer != nil && !a.told && !a.ended && slices.ContainsFunc(to.Addrs, func(ap netip.AddrPort) bool {
			return slices.Contains(a.peer.ep.addrs, ap)
		}) {
			return a
		}
	}
	return nil
}

func (e *endpoint) assoc(id sctp.AssocID) *assoc {
	for _, a := range e.assocs {
		if a.id == id {
			return a
		}
	}
	return nil
}

// Send implements Endpoint.
func (e *endpoint) Send(id sctp.AssocID, m sctp.Message) error {
	e.nw.mu.Lock()
	defer e.nw.mu.Unlock()
	a := e.assoc(id)
	switch {
	case e.closed || e.dead:
		return sctp.ErrClosed
	case a == nil || a.closing:
		return sctp.ErrNoAssoc
	case len(m.Data) == 0 || len(m.Data) > e.nw.lim.MessageSize:
		return errors.New("message is empty or too long")
	case !a.sent.Push(m, e.nw.lim):
		return sctp.ErrQueueFull
	}
	a.held.Push(m, e.nw.lim)
	a.check()
	return nil
}

// Full implements Endpoint.
func (e *endpoint) Full(id sctp.AssocID) bool {
	e.nw.mu.Lock()
	defer e.nw.mu.Unlock()
	a := e.assoc(id)
	return a != nil && a.sent.Full(e.nw.lim)
}

// Behind implements Endpoint.
func (e *endpoint) Behind(id sctp.AssocID) bool {
	e.nw.mu.Lock()
	defer e.nw.mu.Unlock()
	a := e.assoc(id)
	return a != nil && a.held.Behind()
}

// Pause implements Endpoint.
func (e *endpoint) Pause(id sctp.AssocID) {
	e.nw.mu.Lock()
	defer e.nw.mu.Unlock()
	if a := e.assoc(id); a != nil && a.told && !a.closing {
		a.paused = true
	}
}

// Resume implements Endpoint.
func (e *endpoint) Resume(id sctp.AssocID) {
	e.nw.mu.Lock()
	defer e.nw.mu.Unlock()
	e.resume(id)
}

// resume reports the events of a paused association, which may have ended.
func (e *endpoint) resume(id sctp.AssocID) {
	if a := e.assoc(id); a != nil {
		a.paused = false
	}
	for _, ev := range e.events {
		if ev.a.id == id {
			ev.a.paused = false
		}
	}
	e.poke()
}

// Heartbeat implements Endpoint.
func (e *endpoint) Heartbeat(id sctp.AssocID) {
	e.nw.mu.Lock()
	defer e.nw.mu.Unlock()
	if a := e.assoc(id); a != nil {
		a.heartbeat()
	}
}

// Shutdown implements Endpoint.
func (e *endpoint) Shutdown(id sctp.AssocID) {
	e.nw.mu.Lock()
	defer e.nw.mu.Unlock()
	e.resume(id)
	a := e.assoc(id)
	if a == nil || a.closing {
		return
	}
	a.closing = true
	if a.peer == nil {
		a.end(sctp.LocalClose, nil)
		return
	}
	a.check()
	if !a.ended {
		a.stopTimer()
		a.after(sctp.GraceTime, func() { a.leave(sctp.PeerAbort) })
	}
}

// Abort implements Endpoint.
func (e *endpoint) Abort(id sctp.AssocID) {
	e.nw.mu.Lock()
	defer e.nw.mu.Unlock()
	e.resume(id)
	if a := e.assoc(id); a != nil {
		a.leave(sctp.PeerAbort)
	}
}

// LocalAddrs implements Endpoint.
func (e *endpoint) LocalAddrs() []netip.AddrPort { return slices.Clone(e.addrs) }

// Close implements Endpoint.
func (e *endpoint) Close() error {
	e.nw.mu.Lock()
	if !e.closed {
		e.closed = true
		for _, ev := range e.events {
			ev.a.paused = false
		}
		for _, a := range slices.Clone(e.assocs) {
			a.paused = false
			a.leave(sctp.PeerAbort)
		}
		e.nw.remove(e)
		e.poke()
	}
	e.nw.mu.Unlock()
	<-e.done
	return nil
}

// push queues an event for the Handler.
func (e *endpoint) push(ev event) {
	if e.dead {
		return
	}
	ev.Assoc, ev.Kind = ev.a.id, ev.a.kind
	e.events = append(e.events, ev)
	e.poke()
}

func (e *endpoint) poke() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// run calls the Handler until the endpoint is closed or killed.
func (e *endpoint) run() {
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

// pop removes and returns the next event.
func (e *endpoint) pop() (ev sctp.Event, ok, over bool) {
	e.nw.mu.Lock()
	defer e.nw.mu.Unlock()
	if len(e.events) == 0 || e.frozen || e.dead {
		return ev, false, e.closed || e.dead
	}
	i := slices.IndexFunc(e.events, func(ev event) bool { return !ev.a.paused || ev.Type == sctp.Writable })
	if i < 0 {
		return ev, false, e.closed
	}
	next := e.events[i]
	if e.events[i] = (event{}); i == 0 {
		e.events = e.events[1:]
	} else {
		e.events = slices.Delete(e.events, i, i+1)
	}
	switch next.Type {
	case sctp.Up:
		next.a.told = true
	case sctp.Received:
		next.a.peer.handled(next.Message)
	default: // as it is
	}
	return next.Event, true, false
}
