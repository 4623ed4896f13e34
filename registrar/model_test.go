package registrar

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	"github.com/rserpool/coredns-rserpool/registrar/internal/ledger"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// model derives what must be registered from the events and actions only, without the
// registrar's state. It is slow and plain: after each event it goes through the whole
// handlespace.
type model struct {
	r        *Registrar
	now      time.Time
	msg      asap.Message                 // that has come last, nil if the last event was another one
	up       map[AssocID][]netip.AddrPort // peers' addresses
	tcp, udp map[AssocID]bool
	asked    map[asking][]*asap.Registration // the latest is the last
	elements map[modelKey]*belief
	leaving  map[asking]time.Time // deregistrations without an answer yet, and when they came
	// suspects are elements that were silent, and are not in the handlespace: they are
	// remembered, or removed.
	suspects map[modelKey]*belief
	// acked is the element that has acknowledged a keep-alive just now; wasExpired tells that
	// its life was over.
	acked      modelKey
	wasExpired bool
	byHost     map[asking]bool // whether those were from the element's host, whose addresses may be others by now
}

type modelKey struct {
	handle rserpool.PoolHandle
	id     rserpool.PEID
}

// asking is the key of registrations without a response yet.
type asking struct {
	assoc AssocID
	key   modelKey
}

// belief is an element that the model takes for registered.
type belief struct {
	reg       *asap.Registration
	expires   time.Time // zero for never
	assoc     AssocID
	host      []netip.AddrPort // of assoc when it was last up
	port      uint16           // of assoc at the registration
	orphan    bool             // assoc has ended, or a keep-alive was not delivered, and nothing has shown since that the element lives
	waiting   AssocID          // where a keep-alive is unanswered, 0 if none is
	since     time.Time        // when the first of those was sent
	suspect   bool             // it was away, and is back since its pool is guarded
	reporters []netip.Addr     // who found it unreachable
	former    map[AssocID]bool // associations that have owned it
}

func newModel(r *Registrar) *model {
	return &model{r: r, up: map[AssocID][]netip.AddrPort{}, tcp: map[AssocID]bool{}, udp: map[AssocID]bool{}, asked: map[asking][]*asap.Registration{}, elements: map[modelKey]*belief{}, leaving: map[asking]time.Time{}, suspects: map[modelKey]*belief{}, byHost: map[asking]bool{}}
}

// follow checks an event and the registrar's actions.
func (m *model) follow(now time.Time, ev Event, acts []Action) error {
	m.now, m.acked = now, modelKey{}
	msg := m.event(ev)
	m.msg = msg
	gone := m.vanished(msg)
	// What was deregistered goes first: the claim to it is granted before the
	// response is sent.
	for _, a := range acts {
		if s, ok := a.(*Send); ok {
			if err := m.deregistered(s, acts); err != nil {
				return err
			}
		}
	}
	for _, a := range acts {
		if s, ok := a.(*Send); ok {
			if err := m.sent(s, msg); err != nil {
				return err
			}
		}
	}
	for _, a := range acts {
		if a, ok := a.(Removed); ok {
			rem := ev.(Remove)
			if there := m.space(modelKey{rem.Handle, rem.ID}) != nil; there != (a.Result == RemovalReplaced) {
				return fmt.Errorf("the removal of %v of %q has result %d, and the element is there: %t", rem.ID, rem.Handle, a.Result, there)
			}
		}
	}
	for key, why := range gone {
		if b := m.elements[key]; b != nil && why != "" && m.space(key) == nil {
			return fmt.Errorf("element %v of %q is gone: %s", key.id, key.handle, why)
		}
	}
	if err := m.returned(); err != nil {
		return err
	}
	return m.compare(ev)
}

