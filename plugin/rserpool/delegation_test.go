package rserpool

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"github.com/rserpool/coredns-rserpool/test/here"
)

// blockText is a server block at an address.
func blockText(zone, addr, lines string) string {
	return fmt.Sprintf("%s {\n bind %s\n transfer {\n to *\n}\n rserpool {\n ttl 9\n}\n %s\n}\n", zone, addr, lines)
}

// at returns the server that has an address.
func (s *server) at(addr string) (udp, tcp string) {
	s.t.Helper()
	for _, l := range s.inst.Servers() {
		if host, _, _ := net.SplitHostPort(l.LocalAddr().String()); host == addr {
			return l.LocalAddr().String(), l.Addr().String()
		}
	}
	s.t.Fatalf("no server at %s", addr)
	return "", ""
}

func (s *server) askAt(addr, name string, qtype uint16, do bool) *dns.Msg {
	s.t.Helper()
	udp, _ := s.at(addr)
	m, err := dns.Exchange(new(dns.Msg).SetQuestion(name, qtype).SetEdns0(1232, do), udp)
	if err != nil {
		s.t.Fatalf("%s: %v", name, err)
	}
	return m
}

// copyAt transfers a zone from the server that has an address.
func (s *server) copyAt(addr, zone string) []dns.RR {
	s.t.Helper()
	_, tcp := s.at(addr)
	return s.transfer(tcp, zone)
}

// copyOf transfers a zone from the one server that has it.
func (s *server) copyOf(zone string) []dns.RR {
	s.t.Helper()
	for _, l := range s.inst.Servers() {
		m, err := dns.Exchange(new(dns.Msg).SetQuestion(zone, dns.TypeSOA), l.LocalAddr().String())
		if err == nil && m.Authoritative && len(m.Answer) == 1 {
			return s.transfer(l.Addr().String(), zone)
		}
	}
	s.t.Fatalf("no server has %s", zone)
	return nil
}

func (s *server) transfer(tcp, zone string) (all []dns.RR) {
	s.t.Helper()
	ch, err := new(dns.Transfer).In(new(dns.Msg).SetAxfr(zone), tcp)
	if err != nil {
		s.t.Fatal(err)
	}
	for e := range ch {
		if e.Error != nil {
			s.t.Fatal(e.Error)
		}
		all = append(all, e.RR...)
	}
	return all
}

