package rserpool

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/file"
	"github.com/coredns/coredns/plugin/pkg/dnstest"
	"github.com/coredns/coredns/plugin/test"
	"github.com/coredns/coredns/plugin/transfer"
	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"github.com/rserpool/coredns-rserpool/plugin/rserpool/internal/lookup"
	rsp "github.com/rserpool/coredns-rserpool/rserpool"
)

// transferred returns all records of a zone, as a client gets them from the wire.
func transferred(t testing.TB, h *Handler, zone string, serial uint32) []dns.RR {
	t.Helper()
	ch, err := h.Transfer(zone, serial)
	if err != nil {
		t.Fatal(err)
	}
	var all []dns.RR
	buf := make([]byte, dns.MaxMsgSize)
	for batch := range ch {
		for _, rr := range batch {
			n, err := dns.PackRR(rr, buf, 0, nil, false)
			if err != nil {
				t.Fatalf("a record that does not pack: %v\n%s", err, rr)
			}
			read, _, err := dns.UnpackRR(buf[:n], 0)
			if err != nil {
				t.Fatalf("a record that does not unpack: %v\n%s", err, rr)
			}
			all = append(all, read)
		}
	}
	return all
}

// checkCopy checks what a secondary expects of a zone.
func checkCopy(t *testing.T, zone string, all []dns.RR) {
	t.Helper()
	if len(all) < 3 || all[0].Header().Rrtype != dns.TypeSOA || all[len(all)-1].String() != all[0].String() {
		t.Fatalf("the zone does not begin and end with its SOA record:\n%s", lines(all))
	}
	seen, ttls, sizes := map[string]bool{}, map[string]uint32{}, map[string]int{}
	for _, rr := range all[1:] {
		h := rr.Header()
		if !dns.IsSubDomain(zone, h.Name) {
			t.Errorf("a record that is not in the zone: %s", rr)
		}
		if seen[rr.String()] {
			t.Errorf("a record twice: %s", rr)
		}
		seen[rr.String()] = true
		set := fmt.Sprint(strings.ToLower(h.Name), " ", h.Rrtype)
		if ttl, had := ttls[set]; had && ttl != h.Ttl {
			t.Errorf("two TTLs in a set: %s", rr)
		}
		ttls[set] = h.Ttl
		sizes[set] += dns.Len(rr) - wireLen(h.Name) + 2
	}
	for set, size := range sizes {
		if size > dns.MaxMsgSize-271 {
			t.Errorf("%s: a set of %d octets fits no answer", set, size)
		}
	}
}

// secondary answers from transferred records as RFC 1034, Section 4.3.2, and RFC 4592 say.
type secondary struct {
	zone  string
	names map[string][]dns.RR // by the name as canonicalOf returns it; nil for empty non-terminals
}

func newSecondary(zone string, all []dns.RR) *secondary {
	s := &secondary{zone: zone, names: map[string][]dns.RR{}}
	for _, rr := range all[:len(all)-1] {
		name := canonicalOf(rr.Header().Name)
		s.names[name] = append(s.names[name], rr)
		for name != zone {
			name = parentName(name)
			s.names[name] = s.names[name][:len(s.names[name]):len(s.names[name])]
		}
	}
	return s
}

func canonicalOf(name string) string {
	name, _ = canonicalName(name)
	return name
}

func parentName(name string) string {
	at, end := dns.NextLabel(name, 0)
	if end {
		return "."
	}
	return name[at:]
}

// ServeDNS implements plugin.Handler. Referrals have no answer.
func (s *secondary) ServeDNS(_ context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	m, q := new(dns.Msg).SetReply(r), r.Question[0]
	name := canonicalOf(q.Name)
	records, ok := s.names[name]
	if !ok {
		encloser := name
		for found := false; !found; _, found = s.names[encloser] {
			encloser = parentName(encloser)
		}
		if records, ok = s.names["*."+encloser]; !ok {
			m.Rcode = dns.RcodeNameError
		}
	}
	for above := name; above != s.zone; above = parentName(above) {
		for _, rr := range s.names[above] {
			if rr.Header().Rrtype == dns.TypeNS {
				records, m.Rcode = nil, dns.RcodeSuccess
			}
		}
	}
	for _, rr := range records {
		if rr.Header().Rrtype == q.Qtype {
			rr = dns.Copy(rr)
			rr.Header().Name = q.Name
			m.Answer = append(m.Answer, rr)
		}
	}
	return 0, w.WriteMsg(m)
}

