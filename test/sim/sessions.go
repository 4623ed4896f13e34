package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/session"
)

// sessionConfig says which sessions are simulated in a scope.
type sessionConfig struct {
	Config
	Users, Sessions int // pool users, and the sessions of all
	Requests        int // of each session
	Hostile         int // how many of the elements are hostile
}

// sessions is a scope in which pool users have sessions with the elements, all of which are
// in one pool.
//
// Users, elements and registrars are on two networks: that of ASAP and ENRP, and that of
// sessions. So each can be cut off from each other one.
type sessions struct {
	*Sim
	cfg      sessionConfig
	services []*service // of each element
	users    []*poolUser
	list     []*sess
	serial   int
	running  int // sessions that are not done
	off      map[*host]bool
	kernel   map[*host]bool // SCTP is the kernel's, not the process's
	mut      mutation
	epoch    time.Time
	slow     bool // some associations take long to come up
	stats    sessionStats
}

// sessionStats are for the log.
type sessionStats struct {
	failovers, redials int
	longest            time.Duration // without an element, while one could serve
	stall              time.Duration // without an answer, likewise
}

// mutation breaks something on purpose.
type mutation struct {
	// network returns what is sent instead of a message.
	network func(from *linkEnd, m session.Message) []session.Message
	// action returns what is done instead of what a core wants.
	action func(s *sess, a session.Action) []session.Action
	// ref returns the association that an event is taken for.
	ref func(s *sess, ref session.Ref, ev *linkEvent) session.Ref
	// unseen are control messages that the core does not get, reversed turns last wills
	// round.
	unseen   asap.MessageType
	reversed bool
	noTick   bool
}

// seen returns what the core gets of a message.
func (m *mutation) seen(msg session.Message) (session.Message, bool) {
	if msg.PPID != asap.PPID {
		return msg, true
	}
	switch c, _, err := asap.Parse(msg.Data); {
	case err != nil:
	case c.Type() == m.unseen:
		return msg, false
	case m.reversed && c.Type() == asap.TypeBusinessCard:
		card, _ := c.(*asap.BusinessCard)
		slices.Reverse(card.Elements)
		if b, err := card.Append(nil); err == nil {
			msg.Data = b
		}
	}
	return msg, true
}

func newSessions(cfg sessionConfig) *sessions {
	w := &sessions{
		Sim: New(cfg.Config), cfg: cfg, off: make(map[*host]bool), kernel: make(map[*host]bool),
		epoch: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), running: cfg.Sessions,
	}
	for i, e := range w.elements {
		s := w.newService(e)
		s.hostile = i < cfg.Hostile
		t := s.transport()
		e.pool, e.transport = sessionPool, &t
		w.services = append(w.services, s)
		s.start()
	}
	for i := range cfg.Users {
		w.users = append(w.users, w.newPoolUser(i))
	}
	for i := range cfg.Sessions {
		w.list = append(w.list, w.newSession(i))
	}
	w.net.after(cfg.Start+5*time.Second, w.watchSessions)
	return w
}

func (w *sessions) newSession(i int) *sess {
	c := w.newCounter(w.cfg.Requests/2 + w.net.rand.IntN(w.cfg.Requests))
	cfg := session.UserConfig{
		Pool: sessionPool, Unacked: session.Unacked(w.net.rand.IntN(3)),
		MaxReceive: maxUnread, MaxUnacked: 16 << 10, ConnectTime: connectWait, FailoverTime: 30 * time.Second,
	}
	if w.net.chance(2) {
		cfg.FailoverTime = time.Minute
	}
	switch w.net.rand.IntN(3) {
	case 0:
		cfg.AnswerTimeout = time.Second
		c.patience = 6 * time.Second
	case 1:
		c.patience = 3 * time.Second
	case 2:
		if w.cfg.Hostile > 0 {
			c.patience = 3 * time.Second
		}
	}
	u := w.users[i%len(w.users)]
	s := u.newSess(uint64(i+1), cfg, c)
	w.net.after(w.cfg.Start/2+w.net.upTo(w.cfg.Start), c.begin)
	return s
}

// time is what the clocks of users and elements show.
func (w *sessions) time() time.Time { return w.epoch.Add(w.net.now) }

// since is the virtual time of what they show.
func (w *sessions) since(t time.Time) time.Duration { return t.Sub(w.epoch) }

