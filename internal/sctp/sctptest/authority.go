package sctptest

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net/netip"
	"net/url"
	"testing"
	"time"
)

// Authority is a certificate authority for tests of TLS.
type Authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  ed25519.PrivateKey
	pool *x509.CertPool
}

// NewAuthority makes an authority.
func NewAuthority(t testing.TB) *Authority {
	t.Helper()
	a := &Authority{t: t, pool: x509.NewCertPool()}
	a.cert = &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * time.Hour)}
	der, key := a.sign(a.cert)
	a.key = key
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	a.cert = cert
	a.pool.AddCert(cert)
	return a
}

func (a *Authority) sign(c *x509.Certificate) ([]byte, ed25519.PrivateKey) {
	a.t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	signer := a.key
	if signer == nil {
		signer = private
	}
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, public, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	return der, private
}

// Issue makes a certificate for a name, which is a URI, that holds for a time from now.
func (a *Authority) Issue(name string, life time.Duration) *tls.Certificate {
	a.t.Helper()
	uri, err := url.Parse(name)
	if err != nil {
		a.t.Fatal(err)
	}
	der, key := a.sign(&x509.Certificate{SerialNumber: big.NewInt(2), URIs: []*url.URL{uri}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		NotBefore:   time.Now().Add(-time.Hour), NotAfter: time.Now().Add(life)})
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// Config is the configuration of both sides of TLS, which accepts peers of this authority. A
// client needs no certificate, which is nil then.
func (a *Authority) Config(own *tls.Certificate) *tls.Config {
	cfg := &tls.Config{
		ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: a.pool,
		// The name is judged by Identify.
		InsecureSkipVerify: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			if len(cs.PeerCertificates) == 0 {
				return nil
			}
			_, err := cs.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: a.pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
			return err
		},
	}
	if own != nil {
		cfg.Certificates = []tls.Certificate{*own}
	}
	return cfg
}

// ToAll is a Server of secure.Config that gives all peers the same.
func ToAll(give func() *tls.Config) func(host netip.Addr) *tls.Config {
	return func(netip.Addr) *tls.Config { return give() }
}

// NameOf is the name of a peer, and the end of its certificate.
func NameOf(cs tls.ConnectionState) (string, time.Time, error) {
	if len(cs.PeerCertificates) == 0 {
		return "", time.Time{}, nil
	}
	c := cs.PeerCertificates[0]
	return c.URIs[0].String(), c.NotAfter, nil
}
