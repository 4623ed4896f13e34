package pe

import (
	"net/netip"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/asap/endpoint"
)

// An element that was adopted by a registrar that it does not know tries after
// minBack to go back to one that it knows, and then after pauses that double up
// to maxBack. minBack is within the registration life of RSPLIB's elements and
// of rsp's, so that the registration at the former home has not expired.
const (
	minBack = time.Minute
	maxBack = 16 * time.Minute
)

// goBack is when to try a known registrar. Its zero value is never.
type goBack struct {
	at    time.Time
	pause time.Duration
}

// planBack plans to go back to a known registrar if the home is an adopter that
// is not known. It may be a stranger that does as registrars do, but shares its
// handlespace with none. The association with the former home stays then. It
// reports whether that is so.
func (k *core) planBack(now time.Time, t trial) bool {
	k.back = goBack{}
	if !t.adopter || k.knows(now, t.at) {
		return false
	}
	k.back = goBack{at: now.Add(minBack), pause: minBack}
	if k.life > 0 {
		k.back.at = now.Add(min(minBack, k.life/2))
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

// knows reports whether a registrar is configured, or has announced itself.
func (k *core) knows(now time.Time, at endpoint.Registrar) bool {
	return slices.ContainsFunc(k.hunt.Known(now), func(r endpoint.Registrar) bool {
		return slices.ContainsFunc(r.Addrs, func(a netip.AddrPort) bool { return slices.Contains(at.Addrs, a) })
	})
}
