package sim

import "time"

// fault is something bad that happens to a registrar's host or an element, or something
// that an element does. Weights say how often.
type fault struct {
	name   string
	weight int
	do     func(s *Sim, h *host, e *element)
}

// longFault is how long most faults last at most.
const longFault = 20 * time.Second

// faults are all of them; those of the network are in cuts.go, those of many at once in
// crowd.go.
var faults = []fault{
	{"crash", 2, func(s *Sim, h *host, _ *element) { s.kill(h, 30*time.Second) }},
	{"restart", 1, func(s *Sim, h *host, _ *element) { s.kill(h, time.Second) }},
	{"power", 1, func(s *Sim, h *host, _ *element) { s.powerOff(h, s.net.upTo(longFault)) }},
	{"pause", 1, func(s *Sim, h *host, _ *element) { s.pause(h, longFault) }},
	{"associations", 1, func(s *Sim, h *host, _ *element) {
		s.trace("%v loses associations", h.addr)
		s.lose(h)
	}},
	{"manner", 1, (*Sim).misbehave},
	{"clock", 1, func(s *Sim, h *host, _ *element) { s.oversleep(h) }},
	{"disk", 1, func(s *Sim, h *host, _ *element) { s.wipe(h) }},

	{"element associations", 1, func(s *Sim, _ *host, e *element) { s.lose(e.h) }},
	{"element crash", 1, func(s *Sim, _ *host, e *element) { s.killElement(e) }},
	{"element restart", 1, func(s *Sim, _ *host, e *element) {
		s.killElement(e)
		s.net.after(s.net.upTo(20*time.Second), e.boot)
	}},
	{"element power", 1, func(s *Sim, _ *host, e *element) { s.powerOffElement(e, s.net.upTo(2*longFault)) }},
	{"element pause", 1, func(s *Sim, _ *host, e *element) { s.pause(e.h, longFault) }},
	{"leave", 1, func(s *Sim, _ *host, e *element) {
		if e.h.proc != nil && !e.h.stands() {
			s.trace("element %v leaves", e.id)
			e.leave()
		}
		s.net.after(10*time.Second+s.net.upTo(20*time.Second), e.boot)
	}},
	{"other home", 1, func(s *Sim, h *host, e *element) {
		if e.state == elementLives && !e.h.stands() {
			s.trace("element %v moves to %v", e.id, h.addr)
			e.call(h)
		}
	}},
	{"load", 1, func(s *Sim, _ *host, e *element) {
		if !e.h.stands() {
			e.change(s.net.rand.Uint32())
		}
	}},
	{"move", 2, func(s *Sim, _ *host, e *element) {
		if !e.h.stands() {
			s.move(e, s.net.upTo(20*time.Second))
		}
	}},
	{"roll", 2, func(s *Sim, _ *host, e *element) {
		if !e.h.stands() {
			s.roll(e, s.net.upTo(40*time.Second))
		}
	}},
	{"rule", 1, func(s *Sim, _ *host, e *element) { s.changeRule(e.pool) }},
	{"operator", 1, func(s *Sim, h *host, e *element) { s.remove(h, e) }},
	{"usurp", 1, func(s *Sim, _ *host, e *element) { s.usurp(e) }},

	{"partition", 1, func(s *Sim, _ *host, _ *element) {
		s.trace("partition")
		s.split(func(*host) int { return s.net.rand.IntN(2) })
	}},
	{"alone", 1, func(s *Sim, h *host, _ *element) {
		s.trace("%v is alone", h.addr)
		s.split(func(x *host) int {
			if x == h {
				return 1
			}
			return 0
		})
	}},
	{"no partition", 1, func(s *Sim, _ *host, _ *element) {
		s.trace("no partition")
		s.split(func(*host) int { return 0 })
	}},
	{"one way", 1, (*Sim).cutWay},
	{"one link", 1, func(s *Sim, h *host, _ *element) { s.cutLink(h) }},
	{"deaf", 1, func(s *Sim, h *host, e *element) { s.deafen(s.either(h, e)) }},
	{"mute", 1, func(s *Sim, h *host, e *element) { s.silence(s.either(h, e)) }},
	{"link", 1, func(s *Sim, h *host, _ *element) { s.unplug(h) }},
	{"loss", 1, func(s *Sim, _ *host, _ *element) { s.lossy(1+s.net.rand.IntN(100), s.net.upTo(2*longFault)) }},

	{"pool pause", 1, func(s *Sim, _ *host, e *element) { s.pausePool(e) }},
	{"crowd pause", 1, func(s *Sim, h *host, _ *element) { s.pauseCrowd(h) }},
	{"registrars pause", 1, func(s *Sim, _ *host, _ *element) { s.pauseRegistrars() }},
}

// trustFaults are those of a trusted scope.
var trustFaults = []fault{
	{"rights", 2, func(s *Sim, _ *host, e *element) { s.changeRights(e) }},
	{"thief", 1, func(s *Sim, _ *host, _ *element) { s.steal() }},
	{"squatter", 1, func(s *Sim, _ *host, e *element) { s.squat(e, s.net.upTo(2*longFault)) }},
	{"registrars", 1, func(s *Sim, h *host, _ *element) { s.changeRegistrar(h) }},
	{"resolvers", 1, func(s *Sim, _ *host, _ *element) { s.changeResolvers() }},
}

