package pe

import "time"

const (
	// busyTime is for how long a registrar without resources is tried again soon: it may have
	// just started, and not have the handlespace yet. That takes 10 s or less as a rule. The pause
	// between two tries grows from retryPause to maxBusyPause.
	busyTime     = 30 * time.Second
	maxBusyPause = 3 * time.Second
)

// busy is the time in which registrars lack resources, since the last other answer.
type busy struct {
	since time.Time
	tries int // at the same home
}

// waitForRoom has a home that lacks resources be tried again over the same association, if no
// other registrar is known: thousands of elements may wait for one that starts, and would all
// connect again, with handshakes of TLS. The addresses of a name with one of IPv4 and one of IPv6
// are one registrar. If others are known, the pauses of the hunt stay short.
// waitForRoom reports whether the element stays with the home.
func (k *core) waitForRoom(now time.Time, err *RejectedError) bool {
	b := &k.refusals.busy
	if b.since.IsZero() {
		b.since = now
	}
	left := busyTime - now.Sub(b.since)
	k.hunt.Hurry(now, maxBusyPause, left)
	if left <= 0 || k.hunt.OtherHosts(now, k.homeAt) {
		return false
	}
	k.noteRefusal(now, err)
	k.mayBeKnown = k.accepted
	k.attempts, k.answerBy = 0, time.Time{}
	b.tries++
	k.renewAt = now.Add(k.pause(b.tries, maxBusyPause))
	return true
}
