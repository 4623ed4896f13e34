package sim

import (
	"net/netip"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/registrar"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

const (
	commitGap = time.Second // at least, between two commits
	aliveGap  = 10 * time.Second
)

// disk is what a registrar's host keeps for the next process, if it does. What was told
// after the last commit is lost when the process ends.
type disk struct {
	id        rserpool.ServerID
	alive     time.Time // by the host's clock
	peers     [][]netip.AddrPort
	kept      map[rserpool.PEID]kept // an element is in one pool
	pending   []any
	commits   bool // a commit is due
	committed time.Duration
}

// kept is an element on a disk, as of a time.
type kept struct {
	*registrar.Kept
	at time.Duration
}

func newDisk() *disk { return &disk{kept: make(map[rserpool.PEID]kept)} }

// store takes what the registrar wants to have kept.
func (n *node) store(act registrar.Action) {
	d := n.disk
	if d == nil {
		n.s.fail("registrar %v wants something kept, and was not asked to", n.r.ID())
		return
	}
	d.pending = append(d.pending, act)
	if d.commits {
		return
	}
	d.commits = true
	n.h.net.at(max(n.s.net.now, d.committed+commitGap), func() {
		if n.disk == d && d.commits {
			n.commit()
		}
	})
}

// commit writes what is pending.
func (n *node) commit() {
	d := n.disk
	for _, act := range d.pending {
		switch a := act.(type) {
		case registrar.KeepPeers:
			d.peers = a.At
		case registrar.Keep:
			if a.Element == nil {
				delete(d.kept, a.ID)
			} else {
				d.kept[a.ID] = kept{a.Element, n.s.net.now}
			}
		}
	}
	d.pending, d.commits, d.committed = nil, false, n.s.net.now
}

// stayAlive notes now and then that the registrar is there.
func (n *node) stayAlive() {
	n.disk.alive = n.clock.at(n.s.net.now)
	n.h.after(aliveGap, n.stayAlive)
}

// restore gives a registrar that has just begun what its host has kept.
func (n *node) restore() {
	d := n.disk
	d.pending, d.commits = nil, false
	ev := registrar.Restore{Alive: d.alive, Peers: d.peers}
	var ids []rserpool.PEID
	for id := range d.kept {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		ev.Elements = append(ev.Elements, *d.kept[id].Kept)
	}
	n.s.trace("%v restores %d elements", n.h, len(ids))
	n.handle(ev)
	n.checkRestored()
}

// checkRestored: what was kept is there at once, but for what is too old.
func (n *node) checkRestored() {
	now := n.clock.at(n.s.net.now)
	for _, e := range n.s.elements {
		k, ok := n.disk.kept[e.id]
		if !ok || !n.permits(k.PE.Identity, e.pool) {
			continue
		}
		heard := n.disk.alive
		if !k.Suspect.IsZero() {
			heard = k.Suspect
		}
		old := now.Sub(heard) > n.s.cfg.Timers.GuardLife
		x, known := n.sight(e)
		if old {
			n.s.stale++
		}
		switch {
		case known == old:
			n.s.fail("registrar %v has restored element %v: %v, too old: %v", n.r.ID(), e.id, known, old)
		case known && x.Suspect == k.Suspect.IsZero():
			n.s.fail("registrar %v has restored element %v as a suspect: %v, it was one: %v", n.r.ID(), e.id, x.Suspect, !x.Suspect)
		}
		if n.look.answered[e.index] > 0 {
			n.look.answered[e.index] = k.at // the process may be another one since
		}
		if !k.Suspect.IsZero() {
			n.look.over[e.index] = n.s.net.now + n.s.cfg.Timers.GuardLife - now.Sub(heard)
		}
	}
}

// wipe loses what the host has kept.
func (s *Sim) wipe(h *host) {
	n, ok := h.proc.(*node)
	if !ok || n.disk == nil {
		return
	}
	s.trace("%v loses its disk", h)
	s.kill(h, longFault)
	n.disk = newDisk()
}

// oversleep ends a registrar whose clock is ahead by about GUARD-LIFE when it starts again:
// some of the elements that its host has kept, or all, are too old.
func (s *Sim) oversleep(h *host) {
	n, ok := h.proc.(*node)
	if !ok || n.disk == nil {
		return
	}
	ahead := s.cfg.Timers.GuardLife - longFault + s.net.upTo(2*longFault)
	s.trace("%v crashes, and sleeps for %v", h, ahead)
	s.crash(h)
	n.clock.epoch = n.clock.epoch.Add(ahead)
	s.net.after(s.net.upTo(longFault), h.start)
}

// tooOld is a scenario: a registrar starts again when a suspect in what its host has kept is too
// old, or all elements are. checkRestored looks at what is there at once. In the end all
// elements are back.
func (s *Sim) tooOld(all bool) error {
	s.begin()
	n := s.nodes[0]
	list := s.all(func(e *element) bool { return e.at == n.h })
	s.stop(list[0].h, 100*time.Second, false)
	s.net.run(30 * time.Second) // it is a suspect for 20 s and more, and the others are alive
	s.crash(n.h)
	s.net.run(time.Second)
	ahead := s.cfg.Timers.GuardLife - 15*time.Second
	if all {
		ahead += 20 * time.Second
	}
	n.clock.epoch = n.clock.epoch.Add(ahead)
	n.boot()
	want := 1
	if all {
		want = len(list)
	}
	if s.stale != want {
		s.fail("%d of %d elements that were kept are too old, want %d", s.stale, len(list), want)
	}
	s.net.run(2 * time.Minute)
	s.checkRest()
	return s.err()
}
