package sim

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/internal/identity"
	"github.com/rserpool/coredns-rserpool/registrar"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// node is a registrar on its host. The registrar is another one, with another
// identifier, each time it starts.
type node struct {
	s     *Sim
	h     *host
	clock clock
	peers []netip.AddrPort  // configured ones
	fixed rserpool.ServerID // its identifier, 0 to draw one

	r     *registrar.Registrar
	rules ruled
	// rights are the latest that it was told, when entrusted; lax has it let everybody register.
	rights    *identity.Rights
	entrusted time.Duration
	lax       bool
	disk      *disk // nil if the host keeps nothing
	ticking   bool
	tick      time.Duration // when the next Tick comes, if ticking

	booted   time.Duration
	refusals []refusal // of tables, since it has booted
	given    bool      // a table came to its end since then

	presence []byte // the last one that went out
	checksum uint16 // in it
	look     watch
}

// newNode makes a registrar's host, whose clock is wrong.
func (s *Sim) newNode(addr netip.Addr, peers []netip.AddrPort) *node {
	n := &node{s: s, peers: peers, clock: clock{
		epoch: time.Unix(1e9, 0).Add(s.net.upTo(1000 * time.Hour)),
		ppm:   s.net.rand.Int64N(2*maxDrift+1) - maxDrift,
	}}
	n.h = s.net.newHost(addr, n.boot, 0)
	return n
}

// boot starts the registrar, if it does not run.
func (n *node) boot() {
	if n.h.proc != nil {
		return
	}
	id := n.fixed
	if n.disk != nil && id == 0 {
		id = n.disk.id
	}
	if t := n.s.trust; t != nil {
		n.rights, n.entrusted = t.rights, n.s.net.now
	}
	r, err := registrar.New(registrar.Config{
		ServerID: id, Keep: n.disk != nil,
		Rand:  rand.New(rand.NewPCG(n.s.net.rand.Uint64(), 2)),
		Peers: n.peers, Discover: n.s.cfg.Multicast, Timers: n.s.cfg.Timers,
		// Room for all elements, each once: no move of an element needs more.
		Rules:  n.s.told(),
		Rights: n.told(n.rights),
		Limits: registrar.Limits{LogsPerSecond: 1 << 20, Elements: max(1, len(n.s.elements))},
	})
	if err != nil {
		n.s.fail("registrar at %v: %v", n.h.addr, err)
		return
	}
	n.r, n.ticking, n.presence, n.rules = r, false, nil, n.s.rules
	n.booted, n.refusals, n.given = n.s.net.now, nil, false
	n.look = watch{owned: make([]time.Duration, len(n.s.elements)), had: make([]time.Duration, len(n.s.elements)),
		answered: make([]time.Duration, len(n.s.elements)), strange: make([]bool, len(n.s.elements)), over: make([]time.Duration, len(n.s.elements))}
	n.s.ids[r.ID()] = true
	n.h.begin(n)
	n.s.trace("%v boots as %v", n.h.addr, r.ID())
	if n.disk != nil {
		n.disk.id = r.ID()
		n.restore()
		n.stayAlive()
	}
	n.handle(registrar.Serving{
		Addrs: []netip.AddrPort{netip.AddrPortFrom(n.h.addr, asapPort)},
		ENRP:  []netip.AddrPort{netip.AddrPortFrom(n.h.addr, enrpPort)},
	})
}

// serverID is the identifier that the registrar has now.
func (n *node) serverID() rserpool.ServerID { return n.r.ID() }

// runs reports whether the registrar runs, and does not stand still.
func (n *node) runs() bool { return n.h.proc != nil && !n.h.stands() }

// handle gives an event to the registrar, and looks at what comes of it.
func (n *node) handle(ev registrar.Event) {
	changes, said, ready, claimed := n.changes(), n.look.said, n.r.Ready(), n.claimed()
	intruder := n.intrudes(ev)
	for events := []registrar.Event{ev}; len(events) > 0; events = events[1:] {
		events = append(events, n.perform(n.r.Handle(n.clock.at(n.s.net.now), events[0]))...)
	}
	n.schedule()
	n.step(changes, said)
	n.checkClaimed(claimed)
	n.checkIntruder(intruder)
	if ev, ok := ev.(registrar.Received); ok {
		n.checkHeard(ev)
	}
	if !ready && n.r.Ready() {
		n.checkStart()
	}
}

// perform does what the registrar wants, and returns what it has to be told of
// it. What is sent is the registrar's until the next call.
func (n *node) perform(acts []registrar.Action) (answers []registrar.Event) {
	var last *registrar.Send
	var data []byte
	for _, act := range acts {
		switch a := act.(type) {
		case *registrar.Send:
			if last == nil || !bytes.Equal(a.Data, data) {
				data = bytes.Clone(a.Data)
			}
			n.note(a, last, data)
			n.checkSent(a)
			last = a
			n.h.send(a.Assoc, a.PPID, data, a.Unordered)
		case registrar.Connect:
			port := uint16(asapPort)
			if a.PPID == enrp.PPID {
				port = enrpPort
			}
			answers = append(answers, registrar.Connecting{Ref: a.Ref, Assoc: n.h.connect(port, a.To[0])})
		case registrar.Close:
			if e := n.h.find(a.Assoc); e != nil {
				n.s.net.hangUp(e, true)
			}
		case registrar.Announce:
			n.s.multicast(n.h, registrar.Announced{
				From: netip.AddrPortFrom(n.h.addr, enrpPort), Data: bytes.Clone(a.Data), ENRP: a.ENRP,
			})
		case registrar.Keep, registrar.KeepPeers:
			n.store(a)
		case registrar.Log:
			n.s.trace("%v: %s", n.h.addr, a.Text)
		}
	}
	return answers
}

// note looks at what is sent: the checksums of presences, and what makes for
// updates.
func (n *node) note(a, last *registrar.Send, data []byte) {
	switch {
	case a.PPID == asap.PPID:
		const home = 0x01
		if asap.MessageType(data[0]) == asap.TypeEndpointKeepAlive && data[1]&home != 0 {
			n.look.homeAsks++
		}
	case enrp.MessageType(data[0]) == enrp.TypeHandleUpdate:
		if last == nil || last.Assoc == a.Assoc || !bytes.Equal(last.Data, a.Data) {
			n.look.broadcasts++
		}
	case enrp.MessageType(data[0]) == enrp.TypePresence:
		if last == nil || !bytes.Equal(last.Data, a.Data) {
			n.look.said++
			n.look.saidOf = n.changes()
		}
		if bytes.Equal(data, n.presence) {
			return
		}
		n.presence = data
		m, _, err := enrp.Parse(data)
		if p, ok := m.(*enrp.Presence); ok && err == nil {
			n.checksum = p.Checksum
		} else {
			n.s.fail("registrar %v sends what cannot be read: %v", n.r.ID(), err)
		}
	}
}

// schedule has a Tick delivered when one is due.
func (n *node) schedule() {
	deadline, ok := n.r.NextDeadline()
	if !ok {
		return
	}
	at := max(n.clock.when(deadline), n.s.net.now)
	if n.ticking && at >= n.tick {
		return
	}
	n.ticking, n.tick = true, at
	life := n.h.life
	n.s.net.at(at, func() {
		if n.h.life == life && n.ticking && n.tick == at {
			n.h.do(life, func() {
				n.ticking = false
				n.handle(registrar.Tick{})
			})
		}
	})
}