func (s *secondary) Name() string { return "secondary" }

// targetForm is a target of an SRV or NAPTR record.
var targetForm = regexp.MustCompile(`(pe-........| _sip\._tcp| _diameter\._sctp)\..*`)

// content is the answer to a question as a set.
func content(t *testing.T, h plugin.Handler, name string, qtype uint16) string {
	t.Helper()
	rec := dnstest.NewRecorder(&test.ResponseWriter{TCP: true})
	q := new(dns.Msg).SetQuestion(name, qtype)
	q.SetEdns0(dns.MaxMsgSize, false)
	if _, err := h.ServeDNS(context.Background(), rec, q); err != nil || rec.Msg == nil {
		t.Fatalf("%s: no answer: %v", q.Question[0].String(), err)
	}
	var all []string
	for _, rr := range rec.Msg.Answer {
		all = append(all, strings.ToLower(rr.String()))
	}
	slices.Sort(all)
	return dns.RcodeToString[rec.Msg.Rcode] + "\n" + strings.Join(all, "\n")
}

// oddSpace has pools with all kinds of names, and those that want the names of others.
func oddSpace(t testing.TB) *fakeRegistrar {
	f := testSpace(t)
	s := f.space
	s.Remove("brief", 1) // their TTL is that of their registration life
	s.Remove("late", 1)
	put(t, s, "web", element(2, 8081, "192.0.2.1 2001:db8::2")) // an address twice
	put(t, s, "Bank", element(1, 80, "192.0.2.30"))
	put(t, s, "bAnk", element(1, 80, "192.0.2.31"))
	put(t, s, "ns.dns", element(1, 80, "192.0.2.32"))
	put(t, s, "_rserpool.web", element(1, 80, "192.0.2.33"))
	put(t, s, encodeHandle("web"), element(1, 80, "192.0.2.34"))
	put(t, s, encodeHandle("nowhere"), element(1, 80, "192.0.2.35"))
	put(t, s, "x._http._tcp.web", element(1, 80, "192.0.2.36"))
	put(t, s, "*", element(1, 80, "192.0.2.37"))
	put(t, s, "x.*.web", element(1, 80, "192.0.2.38"))
	put(t, s, "_http._tcp.nowhere", element(1, 80, "192.0.2.39"))
	put(t, s, "pe-00000001.nowhere", element(1, 80, "192.0.2.40"))
	put(t, s, "pe-00000001."+encodeHandle("web"), element(1, 80, "192.0.2.41"))
	put(t, s, "x.sub", element(1, 80, "192.0.2.42"))
	put(t, s, "sub", element(1, 80, "192.0.2.43"))
	put(t, s, strings.Repeat("y", 60)+strings.Repeat("."+strings.Repeat("y", 58), 3), element(1, 80, "192.0.2.44")) // no room for elements
	put(t, s, strings.Repeat("z", 300), element(1, 80, "192.0.2.45"))                                               // no name at all
	for id := rsp.PEID(1); id < 5; id++ {
		weight := policy(rsp.Policy{Type: rsp.WeightedRoundRobin, Weight: uint32(id - 1)})
		put(t, s, "weights", element(id, 80, fmt.Sprintf("192.0.2.%d 2001:db8::%d", 50+id, 50+id), weight, over(rsp.SCTP)))
		put(t, s, "Ranks", element(id, 80, fmt.Sprintf("192.0.2.%d", 60+id), policy(rsp.Policy{Type: rsp.Priority, Priority: uint32(id / 2)}), over(rsp.UDP)))
	}
	return f
}

