package sim

import "time"

// pausePool has all elements of a pool stand still at once. They go on at once, or one by
// one.
func (s *Sim) pausePool(of *element) {
	var list []*element
	for _, e := range s.elements {
		if e.pool == of.pool {
			list = append(list, e)
		}
	}
	s.trace("all %d elements of %s stand still", len(list), of.pool)
	s.pauseAll(list)
}

// pauseCrowd has more than half of a registrar's elements stand still at once.
func (s *Sim) pauseCrowd(h *host) {
	var list []*element
	for _, e := range s.elements {
		if e.at == h {
			list = append(list, e)
		}
	}
	s.net.rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	most := len(list)/2 + 1
	list = list[:min(len(list), most+s.net.rand.IntN(len(list)/2+1))]
	s.trace("%d of %v's elements stand still", len(list), h)
	s.pauseAll(list)
}

func (s *Sim) pauseAll(list []*element) {
	d, frozen, together := time.Second+s.net.upTo(longFault), s.net.chance(2), s.net.chance(2)
	for _, e := range list {
		if !e.h.stands() {
			s.stop(e.h, d, frozen)
		}
		if !together {
			d = time.Second + s.net.upTo(longFault)
		}
	}
}

// pauseRegistrars has more than half of the registrars stand still at once.
func (s *Sim) pauseRegistrars() {
	d := time.Second + s.net.upTo(longFault)
	for _, i := range s.net.rand.Perm(len(s.servers))[:len(s.servers)/2+1] {
		s.pause(s.servers[i], d)
	}
}
