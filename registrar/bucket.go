package registrar

import "time"

// bucket is a token bucket that allows rate events a second, and twice as many at once.
// Its zero value is full.
type bucket struct {
	used float64 // tokens, at time at
	at   time.Time
}

// allow reports whether one more event may pass.
func (b *bucket) allow(now time.Time, rate int) bool { return b.allowN(now, rate, 1) }

// allowN is allow for an event that counts as n.
func (b *bucket) allowN(now time.Time, rate, n int) bool {
	b.used = max(0, b.used-now.Sub(b.at).Seconds()*float64(rate))
	b.at = now
	if b.used+float64(n) > 2*float64(rate) {
		return false
	}
	b.used += float64(n)
	return true
}

// spend takes tokens that may not be there yet.
func (b *bucket) spend(now time.Time, rate, n int) {
	b.used = max(0, b.used-now.Sub(b.at).Seconds()*float64(rate)) + float64(n)
	b.at = now
}

// wait returns the time until the events of more than one second are paid for.
func (b *bucket) wait(now time.Time, rate int) time.Duration {
	over := b.used - now.Sub(b.at).Seconds()*float64(rate) - float64(rate)
	return time.Duration(max(0, over) / float64(rate) * float64(time.Second))
}