// TestTransferAnswers: a secondary with the transferred zone answers as we do, for every name
// of a zone with odd pools.
func TestTransferAnswers(t *testing.T) {
	f := oddSpace(t)
	for _, block := range []string{
		"rserpool pool.example.org sub.pool.example.org {\n addresses 16\n}",
		"rserpool pool.example.org {\n addresses 16\n dnssd http\n txt a b\n pool four https alpn=h2\n pool four svcb foo\n naptr x-test a\n naptr SIP+D2T\n service http\n pool none ttl 7\n pool NONE.such txt c\n}",
		"rserpool pool.example.org {\n addresses 16\n service http sip\n nameserver pe-00000002.web.pool.example.org\n}",
		"rserpool pool.example.org {\n addresses 16\n service http\n naptr x-3gpp-amf:x-n2\n naptr x-test:a a\n naptr SIP+D2T\n naptr aaa:diameter.sctp\n}",
	} {
		h := newTestHandler(t, block, f)
		all := transferred(t, h, zoneZ, 0)
		checkCopy(t, zoneZ, all)
		sec := newSecondary(zoneZ, all)

		var names []string
		for _, rr := range all {
			// The names, those above them, and neighbours.
			for name := rr.Header().Name; len(name) >= len(zoneZ); _, name, _ = strings.Cut(name, ".") {
				names = append(names, name, "x."+name, "x-"+name)
			}
		}
		for p := range f.space.Pools() {
			for _, above := range []string{"", "_http._tcp.", "_http._udp.", "_sip._sctp.", "_sip._tcp.", "_diameter._sctp.", "_tcp.", "pe-00000001.", "pe-00000009.", "x.", "_x._tcp.", "_8443._https.", "_https.", "_foo.", "_80._foo."} {
				if name, ok := plainName(string(p.Handle()), zoneZ); ok && wireLen(above+name) <= maxName {
					names = append(names, above+name)
				}
			}
		}
		names = append(names, "none."+zoneZ, "x.none."+zoneZ, "such."+zoneZ, "none.such."+zoneZ)
		slices.Sort(names)
		for _, name := range slices.Compact(names) {
			if _, ok := canonicalName(name); !ok || !copied(h, name) {
				continue
			}
			priorities := strings.HasPrefix(strings.ToLower(name), "ranks.")
			for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypeNAPTR, dns.TypeTXT, dns.TypeNS, dns.TypeSOA, dns.TypeHTTPS, dns.TypeSVCB, dns.TypePTR} {
				if priorities && qtype == dns.TypeA {
					continue // see TestTransferPriorities
				}
				h.lookups = lookup.New(8, maxAddresses) // each question is a lookup of its own
				got, want := content(t, sec, name, qtype), content(t, h, name, qtype)
				if strings.Contains(got, encodedPrefix) { // the target may be in the other form
					got, want = targetForm.ReplaceAllString(got, "$1"), targetForm.ReplaceAllString(want, "$1")
				}
				want = regexp.MustCompile(`\n.* ptr +\*\._http.*`).ReplaceAllString(strings.ReplaceAll(want, "\t", " "), "") // no wildcard in the copy
				got = strings.ReplaceAll(got, "\t", " ")
				if got != want {
					t.Errorf("%s %s: a secondary answers\n%s\nwe answer\n%s", name, dns.TypeToString[qtype], got, want)
				}
			}
		}
	}
}

