package sim

import (
	"time"

	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/registrar"
	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// watch is what is known of a registrar that is watched. After every event that
// changes its handlespace (or every so many, see Config.Sample), and every
// Config.LookGap, all of that is looked at: no element is there twice, each home is,
// or was, a registrar, none that lives and is sure of its home is missing there, and
// none that is dead is still there when its home's supervision must have found it.
// The checksum is compared with a full computation whenever it is sent. And there is
// no more than one update to each peer for each thing that is a reason for one.
type watch struct {
	idle    time.Duration   // since when no probe waits for others
	owned   []time.Duration // since when it is home of each element; 0 if it is not
	had     []time.Duration // when it has had each element last; see checkHasAll
	changes int             // of its handlespace
	said    int             // presences, each counted once

	summed bool // own is of so many changes
	of     uint64
	own    enrp.Checksum // full computation of that of its own elements

	homeAsks   uint64 // keep-alives with the H flag
	broadcasts uint64 // updates, each counted once, not for each peer
}

// step looks at a registrar after an event. changes are those of the handlespace
// before it, said the presences until then.
func (n *node) step(changes uint64, said int) {
	switch l := &n.look; {
	case changes != n.r.Space().Changes():
		if l.changes++; l.changes%n.s.cfg.Sample == 0 {
			n.scan()
		}
	case said != l.said && l.said%n.s.cfg.Sample == 0:
		n.checkPresence() // nothing has changed in the same event, after it was sent
	}
}

// watchAll looks at all registrars, now and every so often.
func (s *Sim) watchAll() {
	for _, n := range s.nodes {
		if n.runs() {
			n.scan()
			n.checkUpdates()
		}
	}
	s.net.after(s.cfg.LookGap, s.watchAll)
}

// scan looks at a registrar's handlespace.
func (n *node) scan() {
	s := n.s
	s.scans++
	if n.r.Stats().Probing >= probesAtOnce {
		n.look.idle = s.net.now
	}
	known := 0
	n.look.own = enrp.Checksum{}
	for p := range n.r.Space().Pools() {
		s.found = p.Elements(s.found[:0])
		known += len(s.found)
		n.scanPool(p.Handle(), s.found)
	}
	if _, count := n.r.Space().Len(); count != known {
		s.fail("registrar %v counts %d elements, and has %d", n.r.ID(), count, known)
	}
	for _, e := range s.elements {
		if e.seen != s.scans {
			n.look.owned[e.index] = 0
			// The reference drops elements whose association ends, and says so.
			if e.sure && e.at == n.h && s.cfg.References == 0 {
				s.fail("element %v lives and is not in the handlespace of its home %v", e.id, n.r.ID())
			}
		}
	}
	n.look.summed, n.look.of = true, n.r.Space().Changes()
}

func (n *node) scanPool(h rserpool.PoolHandle, list []*handlespace.Element) {
	s := n.s
	for _, pe := range list {
		e := s.element(pe.ID)
		switch {
		case e == nil || e.pool != h:
			s.fail("registrar %v has element %v of pool %s, which never was", n.r.ID(), pe.ID, h)
			continue
		case e.seen == s.scans:
			s.fail("registrar %v has element %v twice", n.r.ID(), pe.ID)
		case !s.ids[pe.Home]:
			s.fail("registrar %v has element %v with home %v, which never was", n.r.ID(), pe.ID, pe.Home)
		}
		e.seen = s.scans
		if pe.Home == n.r.ID() {
			n.look.own.Add(h, pe.ID)
			n.checkOwned(e)
		} else {
			n.look.owned[e.index] = 0
		}
	}
}

// checkOwned looks at an element that the registrar is home of.
func (n *node) checkOwned(e *element) {
	since := &n.look.owned[e.index]
	if *since == 0 {
		*since = n.s.net.now
	}
	died := e.died
	switch {
	case e.old != nil:
		return // it answers
	case e.state == elementGone:
	case e.h.stands():
		died = e.h.stopped
	default:
		return
	}
	if age := n.s.net.now - max(died, e.alone, *since, n.h.paused, n.look.idle); age > n.supervision() {
		n.s.fail("element %v is dead, and still in the handlespace of its home %v after %v", e.id, n.r.ID(), age)
	}
}

// supervision is how long a registrar that runs may keep an element that is dead
// or stands still, counted from that, and from when the registrar has become its home.
// What it has heard of the element last was on its way for maxDelay. 1.5
// KEEP-ALIVE-INTERVAL later at most it asks, and waits for KEEP-ALIVE-TIMEOUT;
// unless the association ends just before, so that it calls the element for
// PROBE-TIMEOUT; a call waits for minProbeGap. All of that is by its own clock.
// Where more are called than may be at a time, that begins when they are less.
func (n *node) supervision() time.Duration {
	const minProbeGap = 100 * time.Millisecond
	t := &n.s.cfg.Timers
	d := t.KeepAliveInterval*3/2 + t.KeepAliveTimeout + t.ProbeTimeout + minProbeGap
	return n.clock.real(d) + maxDelay + time.Millisecond
}

// probesAtOnce is the default of Limits.Probes.
const probesAtOnce = 512

// checkPresence compares the checksum that was sent with a full computation.
func (n *node) checkPresence() {
	if !n.look.summed || n.look.of != n.r.Space().Changes() {
		n.scan()
	}
	if !enrp.ChecksumsMatch(n.look.own.Value(), n.checksum) {
		n.s.fail("registrar %v says checksum %04x, its elements have %04x", n.r.ID(), n.checksum, n.look.own.Value())
	}
}

// checkUpdates: each update has its reason.
func (n *node) checkUpdates() {
	st := n.r.Stats()
	const asks = 3 // of an element's home, for each claim
	reasons := n.look.homeAsks + st.Contests + st.Yields + asks*st.Claims + reasons(&st)
	if n.look.broadcasts > reasons {
		n.s.fail("registrar %v has sent %d updates, for %d reasons", n.r.ID(), n.look.broadcasts, reasons)
	}
}

// reasons are what happened to a registrar's elements of their own doing.
func reasons(st *registrar.Stats) uint64 {
	n := st.Registrations + st.Reregistrations + 2*st.Deregistrations
	for _, k := range st.Removed {
		n += k
	}
	return n
}

// reachable reports whether two hosts reach one another, and stand nowhere.
func reachable(a, b *host) bool {
	return a.group == b.group && a.proc != nil && b.proc != nil && !a.stands() && !b.stands()
}

// element is the one of that identifier.
func (s *Sim) element(id rserpool.PEID) *element {
	if i := int(id) - 1; i >= 0 && i < len(s.elements) {
		return s.elements[i]
	}
	return nil
}
