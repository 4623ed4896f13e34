package clients_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rserpool/coredns-rserpool/test/clients"
)

// ednsTests are the questions of ISC's DNS compliance tests that dig can ask, under the names
// that these have there (RFC 8906, Section 8, describes them). The type is SOA if none is given.
var ednsTests = []struct{ name, args string }{
	{"dns", "+noedns"},
	{"aa", "+noedns +aaflag"},
	{"ad", "+noedns +ad"},
	{"cd", "+noedns +cd"},
	{"rd", "+noedns +rec"},
	{"zflag", "+noedns +zflag"},
	{"opcode", "+noedns +header-only +opcode=15"},
	{"type666", "+noedns TYPE666"},
	{"tcp", "+noedns +tcp"},
	{"edns", "+edns=0 +nocookie"},
	{"edns1", "+edns=1 +noednsneg +nocookie"},
	{"edns@512", "+edns=0 +nocookie +dnssec +ignore +bufsize=512 DNSKEY"},
	{"ednsopt", "+edns=0 +nocookie +ednsopt=100"},
	{"edns1opt", "+edns=1 +noednsneg +nocookie +ednsopt=100"},
	{"do", "+edns=0 +nocookie +dnssec"},
	{"docd", "+edns=0 +nocookie +dnssec +cd"},
	{"edns1do", "+edns=1 +noednsneg +nocookie +dnssec"},
	{"ednsflags", "+edns=0 +nocookie +ednsflags=0x0080"},
	{"optlist", "+edns=0 +nsid +subnet=0.0.0.0/0 +expire +cookie=0102030405060708"},
	{"ednsnsid", "+edns=0 +nocookie +nsid"},
	{"ednscookie", "+edns=0 +cookie=0102030405060708"},
	{"ednsexpire", "+edns=0 +nocookie +expire"},
	{"ednssubnet", "+edns=0 +nocookie +subnet=0.0.0.0/0"},
	{"edns1nsid", "+edns=1 +noednsneg +nocookie +nsid"},
	{"edns1cookie", "+edns=1 +noednsneg +cookie=0102030405060708"},
	{"edns1expire", "+edns=1 +noednsneg +nocookie +expire"},
	{"edns1subnet", "+edns=1 +noednsneg +nocookie +subnet=0.0.0.0/0"},
	{"ednstcp", "+edns=0 +nocookie +dnssec +bufsize=512 +tcp DNSKEY"},
	{"bind11", "+edns=0 +cookie=0102030405060708 +dnssec"},
	{"dig11", "+edns=0 +cookie=0102030405060708 +ad +rec"},
	// These are not of ISC.
	{"ednspadding", "+edns=0 +nocookie +padding=128"},
	{"ednskeepalive", "+edns=0 +nocookie +keepalive +tcp"},
	{"edns@0", "+edns=0 +nocookie +dnssec +bufsize=0"},
	{"ednsflagsopt", "+edns=0 +nocookie +ednsflags=0x00ff +ednsopt=65001:00ff"},
	{"ednsflags14", "+edns=0 +nocookie +ednsflags=0x0100"},
}

// ednsFaults are faults of CoreDNS itself, which the file plugin has as well.
var ednsFaults = map[string]string{
	"ednsflags14": "mbz", // it echoes the flags from 0x0100 to 0x4000
}

// TestEDNS asks them of CoreDNS with rserpool, and of a zone of the file plugin in the same
// server. There is nothing wrong with an answer but what is wrong with both.
func TestEDNS(t *testing.T) {
	t.Parallel()
	clients.Need(t, "dig", "bind9-dnsutils")
	_, key := zoneKey(t, clients.Zone)
	_, otherKey := zoneKey(t, "example.net")
	file := filepath.Join(t.TempDir(), "zone")
	if err := os.WriteFile(file, []byte("$ORIGIN example.net.\n@ 5 IN SOA ns hostmaster 1 2 3 4 5\n@ 5 IN NS ns\nns 5 IN A 192.0.2.53\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	s := clients.New(t, signed(clients.Corefile, key)+fmt.Sprintf("example.net {\n    bind %s\n    file \"%s\"\n    dnssec {\n        key file \"%s\"\n    }\n}\n", clients.Server, file, otherKey))
	c := s.Client("client")
	for _, test := range ednsTests {
		args := append([]string{"dig", "@" + clients.Server, "+noad", "+norec"}, strings.Fields(test.args)...)
		if last := args[len(args)-1]; last[0] == '+' {
			args = append(args, "SOA")
		}
		for _, zone := range []string{clients.Zone, "example.net"} {
			out, err := c.Try(append(args, zone)...)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(ednsProblems(test.args, out), ","); got != ednsFaults[test.name] {
				t.Errorf("%s: %s: got %q, want %q\n%s", test.name, zone, got, ednsFaults[test.name], out)
			}
		}
	}
}

// ednsProblems returns what is wrong with an answer, in the words of ISC's tests.
func ednsProblems(args, out string) (bad []string) {
	has := func(expr string) bool { return regexp.MustCompile("(?m)" + expr).MatchString(out) }
	asked := func(option string) bool { return slices.Contains(strings.Fields(args), option) }
	expect := func(name string, ok bool) {
		if !ok {
			bad = append(bad, name)
		}
	}
	edns, status := !asked("+noedns"), "NOERROR"
	switch {
	case asked("+edns=1"):
		status = "BADVERS"
	case asked("+opcode=15"):
		status = "NOTIMP"
	}
	records := status == "NOERROR" && !asked("TYPE666")
	expect("status", has("status: "+status+","))
	expect("nosoa", !records || has(`\sIN\s(SOA|DNSKEY)\s.*\d`))
	expect("soa", records || has("ANSWER: 0,"))
	expect("noaa", status != "NOERROR" || has("^;; flags: qr aa"))
	expect("aa", status == "NOERROR" || !has("^;; flags:[^;]* aa"))
	expect("ad", !has("^;; flags:[^;]* ad"))
	expect("ra", !has("^;; flags:[^;]* ra"))
	expect("rd", asked("+rec") == has("^;; flags:[^;]* rd"))
	expect("z", !has("^;; flags:.*MBZ"))
	expect("noopt", !edns || has("^; EDNS: "))
	expect("opt", edns || !has("^; EDNS: "))
	expect("version", !edns || has("^; EDNS: version: 0,"))
	expect("mbz", !has("^; EDNS: .*MBZ"))
	expect("nodo", !asked("+dnssec") || status != "NOERROR" || has("^; EDNS: .* do;"))
	expect("nosig", !asked("+dnssec") || status != "NOERROR" || has(`\sRRSIG\s`))
	expect("echoed", !has("^; (OPT|NSID|CLIENT-SUBNET|EXPIRE|PAD|TCP KEEPALIVE)[=:]"))
	if size := regexp.MustCompile(`MSG SIZE  rcvd: (\d+)`).FindStringSubmatch(out); size != nil && !asked("+tcp") {
		n, _ := strconv.Atoi(size[1])
		expect("toobig", n <= 512)
	}
	return bad
}