// returned enters the suspects that are in the handlespace again. They are so because their
// pool is guarded: everybody else in it is silent, or serves nobody.
func (m *model) returned() error {
	for key, b := range m.suspects {
		if m.space(key) == nil {
			continue
		}
		b.suspect = true
		m.elements[key] = b
		delete(m.suspects, key)
		if key == m.acked {
			m.heard(b, b.waiting)
		}
	}
	for key, b := range m.elements {
		if !b.suspect || m.space(key) == nil {
			continue
		}
		for other, o := range m.elements {
			if other.handle == key.handle && m.space(other) != nil && !m.aside(other) && !o.suspect && !m.silent(o) && handlespace.Serves(&o.reg.Element.Policy) {
				return fmt.Errorf("suspect %v of %q is served beside %v, which lives", key.id, key.handle, other.id)
			}
		}
	}
	return nil
}

// silent reports whether an element may be a suspect.
func (m *model) silent(b *belief) bool {
	return b.orphan || b.waiting != 0 && m.now.Sub(b.since) >= m.r.cfg.Timers.KeepAliveTimeout
}

// heard: an element has acknowledged a keep-alive over an association. If it was silent, it may
// have tried to register again in vain, and its life begins anew.
func (m *model) heard(b *belief, over AssocID) {
	m.wasExpired = m.expired(b)
	if m.wasExpired && (m.silent(b) || b.suspect) {
		b.expires = m.now.Add(time.Duration(b.reg.Element.Life) * time.Second)
	}
	b.waiting, b.orphan, b.suspect = 0, false, false
	b.assoc, b.host = over, slices.Clone(m.up[over])
}

// each calls f for all elements that are, or may be, registered.
func (m *model) each(f func(*belief)) {
	for _, b := range m.elements {
		f(b)
	}
	for _, b := range m.suspects {
		f(b)
	}
}

// find returns an element that is, or may be, registered.
func (m *model) find(key modelKey) *belief {
	if b := m.elements[key]; b != nil {
		return b
	}
	return m.suspects[key]
}

// event enters an event, and returns its message.
func (m *model) event(ev Event) asap.Message {
	switch ev := ev.(type) {
	case AssocUp:
		if _, up := m.up[ev.Assoc]; !up && ev.Assoc != 0 {
			m.up[ev.Assoc], m.tcp[ev.Assoc], m.udp[ev.Assoc] = slices.Clone(ev.Peer), ev.Via == rserpool.ViaTCP, ev.Via == rserpool.ViaUDP
		}
	case AssocAddrs:
		if old, up := m.up[ev.Assoc]; up {
			peer := slices.Clone(ev.Peer)
			if i := slices.Index(peer, old[0]); i > 0 { // where the peer has proved to be
				peer[0], peer[i] = peer[i], peer[0]
			}
			m.up[ev.Assoc] = peer
			m.each(func(b *belief) {
				if b.assoc == ev.Assoc {
					b.host = slices.Clone(ev.Peer)
				}
			})
		}
	case AssocDown:
		delete(m.up, ev.Assoc)
		m.each(func(b *belief) {
			if b.assoc == ev.Assoc || b.waiting == ev.Assoc {
				b.orphan = true
			}
		})
		for a := range m.asked {
			if a.assoc == ev.Assoc {
				delete(m.asked, a)
			}
		}
		for a := range m.leaving {
			if a.assoc == ev.Assoc {
				delete(m.leaving, a)
				delete(m.byHost, a)
			}
		}
	case SendFailed:
		msg, _, _ := asap.Parse(ev.Data)
		if ka, ok := msg.(*asap.EndpointKeepAlive); ok {
			if b := m.elements[modelKey{ka.Handle, ka.ID}]; b != nil && b.waiting == ev.Assoc {
				b.orphan = true
			}
		}
	case Remove:
		if b := m.elements[modelKey{ev.Handle, ev.ID}]; b != nil {
			b.orphan = true
		}
	case Received:
		return m.received(ev)
	}
	return nil
}