// chooseFaults is which faults a seed has: all of them, or about half, so that there are
// seeds in which one fault is not undone by another one. In some seeds they are many.
func (s *Sim) chooseFaults() {
	if s.net.chance(2) {
		s.ruleAll()
	}
	s.faultGap = time.Second + s.net.upTo(12*time.Second)
	some := s.net.chance(2)
	s.chooseOf(faults, some)
	if s.trust != nil {
		s.chooseOf(trustFaults, some)
	}
	if s.kinds == nil {
		s.kinds = append(s.kinds, &faults[0])
	}
}

// chooseOf chooses some faults of a list, or all.
func (s *Sim) chooseOf(list []fault, some bool) {
	for i := range list {
		if some && s.net.chance(2) {
			continue
		}
		for range list[i].weight {
			s.kinds = append(s.kinds, &list[i])
		}
	}
}

// fault does something bad, or has an element do something.
func (s *Sim) fault() {
	rnd := s.net.rand
	h := s.servers[rnd.IntN(len(s.servers))]
	e := s.elements[rnd.IntN(len(s.elements))]
	s.kinds[rnd.IntN(len(s.kinds))].do(s, h, e)
}

// kill ends a registrar, which starts again within a time.
func (s *Sim) kill(h *host, within time.Duration) {
	if h.proc != nil {
		s.crash(h)
		s.net.after(s.net.upTo(within), h.start)
	}
}

// crash ends a registrar.
func (s *Sim) crash(h *host) {
	s.trace("%v crashes", h.addr)
	h.crash()
	s.unsure(func(e *element) bool { return e.at == h })
}

// powerOff ends a registrar and its machine for a while.
func (s *Sim) powerOff(h *host, d time.Duration) {
	if h.proc != nil {
		s.trace("%v has no power for %v", h.addr, d)
		h.powerOff(d)
		s.unsure(func(e *element) bool { return e.at == h })
		s.net.after(d, h.start)
	}
}

func (s *Sim) killElement(e *element) {
	if e.h.proc != nil {
		s.trace("element %v crashes", e.id)
		e.leavesUnread(e.h)
		e.h.crash()
		e.gone()
	}
}

// powerOffElement ends an element and its machine for a while.
func (s *Sim) powerOffElement(e *element, d time.Duration) {
	if e.h.proc != nil {
		s.trace("element %v has no power for %v", e.id, d)
		e.h.powerOff(d)
		e.gone()
		s.net.after(d+s.net.upTo(time.Second), e.boot)
	}
}

// pause has a process stand still, unless it does.
func (s *Sim) pause(h *host, most time.Duration) {
	if !h.stands() { // or what waits would be overtaken
		s.stop(h, 100*time.Millisecond+s.net.upTo(most), s.net.chance(2))
	}
}

// stop has a process stand still, and what carries its associations as well if it is
// frozen.
func (s *Sim) stop(h *host, d time.Duration, frozen bool) {
	s.trace("%v stands still for %v, frozen %v", h.addr, d, frozen)
	h.woke, h.stopped, h.paused, h.frozen = h.paused, s.net.now, s.net.now+d, frozen
	s.unsure(func(e *element) bool { return e.at == h || e.h == h })
	if frozen {
		s.net.cutOff(h)
	}
}

// lose ends associations of a host, but no call that is under way.
func (s *Sim) lose(h *host) {
	s.unsure(func(e *element) bool { // the home's call may be lost as well
		return (e.at == h || e.h == h) && e.at != nil && s.net.now < max(e.at.lost, e.h.lost)+10*time.Second
	})
	h.lost = s.net.now
	var some []*end
	for _, a := range h.ends {
		if a.peer != nil && !a.peer.dead && s.net.chance(2) {
			some = append(some, a)
		}
	}
	lost := map[*host]int{}
	for _, a := range some {
		lost[a.h]++
		lost[a.peer.h]++
		if s.net.chance(2) {
			a = a.peer
		}
		s.net.hangUp(a, true)
	}
	// An element may have two: one that it has opened, and one by which its home has called it.
	s.unsure(func(e *element) bool { return e.at != nil && lost[e.h] > 1 })
}

// unsure has elements be sure of their home no longer.
func (s *Sim) unsure(which func(*element) bool) {
	for _, e := range s.elements {
		if which(e) {
			e.sure = false
		}
	}
}

// misbehave gives a registrar a manner.
func (s *Sim) misbehave(h *host, _ *element) {
	m := manner(s.net.rand.IntN(int(manners)))
	if m > refusing && s.cfg.References > 0 {
		m = refusing // the reference asks for parts without end
	}
	s.behave(h, m)
}

// heal ends all faults.
func (s *Sim) heal() {
	s.trace("heal")
	s.reform()
	s.reformThief()
	s.readmit()
	s.mend()
	s.split(func(*host) int { return 0 })
	for _, h := range s.servers {
		h.start()
	}
}
