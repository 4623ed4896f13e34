package hostile

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/asap/pe"
	"github.com/rserpool/coredns-rserpool/asap/pu"
	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
	"github.com/rserpool/coredns-rserpool/internal/sctp/secure"
	"github.com/rserpool/coredns-rserpool/internal/sctp/stack"
	"github.com/rserpool/coredns-rserpool/rserpool"
	"github.com/rserpool/coredns-rserpool/test/here"
)

// threats are the attacks of RFC 5355, by its sections. Each succeeds at the plain scope, and
// fails at the trusted one. docs/trust.md says where the others are tested.
var threats = []struct {
	section string
	attack  func(t *testing.T, plain, trusted *scope)
}{
	{"2.1", floodOfNobody},
	{"2.2", floodOfUnauthorized},
	{"2.3", spoofedRegistration},
	{"2.4", unauthorizedMember},
	{"2.5", falseRegistrar},
	{"2.6", falseRegistrarForElements},
	{"2.7", falseRegistrarForUsers},
	{"2.8", replayedSession},
	{"2.10", changedMessages},
	{"2.11", readMessages},
	{"2.13", strangersReports},
	{"2.14", strangersKeepAlives},
	{"2.15", plainAtTrusted},
	{"2.17", memberShutOut},
}

// TestThreat attacks a registrar without TLS and one with TLS in the same ways.
func TestThreat(t *testing.T) {
	plain, trusted := plainScope(t), trustedScope(t)
	for _, threat := range threats {
		t.Run(threat.section, func(t *testing.T) { threat.attack(t, plain.within(t), trusted.within(t)) })
	}
	for _, s := range []*scope{plain, trusted} {
		if n := s.stat("panics_total", "") + s.stat("transport_panics_total", ""); n != 0 {
			t.Errorf("server has survived %d panics", n)
		}
	}
}

// within is a scope of a subtest.
func (s *scope) within(t *testing.T) *scope {
	sub := *s
	sub.t = t
	if s.ca != nil {
		sub.ca = &issuer{t, s.ca.ca}
	}
	return &sub
}

// strangers are who has no right to register or to be a registrar in a trusted scope, whatever
// name the certificate has.
func (s *scope) strangers(name string) map[string]*papers {
	s.t.Helper()
	other := newIssuer(s.t)
	beside := other.valid(name)
	ours, _ := pem.Decode(s.ca.ca.PEM())
	beside.cert.Certificate = append(beside.cert.Certificate[:1:1], ours.Bytes)
	return map[string]*papers{
		"no certificate":                       nil,
		"another authority":                    other.valid(name),
		"another authority, and ours with it":  beside,
		"a certificate signed by an element's": s.ca.valid(inPool(s.t, "web", "1")).sign(s.t, name),
		"an ended one":                         s.ca.issue(name, -48*time.Hour, -24*time.Hour),
		"one to come":                          s.ca.issue(name, 24*time.Hour, 48*time.Hour),
	}
}

