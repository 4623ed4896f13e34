package sim

import "time"

// fault does something bad, or has an element do something.
func (s *Sim) fault() {
	rnd := s.net.rand
	h := s.servers[rnd.IntN(len(s.servers))]
	e := s.elements[rnd.IntN(len(s.elements))]
	switch rnd.IntN(20) {
	case 0, 1:
		s.kill(h, 30*time.Second)
	case 2:
		s.kill(h, time.Second)
	case 3:
		if !h.stands() { // or what waits would be overtaken
			s.pause(h, 20*time.Second)
		}
	case 4:
		s.trace("partition")
		s.split(func(*host) int { return rnd.IntN(2) })
	case 5:
		s.trace("%v is alone", h.addr)
		s.split(func(x *host) int {
			if x == h {
				return 1
			}
			return 0
		})
	case 6:
		s.trace("no partition")
		s.split(func(*host) int { return 0 })
	case 7:
		s.trace("%v loses associations", h.addr)
		s.lose(h)
	case 8:
		s.lose(e.h)
	case 9:
		s.killElement(e)
	case 10:
		s.killElement(e)
		s.net.after(s.net.upTo(20*time.Second), e.boot)
	case 11:
		if !e.h.stands() {
			s.pause(e.h, 20*time.Second)
		}
	case 12:
		if e.h.proc != nil && !e.h.stands() {
			s.trace("element %v leaves", e.id)
			e.leave()
		}
		s.net.after(10*time.Second+s.net.upTo(20*time.Second), e.boot)
	case 13:
		if e.state == elementLives && !e.h.stands() {
			s.trace("element %v moves to %v", e.id, h.addr)
			e.call(h)
		}
	case 14:
		if !e.h.stands() {
			e.change(rnd.Uint32())
		}
	case 15, 16:
		if !e.h.stands() {
			s.move(e, s.net.upTo(20*time.Second))
		}
	case 17, 18:
		if !e.h.stands() {
			s.roll(e, s.net.upTo(40*time.Second))
		}
	case 19:
		m := manner(rnd.IntN(int(manners)))
		if m > refusing && s.cfg.References > 0 {
			m = refusing // the reference asks for parts without end
		}
		s.behave(h, m)
	}
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

func (s *Sim) killElement(e *element) {
	if e.h.proc != nil {
		s.trace("element %v crashes", e.id)
		e.h.crash()
		e.gone()
	}
}

// pause has a process stand still.
func (s *Sim) pause(h *host, most time.Duration) {
	d := 100*time.Millisecond + s.net.upTo(most)
	s.trace("%v stands still for %v", h.addr, d)
	h.stopped, h.paused = s.net.now, s.net.now+d
	s.unsure(func(e *element) bool { return e.at == h || e.h == h })
}

// split is a partition, or the end of one.
func (s *Sim) split(group func(*host) int) {
	cut := func(e *element) bool { return e.at != nil && e.at.group != e.h.group }
	s.unsure(cut)
	s.net.split(s.hosts, group)
	s.unsure(cut)
}

// lose ends associations of a host, but no call that is under way.
func (s *Sim) lose(h *host) {
	s.unsure(func(e *element) bool { // the home's call may be lost as well
		return (e.at == h || e.h == h) && e.at != nil && s.net.now < max(e.at.lost, e.h.lost)+10*time.Second
	})
	h.lost = s.net.now
	var some []*end
	for _, a := range h.ends {
		if a.peer != nil && s.net.chance(2) {
			some = append(some, a)
		}
	}
	for _, a := range some {
		s.net.drop(a)
	}
}

// unsure has elements be sure of their home no longer.
func (s *Sim) unsure(which func(*element) bool) {
	for _, e := range s.elements {
		if which(e) {
			e.sure = false
		}
	}
}

// heal ends all faults.
func (s *Sim) heal() {
	s.trace("heal")
	s.reform()
	s.split(func(*host) int { return 0 })
	for _, h := range s.servers {
		h.start()
	}
}
