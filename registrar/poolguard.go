package registrar

import (
	"time"

	"github.com/rserpool/coredns-rserpool/registrar/internal/ledger"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Guard says when a pool's suspects are served like its other elements: see ledger.GuardRule.
// The ledger decides it; this is what follows from it.

// settling has the suspects of large pools enter or leave the handlespace, some at a time, after
// their guard has begun or ended.
type settling struct {
	timer timer
	// dark are the pools that have suspects and nothing in answers. There are at most as many as
	// pools with elements.
	dark map[rserpool.PoolHandle]bool
}

// settleGap is the time between two batches, in which other events are handled.
const settleGap = time.Millisecond

// Due moves the next suspects.
func (s *settling) Due(r *Registrar, _ *timer) {
	if c := r.ledger.Step(); c.Handle != "" {
		r.poolSettled(c)
	}
	r.settleLater()
}

func (r *Registrar) settleLater() {
	if s := &r.settling; r.ledger.Unsettled() && !s.timer.Armed() {
		r.timers.Arm(&s.timer, s, r.now.Add(settleGap))
	}
}

// poolSettled: a pool of the handlespace has changed, and perhaps its guard has begun or ended.
func (r *Registrar) poolSettled(c ledger.PoolChange) {
	switch {
	case c.Guarded > 0:
		r.tellPool(c.Handle, poolFine, poolGuarded)
	case c.Guarded < 0:
		r.tellPool(c.Handle, poolGuarded, poolFine)
	}
	r.lightUp(c.Handle)
	if c.Visible {
		r.poolChanged(c.Handle)
	}
	if c.Emptied {
		r.poolEmptied(c.Handle)
	}
	r.settleLater()
}

// lightUp ends the darkness of a pool that is in answers again, or is no more.
func (r *Registrar) lightUp(h rserpool.PoolHandle) {
	if !r.settling.dark[h] {
		return
	}
	n, served := r.ledger.Pool(h), r.space.Pool(h) != nil
	if served && !n.Guarded { // which has a line of its own
		r.tellPool(h, poolDark, poolFine)
	}
	if served || n.Elements == 0 {
		delete(r.settling.dark, h)
	}
}
