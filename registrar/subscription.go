package registrar

import (
	"time"

	"github.com/rserpool/coredns-rserpool/registrar/internal/chain"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// subscription is a handle resolution with the S bit (RFC 5352, Section 2.2.5). Its
// sender gets a new response whenever the pool changes, until the association ends or a
// response is negative.
type subscription struct {
	assoc *client
	pool  *watched
	items int
	place chain.Place[subscription] // among those of the pool
}

// watched is a pool that has, or has had, subscribers. It lasts as long as there are
// subscribers or elements.
type watched struct {
	handle rserpool.PoolHandle
	subs   chain.List[subscription]

	changed bool
	update  timer
	updated time.Time
	cursor  *subscription // the next one in this round, nil between rounds
}

const (
	// updateBatch is how many subscribers of one pool get an update at a time;
	// updateGap is the time between two batches.
	updateBatch = 64
	updateGap   = time.Millisecond
	// updateBytes bounds all automatic updates, in bytes a second on average. If pools
	// change faster, several changes become one update.
	updateBytes = 4 << 20
)

// subscribe enters a subscription, and reports whether the limits allow it.
func (r *Registrar) subscribe(a *client, h rserpool.PoolHandle, items int) bool {
	p := r.watched[h]
	if s := a.subs[p]; s != nil {
		s.items = items
		return true
	}
	if len(a.subs) >= r.cfg.Limits.SubscriptionsPerAssoc || r.subs >= r.cfg.Limits.Subscriptions {
		return false
	}
	if p == nil {
		p = &watched{handle: h}
		r.watched[h] = p
	}
	s := &subscription{assoc: a, pool: p, items: items}
	p.subs.Add(s, &s.place)
	if a.subs == nil {
		a.subs = make(map[*watched]*subscription)
	}
	a.subs[p] = s
	r.subs++
	r.leaveIdle(a)
	return true
}

func (r *Registrar) endSubscription(a *client, h rserpool.PoolHandle) {
	if s := a.subs[r.watched[h]]; s != nil {
		r.unsubscribe(s)
	}
}

func (r *Registrar) unsubscribe(s *subscription) {
	p := s.pool
	if p.cursor == s {
		p.cursor = s.place.Next()
	}
	s.place.Leave()
	delete(s.assoc.subs, p)
	r.subs--
	if s.assoc.up {
		r.leaveIdle(s.assoc)
	}
	r.dropIdlePool(p.handle)
}

// dropIdlePool drops a pool that has neither elements nor subscribers.
func (r *Registrar) dropIdlePool(h rserpool.PoolHandle) {
	if p := r.watched[h]; p != nil && p.subs.Len() == 0 && r.space.Pool(h) == nil {
		r.timers.Stop(&p.update)
		delete(r.watched, h)
	}
}

// unsubscribeAll ends the subscriptions of an association that has ended. The order
// does not matter, because nothing is sent.
func (r *Registrar) unsubscribeAll(a *client) {
	for _, s := range a.subs {
		r.unsubscribe(s)
	}
}

// poolChanged has the pool's subscribers updated. Changes within Timers.Update become
// one update.
func (r *Registrar) poolChanged(h rserpool.PoolHandle) {
	p := r.watched[h]
	if p == nil || p.subs.Len() == 0 {
		return
	}
	p.changed = true
	if !p.update.Armed() {
		at := p.updated.Add(r.cfg.Timers.Update)
		if at.Before(r.now) {
			at = r.now
		}
		r.timers.Arm(&p.update, p, at)
	}
}

// Due updates the next subscribers. Other events are handled between two batches.
func (p *watched) Due(r *Registrar, _ *timer) {
	if wait := r.updates.wait(r.now, updateBytes); wait > 0 {
		r.timers.Arm(&p.update, p, r.now.Add(wait))
		return
	}
	if p.cursor == nil {
		p.changed, p.updated, p.cursor = false, r.now, p.subs.First()
	}
	for range updateBatch {
		s := p.cursor
		if s == nil {
			break
		}
		p.cursor = s.place.Next()
		r.update(s)
	}
	switch {
	case p.cursor != nil:
		r.timers.Arm(&p.update, p, r.now.Add(updateGap))
	case p.changed && p.subs.Len() > 0:
		r.timers.Arm(&p.update, p, p.updated.Add(r.cfg.Timers.Update))
	}
}

// view is the subscriber's part of a pool that has more elements than it gets. The parts of
// subscribers whose associations follow each other are spread evenly over the pool: the
// factor is 2^64 divided by the golden ratio.
func (s *subscription) view() uint64 { return uint64(s.assoc.id) * 0x9e3779b97f4a7c15 >> 32 }

// update sends one automatic update.
func (r *Registrar) update(s *subscription) {
	a, h := s.assoc, s.pool.handle
	r.stats.Updates++
	if code, ok := r.selectFrom(h, s.items, s); !ok {
		r.unsubscribe(s)
		r.refuseResolution(a, h, code)
		return
	}
	r.answer(a, h, true)
	r.updates.spend(r.now, updateBytes, len(r.buf))
}
