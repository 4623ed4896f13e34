package registrar

import (
	"net/netip"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
)

// report is a client's report that it could not reach an element.
type report struct {
	by netip.Addr
	at time.Time
}

// onUnreachable: RFC 5352, Section 3.5. The element is sent a keep-alive at once (but
// at most once a second, however many clients report it), and becomes a suspect if it does
// not acknowledge. An element that acknowledges is removed only if MaxBadPEReport is set,
// and more than so many clients report it. In the RFC that is a SHOULD. But a registrar
// cannot authenticate clients, and a few hostile ones could empty every pool. An element for
// whose home this registrar stands in is only asked. For a foreign element see inquiry.
func (r *Registrar) onUnreachable(a *client, m *asap.EndpointUnreachable) {
	if !r.mayAsk(a) {
		r.refuseReport(a)
		return
	}
	r.stats.Unreachable++
	e := r.find(m.Handle, m.ID)
	switch most := r.cfg.Timers.MaxBadPEReport; {
	case e == nil:
		if f := r.findForeign(m.Handle, m.ID); f != nil && !f.Aside() {
			r.inquire(f)
		}
	case most > 0 && !e.standsIn() && r.countReport(e, a) > most:
		r.remove(e, RemovedReported)
	default:
		r.check(e)
	}
}

// countReport adds a report and returns how many there are. A client counts once,
// however often it reports. Each report is dropped after BadPEReportDecay.
func (r *Registrar) countReport(e *element, a *client) int {
	by := reporter(a.primary())
	fresh, again := e.reports[:0], false
	for _, rep := range e.reports {
		if r.now.Sub(rep.at) < r.cfg.Timers.BadPEReportDecay {
			fresh = append(fresh, rep)
			again = again || rep.by == by
		}
	}
	e.reports = fresh
	if !again {
		e.reports = append(e.reports, report{by, r.now})
		r.logf(false, "pool element %v of pool %s is reported as unreachable by %v", e.ID(), quote(e.Handle()), a.primary())
	}
	return len(e.reports)
}

// reporter returns what counts as one client: an IPv4 address, or an IPv6 network of 64
// bits, all of whose addresses may belong to one host.
func reporter(addr netip.Addr) netip.Addr {
	if addr.Is6() {
		if p, err := addr.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return addr
}
