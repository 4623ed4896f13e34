package interop

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// dualStack starts CoreDNS and two dual-stack elements of the pool web. Their
// transport is SCTP: the others have one address (RFC 5354, Section 3.5).
func (l *lab) dualStack(options string, plugins string) (client *node) {
	l.t.Helper()
	const six = "fd00:99::1"
	r := l.node("r1", registrarIP+"/24,"+six+"/64")
	client = l.node("pu", "10.99.0.21/24,fd00:99::21/64")
	l.capture()
	r.coredns(registrarIP, fmt.Sprintf(`pool.example.org {
	rserpool {
		asap %s %s
		%s
	}
	%s
	errors
}
`, registrarIP, six, options, plugins))
	for i := 1; i <= 2; i++ {
		pe := l.node(fmt.Sprintf("pe%d", i), fmt.Sprintf("10.99.0.1%d/24,fd00:99::1%d/64", i, i))
		pe.start(l.bin("rsp"), "register", "--registrar", registrarIP, "--pool", "web", "--serve", "sctp:80", "--id", fmt.Sprintf("0x0000000%d", i),
			"--address", fmt.Sprintf("10.99.0.1%d", i), "--address", fmt.Sprintf("fd00:99::1%d", i))
	}
	l.registered(registrarIP, "web", 2)
	return client
}

// TestPairs: 1,000 times A and AAAA asked together: each pair names the same
// element, and each element gets half of them.
func TestPairs(t *testing.T) {
	l := newLab(t)
	l.dualStack("ttl 5", "")
	conn, err := dns.Dial("udp", registrarIP+":53")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	name := "web.pool.example.org."
	count := map[string]int{}
	// The first lookups may share what the questions of the set-up have selected: those came
	// from this host, too, and it keeps 17 at most.
	const before = 20
	for i := range before + 1000 {
		// As a stub resolver does: both queries at once, answers in any order.
		for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
			if err := conn.WriteMsg(new(dns.Msg).SetQuestion(name, qtype)); err != nil {
				t.Fatal(err)
			}
		}
		var a, aaaa string
		for range 2 {
			m, err := conn.ReadMsg()
			if err != nil || len(m.Answer) != 1 {
				t.Fatalf("%v, %v, want one record", m, err)
			}
			switch rr := m.Answer[0].(type) {
			case *dns.A:
				a = rr.A.String()
			case *dns.AAAA:
				aaaa = rr.AAAA.String()
			}
		}
		if strings.TrimPrefix(a, "10.99.0.") != strings.TrimPrefix(aaaa, "fd00:99::") {
			t.Fatalf("pair %d names two elements: %s and %s", i, a, aaaa)
		}
		if i >= before {
			count[a]++
		}
	}
	if count["10.99.0.11"] != 500 || count["10.99.0.12"] != 500 {
		t.Errorf("shares %v, want 500 each", count)
	}
}

// TestGetent: what a program gets through glibc, which asks for A and AAAA at
// once.
func TestGetent(t *testing.T) {
	l := newLab(t)
	pu := l.dualStack("ttl 0", "")
	resolv := l.file("resolv.conf", "nameserver "+registrarIP+"\noptions timeout:2\n")
	hosts := l.file("hosts", "127.0.0.1 localhost\n")
	nsswitch := l.file("nsswitch.conf", "hosts: files dns\n")
	script := l.file("getent.sh", fmt.Sprintf(`set -e
mount --bind %s /etc/resolv.conf
mount --bind %s /etc/hosts
mount --bind %s /etc/nsswitch.conf
for i in $(seq 20); do getent ahosts web.pool.example.org | awk '$2 == "STREAM" {print $1}' | sort | paste -sd' '; done
`, resolv, hosts, nsswitch))
	out, err := pu.run("unshare", "-m", "bash", script)
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for line := range strings.Lines(out) {
		count[strings.TrimSpace(line)]++
	}
	first, second := count["10.99.0.11 fd00:99::11"], count["10.99.0.12 fd00:99::12"]
	if first != 10 || second != 10 {
		t.Errorf("getent gave %v, want each element's two addresses 10 times", count)
	}
}