// sign has a member make a certificate, which it must not.
func (p *papers) sign(t *testing.T, name string) *papers {
	t.Helper()
	uri, err := url.Parse(name)
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(7), URIs: []*url.URL{uri}, KeyUsage: x509.KeyUsageDigitalSignature,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	key := p.cert.PrivateKey.(crypto.Signer)
	der, err := x509.CreateCertificate(rand.Reader, leaf, p.cert.Leaf, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &papers{cert: tls.Certificate{Certificate: append([][]byte{der}, p.cert.Certificate...), PrivateKey: key}}
}

// floodOfNobody registers elements that do not exist.
func floodOfNobody(t *testing.T, plain, trusted *scope) {
	const n = 100
	flood := func(c net.Conn) (granted int) {
		defer c.Close()
		for id := range uint32(n) {
			switch register(t, c, "nobody", id+1) {
			case "granted":
				granted++
			case "cut off":
				return granted
			}
		}
		return granted
	}
	if got := flood(plain.call(nil)); got != n {
		t.Errorf("without TLS, %d are granted, want %d", got, n)
	}
	before := trusted.stat("registrations_total", "")
	for name, p := range trusted.strangers(inPool(t, "nobody", "x")) {
		if got := flood(trusted.call(p)); got != 0 {
			t.Errorf("%s: %d are granted, want none", name, got)
		}
	}
	if got := register(t, trusted.call(trusted.ca.valid(inPool(t, "nobody", "x"))), "nobody", 1); got != "granted" {
		t.Errorf("who may register gets: %s", got)
	}
	wait(t, "one registration", func() bool { return trusted.stat("registrations_total", "") == before+1 })
}

// floodOfUnauthorized has an element of the scope register in pools that are not its own.
func floodOfUnauthorized(t *testing.T, plain, trusted *scope) {
	const n = 100
	c := plain.call(nil)
	for id := range uint32(n) {
		if got := register(t, c, "bank", id+1); got != "granted" {
			t.Fatalf("without TLS: %s", got)
		}
	}
	if len(plain.elements("bank")) == 0 {
		t.Error("without TLS, there are no elements")
	}
	pools := trusted.stat("pools", "")
	c = trusted.call(trusted.ca.valid(inPool(t, "web", "evil")))
	for id := range uint32(n) {
		if got := register(t, c, "bank", id+1); got != rserpool.CauseSecurity.String() {
			t.Fatalf("with TLS: %s", got)
		}
		if got := deregister(t, c, "bank", id+1); got == "cut off" {
			t.Fatalf("with TLS: %s", got)
		}
	}
	trusted.want("bank", 0)
	if got := trusted.stat("pools", ""); got > pools {
		t.Errorf("%d pools more", got-pools)
	}
}

// spoofedRegistration has a process on the host of an element change and remove it.
func spoofedRegistration(t *testing.T, plain, trusted *scope) {
	spoof := func(s *scope, victim, evil *papers) (changed, removed string) {
		own := s.call(victim)
		defer own.Close()
		if got := register(t, own, "web", 1); got != "granted" {
			t.Fatalf("the element itself: %s", got)
		}
		c := s.call(evil)
		defer c.Close()
		m := registration("web", 1, loopback)
		m.Element.UserTransport.Port = 666
		changed = outcome(ask(t, c, m))
		port := s.elements("web")[1].UserTransport.Port
		if (port == 666) != (changed == "granted") {
			t.Errorf("the element has port %d after: %s", port, changed)
		}
		removed = deregister(t, c, "web", 1)
		s.want("web", map[bool]int{true: 0, false: 1}[removed == "granted"])
		return changed, removed
	}
	if changed, removed := spoof(plain, nil, nil); changed != "granted" || removed != "granted" {
		t.Errorf("without TLS: %s, %s", changed, removed)
	}
	changed, removed := spoof(trusted, trusted.ca.valid(inPool(t, "web", "1")), trusted.ca.valid(inPool(t, "web", "2")))
	if changed != rserpool.CauseNonUniquePEIdentifier.String() || removed != rserpool.CauseSecurity.String() {
		t.Errorf("with TLS: %s, %s", changed, removed)
	}
}

// unauthorizedMember has members of the scope join pools that they may not join.
func unauthorizedMember(t *testing.T, plain, trusted *scope) {
	if got := register(t, plain.call(nil), "shop", 1); got != "granted" {
		t.Errorf("without TLS: %s", got)
	}
	for name, p := range map[string]*papers{
		"another pool":     trusted.ca.valid(inPool(t, "sho", "1")),
		"a longer name":    trusted.ca.valid(inPool(t, "shop.", "1")),
		"a registrar":      trusted.ca.valid(ofRegistrar(t, "ns2")),
		"another identity": trusted.ca.valid("spiffe://example.org/pool/shop/1"),
	} {
		c := trusted.call(p)
		if got := register(t, c, "shop", 1); got != rserpool.CauseSecurity.String() {
			t.Errorf("%s: %s", name, got)
		}
		_ = c.Close()
	}
	trusted.want("shop", 0)
}

// elsewhere is where a false registrar has elements.
var elsewhere = netip.MustParseAddr("203.0.113.66")

// servers counts the registrars that have told of elements.
var servers atomic.Uint32

// named has a new registrar tell of an element in a pool.
func named(t *testing.T, c net.Conn, pool, identity string) rserpool.ServerID {
	t.Helper()
	server := rserpool.ServerID(0x66000000 + servers.Add(1))
	at := func(t rserpool.TransportType) rserpool.Transport {
		return rserpool.Transport{Type: t, Port: 7, Addrs: []netip.Addr{elsewhere}}
	}
	for _, m := range []enrp.Message{
		&enrp.Presence{Sender: server},
		&enrp.HandleUpdate{Sender: server, Action: enrp.AddPE, Handle: rserpool.PoolHandle(pool), Element: rserpool.PoolElement{
			ID: 66, Home: server, Life: 3600, Policy: rserpool.Policy{Type: rserpool.RoundRobin}, Identity: identity,
			UserTransport: at(rserpool.TCP), ASAPTransport: at(rserpool.SCTP),
		}},
	} {
		b, err := m.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write(b); err != nil {
			break // it is over already
		}
	}
	return server
}

// handled waits until all that a registrar has sent is handled.
func handled(t *testing.T, c net.Conn, server rserpool.ServerID) {
	t.Helper()
	b, err := (&enrp.ListRequest{Sender: server}).Append(nil)
	if err == nil {
		_, err = c.Write(b)
	}
	for err == nil {
		if b, err = readMessage(c); err == nil && enrp.MessageType(b[0]) == enrp.TypeListResponse {
			return
		}
	}
	t.Fatal(err)
}

// cut waits until an association ends.
func cut(t *testing.T, c net.Conn) {
	t.Helper()
	if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("association is still there after %v", patience)
	}
}

