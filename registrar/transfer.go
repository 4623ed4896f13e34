package registrar

import (
	"time"

	"github.com/rserpool/coredns-rserpool/enrp"
)

// transfer is the transfer of a handlespace, or of one registrar's part of it, in
// several messages. A sender that never comes to the end, or a receiver that never asks
// for the next part, must not occupy the other forever.
type transfer struct {
	began    time.Time
	elements int // named so far
}

const (
	// transferTime is how long a transfer may take, transferPerElement how much longer
	// for each element in it, and transferMost the limit of both. A million elements
	// take 6 s on a fast network, and 4 minutes at 15 Mbit/s.
	transferTime       = 20 * time.Second
	transferPerElement = time.Millisecond
	transferMost       = 5 * time.Minute
	// transferTwice times Limits.Elements is how many elements a transfer may name:
	// elements that move during the transfer are named again.
	transferTwice = 2
)

// tooLong reports whether the transfer takes too long.
func (t *transfer) tooLong(now time.Time) bool {
	return now.Sub(t.began) > min(transferTime+time.Duration(t.elements)*transferPerElement, transferMost)
}

// goesOn counts a part, and reports whether to ask for the next one.
func (t *transfer) goesOn(r *Registrar, m *enrp.HandleTableResponse) bool {
	n := 0
	for i := range m.Pools {
		n += len(m.Pools[i].Elements)
	}
	t.elements += n
	return n > 0 && t.elements <= transferTwice*r.ledger.Limits.Elements && !t.tooLong(r.now)
}

// giveUpTransfer counts and logs a transfer that does not end.
func (r *Registrar) giveUpTransfer(p *peer, t *transfer) {
	r.stats.TransfersAbandoned++
	r.logf(true, "registrar %v does not end its handle table: given up after %d elements in %v",
		p.id, t.elements, r.now.Sub(t.began).Round(time.Millisecond))
}
