package host

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/asap/pe"
	"github.com/rserpool/coredns-rserpool/asap/pu"
	"github.com/rserpool/coredns-rserpool/internal/identity"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
	"github.com/rserpool/coredns-rserpool/internal/trust"
	"github.com/rserpool/coredns-rserpool/internal/trust/trusttest"
	"github.com/rserpool/coredns-rserpool/registrar"
	"github.com/rserpool/coredns-rserpool/rserpool"
	"github.com/rserpool/coredns-rserpool/test/here"
)

// patience is the longest wait for an event.
const patience = 30 * time.Second

// trustedScope is a Host with TLS on the loopback, and the authority of its scope.
type trustedScope struct {
	*Host
	ca  *trusttest.CA
	log *log
	via string // of Config.Registrars
}

// newTrustedScope starts one. change, unless it is nil, changes its trust, and others the
// rest.
func newTrustedScope(t *testing.T, change func(*Trust), others ...func(*Config)) *trustedScope {
	t.Helper()
	s := &trustedScope{ca: trusttest.New(t, "example.org", time.Now()), log: new(log)}
	name, err := identity.Registrar("example.org", "ns1")
	if err != nil {
		t.Fatal(err)
	}
	s.Host = loopbackHost(t, append(others, func(c *Config) {
		c.Trust = Trust{TLSFiles: s.issue(t, name)}
		if change != nil {
			change(&c.Trust)
		}
		c.Logger = s.log.logger()
	})...)
	s.via = fmt.Sprintf("%v/%d", s.LocalAddrs()[0], s.cfg.EncapPort)
	return s
}

// issue makes the files of a name in a directory of its own.
func (s *trustedScope) issue(t *testing.T, name string) rserpool.TLSFiles {
	t.Helper()
	now := time.Now()
	return rserpool.TLSFiles(s.ca.Issue(t, t.TempDir(), name, now, now.Add(24*time.Hour)))
}

// inPool is the name of an element of a pool.
func inPool(t *testing.T, pool rserpool.PoolHandle, host string) string {
	t.Helper()
	name, err := identity.Pool("example.org", pool, host)
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// element opens an element of the pool web.
func (s *trustedScope) element(t *testing.T, files rserpool.TLSFiles, id rserpool.PEID) (*pe.Element, chan pe.Event) {
	t.Helper()
	events := make(chan pe.Event, 100)
	e, err := pe.Open(pe.Config{
		Pool: "web", ID: id, Policy: rserpool.Policy{Type: rserpool.RoundRobin},
		Transport:  rserpool.Transport{Type: rserpool.TCP, Port: 80, Addrs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}},
		Registrars: []string{s.via}, Via: rserpool.ViaUDP, TLS: files, Timers: pe.Timers{Stop: 100 * time.Millisecond},
		Notify: func(ev pe.Event) { events <- ev },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e, events
}

// wait waits until an element is registered or has an error for an answer.
func wait(t *testing.T, e *pe.Element) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := e.Wait(ctx)
	if ctx.Err() != nil {
		t.Fatalf("element has neither registered nor been refused: %v", err)
	}
	return err
}

// refusal waits for the error of an element that finds no registrar.
func refusal(t *testing.T, events chan pe.Event) string {
	t.Helper()
	for {
		select {
		case ev := <-events:
			if ev.Err != nil {
				return ev.Err.Error()
			}
		case <-time.After(patience):
			t.Fatal("no error")
		}
	}
}

// has waits until the log has a line with a text.
func (s *trustedScope) has(t *testing.T, text string) {
	t.Helper()
	soon(t, fmt.Sprintf("a line with %q in the log", text), func() bool { return strings.Contains(s.log.String(), text) })
}

// elements waits until there are so many.
func (s *trustedScope) elements(t *testing.T, want int) {
	t.Helper()
	soon(t, fmt.Sprintf("handlespace of %d elements", want), func() bool {
		_, got := s.Space().Len()
		return got == want
	})
}

// soon waits for a condition.
func soon(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no %s within %v", what, patience)
		}
	}
}

