package pe

import (
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/client"
	"github.com/rserpool/coredns-rserpool/internal/hunt"
)

// Found tells the result of a lookup.
func (k *core) Found(now time.Time, f client.Found) {
	k.hunt.Found(now, f.Ref, f.Addrs, f.Err)
	k.tellRounds(now)
}

// readdress tells that associations come from other addresses from now on, and
// with which ones to register over them. A registered element registers again,
// over a new association, if possible with its home registrar; the former
// association stays until that has succeeded, since a registrar takes the end of
// an association for the end of its element. Where none can be started beside it
// (fresh is false), it ends first. why is nil if the machine's addresses have
// changed.
func (k *core) readdress(now time.Time, addrs []netip.Addr, fresh bool, why error) {
	if k.addrs != nil {
		k.tell(Event{Type: Readdressed, Addrs: addrs, Err: why})
	}
	k.addrs = slices.Clone(addrs)
	k.moves, k.moveAt = 0, time.Time{}
	switch {
	case k.home == 0:
		k.hunt.Restart(now)
	case (k.phase == registering || k.phase == registered) && !fresh:
		k.moving = true
		k.dropHome(now, errors.New("the addresses of this machine have changed"))
	case k.phase == registering, k.phase == registered:
		k.moving = true
		k.moveOn(now)
	case k.phase == idle:
		k.closeAssoc(k.home)
		k.home = 0
		k.unask()
		k.seekToAsk(now)
	}
}

// moveOn looks for a registrar to register with from the new addresses, if an
// element that has moved does not look for one already.
func (k *core) moveOn(now time.Time) {
	if k.moving && !now.Before(k.moveAt) && k.trial.assoc == 0 && !k.hunt.Hunting() && (k.phase == registering || k.phase == registered) {
		k.rounds = 0
		k.hunt.BeginAt(now, k.homeAt)
	}
}

// leaveFormer ends the association from the former address, over which the
// registrar asks whether the identifier is in use by another element. Without a
// sign of life there, it grants the identifier only after a while; now it does so
// at once.
func (k *core) leaveFormer(now time.Time) {
	former := k.home
	k.settleFor(now, k.trial)
	delete(k.peers, former)
	k.actions = append(k.actions, hunt.Close{Assoc: former, Abort: true})
}
