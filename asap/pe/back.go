package pe

import (
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// An element that was adopted by a registrar that it does not know tries after
// minBack to go back to one that it knows, and then after pauses that double up
// to maxBack. minBack is within the registration life of RSPLIB's elements and
// of rsp's, so that the registration at the former home has not expired.
const (
	minBack = time.Minute
	maxBack = 16 * time.Minute
	// After that, no registrar that is not known is adopted for shunTime, while
	// the home serves. It doubles each time up to maxShun.
	maxShun = time.Hour
)

// goBack is when to try a known registrar. Its zero value is never.
type goBack struct {
	at     time.Time
	pause  time.Duration
	former sctp.AssocID // the home before; it may be gone
}

// planBack plans to go back to a known registrar if the home is an adopter that
// is not known. It may be a stranger that does as registrars do, but shares its
// handlespace with none. The association with the former home stays then. It
// reports whether that is so.
func (k *core) planBack(now time.Time, t trial, former sctp.AssocID) bool {
	switch {
	case !t.adopter || k.knows(now, t.at):
		k.back = goBack{}
		return false
	case k.back.at.IsZero(): // else it is planned already, from another one
		pause := minBack
		if k.life > 0 {
			pause = min(minBack, k.life/2)
		}
		k.back = goBack{at: now.Add(pause), pause: minBack, former: former}
	}
	return true
}

// tryBack looks for a known registrar. It takes the element back once that has
// accepted it, see trial.
func (k *core) tryBack(now time.Time) {
	k.back.pause = min(2*k.back.pause, maxBack)
	k.back.at = now.Add(k.back.pause)
	if k.trial.assoc == 0 && !k.hunt.Hunting() {
		k.rounds = 0
		k.hunt.Begin(now, k.homeAt, nil)
	}
}

// cameBack: a known registrar has accepted the element, which an unknown one had
// adopted.
func (k *core) cameBack(now time.Time) {
	k.known = now.Add(min(shunTime<<min(k.backs, maxShift), maxShun))
	k.backs++
}

// knows reports whether a registrar is configured, or has announced itself.
func (k *core) knows(now time.Time, at rserpool.Registrar) bool {
	return slices.ContainsFunc(k.hunt.Known(now), func(r rserpool.Registrar) bool {
		return cameFrom(at, r)
	})
}

// cameFrom reports whether an association has come from a registrar. Its other
// addresses are what its peer says of itself.
func cameFrom(at, from rserpool.Registrar) bool {
	return len(at.Addrs) > 0 && at.Port == from.Port && slices.Contains(from.Addrs, at.Addrs[0])
}