// Who may register in a trusted scope, and what the others and the operator read.
func TestTrustedScope(t *testing.T) {
	s := newTrustedScope(t, nil)
	all := t
	t.Run("the right pool", func(t *testing.T) {
		e, _ := s.element(all, s.issue(t, inPool(t, "web", "h1")), 7)
		if err := wait(t, e); err != nil {
			t.Fatal(err)
		}
		got := s.Space().Pool("web").Element(7)
		if want := inPool(t, "web", "h1"); got.Identity != want {
			t.Errorf("identity %q, want %q", got.Identity, want)
		}
	})
	t.Run("another pool", func(t *testing.T) {
		e, _ := s.element(t, s.issue(t, inPool(t, "bank", "h1")), 8)
		if err := wait(t, e); !errors.Is(err, rserpool.CauseSecurity) {
			t.Errorf("got error %v, want %v", err, rserpool.CauseSecurity)
		}
		s.has(t, `certificate of spiffe://example.org/rserpool/pool/bank/h1 may not register in pool "web" (allow)`)
	})
	t.Run("no certificate", func(t *testing.T) {
		files := s.issue(t, inPool(t, "web", "h2"))
		files.Cert, files.Key = "", ""
		// What the registrar says of others that try it: test/hostile, TestThreat/2.2.
		if _, err := pe.Open(pe.Config{
			Pool: "web", Policy: rserpool.Policy{Type: rserpool.RoundRobin}, Transport: rserpool.MustParseTransport("tcp:127.0.0.1:80"),
			Registrars: []string{s.via}, TLS: files,
		}); err == nil || !strings.Contains(err.Error(), "an element needs Cert and Key") {
			t.Errorf("got error %v, want that a certificate is missing", err)
		}
	})
	t.Run("another authority", func(t *testing.T) {
		other := &trustedScope{ca: trusttest.New(t, "example.org", time.Now())}
		files := other.issue(t, inPool(t, "web", "h3"))
		trusttest.Write(t, files.CA, append(s.ca.PEM(), other.ca.PEM()...)) // otherwise the element refuses the registrar
		before := s.Stats().TLS.PeersRefused
		_, events := s.element(t, files, 10)
		if got := refusal(t, events); !strings.Contains(got, "refuses our certificate") || !strings.Contains(got, "(ours is "+inPool(t, "web", "h3")+", signed by ") {
			t.Errorf("got error %q, want one that says whose certificate is refused", got)
		}
		soon(t, "refused peer in the counters", func() bool { return s.Stats().TLS.PeersRefused > before })
		s.has(t, "unknown authority")
	})
	t.Run("an authority that the element does not know", func(t *testing.T) {
		other := &trustedScope{ca: trusttest.New(t, "example.org", time.Now())}
		_, events := s.element(t, other.issue(t, inPool(t, "web", "h3")), 11)
		if got := refusal(t, events); !strings.Contains(got, "unknown authority") {
			t.Errorf("got error %q, want one about an unknown authority", got)
		}
	})
	t.Run("a registrar that is none", func(t *testing.T) {
		rogue := newTrustedScope(t, func(trust *Trust) { trust.TLSFiles = s.issue(t, inPool(t, "web", "h1")) })
		rogue.has(t, "our certificate is not that of a registrar")
		_, events := rogue.element(t, s.issue(t, inPool(t, "web", "h2")), 12)
		if got := refusal(t, events); !strings.Contains(got, "certificate of "+inPool(t, "web", "h1")+" is not that of a registrar") {
			t.Errorf("got error %q, want one about the role", got)
		}
	})
	t.Run("pool user without a certificate", func(t *testing.T) {
		u, err := pu.Open(pu.Config{Registrars: []string{s.via}, Via: rserpool.ViaUDP, TLS: rserpool.TLSFiles{CA: s.cfg.Trust.CA}})
		if err != nil {
			t.Fatal(err)
		}
		defer u.Close()
		if _, err := u.Resolve(t.Context(), "none", 0); !errors.Is(err, pu.ErrUnknownPool) {
			t.Errorf("got error %v, want an answer that there is no such pool", err)
		}
	})
	if _, got := s.Space().Len(); got != 1 {
		t.Errorf("%d elements, want 1", got)
	}
}

// TestPlainElement: what the operator reads of an element that does not speak TLS, at the port
// for TLS and at the port for those without.
func TestPlainElement(t *testing.T) {
	s := newTrustedScope(t, nil)
	s.element(t, rserpool.TLSFiles{}, 7)
	s.has(t, "peer speaks plain ASAP")
	at := s.LocalAddrs()[0]
	s.via = fmt.Sprintf("%v:%d/%d", at.Addr(), asap.Port, s.cfg.EncapPort)
	s.element(t, rserpool.TLSFiles{}, 8)
	s.has(t, fmt.Sprintf("port 3863 is that of ASAP without TLS, and this registrar has TLS only, at port %d: rsp needs --tls", s.cfg.ASAP[0].Port()))
}

