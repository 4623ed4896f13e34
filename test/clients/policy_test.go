package clients_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/rserpool/coredns-rserpool/test/clients"
	"github.com/rserpool/coredns-rserpool/test/clients/recipe"
	"github.com/rserpool/coredns-rserpool/test/network"
)

// policy is a pool of four elements with identifiers 1 to 4.
type policy struct {
	name     string // the policy's, and the beginning of the pool's
	elements []string
	shares   []float64 // of each element's selections
	srv      []float64 // the shares that SRV records give to clients of RFC 2782; nil: shares
	exact    bool      // without chance
}

var policies = []policy{
	{name: "rr", elements: []string{"rr", "rr", "rr", "rr"}, shares: []float64{1, 1, 1, 1}, exact: true},
	{name: "rand", elements: []string{"rand", "rand", "rand", "rand"}, shares: []float64{1, 1, 1, 1}},
	{name: "wrr", elements: []string{"wrr:1", "wrr:2", "wrr:3", "wrr:4"}, shares: []float64{1, 2, 3, 4}, exact: true},
	{name: "wrand", elements: []string{"wrand:1", "wrand:2", "wrand:3", "wrand:4"}, shares: []float64{1, 2, 3, 4}},
	{name: "prio", elements: []string{"prio:1", "prio:9", "prio:9", "prio:5"}, shares: []float64{0, 1, 1, 0}, exact: true},
	{name: "lu", elements: []string{"lu:80%", "lu:20%", "lu:40%", "lu:60%"}, shares: []float64{0, 1, 0, 0}, srv: []float64{20, 80, 60, 40}, exact: true},
	{name: "rlu", elements: []string{"rlu:80%", "rlu:20%", "rlu:40%", "rlu:60%"}, shares: []float64{20, 80, 60, 40}},
}

// chiSquare is the statistic of Pearson's test, and whether it is below the value that
// chance exceeds once in a million times.
func chiSquare(count map[uint32]int, shares []float64) (x float64, good bool) {
	var n, sum, freedom float64
	for _, c := range count {
		n += float64(c)
	}
	for _, s := range shares {
		sum += s
		if s > 0 {
			freedom++
		}
	}
	for id, c := range count {
		if id < 1 || int(id) > len(shares) || shares[id-1] == 0 && c > 0 {
			return x, false
		}
	}
	for i, s := range shares {
		if s > 0 {
			want := n * s / sum
			x += (float64(count[uint32(i+1)]) - want) * (float64(count[uint32(i+1)]) - want) / want
		}
	}
	return x, n > 0 && x <= []float64{0, 0, 23.9, 27.6, 30.7}[int(freedom)]
}

func TestChiSquare(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		count  map[uint32]int
		shares []float64
		want   bool
	}{
		"even":            {map[uint32]int{1: 25, 2: 25, 3: 25, 4: 25}, []float64{1, 1, 1, 1}, true},
		"two of four":     {map[uint32]int{1: 50, 2: 50}, []float64{1, 1, 1, 1}, false},
		"one of two":      {map[uint32]int{1: 100}, []float64{1, 1}, false},
		"weights":         {map[uint32]int{1: 102, 2: 198, 3: 297, 4: 403}, []float64{1, 2, 3, 4}, true},
		"weights ignored": {map[uint32]int{1: 250, 2: 250, 3: 250, 4: 250}, []float64{1, 2, 3, 4}, false},
		"excluded":        {map[uint32]int{1: 999, 2: 1}, []float64{1, 0}, false},
		"unknown":         {map[uint32]int{1: 999, 5: 1}, []float64{1, 0}, false},
		"none":            {nil, []float64{1, 1}, false},
	} {
		if x, got := chiSquare(c.count, c.shares); got != c.want {
			t.Errorf("%s: %v (%.1f), want %v", name, got, x, c.want)
		}
	}
}

