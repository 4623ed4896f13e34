package main

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
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
the rights that come with it, the issuer, the time in which it is valid, and its fingerprint.

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
				return err
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

// showFile shows all certificates of a file.
func showFile(w io.Writer, path string, now time.Time) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	found := 0
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		found++
		if _, err := fmt.Fprintf(w, "%s\n%s\n", path, certificateText(c, now)); err != nil {
			return err
		}
	}
	switch {
	case found > 0:
		return nil
	case strings.Contains(string(text), "PRIVATE KEY-----"):
		return fmt.Errorf("%s has a private key and no certificate: name the certificate or the directory", path)
	}
	return showSecret(w, path)
}

// certificateText describes a certificate, a line for each part.
func certificateText(c *x509.Certificate, now time.Time) string {
	var b strings.Builder
	row := func(what, text string) { fmt.Fprintf(&b, "  %-12s %s\n", what, text) }
	if c.IsCA {
		row("CA", fmt.Sprintf("%q", c.Subject.String()))
	} else {
		name, err := trust.NameOf(c)
		if err != nil {
			row("no name", err.Error())
		} else {
			row("name", name)
			row("rights", rightsText(name))
		}
		if len(c.DNSNames) > 0 && !strings.HasPrefix(name, "dns:") {
			row("DNS names", fmt.Sprintf("%q", c.DNSNames))
		}
	}
	if c.CheckSignatureFrom(c) == nil {
		row("issuer", "itself")
	} else {
		row("issuer", fmt.Sprintf("%q", c.Issuer.String()))
	}
	row("valid", fmt.Sprintf("%s to %s (%s)", minute(c.NotBefore), minute(c.NotAfter), leftText(c, now)))
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
	cert, err := x509.ParseCertificate(cred.Server().Certificates[0].Certificate[0])
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n  shared secret\n  rights       may do everything\n  fingerprint  SHA-256 %X\n", path, sha256.Sum256(cert.RawSubjectPublicKeyInfo))
	return err
}
