package sim

import "time"

// way is a direction between two machines.
type way struct{ from, to *machine }

// open reports whether packets get from one host to another.
func (n *network) open(from, to *host) bool {
	a, b := from.machine, to.machine
	return a.group == b.group && !a.mute && !b.deaf && !a.down && !b.down && (len(n.ways) == 0 || !n.ways[way{a, b}])
}

// loses reports whether this packet is lost.
func (n *network) loses() bool { return n.loss > 0 && n.rand.IntN(1000) < n.loss }

// reach reports whether a host gets an answer from another one's machine.
func (n *network) reach(from, to *host) bool {
	return n.open(from, to) && n.open(to, from) && to.answers()
}

// clear reports whether an association works at this moment.
func (n *network) clear(e *end) bool { return !e.peer.dead && n.reach(e.h, e.peer.h) }

// cutOff has the associations of a host end over which nothing comes through for long,
// even if nothing is sent over them. The two sides find that at different times.
func (n *network) cutOff(h *host) {
	for _, e := range h.ends {
		if e.peer == nil || n.clear(e) && (e.peer.dead || n.clear(e.peer)) {
			continue
		}
		for _, x := range [...]*end{e, e.peer} {
			n.after(lostTime+n.upTo(lostTime), func() {
				if !x.dead && !n.clear(x) && !x.h.stands() {
					n.hangUp(x, true)
				}
			})
		}
	}
}

// split moves hosts into groups. Associations between them end after some time,
// those that nothing is sent over only if the cut lasts so long.
func (n *network) split(hosts []*host, group func(*host) int) {
	for _, h := range hosts {
		if g := group(h); g != h.group {
			h.group, h.changed = g, n.now
		}
	}
	for _, h := range hosts {
		n.cutOff(h)
	}
}

// either is the registrar's host or the element's.
func (s *Sim) either(h *host, e *element) *host {
	if s.net.chance(2) {
		return h
	}
	return e.h
}

// cutFor cuts something at a host for a while.
func (s *Sim) cutFor(h *host, what string, cut func(bool)) {
	d := 100*time.Millisecond + s.net.upTo(longFault)
	s.trace("%v %s for %v", h, what, d)
	s.unsure(func(e *element) bool { return e.at == h || e.h == h })
	cut(true)
	h.changed = s.net.now
	s.net.cutOff(h)
	s.net.after(d, func() {
		s.trace("%v %s no longer", h, what)
		cut(false)
		h.changed = s.net.now
	})
}

func (s *Sim) deafen(h *host) {
	s.cutFor(h, "hears nothing", func(cut bool) { h.deaf = cut })
}

func (s *Sim) silence(h *host) {
	s.cutFor(h, "is not heard", func(cut bool) { h.mute = cut })
}

// unplug takes the link of a registrar's own, which notices that.
func (s *Sim) unplug(h *host) {
	s.cutFor(h, "has no link", func(cut bool) { h.down = cut })
}

// cutWay cuts one way between a registrar and an element, or another registrar.
func (s *Sim) cutWay(h *host, e *element) {
	o := e.h
	if s.net.chance(2) {
		o = s.servers[s.net.rand.IntN(len(s.servers))]
	}
	w := way{h.machine, o.machine}
	if s.net.chance(2) {
		w = way{o.machine, h.machine}
	}
	if h == o {
		return
	}
	s.unsure(func(e *element) bool { return e.h == o || e.at == o })
	s.cutFor(h, "is cut one way from "+o.String(), func(cut bool) {
		if cut {
			s.net.ways[w] = true
		} else {
			delete(s.net.ways, w)
		}
	})
}

// lossy has so many of a thousand packets be lost for a while.
func (s *Sim) lossy(loss int, d time.Duration) {
	s.trace("%d of a thousand packets are lost for %v", loss, d)
	s.unsure(func(*element) bool { return true })
	s.net.loss = loss
	s.net.after(d, func() {
		if s.net.loss == loss {
			s.trace("no packets are lost")
			s.net.loss, s.net.calm = 0, s.net.now+2*lostTime
		}
	})
}

// mend ends all that is wrong with the network but partitions.
func (s *Sim) mend() {
	clear(s.net.ways)
	if s.net.loss > 0 {
		s.net.loss, s.net.calm = 0, s.net.now+2*lostTime
	}
	for _, h := range s.hosts {
		h.deaf, h.mute, h.down, h.changed = false, false, false, s.net.now
		h.dark = min(h.dark, s.net.now)
	}
}

// split is a partition, or the end of one.
func (s *Sim) split(group func(*host) int) {
	cut := func(e *element) bool { return e.at != nil && e.at.group != e.h.group }
	s.unsure(cut)
	s.net.split(s.hosts, group)
	s.unsure(cut)
}