// TestPolicy: the lookups of each kind of client land on the elements as the pool's policy
// says, directly and through each resolver, and so does the sum of what DNS clients and a
// pool user of ASAP get at the same time.
func TestPolicy(t *testing.T) {
	t.Parallel()
	n := 200
	if *long {
		n = 10000
	}
	s := clients.NewBridged(t, corefile("ttl 0"))
	servers := map[string]string{
		"directly":          clients.Server,
		"unbound":           s.Unbound("\trrset-roundrobin: no\n" + caseAndMinimisation + recipe.Text(t, "unbound.conf")).Address,
		"BIND":              s.BIND("", recipe.Text(t, "named.conf")).Address,
		"CoreDNS's forward": forwarder(s),
	}
	vias := slices.Sorted(maps.Keys(servers))
	p := &policyTest{t: t, s: s, n: n, at: map[string]uint32{}}
	var list []clients.Element
	for _, policy := range policies {
		for i := range vias {
			for id, text := range policy.elements {
				list = append(list, clients.Element{ID: uint32(id + 1), Pool: fmt.Sprint(policy.name, i), Policy: text})
			}
		}
	}
	for _, e := range s.Elements("", list...).List {
		p.at[e.Address] = e.ID
	}
	var wg sync.WaitGroup
	for i, via := range vias {
		host, other := s.Client("client"), s.Client("other")
		for _, policy := range policies {
			wg.Go(func() {
				l := &lookups{policyTest: p, policy: policy, via: via, pool: fmt.Sprint(policy.name, i), host: host, other: other, server: servers[via]}
				if err := l.run(); err != nil {
					t.Errorf("%s, %s: %v", policy.name, via, err)
				}
			})
		}
	}
	wg.Wait()
}

// forwarder starts a CoreDNS that forwards to the one with the pools, and has a cache.
func forwarder(s *clients.Site) string {
	const address = "192.0.2.4"
	h := s.Host("forwarder", address)
	h.CoreDNS(". {\n\tbind " + address + "\n\tforward . " + clients.Server + "\n\tcache {\n\t\tsuccess 9984 3600 0\n\t\tdenial 9984 1800 0\n\t}\n}\n")
	h.Serving(address)
	return address
}

type policyTest struct {
	t  *testing.T
	s  *clients.Site
	n  int
	at map[string]uint32 // identifiers by address
}

// lookups are those of one pool through one name server.
type lookups struct {
	*policyTest
	policy      policy
	via, pool   string
	host, other *network.Host
	server      string
}

func (l *lookups) run() error {
	byAddress, err := l.addresses(l.host, l.server)
	if err != nil {
		return err
	}
	l.judge("A", byAddress, l.policy.shares, l.policy.exact)
	if l.via != "BIND" { // which has an order of its own
		firsts, err := l.firsts()
		if err != nil {
			return err
		}
		l.judge("first SRV record", firsts, l.policy.shares, l.policy.exact)
	}
	services, err := l.services()
	if err != nil {
		return err
	}
	shares := l.policy.srv
	if shares == nil {
		shares = l.policy.shares
	}
	l.judge("SRV by RFC 2782", services, shares, false)
	return l.together()
}

// together has two DNS clients, one of which asks the registrar's own server, and a pool
// user ask at the same time.
func (l *lookups) together() error {
	var counts [3]map[uint32]int
	var errs [3]error
	var wg sync.WaitGroup
	wg.Go(func() { counts[0], errs[0] = l.addresses(l.host, l.server) })
	wg.Go(func() { counts[1], errs[1] = l.addresses(l.other, clients.Server) })
	wg.Go(func() { counts[2], errs[2] = clients.Resolve(l.other, l.pool, l.n) })
	wg.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		return err
	}
	l.judge("a pool user", counts[2], l.policy.shares, false)
	sum := map[uint32]int{}
	for _, count := range counts {
		for id, n := range count {
			sum[id] += n
		}
	}
	l.judge("all together", sum, l.policy.shares, l.policy.exact)
	return nil
}

// judge compares counts with shares. Those without chance are exact, but for what clients at
// the same time leave unfinished.
func (l *lookups) judge(what string, count map[uint32]int, shares []float64, exact bool) {
	x, good := chiSquare(count, shares)
	good = good && (!exact || x < 1)
	text := fmt.Sprintf("%s, %s, %s: %v, chi-square %.2f", l.policy.name, l.via, what, count, x)
	if !good {
		l.t.Errorf("%s: not as the policy says, %v", text, shares)
		return
	}
	l.t.Log(text)
}

// addresses asks for the pool's address, as a stub resolver does.
func (l *lookups) addresses(h *network.Host, server string) (map[uint32]int, error) {
	return l.ask(h, server, l.pool+"."+clients.Zone+".", dns.TypeA)
}

