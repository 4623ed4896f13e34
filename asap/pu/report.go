package pu

import (
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// A user limits its reports of unreachable elements (RFC 5352, Section 9.2, threat
// 8): one of an element in reportGap, because registrars ask an element no more
// often, and maxReports of all elements in the same time.
const (
	reportGap  = time.Second
	maxReports = 64
)

// sentReport is a report that was sent lately.
type sentReport struct {
	handle rserpool.PoolHandle
	id     rserpool.PEID
	at     time.Time
}

// mayReport reports whether a report may be sent now, and notes it if so.
func (k *core) mayReport(now time.Time, m *asap.EndpointUnreachable) bool {
	k.reports = slices.DeleteFunc(k.reports, func(s sentReport) bool { return now.Sub(s.at) >= reportGap })
	same := func(s sentReport) bool { return s.handle == m.Handle && s.id == m.ID }
	if len(k.reports) >= maxReports || slices.ContainsFunc(k.reports, same) {
		return false
	}
	k.reports = append(k.reports, sentReport{m.Handle, m.ID, now})
	return true
}
