package pe

import (
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// An element that an unknown registrar has adopted tries to return to a known one after
// minBack, and then after pauses that double up to maxBack. minBack is within the
// registration life of the elements of RSPLIB and rsp, so that the registration at the
// former home has not expired.
const (
	minBack = time.Minute
	maxBack = 16 * time.Minute
	// After that, no unknown registrar is adopted for shunTime while the home serves.
	// The time doubles up to maxShun.
	maxShun = time.Hour
)

// goBack is when to try a known registrar. The zero value is never.
type goBack struct {
	at     time.Time
	pause  time.Duration
	former sctp.AssocID // the home before; it may be gone
}

// planBack plans to return to a known registrar if the home is an unknown adopter: it may
// behave like a registrar, and share its handlespace with none. In that case the
// association with the former home stays, and planBack reports true.
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

// tryBack looks for a known registrar. The element returns once that registrar has
// accepted it, see trial.
func (k *core) tryBack(now time.Time) {
	k.back.pause = min(2*k.back.pause, maxBack)
	k.back.at = now.Add(k.back.pause)
	if k.trial.assoc == 0 && !k.hunt.Hunting() {
		k.rounds = 0
		k.hunt.Begin(now, k.homeAt, nil)
	}
}

// cameBack: a known registrar has accepted the element after an unknown one had adopted
// it.
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

// cameFrom reports whether an association comes from a registrar. Only the first address
// is the one that was seen; the peer has claimed the others.
func cameFrom(at, from rserpool.Registrar) bool {
	return len(at.Addrs) > 0 && at.Port == from.Port && slices.Contains(from.Addrs, at.Addrs[0])
}