// TestTransferToCoreDNS: CoreDNS as a secondary finds the SRV records of a pool with capital letters,
// however a question spells it.
func TestTransferToCoreDNS(t *testing.T) {
	f := newFake()
	put(t, f.space, "Compute Pool", element(7, 80, "192.0.2.7"))
	z := file.NewZone(zoneZ, "secondary")
	for _, rr := range transferred(t, newTestHandler(t, "rserpool pool.example.org", f), zoneZ, 0) {
		if err := z.Insert(rr); err != nil {
			t.Fatal(err)
		}
	}
	secondary := file.File{Zones: file.Zones{Z: map[string]*file.Zone{zoneZ: z}, Names: []string{zoneZ}}}
	for _, above := range []string{"", "_http._tcp.", "pe-00000007."} {
		for _, pool := range []string{`Compute\032Pool.`, `compute\032pool.`} {
			if got := content(t, secondary, above+pool+zoneZ, dns.TypeSRV); !strings.HasPrefix(got, "NOERROR\n") || !strings.Contains(got, "srv") {
				t.Errorf("%s%s: got %s, want an SRV record", above, pool, got)
			}
		}
	}
}

// copied reports whether a secondary can answer as we do about a name. It does not know the
// information below _rserpool, nor a second name of a pool; and a wildcard stands for names
// that do not begin with an underscore, too.
func copied(h *Handler, name string) bool {
	z := h.zones.match(name, dns.TypeA)
	if z == nil || z.name != zoneZ {
		return false
	}
	x := newZoneCopy(h, z, h.registrar.Space().Snapshot(now))
	n := z.resolve(h.registrar.Space(), name)
	switch n.kind {
	case nodeInfo:
		return false
	case nodeInstance:
		return n.pool.Handle() != "*"
	case nodePool, nodeService, nodeElement, nodeBinding:
		if n.pool == nil {
			return n.kind == nodePool // a declared one
		}
		c := x.copyOf(x.snapshot.Pool(n.pool.Handle()))
		return c != nil && strings.EqualFold(c.name, n.poolName)
	case nodeEmpty:
		labels := dns.SplitDomainName(name)
		if p, _ := z.findPool(h.registrar.Space(), []byte(strings.Join(labels[1:len(labels)-3], "."))); p != nil && protocol([]byte(labels[0])) != 0 {
			c := x.copyOf(x.snapshot.Pool(p.Handle()))
			return c != nil && strings.EqualFold(c.name, parentName(name))
		}
	case nodeNone:
		if strings.HasSuffix(encodeHandle(rsp.PoolHandle(strings.Repeat("x", 64)))+"."+zoneZ, "."+name) {
			return false // a part of an encoded handle
		}
		for labels := dns.SplitDomainName(name); len(labels) > 2; labels = labels[1:] {
			if p := protocol([]byte(labels[1])); p != 0 || labels[1] == "_foo" || labels[1] == httpsScheme {
				return false
			}
		}
	}
	return true
}

// TestTransferPriorities: with the policy Priority, the addresses at the pool's name are those
// of the highest priority. A pool has whole elements, as many as its option says.
func TestTransferPriorities(t *testing.T) {
	f := newFake()
	for id := rsp.PEID(1); id < 6; id++ {
		addrs := fmt.Sprintf("192.0.2.%d 198.51.100.%d", id, id)
		put(t, f.space, "ranks", element(id, 80, addrs, policy(rsp.Policy{Type: rsp.Priority, Priority: uint32(id / 2)}), over(rsp.SCTP)))
		put(t, f.space, "turns", element(id, 80, addrs, over(rsp.SCTP)))
	}
	h := newTestHandler(t, "rserpool pool.example.org {\n answers 3\n}", f)
	got := map[string]int{}
	for _, rr := range transferred(t, h, zoneZ, 0) {
		if a, ok := rr.(*dns.A); ok && !strings.HasPrefix(a.Hdr.Name, "pe-") {
			got[a.Hdr.Name+" "+a.A.String()]++
		}
		if rr.Header().Rrtype == dns.TypeSRV && !strings.HasPrefix(rr.Header().Name, "pe-") {
			got[rr.Header().Name+" SRV"]++
		}
	}
	want := map[string]int{
		"ns.dns." + zoneZ + " 192.0.2.53": 1,
		"ranks." + zoneZ + " 192.0.2.4":   1, "ranks." + zoneZ + " 198.51.100.4": 1, // 4 records are too many for both
		"turns." + zoneZ + " 192.0.2.1": 1, "turns." + zoneZ + " 198.51.100.1": 1,
		"ranks." + zoneZ + " SRV": 3, "*._sctp.ranks." + zoneZ + " SRV": 3,
		"turns." + zoneZ + " SRV": 3, "*._sctp.turns." + zoneZ + " SRV": 3,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("addresses at the pools' names (-want +got):\n%s", diff)
	}
}

