package main

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/identity"
	"github.com/rserpool/coredns-rserpool/internal/trust"
	"github.com/rserpool/coredns-rserpool/internal/trust/authority"
	"github.com/rserpool/coredns-rserpool/rserpool"
	"github.com/spf13/cobra"
)

const (
	// caKeyName is the private key of the CA, which members do not get.
	caKeyName = "ca-key.pem"
	// maxDays bounds the life of certificates.
	maxDays = 36500
	day     = 24 * time.Hour
)

const caHelp = `Make the certificates of a trusted scope (TLS, RFC 5355).

In a trusted scope each registrar and each element has a certificate, which says who it
is. Its name says what it may do:

  registrar/NAME    be a registrar
  pool/POOL/NAME    register in one pool

rsp ca init makes a certificate authority (CA) in a directory, and rsp ca issue a
certificate with its key for one machine. Users that only resolve pools need no
certificate, but the file ca.pem. rsp ca needs no network and no server.

rsp ca secret makes a shared secret instead, for scopes whose members all trust each other.

`

func newCA() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ca COMMAND",
		Short: "make the certificates of a trusted scope",
		Long:  caHelp + exitHelp,
		Example: `  rsp ca init example.org
  rsp ca issue registrar/ns1
  rsp ca issue pool/web/host1
  rsp ca show host1`,
		Args: unknownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.SuggestionsMinimumDistance = 2
	cmd.AddCommand(newCAInit(), newCAIssue(), newCASecret(), newCAShow())
	return cmd
}

// addCADir adds the flag of the CA's directory.
func addCADir(cmd *cobra.Command, dir *string) {
	cmd.Flags().StringVar(dir, "dir", "ca", "`DIRECTORY` of the CA")
	_ = cmd.MarkFlagDirname("dir")
}

// addDays adds the flag of a certificate's life.
func addDays(cmd *cobra.Command, days *int, preset int) {
	cmd.Flags().IntVar(days, "days", preset, "`DAYS` that the certificate is valid")
	noFiles(cmd, "days")
}

func checkDays(cmd *cobra.Command, days int) error {
	if days < 1 || days > maxDays {
		return usage(cmd, fmt.Errorf("--days must be 1 to %d, got %d", maxDays, days))
	}
	return nil
}

func newCAInit() *cobra.Command {
	var (
		dir  string
		days int
	)
	cmd := &cobra.Command{
		Use:   "init DOMAIN",
		Short: "make a certificate authority",
		Long: `Make a certificate authority (CA) for a domain: DIRECTORY/ca.pem, its certificate, which
all members of the scope need, and DIRECTORY/ca-key.pem, its private key.

DOMAIN is a part of all names, as in spiffe://DOMAIN/rserpool/pool/web/host1. It need not
exist in DNS. Whoever has ca-key.pem can make a certificate with any name: keep the directory
on one machine that is no server, and make a copy.

An existing CA is never overwritten.

` + exitHelp,
		Example: "  rsp ca init example.org",
		Args:    namedArgs("DOMAIN"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkDays(cmd, days); err != nil {
				return err
			}
			if _, err := identity.Registrar(args[0], "x"); err != nil {
				return usage(cmd, err)
			}
			if err := initCA(dir, args[0], time.Now(), time.Duration(days)*day); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s  certificate of the CA of %s: all members need it\n%s  private key of the CA: nobody else may have it\n",
				filepath.Join(dir, trust.CAName), args[0], filepath.Join(dir, caKeyName))
			return err
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	addCADir(cmd, &dir)
	addDays(cmd, &days, 3650)
	return cmd
}

func initCA(dir, domain string, now time.Time, life time.Duration) error {
	pair, err := authority.New(domain, now, life)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	cert, key := filepath.Join(dir, trust.CAName), filepath.Join(dir, caKeyName)
	switch hasCert, hasKey := exists(cert), exists(key); {
	case hasCert:
		return fmt.Errorf("%s exists, and is not overwritten: certificates depend on it; use another --dir, or remove it", cert)
	case hasKey:
		return fmt.Errorf("%s exists without %s: copy that there, or remove the key if it has made no certificate", key, cert)
	}
	if err := createFile(key, pair.Key, 0o600); err != nil {
		return err
	}
	if err := createFile(cert, pair.Cert, 0o644); err != nil {
		// A key without its certificate is no use, and would be in the way of the next try.
		_ = os.Remove(key)
		return err
	}
	return nil
}

// exists reports whether there may be a file, which must not be overwritten then.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// readCA reads the CA of a directory, and the file of its certificate.
func readCA(dir string) (*authority.Authority, []byte, error) {
	certPath, keyPath := filepath.Join(dir, trust.CAName), filepath.Join(dir, caKeyName)
	cert, err := os.ReadFile(certPath)
	switch none := errors.Is(err, fs.ErrNotExist); {
	case none && exists(keyPath):
		return nil, nil, fmt.Errorf("%w, but %s has the key of a CA: copy that file there, or remove %s if it has made no certificate, and make a CA with rsp ca init", err, dir, keyPath)
	case none:
		return nil, nil, fmt.Errorf("%w: make a CA with rsp ca init, or name its directory with --dir", err)
	case err != nil:
		return nil, nil, err
	}
	key, err := os.ReadFile(keyPath)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("%w: %s has only the certificate of a CA: copy its key there, or name the CA's directory with --dir", err, dir)
	}
	if err != nil {
		return nil, nil, err
	}
	a, err := authority.Read(authority.Pair{Cert: cert, Key: key})
	if err != nil {
		return nil, nil, fmt.Errorf("%s with %s: %w", certPath, caKeyName, err)
	}
	return a, cert, nil
}

