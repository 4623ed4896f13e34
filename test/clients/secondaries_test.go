package clients_test

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/rserpool/coredns-rserpool/test/clients"
	"github.com/rserpool/coredns-rserpool/test/network"
)

// The addresses of secondaries in the manual, and of one more.
const (
	bindSecondary    = "192.0.2.60"
	nsdSecondary     = "192.0.2.61"
	corednsSecondary = "192.0.2.62"
)

// manual is the part of the plugin's manual that begins with a line and is one block long.
func manual(t *testing.T, line string) string {
	t.Helper()
	text, err := os.ReadFile("../../plugin/rserpool/README.md")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?s)` + regexp.QuoteMeta(line) + `.*?\n~~~ txt\n(.*?)\n~~~\n`).FindSubmatch(text)
	if m == nil {
		t.Fatalf("the manual has no block after %q", line)
	}
	// BIND asks the second one, which does not exist, for half a minute.
	return regexp.MustCompile(`(?m) 192\.0\.2\.54;|^.*192\.0\.2\.54 NOKEY$`).ReplaceAllString(string(m[1]), "")
}

// secondaries starts BIND, NSD and CoreDNS as secondaries, and returns what they say.
func secondaries(t *testing.T, s *clients.Site) map[string]*network.Process {
	t.Helper()
	clients.Need(t, "named", "bind9")
	clients.Need(t, "nsd", "nsd")
	b := s.Host("bind", bindSecondary)
	conf := b.NewFile("named.conf", `options {
	listen-on { `+bindSecondary+`; };
	listen-on-v6 { none; };
	recursion no;
	pid-file none;
	session-keyfile none;
};
controls { };
`+strings.Replace(manual(t, "This is the zone in `named.conf`"), `file "`, `file "`+b.NewFile("zone", ""), 1))
	n := s.Host("nsd", nsdSecondary)
	dir := n.NewFile("nsd", "")
	nsd := n.NewFile("nsd.conf", fmt.Sprintf(`server:
    ip-address: %s
    do-ip6: no
    username: ""
    chroot: ""
    pidfile: ""
    database: ""
    zonesdir: "/"
    xfrdfile: %[2]q
    zonelistfile: %[3]q
    cookie-secret-file: ""
    verbosity: 2
remote-control:
    control-enable: no
%s
`, nsdSecondary, dir+".xfrd", dir+".list", strings.Replace(manual(t, "And in `nsd.conf`"), "zonefile: ", "zonefile: "+dir, 1)))
	c := s.Host("coredns", corednsSecondary)
	processes := map[string]*network.Process{
		bindSecondary:    b.Start("named", "-g", "-4", "-c", conf),
		nsdSecondary:     n.Start("nsd", "-d", "-c", nsd),
		corednsSecondary: c.CoreDNS(clients.Zone + " {\n bind " + corednsSecondary + "\n secondary {\n transfer from " + clients.Server + "\n}\n}\n"),
	}
	for server := range processes {
		b.Serving(server)
	}
	return processes
}

// serial returns the serial number of a server's zone.
func serial(h *network.Host, server string) (uint32, error) {
	m, err := h.Query(server, clients.Zone+".", dns.TypeSOA)
	if err != nil {
		return 0, err
	}
	for _, rr := range m.Answer {
		if soa, ok := rr.(*dns.SOA); ok {
			return soa.Serial, nil
		}
	}
	return 0, fmt.Errorf("no SOA record: %s", m)
}

// TestSecondaries: BIND, NSD and CoreDNS as secondaries load a zone with odd names, follow
// changes, serve on when the registrar is gone, and follow again when it is back.
func TestSecondaries(t *testing.T) {
	t.Parallel()
	primary := corefile("timer KEEP-ALIVE-TIMEOUT 1s")
	primary = strings.Replace(primary, "    rserpool", fmt.Sprintf("    transfer {\n        to %s %s %s\n        source %s\n    }\n    rserpool", bindSecondary, nsdSecondary, corednsSecondary, clients.Server), 1)
	s := clients.NewBridged(t, primary)
	for i, odd := range []string{"Compute Pool", "a..b", "*", "BANK", "bank", "pe-00000001.web", strings.Repeat("x", 64), "x._http._tcp.web", `quote"and\slash`} {
		s.Elements(odd, clients.Element{ID: uint32(i), Policy: "wrr:weight=3"})
	}
	s.Elements("web", pool(1, 8)...)
	some := s.Elements("web", pool(100, 2)...)
	processes := secondaries(t, s)
	c := s.Client("client")
	servers := []string{bindSecondary, nsdSecondary, corednsSecondary}
	has := func(what string, n int) {
		t.Helper()
		c.Has(clients.Server, "web", n)
		for _, server := range servers {
			took := c.Has(server, "web", n)
			t.Logf("%s: %s has %d elements %v after the registrar", what, server, n, took)
			if took > 30*time.Second { // it refreshes the zone every 60 s
				t.Errorf("%s: %s has the change after %v, without a notification", what, server, took)
			}
		}
	}
	has("start", 10)
	some.Leave(100)
	has("one leaves", 9)
	some.Kill()
	has("one dies", 8)
	s.Elements("web", pool(200, 1)...)
	has("one joins", 9)

	for _, server := range servers {
		got, err := c.Lookup(server, "bank."+clients.Zone+".", dns.TypeA)
		want, _ := c.Lookup(clients.Server, "bank."+clients.Zone+".", dns.TypeA)
		if !slices.Equal(got, want) || len(want) != 1 {
			t.Errorf("%s: got the addresses %q of pool bank, %v, want %q", server, got, err, want)
		}
		if got, err := c.Lookup(server, "anything."+clients.Zone+".", dns.TypeA); err == nil {
			t.Errorf("%s: got %q for an unknown name, because of the pool *", server, got)
		}
	}

	s.CoreDNS.Signal(syscall.SIGKILL)
	<-s.CoreDNS.Exited()
	for _, server := range servers {
		if got, err := c.Lookup(server, "_http._tcp.web."+clients.Zone+".", dns.TypeSRV); len(got) != 9 {
			t.Errorf("%s, after the registrar was killed: got %q, %v, want 9 elements", server, got, err)
		}
	}
	before, err := serial(c, bindSecondary)
	if err != nil {
		t.Fatal(err)
	}
	s.Registrar.CoreDNS(primary)
	s.Registrar.Serving(clients.Server)
	s.Elements("later", pool(1, 2)...)
	for _, server := range servers {
		t.Logf("after a restart, %s has the new pool %v after it was registered", server, c.Has(server, "later", 2))
		if after, err := serial(c, server); err != nil || int32(after-before) <= 0 {
			t.Errorf("%s: serial %d after a restart, %v, was %d", server, after, err, before)
		}
	}
	for server, p := range processes {
		if text := p.Output(); strings.Contains(text, "check-names") {
			t.Errorf("%s says what names it does not like", server)
		}
		if bad := regexp.MustCompile(`(?mi)^.*(bad |dropped|not loaded|duplicate|too many|out of zone|failed while receiving|FORMERR|error:).*$`).FindAllString(p.Output(), 5); bad != nil {
			t.Errorf("%s says\n%s", server, strings.Join(bad, "\n"))
		}
	}
}
