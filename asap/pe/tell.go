package pe

import (
	"fmt"
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
	if k.home == 0 && k.inVain.tell(now) {
		k.tell(Event{Type: NoRegistrar, Err: &rserpool.UnreachableError{Attempts: k.hunt.Report()}})
	}
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

// tellChanged tells once which values a registrar has registered in place of those
// offered. The registrar says so in each response.
func (k *core) tellChanged(now time.Time, changed []rserpool.Cause) {
	text := ""
	for _, c := range changed {
		sep := "; "
		if text == "" {
			sep = ""
		}
		if offered, seen, ok := tlv.Transports(c); ok {
			text += fmt.Sprintf("%s%v is offered, registered is %v, where the registrar sees the element", sep, offered, seen)
			continue
		}
		text += sep + c.String()
	}
	if text != "" && text != k.changed {
		k.warn(now, "registrar %v has changed values of the registration: %s", k.homeAt, text)
	}
	k.changed = text
}

// later is the later of two times.
func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
