package registrar

import (
	"time"

	"github.com/rserpool/coredns-rserpool/enrp"
)

// transfer is a handlespace, or one registrar's part of it, on its way in parts
// from one registrar to another. A sender that always has one part more, or a
// receiver that never asks for the next one, must not hold the other for ever.
type transfer struct {
	began    time.Time
	elements int // named so far
}

const (
	// transferTime is how long a transfer may take, and transferPerElement how
	// much longer for each element in it; transferMost is the most. A million
	// elements take 6 s on a fast network, and 4 minutes at 15 Mbit/s.
	transferTime       = 20 * time.Second
	transferPerElement = time.Millisecond
	transferMost       = 5 * time.Minute
	// transferTwice is how many times Limits.Elements a transfer may name
	// elements: elements may move meanwhile, and are named again.
	transferTwice = 2
)

// tooLong reports whether the transfer takes too much time.
func (t *transfer) tooLong(now time.Time) bool {
	return now.Sub(t.began) > min(transferTime+time.Duration(t.elements)*transferPerElement, transferMost)
}

// goesOn takes in a part, and reports whether the next one is worth asking for.
func (t *transfer) goesOn(r *Registrar, m *enrp.HandleTableResponse) bool {
	n := 0
	for i := range m.Pools {
		n += len(m.Pools[i].Elements)
	}
	t.elements += n
	return n > 0 && t.elements <= transferTwice*r.ledger.Limits.Elements && !t.tooLong(r.now)
}

// giveUpTransfer counts and tells a transfer from p that does not come to an end.
func (r *Registrar) giveUpTransfer(p *peer, t *transfer) {
	r.stats.TransfersAbandoned++
	r.logf(true, "registrar %v does not come to an end with its part of the handlespace: given up after %d elements in %v",
		p.id, t.elements, r.now.Sub(t.began).Round(time.Millisecond))
}