type issueFlags struct {
	dir, out, domain string
	dns              []string
	days             int
}

func newCAIssue() *cobra.Command {
	f := &issueFlags{}
	cmd := &cobra.Command{
		Use:   "issue registrar/NAME|pool/POOL/NAME",
		Short: "make or renew a certificate",
		Long: `Make a certificate and a new private key for a registrar or for the elements of a pool on
one machine. NAME tells the members apart in logs and in the Corefile's options allow and
deny: the machine's name, for instance. It has letters, digits and .-_ only. POOL is a
pool's handle; one with other octets than these is encoded in the certificate.

The files go to DIRECTORY, by default the NAME, and never to the directory of a CA:

  cert.pem  the certificate
  key.pem   its private key, which only its owner can read (mode 0600)
  ca.pem    a copy of the CA's certificates

Copy the directory to the machine; rsp takes it by --tls DIRECTORY, and the Corefile by
tls DIRECTORY/cert.pem DIRECTORY/key.pem DIRECTORY/ca.pem. The user that runs CoreDNS must
be able to read key.pem.

Run the same command again to renew: the new files replace the old ones at once, with
their owner and group, and a running member uses them within a minute, without a
restart. Certificates begin ` + "5 minutes" + ` in the past, for machines whose clock is late.

` + exitHelp,
		Example: `  rsp ca issue registrar/ns1
  rsp ca issue pool/web/host1 --dns host1.example.org --days 30 --out /etc/rserpool`,
		Args: namedArgs("registrar/NAME or pool/POOL/NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkDays(cmd, f.days); err != nil {
				return err
			}
			if err := checkDNSNames(f.dns); err != nil {
				return usage(cmd, err)
			}
			if _, err := memberName("example.org", args[0]); err != nil {
				return usage(cmd, err)
			}
			if f.out == "" {
				f.out = args[0][strings.LastIndexByte(args[0], '/')+1:]
			}
			if _, err := os.Lstat(filepath.Join(f.out, caKeyName)); err == nil {
				return usage(cmd, fmt.Errorf("%s is the directory of a CA, because it has %s, which no member may have: use another --out", f.out, caKeyName))
			}
			text, err := f.issue(args[0], time.Now())
			if err == nil {
				_, err = fmt.Fprint(cmd.OutOrStdout(), text)
			}
			return err
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	fl := cmd.Flags()
	addCADir(cmd, &f.dir)
	fl.StringVar(&f.out, "out", "", "`DIRECTORY` for the files (default: the NAME)")
	_ = cmd.MarkFlagDirname("out")
	fl.StringArrayVar(&f.dns, "dns", nil, "DNS `NAME` to have in the certificate as well; repeatable")
	addDays(cmd, &f.days, 90)
	fl.StringVar(&f.domain, "domain", "", "`DOMAIN` of the name (default: that of the CA)")
	noFiles(cmd, "dns", "domain")
	return cmd
}

// memberName makes a name of its short form. The handle of a pool may have slashes.
func memberName(domain, short string) (string, error) {
	kind, rest, _ := strings.Cut(short, "/")
	i := strings.LastIndexByte(rest, '/')
	switch {
	case kind == "registrar" && rest != "":
		return identity.Registrar(domain, rest)
	case kind == "pool" && i >= 0:
		return identity.Pool(domain, rserpool.PoolHandle(rest[:i]), rest[i+1:])
	}
	return "", fmt.Errorf("%q is neither registrar/NAME nor pool/POOL/NAME", short)
}

// checkDNSNames refuses names that a certificate cannot have, and IP addresses: clients do not
// look for an address among the DNS names of a certificate.
func checkDNSNames(names []string) error {
	for _, n := range names {
		if _, err := netip.ParseAddr(n); err == nil {
			return fmt.Errorf("--dns: %q is an IP address, which clients do not accept as a DNS name: use a name", n)
		}
		if _, err := trust.NameOf(&x509.Certificate{DNSNames: []string{n}}); err != nil {
			return fmt.Errorf("--dns: %q is not a DNS name", fmt.Sprintf("%.80s", n))
		}
	}
	return nil
}

// issue makes or renews a certificate, and says so.
func (f *issueFlags) issue(short string, now time.Time) (string, error) {
	a, caPEM, err := readCA(f.dir)
	if err != nil {
		return "", err
	}
	domain := f.domain
	if domain == "" {
		if domain = a.Domain(); domain == "" {
			return "", fmt.Errorf("the certificate of the CA in %s names no domain: set --domain", f.dir)
		}
	}
	name, err := memberName(domain, short)
	if err != nil {
		return "", err
	}
	certPath := filepath.Join(f.out, trust.CertName)
	verb, err := checkFormer(certPath, name)
	if err != nil {
		return "", err
	}
	pair, err := a.Issue(name, f.dns, now, now.Add(time.Duration(f.days)*day))
	if err != nil {
		return "", err
	}
	cert, err := firstCertificate(pair.Cert)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(f.out, 0o755); err != nil {
		return "", err
	}
	if err := replaceFiles(
		newFile{filepath.Join(f.out, trust.CAName), caPEM, 0o644},
		newFile{filepath.Join(f.out, trust.KeyName), pair.Key, 0o600},
		newFile{certPath, pair.Cert, 0o644},
	); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s %s\nin %s: %s, %s and %s, valid until %s\n",
		verb, name, f.out, trust.CertName, trust.KeyName, trust.CAName, minute(cert.NotAfter)), nil
}