// falseRegistrar tells registrars of elements.
func falseRegistrar(t *testing.T, plain, trusted *scope) {
	c := plain.callENRP(nil)
	named(t, c, "told", "")
	wait(t, "element of the false registrar", func() bool { return len(plain.elements("told")) == 1 })
	_ = c.Close()

	who := inPool(t, "told", "x")
	strangers := trusted.strangers(ofRegistrar(t, "ns2"))
	strangers["an element"] = trusted.ca.valid(who)
	strangers["a pool of that name"] = trusted.ca.valid(inPool(t, "registrar", "ns1"))
	strangers["a longer path"] = trusted.ca.valid("spiffe://example.org/rserpool/registrar/ns1/x")
	for name, p := range strangers {
		t.Log(name)
		c := trusted.callENRP(p)
		named(t, c, "told", who)
		cut(t, c)
		trusted.want("told", 0)
	}
	c = trusted.callENRP(trusted.ca.valid(ofRegistrar(t, "ns2")))
	named(t, c, "told", who)
	wait(t, "element of a true registrar", func() bool { return len(trusted.elements("told")) == 1 })
	_ = c.Close()
}

// rogue is a false registrar, which grants all registrations and has an element in all pools.
type rogue struct {
	at    string // of Registrars
	asked atomic.Int64
}

// rogueWith starts a false registrar with TLS, or without if p is nil.
func rogueWith(t *testing.T, p *papers) *rogue {
	t.Helper()
	encap := here.FreePort(t)
	cfg := stack.Config{
		Only: sctp.UDP, EncapPort: encap,
		Framing: sctp.Framing{HeadLen: asap.HeaderLen, Len: asap.MessageLen, Align: 4, PPID: asap.PPID},
	}
	if p != nil {
		own := func() *tls.Config {
			c := p.config()
			c.ClientAuth = tls.RequestClientCert
			return c
		}
		cfg.TLS = &secure.Config{Client: own, Server: sctptest.ToAll(own), Identify: func(tls.ConnectionState) (string, time.Time, error) {
			return "", time.Time{}, nil
		}}
	}
	s, err := stack.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	r := new(rogue)
	ready := make(chan struct{})
	var ep sctp.Endpoint
	ep, err = s.Listen(sctp.ListenConfig{Addrs: []netip.AddrPort{netip.AddrPortFrom(loopback, 0)}}, func(ev sctp.Event) {
		<-ready
		if ev.Type == sctp.Received {
			r.asked.Add(1)
			if b := lie(ev.Message.Data); b != nil {
				_ = ep.Send(ev.Assoc, sctp.Message{Data: b, PPID: asap.PPID})
			}
		}
	})
	close(ready)
	if err != nil {
		t.Fatal(err)
	}
	r.at = fmt.Sprintf("%v/%d", ep.LocalAddrs()[0], encap)
	return r
}

