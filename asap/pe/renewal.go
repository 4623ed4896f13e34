package pe

import (
	"errors"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
)

// The transport ends the association with the home registrar in good order when that needs
// new keys or the present certificates (sctp.ErrRenew). The element connects to the same
// registrar at once, and registers again. The registration stands meanwhile: there is no
// event, unless that fails.

// renews reports whether the end of the association with the home is such a renewal of a
// registration that stands.
func (k *core) renews(why error) bool {
	return errors.Is(why, sctp.ErrRenew) && (k.phase == registering || k.phase == registered) &&
		k.standing && k.refusals.n == 0 && k.trial.assoc == 0 && !k.moving
}

// seekAgain looks for a registrar after the end of an association: first for the former one
// if that expects the element back.
func (k *core) seekAgain(now time.Time, why error) {
	if errors.Is(why, sctp.ErrRenew) {
		k.rounds = 0
		k.hunt.ReturnTo(now, k.homeAt)
		return
	}
	k.beginHunt(now, why)
}

var errNotBack = errors.New("the registrar has not accepted a new association in place of the former one")

// notRenewed: the renewal has not led back to the home registrar.
func (k *core) notRenewed() {
	if !k.renewing {
		return
	}
	why := errNotBack
	for _, a := range k.hunt.Report() {
		if a.Err != nil && a.Registrar.Equal(k.homeAt) {
			why = a.Err
		}
	}
	k.tell(Event{Type: HomeLost, Err: why})
	k.forsake()
}

// forsake takes the registration at the former home for lost.
func (k *core) forsake() {
	k.renewing, k.standing = false, false
	k.element.Home = 0
}
