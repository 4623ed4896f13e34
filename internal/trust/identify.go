package trust

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/identity"
)

// Bounds of the chain of a peer.
const (
	maxChain      = 10
	maxChainBytes = 64 << 10
)

// Identify verifies the certificates of a peer and names it. until is the time from which
// they are not valid; zero is never. A peer without certificates is nobody: the name is "".
func (c *Credentials) Identify(cs tls.ConnectionState) (name string, until time.Time, err error) {
	if len(cs.PeerCertificates) == 0 {
		return "", time.Time{}, nil
	}
	return c.loaded.Load().verify(cs.PeerCertificates, c.now())
}

// verify verifies a chain, the leaf first, and names its owner.
func (l *loaded) verify(chain []*x509.Certificate, now time.Time) (name string, until time.Time, err error) {
	if err := bounded(chain); err != nil {
		return "", time.Time{}, err
	}
	leaf := chain[0]
	if l.roots == nil {
		if !l.hasKey(leaf) {
			return "", time.Time{}, errors.New("the certificate is not that of our shared secret: do both sides have the same file?")
		}
		return identity.Shared, time.Time{}, nil
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	chains, err := leaf.Verify(x509.VerifyOptions{
		Roots: l.roots, Intermediates: between, CurrentTime: now,
		// Public authorities leave out one usage or the other, and each side may be the client.
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return "", time.Time{}, l.words(leaf, now, err)
	}
	if name, err = NameOf(leaf); err != nil {
		return "", time.Time{}, err
	}
	return name, endOf(chains), nil
}

// bounded refuses chains that would cost too much to verify.
func bounded(chain []*x509.Certificate) error {
	if len(chain) > maxChain {
		return fmt.Errorf("there are %d certificates, more than %d", len(chain), maxChain)
	}
	size := 0
	for _, c := range chain {
		size += len(c.Raw)
	}
	if size > maxChainBytes {
		return fmt.Errorf("the certificates have %d bytes, more than %d", size, maxChainBytes)
	}
	return nil
}

// endOf is when the last of the chains ends. A chain ends with the first of its certificates.
func endOf(chains [][]*x509.Certificate) (end time.Time) {
	for _, chain := range chains {
		first := chain[0].NotAfter
		for _, c := range chain[1:] {
			if c.NotAfter.Before(first) {
				first = c.NotAfter
			}
		}
		if first.After(end) {
			end = first
		}
	}
	return end
}

// words says in plain words why a certificate is refused.
func (l *loaded) words(leaf *x509.Certificate, now time.Time, err error) error {
	whose := "certificate of " + title(leaf)
	var (
		unknown x509.UnknownAuthorityError
		invalid x509.CertificateInvalidError
	)
	switch {
	case errors.As(err, &unknown):
		if leaf.CheckSignature(leaf.SignatureAlgorithm, leaf.RawTBSCertificate, leaf.Signature) == nil {
			return fmt.Errorf("%s is signed by itself, not by an authority in %s", whose, l.rootFile)
		}
		if l.hasNamesake(leaf) {
			return fmt.Errorf("%s has an unknown authority: it is signed by another %s than that of %s", whose, issuer(leaf), l.rootFile)
		}
		return fmt.Errorf("%s has an unknown authority: it is signed by %s, which %s does not have", whose, issuer(leaf), l.rootFile)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		if invalid.Cert != nil && !invalid.Cert.Equal(leaf) {
			whose = fmt.Sprintf("%s: the certificate of its authority %s", whose, subject(invalid.Cert))
			leaf = invalid.Cert
		}
		if now.Before(leaf.NotBefore) {
			return untimely{fmt.Sprintf("%s is not yet valid: it begins at %s", whose, clock(leaf.NotBefore)), ", and our clock says " + clock(now)}
		}
		return untimely{fmt.Sprintf("%s ended at %s", whose, clock(leaf.NotAfter)), ", and our clock says " + clock(now) + ": issue a new one"}
	case errors.As(err, &invalid) && invalid.Reason == x509.NotAuthorizedToSign:
		return fmt.Errorf("%s is signed by %s, which is not an authority", whose, issuer(leaf))
	}
	return fmt.Errorf("%s: %s", whose, plain(err))
}

// hasNamesake reports whether an authority has the name of a certificate's issuer, as the one
// before it has when a CA was made again.
func (l *loaded) hasNamesake(c *x509.Certificate) bool {
	return slices.ContainsFunc(l.authorities, func(a *x509.Certificate) bool { return bytes.Equal(a.RawSubject, c.RawIssuer) })
}

func clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// title is the name of a certificate for a message, also of one that is refused.
func title(c *x509.Certificate) string {
	if name, err := NameOf(c); err == nil {
		return name
	}
	return subject(c)
}

func subject(c *x509.Certificate) string { return short(c.Subject.String()) }
func issuer(c *x509.Certificate) string  { return short(c.Issuer.String()) }

// short quotes a text of a peer for a message, and bounds it.
func short(text string) string {
	const most = 80
	if len(text) > most {
		text = text[:most] + "..."
	}
	return fmt.Sprintf("%q", text)
}

const wantName = `it must have one URI such as "spiffe://example.org/rserpool/pool/web/host1", or one DNS name, as subject alternative name`

// NameOf is the name that a certificate gives its owner. It does not verify it.
func NameOf(c *x509.Certificate) (string, error) {
	switch {
	case len(c.URIs) > 1:
		return "", fmt.Errorf("the certificate of %s has %d URIs, so that its name is not clear: %s", subject(c), len(c.URIs), wantName)
	case len(c.URIs) == 1:
		return uriName(c.URIs[0].String())
	case len(c.DNSNames) > 1:
		return "", fmt.Errorf("the certificate of %s has %d DNS names and no URI, so that its name is not clear: %s", subject(c), len(c.DNSNames), wantName)
	case len(c.DNSNames) == 1:
		return dnsName(c.DNSNames[0])
	}
	return "", fmt.Errorf("the certificate of %s has no name: %s", subject(c), wantName)
}

func uriName(uri string) (string, error) {
	switch {
	case len(uri) > identity.MaxLen:
		return "", fmt.Errorf("the URI of the certificate has %d bytes, more than %d", len(uri), identity.MaxLen)
	case !identity.IsURI(uri):
		return "", fmt.Errorf("the URI %s of the certificate is not a name: %s", short(uri), wantName)
	}
	return uri, nil
}

func dnsName(dns string) (string, error) {
	name, ok := identity.OfDNS(dns)
	if !ok {
		return "", fmt.Errorf("the DNS name %s of the certificate is not a name: it has letters, digits and .-_ only, at most %d", short(dns), identity.MaxDNS)
	}
	return name, nil
}
