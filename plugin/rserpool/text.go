package rserpool

import (
	"fmt"
	"strconv"

	"github.com/miekg/dns"

	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
)

// txt is the information about the zone, a pool or an element. It is below _rserpool, because
// programs read the TXT records of the names that they use for texts of their own. Each string
// is key=value (RFC 6763, Section 6).
func (q *query) txt() dns.RR {
	ttl, text := q.ttl, []string(nil)
	switch {
	case q.node.poolName == "":
		text = q.zoneText()
	case q.node.element != nil:
		ttl, text = q.lifetime(q.node.element), elementText(q.node.element)
	case q.node.pool != nil:
		text = poolText(q.node.pool)
	default:
		text = []string{"elements=0"}
	}
	return &dns.TXT{Hdr: header(q.name, dns.TypeTXT, ttl), Txt: text}
}

func (q *query) zoneText() []string {
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