func (m *model) received(ev Received) asap.Message {
	peer, up := m.up[ev.Assoc]
	if !up || ev.PPID != asap.PPID && ev.PPID != 0 && !m.tcp[ev.Assoc] {
		return nil
	}
	msg, _, err := asap.Parse(ev.Data)
	if err != nil {
		reply, _ := asap.ErrorReply(err)
		refusal, ok := reply.(*asap.RegistrationResponse)
		if !ok {
			return nil
		}
		msg = &asap.Registration{Handle: refusal.Handle, Element: rserpool.PoolElement{ID: refusal.ID}}
	}
	switch msg := msg.(type) {
	case *asap.Registration:
		at := asking{ev.Assoc, modelKey{msg.Handle, msg.Element.ID}}
		m.asked[at] = append(m.asked[at], msg)
	case *asap.EndpointKeepAliveAck:
		key := modelKey{msg.Handle, msg.ID}
		if b := m.find(key); b != nil && b.waiting == ev.Assoc {
			m.acked = key
			if m.elements[key] != nil { // otherwise it may have been removed
				m.heard(b, ev.Assoc)
			}
		}
	case *asap.Deregistration:
		if at := (asking{ev.Assoc, modelKey{msg.Handle, msg.ID}}); m.leaving[at].IsZero() {
			m.leaving[at] = m.now
			b := m.elements[at.key]
			// It may be supervised over the association that has carried the last keep-alive.
			m.byHost[at] = b != nil && (hasAddr(b.host, peer[0].Addr()) || hasAddr(m.up[b.waiting], peer[0].Addr()))
		}
	case *asap.EndpointUnreachable:
		if b := m.find(modelKey{msg.Handle, msg.ID}); b != nil && !slices.Contains(b.reporters, peer[0].Addr()) {
			b.reporters = append(b.reporters, peer[0].Addr())
		}
	}
	return msg
}

// sent checks a message that the registrar has sent. msg is the one that it has just
// received.
func (m *model) sent(s *Send, msg asap.Message) error {
	out, _, err := asap.Parse(s.Data)
	if err != nil {
		return fmt.Errorf("sent what cannot be read: %w (%x)", err, s.Data)
	}
	switch out := out.(type) {
	case *asap.RegistrationResponse:
		return m.registered(s.Assoc, out, msg)
	case *asap.EndpointKeepAlive:
		if b := m.find(modelKey{out.Handle, out.ID}); b != nil {
			if b.waiting == 0 {
				b.since = m.now
			}
			b.waiting = s.Assoc
		}
	case *asap.HandleResolutionResponse:
		if q, ok := msg.(*asap.HandleResolution); ok && q.Handle == out.Handle {
			return m.resolved(q, out)
		}
	}
	return nil
}

func (m *model) registered(assoc AssocID, out *asap.RegistrationResponse, msg asap.Message) error {
	key := modelKey{out.Handle, out.ID}
	at := asking{assoc, key}
	asked := m.asked[at]
	delete(m.asked, at)
	if len(asked) == 0 {
		return fmt.Errorf("registration of %v was answered to association %d, which has not asked", key, assoc)
	}
	reg := asked[len(asked)-1]
	if out.Reject {
		if reg == msg { // what was refused at once leaves an earlier one waiting
			m.asked[at] = asked[:len(asked)-1]
		}
		return nil
	}
	if rserpool.HasCause(out.Causes, rserpool.CauseNonUniquePEIdentifier) { // without effect
		if reg == msg {
			m.asked[at] = asked[:len(asked)-1]
		}
		if b := m.elements[key]; b == nil || b.assoc == assoc || !b.former[assoc] {
			return fmt.Errorf("association %d is told that another process has %v, which is not so", assoc, key)
		}
		return nil
	}
	peer := m.up[assoc]
	if b := m.elements[key]; b != nil && b.assoc != assoc && !b.orphan && !m.expired(b) && !hasAddr(b.host, peer[0].Addr()) && !m.reported(b, key, msg) && !(key == m.acked && m.wasExpired) &&
		(b.waiting == 0 || m.now.Sub(b.since) < m.r.cfg.Timers.KeepAliveTimeout) {
		return fmt.Errorf("element %v of association %d at %v, which lives, was given to association %d at %v", key, b.assoc, b.host, assoc, peer)
	}
	if t := reg.Element.UserTransport; m.udp[assoc] && len(t.Addrs) == 1 && !hasAddr(peer, t.Addrs[0]) {
		seen := *reg // from behind a NAT
		seen.Element.UserTransport.Addrs = []netip.Addr{peer[0].Addr()}
		reg = &seen
		if len(out.Causes) != 1 {
			return fmt.Errorf("element %v is not told that it is at %v and not at %v", key, peer[0], t)
		}
	}
	for _, addr := range reg.Element.UserTransport.Addrs {
		if !hasAddr(peer, addr) {
			return fmt.Errorf("element %v of association %d at %v is registered at %v, which is not confirmed", key, assoc, peer, addr)
		}
	}
	b := &belief{reg: reg, assoc: assoc, host: slices.Clone(peer), port: peer[0].Port(), former: map[AssocID]bool{}}
	if old := m.find(key); old != nil {
		b.reporters, b.former = old.reporters, old.former
		b.former[old.assoc] = true
		if old.waiting != 0 { // it may have been supervised over that one
			b.former[old.waiting] = true
		}
	}
	if reg.Element.Life > 0 {
		b.expires = m.now.Add(time.Duration(reg.Element.Life) * time.Second)
	}
	m.elements[key] = b
	delete(m.suspects, key)
	return nil
}

