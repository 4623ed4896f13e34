package hostile

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/internal/identity"
	"github.com/rserpool/coredns-rserpool/internal/sctp/stack"
	"github.com/rserpool/coredns-rserpool/internal/trust/trusttest"
	"github.com/rserpool/coredns-rserpool/rserpool"
	"github.com/rserpool/coredns-rserpool/test/here"
)

// papers are the files of a member, and what an attacker makes of them.
type papers struct {
	files rserpool.TLSFiles
	cert  tls.Certificate
}

// issuer is an authority that has existed for some time.
type issuer struct {
	t  *testing.T
	ca *trusttest.CA
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	return &issuer{t, trusttest.New(t, "example.org", time.Now().Add(-1000*time.Hour))}
}

// issue makes the papers of a name that hold from begin to end, counted from now.
func (i *issuer) issue(name string, begin, end time.Duration) *papers {
	i.t.Helper()
	f := i.ca.Issue(i.t, i.t.TempDir(), name, time.Now().Add(begin), time.Now().Add(end))
	cert, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		i.t.Fatal(err)
	}
	return &papers{rserpool.TLSFiles(f), cert}
}

// valid makes papers that hold now.
func (i *issuer) valid(name string) *papers {
	i.t.Helper()
	return i.issue(name, -time.Hour, 24*time.Hour)
}

// inPool is the name of an element that may register in a pool.
func inPool(t *testing.T, pool rserpool.PoolHandle, host string) string {
	t.Helper()
	name, err := identity.Pool("example.org", pool, host)
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// ofRegistrar is the name of a registrar.
func ofRegistrar(t *testing.T, host string) string {
	t.Helper()
	name, err := identity.Registrar("example.org", host)
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// scope is a server that also speaks ENRP, with or without TLS.
type scope struct {
	*server
	t       *testing.T
	enrp    netip.AddrPort
	via     *stack.Stack // of attackers
	trusted bool
	ca      *issuer
	member  *papers // of who only looks
}

// plainScope starts a server without TLS.
func plainScope(t *testing.T) *scope {
	t.Helper()
	return startScope(t, nil)
}

// trustedScope starts a server with TLS. Without a certificate, nobody may resolve and report.
// The registrar turned is shut out.
func trustedScope(t *testing.T, options ...string) *scope {
	t.Helper()
	return startScope(t, newIssuer(t), append(options,
		"resolvers spiffe://example.org/rserpool/user/*", "deny "+ofRegistrar(t, "turned"))...)
}

func startScope(t *testing.T, ca *issuer, options ...string) *scope {
	t.Helper()
	s := &scope{t: t, enrp: netip.AddrPortFrom(loopback, here.FreePort(t)), via: carrier(t), ca: ca, trusted: ca != nil}
	options = append(options, fmt.Sprintf("enrp %v", s.enrp))
	if s.trusted {
		f := ca.valid(ofRegistrar(t, "ns1")).files
		options = append(options, fmt.Sprintf("tls %s %s %s", f.Cert, f.Key, f.CA))
		s.member = ca.valid(inPool(t, "none", "looker"))
	}
	s.server = startServer(t, options...)
	return s
}

// config is the TLS of an attacker, who believes everybody.
func (p *papers) config() *tls.Config {
	c := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}
	if p != nil {
		c.Certificates = []tls.Certificate{p.cert}
	}
	return c
}

// call makes an association to the ASAP port, with TLS if the scope has that. p may be nil.
func (s *scope) call(p *papers) net.Conn {
	s.t.Helper()
	return s.secure(s.lane(), p)
}

// lane makes an association to the ASAP port without TLS.
func (s *scope) lane() *lane {
	s.t.Helper()
	return openLane(s.t, s.via, s.asap, s.encap, asap.PPID)
}

// callENRP is call for the ENRP port.
func (s *scope) callENRP(p *papers) net.Conn {
	s.t.Helper()
	return s.secure(openLane(s.t, s.via, s.enrp, s.encap, enrp.PPID), p)
}

// secure begins TLS, if the scope has that.
func (s *scope) secure(l *lane, p *papers) net.Conn {
	s.t.Helper()
	if !s.trusted {
		l.pad = true
		return l
	}
	c := tls.Client(l, p.config())
	if err := c.Handshake(); err != nil {
		s.t.Logf("handshake: %v", err) // what follows fails, too
	}
	return c
}

// ask sends a request and waits for its answer, or for the end of the association.
func ask(t *testing.T, c net.Conn, m asap.Message) (asap.Message, error) {
	t.Helper()
	if _, err := c.Write(wire(t, m)); err != nil {
		return nil, err
	}
	return answer(t, c)
}

// answer waits for an answer, or for the end of the association.
func answer(t *testing.T, c net.Conn) (asap.Message, error) {
	t.Helper()
	for {
		b, err := readMessage(c)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("neither an answer nor an end within %v", patience)
		}
		if err != nil {
			return nil, err
		}
		m, _, err := asap.Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := m.(*asap.EndpointKeepAlive); !ok {
			return m, nil
		}
	}
}

// register says "granted", the cause of the refusal, or "cut off".
func register(t *testing.T, c net.Conn, pool string, id uint32) string {
	t.Helper()
	return outcome(ask(t, c, registration(pool, id, loopback)))
}

// deregister says the same of a deregistration.
func deregister(t *testing.T, c net.Conn, pool string, id uint32) string {
	t.Helper()
	return outcome(ask(t, c, &asap.Deregistration{Handle: rserpool.PoolHandle(pool), ID: rserpool.PEID(id)}))
}

func outcome(m asap.Message, err error) string {
	if err != nil {
		return "cut off"
	}
	list := causes(m)
	if e, ok := m.(*asap.Error); ok {
		list = e.Causes
	}
	if len(list) > 0 {
		return list[0].Code.String()
	}
	return "granted"
}

// elements asks for a pool as a member who may, behind all that was sent before.
func (s *scope) elements(pool string) map[rserpool.PEID]rserpool.PoolElement {
	s.t.Helper()
	c := s.call(s.member)
	defer c.Close()
	m, err := ask(s.t, c, &asap.HandleResolution{Handle: rserpool.PoolHandle(pool)})
	if err != nil {
		s.t.Fatal(err)
	}
	r, ok := m.(*asap.HandleResolutionResponse)
	if !ok {
		s.t.Fatalf("got %v", m)
	}
	found := map[rserpool.PEID]rserpool.PoolElement{}
	for _, e := range r.Elements {
		found[e.ID] = e
	}
	return found
}

// want checks what a pool has.
func (s *scope) want(pool string, elements int) {
	s.t.Helper()
	if got := s.elements(pool); len(got) != elements {
		s.t.Errorf("pool %s has %d elements, want %d", pool, len(got), elements)
	}
}