// checkFormer refuses to replace a certificate with another name.
func checkFormer(path, name string) (verb string, err error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "issued", nil
	}
	if err != nil {
		return "", err
	}
	former, err := firstCertificate(text)
	if err != nil {
		return "", fmt.Errorf("%s exists, and is not overwritten: %w", path, err)
	}
	if has, err := trust.NameOf(former); err != nil || has != name {
		return "", fmt.Errorf("%s exists, and is not overwritten: it is the certificate of %s; use another --out", path, nameOrSubject(former))
	}
	return "renewed", nil
}

func firstCertificate(text []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("there is no certificate in PEM")
	}
	return x509.ParseCertificate(block.Bytes)
}

func minute(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

func newCASecret() *cobra.Command {
	return &cobra.Command{
		Use:   "secret FILE",
		Short: "make a shared secret, in place of certificates",
		Long: `Make a file with a shared secret: 32 random bytes. All members of the scope get a copy:
the Corefile takes it by tls_secret FILE, and rsp by --tls-secret FILE.

A shared secret is less than certificates: each member can be a registrar and register in
each pool, logs do not tell members apart, and a single one cannot be shut out. To change
the secret, add a line with a new one to each copy, then move that line to the top, then
remove the old line: the first is used, and all are accepted.

Only the owner can read the file (mode 0600). An existing file is never overwritten.

` + exitHelp,
		Example: "  rsp ca secret /etc/rserpool/secret",
		Args:    namedArgs("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			err := createFile(args[0], trust.NewSecret(), 0o600)
			if errors.Is(err, fs.ErrExist) {
				return fmt.Errorf("%s exists, and is not overwritten: rsp help ca secret says how to change a secret", args[0])
			}
			if err == nil {
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s  shared secret: copy it to all members, over a safe way\n", args[0])
			}
			return err
		},
	}
}
