// Package authority is a small certificate authority for trusted scopes: it makes the
// certificate of a CA and those of registrars and pool elements. It knows no files.
package authority

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/identity"
)

// Skew is how long before now certificates begin, for machines whose clock is late.
const Skew = 5 * time.Minute

// maxCommonName is the most bytes of a common name (RFC 5280, Appendix A.1).
const maxCommonName = 64

// Authority is a CA with its key.
type Authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// Pair is a certificate with its key, both in PEM.
type Pair struct{ Cert, Key []byte }

// New makes the authority of a domain.
func New(domain string, now time.Time, life time.Duration) (Pair, error) {
	if _, err := identity.Registrar(domain, "x"); err != nil {
		return Pair{}, err
	}
	key, err := newKey()
	if err != nil {
		return Pair{}, err
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: common("RSerPool CA of " + domain)},
		URIs:                  []*url.URL{{Scheme: "spiffe", Host: domain}},
		NotBefore:             now.Add(-Skew),
		NotAfter:              now.Add(life),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
	}
	return sign(template, template, key, key)
}

// Read reads the authority that New has made, or one of another program. Of several
// certificates, as while a CA is replaced, it takes the one of the key.
func Read(p Pair) (*Authority, error) {
	block, _ := pem.Decode(p.Key)
	if block == nil {
		return nil, errors.New("there is no private key in PEM")
	}
	key, err := parseKey(block)
	if err != nil {
		return nil, err
	}
	pub, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok {
		return nil, errors.New("the private key is of a kind that is not known")
	}
	for text := p.Cert; ; {
		if block, text = pem.Decode(text); block == nil {
			return nil, errors.New("no certificate has the public key of the private key")
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		switch {
		case err != nil:
			return nil, err
		case !pub.Equal(cert.PublicKey):
		case !cert.IsCA:
			return nil, errors.New("the certificate is not that of a CA")
		default:
			return &Authority{cert, key}, nil
		}
	}
}

// parseKey reads a private key of any usual form.
func parseKey(block *pem.Block) (crypto.Signer, error) {
	if key, err := x509.ParseECPrivateKey(block.Bytes); err == nil {
		return key, nil
	}
	if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return key, nil
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("the private key cannot be read: %w", err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, errors.New("the private key cannot sign")
	}
	return signer, nil
}

// Domain is the domain in which the authority issues names, "" if its certificate does
// not say that.
func (a *Authority) Domain() string {
	for _, u := range a.cert.URIs {
		if d := identity.Domain(u.String()); d != "" {
			return d
		}
	}
	return ""
}

// Issue makes a certificate with a name, in the form of SPIFFE, and with DNS names if there
// are some. It ends when the authority ends, if that is earlier than end.
func (a *Authority) Issue(name string, dns []string, now, end time.Time) (Pair, error) {
	if !a.cert.NotAfter.After(now) {
		return Pair{}, fmt.Errorf("the certificate of the CA ended at %v: make a new CA", a.cert.NotAfter)
	}
	uri, err := url.Parse(name)
	if err != nil {
		return Pair{}, err
	}
	if end.After(a.cert.NotAfter) {
		end = a.cert.NotAfter
	}
	key, err := newKey()
	if err != nil {
		return Pair{}, err
	}
	return sign(&x509.Certificate{
		Subject:               pkix.Name{CommonName: common(strings.TrimPrefix(uri.Path, "/rserpool/"))},
		URIs:                  []*url.URL{uri},
		DNSNames:              dns,
		NotBefore:             now.Add(-Skew),
		NotAfter:              end,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}, a.cert, key, a.key)
}

// newKey makes a key of the kind that most programs take: P-256.
func newKey() (*ecdsa.PrivateKey, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

func common(name string) string { return name[:min(len(name), maxCommonName)] }

// sign makes a certificate for key, which parent signs.
func sign(template, parent *x509.Certificate, key *ecdsa.PrivateKey, signer crypto.Signer) (Pair, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return Pair{}, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Pair{}, err
	}
	return Pair{
		Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		Key:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
	}, nil
}