// TestTransferLargeSets: BIND refuses the whole zone if one set of records is longer than an
// answer, or has more addresses than it is told to take.
func TestTransferLargeSets(t *testing.T) {
	f := newFake()
	var many strings.Builder
	for i := range 150 {
		fmt.Fprintf(&many, "192.0.2.%d ", i)
	}
	put(t, f.space, "addresses", element(1, 80, many.String(), over(rsp.SCTP)))
	long := strings.Repeat("long.", 35) + "name"
	for id := range rsp.PEID(2 * maxAnswers) {
		put(t, f.space, long, element(id, 80, "192.0.2.1"))
	}
	for _, p := range []string{"web", "a"} {
		for id := range rsp.PEID(50) {
			put(t, f.space, p, element(id, 80, "192.0.2.1"))
		}
	}
	h := newTestHandler(t, "rserpool pool.example.org {\n https key7777="+strings.Repeat("x", 2000)+"\n naptr x-3gpp-amf:x-n2\n dnssd http\n pool "+long+" answers all\n}", f)
	all := transferred(t, h, zoneZ, 0)
	checkCopy(t, zoneZ, all)
	count := map[string]int{}
	for _, rr := range all {
		count[rr.Header().Name+" "+dns.TypeToString[rr.Header().Rrtype]]++
	}
	for set, want := range map[string]int{"pe-00000001.addresses." + zoneZ + " A": 100, "addresses." + zoneZ + " A": 100, "web." + zoneZ + " SRV": 50} {
		if count[set] != want {
			t.Errorf("%s: %d records, want %d", set, count[set], want)
		}
	}
	for _, set := range []string{long + "." + zoneZ + " SRV", "web." + zoneZ + " HTTPS", "a." + zoneZ + " HTTPS"} {
		if count[set] < 30 {
			t.Errorf("%s: only %d records", set, count[set])
		}
	}
}

func TestTransferRefused(t *testing.T) {
	f := newFake()
	h := newTestHandler(t, "rserpool pool.example.org", f)
	for _, name := range []string{"example.org.", "x.pool.example.org.", "."} {
		if ch, err := h.Transfer(name, 0); ch != nil || !errors.Is(err, transfer.ErrNotAuthoritative) {
			t.Errorf("%s: got %v, want that it is not our zone", name, err)
		}
	}
	f.notReady.Store(true)
	if ch, err := h.Transfer(zoneZ, 0); ch != nil || !errors.Is(err, errTransferNotReady) {
		t.Errorf("before the registrar is ready: got %v", err)
	}
	f.notReady.Store(false)
	var running []<-chan []dns.RR
	for range maxTransfers {
		ch, err := h.Transfer(zoneZ, 0)
		if err != nil {
			t.Fatal(err)
		}
		running = append(running, ch)
	}
	if _, err := h.Transfer(zoneZ, 0); !errors.Is(err, errTransferMany) {
		t.Errorf("one transfer too many: got %v", err)
	}
	if got := transferred(t, h, zoneZ, f.space.Serial(now)); len(got) != 1 {
		t.Errorf("a client with the present zone among many: got\n%s", lines(got))
	}
	for _, ch := range running {
		for range ch {
		}
	}
	eventually(t, "transfers end", func() bool { return h.transfers.running.Load() == 0 })
	transferred(t, h, zoneZ, 0)
}

