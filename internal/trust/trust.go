// Package trust has the credentials of a member of a trusted scope (RFC 5355): its
// certificate, its key and the authorities (CAs) that it trusts, or a shared secret, all read
// from files. It makes the configurations of TLS 1.3, and names peers by their certificates.
// What a name may do is in package identity; the transport, which uses the configurations,
// is in internal/sctp.
package trust

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"
)

// Files are the files of the credentials: Cert, Key and CA; or CA alone for who has no
// certificate, such as a pool user; or Secret alone.
type Files struct {
	// Cert has the certificate and the ones between it and its authority, in PEM.
	Cert string
	// Key has the private key of the certificate, in PEM.
	Key string
	// CA has the certificates of the authorities whose certificates are accepted, in PEM.
	CA string
	// Secret has shared secrets, a line each. The first is used, and all are accepted.
	Secret string
}

// Check refuses combinations of files that have no meaning. It reads none of them.
func (f Files) Check() error {
	switch {
	case f.Secret != "" && (f.Cert != "" || f.Key != "" || f.CA != ""):
		return ofSecret(errors.New("a shared secret and certificates exclude each other: use one of them"))
	case f.Secret != "":
		return nil
	case f.CA == "":
		return ofCA(errors.New("the file with the certificates of the CA is missing"))
	case f.Cert != "" && f.Key == "":
		return ofKey(errors.New("the file with the private key is missing"))
	case f.Key != "" && f.Cert == "":
		return ofCert(errors.New("the file with the certificate is missing"))
	}
	return nil
}

// Names of the files that Dir finds.
const (
	CertName   = "cert.pem"
	KeyName    = "key.pem"
	CAName     = "ca.pem"
	secretName = "secret"
)

// layouts are the names of the certificate, the key and the CA in a directory: those of `rsp
// ca issue`, and those of a secret of Kubernetes.
var layouts = [][3]string{{CertName, KeyName, CAName}, {"tls.crt", "tls.key", "ca.crt"}}

// Dir finds the files in a directory: cert.pem, key.pem and ca.pem, as `rsp ca issue` writes
// them; or tls.crt, tls.key and ca.crt, as Kubernetes mounts them; or secret. A directory
// with the certificate of a CA only is one for who has no certificate.
func Dir(dir string) (Files, error) {
	if info, err := os.Stat(dir); err != nil {
		return Files{}, err
	} else if !info.IsDir() {
		return Files{}, fmt.Errorf("%s is not a directory", dir)
	}
	var failed error
	path := func(name string) string {
		name = filepath.Join(dir, name)
		switch _, err := os.Lstat(name); {
		case err == nil: // or a link that leads nowhere, which is an error when the file is read
			return name
		case !errors.Is(err, fs.ErrNotExist):
			failed = err
		}
		return ""
	}
	for _, l := range layouts {
		f := Files{Cert: path(l[0]), Key: path(l[1]), CA: path(l[2]), Secret: path(secretName)}
		if failed != nil {
			return Files{}, failed
		}
		if f == (Files{Secret: f.Secret}) {
			continue
		}
		if err := f.Check(); err != nil {
			return Files{}, fmt.Errorf("%s: %w (%s, %s and %s, or %s)", dir, err, l[0], l[1], l[2], secretName)
		}
		return f, nil
	}
	if f := (Files{Secret: path(secretName)}); f.Secret != "" {
		return f, nil
	}
	return Files{}, fmt.Errorf("%s has neither %s, %s and %s nor %s: make them with rsp ca issue or rsp ca secret",
		dir, CertName, KeyName, CAName, secretName)
}

// Credentials are the contents of Files. Any goroutine may use them.
type Credentials struct {
	files Files
	now   func() time.Time
	warn  func(string)

	loaded atomic.Pointer[loaded]
	// reading has room for the one that reads the files. It is no Mutex, so that testing/synctest
	// sees who waits.
	reading chan struct{}
	// The rest belongs to who holds reading.
	looked  time.Time // when the files were looked at
	changed bool      // the files were read again, and Reload has not said so
	failed  string    // the mistake that was given to warn last, "" if all is well since
	warned  time.Time // when the end of the certificate was last warned of
	spare   spare
}

// Open reads credentials, and checks that they fit together and are valid now. Sentences for
// the log go to warn, which any goroutine may call.
func Open(f Files, now func() time.Time, warn func(string)) (*Credentials, error) {
	if err := f.Check(); err != nil {
		return nil, err
	}
	l, err := load(f, now())
	if err != nil {
		return nil, err
	}
	c := &Credentials{files: f, now: now, warn: warn, reading: make(chan struct{}, 1), looked: now()}
	c.loaded.Store(l)
	c.warnOfEnd()
	return c, nil
}

// Name is the name of these credentials, "" without a certificate.
func (c *Credentials) Name() string { return c.loaded.Load().name }

// NotAfter is when the certificate, or one that it depends on, ends. It is zero if nothing ends.
func (c *Credentials) NotAfter() time.Time { return c.loaded.Load().end }

// Valid reports whether peers accept the certificate at this time, by this side's clock. Without one,
// there is nothing to accept.
func (c *Credentials) Valid() bool {
	l, now := c.loaded.Load(), c.now()
	return !now.Before(l.begin) && (l.end.IsZero() || now.Before(l.end))
}

// Client makes the configuration of a handshake that this side begins.
func (c *Credentials) Client() *tls.Config {
	c.look()
	cfg := c.config(c.loaded.Load())
	// Identify verifies the chain; names of hosts say nothing about roles.
	cfg.InsecureSkipVerify = true
	return cfg
}

// Server makes the configuration of a handshake that a peer at a host begins. A peer without a
// certificate is let in, and is nobody.
func (c *Credentials) Server(host netip.Addr) *tls.Config {
	c.look()
	cfg := c.config(c.shownTo(host))
	cfg.ClientAuth = tls.RequestClientCert
	return cfg
}

// shownTo are the credentials for a peer at a host.
func (c *Credentials) shownTo(host netip.Addr) *loaded {
	c.reading <- struct{}{}
	defer func() { <-c.reading }()
	return c.spare.shownTo(host, c.loaded.Load(), c.now())
}

func (c *Credentials) config(l *loaded) *tls.Config {
	cfg := &tls.Config{
		MinVersion:                  tls.VersionTLS13,
		Time:                        c.now,
		SessionTicketsDisabled:      true,
		DynamicRecordSizingDisabled: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			_, _, err := c.Identify(cs)
			return err
		},
		// A server may list the authorities that it knows. A certificate of another one is
		// sent as well: its refusal says more than that of nobody.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &l.own, nil },
	}
	if len(l.own.Certificate) > 0 {
		cfg.Certificates = []tls.Certificate{l.own}
	}
	return cfg
}