// run runs the scope, and says what is wrong.
func (w *sessions) run() error {
	w.net.run(w.cfg.Start + 5*time.Second)
	w.slow = true
	for end := w.net.now + w.cfg.Faults; w.net.now < end && w.bad == nil; {
		w.sessionFault()
		w.net.run(w.net.upTo(3 * time.Second))
	}
	w.healSessions()
	for end := w.net.now + w.cfg.Rest; w.net.now < end && w.bad == nil && w.running > 0; {
		w.net.run(time.Second)
	}
	w.net.run(connectTime + 5*beatGap) // for what is left of associations to end
	for _, s := range w.list {
		if n := s.open(); n > 0 && w.bad == nil {
			w.fail("session %d is over, and has %d associations: %v", s.id, n, s)
		}
		w.stats.failovers += len(s.failover)
		w.stats.redials += s.app.redials
		if !s.app.done && w.bad == nil {
			w.fail("session %d is not done: %v", s.id, s)
		}
	}
	return w.err()
}

// sessionFault does something bad, or has an element do something.
func (w *sessions) sessionFault() {
	rnd := w.net.rand
	h := w.servers[rnd.IntN(len(w.servers))]
	s := w.services[rnd.IntN(len(w.services))]
	switch rnd.IntN(19) {
	case 0:
		w.kill(h, 10*time.Second)
	case 1:
		if !h.stands() {
			w.pause(h, 10*time.Second)
		}
	case 2:
		w.trace("registrars, elements and users are cut off from one another")
		w.split(func(*host) int { return rnd.IntN(2) })
	case 3:
		w.split(func(*host) int { return 0 })
	case 4:
		w.lose(h)
	case 5, 6, 7:
		w.killService(s, w.net.chance(3))
		w.net.after(w.net.upTo(15*time.Second), func() { w.boot(s) })
	case 8, 9, 10:
		w.hang(s, 12*time.Second)
	case 11, 12:
		if s.e.state == elementLives && s.e.settled() && !s.h.stands() && s.h.proc != nil && !s.leaving {
			s.leave()
			w.net.after(12*time.Second+w.net.upTo(10*time.Second), func() { w.boot(s) })
		}
	case 13:
		w.trace("users and elements are cut off from one another")
		w.cutSessions(func(*host) int { return rnd.IntN(2) })
	case 14:
		w.cutSessions(func(*host) int { return 0 })
	case 18:
		w.loseAddress(w.users[rnd.IntN(len(w.users))])
	case 15, 16, 17:
		w.loseLinks(s)
	}
}

// split cuts the network of ASAP and ENRP.
func (w *sessions) split(group func(*host) int) {
	for _, u := range w.users {
		u.h.group = group(u.h)
	}
	w.Sim.split(group)
}

// cutSessions cuts the network of sessions.
func (w *sessions) cutSessions(group func(*host) int) {
	for _, u := range w.users {
		u.plane.group = group(u.plane)
	}
	for _, s := range w.services {
		s.h.group = group(s.h)
	}
}

// killService ends an element's process, or switches its host off.
func (w *sessions) killService(s *service, off bool) {
	if s.h.proc == nil {
		return
	}
	w.killElement(s.e)
	s.kill(off)
}

func (w *sessions) boot(s *service) {
	if s.leaving {
		s.kill(false)
	}
	if s.h.proc == nil && s.e.h.proc == nil {
		s.start()
		s.e.boot()
	}
}

func (w *sessions) hang(s *service, most time.Duration) {
	if s.h.proc != nil && !s.h.stands() && !s.leaving {
		w.pause(s.e.h, most)
		s.h.stopped, s.h.paused = s.e.h.stopped, s.e.h.paused
	}
}

// loseLinks ends some associations of an element, each side at its own time. What was on
// its way is lost, some of it with a word.
func (w *sessions) loseLinks(s *service) {
	for _, x := range slices.Clone(s.served) {
		l := x.end.l
		if !w.net.chance(2) || l.user.ended || l.user.peer == nil {
			continue
		}
		l.user.broken = true
		told := w.net.chance(2)
		if told {
			l.user.tell(&linkEvent{kind: linkSendFailed, err: errUnsent})
		}
		if !told || w.net.chance(4) { // otherwise the core has to find out by that
			w.net.after(w.net.upTo(time.Second), func() { l.user.end(&linkEvent{kind: linkDown, err: errLost}) })
		}
	}
}

// loseAddress ends all associations of a pool user, whose host has another address now.
func (w *sessions) loseAddress(u *poolUser) {
	w.trace("%v has another address", u.plane)
	for _, s := range u.list {
		if e := s.links[s.cur]; e != nil && s.up && !e.ended {
			e.broken = true
			e.end(&linkEvent{kind: linkDown, err: session.ErrHere})
		}
	}
}

func (w *sessions) healSessions() {
	w.slow = false
	w.heal()
	w.split(func(*host) int { return 0 })
	w.cutSessions(func(*host) int { return 0 })
	for _, s := range w.services {
		if s.h.proc == nil {
			w.boot(s)
		}
	}
}

