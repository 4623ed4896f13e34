package registrar

import (
	"fmt"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
)

// deregistered checks the response to a deregistration. It may be granted to the
// element, to an association that has owned it, and to another process of its host if
// the element does not acknowledge. An association that has owned the element is told
// of its end as well.
func (m *model) deregistered(s *Send, acts []Action) error {
	msg, _, _ := asap.Parse(s.Data)
	out, ok := msg.(*asap.DeregistrationResponse)
	if !ok {
		return nil
	}
	key := modelKey{out.Handle, out.ID}
	at := asking{s.Assoc, key}
	since := m.leaving[at]
	byHost := m.byHost[at]
	delete(m.leaving, at)
	delete(m.byHost, at)
	b := m.elements[key]
	switch {
	case len(out.Causes) > 0 || b == nil:
		return nil
	case m.space(key) != nil && !grants(acts, key):
		if since.IsZero() && m.silent(b) { // who was superseded may register again
			return nil
		}
		if !b.former[s.Assoc] || b.assoc == s.Assoc {
			return fmt.Errorf("element %v of association %d stays, though association %d has deregistered it", key, b.assoc, s.Assoc)
		}
		delete(b.former, s.Assoc)
		return nil
	case since.IsZero(), m.mayLeave(s.Assoc, b, key, since, byHost):
		if !since.IsZero() {
			delete(m.elements, key)
		}
		return nil
	}
	for _, a := range acts { // granted with that of another process, which may
		if s, ok := a.(*Send); ok && !m.leaving[asking{s.Assoc, key}].IsZero() && m.mayLeave(s.Assoc, b, key, m.now, false) {
			delete(m.elements, key)
			return nil
		}
	}
	return fmt.Errorf("element %v of association %d at %v, which lives, was deregistered by association %d at %v", key, b.assoc, b.host, s.Assoc, m.up[s.Assoc])
}

// mayLeave reports whether a deregistration that came at a time may be granted.
func (m *model) mayLeave(a AssocID, b *belief, key modelKey, came time.Time, byHost bool) bool {
	peer := m.up[a]
	asked := came
	if b.waiting != 0 && b.since.After(came) {
		asked = b.since
	}
	port := b.port
	if t := &b.reg.Element.ASAPTransport; t.Present() {
		port = t.Port
	}
	gone := m.expired(b) || b.orphan || m.reported(b, key, m.msg) || b.waiting != 0 && m.now.Sub(b.since) >= m.r.cfg.Timers.KeepAliveTimeout
	silent := b.waiting != 0 && m.now.Sub(asked) >= farewellTime
	return b.assoc == a || (byHost || hasAddr(b.host, peer[0].Addr())) && (peer[0].Port() == port || gone || silent)
}

// vanished lists the elements that are no longer in the handlespace, each with the
// reason why that is wrong unless a Deregistration was granted; "" if it is right.
func (m *model) vanished(msg asap.Message) map[modelKey]string {
	gone := map[modelKey]string{}
	for key, b := range m.elements {
		if m.space(key) != nil {
			continue
		}
		switch {
		case b.orphan, m.expired(b), key == m.acked && m.wasExpired:
			gone[key] = ""
		case b.waiting != 0 && m.now.Sub(b.since) >= m.r.cfg.Timers.KeepAliveTimeout:
			gone[key] = ""
		case m.reported(b, key, msg):
			gone[key] = ""
		default:
			gone[key] = fmt.Sprintf("it lives, waiting %d, reported by %v", b.waiting, b.reporters)
		}
		if gone[key] == "" {
			m.suspects[key] = b
			delete(m.elements, key)
		}
	}
	return gone
}

// reported reports whether a message is the report that exceeds the threshold.
func (m *model) reported(b *belief, key modelKey, msg asap.Message) bool {
	rep, ok := msg.(*asap.EndpointUnreachable)
	return ok && modelKey{rep.Handle, rep.ID} == key && len(b.reporters) > m.r.cfg.Timers.MaxBadPEReport
}

// grants reports whether the registration of an element is granted.
func grants(acts []Action, key modelKey) bool {
	for _, a := range acts {
		if s, ok := a.(*Send); ok {
			msg, _, _ := asap.Parse(s.Data)
			if r, ok := msg.(*asap.RegistrationResponse); ok && !r.Reject && key == (modelKey{r.Handle, r.ID}) {
				return true
			}
		}
	}
	return false
}
