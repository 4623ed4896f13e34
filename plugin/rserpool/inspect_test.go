package rserpool

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/coredns/coredns/plugin/test"
	"github.com/miekg/dns"
)

// TestInspect: names below _rserpool are refused to clients outside of the networks, for all types
// and in the same way. Nothing else is.
func TestInspect(t *testing.T) {
	const lines = "rserpool pool.example.org {\n inspect 10.0.0.0/8 192.0.2.1\n inspect 2001:db8::/32 fe80::/10\n}"
	limited, open := newTestHandler(t, lines, testSpace(t)), newTestHandler(t, "rserpool pool.example.org", testSpace(t))
	inside := []string{"_rserpool." + zoneZ, "_RSERPOOL.homes." + zoneZ, "_rserpool.pe-abcdef01.four." + zoneZ}
	others := []string{zoneZ, "homes." + zoneZ, "pe-abcdef01.four." + zoneZ, "_rserpool.nowhere." + zoneZ, "_http._tcp.web." + zoneZ, "ns.dns." + zoneZ}
	types := []uint16{dns.TypeTXT, dns.TypeA, dns.TypeSRV, dns.TypeANY, dns.TypeHINFO, dns.TypeNSEC, dns.TypeDS}
	for ip, may := range map[string]bool{
		"10.1.2.3": true, "192.0.2.1": true, "::ffff:10.1.2.3": true, "2001:db8::7": true,
		"11.0.0.1": false, "192.0.2.2": false, "2001:db9::1": false, "::1": false, "127.0.0.1": false,
	} {
		for _, tcp := range []bool{false, true} {
			w := &test.ResponseWriter{RemoteIP: ip, TCP: tcp}
			for _, qtype := range types {
				for _, name := range inside {
					q := new(dns.Msg).SetQuestion(name, qtype)
					if got := askFrom(t, limited, w, q); may && got.String() != askFrom(t, open, w, q).String() || !may && (got.Rcode != dns.RcodeRefused || len(got.Answer)+len(got.Ns)+len(got.Extra) > 0) {
						t.Errorf("%s asks for %s %s, and may %v: got\n%s", ip, name, dns.TypeToString[qtype], may, got)
					}
				}
				for _, name := range others {
					q := new(dns.Msg).SetQuestion(name, qtype)
					if got, want := askFrom(t, limited, w, q), askFrom(t, open, w, q); got.Rcode != want.Rcode || len(got.Answer) != len(want.Answer) {
						t.Errorf("%s asks for %s %s: got\n%s\nwithout the option\n%s", ip, name, dns.TypeToString[qtype], got, want)
					}
				}
			}
		}
	}
	w := &test.ResponseWriter{RemoteIP: "11.0.0.1"}
	got := askFrom(t, limited, w, new(dns.Msg).SetQuestion(inside[1], dns.TypeTXT).SetEdns0(1232, true))
	if got.Rcode != dns.RcodeRefused || got.IsEdns0() == nil || len(got.IsEdns0().Option) != 1 {
		t.Fatalf("with EDNS: got\n%s", got)
	}
	if e, ok := got.IsEdns0().Option[0].(*dns.EDNS0_EDE); !ok || e.InfoCode != dns.ExtendedErrorCodeProhibited {
		t.Errorf("with EDNS: got\n%s\nwant the error Prohibited", got)
	}
	nobody := newTestHandler(t, "rserpool pool.example.org {\n inspect off\n}", testSpace(t))
	if got := askFrom(t, nobody, &test.ResponseWriter{RemoteIP: "127.0.0.1"}, new(dns.Msg).SetQuestion(inside[0], dns.TypeTXT)); got.Rcode != dns.RcodeRefused {
		t.Errorf("inspect off: got\n%s", got)
	}
}

