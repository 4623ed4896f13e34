package registrar

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// crowd is a herd in a network that fails: each element lives or is dead, and can be reached
// or not. Calls are answered accordingly.
type crowd struct {
	*herd
	n     int
	dead  map[rserpool.PEID]bool
	over  map[rserpool.PEID]AssocID // its association; 0 for none
	taken map[rserpool.PEID]int     // calls that were answered, or not
}

func newCrowd(t testing.TB, n int, change ...func(*Config)) *crowd {
	t.Helper()
	c := &crowd{herd: newHerd(t, n, change...), n: n, dead: map[rserpool.PEID]bool{}, over: map[rserpool.PEID]AssocID{}, taken: map[rserpool.PEID]int{}}
	for id := 1; id <= n; id++ {
		c.over[rserpool.PEID(id)] = AssocID(id)
	}
	return c
}

// settle answers all calls.
func (c *crowd) settle() {
	c.t.Helper()
	for again := true; again; {
		again = false
		for id := rserpool.PEID(1); int(id) <= c.n; id++ {
			if len(c.calls[id]) == c.taken[id] {
				continue
			}
			c.taken[id] = len(c.calls[id])
			again = true
			switch {
			case c.stopped[AssocID(id)] && id%2 == 0: // an error of this machine
				c.do(Connecting{Ref: c.calls[id][c.taken[id]-1].Ref})
			case c.stopped[AssocID(id)]: // no answer
			case c.dead[id]:
				c.refuse(id)
			default:
				c.accept(id)
				c.over[id] = c.next
			}
		}
	}
}

func (c *crowd) live(d time.Duration) {
	c.t.Helper()
	for range int(d / (100 * time.Millisecond)) {
		c.run(100 * time.Millisecond)
		c.settle()
	}
}

func (c *crowd) lost(id rserpool.PEID, why DownReason) {
	c.t.Helper()
	if c.over[id] == 0 {
		return
	}
	c.do(AssocDown{Assoc: c.over[id], Reason: why})
	c.over[id] = 0
	c.settle()
}

// living is how many elements live.
func (c *crowd) living() int { return c.n - len(c.dead) }

// Random failures of elements, of their network and of the registrar's. A pool with a living
// element is never empty, no living element is ever removed, and at rest all living ones are
// members, all others gone, and no guard is on.
func TestRandomSilence(t *testing.T) {
	guards, returned := uint64(0), uint64(0)
	for seed := range uint64(30) {
		rng := rand.New(rand.NewPCG(seed, 5))
		c := newCrowd(t, []int{3, 12, 40}[seed%3], func(cfg *Config) { cfg.Timers.SuspectLife = 3 * time.Hour; cfg.Timers.GuardLife = 4 * time.Hour })
		c.every = c.n / 3 // a check looks at all elements
		pick := func() rserpool.PEID { return rserpool.PEID(1 + rng.IntN(c.n)) }
		for step := range 60 {
			switch k := rng.IntN(10); {
			case k < 2:
				c.stop(int(pick()), int(pick()))
			case k < 3:
				c.stop(1, c.n)
			case k < 5:
				c.cont()
				c.settle()
			case k < 6 && c.living() > 1:
				if id := pick(); !c.stopped[AssocID(id)] {
					c.dead[id] = true
					c.lost(id, DownByPeer)
				}
			case k < 8:
				c.lost(pick(), DownSilent)
			default:
				clear(c.stopped) // what was sent is lost
				c.late = nil
			}
			c.live(time.Duration(rng.IntN(30)) * time.Second)
			if c.least == 0 {
				t.Fatalf("seed %d, step %d: the pool was empty, though %d elements live", seed, step, c.living())
			}
		}
		clear(c.stopped)
		c.late = nil
		c.live(3 * time.Minute)
		if got := c.served(); len(got) != c.living() || c.suspects() > 0 || c.r.Stats().Guarded != 0 {
			t.Errorf("seed %d: elements %v are left of %d living ones, %d suspects, guard on: %v", seed, got, c.living(), c.suspects(), c.r.Stats().Guarded != 0)
		}
		c.check()
		for _, id := range c.served() {
			if c.dead[id] {
				t.Errorf("seed %d: element %v is dead", seed, id)
			}
		}
		guards += c.r.Stats().Guards
		returned += c.r.Stats().Returned
	}
	if guards == 0 || returned == 0 {
		t.Errorf("%d guards, %d suspects have returned: want some of each", guards, returned)
	}
}