// TestUnserved: the ports for those without TLS are known if there is TLS, that of ENRP if ENRP
// is served.
func TestUnserved(t *testing.T) {
	files := rserpool.TLSFiles{Cert: "cert.pem", Key: "key.pem", CA: "ca.pem"}
	peers := []netip.AddrPort{netip.MustParseAddrPort("192.0.2.2:9902")}
	for _, tt := range []struct {
		name  string
		cfg   Config
		ports []uint16
	}{
		{"without TLS", Config{Config: registrar.Config{Peers: peers}}, nil},
		{"ASAP", Config{Trust: Trust{TLSFiles: files}}, []uint16{3863}},
		{"ASAP and ENRP", Config{Trust: Trust{TLSFiles: files}, Config: registrar.Config{Peers: peers}}, []uint16{3863, 9901}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg, err := tt.cfg.Complete()
			if err != nil {
				t.Fatal(err)
			}
			got := cfg.unserved()
			if ports := slices.Sorted(maps.Keys(got)); !slices.Equal(ports, tt.ports) {
				t.Errorf("got ports %d, want %d", ports, tt.ports)
			}
			for port, why := range got {
				if want := fmt.Sprintf("at port %d: rsp needs --tls", port+1); !strings.Contains(why.Error(), want) {
					t.Errorf("port %d: got %q, want %q in it", port, why, want)
				}
			}
		})
	}
}

// TestSetTrust: rights that are withdrawn end what they had allowed, and nothing else. A
// certificate that is replaced ends nothing.
func TestSetTrust(t *testing.T) {
	const sa = "spiffe://example.org/ns/prod/sa/web"
	s := newTrustedScope(t, func(trust *Trust) { trust.Allow = []Allow{{"web", "spiffe://example.org/ns/*/sa/web"}} })
	own, ownEvents := s.element(t, s.issue(t, inPool(t, "web", "h1")), 7)
	allowed, events := s.element(t, s.issue(t, sa), 8)
	for _, e := range []*pe.Element{own, allowed} {
		if err := wait(t, e); err != nil {
			t.Fatal(err)
		}
	}

	renewed := s.cfg.Trust
	name, _ := identity.Registrar("example.org", "ns1")
	renewed.TLSFiles = s.issue(t, name)
	if err := s.SetTrust(renewed); err != nil {
		t.Fatal(err)
	}
	late, _ := s.element(t, s.issue(t, inPool(t, "web", "h2")), 9)
	if err := wait(t, late); err != nil {
		t.Fatal(err)
	}

	withdrawn := renewed
	withdrawn.Allow = nil
	if err := s.SetTrust(withdrawn); err != nil {
		t.Fatal(err)
	}
	s.elements(t, 2)
	s.has(t, `certificate of `+sa+` may not register in pool "web" (allow)`)
	if err := s.SetTrust(renewed); err != nil {
		t.Fatal(err)
	}
	s.elements(t, 3)

	denied := renewed
	denied.Deny = []string{sa}
	if err := s.SetTrust(denied); err != nil {
		t.Fatal(err)
	}
	s.elements(t, 2)
	for lost := false; !lost; {
		select {
		case ev := <-events:
			lost = ev.Type == pe.HomeLost
		case <-time.After(patience):
			t.Fatal("denied element still has its home")
		}
	}
	if s.Space().Pool("web").Element(7) == nil || s.Space().Pool("web").Element(9) == nil {
		t.Error("an element is gone that has the right to be there")
	}
	for len(ownEvents) > 0 {
		if ev := <-ownEvents; ev.Type != pe.Registered {
			t.Errorf("element of another identity: event %v %v", ev.Type, ev.Err)
		}
	}
}

// TestSetTrustErrors: files that cannot be used, and changes that need a new registrar, change
// nothing.
func TestSetTrustErrors(t *testing.T) {
	s := newTrustedScope(t, nil)
	bad := s.cfg.Trust
	bad.Key = t.TempDir() + "/none"
	for _, tt := range []struct {
		trust Trust
		want  string
	}{
		{bad, "no such file"},
		{Trust{}, "cannot begin or end TLS"},
		{Trust{TLSFiles: s.cfg.Trust.TLSFiles, Deny: []string{"["}}, "not a pattern of identities"},
	} {
		if err := s.SetTrust(tt.trust); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("got error %v, want one with %q", err, tt.want)
		}
	}
	if !s.Ready() {
		t.Error("registrar is not ready after changes that have failed")
	}
	if err := loopbackHost(t).SetTrust(s.cfg.Trust); err == nil {
		t.Error("a plain registrar accepts TLS while it runs")
	}
	for _, trust := range []Trust{bad, {Deny: []string{"dns:a"}}} {
		if h, err := Open(Config{ASAP: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, Trust: trust}); err == nil {
			closeNow(t, h)
			t.Errorf("registrar starts with %+v", trust)
		}
	}
}

