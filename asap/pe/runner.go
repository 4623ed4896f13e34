package pe

import (
	"net/netip"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/client"
	"github.com/rserpool/coredns-rserpool/internal/hunt"
)

// runner is what the Driver's goroutine has of an Element: the core, and the
// addresses that it registers.
type runner struct {
	*core
	e       *Element
	cfg     *Config
	tr      *client.Transport
	addrs   []netip.Addr // that are bound, where none are named
	lookAt  time.Time    // when to look at the machine's addresses; zero: not
	turns   turns        // of addrs
	news    int          // of the hunt, at the last look
	bindErr string       // why the addresses could not be bound
	waiting map[requestID]chan answer
}

// Tick does what is due.
func (r *runner) Tick(now time.Time) {
	if !r.lookAt.IsZero() && !now.Before(r.lookAt) {
		r.look(now)
	}
	r.core.Tick(now)
}

// NextDeadline is when Tick has something to do.
func (r *runner) NextDeadline() (time.Time, bool) {
	d, ok := r.core.NextDeadline()
	if !r.lookAt.IsZero() && (!ok || r.lookAt.Before(d)) {
		return r.lookAt, true
	}
	return d, ok
}

// Changed looks at the machine's addresses after an event that may go with other
// ones.
func (r *runner) Changed(now time.Time, ev client.Event) {
	if ev.Network {
		r.hunt.Retry(now)
	}
	if ev.Ended() || ev.Network || r.news != r.hunt.News() {
		r.look(now)
	}
}

// Take publishes the state, tells the events and gives the actions.
func (r *runner) Take() ([]hunt.Action, bool) {
	actions, events := r.core.take()
	for _, a := range r.core.takeAnswers() {
		r.waiting[a.id] <- a // there is room for one
		delete(r.waiting, a.id)
	}
	more := len(actions) > 0 || len(events) > 0
	if more {
		r.e.publish(r.state(), events)
	}
	r.e.part()
	return actions, more
}

// Left waits for Notify, which is not called after Done.
func (r *runner) Left() {
	if r.e.notifier != nil {
		r.e.notifier.wait()
	}
}

// state is what the registration is like now.
func (r *runner) state() State {
	k := r.core
	s := State{
		Registered: k.standing && k.want,
		ID:         k.element.ID,
		Home:       k.element.Home,
		Refused:    k.refusals.last,
		Policy:     k.element.Policy,
		Addrs:      k.element.UserTransport.Addrs,
		Local:      r.tr.LocalAddrs(),
	}
	if len(s.Addrs) == 0 {
		s.Addrs = k.addrs // to register as soon as there is a registrar
	}
	if k.home != 0 {
		s.Registrar = k.homeAt.String()
	}
	return s
}
