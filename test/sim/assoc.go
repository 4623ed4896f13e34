package sim

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/registrar"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// end is one side of an association. The two sides end at different times: a side that
// ends tells the other one, which may not hear it.
type end struct {
	h    *host
	id   registrar.AssocID
	port uint16
	peer *end
	dead bool
	up   time.Duration // when the process is told that it is there
	last time.Duration // when the last message arrives that others may not overtake
	held []*packet     // sent, and not acknowledged
}

// packet is a message that was lost, or waits for one that was.
type packet struct {
	ppid      uint32
	data      []byte
	unordered bool
	since     time.Duration
	tries     int
	arrived   bool // at the other end
	passed    bool // to the process there
	acked     bool
}

// ending is why an association has ended, as one side sees it.
type ending uint8

const (
	endSilent  ending = iota // no answer in time, or this side has ended it
	endByPeer                // the other side has ended it, or does not know it
	endRefused               // a call was refused
)

// find is the end of that name, nil if it is gone.
func (h *host) find(id registrar.AssocID) *end {
	if i, ok := h.search(id); ok {
		return h.ends[i]
	}
	return nil
}

func (h *host) search(id registrar.AssocID) (int, bool) {
	return slices.BinarySearchFunc(h.ends, id, func(e *end, id registrar.AssocID) int { return cmp.Compare(e.id, id) })
}

func (h *host) newEnd(port uint16) *end {
	h.nextID++
	e := &end{h: h, id: h.nextID, port: port}
	h.ends = append(h.ends, e)
	return e
}

// linked reports whether there is an association with the other host, from port
// to port.
func (h *host) linked(o *host, port uint16) bool {
	return slices.ContainsFunc(h.ends, func(e *end) bool {
		return e.port == port && e.peer != nil && e.peer.h == o && e.peer.port == port
	})
}

// connect calls from a port of h, and returns the association's name.
func (h *host) connect(port uint16, to netip.AddrPort) registrar.AssocID {
	e := h.newEnd(port)
	if h.down {
		h.net.die(e, endSilent, h.net.now) // there is no route
	} else {
		h.net.call(e, to, h.net.now+connectTime)
	}
	return e.id
}

// call tries to connect, again and again until a time.
func (n *network) call(e *end, to netip.AddrPort, until time.Duration) {
	n.after(n.delay(), func() {
		t := n.hostAt(to)
		some := t
		if t == nil && len(n.hosts[to.Addr()]) > 0 {
			some = n.hosts[to.Addr()][0] // refuses for ports that no process has
		}
		switch {
		case e.dead:
		case some == nil || !n.reach(e.h, some) || n.loses():
			if n.now+rto < until {
				n.after(rto-n.delay(), func() { n.call(e, to, until) })
			} else {
				n.at(until+n.delay(), func() { n.die(e, endSilent, n.now) })
			}
		case t == nil || t.proc == nil:
			n.die(e, endRefused, n.now+n.delay())
		default:
			n.accept(e, t, to)
		}
	})
}

// accept is what happens when a call reaches a process. What is left of an association
// of which the caller knows nothing any more ends: the caller has restarted.
func (n *network) accept(e *end, t *host, to netip.AddrPort) {
	h := e.h
	for _, x := range slices.Clone(t.ends) {
		if x.port == to.Port() && x.peer != nil && x.peer.dead && x.peer.h == h && x.peer.port == e.port {
			n.die(x, endByPeer, n.now)
		}
	}
	if e.port == enrpPort && h.linked(t, e.port) {
		n.double++
	}
	e.peer = t.newEnd(to.Port())
	e.peer.peer, e.peer.up = e, n.now
	t.deliver(t.life, up(e.peer, h.addr, e.port, h.identity))
	e.up = n.now + n.delay()
	e.last = e.up
	life, name := h.life, t.identity
	n.at(e.up, func() {
		if !e.dead {
			h.deliver(life, up(e, to.Addr(), to.Port(), name))
		}
	})
}

func up(e *end, peer netip.Addr, port uint16, identity string) registrar.AssocUp {
	return registrar.AssocUp{
		Assoc: e.id, Peer: []netip.AddrPort{netip.AddrPortFrom(peer, port)},
		Via: rserpool.ViaKernel, ENRP: e.port == enrpPort, Identity: identity,
	}
}