// lie answers a request.
func lie(request []byte) []byte {
	m, _, err := asap.Parse(request)
	if err != nil {
		return nil
	}
	var answer asap.Message
	switch m := m.(type) {
	case *asap.Registration:
		answer = &asap.RegistrationResponse{Handle: m.Handle, ID: m.Element.ID}
	case *asap.HandleResolution:
		answer = &asap.HandleResolutionResponse{Handle: m.Handle, Elements: []rserpool.PoolElement{{
			ID: 66, Policy: rserpool.Policy{Type: rserpool.RoundRobin},
			UserTransport: rserpool.Transport{Type: rserpool.TCP, Port: 7, Addrs: []netip.Addr{elsewhere}},
		}}}
	default:
		return nil
	}
	b, _ := answer.Append(nil)
	return b
}

// rogues are false registrars of which nobody in a trusted scope may take anything.
func (s *scope) rogues() map[string]*rogue {
	s.t.Helper()
	name := ofRegistrar(s.t, "ns1")
	list := map[string]*rogue{"without TLS": rogueWith(s.t, nil)}
	for what, p := range s.strangers(name) {
		if p != nil {
			list[what] = rogueWith(s.t, p)
		}
	}
	list["an element"] = rogueWith(s.t, s.ca.valid(inPool(s.t, "registrar", "ns1")))
	return list
}

// good is how elements and users name the server.
func (s *scope) good() string { return fmt.Sprintf("%v/%d", s.asap, s.encap) }

// joined has an element register at one of some registrars, and returns it.
func joined(t *testing.T, p *papers, pool string, local netip.AddrPort, encap uint16, registrars ...string) *pe.Element {
	t.Helper()
	cfg := pe.Config{
		Pool: rserpool.PoolHandle(pool), ID: 1, Policy: rserpool.Policy{Type: rserpool.RoundRobin},
		Transport:  rserpool.Transport{Type: rserpool.TCP, Port: 80, Addrs: []netip.Addr{loopback}},
		Registrars: registrars, Via: rserpool.ViaUDP, EncapPort: encap,
		Timers: pe.Timers{Stop: time.Second},
	}
	if local.IsValid() {
		cfg.Local = []netip.AddrPort{local}
	}
	if p != nil {
		cfg.TLS = p.files
	}
	up := make(chan struct{}, 100)
	cfg.Notify = func(ev pe.Event) {
		if ev.Type == pe.Registered {
			up <- struct{}{}
		}
	}
	e, err := pe.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	select {
	case <-up:
	case <-time.After(patience):
		t.Fatalf("element is not registered within %v", patience)
	}
	return e
}

// falseRegistrarForElements is preferred by elements.
func falseRegistrarForElements(t *testing.T, plain, trusted *scope) {
	r := rogueWith(t, nil)
	joined(t, nil, "lured", netip.AddrPort{}, 0, r.at, plain.good())
	if r.asked.Load() == 0 {
		t.Error("without TLS, the element has not registered at the false registrar")
	}
	p := trusted.ca.valid(inPool(t, "lured", "1"))
	for what, r := range trusted.rogues() {
		e := joined(t, p, "lured", netip.AddrPort{}, 0, r.at, trusted.good())
		if n := r.asked.Load(); n != 0 {
			t.Errorf("%s: got %d messages of the element", what, n)
		}
		trusted.want("lured", 1)
		_ = e.Close()
	}
}

// falseRegistrarForUsers is preferred by users.
func falseRegistrarForUsers(t *testing.T, plain, trusted *scope) {
	resolve := func(p *papers, registrars ...string) netip.Addr {
		cfg := pu.Config{Registrars: registrars, Via: rserpool.ViaUDP}
		if p != nil {
			cfg.TLS = p.files
		}
		u, err := pu.Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer u.Close()
		list, err := u.Elements(t.Context(), "asked")
		if err != nil || len(list) != 1 {
			t.Fatalf("got %v, %v", list, err)
		}
		return list[0].UserTransport.Addrs[0]
	}
	if got := resolve(nil, rogueWith(t, nil).at, plain.good()); got != elsewhere {
		t.Errorf("without TLS, the user gets %v", got)
	}
	c := trusted.call(trusted.ca.valid(inPool(t, "asked", "1")))
	if got := register(t, c, "asked", 1); got != "granted" {
		t.Fatal(got)
	}
	for what, r := range trusted.rogues() {
		if got := resolve(trusted.member, r.at, trusted.good()); got != loopback || r.asked.Load() != 0 {
			t.Errorf("%s: the user gets %v", what, got)
		}
	}
}

