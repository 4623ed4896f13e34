package rserpool

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"time"

	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	rsp "github.com/rserpool/coredns-rserpool/rserpool"
)

// Clients query the A, the AAAA and perhaps the HTTPS records of a name one directly after
// the other. Such sibling queries are one request to the pool: the policy selects, and
// counts, once, and all of them are answered with the same elements.

// siblingTime is how long after a selection its sibling queries may come.
const siblingTime = time.Second

// maxAddresses is the most elements in an address answer.
const maxAddresses = 16

const (
	siblingSets = 512
	siblingWays = 8
)

// queryTypes is a set of the types that can be siblings.
type queryTypes uint8

const (
	askedA queryTypes = 1 << iota
	askedAAAA
)

// sibling is a selection that sibling queries share.
type sibling struct {
	client netip.Addr
	pool   *handlespace.Pool
	until  time.Time
	asked  queryTypes
	n      uint8
	ids    [maxAddresses]rsp.PEID
}

// siblings has the latest selections, at most siblingSets*siblingWays. Under more load it
// drops the oldest ones before siblingTime is over.
type siblings struct {
	seed maphash.Seed
	sets [siblingSets]siblingSet
}

type siblingSet struct {
	mu   sync.Mutex
	ways [siblingWays]sibling
	// selected is reused for each selection, which saves an allocation.
	selected [maxAddresses]handlespace.Selected
}

func newSiblings() *siblings { return &siblings{seed: maphash.MakeSeed()} }

// pick appends to dst at most n elements for a client's query for one address family of a
// pool: those of the sibling query, or else a new selection of the policy. The selection is
// new, too, if the client repeats a type, or if no element of the sibling query has such an
// address any more.
func (s *siblings) pick(dst []*handlespace.Element, client netip.Addr, p *handlespace.Pool, family handlespace.Families, n int, now time.Time) (_ []*handlespace.Element, remembered bool) {
	asked := askedA
	if family == handlespace.IPv6 {
		asked = askedAAAA
	}
	if !client.IsValid() {
		return appendSelected(dst, p.Select(nil, n, family)), false
	}
	set := &s.sets[maphash.Comparable(s.seed, siblingKey{client, p})%siblingSets]
	set.mu.Lock()
	defer set.mu.Unlock()

	w := set.find(client, p, now)
	if w.asked&asked == 0 && w.asked != 0 {
		if dst = w.elements(dst, family); len(dst) > 0 {
			w.asked |= asked
			return dst, true
		}
		// The pair is complete, though not from the same element.
		asked |= w.asked
	}
	selected := p.Select(set.selected[:0], n, family)
	if len(selected) == 0 {
		return dst, false
	}
	w.client, w.pool, w.asked, w.n = client, p, asked, uint8(len(selected))
	w.until = now.Add(siblingTime)
	for i, s := range selected {
		w.ids[i] = s.ID
	}
	dst = appendSelected(dst, selected)
	clear(selected) // elements that go should not be kept from the collector
	return dst, false
}

type siblingKey struct {
	client netip.Addr
	pool   *handlespace.Pool
}

// find returns the client's selection from the pool. If there is none, it returns an empty
// one, or empties the oldest, to be overwritten.
func (s *siblingSet) find(client netip.Addr, p *handlespace.Pool, now time.Time) *sibling {
	oldest := &s.ways[0]
	for i := range s.ways {
		w := &s.ways[i]
		if w.pool == p && w.client == client {
			oldest = w
			if now.Before(w.until) {
				return w
			}
			break
		}
		if w.until.Before(oldest.until) {
			oldest = w
		}
	}
	*oldest = sibling{}
	return oldest
}

// elements appends the selected elements that are still registered and have an address of
// the family, with their present values.
func (w *sibling) elements(dst []*handlespace.Element, family handlespace.Families) []*handlespace.Element {
	for _, id := range w.ids[:w.n] {
		if e := w.pool.Element(id); e != nil && e.Families()&family != 0 {
			dst = append(dst, e)
		}
	}
	return dst
}

func appendSelected(dst []*handlespace.Element, selected []handlespace.Selected) []*handlespace.Element {
	for _, s := range selected {
		dst = append(dst, s.Element)
	}
	return dst
}
