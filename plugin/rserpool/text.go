package rserpool

import (
	"fmt"
	"strconv"

	"github.com/miekg/dns"

	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
)

// Each string of a TXT record is key=value (RFC 6763, Section 6).

func (q *query) txt(text []string) dns.RR {
	ttl := q.ttl
	if q.node.element != nil {
		ttl = q.lifetime(q.node.element)
	}
	return &dns.TXT{Hdr: header(q.name, dns.TypeTXT, ttl), Txt: text}
}

func (q *query) apexText() []string {
	pools, elements := q.space.Len()
	return []string{"pools=" + strconv.Itoa(pools), "elements=" + strconv.Itoa(elements)}
}

func poolText(p *handlespace.Pool) []string {
	return []string{
		"policy=" + p.Policy().String(),
		"elements=" + strconv.Itoa(p.Len()),
		"transport=" + transportName(transportOf(p)),
	}
}

// elementText describes an element for an operator: policy with its values, transport and
// port, home registrar, registration life.
func elementText(e *handlespace.Element) []string {
	life := "infinite"
	if e.Life >= 0 {
		life = strconv.Itoa(int(e.Life))
	}
	t, policy := &e.UserTransport, e.Policy
	policy.Extra = "" // may be longer than the 255 octets of a string
	return []string{
		"policy=" + policy.String(),
		fmt.Sprintf("transport=%s:%d", transportName(t.Type), t.Port),
		"home=" + e.Home.String(),
		"life=" + life,
	}
}
