package trust_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/trust"
	"github.com/rserpool/coredns-rserpool/internal/trust/trusttest"
)

const (
	day = 24 * time.Hour
	web = "spiffe://example.org/rserpool/pool/web/host1"
	ns  = "spiffe://example.org/rserpool/registrar/ns1"
)

// noon is the time of the tests.
var noon = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// clock is a clock that tests set.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: noon} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// warnings are the sentences for the log.
type warnings struct {
	mu   sync.Mutex
	list []string
}

func (w *warnings) add(s string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.list = append(w.list, s)
}

// take returns the sentences since the last call.
func (w *warnings) take() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := strings.Join(w.list, "\n")
	w.list = nil
	return s
}

func open(t *testing.T, f trust.Files, c *clock) (*trust.Credentials, *warnings) {
	t.Helper()
	w := &warnings{}
	cred, err := trust.Open(f, c.now, w.add)
	if err != nil {
		t.Fatal(err)
	}
	return cred, w
}

// cert is a certificate of any form.
type cert struct {
	x   *x509.Certificate
	key crypto.Signer
}

// issue makes a certificate for a template; without a parent it signs itself.
func issue(t testing.TB, parent *cert, template x509.Certificate) *cert {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if template.NotBefore.IsZero() {
		template.NotBefore = noon.Add(-day)
	}
	if template.NotAfter.IsZero() {
		template.NotAfter = noon.Add(10 * day)
	}
	template.SerialNumber = big.NewInt(7)
	template.BasicConstraintsValid = true
	if parent == nil {
		parent = &cert{&template, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, parent.x, key.Public(), parent.key)
	if err != nil {
		t.Fatal(err)
	}
	x, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &cert{x, key}
}

// ca is the template of an authority.
func ca(name string) x509.Certificate {
	return x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true,
		KeyUsage: x509.KeyUsageCertSign, NotAfter: noon.Add(1000 * day),
	}
}

// named is the template of a certificate with URIs.
func named(uris ...string) x509.Certificate {
	c := x509.Certificate{Subject: pkix.Name{CommonName: "host1"}}
	for _, u := range uris {
		parsed, err := url.Parse(u)
		if err != nil {
			panic(err)
		}
		c.URIs = append(c.URIs, parsed)
	}
	return c
}

func pemOf(list ...*cert) (out []byte) {
	for _, c := range list {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.x.Raw})...)
	}
	return out
}

func (c *cert) keyPEM(t testing.TB) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(c.key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// files writes a certificate, and what is between it and the authorities.
func files(t testing.TB, authorities []*cert, chain ...*cert) trust.Files {
	t.Helper()
	dir := t.TempDir()
	f := trust.Files{
		Cert: filepath.Join(dir, trust.CertName),
		Key:  filepath.Join(dir, trust.KeyName),
		CA:   filepath.Join(dir, trust.CAName),
	}
	trusttest.Write(t, f.Cert, pemOf(chain...))
	trusttest.Write(t, f.Key, chain[0].keyPEM(t))
	trusttest.Write(t, f.CA, pemOf(authorities...))
	return f
}

func state(chain ...*cert) (cs tls.ConnectionState) {
	for _, c := range chain {
		cs.PeerCertificates = append(cs.PeerCertificates, c.x)
	}
	return cs
}

// result is what one side of a handshake has.
type result struct {
	cs  tls.ConnectionState
	err error
}

// handshake does a handshake, and reads a byte on each side: the client of TLS 1.3 gets the
// server's refusal by reading.
func handshake(t *testing.T, client, server *tls.Config) (atClient, atServer result) {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	side := func(c *tls.Conn, raw net.Conn) result {
		defer raw.Close()
		err := c.Handshake()
		if err == nil {
			done := make(chan error)
			go func() {
				_, err := c.Write([]byte{1})
				done <- err
			}()
			_, err = c.Read(make([]byte, 1))
			if w := <-done; err == nil {
				err = w
			}
		}
		return result{c.ConnectionState(), err}
	}
	at := make(chan result)
	go func() { at <- side(tls.Server(b, server), b) }()
	atClient = side(tls.Client(a, client), a)
	return atClient, <-at
}
