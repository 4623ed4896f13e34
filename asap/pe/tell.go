package pe

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/tlv"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

const (
	// The first tellAtOnce events of one kind of trouble are told, and then one in
	// tellPause.
	tellAtOnce = 8
	tellPause  = 10 * time.Minute
	// The pause between two warnings grows from minWarn to maxWarn while warnings
	// continue: anyone who can reach the element can cause them.
	minWarn = time.Second
	maxWarn = time.Minute
	// toldPause is the longest pause of a hunt that nobody is told of.
	toldPause = 5 * time.Second
)

// spell limits the events about trouble that lasts. The zero value is a new one.
type spell struct {
	n    int
	next time.Time
}

// tell reports whether to tell one more event.
func (s *spell) tell(now time.Time) bool {
	s.n++
	if s.n > tellAtOnce && now.Before(s.next) {
		return false
	}
	s.next = now.Add(tellPause)
	return true
}

// vain limits the events about rounds of the hunt that have reached no registrar. The first one
// with a long pause is told in any case.
type vain struct {
	spell
	long  bool // one was told
	taken bool // the last round: see core.taken
}

func (v *vain) tell(now time.Time, long bool) bool {
	if due := v.spell.tell(now); !due && (!long || v.long) {
		return false
	}
	v.long = v.long || long
	return true
}

// warned limits the warnings.
type warned struct {
	at    time.Time
	pause time.Duration
	lost  int
}

// tellRounds tells of rounds of the hunt that have reached no registrar, if there is no
// home. With a home that serves, one such round ends the hunt.
func (k *core) tellRounds(now time.Time) {
	r := k.hunt.Rounds()
	if !k.hunt.Hunting() || r <= k.rounds {
		return
	}
	k.rounds = r
	if k.home == 0 {
		k.notRenewed()
	}
	if k.home != 0 && k.refusals.n == 0 && !k.moving {
		k.hunt.Stop()
	}
	if k.home == 0 && !k.taken() {
		k.tellNone(now)
	}
}

// taken reports whether a round was in vain because a registrar is connecting to the element.
// That is no news unless the next round is, too.
func (k *core) taken() bool {
	before := k.inVain.taken
	k.inVain.taken = slices.ContainsFunc(k.hunt.Report(), func(a rserpool.Attempt) bool { return errors.As(a.Err, new(*takenError)) })
	return k.inVain.taken && !before
}

// tellPause tells of a pause with which the hunt begins: before the next round, which has no
// reasons yet. A short one after the loss of a home that served is not told, since HomeLost has
// its reason.
func (k *core) tellPause(now time.Time, served bool) {
	if served && k.hunt.Pause(now) <= toldPause {
		k.rounds = k.hunt.Rounds()
	}
	k.tellRounds(now)
}

// tellNone tells that no registrar was reached. If the hunt pauses for long now, the event
// says for how long, and what the longest is that may follow: most of those have no event.
func (k *core) tellNone(now time.Time) {
	pause := k.hunt.Pause(now)
	long := pause > toldPause
	if !k.inVain.tell(now, long) {
		return
	}
	ev := Event{Type: NoRegistrar, Err: &rserpool.UnreachableError{Attempts: k.hunt.Report()}}
	if long {
		ev.Pause = pause
		most := max(pause, k.timers.RetranMax*5/4) // see hunt.vary
		ev.Err = fmt.Errorf("%w; trying again in %v, and then at least every %v", ev.Err, pause.Round(time.Second), most.Round(time.Second))
	}
	k.tell(ev)
}

func (k *core) tell(ev Event) {
	ev.ID = k.element.ID
	homeless := ev.Type == NoRegistrar || ev.Type == AdoptionFailed && k.home == 0
	if !homeless {
		ev.Home, ev.Registrar = k.element.Home, k.homeAt.String()
	}
	k.events = append(k.events, ev)
}

// warn tells of something unexpected, at most once a second, and less often while it
// continues.
func (k *core) warn(now time.Time, format string, args ...any) {
	w := &k.warned
	if now.Sub(w.at) < w.pause {
		w.lost++
		return
	}
	err := fmt.Errorf(format, args...)
	if w.lost > 0 {
		err = fmt.Errorf("%w (and %d warnings more since the last one)", err, w.lost)
	}
	if now.Sub(w.at) > 2*maxWarn {
		w.pause = 0
	}
	w.pause = min(max(2*w.pause, minWarn), maxWarn)
	w.at, w.lost = now, 0
	k.tell(Event{Type: Warning, Err: err})
}

// tellChanged tells once what a registrar warns of when it grants a registration, as it does in
// each response.
func (k *core) tellChanged(now time.Time, warnings []rserpool.Cause) {
	text := ""
	switch {
	case rserpool.HasCause(warnings, rserpool.CauseNonUniquePEIdentifier):
		text = k.otherProcess(warnings)
	case len(warnings) > 0:
		text = fmt.Sprintf("registrar %v has changed values of the registration: %s", k.homeAt, changes(warnings))
	}
	if text != "" && text != k.changed {
		k.warn(now, "%s", text)
	}
	k.changed = text
}

// otherProcess says that another process of this host has the element's place, and where that
// one serves if it does so elsewhere.
func (k *core) otherProcess(warnings []rserpool.Cause) string {
	at := ""
	for _, c := range warnings {
		if _, registered, ok := tlv.Transports(c); ok {
			at = fmt.Sprintf(" at %v", registered)
		}
	}
	return fmt.Sprintf("another process has registered %v%s: clients get that one until it ends; unless it replaces this one, give each its own identifier", k.element.ID, at)
}

// changes says which values a registrar has registered in place of those offered.
func changes(changed []rserpool.Cause) string {
	words := make([]string, len(changed))
	for i, c := range changed {
		words[i] = c.String()
		if offered, seen, ok := tlv.Transports(c); ok {
			words[i] = fmt.Sprintf("%v is offered, registered is %v, where the registrar sees the element", offered, seen)
		}
	}
	return strings.Join(words, "; ")
}

// later is the later of two times.
func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