// delegationsIn returns the records of a zone that delegate other zones, and their addresses.
func delegationsIn(all []dns.RR, zone string) (out []string) {
	for _, rr := range all {
		name := rr.Header().Name
		if t := rr.Header().Rrtype; name != zone && (t == dns.TypeNS || t == dns.TypeA) && !strings.HasSuffix(name, "."+"dns."+zone) {
			out = append(out, strings.TrimSuffix(lines([]dns.RR{rr}), "\n"))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// TestDelegation: a zone of another block is a delegation of the zone above, in answers and in
// transfers, wherever the other block serves it. Zones that share nothing but letters are none.
func TestDelegation(t *testing.T) {
	withFakes(t)
	key, file := keyOf(t, "example.org.")
	signed := "dnssec {\n key file \"" + file + "\"\n}"
	s := startServer(t, blockText("eu.example.org:0", "127.0.0.1", "")+ // before and behind the upper zone
		blockText("x.eu.example.org:0", "127.0.0.1", "")+
		blockText("example.org:0", "127.0.0.1", signed)+
		blockText("a.b.example.org:0", "127.0.0.2", "")+
		blockText("notexample.org:0", "127.0.0.1", ""))
	for name, want := range map[string]string{
		"eu.example.org.":       "",
		"EU.example.org.":       "",
		"a.b.example.org.":      "",
		"b.example.org.":        "empty",
		"notexample.org.":       "unknown here",
		"uk.example.org.":       "unknown",
		"eu.example.org.x.org.": "refused",
	} {
		m := s.askAt("127.0.0.1", name, dns.TypeDS, true)
		switch want {
		case "":
			if err := insecureDelegation(name, m, key); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		case "empty", "unknown":
			n, err := denial(name, dns.TypeDS, m)
			if err != nil || slices.Contains(n.TypeBitMap, dns.TypeNXNAME) != (want == "unknown") || slices.Contains(n.TypeBitMap, dns.TypeNS) {
				t.Errorf("%s: got %v and\n%s\nwant a name that is %s", name, err, m, want)
			}
		case "unknown here":
			if len(m.Ns) != 1 || m.Ns[0].Header().Name != name {
				t.Errorf("%s: got\n%s\nwant the SOA of that zone", name, m)
			}
		case "refused":
			if m.Rcode != dns.RcodeRefused {
				t.Errorf("%s: got\n%s\nwant REFUSED", name, m)
			}
		}
	}
	if diff := cmp.Diff([]string{
		"a.b.example.org. 9 IN NS ns.dns.a.b.example.org.",
		"eu.example.org. 9 IN NS ns.dns.eu.example.org.",
		"ns.dns.a.b.example.org. 9 IN A 127.0.0.2",
		"ns.dns.eu.example.org. 9 IN A 127.0.0.1",
	}, delegationsIn(s.copyAt("127.0.0.1", "example.org."), "example.org.")); diff != "" {
		t.Errorf("example.org (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"ns.dns.x.eu.example.org. 9 IN A 127.0.0.1", "x.eu.example.org. 9 IN NS ns.dns.x.eu.example.org."}, delegationsIn(s.copyAt("127.0.0.1", "eu.example.org."), "eu.example.org.")); diff != "" {
		t.Errorf("eu.example.org (-want +got):\n%s", diff)
	}
	if got := s.copyAt("127.0.0.2", "a.b.example.org."); len(delegationsIn(got, "a.b.example.org.")) > 0 {
		t.Errorf("got %v, want no delegation", got)
	}
}

// TestReferral: a block refers clients that ask it for names in a zone of another block.
func TestReferral(t *testing.T) {
	f := withFakes(t)
	s := startServer(t, blockText("example.org:0", "127.0.0.1", "")+blockText("eu.example.org:0", "127.0.0.2", ""))
	for _, r := range f {
		put(t, r.space, "web.eu", element(1, 80, "192.0.2.1"))
		put(t, r.space, "web", element(1, 80, "192.0.2.1"))
	}
	for _, name := range []string{"eu.example.org.", "web.EU.example.org.", "x.eu.example.org."} {
		for _, qtype := range []uint16{dns.TypeA, dns.TypeSRV, dns.TypeNS, dns.TypeSOA, dns.TypeANY} {
			m := s.askAt("127.0.0.1", name, qtype, false)
			if m.Rcode != dns.RcodeSuccess || m.Authoritative || m.Truncated || len(m.Answer) > 0 {
				t.Fatalf("got\n%s\nwant a referral", m)
			}
			if got, want := strings.ToLower(lines(m.Ns)), "eu.example.org. 9 in ns ns.dns.eu.example.org.\n"; got != want {
				t.Errorf("%s: got %q, want %q", name, got, want)
			}
			if got, want := lines(m.Extra[:1]), "ns.dns.eu.example.org. 9 IN A 127.0.0.2\n"; got != want {
				t.Errorf("%s: got %q, want %q", name, got, want)
			}
		}
	}
	if m := s.askAt("127.0.0.2", "web.eu.example.org.", dns.TypeA, false); len(m.Answer) != 1 || !m.Authoritative {
		t.Errorf("of the other block: got\n%s\nwant an address", m)
	}
	// The pool web.eu has another name in the upper zone.
	if m := s.askAt("127.0.0.1", encodeHandle("web.eu")+".example.org.", dns.TypeSRV, false); len(m.Answer) != 1 || strings.Contains(m.Answer[0].(*dns.SRV).Target, "web.eu") {
		t.Errorf("got\n%s\nwant its name in the upper zone", m)
	}
}

// TestDelegationServers: a zone of several blocks has the name servers of those near the upper zone, or else
// of all. A zone that the upper block has itself is not another block's.
func TestDelegationServers(t *testing.T) {
	at := func(addr, zones, options string) *block {
		cfg, err := parse(caddy.NewTestController("dns", "rserpool "+zones+" {\n"+options+"\n}"))
		if err != nil {
			t.Fatal(err)
		}
		hosts := []string{addr}
		return &block{zones: newHandler(cfg, hosts, 1).zones, config: &dnsserver.Config{ListenHosts: hosts}, keys: cfg.zones, ports: []string{"53"}}
	}
	lower := blocks{
		at("192.0.2.1", "eu.example.org", ""),
		at("192.0.2.2", "eu.example.org", "nameserver ns.eu.example.org"),
		at("192.0.2.2", "eu.example.org x.eu.example.org", "nameserver ns.eu.example.org 192.0.2.9 192.0.2.2\nnameserver ns.example.net"),
	}
	onlyTLS := at("192.0.2.7", "eu.example.org", "")
	onlyTLS.ports = nil
	lower = append(lower, onlyTLS)
	for _, tt := range []struct {
		addr, zones string
		want        []string
	}{
		{"192.0.2.1", "example.org", []string{"ns.dns.eu.example.org.[192.0.2.1]"}},
		{"192.0.2.2", "example.org", []string{"ns.eu.example.org.[192.0.2.2 192.0.2.9]", "ns.example.net."}},
		{"192.0.2.3", "example.org", []string{"ns.dns.eu.example.org.[192.0.2.1]", "ns.eu.example.org.[192.0.2.2 192.0.2.9]", "ns.example.net."}},
		{"0.0.0.0", "example.org", []string{"ns.dns.eu.example.org.[192.0.2.1]", "ns.eu.example.org.[192.0.2.2 192.0.2.9]", "ns.example.net."}},
		{"192.0.2.3", "example.org eu.example.org", nil},
		{"192.0.2.3", "x.eu.example.org example.net", nil},
	} {
		upper := at(tt.addr, tt.zones, "")
		var got []string
		for _, z := range append(lower, upper).below(upper) {
			for _, s := range z.servers {
				switch {
				case z.name != "eu.example.org.":
				case s.inZone:
					got = append(got, fmt.Sprint(s.name, s.addrs))
				default:
					got = append(got, s.name)
				}
			}
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s at %s (-want +got):\n%s", tt.zones, tt.addr, diff)
		}
	}
	if got := lower[0].zones[0].servers[0].addrs; len(got) != 1 {
		t.Errorf("the zone has the addresses %v now", got)
	}
}

// TestDelegationReachable: name server records have no port. So a zone is a delegation only if clients of the upper
// zone come to its block, and not back to the block that has sent them.
func TestDelegationReachable(t *testing.T) {
	withFakes(t)
	at := func(port, addr string) string { return blockText("eu.example.org:"+port, addr, "") }
	other := fmt.Sprint(here.FreePort(t))
	for _, tt := range []struct {
		what, lower string
		want        []string // addresses of name servers
	}{
		{"the same port", at("0", "127.0.0.2"), []string{"127.0.0.2"}},
		{"another port", at(other, "127.0.0.2"), nil},
		{"a block at another port, and one that is farther away", at(other, "127.0.0.1") + at("0", "127.0.0.2"), []string{"127.0.0.2"}},
		{"a view", "eu.example.org:0 {\n bind 127.0.0.1\n view in {\n expr false\n}\n rserpool\n}\n", nil},
	} {
		s := startServer(t, blockText("example.org:0", "127.0.0.1", "")+tt.lower)
		var got []string
		for _, rr := range s.copyOf("example.org.") {
			if a, ok := rr.(*dns.A); ok && strings.HasSuffix(a.Hdr.Name, ".eu.example.org.") {
				got = append(got, a.A.String())
			}
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.what, diff)
		}
		s.stop()
	}
}

// TestDelegationReload: a reload has the delegations of its Corefile, and one that fails changes nothing.
func TestDelegationReload(t *testing.T) {
	withFakes(t)
	taken, _ := takenPort(t)
	upper, lower := blockText("example.org:0", "127.0.0.1", ""), blockText("eu.example.org:0", "127.0.0.2", "")
	s := startServer(t, upper)
	isReferral := func() bool {
		m := s.askAt("127.0.0.1", "x.eu.example.org.", dns.TypeA, false)
		return m.Rcode == dns.RcodeSuccess
	}
	for _, tt := range []struct {
		what, text string
		fails      bool
		want       bool
	}{
		{"a reload that fails", upper + lower + fmt.Sprintf("example.net:%d {\n bind 127.0.0.1\n whoami\n}\n", taken), true, false},
		{"the lower zone is new", upper + lower, false, true},
		{"the lower zone is there no longer, in a reload that fails", upper + fmt.Sprintf("example.net:%d {\n bind 127.0.0.1\n whoami\n}\n", taken), true, true},
		{"the lower zone is there no longer", upper, false, false},
	} {
		if err := s.reload(tt.text); (err != nil) != tt.fails {
			t.Fatalf("%s: got %v", tt.what, err)
		}
		if got := isReferral(); got != tt.want {
			t.Errorf("%s: there is a referral: %t, want %t", tt.what, got, tt.want)
		}
	}
}

// TestDelegationFallthrough: fallthrough hands names of other blocks on, and the zone above has the
// DS records all the same.
func TestDelegationFallthrough(t *testing.T) {
	withFakes(t)
	s := startServer(t, "example.org:0 {\n bind 127.0.0.1\n rserpool {\n fallthrough\n}\n whoami\n}\n"+blockText("eu.example.org:0", "127.0.0.2", ""))
	if m := s.askAt("127.0.0.1", "x.eu.example.org.", dns.TypeA, false); len(m.Ns) > 0 || len(m.Extra) < 2 {
		t.Errorf("got\n%s\nwant the answer of whoami", m)
	}
	if m := s.askAt("127.0.0.1", "eu.example.org.", dns.TypeDS, false); m.Rcode != dns.RcodeSuccess || len(m.Ns) != 1 || m.Ns[0].Header().Rrtype != dns.TypeSOA {
		t.Errorf("got\n%s\nwant NODATA", m)
	}
}

// TestDelegationUnserved: a zone of which its block gets no query is no delegation.
func TestDelegationUnserved(t *testing.T) {
	withFakes(t)
	s := startServer(t, blockText("example.org:0", "127.0.0.1", "")+"example.net:0 {\n bind 127.0.0.1\n rserpool eu.example.org\n}\n")
	if m := s.askAt("127.0.0.1", "x.eu.example.org.", dns.TypeA, false); !isUnknown(m) {
		t.Errorf("got\n%s\nwant NXDOMAIN", m)
	}
}
