package registrar

import (
	"cmp"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// An element is asked once in its keep-alive interval. If it does not acknowledge the first
// try, it is asked again up to six times, and then it is silent. How long one try lasts
// follows from the round-trip times of its association, as TCP's and SCTP's retransmission
// time-outs do (RFC 6298): at least minTry, so that elements that are not farther away than
// 50 ms have 7 x 200 ms in all.
//
// That works only if a lost packet does not delay the others: keep-alives are unordered, and
// so must be the acknowledgements. An element that does not say so, such as those of the
// reference implementation, has KeepAliveTimeout in all. So has one whose round-trip time is
// not known yet.
//
// An element whose acknowledgement is only late acknowledges the repeats as well. If many do, this
// machine, the network or the machines of the elements have more to do than they can, and repeats make
// it worse. Then only the transport repeats keep-alives, and tries last maxTry; see doubles.
//
// In all, elements are not asked more often than KeepAliveRate says: with more of them, all
// intervals are longer. Repeats have as much again; one that has to wait for that delays the
// judgement. While very many come at once, intervals are longer as well; see rush.
const (
	// minTry and maxTry bound the time that one try lasts.
	minTry = 200 * time.Millisecond
	maxTry = time.Second
	// maxSample is the longest round-trip time that counts. The element may have stood still.
	maxSample = 2 * time.Second
)

// intervals counts own elements by their keep-alive interval, and says by what factor
// intervals are longer than they should be.
type intervals struct {
	// count is in the order of the intervals: the sum of fractions depends on their order,
	// and the same events must give the same actions.
	count   []intervalCount
	total   int
	stretch float64 // 1 or more
	// busy tells that wanted keep-alives are one of busyShare of those that KeepAliveRate allows.
	busy bool
}

// busyShare is what share of KeepAliveRate makes keep-alives a burden.
const busyShare = 5

type intervalCount struct {
	interval time.Duration
	n        int
}

// add counts n elements more.
func (v *intervals) add(interval time.Duration, n, rate int) {
	i, found := slices.BinarySearchFunc(v.count, interval, func(c intervalCount, d time.Duration) int { return cmp.Compare(c.interval, d) })
	if !found {
		v.count = slices.Insert(v.count, i, intervalCount{interval: interval})
	}
	if v.count[i].n += n; v.count[i].n == 0 {
		v.count = slices.Delete(v.count, i, i+1)
	}
	v.total += n
	demand := 0.0 // a second
	for _, c := range v.count {
		demand += float64(c.n) / c.interval.Seconds()
	}
	v.stretch = max(1, demand/float64(rate))
	v.busy = demand*busyShare >= float64(rate)
}

// keepAliveInterval is the mean time between two keep-alives to the pool's elements.
func (r *Registrar) keepAliveInterval(h rserpool.PoolHandle) time.Duration {
	stretch := max(1, r.intervals.stretch)
	if r.inRush() {
		stretch = max(stretch, rushStretch)
	}
	return time.Duration(float64(r.wantedInterval(h)) * stretch)
}

// wantedInterval is what the operator has set, whatever that costs.
func (r *Registrar) wantedInterval(h rserpool.PoolHandle) time.Duration {
	if d := r.cfg.Rules.of(h).KeepAliveInterval; d > 0 {
		return d
	}
	return r.cfg.Timers.KeepAliveInterval
}

// countInterval counts an element, n is 1, or takes it out, n is -1.
func (r *Registrar) countInterval(e *element, n int) {
	if n > 0 {
		e.interval = r.wantedInterval(e.Handle())
	}
	r.intervals.add(e.interval, n, r.cfg.Timers.KeepAliveRate)
	r.rush.count(r.now, r.intervals.total, r.intervals.busy)
}

// rush tells that very many elements come at once, such as all of them after a restart of their
// registrar. Then this machine has enough to do with those that clients do not find yet, and
// asks the others, which were heard a moment ago, less often. Only what is more than the greatest
// number of elements in the last rushMemory counts, so that nobody can make a rush last by
// registering and deregistering by turns. Where keep-alives are few, less of them would spare
// nothing.
type rush struct {
	began time.Time // of the present second
	from  int       // the greatest number of elements until that time
	until time.Time

	part         time.Time // when the present part of the memory began
	peak, former int       // the greatest numbers in that part and in the one before
}

const (
	// There is a rush while the number of elements grows by one of rushShare in a second, and by
	// rushLeast, and for rushTime afterwards.
	rushShare, rushLeast = 16, 256
	rushTime             = 2 * time.Second
	// rushStretch is how many times as long intervals are then at least.
	rushStretch = 2
	// rushMemory is for how long numbers of elements are remembered, and for twice as long at most.
	rushMemory = 30 * time.Second
)

// count notes how many elements there are, and whether they have many keep-alives.
func (r *rush) count(now time.Time, total int, busy bool) {
	r.remember(now, total)
	if now.Sub(r.began) >= time.Second {
		r.began, r.from = now, max(r.peak, r.former)
	}
	if grown := total - r.from; busy && grown >= rushLeast && grown*rushShare >= total {
		r.until = now.Add(rushTime)
	}
}

// inRush reports whether very many elements come at present.
func (r *Registrar) inRush() bool { return r.now.Before(r.rush.until) }

// prolong makes the interval that is over as long as those that begin in a rush, if it is not,
// and reports whether it goes on. The first elements of a rush register before it is known to be
// one.
func (r *Registrar) prolong(e *element) bool {
	rest := rushStretch - max(1, r.intervals.stretch)
	if !e.brief || !r.inRush() || rest <= 0 {
		return false
	}
	e.brief = false
	r.timers.Arm(&e.keepAlive, e, r.now.Add(r.jitter(time.Duration(float64(r.wantedInterval(e.Handle()))*rest))))
	return true
}

// remember keeps the greatest numbers of elements.
func (r *rush) remember(now time.Time, total int) {
	if old := now.Sub(r.part); old >= rushMemory {
		if r.part, r.former = now, r.peak; old >= 2*rushMemory {
			r.former = 0 // the number has not changed since
		}
		r.peak = 0
	}
	r.peak = max(r.peak, total)
}

// roundTrips is what is known of the round-trip times of an association (RFC 6298).
type roundTrips struct {
	estimate
	// former is the estimate before a late word, until it is clear whether round trips take
	// longer now, or the element stood still.
	former estimate
	// repeated tells that the last acknowledgement came after a repeat.
	repeated bool
	// unordered tells that acknowledgements are not delayed by lost ones.
	unordered bool
}

// estimate is what is known of round-trip times.
type estimate struct {
	smoothed, variation time.Duration // smoothed is 0 if there was none yet
}

// timeout is how long one try lasts, without the least time.
func (t *estimate) timeout() time.Duration {
	return min(t.smoothed+max(4*t.variation, time.Millisecond), maxTry)
}

// sample notes a round-trip time.
func (t *estimate) sample(d time.Duration) {
	d = min(max(d, 1), maxSample)
	if t.smoothed == 0 {
		t.smoothed, t.variation = d, d/2
		return
	}
	t.variation += ((t.smoothed - d).Abs() - t.variation) / 4
	t.smoothed += (d - t.smoothed) / 8
}

// sampleLate notes a round-trip time of which it is not clear yet whether the next ones are as
// long.
func (t *roundTrips) sampleLate(d time.Duration) {
	if t.former.smoothed == 0 {
		t.former = t.estimate
	}
	t.sample(d)
}

// measure notes the round-trip time of an acknowledgement. If there were repeats, it is not
// known which try the acknowledgement is for (Karn's algorithm). It is not for the last one if
// it came too late for that, and then the first one has taken all the time. If it came in time
// for the last one, something was probably lost; but if that happens twice in a row, the
// round-trip time may have grown as well.
func (r *Registrar) measure(e *element, a *client, unordered bool) {
	t := &a.trips
	t.unordered = unordered
	took := r.now.Sub(e.asked)
	switch {
	case e.held > 0 || e.shares:
	case e.waiting && e.tries == 0:
		t.repeated = false
		if t.former.smoothed != 0 && took <= max(t.former.timeout(), minTry) { // it stood still
			t.estimate = t.former
		}
		t.former = estimate{}
		t.sample(took)
	case e.waiting:
		last := took - time.Duration(e.tries)*e.allowed/maxTries
		if t.repeated || last > max(t.timeout(), minTry/4) {
			t.sampleLate(took)
		}
		t.repeated = true
	case e.isSuspect(): // the last word was too late
		t.sampleLate(took)
	}
}

// doubles counts acknowledgements beside the first one of a keep-alive.
type doubles struct {
	began   time.Time // of the present second
	acks, n int       // acknowledgements in it, and those of them beside the first one
	until   time.Time // until then, nothing is repeated
}

const (
	// If one of doublesShare acknowledgements in a second is beside the first one, nothing is
	// repeated for doublesTime, unless they are less than doublesLeast. With 5 % of lost packets
	// it is one of ten, since the transport repeats what is lost, too.
	doublesShare, doublesLeast = 3, 32
	doublesTime                = 5 * time.Second
)

// count counts an acknowledgement, which may be beside the first one.
func (d *doubles) count(now time.Time, beside bool) {
	if now.Sub(d.began) >= time.Second {
		if d.n >= doublesLeast && d.n*doublesShare > d.acks {
			d.until = now.Add(doublesTime)
		}
		d.began, d.acks, d.n = now, 0, 0
	}
	d.acks++
	if beside {
		d.n++
	}
}

// onlyOnce reports whether the present keep-alive to an element is not repeated. KeepAliveTimeout
// must have room for an element that is slow.
func (r *Registrar) onlyOnce(e *element) bool {
	return r.now.Before(r.doubles.until) && e.written > 0 && r.cfg.Timers.KeepAliveTimeout >= maxTries*minTry
}

// allow is how long an element may take to acknowledge a keep-alive, with all its tries.
func (r *Registrar) allow(a *client) time.Duration {
	all, t := r.cfg.Timers.KeepAliveTimeout, &a.trips
	switch {
	case all < maxTries*minTry || t.smoothed == 0:
		return all
	case t.unordered:
		return maxTries * max(t.timeout(), minTry)
	}
	return max(maxTries*t.timeout(), all)
}

// try is how long the element may take to acknowledge the present try of a keep-alive.
func (e *element) try() time.Duration {
	n := time.Duration(min(e.tries, maxTries-1))
	return e.allowed*(n+1)/maxTries - e.allowed*n/maxTries
}

// round counts the keep-alives to the elements of an association in the time of one try.
type round struct {
	began time.Time
	sent  int
}

// tryNow sends a keep-alive of a try, or does without: if nothing comes from an association
// any more, askWindow keep-alives in the time of a try are enough to find out whether it works
// again, however many elements it has.
func (r *Registrar) tryNow(e *element) {
	a := e.assoc
	if r.now.Sub(a.round.began) >= e.try() {
		a.round = round{began: r.now}
	}
	if a.line.state == lineMissing && a.round.sent >= askWindow {
		e.shares = true
		return
	}
	a.round.sent++
	e.written++
	r.writeKeepAlive(e, a)
}

// askInTurn asks an element as soon as KeepAliveRate leaves room for it. Intervals are as long
// as that demands; but many elements may have come at once, when the intervals were shorter.
func (r *Registrar) askInTurn(e *element) {
	if at := r.asks.next(r.now, r.cfg.Timers.KeepAliveRate); at.After(r.now) {
		e.queued = true
		r.timers.Arm(&e.keepAlive, e, at)
		return
	}
	r.ask(e, true)
}

// repeat sends the present keep-alive again as soon as KeepAliveRate leaves room for it, and
// begins the next try.
func (r *Registrar) repeat(e *element) {
	if r.onlyOnce(e) {
		r.repeatNow(e)
		return
	}
	if at := r.repeats.next(r.now, r.cfg.Timers.KeepAliveRate); at.After(r.now) {
		e.queued = true
		r.timers.Arm(&e.keepAlive, e, at)
		return
	}
	r.repeatNow(e)
}

func (r *Registrar) repeatNow(e *element) {
	e.queued = false
	if r.onlyOnce(e) {
		e.allowed = max(e.allowed, maxTries*maxTry)
	} else {
		r.stats.KeepAlivesRepeated++
		r.tryNow(e)
	}
	r.timers.Arm(&e.keepAlive, e, r.now.Add(e.try()))
}

// slots gives out times for events, one after the other, so that there are not more of them
// in a second than a rate, and at once not more than that.
type slots struct {
	last time.Time // given out
}

// next returns the time of the next event, which may be now.
func (s *slots) next(now time.Time, rate int) time.Time {
	if least := now.Add(-time.Second); s.last.Before(least) {
		s.last = least
	}
	s.last = s.last.Add(time.Second / time.Duration(rate))
	if s.last.Before(now) {
		return now
	}
	return s.last
}

// jitter varies a time by 10 % either way, so that elements that have registered together are
// not asked together (RFC 5352, Section 3.5, which has 50 % for an example).
func (r *Registrar) jitter(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.9 + 0.2*r.rand.Float64()))
}
