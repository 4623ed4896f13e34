package sim

import (
	"net/netip"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/registrar"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

const (
	elementPort = 40000
	// huntGap is how long an element without a home waits before it looks for
	// one, if it hunts at once; lazyGap is that of the others.
	huntGap = 200 * time.Millisecond
	lazyGap = 15 * time.Second
	// answerTime is how long a registrar may take to answer (T2-registration).
	answerTime = 6 * time.Second
)

// element is a model of a pool element. It registers with some registrar, again
// now and then, and with another one when its association to the home has
// ended; it acknowledges the keep-alives of all registrars, and adopts a new home.
type element struct {
	s     *Sim
	h     *host
	spare *host         // where it moves to; see moves.go
	port  uint16        // on h
	old   *predecessor  // its former process, while that runs
	alone time.Duration // since when none does
	index int
	pool  rserpool.PoolHandle
	id    rserpool.PEID
	// transport is where it serves, nil for a place that nobody uses.
	transport *rserpool.Transport
	load      uint32
	ordered   bool          // it acknowledges in order, as the reference implementation does
	gap       time.Duration // from the loss of a home to the search for another one

	state  elementState
	born   time.Duration // when it has started
	died   time.Duration // when it has gone
	proved time.Duration // see proves
	unread time.Duration // see leavesUnread
	// squatted is until when somebody else has been at one of its places.
	squatted time.Duration
	home     registrar.AssocID // 0 without one
	at       *host             // of the home, or the last one; nil while one is sought
	server   rserpool.ServerID // the home's identifier, once it has told it
	waits    uint64            // number of the registration that is not answered
	tries    uint64
	// sure tells that its home has confirmed that it is, and that nothing bad
	// has happened to any of the two since.
	sure bool
	seen uint64 // the scan of a handlespace that has found it last
}

type elementState uint8

const (
	elementLives elementState = iota
	elementLeaves
	elementGone
)

// boot starts the element, if it does not run.
func (e *element) boot() {
	if e.h.proc != nil {
		return
	}
	e.h.begin(e)
	e.state, e.server, e.born = elementLives, 0, e.s.net.now
	e.proves()
	e.s.trace("element %v starts", e.id)
	e.hunt(huntGap)
}

// gone notes that the element runs no more, nor a former process of it.
func (e *element) gone() {
	if e.old != nil {
		e.old.end()
	}
	e.state, e.sure, e.home, e.at, e.died = elementGone, false, 0, nil, e.s.net.now
	e.proves()
}

// hunt looks for a home some time later (RFC 5352, Section 3.6).
func (e *element) hunt(after time.Duration) {
	e.at, e.sure = nil, false
	e.huntAfterLoss(after)
}

// huntAfterLoss is hunt where the association has ended, which is no reason for
// the home to do without the element.
func (e *element) huntAfterLoss(after time.Duration) {
	e.home = 0
	e.tries++
	try := e.tries
	e.h.after(e.patience(after), func() {
		if e.home == 0 && e.tries == try {
			e.call(e.s.servers[e.s.net.rand.IntN(len(e.s.servers))])
		}
	})
}

// call registers with a registrar.
func (e *element) call(to *host) {
	e.tries++
	e.sure, e.at = false, nil
	e.home = e.h.connect(e.port, netip.AddrPortFrom(to.addr, asapPort))
	e.await()
}

// await goes to another registrar if there is no answer in time.
func (e *element) await() {
	e.waits++
	n := e.waits
	e.h.after(answerTime, func() {
		if e.waits == n {
			e.hunt(huntGap)
		}
	})
}

func (e *element) handle(ev registrar.Event) {
	switch ev := ev.(type) {
	case registrar.AssocUp:
		// An association may have ended while the element stood still.
		if end := e.h.find(ev.Assoc); end != nil && ev.Assoc == e.home {
			e.at = end.peer.h
			e.register()
		}
	case registrar.AssocDown:
		if ev.Assoc == e.home && e.state == elementLives {
			e.waits++
			e.huntAfterLoss(e.gap)
		}
	case registrar.Received:
		m, _, err := asap.Parse(ev.Data)
		if err != nil {
			e.s.fail("element %v got what cannot be read: %v", e.id, err)
			return
		}
		e.onMessage(ev.Assoc, m)
	}
}

func (e *element) onMessage(a registrar.AssocID, m asap.Message) {
	switch m := m.(type) {
	case *asap.RegistrationResponse:
		if a != e.home || e.state != elementLives {
			return
		}
		e.waits++
		if m.Reject {
			e.hunt(huntGap)
			return
		}
		e.settle(!e.late() && !rserpool.HasCause(m.Causes, rserpool.CauseNonUniquePEIdentifier)) // else a former process has the place
	case *asap.DeregistrationResponse:
		switch {
		case a != e.home:
		case e.state == elementLeaves:
			e.s.trace("element %v has left", e.id)
			e.h.end()
			e.gone()
		case e.state == elementLives: // it was missed, or superseded by one that has left
			e.s.trace("element %v is told that it is not registered", e.id)
			e.sure = false
			e.register()
			e.await()
		}
	case *asap.EndpointKeepAlive:
		e.onKeepAlive(a, m)
	}
}

func (e *element) onKeepAlive(a registrar.AssocID, m *asap.EndpointKeepAlive) {
	if m.Home && a != e.home && e.state == elementLives {
		if end := e.h.find(a); end != nil {
			e.home, e.at, e.sure = a, end.peer.h, false
			e.waits++
			e.tries++
			n, late := e.waits, e.late()
			e.h.after(2*maxDelay, func() { // until the answer has come it may get lost
				if e.waits == n && e.home == a {
					e.settle(!late && !e.late())
				}
			})
		}
	}
	if a == e.home {
		e.server = m.Server
	}
	e.say(a, &asap.EndpointKeepAliveAck{Handle: m.Handle, ID: e.id, Unordered: !e.ordered})
}

// late reports whether a pause is over at this moment. What comes now has waited,
// and may be out of date.
func (e *element) late() bool { return e.h.paused == e.s.net.now }

// settle: the home has confirmed that it is.
func (e *element) settle(sure bool) {
	e.sure = sure && e.old == nil && e.entitled() && e.at != nil && reachable(e.h, e.at) && !e.troubled()
	e.s.trace("element %v is at home with %v, sure %v", e.id, e.at.addr, e.sure)
	n := e.waits
	e.h.after(e.s.cfg.Refresh, func() {
		if e.waits == n && e.home != 0 {
			e.register()
			e.await()
		}
	})
}

// troubled reports whether messages between the element and its home may still be on
// their way that were lost before, or those of a former process unread.
func (e *element) troubled() bool {
	if e.unread > 0 && e.s.net.now < e.unread+5*maxDelay {
		return true
	}
	cut := max(e.h.changed, e.at.changed)
	a := e.h.find(e.home)
	return a == nil || len(a.held) > 0 || len(a.peer.held) > 0 || cut > 0 && e.s.net.now < cut+lostTime
}

// leavesUnread notes until when a registrar that stands still may have a registration of the
// element's process unread, which ends now. That registrar is the home when it goes on, until
// it finds that the process has ended, and the element is told so.
func (e *element) leavesUnread(h *host) {
	for _, end := range h.ends {
		if end.peer != nil {
			e.unread = max(e.unread, end.peer.h.paused)
		}
	}
}

// settled reports whether the element has an association to its home.
func (e *element) settled() bool { return e.home != 0 && e.at != nil }

// register: RFC 5352, Section 3.1.
func (e *element) register() {
	e.say(e.home, e.registration(e.server, e.h.addr, e.port))
}

// change tells the home another load.
func (e *element) change(load uint32) {
	e.load = load
	if e.state == elementLives && e.settled() {
		e.register()
		e.await()
	}
}

// leave deregisters and ends.
func (e *element) leave() {
	if e.state != elementLives || !e.settled() {
		return
	}
	e.state, e.sure = elementLeaves, false
	e.proves()
	e.waits++
	e.tries++
	e.say(e.home, &asap.Deregistration{Handle: e.pool, ID: e.id})
	e.h.after(answerTime, func() {
		e.h.end()
		e.gone()
	})
}

func (e *element) say(a registrar.AssocID, m asap.Message) {
	b, err := m.Append(nil)
	if err != nil {
		e.s.fail("element %v: %v", e.id, err)
		return
	}
	e.h.send(a, asap.PPID, b, m.Type() == asap.TypeEndpointKeepAliveAck && !e.ordered)
}
