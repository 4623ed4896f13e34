package sim

import (
	"net/netip"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/session"
	"github.com/rserpool/coredns-rserpool/registrar"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

type registrarEvent = registrar.Event

const (
	poolUserPort = 40001
	// outTime is how long a pool user leaves out an element that has failed.
	outTime = 5 * time.Second
	// resolveTime is how long a registrar may take to answer.
	resolveTime = 2 * time.Second
)

// poolUser is a process with sessions: a model of what its cache and its association with a
// registrar do (RFC 5352, Sections 3.3 to 3.5). All of its sessions share them.
type poolUser struct {
	w      *sessions
	h      *host // for registrars
	plane  *host // for sessions
	single bool  // selections have one candidate, not all
	list   []*sess

	cache   []rserpool.PoolElement
	out     map[rserpool.PEID]time.Duration // elements that have failed, until when they are left out
	reports []rserpool.PEID                 // to be sent

	assoc  registrar.AssocID
	up     bool
	server int // of the scope's
	asking bool
	asks   int
	waits  []selection
	good   []time.Duration // since when each service could serve it; 0: it could not
}

// selection is one that a session waits for.
type selection struct {
	of   *sess
	a    session.Action
	done func(list []rserpool.PoolElement, fresh bool)
}

func (w *sessions) newPoolUser(i int) *poolUser {
	u := &poolUser{
		w: w, single: w.net.chance(2), server: w.net.rand.IntN(len(w.servers)),
		out: make(map[rserpool.PEID]time.Duration), good: make([]time.Duration, len(w.services)),
	}
	addr := netip.AddrFrom4([4]byte{10, 4, byte(i >> 8), byte(i)})
	u.h = w.net.newHost(addr, nil, poolUserPort)
	u.plane = w.net.newHost(addr, nil, servicePort)
	u.h.begin(u)
	u.plane.begin(u)
	return u
}

// choose selects elements. done may be called at once.
func (u *poolUser) choose(s selection) {
	if !s.a.Fresh {
		if list := u.offer(s.a, false); len(list) > 0 {
			s.done(list, false)
			return
		}
	}
	s.of.trips++
	u.waits = append(u.waits, s)
	u.ask()
}

// offer lists what the cache has for a selection.
func (u *poolUser) offer(a session.Action, failed bool) []rserpool.PoolElement {
	var list []rserpool.PoolElement
	for i := range u.cache {
		e := &u.cache[i]
		if !slices.Contains(a.Without, e.ID) && (failed || u.out[e.ID] <= u.w.net.now) {
			list = append(list, *e)
		}
	}
	u.w.net.rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	if u.single && len(list) > 1 {
		list = list[:1]
	}
	return list
}

// ask resolves the pool's handle.
func (u *poolUser) ask() {
	if u.asking {
		return
	}
	u.asking = true
	u.try()
}

// try asks the registrar that the user has, or calls one. If it does not answer in time,
// the next one is asked.
func (u *poolUser) try() {
	u.asks++
	n := u.asks
	if u.up {
		u.say(&asap.HandleResolution{Handle: sessionPool, Items: 32, HasItems: true})
	} else {
		u.call()
	}
	u.h.after(resolveTime, func() {
		if u.asking && u.asks == n {
			u.next()
			u.try()
		}
	})
}

func (u *poolUser) call() {
	if u.assoc == 0 {
		to := u.w.servers[u.server%len(u.w.servers)]
		u.assoc = u.h.connect(poolUserPort, netip.AddrPortFrom(to.addr, asapPort))
	}
}

// next gives the registrar up.
func (u *poolUser) next() {
	if e := u.h.find(u.assoc); e != nil {
		u.w.net.hangUp(e, true)
	}
	u.assoc, u.up = 0, false
	u.server++
}

func (u *poolUser) handle(ev registrar.Event) {
	switch ev := ev.(type) {
	case registrar.AssocUp:
		if ev.Assoc == u.assoc && !u.up {
			u.up = true
			u.flush()
			if u.asking {
				u.say(&asap.HandleResolution{Handle: sessionPool, Items: 32, HasItems: true})
			}
		}
	case registrar.AssocDown:
		if ev.Assoc == u.assoc {
			u.next()
			u.h.after(huntGap, u.again)
		}
	case registrar.Received:
		if ev.Assoc == u.assoc {
			u.received(ev.Data)
		}
	}
}

func (u *poolUser) again() {
	if !u.up && (u.asking || len(u.reports) > 0) {
		u.call()
	}
}

func (u *poolUser) received(data []byte) {
	m, _, err := asap.Parse(data)
	if err != nil {
		u.w.fail("a pool user got what cannot be read: %v", err)
		return
	}
	r, ok := m.(*asap.HandleResolutionResponse)
	if !ok || !u.asking {
		return
	}
	u.asking = false
	u.cache = r.Elements
	waits := u.waits
	u.waits = nil
	for _, s := range waits {
		list := u.offer(s.a, false)
		if len(list) == 0 {
			list = u.offer(s.a, true)
		}
		s.done(list, true)
	}
}

// failed leaves an element out, and reports it once for each such time. What is known only
// by hearsay is reported if the cache has the same.
func (u *poolUser) failed(e *rserpool.PoolElement, hearsay bool) {
	if u.out[e.ID] > u.w.net.now {
		return
	}
	known := slices.ContainsFunc(u.cache, func(c rserpool.PoolElement) bool {
		return c.ID == e.ID && c.UserTransport.Equal(e.UserTransport)
	})
	if hearsay && !known {
		return
	}
	u.out[e.ID] = u.w.net.now + outTime
	u.reports = append(u.reports, e.ID)
	if u.up {
		u.flush()
	} else {
		u.again()
	}
}

// busy leaves an element out for a moment.
func (u *poolUser) busy(id rserpool.PEID) {
	u.out[id] = max(u.out[id], u.w.net.now+time.Second)
}

func (u *poolUser) flush() {
	for _, id := range u.reports {
		u.say(&asap.EndpointUnreachable{Handle: sessionPool, ID: id})
	}
	u.reports = nil
}

func (u *poolUser) say(m asap.Message) {
	b, err := m.Append(nil)
	if err != nil {
		u.w.fail("a pool user cannot say %v: %v", m, err)
		return
	}
	u.h.send(u.assoc, asap.PPID, b, false)
}
