package registrar

import (
	"fmt"
	"time"

	"github.com/rserpool/coredns-rserpool/registrar/internal/ledger"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Guard says when a pool's suspects are served like its other elements: see ledger.GuardRule.
// The ledger decides it; this is what follows from it.

// settling has the suspects of large pools enter or leave the handlespace, some at a time, after
// their guard has begun or ended.
type settling struct{ timer timer }

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
	if c.Guarded != 0 {
		r.logGuard(c.Handle, c.Guarded > 0)
	}
	if c.Visible {
		r.poolChanged(c.Handle)
	}
	if c.Emptied {
		r.poolEmptied(c.Handle)
	}
	r.settleLater()
}

func (r *Registrar) logGuard(h rserpool.PoolHandle, on bool) {
	n := r.ledger.Pool(h)
	if on {
		but := ""
		if n.Displaced > 0 && n.Displaced < n.Suspects {
			but = fmt.Sprintf(", but for %d at whose places others answer", n.Displaced)
		}
		r.logf(true, "pool %s is guarded: %d of its %d elements are suspects, and stay in its answers%s", quote(h), n.Suspects, n.Elements-n.Aside, but)
		return
	}
	r.logf(true, "pool %s is no longer guarded: %d of its %d elements are suspects", quote(h), n.Suspects, n.Elements-n.Aside)
}
