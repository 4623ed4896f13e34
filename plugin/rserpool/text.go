package rserpool

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/miekg/dns"

	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
)

// info is the information about the zone, a pool or an element. It is below _rserpool, because
// programs read the TXT records of the names that they use for texts of their own. Each string
// is key=value (RFC 6763, Section 6).
func (q *query) info() dns.RR {
	ttl, text := q.ttl, []string(nil)
	switch {
	case q.node.poolName == "":
		text = zoneText(q.registrar)
	case q.node.element != nil:
		ttl, text = q.lifetime(q.node.element), elementText(q.node.element)
	case q.node.pool != nil:
		text = poolText(q.node.pool, q.node.pool.Len())
	default:
		text = declaredText(q.poolOptions)
	}
	return &dns.TXT{Hdr: header(q.name, dns.TypeTXT, ttl), Txt: text}
}

func zoneText(r registrar) []string {
	pools, elements := r.Space().Len()
	s := r.Stats()
	return []string{
		"pools=" + strconv.Itoa(pools),
		"elements=" + strconv.Itoa(elements),
		"suspects=" + strconv.FormatUint(s.Suspects, 10),
		"pools_guarded=" + strconv.FormatUint(s.PoolsGuarded, 10),
		yesNo(s.Guarded > 0, "registrar_guarded=yes", "registrar_guarded=no"),
	}
}

// poolText describes a pool. Suspects are among the elements while the pool is guarded.
func poolText(p *handlespace.Pool, elements int) []string {
	suspects, guarded := p.Doubt()
	return []string{
		"policy=" + p.Policy().String(),
		"elements=" + strconv.Itoa(elements),
		"transport=" + transportName(transportOf(p)),
		"suspects=" + strconv.Itoa(suspects),
		yesNo(guarded, "guarded=yes", "guarded=no"),
	}
}

func yesNo(b bool, yes, no string) string {
	if b {
		return yes
	}
	return no
}

// declaredText is poolText for a declared pool without elements: what the operator has said
// about it.
func declaredText(o *poolOptions) (text []string) {
	if o.rule.Policy != 0 {
		text = append(text, "policy="+o.rule.Policy.String())
	}
	text = append(text, "elements=0")
	if o.rule.Transport != 0 {
		text = append(text, "transport="+transportName(o.rule.Transport))
	}
	return text
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

// addTexts adds the configured TXT records of the pool.
func (q *query) addTexts(rep *reply) {
	for _, text := range q.txt {
		rep.msg.Answer = append(rep.msg.Answer, &dns.TXT{Hdr: header(q.name, dns.TypeTXT, q.ttl), Txt: slices.Clone(text)})
	}
}

// hinfo is the answer to ANY (RFC 8482, Section 4.2). It is also the one to HINFO, so that a
// cache which has it from the former does not contradict.
func (q *query) hinfo() dns.RR {
	return &dns.HINFO{Hdr: header(q.name, dns.TypeHINFO, q.ttl), Cpu: "RFC8482"}
}

// Limits of TXT records, in octets.
const (
	maxString = 255
	// maxText is what the strings of a record may have.
	maxText = 4096
)

// parseText reads the strings of a TXT record.
func (o *poolOptions) parseText(args []string) error {
	size, text := 0, make([]string, len(args))
	for i, arg := range args {
		if len(arg) > maxString {
			return fmt.Errorf("a string has %d octets, more than %d; divide the one that begins with %.20q", len(arg), maxString, arg)
		}
		size += 1 + len(arg)
		text[i] = strings.ReplaceAll(arg, `\`, `\\`)
	}
	if size > maxText {
		return fmt.Errorf("the strings have %d octets, more than %d; give them in several lines, which are records of their own", size, maxText)
	}
	if slices.ContainsFunc(o.txt, func(had []string) bool { return slices.Equal(had, text) }) {
		return errors.New("the same record is given twice")
	}
	o.txt = append(o.txt, text)
	return nil
}
