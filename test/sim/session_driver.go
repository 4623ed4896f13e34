package sim

import (
	"errors"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/session"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// sess drives the core of one session, and looks at what it does.
type sess struct {
	u    *poolUser
	w    *sessions
	id   uint64
	cfg  session.UserConfig
	core *session.User
	app  *counter

	links   map[session.Ref]*linkEnd
	cur     session.Ref // the association that the core has, as its actions and events say
	target  rserpool.PEID
	busy    bool
	again   bool
	tick    time.Duration
	ticking bool

	// What is known of it by looking on.
	away     time.Duration // since when it has no element; 0: it has one
	progress time.Duration // of the application's last answer
	cookie   []byte        // the latest that the core has got
	valid    map[int]int   // answers that each association has brought while it was the session's
	up       bool
	upAt     time.Duration
	used     bool            // a user message was sent on it
	heard    bool            // the element has sent something on it
	unsent   bool            // it has not delivered a message
	will     []rserpool.PEID // of the element's last card
	willed   bool            // a last will is followed, and none of it has served yet
	vain     time.Duration   // until when last wills may be passed over, because one was of no use
	allowed  []rserpool.PEID // elements that may be tried
	recent   []rserpool.PEID // elements that have failed in this search
	first    rserpool.PEID   // the element that must be tried first now; 0: any
	reports  int             // of target
	owes     bool            // a report of target
	mayNot   bool            // target must not be reported
	down     downKind        // of the association, when the core was told
	unread   int             // bytes of the messages that the core holds
	over     int             // messages that the association has brought when these were too many
	failover []failover
	trips    int // since then: elements tried in vain, and requests to registrars
	failedAt time.Duration
}

// failover is how long one took, and how many round trips went before the last call.
type failover struct {
	time  time.Duration
	trips int
}

type downKind uint8

const (
	downNot downKind = iota
	downLost
	downAborted
	downShut
	downHere
	downByApp
)

func (u *poolUser) newSess(id uint64, cfg session.UserConfig, app *counter) *sess {
	s := &sess{u: u, w: u.w, id: id, cfg: cfg, app: app, valid: make(map[int]int)}
	app.s = s
	u.list = append(u.list, s)
	return s
}

// dial begins a session, which goes on with the cookie of the one before.
func (s *sess) dial() {
	cfg := s.cfg
	cfg.Cookie = s.cookie
	cfg.Seed = s.w.net.rand.Uint64()
	core, err := session.NewUser(cfg)
	if err != nil {
		s.w.fail("session %d: %v", s.id, err)
		return
	}
	s.core, s.links, s.cur = core, make(map[session.Ref]*linkEnd), 0
	s.ticking, s.recent, s.first, s.unread = false, nil, 0, 0
	if s.away == 0 {
		s.away = s.w.net.now
	}
	s.w.trace("session %d dials", s.id)
	s.do(func(now time.Time) { core.Start(now) })
}

// do gives the core an event, and does what comes of it.
func (s *sess) do(f func(now time.Time)) {
	f(s.w.time())
	s.run()
}

// run performs, sends and lets the application go on until nothing is left to do.
func (s *sess) run() {
	if s.busy {
		s.again = true
		return
	}
	s.busy = true
	for s.again = true; s.again; {
		s.again = false
		s.perform()
		s.pump()
		s.app.step()
		s.perform()
		s.pump()
	}
	s.busy = false
	if s.owes {
		s.w.fail("session %d does not report element %v", s.id, s.target)
		s.owes = false
	}
	s.schedule()
}

func (s *sess) perform() {
	for {
		list := slices.Clone(s.core.Take())
		if len(list) == 0 {
			return
		}
		for _, a := range list {
			if s.w.mut.action == nil {
				s.act(a)
				continue
			}
			for _, a := range s.w.mut.action(s, a) {
				s.act(a)
			}
		}
	}
}

func (s *sess) act(a session.Action) {
	core := s.core
	switch a.Type {
	case session.Select:
		s.checkReported()
		s.recent = slices.Clone(a.Without)
		if s.willed {
			s.willed, s.vain = false, s.w.net.now+vainTime
		}
		s.u.choose(selection{s, a, func(list []rserpool.PoolElement, fresh bool) {
			if s.core == core {
				s.allow(list)
				s.do(func(now time.Time) { core.Selected(now, a.Ref, list, fresh, nil) })
			}
		}})
	case session.Connect:
		s.checkReported()
		s.connect(a)
	case session.Shutdown:
		s.links[a.Ref].shutdown()
	case session.Abort:
		if a.Ref == s.cur {
			s.cur = 0
		}
		s.links[a.Ref].abort()
	case session.Pause:
		s.links[a.Ref].pause()
	case session.Resume:
		s.links[a.Ref].resume()
	case session.Report:
		s.reported(a)
		s.u.failed(a.Element, a.Hearsay)
	case session.Busy:
		s.busied(a)
		s.u.busy(a.Element.ID)
	case session.Ask:
		s.app.asked(a)
	case session.Notify:
		s.news(a.Event)
	}
}

func (s *sess) connect(a session.Action) {
	id := a.Element.ID
	switch {
	case s.first != 0 && s.first != id:
		s.w.fail("session %d tries element %v, and the last will says %v", s.id, id, s.first)
	case !slices.Contains(s.allowed, id):
		s.w.fail("session %d tries element %v, which neither a last will nor the cache has named", s.id, id)
	}
	s.first = 0
	s.cur, s.target, s.reports, s.mayNot, s.up = a.Ref, id, 0, false, false
	core, ref := s.core, a.Ref
	var to *service
	if e := s.w.element(id); e != nil {
		to = s.w.services[e.index]
	}
	s.links[ref] = s.w.connect(s.u.plane, to, s, func(ev *linkEvent) {
		if s.core == core {
			s.event(ref, ev)
		}
	})
}

// event gives the core what an association tells.
func (s *sess) event(ref session.Ref, ev *linkEvent) {
	as := ref
	if s.w.mut.ref != nil {
		as = s.w.mut.ref(s, ref, ev)
	}
	if ref == s.cur {
		s.look(ref, ev)
	}
	s.do(func(now time.Time) {
		switch ev.kind {
		case linkUp:
			s.core.Up(now, as)
		case linkReceived:
			if m, ok := s.w.mut.seen(ev.m); ok {
				s.core.Received(now, as, m)
			}
		case linkSendFailed:
			s.core.SendFailed(now, as, ev.err)
		case linkDown:
			s.core.Down(now, as, ev.shut, ev.err)
		case linkWritable:
		}
	})
}

// look notes what happens to the session's own association.
func (s *sess) look(ref session.Ref, ev *linkEvent) {
	l := s.links[ref].l
	switch ev.kind {
	case linkUp:
		s.up, s.willed = true, false
		s.upAt, s.used, s.heard, s.unsent, s.will, s.down, s.over = s.w.net.now, false, false, false, nil, downNot, 0
		l.hasEcho, l.wantEcho = s.cookie != nil, s.cookie
		l.query = !s.app.keeps() && s.app.querying
	case linkReceived:
		s.received(l, ev.m)
	case linkSendFailed:
		s.unsent = true
	case linkDown:
		s.cur = 0
		switch {
		case ev.shut:
			s.down = downShut
		case errors.Is(ev.err, session.ErrHere):
			s.down = downHere
		case errors.Is(ev.err, errAborted):
			s.down = downAborted
		default:
			s.down = downLost
		}
	}
}

func (s *sess) received(l *link, m session.Message) {
	s.heard = true
	if m.PPID != asap.PPID {
		s.recent = nil
		if a, ok := parseAnswer(m.Data); ok {
			s.valid[l.serial] = a.index
		}
		if s.core.State() == session.Connected {
			if s.unread > maxUnread {
				s.over++
			}
			if s.over > pauseSlack {
				s.w.fail("session %d gets %d messages after it holds %d bytes that are not read", s.id, s.over, s.unread)
			}
			s.unread += len(m.Data) + 64
		}
		return
	}
	c, _, err := asap.Parse(m.Data)
	if err != nil {
		return
	}
	switch c := c.(type) {
	case *asap.Cookie:
		s.cookie = c.Cookie
		if s.cookie == nil {
			s.cookie = []byte{}
		}
	case *asap.BusinessCard:
		s.will = nil
		for i := range c.Elements[:min(len(c.Elements), willLimit)] {
			s.will = append(s.will, c.Elements[i].ID)
		}
	}
}

// vainTime is how long a session may do without last wills after one of no use.
const vainTime = 10 * time.Second

// willLimit is how many elements of a business card count.
const willLimit = 16

// news looks at what the core tells the application.
func (s *sess) news(ev *session.Event) {
	switch ev.Type {
	case session.EventConnected, session.EventFailedOver:
		s.w.trace("session %d has element %v", s.id, ev.Element)
		if ev.Type == session.EventFailedOver {
			s.failover = append(s.failover, failover{s.upAt - s.failedAt, s.trips})
		}
		s.away = 0
		s.app.wait()
	case session.EventFailing:
		s.w.trace("session %d fails over from %v: %v", s.id, ev.Element, ev.Err)
		s.failing(ev)
	case session.EventTryFailed:
		s.w.trace("session %d tries element %v in vain: %v", s.id, ev.Element, ev.Err)
		s.trips++
		s.failed(ev)
	case session.EventEnded:
		s.w.trace("session %d has ended: %v", s.id, ev.Err)
		if s.away == 0 {
			s.away = s.w.net.now
		}
		s.app.ended(ev.Err)
	case session.EventCookie, session.EventCard:
	}
}

func (s *sess) failing(ev *session.Event) {
	now := s.w.net.now
	s.failedAt, s.away, s.trips = now, now, 0
	if now-s.upAt >= 2*time.Second {
		s.recent = nil
	}
	s.failed(ev)
	switch {
	case len(s.will) > 0 && now < s.vain: // or what the cache has said before
		s.allowed = append(slices.Clone(s.allowed), s.will...)
	case len(s.will) > 0:
		s.allowed = s.will
	}
	switch {
	case s.down == downHere: // the same one
		s.first = ev.Element
		s.allowed = append(slices.Clone(s.allowed), ev.Element)
	case now-s.upAt >= refusalTime:
		s.expectWill()
	}
}

// refusalTime: an element that ends the association within this time, and has sent nothing,
// has refused the session. It is alive.
const refusalTime = 100 * time.Millisecond

func (s *sess) failed(ev *session.Event) {
	if errors.Is(ev.Err, errUnsent) && !s.unsent {
		s.w.fail("session %d gives element %v up for a message of an earlier one", s.id, ev.Element)
	}
	s.recent = append(s.recent, ev.Element)
	s.willed = s.willed || len(s.will) > 0
	if s.down == downShut || s.down == downHere && s.up || s.down == downByApp && !s.used || s.refused() {
		s.mayNot = true
	} else {
		s.owes = s.reports == 0
	}
	s.app.lost()
}

func (s *sess) allow(list []rserpool.PoolElement) {
	s.allowed = nil
	for i := range list {
		s.allowed = append(s.allowed, list[i].ID)
	}
}

// expectWill: the last will says where to go first.
func (s *sess) expectWill() {
	if s.w.net.now < s.vain {
		return
	}
	for _, id := range s.will {
		if !slices.Contains(s.recent, id) {
			s.first = id
			return
		}
	}
}

func (s *sess) reported(a session.Action) {
	s.reports++
	s.owes = false
	switch {
	case a.Element.ID != s.target:
		s.w.fail("session %d reports element %v, and %v has failed", s.id, a.Element.ID, s.target)
	case s.mayNot:
		s.w.fail("session %d reports element %v, which has not failed", s.id, s.target)
	case s.reports > 1:
		s.w.fail("session %d reports element %v twice", s.id, s.target)
	}
}

func (s *sess) refused() bool {
	return s.up && s.down == downAborted && !s.heard && s.w.net.now-s.upAt < refusalTime
}

// busied: an element that has refused is left out, and not reported.
func (s *sess) busied(a session.Action) {
	if a.Element.ID != s.target || s.down != downShut && !s.refused() {
		s.w.fail("session %d says that element %v is busy, and it has not refused", s.id, a.Element.ID)
	}
}

func (s *sess) checkReported() {
	if s.owes {
		s.w.fail("session %d does not report element %v", s.id, s.target)
		s.owes = false
	}
}

// pump sends what the core has to send, as far as there is room.
func (s *sess) pump() {
	for {
		ref, m, ok := s.core.Next()
		if !ok {
			return
		}
		err := s.links[ref].send(m)
		if errors.Is(err, errFull) {
			return
		}
		if m.PPID != asap.PPID {
			s.used = true
		}
		s.core.Sent(s.w.time())
		s.perform()
	}
}

// schedule has Tick called when it is due.
func (s *sess) schedule() {
	at, ok := s.core.NextDeadline()
	if !ok || s.w.mut.noTick {
		return
	}
	due := max(s.w.since(at), s.w.net.now)
	if s.ticking && s.tick <= due {
		return
	}
	s.ticking, s.tick = true, due
	core := s.core
	s.w.net.at(due, func() {
		if s.core != core || !s.ticking || s.tick != due {
			return
		}
		s.ticking = false
		if at, ok := core.NextDeadline(); ok && s.w.since(at) <= due {
			s.down = downNot
			s.do(func(now time.Time) { core.Tick(now) })
		} else {
			s.schedule()
		}
	})
}