// TestSetTrustIntroduces: other files, or another rule of who is a registrar, are looked at at once
// for whether this one is a registrar, as files are that have changed.
func TestSetTrustIntroduces(t *testing.T) {
	const not = "our certificate is not that of a registrar"
	s := newTrustedScope(t, nil)
	name, _ := identity.Registrar("example.org", "ns2")
	set := func(change func(*Trust)) {
		t.Helper()
		trust := s.cfg.Trust
		change(&trust)
		if err := s.SetTrust(trust); err != nil {
			t.Fatal(err)
		}
	}
	set(func(trust *Trust) { trust.TLSFiles = s.issue(t, name) })
	s.has(t, "this registrar is "+name)
	if strings.Contains(s.log.String(), not) {
		t.Fatalf("a registrar does not take itself for one:\n%s", s.log.String())
	}
	element := inPool(t, "web", "h1")
	set(func(trust *Trust) { trust.TLSFiles = s.issue(t, element) })
	s.has(t, not+", so that elements, users and other registrars refuse it: "+element)
	before := strings.Count(s.log.String(), not)
	set(func(trust *Trust) { trust.Registrars = []string{"dns:ns1.example.org"} })
	soon(t, "a second warning", func() bool { return strings.Count(s.log.String(), not) > before })
}

// TestDeniesItself: the log says that a registrar's own certificate is denied, and the registrar is
// not ready.
func TestDeniesItself(t *testing.T) {
	s := newTrustedScope(t, nil)
	name := s.scope.member.Name()
	for _, deny := range [][]string{{name}, nil} {
		trust := s.cfg.Trust
		trust.Deny = deny
		if err := s.SetTrust(trust); err != nil {
			t.Fatal(err)
		}
		if s.Ready() != (deny == nil) {
			t.Errorf("deny %q: ready is %v", deny, s.Ready())
		}
	}
	s.has(t, "our own certificate may do nothing (deny), so that this registrar is not ready, and others with this line refuse it: "+name+". Correct the option deny")
	if log := s.log.String(); strings.Contains(log, "is not that of a registrar") {
		t.Errorf("the log has the wrong reason:\n%s", log)
	}
}

// TestLookAtTrust: files that have changed are read when that is asked for, without the minute that
// it takes otherwise.
func TestLookAtTrust(t *testing.T) {
	s := newTrustedScope(t, nil)
	end := time.Now().Add(48 * time.Hour).Truncate(time.Second)
	s.ca.Issue(t, filepath.Dir(s.cfg.Trust.Cert), s.scope.member.Name(), time.Now(), end)
	s.LookAtTrust()
	s.has(t, "the certificates were read again")
	soon(t, "the new certificate", func() bool { return s.scope.member.End().Equal(end) })
	new(Host).LookAtTrust() // without TLS
}

// TestCertificateEnd: a registrar whose own certificate has ended is not ready.
func TestCertificateEnd(t *testing.T) {
	s := newTrustedScope(t, nil)
	now := time.Now()
	short := s.ca.Issue(t, t.TempDir(), "spiffe://example.org/rserpool/registrar/ns1", now, now.Add(2*time.Second))
	if err := s.SetTrust(Trust{TLSFiles: rserpool.TLSFiles(short)}); err != nil {
		t.Fatal(err)
	}
	if got := s.Stats().TLS.CertificateEnd; got < uint64(now.Unix()) || got > uint64(now.Unix())+3 {
		t.Errorf("certificate ends at %d, want about %d", got, now.Unix()+2)
	}
	soon(t, "end of the certificate", func() bool { return !s.Ready() })
	if err := s.SetTrust(s.cfg.Trust); err != nil {
		t.Fatal(err)
	}
	if !s.Ready() {
		t.Error("registrar is not ready with a new certificate")
	}
}

