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
	guarded time.Duration   // when it has taken its own side for the cause last
	crowd   time.Duration   // when many of its elements were silent last
	owned   []time.Duration // since when it is home of each element; 0 if it is not
	had     []time.Duration // when it has had each element last; see checkHasAll
	// answered is when it has had each element among its answers last; strange tells that
	// the home was a reference then.
	answered []time.Duration
	strange  []bool
	over     []time.Duration // when each restored suspect has been silent for GUARD-LIFE
	changes  int             // of its handlespace
	said     int             // presences, each counted once
	saidOf   uint64          // the changes of the handlespace at the last one

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
	case changes != n.changes():
		if l.changes++; l.changes%n.s.cfg.Sample == 0 {
			n.scan()
		}
	case said != l.said && l.said%n.s.cfg.Sample == 0:
		n.checkPresence() // nothing has changed in the same event, after it was sent
	}
}

// changes are those of what the registrar is known to have: of its handlespace, and of the
// states of its elements.
func (n *node) changes() uint64 {
	st := n.r.Stats()
	k := n.r.Space().Changes() + st.Returned + st.Restored - st.Unconfirmed
	for _, x := range st.Suspected {
		k += x
	}
	return k
}

// watchAll looks at all registrars, now and every so often.
func (s *Sim) watchAll() {
	for _, n := range s.nodes {
		if n.runs() {
			n.scan()
			n.checkUpdates()
			n.checkBlind()
			n.checkLinks()
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
	if n.blind() {
		n.look.guarded = s.net.now
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
	n.checkAnswers()
	n.look.summed, n.look.of = true, n.changes()
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
		n.checkPermitted(h, pe)
		stolen := s.stolen(pe)
		if stolen && e.sure && e.at == n.h {
			s.fail("a thief has the identifier of element %v, which lives, with registrar %v", e.id, n.r.ID())
		}
		e.seen = s.scans
		n.look.strange[e.index] = s.references[pe.Home]
		if e.isAt(pe) {
			n.look.answered[e.index] = s.net.now
		}
		if pe.Home == n.r.ID() {
			if x, ok := n.sight(e); ok && !x.Suspect && !x.Unconfirmed {
				n.look.own.Add(h, pe.ID)
			}
			if !stolen {
				n.checkOwned(e)
			}
		} else {
			n.look.owned[e.index] = 0
		}
	}
}

// checkOwned looks at an element that the registrar is home of, and that is among its
// answers.
func (n *node) checkOwned(e *element) {
	since := &n.look.owned[e.index]
	if *since == 0 {
		*since = n.s.net.now
	}
	if e.old != nil {
		return // it answers
	}
	died, most := e.died, n.standing(e.h.woke, e.h.stopped)
	switch {
	case e.state == elementGone:
		died = max(died, e.h.dark) // until then nobody refused a call
		if x, _ := n.sight(e); x.Suspect {
			died = max(died, e.squatted) // nor then, if a squatter was noticed
		}
		if n.guards(e.pool) {
			most += n.longestPause()
		}
	case e.h.stands() && !n.guards(e.pool):
		died = e.h.stopped
	default:
		return
	}
	if !n.s.net.reach(n.h, e.h) && e.state == elementGone {
		return
	}
	if n.look.guarded > 0 && n.s.net.now-n.look.guarded < 2*n.longestPause() {
		most += n.longestPause() // the silent ones are called on as before
	}
	from := max(died, e.alone, *since, n.h.paused, n.look.idle, n.look.guarded, n.quiet(e))
	if age := n.s.net.now - from; age > most {
		n.s.fail("element %v is dead, and still among the answers of its home %v after %v", e.id, n.r.ID(), age)
	}
}

// guards reports whether the registrar leaves silent elements of a pool among its answers.
func (n *node) guards(h rserpool.PoolHandle) bool {
	p := n.r.Space().Pool(h)
	if p == nil {
		return false
	}
	_, guarded := p.Doubt()
	return guarded || n.blind()
}

// blind reports whether the registrar takes its own side for the cause of silence.
func (n *node) blind() bool { return n.r.Stats().Guarded > 0 }

// checkBlind: a registrar takes its own side for the cause only while many of its
// elements are silent, and for a while after that.
func (n *node) checkBlind() {
	own, silent := 0, 0
	for _, e := range n.s.elements {
		if x, ok := n.sight(e); ok && x.Home == n.r.ID() && !x.Suspect {
			own++
			if e.state == elementGone || e.h.stands() || !n.s.net.reach(n.h, e.h) {
				silent++
			}
		}
	}
	now := n.s.net.now
	if own == 0 || 5*silent >= 2*own || n.s.net.loss > 0 {
		n.look.crowd = now
	}
	if n.blind() && now-max(n.look.crowd, n.h.paused, n.h.changed, n.booted) > n.longestPause()+n.supervision() {
		n.s.fail("registrar %v still takes its own side for the cause, though %d of its %d elements are silent, and no more were since %v", n.r.ID(), silent, own, n.look.crowd)
	}
}

// longestPause is the longest time between two keep-alives to a suspect, or two calls.
func (n *node) longestPause() time.Duration { return n.clock.real(66*time.Second) + connectTime }

// supervision is how long a registrar that runs may keep an element that is dead
// or stands still, counted from that, and from when the registrar has become its home.
// What it has heard of the element last was on its way for maxDelay. 1.1
// KEEP-ALIVE-INTERVAL later at most it asks, and waits for KEEP-ALIVE-TIMEOUT;
// unless the association ends just before, so that it calls the element for
// PROBE-TIMEOUT; a call waits for minProbeGap, and its judgement for news of others.
// All of that is by its own clock. Where more are called than may be at a time, that begins
// when they are less.
func (n *node) supervision() time.Duration {
	const minProbeGap, wonderTime = 100 * time.Millisecond, 500 * time.Millisecond
	t := &n.s.cfg.Timers
	d := t.KeepAliveInterval*11/10 + max(t.KeepAliveTimeout, 1400*time.Millisecond) + t.ProbeTimeout + minProbeGap + wonderTime
	return n.clock.real(d) + maxDelay + time.Millisecond
}

// standing is supervision for an element that stands still, and has gone on before.
func (n *node) standing(woke, stopped time.Duration) time.Duration {
	most := n.supervision()
	if woke > 0 && stopped-woke < 2*n.s.cfg.Timers.KeepAliveInterval {
		most += n.clock.real(unsettled)
	}
	return most
}

// unsettled is how much longer it takes if an element stands still again before it has
// acknowledged a keep-alive in time. Its late acknowledgement may show that round trips take
// longer now: it has seven tries of a second, and three more if too little is known of others.
const unsettled = 10 * time.Second

// probesAtOnce is the default of Limits.Probes.
const probesAtOnce = 512

// checkPresence compares the checksum that was sent with a full computation.
func (n *node) checkPresence() {
	if n.presence == nil {
		return
	}
	if !n.look.summed || n.look.of != n.changes() {
		n.scan()
	}
	if !enrp.ChecksumsMatch(n.look.own.Value(), n.checksum) {
		n.s.fail("registrar %v says checksum %04x, its elements have %04x", n.r.ID(), n.checksum, n.look.own.Value())
	}
}

// checkUpdates: each update has its reason.
func (n *node) checkUpdates() {
	st := n.r.Stats()
	const asks = 4 // of an element's home, for each claim: every 3 s for 9 s, and when it becomes a suspect
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
	for _, k := range st.Suspected {
		n += k
	}
	n += st.Returned + st.Restored
	return n
}

// reachable reports whether two hosts reach one another, and stand nowhere.
func reachable(a, b *host) bool {
	return a.net.reach(a, b) && a.net.open(b, a) && a.net.loss == 0 && a.net.now >= a.net.calm && a.proc != nil && b.proc != nil && !a.stands() && !b.stands()
}

// element is the one of that identifier.
func (s *Sim) element(id rserpool.PEID) *element {
	if i := int(id) - 1; i >= 0 && i < len(s.elements) {
		return s.elements[i]
	}
	return nil
}