// replayedSession sends again all that an element has sent.
func replayedSession(t *testing.T, plain, trusted *scope) {
	record := func(s *scope, p *papers) (sent [][]byte) {
		l := s.lane()
		l.wire(func(out bool, b []byte) []byte {
			if out {
				sent = append(sent, bytes.Clone(b))
			}
			return b
		})
		c := s.secure(l, p)
		if got := register(t, c, "again", 1); got != "granted" {
			t.Fatal(got)
		}
		l.wire(func(_ bool, b []byte) []byte { return b })
		if got := deregister(t, c, "again", 1); got != "granted" {
			t.Fatal(got)
		}
		s.want("again", 0)
		return sent
	}
	replay := func(s *scope, sent [][]byte) *lane {
		l := s.lane()
		l.pad = true
		for _, b := range sent {
			if _, err := l.Write(b); err != nil {
				t.Logf("it is over: %v", err)
			}
		}
		return l
	}
	l := replay(plain, record(plain, nil))
	if got := outcome(answer(t, l)); got != "granted" {
		t.Errorf("without TLS: %s", got)
	}
	plain.want("again", 1)
	cut(t, replay(trusted, record(trusted, trusted.ca.valid(inPool(t, "again", "1")))))
	trusted.want("again", 0)
}

// changedMessages has somebody between an element and the registrar.
func changedMessages(t *testing.T, plain, trusted *scope) {
	l := plain.lane()
	c := plain.secure(l, nil)
	l.wire(func(_ bool, b []byte) []byte { return bytes.ReplaceAll(b, []byte("bank"), []byte("tank")) })
	if m, err := ask(t, c, registration("bank", 1000, loopback)); err != nil || outcome(m, nil) != "granted" {
		t.Errorf("without TLS: %v, %v", m, err)
	}
	plain.want("tank", 1)
	for _, to := range []struct {
		what string
		out  bool
	}{{"to the registrar", true}, {"to the element", false}} {
		l := trusted.lane()
		c := trusted.secure(l, trusted.ca.valid(inPool(t, "tank", "1")))
		if got := register(t, c, "tank", 1); got != "granted" {
			t.Fatal(got)
		}
		l.wire(func(out bool, b []byte) []byte {
			if out == to.out && len(b) > 0 {
				b[len(b)-1] ^= 1
			}
			return b
		})
		if got := register(t, c, "tank", 2); got != "cut off" {
			t.Errorf("%s: %s", to.what, got)
		}
		if _, there := trusted.elements("tank")[2]; there && to.out {
			t.Errorf("%s: a changed message has registered", to.what)
		}
		l.wire(func(_ bool, b []byte) []byte { return b })
		_ = c.Close()
		if to.out {
			cut(t, l)
		}
	}
}

// readMessages listens to an element and a registrar.
func readMessages(t *testing.T, plain, trusted *scope) {
	listen := func(s *scope, p *papers) string {
		var heard []byte
		l := s.lane()
		l.wire(func(_ bool, b []byte) []byte {
			heard = append(heard, b...)
			return b
		})
		c := s.secure(l, p)
		if got := register(t, c, "secret", 1); got != "granted" {
			t.Fatal(got)
		}
		l.wire(func(_ bool, b []byte) []byte { return b })
		return string(heard)
	}
	if heard := listen(plain, nil); !strings.Contains(heard, "secret") {
		t.Error("without TLS, the pool handle was not heard")
	}
	heard := listen(trusted, trusted.ca.valid(inPool(t, "secret", "1")))
	for _, what := range []string{"secret", "spiffe", "example.org"} {
		if strings.Contains(heard, what) {
			t.Errorf("%q can be read in %q", what, heard)
		}
	}
}