// resolved checks a response: as many elements as asked for and available, none twice,
// all of them registered.
func (m *model) resolved(q *asap.HandleResolution, out *asap.HandleResolutionResponse) error {
	want := m.r.cfg.Limits.DefaultItems
	if q.HasItems && q.Items > 0 {
		want = min(int(q.Items), m.r.cfg.Limits.ResolutionItems)
	}
	there := 0
	for key, b := range m.elements {
		if p := b.reg.Element.Policy; key.handle == q.Handle && !m.aside(key) && (p.Type != rserpool.WeightedRoundRobin || p.Weight > 0) {
			there++
		}
	}
	if len(out.Elements) != min(want, there) {
		return fmt.Errorf("answer for %q has %d elements, want %d of %d", q.Handle, len(out.Elements), want, there)
	}
	seen := map[rserpool.PEID]bool{}
	for _, e := range out.Elements {
		b := m.elements[modelKey{q.Handle, e.ID}]
		if b == nil || seen[e.ID] || !e.UserTransport.Equal(b.reg.Element.UserTransport) || e.Policy != b.reg.Element.Policy {
			return fmt.Errorf("answer for %q has %+v, which is not so (registered: %v, twice: %v)", q.Handle, e, b != nil, seen[e.ID])
		}
		seen[e.ID] = true
	}
	return nil
}

// compare: the handlespace has the elements that the model knows.
func (m *model) compare(ev Event) error {
	n := 0
	for p := range m.r.space.Pools() {
		for _, e := range p.Elements(nil) {
			n++
			key := modelKey{p.Handle(), e.ID}
			b := m.elements[key]
			switch _, tick := ev.(Tick); {
			case b == nil:
				return fmt.Errorf("element %v of %q is there and was not granted, or was deregistered", e.ID, p.Handle())
			case e.Policy != b.reg.Element.Policy || e.Life != b.reg.Element.Life:
				return fmt.Errorf("element %v of %q has %v, life %d; want %v, %d", e.ID, p.Handle(), e.Policy, e.Life, b.reg.Element.Policy, b.reg.Element.Life)
			case tick && m.expired(b) && b.waiting == 0 && !b.orphan && !b.suspect:
				return fmt.Errorf("element %v of %q is there after its life", e.ID, p.Handle())
			}
		}
	}
	for key := range m.elements {
		if m.aside(key) { // by a rule that is younger than its registration
			n++
		}
	}
	if n != len(m.elements) {
		return fmt.Errorf("handlespace has %d elements, want %d", n, len(m.elements))
	}
	return nil
}

func (m *model) expired(b *belief) bool { return !b.expires.IsZero() && !b.expires.After(m.now) }

// space returns an element that is in the handlespace, or set aside.
func (m *model) space(key modelKey) *handlespace.Element {
	if p := m.r.space.Pool(key.handle); p != nil && !m.aside(key) {
		return p.Element(key.id)
	}
	if m.aside(key) {
		return m.r.ledger.Find(key.handle, key.id).PE()
	}
	return nil
}

func (m *model) aside(key modelKey) bool {
	x := m.r.ledger.Find(key.handle, key.id)
	return x != nil && x.Aside() && x.State() != ledger.Suspect
}
