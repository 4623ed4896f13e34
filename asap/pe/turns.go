package pe

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

const (
	// turnFirst is how long an element that was never registered tries to reach a
	// registrar from one address before it tries another address.
	turnFirst = 2 * time.Second
	// turnLater is the same for an element that was registered before: its registrar
	// may be down.
	turnLater = 10 * time.Second
	// turnMost bounds the time, which doubles after each address had its turn.
	turnMost = 30 * time.Second
)

// turns rotates the addresses of a machine with several networks. An element that can
// have one address takes the first address toward its registrars, but the network of that
// address may be dead.
type turns struct {
	end time.Time // of the present one; zero: there is none
	n   int       // that have ended
}

// next orders the wanted addresses. If the time of the present addresses is over, they
// come last, and leave is true.
func (t *turns) next(now time.Time, some, want []netip.Addr, first time.Duration) (order []netip.Addr, leave bool) {
	others := slices.DeleteFunc(slices.Clone(want), func(a netip.Addr) bool { return slices.Contains(some, a) })
	switch {
	case len(some) == 0 || len(others) == 0:
		*t = turns{}
		return want, false
	case t.end.IsZero():
		t.end = now.Add(first)
		return want, false
	case now.Before(t.end):
		return want, false
	}
	t.n++
	t.end = now.Add(min(first<<min(t.n/len(want), 8), turnMost))
	last := slices.Index(want, some[len(some)-1]) // -1 will do
	return slices.Concat(want[last+1:], want[:last+1]), true
}

// turn calls next while no registrar is reached. It returns the addresses to keep if they
// are still wanted, and the reason if none are kept.
func (r *runner) turn(now time.Time, want []netip.Addr) (some, order []netip.Addr, why error) {
	k := r.core
	if k.home != 0 || !k.hunt.Hunting() {
		r.turns = turns{}
		return r.addrs, want, nil
	}
	first := turnFirst
	if k.proven {
		first = turnLater
	}
	order, leave := r.turns.next(now, r.addrs, want, first)
	if leave {
		return nil, order, fmt.Errorf("no registrar answers at %v", r.addrs)
	}
	return r.addrs, order, nil
}