// TestDNSTools: dig, kdig and a resolver (unbound) understand what we say.
func TestDNSTools(t *testing.T) {
	l := newLab(t)
	pu := l.dualStack("ttl 0", "")
	for _, args := range [][]string{
		{"dig", "+short", "@" + registrarIP},
		{"kdig", "+short", "@" + registrarIP},
		{"dig", "+short", "+tcp", "@" + registrarIP},
		{"kdig", "+short", "+edns", "+bufsize=1232", "@" + registrarIP},
	} {
		out, err := pu.run(append(args, "SRV", "_http._sctp.web.pool.example.org")...)
		if err != nil || strings.Count(out, "pe-0000000") != 2 {
			t.Errorf("%v: %q, %v, want both elements", args, out, err)
		}
	}

	conf := l.file("unbound.conf", fmt.Sprintf(`server:
	directory: "%[1]s"
	chroot: ""
	pidfile: ""
	username: ""
	use-syslog: no
	interface: 127.0.0.1
	module-config: "iterator"
	do-not-query-localhost: no
	target-fetch-policy: "0 0 0 0 0"
stub-zone:
	name: "pool.example.org"
	stub-addr: %[2]s
`, l.dir, registrarIP))
	pu.start("unbound", "-d", "-v", "-c", conf).says("start of service")
	var seen [2]bool
	eventually(t, "unbound gives both elements' addresses", func() error {
		out, err := pu.run("dig", "+short", "+time=2", "@127.0.0.1", "A", "web.pool.example.org")
		seen[0] = seen[0] || out == "10.99.0.11\n"
		seen[1] = seen[1] || out == "10.99.0.12\n"
		if err == nil && seen != [2]bool{true, true} {
			err = fmt.Errorf("last %q, seen %v", out, seen)
		}
		return err
	})
	out, err := pu.run("dig", "@127.0.0.1", "AAAA", "nosuch.pool.example.org")
	if err != nil || !strings.Contains(out, "NXDOMAIN") {
		t.Errorf("unbound on an unknown pool: %s, %v, want NXDOMAIN", out, err)
	}
}

// TestDelv: answers that the dnssec plugin signs on the fly validate, positive
// and negative ones.
func TestDelv(t *testing.T) {
	l := newLab(t)
	key := &dns.DNSKEY{
		Hdr:   dns.RR_Header{Name: "pool.example.org.", Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET, Ttl: 3600},
		Flags: 257, Protocol: 3, Algorithm: dns.ECDSAP256SHA256,
	}
	private, err := key.Generate(256)
	if err != nil {
		t.Fatal(err)
	}
	base := fmt.Sprintf("Kpool.example.org.+%03d+%05d", key.Algorithm, key.KeyTag())
	public := l.file(base+".key", key.String()+"\n")
	l.file(base+".private", key.PrivateKeyString(private))
	pu := l.dualStack("ttl 5", "dnssec {\n\t\tkey file "+strings.TrimSuffix(public, ".key")+"\n\t}")
	anchor := l.file("anchor", fmt.Sprintf("trust-anchors { \"pool.example.org.\" static-key 257 3 %d %q; };\n", key.Algorithm, key.PublicKey))

	for _, q := range [][2]string{
		{"A", "web.pool.example.org"}, {"AAAA", "web.pool.example.org"}, {"SRV", "_http._sctp.web.pool.example.org"},
		{"TXT", "_rserpool.web.pool.example.org"}, {"TXT", "web.pool.example.org"}, {"SOA", "pool.example.org"}, {"MX", "web.pool.example.org"}, {"A", "nosuch.pool.example.org"},
	} {
		out, err := pu.run("delv", "@"+registrarIP, "-a", anchor, "+root=pool.example.org", q[1], q[0])
		if err != nil || !strings.Contains(out, "fully validated") {
			t.Errorf("delv %s %s: %v\n%s", q[0], q[1], err, out)
		}
	}
}

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		fmt.Fprintln(os.Stderr, play(role))
		os.Exit(1)
	}
	if os.Getenv("IN_UML") == "" {
		fmt.Println("test/interop: outside of the kernel lab, all tests are skipped")
	}
	os.Exit(m.Run())
}
