package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/identity"
	"github.com/rserpool/coredns-rserpool/internal/trust"
	"github.com/spf13/cobra"
)

func newCAShow() *cobra.Command {
	return &cobra.Command{
		Use:   "show FILE|DIRECTORY",
		Short: "show certificates, and check that they fit together",
		Long: `Show the certificates of a FILE, or of a DIRECTORY as rsp ca issue writes it: the name and
the rights that come with it, the issuer, the time in which it is valid, its key, and its
fingerprint. A file may have several certificates: those of CAs, or a member's own and the
ones between it and its CA. Of a private key, rsp shows the kind and the fingerprint of the
public key, as in the line key of its certificate.

Of a DIRECTORY, the key, the certificate and the CA are checked as a registrar or an
element checks them when it starts: do they fit together, are they valid now, can others
read the key? The exit status is 1 if not. A file with a shared secret is shown by a
fingerprint of the first secret, with which you can compare two copies.

` + exitHelp,
		Example: "  rsp ca show host1\n  rsp ca show ca/ca.pem",
		Args:    namedArgs("FILE or DIRECTORY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			info, err := os.Stat(args[0])
			if err != nil {
				return notShown(args[0], err)
			}
			if info.IsDir() {
				return showDir(cmd.OutOrStdout(), args[0], time.Now())
			}
			return showFile(cmd.OutOrStdout(), args[0], time.Now())
		},
	}
}

// showDir shows the files that a member uses, and the errors that it would have.
func showDir(w io.Writer, dir string, now time.Time) error {
	f, err := trust.Dir(dir)
	if err != nil {
		return err
	}
	if f.Secret != "" {
		return showSecret(w, f.Secret)
	}
	for _, path := range []string{f.Cert, f.CA} {
		if path == "" {
			continue
		}
		if err := showFile(w, path, now); err != nil {
			return err
		}
	}
	var warned []string
	if _, err := trust.Open(f, func() time.Time { return now }, func(s string) { warned = append(warned, s) }); err != nil {
		return err
	}
	checked := "the key, the certificate and the CA fit together"
	if f.Cert == "" {
		checked = "there is no certificate: who uses this directory may only resolve pools"
		if _, err := os.Stat(filepath.Join(dir, caKeyName)); err == nil {
			checked = "this is the directory of the CA: keep it off the members"
		}
	}
	_, err = fmt.Fprintln(w, strings.Join(slices.Concat(warned, []string{checked}), "\n"))
	return err
}

// showFile shows what a file has: certificates, a key, or a secret.
func showFile(w io.Writer, path string, now time.Time) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return notShown(path, err)
	}
	chain, other, err := trust.Certificates(path, text)
	switch hasKey := strings.Contains(string(text), "PRIVATE KEY-----"); {
	case err != nil:
		return err
	case len(chain) > 0:
		return showChain(w, path, chain, now)
	case hasKey:
		return showKey(w, path)
	case other != "":
		return fmt.Errorf("%s has a %s in PEM, and neither a certificate nor a private key", path, other)
	}
	if _, err := x509.ParseCertificate(text); err == nil {
		return fmt.Errorf("%s has a certificate in DER, and members read PEM: openssl x509 -inform DER -in %[1]s -out NEWFILE", path)
	}
	if err := showSecret(w, path); err != nil {
		return fmt.Errorf("%s has neither a certificate nor a private key in PEM. As a shared secret: %w", path, err)
	}
	return nil
}

// notShown says which path there is nothing to show of.
func notShown(path string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: no such file or directory: name a certificate, a key, a shared secret, or a directory as rsp ca issue writes it", path)
	}
	return err
}

// showChain shows the certificates of a file: those of CAs, or those of a member.
func showChain(w io.Writer, path string, chain []*x509.Certificate, now time.Time) error {
	for i, c := range chain {
		title := path
		if len(chain) > 1 {
			title = fmt.Sprintf("%s, certificate %d of %d", path, i+1, len(chain))
		}
		if _, err := fmt.Fprintf(w, "%s\n%s\n", title, certificateText(c, now)); err != nil {
			return err
		}
	}
	for i, c := range chain[1:] {
		switch {
		case chain[0].IsCA && !c.IsCA:
			return fmt.Errorf("%s: certificate 1 is that of a CA, and certificate %d is not: a file of CAs has no others, and a member's own comes first in its file", path, i+2)
		case !chain[0].IsCA && chain[i].CheckSignatureFrom(c) != nil:
			_, err := fmt.Fprintf(w, "note: certificate %d is not signed by certificate %d. Some programs want a member's own first, and then always the one that signs the one before\n", i+1, i+2)
			return err
		}
	}
	return nil
}