// TestTransferIncremental: a client with this serial number, or a later one, gets nothing but
// the SOA record, all others the whole zone.
func TestTransferIncremental(t *testing.T) {
	f := newFake()
	put(t, f.space, "web", element(1, 80, "192.0.2.1"))
	h := newTestHandler(t, "rserpool pool.example.org", f)
	serial := f.space.Serial(now)
	for has, whole := range map[uint32]bool{serial: false, serial + 1: false, serial - 1: true, serial + 1<<31 + 1: true} {
		got := transferred(t, h, zoneZ, has)
		if (len(got) > 1) != whole || got[0].(*dns.SOA).Serial != serial {
			t.Errorf("client with serial %d: got\n%s", has, lines(got))
		}
	}
}

// TestTransferReaderStops: transfers whose readers have stopped end, and soon let others in.
func TestTransferReaderStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		for id := range rsp.PEID(transferBatch) {
			put(t, f.space, "web", element(id, 80, "192.0.2.1"))
		}
		h := newTestHandler(t, "rserpool pool.example.org", f)
		for range 3 {
			for range maxTransfers {
				ch, err := h.Transfer(zoneZ, 0)
				if err != nil {
					t.Fatal(err)
				}
				<-ch
			}
			time.Sleep(11 * time.Second)
		}
		synctest.Wait()
		if n := h.transfers.running.Load(); n != 0 {
			t.Errorf("%d transfers are running, want 0", n)
		}
	})
}

// TestServerTransfer transfers a zone through a whole server, while elements come and go.
func TestServerTransfer(t *testing.T) {
	p := freePorts(t)
	s := startServer(t, "pool.example.org:0 {\n transfer {\n to *\n}\n rserpool {\n"+p.options()+"}\n}")
	for id := rsp.PEID(1); id < 4; id++ {
		defer register(t, p, "web", id).leave(t)
	}
	s.waitFor("three elements", "web."+zoneZ, dns.TypeSRV, func(m *dns.Msg) bool { return len(m.Answer) == 3 })
	addr := s.inst.Servers()[0].Addr().String()
	conn, err := dns.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	ch, err := (&dns.Transfer{Conn: conn}).In(new(dns.Msg).SetAxfr(zoneZ), addr)
	if err != nil {
		t.Fatal(err)
	}
	var all []dns.RR
	for e := range ch {
		if e.Error != nil {
			t.Fatal(e.Error)
		}
		all = append(all, e.RR...)
	}
	checkCopy(t, zoneZ, all)
	sec := newSecondary(zoneZ, all)
	if got, want := content(t, sec, "_x._tcp.web."+zoneZ, dns.TypeSRV), "NOERROR"; !strings.HasPrefix(got, want) || strings.Count(got, "srv") != 3 {
		t.Errorf("got from the copy\n%s\nwant three elements", got)
	}
	// A client that closes the connection in the middle does no harm.
	conn, err = dns.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.WriteMsg(new(dns.Msg).SetAxfr(zoneZ)); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if m := s.query("web."+zoneZ, dns.TypeA); len(m.Answer) != 1 {
		t.Errorf("after that, got\n%s", m)
	}
}

// TestTransferBindings: HTTPS records in a copy are ranked by the policy, not by selections.
func TestTransferBindings(t *testing.T) {
	f := newFake()
	for id := rsp.PEID(1); id < 5; id++ {
		put(t, f.space, "ranks", element(id, 80, fmt.Sprintf("192.0.2.%d", id), policy(rsp.Policy{Type: rsp.Priority, Priority: uint32(id / 2)})))
	}
	h := newTestHandler(t, "rserpool pool.example.org {\n https\n}", f)
	got := map[string]uint16{}
	for _, rr := range transferred(t, h, zoneZ, 0) {
		if r, ok := rr.(*dns.HTTPS); ok {
			got[r.Hdr.Name+" "+r.Target[:11]] = r.Priority
		}
	}
	want := map[string]uint16{}
	for _, owner := range []string{"ranks." + zoneZ, "*._https.ranks." + zoneZ} {
		want[owner+" pe-00000004"], want[owner+" pe-00000002"], want[owner+" pe-00000003"], want[owner+" pe-00000001"] = 1, 2, 2, 3
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("priorities (-want +got):\n%s", diff)
	}
}
