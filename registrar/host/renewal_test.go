package host

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap/pe"
	"github.com/rserpool/coredns-rserpool/internal/identity"
	"github.com/rserpool/coredns-rserpool/internal/trust/trusttest"
	"github.com/rserpool/coredns-rserpool/registrar"
	"github.com/rserpool/coredns-rserpool/rserpool"
	"github.com/rserpool/coredns-rserpool/test/here"
)

// look is how often the files are looked at in tests.
const look = 50 * time.Millisecond

// dirOf is the directory of files.
func dirOf(f rserpool.TLSFiles) string { return filepath.Dir(f.Cert) }

// TestRenewedElement: an element that gets a new certificate makes its association anew. It stays
// in the handlespace, and nobody logs anything or asks anybody.
func TestRenewedElement(t *testing.T) {
	s := newTrustedScope(t, nil)
	name := inPool(t, "web", "h1")
	files := s.issue(t, name)
	events := make(chan pe.Event, 100)
	e, err := pe.Open(pe.Config{
		Pool: "web", ID: 7, Policy: rserpool.Policy{Type: rserpool.RoundRobin},
		Transport:  rserpool.Transport{Type: rserpool.TCP, Port: 80, Addrs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}},
		Registrars: []string{s.via}, Via: rserpool.ViaUDP, TLS: files, Timers: pe.Timers{Stop: 100 * time.Millisecond, Files: look},
		Notify: func(ev pe.Event) { events <- ev },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	if err := wait(t, e); err != nil {
		t.Fatal(err)
	}
	if ev := <-events; ev.Type != pe.Registered {
		t.Fatalf("got event %v, want the registration", ev)
	}
	soon(t, "line of the registration", func() bool { return strings.Contains(s.log.String(), "is registered at") })
	before := s.log.String()
	for n := range uint64(3) {
		now := time.Now()
		s.ca.Issue(t, dirOf(files), name, now, now.Add(24*time.Hour))
		soon(t, "re-registration", func() bool {
			if p := s.Space().Pool("web"); p == nil || p.Element(7) == nil {
				t.Fatal("the element is not in the handlespace during the renewal")
			}
			if !e.State().Registered {
				t.Fatal("the element takes itself for not registered during the renewal")
			}
			return s.Stats().Reregistrations > n
		})
	}
	for range 3 {
		if ev := <-events; ev.Type != pe.Reregistered {
			t.Errorf("got event %v, want re-registrations only", ev)
		}
	}
	st := s.Stats()
	if got := st.AssociationsTotal; sum(got[:]) != 4 {
		t.Errorf("%v associations in all, want the first one and 3 more", got)
	}
	if st.Registrations != 1 {
		t.Errorf("%d registrations of new elements, want 1", st.Registrations)
	}
	if after := s.log.String(); after != before {
		t.Errorf("the registrar logs %q", strings.TrimPrefix(after, before))
	}
}

func sum(list []uint64) (n uint64) {
	for _, k := range list {
		n += k
	}
	return n
}

// TestRenewedPeers: a registrar that gets a new certificate makes its link to another registrar
// anew, and neither suspects the other.
func TestRenewedPeers(t *testing.T) {
	encap := here.FreePort(t)
	at := func(ip string) func(*Config) {
		return func(c *Config) {
			c.ASAP = []netip.AddrPort{netip.MustParseAddrPort(ip + ":0")}
			c.ENRP = []netip.AddrPort{netip.MustParseAddrPort(ip + ":0")}
			c.EncapPort, c.PeerEncapPort, c.CloseTimeout = encap, encap, 100*time.Millisecond
			c.Trust.look = look
		}
	}
	first := newTrustedScope(t, nil, at("127.0.0.1"))
	name, err := identity.Registrar("example.org", "ns2")
	if err != nil {
		t.Fatal(err)
	}
	second := &trustedScope{ca: first.ca, log: new(log)}
	files := first.issue(t, name)
	second.Host = loopbackHost(t, func(c *Config) {
		c.Trust = Trust{TLSFiles: files}
		c.Peers, c.Logger = first.ENRPAddrs(), second.log.logger()
	}, at("127.0.0.2"))
	e, _ := first.element(t, first.issue(t, inPool(t, "web", "h1")), 7)
	if err := wait(t, e); err != nil {
		t.Fatal(err)
	}
	second.elements(t, 1)
	met := func() uint64 { n := second.Stats().AssociationsTotal; return sum(n[:]) }
	for range 3 {
		before := met()
		now := time.Now()
		first.ca.Issue(t, dirOf(files), name, now, now.Add(24*time.Hour))
		soon(t, "new link", func() bool { second.elements(t, 1); return met() > before })
	}
	for _, s := range []*trustedScope{first, second} {
		soon(t, "active peer", func() bool { return s.Stats().Peers[registrar.PeerActive] == 1 })
		if text := s.log.String(); strings.Contains(text, "suspect") {
			t.Errorf("a registrar suspects the other one:\n%s", text)
		}
	}
}

// TestRenewedTooEarly: an element gets a certificate of an authority that the registrar does not
// have yet. The registrar refuses it, and the element goes on with the former one.
func TestRenewedTooEarly(t *testing.T) {
	s := newTrustedScope(t, nil)
	name := inPool(t, "web", "h1")
	files := s.issue(t, name)
	both, err := os.ReadFile(files.CA)
	if err != nil {
		t.Fatal(err)
	}
	next := trusttest.New(t, "example.org", time.Now())
	both = append(both, next.PEM()...)
	trusttest.Write(t, files.CA, both)
	said := new(log)
	e, err := pe.Open(pe.Config{
		Pool: "web", ID: 7, Policy: rserpool.Policy{Type: rserpool.RoundRobin},
		Transport:  rserpool.Transport{Type: rserpool.TCP, Port: 80, Addrs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}},
		Registrars: []string{s.via}, Via: rserpool.ViaUDP, TLS: files, Timers: pe.Timers{Stop: 100 * time.Millisecond, Files: look},
		Logger: said.logger(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	if err := wait(t, e); err != nil {
		t.Fatal(err)
	}
	// The CA file is not written again: with the new authority alone, even for a moment, it would
	// say that the change is finished.
	now := time.Now()
	fresh := next.Issue(t, t.TempDir(), name, now, now.Add(24*time.Hour))
	for from, to := range map[string]string{fresh.Cert: files.Cert, fresh.Key: files.Key} {
		b, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		trusttest.Write(t, to, b)
	}
	soon(t, "return with the former certificate", func() bool {
		if p := s.Space().Pool("web"); p == nil || p.Element(7) == nil {
			t.Fatal("the element is not in the handlespace any more")
		}
		return s.Stats().Reregistrations > 0
	})
	if text := said.String(); !strings.Contains(text, "a peer refuses our new certificate") {
		t.Errorf("the element does not say that its certificate is refused:\n%s", text)
	}
	s.has(t, "unknown authority")
}