// showKey shows a private key, of which the public one says nothing.
func showKey(w io.Writer, path string) error {
	key, err := trust.ReadKey(path)
	if err != nil {
		return err
	}
	text, err := keyText(key)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	_, err = fmt.Fprintf(w, "%s\n  private key  of the certificate that has the same line key\n  key          %s\n", path, text)
	return err
}

// keyText is the kind of a key and a fingerprint, which is the same for a private key and its
// certificate.
func keyText(key crypto.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "", err
	}
	kind := "of an unknown kind"
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		kind = "ECDSA " + k.Curve.Params().Name
	case *rsa.PublicKey:
		kind = fmt.Sprintf("RSA %d", k.N.BitLen())
	case ed25519.PublicKey:
		kind = "Ed25519"
	}
	return fmt.Sprintf("%s, SHA-256 %X", kind, sha256.Sum256(der)), nil
}

// certificateText describes a certificate, a line for each part.
func certificateText(c *x509.Certificate, now time.Time) string {
	var b strings.Builder
	row := func(what, text string) { fmt.Fprintf(&b, "  %-12s %s\n", what, text) }
	name, err := trust.NameOf(c)
	if c.IsCA {
		row("CA", fmt.Sprintf("%q: it signs certificates of members", c.Subject.String()))
	}
	switch {
	case err == nil:
		row("name", name)
		row("rights", rightsText(name))
	case !c.IsCA:
		row("no name", err.Error())
	}
	if len(c.DNSNames) > 0 && !strings.HasPrefix(name, "dns:") {
		row("DNS names", fmt.Sprintf("%q", c.DNSNames))
	}
	if c.CheckSignatureFrom(c) == nil {
		row("issuer", "itself")
	} else {
		row("issuer", fmt.Sprintf("%q", c.Issuer.String()))
	}
	row("valid", fmt.Sprintf("%s to %s (%s)", minute(c.NotBefore), minute(c.NotAfter), leftText(c, now)))
	if text, err := keyText(c.PublicKey); err == nil {
		row("key", text)
	}
	row("fingerprint", fmt.Sprintf("SHA-256 %X", sha256.Sum256(c.Raw)))
	return b.String()
}

func leftText(c *x509.Certificate, now time.Time) string {
	switch left := c.NotAfter.Sub(now); {
	case now.Before(c.NotBefore):
		return "not yet valid"
	case left <= 0:
		return "expired"
	case left < 2*day:
		return fmt.Sprintf("%d hours left", left/time.Hour)
	default:
		return fmt.Sprintf("%d days left", left/day)
	}
}

// rightsText says what a name may do without further rules of a Corefile.
func rightsText(name string) string {
	if pool, ok := identity.PoolOf(name); ok {
		return fmt.Sprintf("may register in pool %q", string(pool))
	}
	if identity.IsRegistrar(name) {
		return "is a registrar"
	}
	return "none, except to resolve pools: give it some by the Corefile's options allow or registrars"
}

// nameOrSubject is the name of a certificate, or what its owner is called without one.
func nameOrSubject(c *x509.Certificate) string {
	if name, err := trust.NameOf(c); err == nil {
		return name
	}
	return fmt.Sprintf("%q", c.Subject.String())
}

// showSecret shows the fingerprint of a shared secret. It is that of the public key, which
// says nothing about the secret.
func showSecret(w io.Writer, path string) error {
	cred, err := trust.Open(trust.Files{Secret: path}, time.Now, func(string) {})
	if err != nil {
		return err
	}
	cert, err := x509.ParseCertificate(cred.Server(netip.Addr{}).Certificates[0].Certificate[0])
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n  shared secret\n  rights       may do everything\n  fingerprint  SHA-256 %X\n", path, sha256.Sum256(cert.RawSubjectPublicKeyInfo))
	return err
}
