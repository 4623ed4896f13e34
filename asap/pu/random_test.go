package pu

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/hunt"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// chaos is a world of unreliable registrars around a core.
type chaos struct {
	t     *testing.T
	rnd   *rand.Rand
	k     *core
	now   time.Time
	calls []sctp.AssocID // not yet up or down
	up    []sctp.AssocID
	last  sctp.AssocID
	inbox []*asap.HandleResolution // what the home registrar was asked
	open  map[reqID]bool           // requests, and whether they watch
}

func (c *chaos) settle() {
	for {
		actions, results := c.k.take()
		if len(actions) == 0 && len(results) == 0 {
			return
		}
		for _, r := range results {
			watch, ok := c.open[r.id]
			switch {
			case !ok:
				c.t.Fatalf("request %d has a result after its end", r.id)
			case r.final:
				delete(c.open, r.id)
			case !watch:
				c.t.Fatalf("request %d goes on after its result", r.id)
			}
		}
		for _, a := range actions {
			switch a := a.(type) {
			case hunt.Connect:
				c.last++
				c.calls = append(c.calls, c.last)
				if len(c.calls) > 3 {
					c.t.Fatalf("%d associations are being set up, want three at most (SH1)", len(c.calls))
				}
				c.k.Connecting(c.now, a.Ref, c.last, nil)
			case hunt.Send:
				if !slices.Contains(c.up, a.Assoc) {
					c.t.Fatalf("message on association %d, which is not up", a.Assoc)
				}
				m, _, err := asap.Parse(a.Data)
				if err != nil {
					c.t.Fatal(err)
				}
				if m, ok := m.(*asap.HandleResolution); ok && a.Assoc == c.k.home {
					c.inbox = append(c.inbox, m)
				}
			case hunt.Close:
				c.drop(a.Assoc)
			}
		}
	}
}

func (c *chaos) drop(a sctp.AssocID) {
	alive := func(x sctp.AssocID) bool { return x == a }
	if slices.Contains(c.up, a) || slices.Contains(c.calls, a) {
		c.up = slices.DeleteFunc(c.up, alive)
		c.calls = slices.DeleteFunc(c.calls, alive)
		c.k.Down(c.now, a, errors.New("gone"))
	}
}

func (c *chaos) establish(a sctp.AssocID) {
	c.calls = slices.DeleteFunc(c.calls, func(x sctp.AssocID) bool { return x == a })
	c.up = append(c.up, a)
	c.inbox = nil
	c.k.Up(c.now, a, nil)
}

func (c *chaos) answer() {
	if len(c.inbox) == 0 || c.k.home == 0 {
		return
	}
	m := c.inbox[0]
	c.inbox = c.inbox[1:]
	r := answer(1+c.rnd.IntN(3), m.Subscribe && c.rnd.IntN(2) == 0)
	if c.rnd.IntN(4) == 0 {
		r = negative(rserpool.CauseUnknownPoolHandle)
	}
	r.Handle = m.Handle
	data, err := r.Append(nil)
	if err != nil {
		c.t.Fatal(err)
	}
	c.k.Received(c.now, c.k.home, data)
}

func (c *chaos) advance(most time.Duration) {
	next, ok := c.k.NextDeadline()
	if at := c.now.Add(most); !ok || next.After(at) {
		c.now = at
		return
	}
	if next.After(c.now) {
		c.now = next
	}
	c.k.Tick(c.now)
}

func (c *chaos) pick(list []sctp.AssocID) sctp.AssocID {
	if len(list) == 0 {
		return 0
	}
	return list[c.rnd.IntN(len(list))]
}

func (c *chaos) step() {
	pools := []rserpool.PoolHandle{"web", "jobs"}
	switch c.rnd.IntN(12) {
	case 0, 1:
		if a := c.pick(c.calls); a != 0 {
			c.establish(a)
		}
	case 2:
		c.drop(c.pick(c.calls))
	case 3:
		c.drop(c.pick(c.up))
	case 4, 5, 6:
		c.answer()
	case 7:
		watch := c.rnd.IntN(4) == 0 && len(c.open) < 10
		c.open[c.k.resolve(c.now, pools[c.rnd.IntN(2)], uint32(c.rnd.IntN(3)), watch)] = watch
	case 8:
		c.open[c.k.report(c.now, pools[c.rnd.IntN(2)], 5)] = false
	case 9:
		for id := range c.open {
			c.k.cancel(id, context.Canceled)
			break
		}
	case 10:
		c.k.SendFailed(c.now, c.pick(c.up), errors.New("x"))
	default:
		c.advance(time.Duration(c.rnd.IntN(5000)) * time.Millisecond)
	}
	c.settle()
}

// TestRandom: whatever the network does, a request ends once, and soon after
// registrars answer no more.
func TestRandom(t *testing.T) {
	for seed := range uint64(300) {
		d := newDriver(t)
		c := &chaos{t: t, rnd: rand.New(rand.NewPCG(seed, 2)), k: d.k, now: d.now, open: map[reqID]bool{}}
		for range 500 {
			c.step()
		}
		// Silence: calls fail, and the home does not answer.
		for range 2000 {
			for _, a := range slices.Clone(c.calls) {
				c.drop(a)
			}
			c.advance(time.Second)
			c.settle()
		}
		for id, watch := range c.open {
			if !watch {
				t.Errorf("seed %d: request %d has no end", seed, id)
			}
		}
		c.k.Stop(c.now)
		c.settle()
		c.advance(time.Minute)
		if !c.k.over || len(c.open) != 0 {
			t.Fatalf("seed %d: over %v with %d requests after close", seed, c.k.over, len(c.open))
		}
	}
}
