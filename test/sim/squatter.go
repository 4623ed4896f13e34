package sim

import (
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/identity"
	"github.com/rserpool/coredns-rserpool/registrar"
)

// squatter is a process at the place of an element that has crashed. It has a certificate for
// another pool, and acknowledges keep-alives all the same.
type squatter struct {
	s *Sim
	h *host
}

// squat has an element crash, and a squatter at its place for a while.
func (s *Sim) squat(e *element, d time.Duration) {
	if e.state != elementLives || e.old != nil || e.h.stands() {
		return
	}
	s.killElement(e)
	q := &squatter{s: s, h: s.net.newHost(e.h.addr, nil, e.port)}
	q.h.machine = e.h.machine
	q.h.identity = s.named(identity.Pool(domain, "elsewhere", "squatter"))
	if s.posing {
		q.h.identity = e.h.identity
	}
	q.h.begin(q)
	e.squatted = s.net.now + d
	s.trace("a squatter is at %v for %v", q.h, d)
	s.net.after(d, func() {
		q.h.end()
		e.squatted = max(e.squatted, s.net.now)
		e.boot()
	})
}

func (q *squatter) handle(ev registrar.Event) {
	r, ok := ev.(registrar.Received)
	if !ok {
		return
	}
	m, _, err := asap.Parse(r.Data)
	if m, ok := m.(*asap.EndpointKeepAlive); ok && err == nil {
		if b, err := (&asap.EndpointKeepAliveAck{Handle: m.Handle, ID: m.ID}).Append(nil); err == nil {
			q.h.send(r.Assoc, asap.PPID, b, false)
		}
	}
}