// TestElementsCertificateEnds: the association of an element ends with its certificate. A new
// one begins with the renewed certificate, whichever side connects. The element is never out
// of the pool.
func TestElementsCertificateEnds(t *testing.T) {
	s := newTrustedScope(t, nil)
	name, dir, now := inPool(t, "web", "h1"), t.TempDir(), time.Now()
	end := now.Add(3 * time.Second)
	e, _ := s.element(t, rserpool.TLSFiles(s.ca.Issue(t, dir, name, now, end)), 7)
	if err := wait(t, e); err != nil {
		t.Fatal(err)
	}
	s.ca.Issue(t, dir, name, now, now.Add(time.Hour))
	before, acked := s.Stats().AssociationsTotal[rserpool.ViaUDP], uint64(0)
	soon(t, "keep-alive over a new association that is acknowledged", func() bool {
		if s.Space().Pool("web") == nil {
			t.Fatal("the pool is empty")
		}
		st := s.Stats()
		if st.AssociationsTotal[rserpool.ViaUDP] <= max(before, 1) || time.Now().Before(end) {
			acked = st.KeepAlivesAcked
		}
		return st.KeepAlivesAcked > acked
	})
	if st := s.Stats(); slices.Max(st.Removed[:]) != 0 {
		t.Errorf("elements removed: %v, want none", st.Removed)
	}
}

// TestElementsCertificatesEnd: the certificates of all elements of a pool end at once, as they do if
// the registrar's clock steps forward. The pool keeps them. With certificates that are valid, all are
// back.
func TestElementsCertificatesEnd(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 5 s")
	}
	s := newTrustedScope(t, nil)
	now := time.Now()
	end := now.Add(3 * time.Second)
	dirs := map[rserpool.PEID]string{1: t.TempDir(), 2: t.TempDir(), 3: t.TempDir()}
	name := func(id rserpool.PEID) string { return inPool(t, "web", fmt.Sprintf("h%d", id)) }
	for id, dir := range dirs {
		e, _ := s.element(t, rserpool.TLSFiles(s.ca.Issue(t, dir, name(id), now, end)), id)
		if err := wait(t, e); err != nil {
			t.Fatal(err)
		}
	}
	soon(t, "suspect of each element", func() bool {
		if s.Space().Pool("web") == nil {
			t.Fatalf("the pool is empty\n%s", s.log.String())
		}
		return s.Stats().Suspects == 3
	})
	s.elements(t, 3)
	s.has(t, "and our clock says")
	for id, dir := range dirs {
		s.ca.Issue(t, dir, name(id), now, now.Add(time.Hour))
	}
	soon(t, "end of all suspicion", func() bool { return s.Stats().Suspects == 0 })
	if st := s.Stats(); slices.Max(st.Removed[:]) != 0 || st.Elements != 3 {
		t.Errorf("%d elements, removed %v, want 3, and none", st.Elements, st.Removed)
	}
}

// TestTrustedPeers: registrars share their handlespace in TLS. When one ends, the other calls
// the element, as a TLS client, and becomes its home. A registrar without the role is no peer.
func TestTrustedPeers(t *testing.T) {
	encap := here.FreePort(t)
	at := func(ip string) func(*Config) {
		return func(c *Config) {
			c.ASAP = []netip.AddrPort{netip.MustParseAddrPort(ip + ":0")}
			c.ENRP = []netip.AddrPort{netip.MustParseAddrPort(ip + ":0")}
			c.EncapPort, c.PeerEncapPort, c.CloseTimeout = encap, encap, 100*time.Millisecond
			c.Timers.PeerHeartbeat, c.Timers.MaxTimeLastHeard, c.Timers.MaxTimeNoResponse = 500*time.Millisecond, time.Second, 500*time.Millisecond
		}
	}
	first := newTrustedScope(t, nil, at("127.0.0.1"))
	beside := func(ip, name string) *trustedScope {
		s := &trustedScope{ca: first.ca, log: new(log)}
		s.Host = loopbackHost(t, at(ip), func(c *Config) {
			c.Trust = Trust{TLSFiles: first.issue(t, name)}
			c.Peers, c.Logger = first.ENRPAddrs(), s.log.logger()
		})
		return s
	}
	second := beside("127.0.0.2", "spiffe://example.org/rserpool/registrar/ns2")
	rogue := beside("127.0.0.3", inPool(t, "web", "h9"))
	e, _ := first.element(t, first.issue(t, inPool(t, "web", "h1")), 7)
	if err := wait(t, e); err != nil {
		t.Fatal(err)
	}
	second.elements(t, 1)
	if got, want := second.Space().Pool("web").Element(7).Identity, inPool(t, "web", "h1"); got != want {
		t.Errorf("the peer has the element with identity %q, want %q", got, want)
	}
	first.has(t, "certificate of "+inPool(t, "web", "h9")+" is not that of a registrar (registrars)")
	closeNow(t, first.Host)
	soon(t, "heir", func() bool {
		p := second.Space().Pool("web")
		return p != nil && p.Element(7) != nil && p.Element(7).Home == second.ID()
	})
	if _, got := rogue.Space().Len(); got != 0 {
		t.Errorf("a registrar without the role has %d elements, want 0", got)
	}
}