// TestInspectUnknown: a client of which the server knows no address is none of a network.
func TestInspectUnknown(t *testing.T) {
	all := newTestHandler(t, "rserpool pool.example.org {\n inspect 0.0.0.0/0 ::/0\n}", testSpace(t))
	q := new(dns.Msg).SetQuestion("_rserpool."+zoneZ, dns.TypeTXT)
	if got := askFrom(t, all, &addrWriter{}, q); got.Rcode != dns.RcodeRefused {
		t.Errorf("got\n%s", got)
	}
	if got := askFrom(t, all, &test.ResponseWriter{}, q); len(got.Answer) != 1 {
		t.Errorf("with an address: got\n%s", got)
	}
}

// TestInspectTransfer: what secondaries get has the same names, and says nothing there.
func TestInspectTransfer(t *testing.T) {
	texts := func(options string) (names, told int) {
		f := testSpace(t)
		put(t, f.space, "bare", element(1, 80, ""))
		h := newTestHandler(t, "rserpool pool.example.org {\n pool none\n"+options+"\n}", f)
		ch, err := h.Transfer(zoneZ, 0)
		if err != nil {
			t.Fatal(err)
		}
		for rrs := range ch {
			for _, rr := range rrs {
				if x, ok := rr.(*dns.TXT); ok && strings.HasPrefix(x.Hdr.Name, "_rserpool.") {
					names++
					if strings.Join(x.Txt, "") != "" {
						told++
					}
				}
			}
		}
		return names, told
	}
	names, told := texts("")
	if names == 0 || told != names {
		t.Fatalf("without the option, %d of %d texts say something", told, names)
	}
	for _, option := range []string{"inspect 10.0.0.0/8", "inspect off"} {
		if n, told := texts(option); n != names || told != 0 {
			t.Errorf("%s: %d of %d texts say something, want 0 of %d", option, told, n, names)
		}
	}
}

// TestServerInspect: what one client may read is kept for no other one, by neither dnssec nor cache.
// A reload changes who may.
func TestServerInspect(t *testing.T) {
	fakes := withFakes(t)
	_, file := zoneKey(t)
	text := func(options string) string {
		return fmt.Sprintf("pool.example.org:0 {\n bind 127.0.0.1\n cache\n rserpool {\n %s\n }\n dnssec {\n key file \"%s\"\n }\n}", options, file)
	}
	s := startServer(t, text("inspect 127.0.0.1"))
	for _, f := range fakes {
		put(t, f.space, "web", element(1, 80, "192.0.2.1"))
	}
	name := "_rserpool.web." + zoneZ
	ask := func(qtype uint16) *dns.Msg {
		t.Helper()
		c := dns.Client{Timeout: 20 * time.Second}
		m, _, err := c.Exchange(new(dns.Msg).SetQuestion(name, qtype).SetEdns0(1232, true), s.addr())
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	text1 := ask(dns.TypeTXT)
	if len(text1.Answer) != 2 || !strings.Contains(lines(text1.Answer), `"elements=1"`) {
		t.Fatalf("in the network: got\n%s\nwant a text and its signature", text1)
	}
	for _, f := range fakes {
		put(t, f.space, "web", element(2, 80, "192.0.2.2"))
	}
	if m := ask(dns.TypeTXT); !strings.Contains(lines(m.Answer), `"elements=2"`) {
		t.Errorf("the cache has kept a text:\n%s", m)
	}
	if err := s.reload(text("inspect 192.0.2.0/24")); err != nil {
		t.Fatal(err)
	}
	for range 2 { // a refusal is not kept, either
		for _, qtype := range []uint16{dns.TypeTXT, dns.TypeANY, dns.TypeA, dns.TypeNSEC} {
			if m := ask(qtype); m.Rcode != dns.RcodeRefused || len(m.Answer)+len(m.Ns) > 0 {
				t.Errorf("outside of the network, %s: got\n%s", dns.TypeToString[qtype], m)
			}
		}
	}
	if err := s.reload(text("ttl 5")); err != nil {
		t.Fatal(err)
	}
	if m := ask(dns.TypeTXT); len(m.Answer) != 2 {
		t.Errorf("without the option: got\n%s", m)
	}
}
