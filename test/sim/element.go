package sim

import (
	"net/netip"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/asap/param"
	"github.com/rserpool/coredns-rserpool/registrar"
)

const (
	elementPort = 40000
	// huntGap is how long an element without a home waits before it looks for
	// one, if it hunts at once; lazyGap is that of the others.
	huntGap = 200 * time.Millisecond
	lazyGap = 15 * time.Second
	// answerTime is how long a registrar may take to answer (T2-registration).
	answerTime = 6 * time.Second
	// refreshTime is the time between two re-registrations.
	refreshTime = 5 * time.Minute
)

// element is a model of a pool element. It registers with some registrar, again
// now and then, and with another one when its association to the home has
// ended; it acknowledges keep-alives to whoever asks, and adopts a new home.
type element struct {
	s      *Sim
	h      *host
	pool   param.PoolHandle
	id     param.PEID
	lazy   bool
	opened map[registrar.AssocID]bool
	home   registrar.AssocID // 0 without one
	waits  uint64            // number of the registration that is not answered
	tries  uint64
}

func (e *element) hunt(after time.Duration) {
	e.home = 0
	e.tries++
	try := e.tries
	e.s.net.after(after, func() {
		if e.h.proc == e && e.home == 0 && e.tries == try {
			to := e.s.registrars[e.s.net.rand.IntN(len(e.s.registrars))]
			e.home = e.s.net.connect(e.h, elementPort, netip.AddrPortFrom(to.h.addr, asapPort))
			e.await()
		}
	})
}

// await goes to another registrar if there is no answer in time.
func (e *element) await() {
	e.waits++
	n := e.waits
	e.s.net.after(answerTime, func() {
		if e.h.proc == e && e.waits == n {
			e.hunt(huntGap)
		}
	})
}

func (e *element) gap() time.Duration {
	if e.lazy {
		return lazyGap
	}
	return huntGap
}

func (e *element) handle(ev registrar.Event) {
	switch ev := ev.(type) {
	case registrar.AssocUp:
		e.opened[ev.Assoc] = true
		if ev.Assoc == e.home {
			e.register()
		}
	case registrar.AssocDown:
		delete(e.opened, ev.Assoc)
		if ev.Assoc == e.home {
			e.waits++
			e.hunt(e.gap())
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
		if a == e.home {
			e.waits++
			if m.Reject {
				e.hunt(huntGap)
				return
			}
			e.refresh()
		}
	case *asap.EndpointKeepAlive:
		if m.Home && a != e.home {
			e.home = a
			e.waits++
			e.tries++
			e.refresh()
		}
		e.say(a, &asap.EndpointKeepAliveAck{Handle: m.Handle, ID: e.id})
	}
}

func (e *element) refresh() {
	n := e.waits
	e.s.net.after(refreshTime, func() {
		if e.h.proc == e && e.waits == n && e.home != 0 {
			e.register()
			e.await()
		}
	})
}

func (e *element) register() {
	e.say(e.home, &asap.Registration{Handle: e.pool, Element: param.PoolElement{
		ID: e.id, Life: 3600, Policy: param.Policy{Type: param.RoundRobin},
		UserTransport: param.Transport{Type: param.TypeUDPTransport, Port: 7, Addrs: []netip.Addr{e.h.addr}},
	}})
}

func (e *element) say(a registrar.AssocID, m asap.Message) {
	b, err := m.Append(nil)
	if err != nil {
		e.s.fail("element %v: %v", e.id, err)
		return
	}
	e.s.net.send(e.h, a, asap.PPID, b)
}
