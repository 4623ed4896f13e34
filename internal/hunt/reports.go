package hunt

import (
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// The limits of reports of unreachable elements (RFC 5352, Section 9.2, threat 8): one of
// an element in ReportGap, because registrars ask an element no more often, and MaxReports
// of all elements in the same time.
const (
	ReportGap  = time.Second
	MaxReports = 64
)

// Reports limits the reports of one endpoint. The zero value has sent none.
type Reports struct{ sent []report }

// report is a report that was sent lately.
type report struct {
	handle rserpool.PoolHandle
	id     rserpool.PEID
	at     time.Time
}

// May reports whether a report of an element may be sent now, and notes it if so.
func (r *Reports) May(now time.Time, handle rserpool.PoolHandle, id rserpool.PEID) bool {
	r.sent = slices.DeleteFunc(r.sent, func(s report) bool { return now.Sub(s.at) >= ReportGap })
	same := func(s report) bool { return s.handle == handle && s.id == id }
	if len(r.sent) >= MaxReports || slices.ContainsFunc(r.sent, same) {
		return false
	}
	r.sent = append(r.sent, report{handle, id, now})
	return true
}
