package lookup

import (
	"net"
	"net/netip"
	"time"

	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
)

// Kind is a type of question that can be one of a lookup's.
type Kind uint8

// The kinds of questions, by the type of their records.
const (
	A Kind = iota
	AAAA
	SRV
	NAPTR
	HTTPS
	SVCB
	kinds
)

// Families are those of the elements that can answer the question.
func (k Kind) Families() handlespace.Families {
	switch k {
	case A:
		return handlespace.IPv4
	case AAAA:
		return handlespace.IPv6
	default:
		return handlespace.IPv4 | handlespace.IPv6
	}
}

// Origin is where a question comes from. Without a valid address, it is a lookup of its own.
type Origin struct {
	Addr netip.Addr
	Port uint16
	TCP  bool
	// Request is the same for all questions that come of one question in a datagram, nil
	// for other questions: a plugin such as dns64 asks questions of its own.
	Request *net.UDPAddr
}

// Pick appends to dst the elements for a client's question about a pool: those of its
// lookup, or else at most n that the policy selects now. A selection answers each kind of
// question once. It is new, too, if no element of the lookup is registered and has an
// address of the families.
func (s *Memory) Pick(dst []*handlespace.Element, c *Origin, p *handlespace.Pool, k Kind, families handlespace.Families, n int, now time.Time) (_ []*handlespace.Element, reused bool) {
	if !c.Addr.IsValid() {
		return appendSelected(dst, p.Select(nil, n, families)), false
	}
	id := s.id(c, p)
	b := s.bucket(id)
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.pick(dst, c, id, p, k, families, n, int64(now.Sub(s.start)))
}

func (s *bucket) pick(dst []*handlespace.Element, c *Origin, id uint64, p *handlespace.Pool, k Kind, families handlespace.Families, n int, now int64) (_ []*handlespace.Element, reused bool) {
	o := s.find(id, now)
	if k == A && c.Request != nil && s.empty == c.Request && s.emptyPair == id {
		// It is the rest of the AAAA question: dns64 makes its answer of it.
		k, s.empty = AAAA, nil
	}
	old, shared := s.share(o, c, k, now)
	if shared {
		if dst = s.elements(dst, p, old, families); len(dst) > 0 {
			s.answer(old, c, k)
			return dst, true
		}
	}
	selected := p.Select(s.selected, min(n, s.width), families)
	if len(selected) == 0 {
		if k == AAAA {
			s.empty, s.emptyPair = c.Request, id
		}
		return dst, false
	}
	w := s.add(o, selected, c.Port, now)
	if shared {
		s.replace(old, w, c, k)
	}
	s.answer(w, c, k)
	dst = appendSelected(dst, selected)
	for i := range selected { // elements that go should not be kept from the collector
		selected[i].Element = nil // faster than clear for the few of a selection
	}
	return dst, false
}

// elements appends the selected elements that are still registered and have an address of
// the families, with their present values.
func (s *bucket) elements(dst []*handlespace.Element, p *handlespace.Pool, w uint8, families handlespace.Families) []*handlespace.Element {
	for _, id := range s.of(w) {
		if e := p.Element(id); e != nil && e.Families()&families != 0 {
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