// send sends a message over an association.
func (h *host) send(id registrar.AssocID, ppid uint32, data []byte, unordered bool) {
	e := h.find(id)
	if e == nil || e.peer == nil {
		return
	}
	if ppid == enrp.PPID {
		data = h.bend(e, data)
	}
	if h.net.mutate == nil {
		h.net.carry(e, ppid, data, unordered)
		return
	}
	for _, data := range h.net.mutate(e, ppid, data) {
		h.net.carry(e, ppid, data, unordered)
	}
}

// carry has a message arrive, sooner or later, or never. An ordered one waits for those
// before it.
func (n *network) carry(e *end, ppid uint32, data []byte, unordered bool) {
	n.count(ppid, data)
	p := &packet{ppid: ppid, data: data, unordered: unordered, since: n.now}
	if n.clear(e) && (unordered || len(e.held) == 0) && !n.loses() {
		n.pass(e, p)
		return
	}
	e.held = append(e.held, p)
	n.transmit(e, p)
}

// transmit sends a packet, once more until it is acknowledged. If nothing comes through
// for long the association ends.
func (n *network) transmit(e *end, p *packet) {
	to := e.peer
	switch {
	case e.dead:
		return
	case e.h.stands() && e.h.frozen:
		n.at(e.h.paused, func() { n.transmit(e, p) })
		return
	case to.dead && n.reach(e.h, to.h):
		n.die(e, endByPeer, n.now+2*n.delay())
		return
	case n.now-p.since >= lostTime && !n.clear(e):
		n.hangUp(e, true)
		return
	case !to.dead && n.open(e.h, to.h) && to.h.answers() && !n.loses():
		p.arrived = true
		p.acked = n.open(to.h, e.h)
	}
	n.release(e)
	if p.acked {
		return
	}
	gap := min(rto<<p.tries, lostTime)
	if left := lostTime - (n.now - p.since); left > 0 {
		gap = min(gap, left)
	}
	p.tries++
	n.after(gap, func() { n.transmit(e, p) })
}

// release hands over what has arrived and waits for nothing.
func (n *network) release(e *end) {
	blocked := false
	for _, p := range e.held {
		switch {
		case !p.arrived:
			blocked = blocked || !p.unordered
		case !p.passed && (p.unordered || !blocked):
			p.passed = true
			n.pass(e, p)
		}
	}
	e.held = slices.DeleteFunc(e.held, func(p *packet) bool { return p.acked && p.passed })
}

// pass has a packet reach the process at the other end.
func (n *network) pass(e *end, p *packet) {
	to := e.peer
	at := max(n.now+n.delay(), to.up)
	if !p.unordered {
		at = max(at, to.last+1)
		to.last = at
	}
	life := to.h.life
	n.at(at, func() {
		if !to.dead {
			to.h.deliver(life, registrar.Received{Assoc: to.id, PPID: p.ppid, Data: p.data})
		}
	})
}

// hangUp ends an association from one side, and tells the other one if there is a word
// for that and it gets it.
func (n *network) hangUp(e *end, word bool) {
	peer := e.peer
	n.die(e, endSilent, n.now+n.delay())
	switch {
	case peer == nil || peer.dead:
	case word && e.h.answers() && n.open(e.h, peer.h) && peer.h.answers():
		n.die(peer, endByPeer, n.now+n.delay())
	default:
		n.after(beatTime/2+n.upTo(beatTime/2), func() { n.beat(peer, n.now) })
	}
}

// beat is a sign of life from an end whose other end is gone.
func (n *network) beat(e *end, since time.Duration) {
	switch {
	case e.dead:
	case n.reach(e.h, e.peer.h):
		n.die(e, endByPeer, n.now)
	case n.now-since >= lostTime:
		n.hangUp(e, true)
	default:
		n.after(lostTime/2, func() { n.beat(e, since) })
	}
}

// die is the end of one side of an association, of which its process hears at a time.
func (n *network) die(e *end, why ending, at time.Duration) {
	if e.dead {
		return
	}
	e.dead = true
	if i, ok := e.h.search(e.id); ok {
		e.h.ends = slices.Delete(e.h.ends, i, i+1)
	}
	held := e.held
	e.held = nil
	h, life := e.h, e.h.life
	n.at(max(at, e.last), func() {
		for _, p := range held {
			if !p.acked {
				h.deliver(life, registrar.SendFailed{Assoc: e.id, Data: p.data})
			}
		}
		h.deliver(life, registrar.AssocDown{Assoc: e.id, Reason: registrar.DownReason(h.net.reason(why))})
	})
}