// strangersReports has somebody report elements as unreachable, and ask for them.
func strangersReports(t *testing.T, plain, trusted *scope) {
	const n = 200
	report := func(s *scope, metric, labels string) {
		before := s.stat(metric, labels)
		c := s.call(nil)
		for range n {
			if _, err := c.Write(wire(t, &asap.EndpointUnreachable{Handle: "web", ID: 1})); err != nil {
				t.Fatal(err)
			}
		}
		wait(t, metric, func() bool { return s.stat(metric, labels) == before+n })
	}
	report(plain, "unreachable_reports_total", "")
	before := trusted.stat("unreachable_reports_total", "")
	report(trusted, "rights_refused_total", `what="report"`)
	if got := trusted.stat("unreachable_reports_total", ""); got != before {
		t.Errorf("%d reports count", got-before)
	}
	if got := outcome(ask(t, trusted.call(nil), &asap.HandleResolution{Handle: "web"})); got == "granted" {
		t.Error("who has no certificate may resolve")
	}
}

// strangersKeepAlives has somebody call elements as their registrar.
func strangersKeepAlives(t *testing.T, plain, trusted *scope) {
	begin := func(s *scope, p *papers) func(*papers) string {
		at, encap := netip.AddrPortFrom(loopback, here.FreePort(t)), here.FreePort(t)
		joined(t, p, "kept", at, encap, s.good())
		return func(as *papers) string {
			c := s.secure(openLane(t, s.via, at, encap, asap.PPID), as)
			defer c.Close()
			return outcome(ask(t, c, &asap.EndpointKeepAlive{Server: 66, Handle: "kept", ID: 1, HasID: true}))
		}
	}
	if got := begin(plain, nil)(nil); got != "granted" {
		t.Errorf("without TLS: %s", got)
	}
	call := begin(trusted, trusted.ca.valid(inPool(t, "kept", "1")))
	strangers := trusted.strangers(ofRegistrar(t, "ns1"))
	strangers["another element"] = trusted.ca.valid(inPool(t, "kept", "2"))
	for what, p := range strangers {
		if got := call(p); got != "cut off" {
			t.Errorf("%s: %s", what, got)
		}
	}
	if got := call(trusted.ca.valid(ofRegistrar(t, "ns2"))); got != "granted" {
		t.Errorf("a registrar: %s", got)
	}
}

// plainAtTrusted has elements and registrars come without TLS.
func plainAtTrusted(t *testing.T, plain, trusted *scope) {
	without := *trusted
	without.trusted = false
	for _, s := range []*scope{plain, &without} {
		want := map[bool]string{true: "granted", false: "cut off"}[s == plain]
		if got := register(t, s.call(nil), "mixed", 1); got != want {
			t.Errorf("trusted %v, over SCTP: %s", s != plain, got)
		}
		c := s.tcp(loopback)
		if got := outcome(ask(t, c, &asap.HandleResolution{Handle: "mixed"})); got != want {
			t.Errorf("trusted %v, over TCP: %s", s != plain, got)
		}
		defer c.Close()
		e := s.callENRP(nil)
		named(t, e, "mixed", inPool(t, "mixed", "1"))
		if s != plain {
			cut(t, e)
		}
	}
	wait(t, "elements without TLS", func() bool { return len(plain.elements("mixed")) == 2 })
	trusted.want("mixed", 0)
}

// memberShutOut has a registrar of the scope turn against it.
func memberShutOut(t *testing.T, plain, trusted *scope) {
	c := plain.callENRP(nil)
	named(t, c, "turned", "")
	wait(t, "element of a registrar that has turned", func() bool { return len(plain.elements("turned")) == 1 })
	_ = c.Close()
	who := inPool(t, "turned", "1")
	c = trusted.callENRP(trusted.ca.valid(ofRegistrar(t, "turned")))
	named(t, c, "turned", who)
	cut(t, c)
	trusted.want("turned", 0)
	// One that is not known yet cannot name elements that nobody has the right to register.
	for _, who := range []string{"", inPool(t, "web", "1")} {
		c = trusted.callENRP(trusted.ca.valid(ofRegistrar(t, "ns3")))
		handled(t, c, named(t, c, "turned", who))
		trusted.want("turned", 0)
		_ = c.Close()
	}
}