// TestSharedSecret: who has the secret may do everything, and who has another one nothing.
func TestSharedSecret(t *testing.T) {
	secret := func() rserpool.TLSFiles {
		path := filepath.Join(t.TempDir(), "secret")
		trusttest.Write(t, path, trust.NewSecret())
		return rserpool.TLSFiles{Secret: path}
	}
	ours := secret()
	s := newTrustedScope(t, func(trust *Trust) { trust.TLSFiles = ours })
	e, _ := s.element(t, ours, 7)
	if err := wait(t, e); err != nil {
		t.Fatal(err)
	}
	if got := s.Space().Pool("web").Element(7).Identity; got != identity.Shared {
		t.Errorf("identity %q, want %q", got, identity.Shared)
	}
	_, events := s.element(t, secret(), 8)
	if got := refusal(t, events); !strings.Contains(got, "is not that of our shared secret") {
		t.Errorf("got error %q, want one about the secret", got)
	}
	s.elements(t, 1)
}

// named is a network in memory for the owner of an identity.
type named struct{ of sctptest.Named }

func (n named) Listen(cfg sctp.ListenConfig, h sctp.Handler) (sctp.Endpoint, error) {
	return n.of.Listen(cfg, h)
}

func (named) Close() error { return nil }

// TestIdentities: the identity of an association reaches the registrar, also that of one that
// the registrar has opened. Nobody else can register the identifier, not even from the
// element's host.
func TestIdentities(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := sctptest.NewNetwork()
		rights, err := identity.New(identity.Rules{})
		if err != nil {
			t.Fatal(err)
		}
		h, l := memoryHost(t, nw, func(c *Config) { c.Rights = rights })
		peer := func(name, addr string) *peer {
			p := newPeer(t, named{nw.As(name)}, addr)
			p.connect(h.LocalAddrs()[0], sctp.Kernel)
			return p
		}
		element := peer(inPool(t, "p", "h1"), "10.0.0.1:5000")
		element.send(element.assoc, registration("p", 7, "10.0.0.1"))
		if m := last[*asap.RegistrationResponse](element); m.Reject {
			t.Fatalf("registration is refused: %v", m.Causes)
		}
		for name, addr := range map[string]string{inPool(t, "p", "h2"): "10.0.0.1:5001", inPool(t, "q", "h1"): "10.0.0.1:5002", "": "10.0.0.1:5003"} {
			other := peer(name, addr)
			other.send(other.assoc, registration("p", 7, "10.0.0.1"))
			if m := last[*asap.RegistrationResponse](other); !m.Reject {
				t.Errorf("%q registers the element of another identity", name)
			}
		}
		element.Abort(element.assoc) // the registrar calls it
		time.Sleep(time.Minute)
		if p := h.Space().Pool("p"); p == nil || p.Element(7).Identity != inPool(t, "p", "h1") {
			t.Errorf("the element is gone, or another's\n%s", l)
		}
	})
}

// slowRecheck is an endpoint that takes long to look at its peers again.
type slowRecheck struct {
	sctp.Endpoint
	begun, goOn chan struct{}
}

func (e *slowRecheck) Recheck() {
	e.begun <- struct{}{}
	<-e.goOn
}

// TestRecheckSoon: nobody waits for the look at the peers. What comes during one has another
// one follow.
func TestRecheckSoon(t *testing.T) {
	s := newTrustedScope(t, nil)
	scope, err := openScope(s.cfg.Trust, s.Host.log.add)
	if err != nil {
		t.Fatal(err)
	}
	ep := &slowRecheck{begun: make(chan struct{}), goOn: make(chan struct{})}
	l := &loop{quit: make(chan struct{}), ep: ep}
	scope.watch(l)
	scope.recheckSoon()
	<-ep.begun
	scope.recheckSoon()
	scope.recheckSoon()
	ep.goOn <- struct{}{}
	<-ep.begun
	close(l.quit)
	ep.goOn <- struct{}{}
	scope.ended.Wait()
}