// firsts asks for the pool's SRV records, and takes the first.
func (l *lookups) firsts() (map[uint32]int, error) {
	return l.ask(l.host, l.server, "_http._tcp."+l.pool+"."+clients.Zone+".", dns.TypeSRV)
}

// ask asks from one socket, one question after the other, and counts the elements in the
// first records.
func (l *lookups) ask(h *network.Host, server, name string, qtype uint16) (map[uint32]int, error) {
	c, err := h.Dial("udp", net.JoinHostPort(server, "53"))
	if err != nil {
		return nil, err
	}
	conn := &dns.Conn{Conn: c}
	defer conn.Close()
	count := map[uint32]int{}
	for range l.n {
		_ = conn.SetDeadline(time.Now().Add(network.Patience))
		if err := conn.WriteMsg(new(dns.Msg).SetQuestion(name, qtype)); err != nil {
			return nil, err
		}
		m, err := conn.ReadMsg()
		if err != nil {
			return nil, err
		}
		if len(m.Answer) == 0 {
			return nil, fmt.Errorf("no record: %v", m)
		}
		switch rr := m.Answer[0].(type) {
		case *dns.A:
			count[l.at[rr.A.String()]]++
		case *dns.SRV:
			count[idOf(rr.Target)]++
		}
	}
	return count, nil
}

// idOf is the identifier in the name of an element; 0 if it has another form.
func idOf(name string) (id uint32) {
	_, _ = fmt.Sscanf(name, "pe-%08x.", &id)
	return id
}

// services asks for the pool's SRV records with the resolver of Go's library, which orders
// them by RFC 2782, and takes the first.
func (l *lookups) services() (map[uint32]int, error) {
	r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return l.host.DialContext(ctx, network, net.JoinHostPort(l.server, "53"))
	}}
	count := map[uint32]int{}
	for range l.n {
		ctx, cancel := context.WithTimeout(context.Background(), network.Patience)
		_, list, err := r.LookupSRV(ctx, "http", "tcp", l.pool+"."+clients.Zone+".")
		cancel()
		if err != nil {
			return nil, err
		}
		count[idOf(list[0].Target)]++
	}
	return count, nil
}

// TestPolicyCut: an answer that is cut and asked for again over TCP is one lookup. The first
// records of 60 elements in a round robin are all of them alike, also behind a resolver that
// asks twice in this way.
func TestPolicyCut(t *testing.T) {
	t.Parallel()
	const elements, rounds = 60, 2
	s := clients.NewBridged(t, corefile("ttl 0"))
	s.Elements("direct", pool(1, elements)...)
	s.Elements("resolved", pool(1, elements)...)
	u := s.Unbound("\trrset-roundrobin: no\n" + caseAndMinimisation + recipe.Text(t, "unbound.conf"))
	h := s.Client("client")
	for name, ask := range map[string]func(name string) (*dns.Msg, error){
		"direct": func(name string) (*dns.Msg, error) {
			m, err := askFor(h, "udp", clients.Server, name)
			if err == nil && !m.Truncated {
				err = errors.New("the answer is not cut")
			}
			if err != nil {
				return nil, err
			}
			return askFor(h, "tcp", clients.Server, name)
		},
		"resolved": func(name string) (*dns.Msg, error) { return askFor(h, "tcp", u.Address, name) },
	} {
		count := map[uint32]int{}
		for range elements * rounds {
			m, err := ask("_http._tcp." + name + "." + clients.Zone + ".")
			if err != nil {
				t.Fatal(err)
			}
			if len(m.Answer) != elements {
				t.Fatalf("%s: %d records over TCP, want %d", name, len(m.Answer), elements)
			}
			count[idOf(m.Answer[0].(*dns.SRV).Target)]++
		}
		for id := range uint32(elements) {
			if n := count[id+1]; n < rounds-1 || n > rounds+1 {
				t.Errorf("%s: element %d is first %d times, want %d", name, id+1, n, rounds)
			}
		}
	}
}

// askFor asks for SRV records.
func askFor(h *network.Host, transport, server, name string) (*dns.Msg, error) {
	c, err := h.Dial(transport, net.JoinHostPort(server, "53"))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(network.Patience))
	conn := &dns.Conn{Conn: c, UDPSize: 1232}
	if err := conn.WriteMsg(new(dns.Msg).SetQuestion(name, dns.TypeSRV).SetEdns0(1232, false)); err != nil {
		return nil, err
	}
	return conn.ReadMsg()
}