const (
	// maxUnread is what a session may hold of messages that are not read, and some more.
	maxUnread   = 512
	connectWait = time.Second
	// hostileWill is how many elements that do not answer a session may try because a
	// hostile one recommends them.
	hostileWill = 2
)

// serviceBound is how long a session may be without an element while one could serve it
// all the time. It tries each of the others, asks each registrar twice, and pauses.
func (w *sessions) serviceBound() time.Duration {
	others := time.Duration(len(w.services) - 1)
	if w.cfg.Hostile > 0 {
		others += hostileWill
	}
	return others*connectWait + 2*time.Duration(len(w.servers))*resolveTime + 4*time.Second + 2*time.Second
}

// watchSessions looks at all sessions, and which elements could serve them.
func (w *sessions) watchSessions() {
	w.noteGood()
	for _, u := range w.users {
		for _, s := range u.list {
			if !s.app.done && s.core != nil {
				w.watchSession(s)
			}
		}
	}
	w.net.after(250*time.Millisecond, w.watchSessions)
}

func (w *sessions) watchSession(s *sess) {
	now := w.net.now
	good := s.u.goodFor()
	if s.away > 0 {
		d := min(now-s.away, good)
		if w.stats.longest = max(w.stats.longest, d); d > w.serviceBound() {
			w.fail("session %d has no element for %v, and for %v one could have served it", s.id, now-s.away, good)
		}
		if most := s.cfg.FailoverTime; now-s.away > most+2*time.Second && s.core.State() == session.FailingOver {
			w.fail("session %d fails over for %v, want %v at most", s.id, now-s.away, most)
		}
	}
	if s.app.got < s.app.total() {
		d := min(now-s.progress, good)
		if w.stats.stall = max(w.stats.stall, d); d > w.serviceBound()+20*time.Second {
			w.fail("session %d has no answer for %v, and for %v an element could have served it: %v", s.id, now-s.progress, good, s)
		}
	}
}

// checkExcuse: a session may only end because no element could serve it.
func (w *sessions) checkExcuse(s *sess, err error) {
	w.noteGood()
	if good := s.u.goodFor(); good > w.serviceBound() {
		w.fail("session %d ends (%v), and for %v an element could have served it", s.id, err, good)
	}
}

// goodFor is how long one and the same element could have served the user.
func (u *poolUser) goodFor() time.Duration {
	var most time.Duration
	for _, since := range u.good {
		if since > 0 {
			most = max(most, u.w.net.now-since)
		}
	}
	return most
}

// noteGood notes which elements can serve whom.
func (w *sessions) noteGood() {
	for _, s := range w.services {
		known := s.knownIn()
		for _, u := range w.users {
			since := &u.good[s.e.index]
			switch {
			case !known[u.h.group] || u.plane.group != s.h.group:
				*since = 0
			case *since == 0:
				*since = w.net.now
			}
		}
	}
}

// knownIn says in which parts of the network all registrars know the element, which serves.
func (s *service) knownIn() (known [2]bool) {
	w := s.w
	if s.h.proc == nil || s.h.stands() || s.leaving || s.hostile || s.limit > 0 || s.e.state != elementLives {
		return known
	}
	var some [2]bool
	known = [2]bool{true, true}
	for _, n := range w.nodes {
		g := n.h.group
		some[g] = some[g] || n.runs()
		known[g] = known[g] && (n.h.proc == nil || n.runs() && n.r.Ready() && n.hasAt(s.e))
	}
	return [2]bool{known[0] && some[0], known[1] && some[1]}
}

func (st sessionStats) String() string {
	return fmt.Sprintf("%d failovers, %d dialed again, at most %v without an element and %v without an answer while one could serve",
		st.failovers, st.redials, st.longest, st.stall)
}

// String says where the session stands.
func (s *sess) String() string {
	c := s.app
	text := fmt.Sprintf("state %d, element %v, %d answers of %d, next %d, acknowledged %d, querying %v %v, patience %v, choice %d",
		s.core.State(), s.target, c.got, c.total(), c.next, c.acked, c.querying, c.asks, c.patience, s.cfg.Unacked)
	if e := s.links[s.cur]; e != nil {
		text += fmt.Sprintf(", its end %v, the element's %v", e, e.peer)
	}
	return text
}

// open is how many associations the session has that is done.
func (s *sess) open() int {
	n := 0
	for _, e := range s.links {
		if s.app.done && !e.ended {
			n++
		}
	}
	return n
}

func (e *linkEnd) String() string {
	if e == nil {
		return "none"
	}
	return fmt.Sprintf("(%d to send, %d bytes under way, full %v, paused %v, %d kept, closed %v, ended %v)",
		len(e.out), e.room, e.full, e.paused, len(e.held), e.closed, e.ended)
}
