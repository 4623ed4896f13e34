package rserpool

import (
	"cmp"
	"fmt"
	"iter"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/miekg/dns"

	"github.com/rserpool/coredns-rserpool/internal/ascii"
	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	rsp "github.com/rserpool/coredns-rserpool/rserpool"
)

// DNS-SD (RFC 6763): a pool with a configured service is an instance of it.

// serviceType is a type of services, such as _http._tcp. The zero value is none.
type serviceType struct{ service, proto string }

func (t serviceType) labels() string { return t.service + "." + t.proto }

// browseLabel is below _udp; the names for browsing are below it (RFC 6763, Sections 9 and
// 11).
const browseLabel = "_dns-sd"

// typeOf returns the service type of the instance that a pool is, if it is one. All
// transports but TCP are _udp (RFC 6763, Section 7).
func (o *poolOptions) typeOf(p *handlespace.Pool) serviceType {
	t := transportOf(p)
	switch {
	case o.dnssd == "" || !t.Known() || t == rsp.Opaque || !isInstance(string(p.Handle())):
		return serviceType{}
	case t == rsp.TCP:
		return serviceType{o.dnssd, "_tcp"}
	}
	return serviceType{o.dnssd, "_udp"}
}

// isInstance reports whether a pool handle can be the name of an instance, which is one
// label of text without control characters (RFC 6763, Section 4.1.1).
func isInstance(handle string) bool {
	return handle != "" && len(handle) <= maxLabel && utf8.ValidString(handle) &&
		!strings.ContainsFunc(handle, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// serviceForm is the form of a service name (RFC 6335, Section 5.1), letters apart.
var serviceForm = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)

// parseDNSSD reads the value of the option dnssd.
func (o *poolOptions) parseDNSSD(args []string) error {
	if args[0] == "off" {
		o.dnssd = ""
		return nil
	}
	name := strings.ToLower(strings.TrimPrefix(args[0], "_"))
	if len(name) > 15 || !serviceForm.MatchString(name) || !strings.ContainsFunc(name, func(r rune) bool { return r >= 'a' }) {
		return fmt.Errorf("%q is not the name of a service, such as http: up to 15 letters, digits and hyphens", args[0])
	}
	o.dnssd = "_" + name
	return nil
}

// findBrowse finds the node of a name for browsing; rel are the labels of the name before
// the zone's. Its kind is nodeNone if there is none.
func (z *zone) findBrowse(s *handlespace.Space, rel string) node {
	proto, rest := "_tcp", ""
	switch {
	case hasSuffixName(rel, "_tcp."):
	case hasSuffixName(rel, "_udp."):
		proto = "_udp"
	default:
		return node{}
	}
	if rest = rel[:len(rel)-len("_udp.")]; rest == "" {
		return node{kind: nodeEmpty}
	}
	if proto == "_udp" && hasSuffixName(rest, browseLabel+".") {
		return findDomain(rest[:len(rest)-len(browseLabel+".")])
	}
	for _, service := range z.pools.browser.services {
		if !hasSuffixName(rest, service+".") {
			continue
		}
		t := serviceType{service, proto}
		instance := rest[:len(rest)-len(service+".")]
		if instance == "" {
			return node{kind: nodeType, service: t}
		}
		var buf [maxLabel]byte
		if handle, ok := decodeLabel(buf[:0], instance); ok {
			p, _ := s.Lookup(handle)
			if o := z.optionsAt(p, handle); o != nil && (p == nil && o.dnssd == service || p != nil && o.typeOf(p) == t) {
				return node{kind: nodeInstance, pool: p, options: o}
			}
		}
	}
	return node{}
}

// findDomain finds the node of a name below _dns-sd._udp. The zone is recommended for
// browsing, but not for registration by DNS.
func findDomain(rel string) node {
	if rel == "" {
		return node{kind: nodeEmpty}
	}
	for _, name := range [...]string{"b.", "db.", "lb."} {
		if ascii.EqualFold(rel, name) {
			return node{kind: nodeDomain}
		}
	}
	if ascii.EqualFold(rel, "_services.") {
		return node{kind: nodeTypes}
	}
	return node{}
}

// decodeLabel reads rel, one label in presentation form with its dot, into buf. Unlike the
// labels of pools, it may contain a dot.
func decodeLabel(buf []byte, rel string) (_ []byte, ok bool) {
	for i := 0; i < len(rel); i++ {
		c := rel[i]
		switch c {
		case '.':
			return buf, i == len(rel)-1
		case '\\':
			var size int
			if c, size = ascii.Unescape(rel[i+1:]); size == 0 {
				return nil, false
			}
			i += size
		}
		if len(buf) == maxLabel {
			return nil, false
		}
		buf = append(buf, c)
	}
	return nil, false
}

// instanceName returns the name of a pool as an instance: its handle is one label.
func instanceName(h rsp.PoolHandle, t serviceType, zone string) (_ string, ok bool) {
	var wire [maxLabel + 2]byte
	wire[0] = byte(len(h))
	n := 1 + copy(wire[1:], h)
	label, _, err := dns.UnpackDomainName(wire[:n+1], 0)
	if err != nil {
		return "", false
	}
	name := below(label+t.labels(), zone)
	return name, wireLen(name) <= maxName
}

// browse adds the records of a name for browsing.
func (q *query) browse(rep *reply, qtype uint16) {
	switch q.node.kind {
	case nodeDomain:
		if qtype == dns.TypePTR {
			q.addPointer(rep, q.zone.name)
		}
	case nodeTypes:
		if qtype == dns.TypePTR {
			q.addTypes(rep)
		}
	case nodeType:
		if qtype == dns.TypePTR {
			q.addInstances(rep, q.node.service)
		}
	case nodeInstance:
		switch qtype {
		case dns.TypeSRV:
			q.addServices(rep)
		case dns.TypeTXT:
			if q.addTexts(rep); len(q.txt) == 0 {
				rep.msg.Answer = append(rep.msg.Answer, noText(q.name, q.ttl))
			}
		}
	default:
	}
}

// noText is the TXT record of an instance without texts (RFC 6763, Section 6.1).
func noText(owner string, ttl uint32) dns.RR {
	return &dns.TXT{Hdr: header(owner, dns.TypeTXT, ttl), Txt: []string{""}}
}

func compareTypes(a, b serviceType) int { return cmp.Compare(a.labels(), b.labels()) }

// addPointer adds a PTR record.
func (q *query) addPointer(rep *reply, target string) {
	rep.msg.Answer = append(rep.msg.Answer, pointer(q.name, q.ttl, target))
}

// addTypes adds the service types that have an instance.
func (q *query) addTypes(rep *reply) {
	for _, t := range q.zone.pools.browser.types(q.space, q.Handler.now) {
		q.addPointer(rep, below(t.labels(), q.zone.name))
	}
}

// addInstances adds the names of the instances of a type, at most q.answers.
func (q *query) addInstances(rep *reply, t serviceType) {
	for p := range q.zone.pools.browser.instances(q.space, t, q.Handler.now) {
		if name, ok := instanceName(p.Handle(), t, q.zone.name); ok {
			q.addPointer(rep, name)
		}
		if len(rep.msg.Answer) == q.answers {
			break
		}
	}
}

// browser finds the instances of service types.
type browser struct {
	pools    *poolTable
	services []string // that instances can have, sorted
	names    []string // pools that rules name, folded
	scan     bool     // other pools can be instances, too
	// list is the latest one. To know it takes a scan of all pools.
	list atomic.Pointer[instanceList]
	mu   sync.Mutex // held to make another list
}

// instanceList has the handles of pools that are instances, sorted, at most maxAnswers of
// each type. It may be late.
type instanceList struct {
	handles map[serviceType][]rsp.PoolHandle
	changes uint64    // of the handlespace, when it was made
	next    time.Time // when another one may be made
}

// listShare bounds the share of time in which lists are made: one part in listShare.
const listShare = 10

// newBrowser returns nil if no pool can be an instance.
func newBrowser(pools *poolTable) *browser {
	b := &browser{pools: pools}
	add := func(o *poolOptions) bool {
		if o.dnssd != "" && !slices.Contains(b.services, o.dnssd) {
			b.services = append(b.services, o.dnssd)
		}
		return o.dnssd != ""
	}
	b.scan = add(pools.blockOptions)
	for _, r := range pools.globs {
		b.scan = add(&r.checked) || b.scan
	}
	for name, r := range pools.names {
		if add(&r.checked) {
			b.names = append(b.names, name)
		}
	}
	if len(b.services) == 0 {
		return nil
	}
	slices.Sort(b.services)
	return b
}

// instances yields the pools that are instances of a type, by their handles. All of them are
// in the handlespace; new ones may be missing until the list is made again.
func (b *browser) instances(s *handlespace.Space, t serviceType, clock func() time.Time) iter.Seq[*handlespace.Pool] {
	return func(yield func(*handlespace.Pool) bool) {
		for _, h := range b.current(s, clock).handles[t] {
			if p, _ := s.Lookup([]byte(h)); p != nil && b.pools.of(p.Handle()).typeOf(p) == t && !yield(p) {
				return
			}
		}
	}
}

// types returns the types that have an instance, sorted.
func (b *browser) types(s *handlespace.Space, clock func() time.Time) (types []serviceType) {
	for t := range b.current(s, clock).handles {
		for range b.instances(s, t, clock) {
			types = append(types, t)
			break
		}
	}
	slices.SortFunc(types, compareTypes)
	return types
}

// current returns a list. It makes another one if the handlespace has changed, and if
// enough time has passed since the latest one was made.
func (b *browser) current(s *handlespace.Space, clock func() time.Time) *instanceList {
	l := b.list.Load()
	if l != nil && (l.changes == s.Changes() || clock().Before(l.next) || !b.mu.TryLock()) {
		return l
	}
	if l == nil {
		b.mu.Lock()
	}
	defer b.mu.Unlock()
	if latest := b.list.Load(); latest != l {
		return latest // made in the meantime
	}
	l = b.collect(s, clock)
	b.list.Store(l)
	return l
}

func (b *browser) collect(s *handlespace.Space, clock func() time.Time) *instanceList {
	start := clock()
	l := &instanceList{handles: make(map[serviceType][]rsp.PoolHandle), changes: s.Changes()}
	for p := range b.candidates(s) {
		t := b.pools.of(p.Handle()).typeOf(p)
		if t.service == "" {
			continue
		}
		if first, _ := s.Lookup([]byte(p.Handle())); first == p { // of those that differ in case
			l.add(t, p.Handle())
		}
	}
	for t := range l.handles {
		l.cut(t)
	}
	end := clock()
	l.next = end.Add((listShare - 1) * end.Sub(start))
	return l
}

// candidates yields the pools that may be instances: those that rules name, or all.
func (b *browser) candidates(s *handlespace.Space) iter.Seq[*handlespace.Pool] {
	if b.scan {
		return s.Pools()
	}
	return func(yield func(*handlespace.Pool) bool) {
		for _, name := range b.names {
			if p, _ := s.Lookup([]byte(name)); p != nil && !yield(p) {
				return
			}
		}
	}
}

func (l *instanceList) add(t serviceType, h rsp.PoolHandle) {
	l.handles[t] = append(l.handles[t], h)
	if len(l.handles[t]) == 4*maxAnswers {
		l.cut(t)
	}
}

// cut sorts the handles of a type, and keeps the first maxAnswers.
func (l *instanceList) cut(t serviceType) {
	slices.Sort(l.handles[t])
	l.handles[t] = l.handles[t][:min(len(l.handles[t]), maxAnswers)]
}
