package trust

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

// maxFile is the most bytes of a file that are read.
const maxFile = 1 << 20

// loaded are the contents of the files. They do not change.
type loaded struct {
	stamps []stamp
	name   string
	// own is the certificate with its key; it is empty for a member without one.
	own tls.Certificate
	// begin and end bound the time in which the peers accept the certificate; end is zero
	// if there is none, or if it does not end. ends is what ends it.
	begin, end time.Time
	ends       ending
	// roots are the authorities, and rootFile is where they are from. roots is nil in
	// secret mode, in which keys are accepted.
	roots       *x509.CertPool
	authorities []*x509.Certificate // those of roots
	rootFile    string
	keys        []crypto.PublicKey
}

// load reads the files and checks them.
func load(f Files, now time.Time) (*loaded, error) {
	r := &reader{}
	var l *loaded
	var err error
	if f.Secret != "" {
		if l, err = r.secrets(f.Secret); err != nil {
			err = ofSecret(err)
		}
	} else {
		l, err = r.certificates(f, now)
	}
	if err != nil {
		return nil, err
	}
	l.stamps = r.stamps
	return l, nil
}

// reader reads files and keeps their stamps.
type reader struct{ stamps []stamp }

// stamp is a file as it was when it was read.
type stamp struct {
	path string
	info os.FileInfo
}

// read reads a file. If it is private, there is a check of what it has, and other users must not
// be able to read it. The check comes first: a file without a secret is not mended by its mode.
func (r *reader) read(path string, check func(path string, text []byte) error) ([]byte, error) {
	if info, err := os.Stat(path); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() { // to open a pipe could block
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxFile {
		return nil, fmt.Errorf("%s has more than %d bytes", path, maxFile)
	}
	if check != nil {
		if err := check(path, b); err != nil {
			return nil, err
		}
		if exposed(info) {
			return nil, fmt.Errorf("%s is private, but other users can read it (mode %04o): chmod 600 %[1]s", path, info.Mode().Perm())
		}
	}
	r.stamps = append(r.stamps, stamp{path, info})
	return b, nil
}

func (r *reader) certificates(f Files, now time.Time) (*loaded, error) {
	l := &loaded{rootFile: f.CA}
	b, err := r.read(f.CA, nil)
	if err != nil {
		return nil, ofCA(err)
	}
	if l.authorities, err = authorities(f.CA, b); err != nil {
		return nil, ofCA(err)
	}
	l.roots = x509.NewCertPool()
	for _, c := range l.authorities {
		l.roots.AddCert(c)
	}
	if f.Cert == "" {
		return l, nil
	}
	certPEM, err := r.read(f.Cert, nil)
	if err != nil {
		return nil, ofCert(err)
	}
	keyPEM, err := r.read(f.Key, checkKey)
	if err != nil {
		return nil, ofKey(err)
	}
	var chain []*x509.Certificate
	if l.own, chain, err = pair(f, certPEM, keyPEM); err != nil {
		return nil, err
	}
	if l.name, l.end, err = l.verify(chain, now); err != nil {
		return nil, ofCert(fmt.Errorf("%s: %w", f.Cert, err))
	}
	l.begin, l.ends = chain[0].NotBefore, endingOf(f, chain, l.end)
	return l, nil
}

// ending is the certificate that ends first, of the member's own and those that it depends on.
type ending struct{ what, path string }

// endingOf finds it by the time at which it ends.
func endingOf(f Files, chain []*x509.Certificate, end time.Time) ending {
	switch i := slices.IndexFunc(chain, func(c *x509.Certificate) bool { return c.NotAfter.Equal(end) }); i {
	case 0:
		return ending{"our certificate", f.Cert}
	case -1:
		return ending{"the authority of our certificate", f.CA}
	default:
		return ending{fmt.Sprintf("the authority between our certificate and the CA, %s,", subject(chain[i])), f.Cert}
	}
}

// pair makes the certificate of TLS of a certificate and its key, and returns its chain.
func pair(f Files, certPEM, keyPEM []byte) (own tls.Certificate, chain []*x509.Certificate, err error) {
	if _, err := privateKey(f.Key, keyPEM); err != nil {
		return own, nil, ofKey(err)
	}
	if chain, err = parse(f.Cert, certPEM); err != nil {
		return own, nil, ofCert(err)
	}
	if own, err = tls.X509KeyPair(certPEM, keyPEM); err == nil {
		return own, chain, nil
	}
	if strings.Contains(err.Error(), "does not match") {
		return own, nil, ofKey(fmt.Errorf("the key in %s is not that of the certificate in %s: use the two files that were made together", f.Key, f.Cert))
	}
	return own, nil, ofCert(fmt.Errorf("%s and %s: %s", f.Cert, f.Key, plain(err)))
}

// authorities reads the CA file, which may have several certificates.
func authorities(path string, text []byte) ([]*x509.Certificate, error) {
	list, err := parse(path, text)
	if err != nil {
		return nil, err
	}
	for i, c := range list {
		if c.BasicConstraintsValid && !c.IsCA {
			return nil, fmt.Errorf("%s: certificate %d (%s) is not that of a CA: is it the file of the element's own certificate?", path, i+1, subject(c))
		}
	}
	return list, nil
}

// plain is the text of an error of package x509 or tls, without the package's name.
func plain(err error) string {
	text := err.Error()
	for _, prefix := range []string{"x509: ", "tls: "} {
		text = strings.TrimPrefix(text, prefix)
	}
	return text
}

var errSecretLine = errors.New("a secret is 32 random bytes in base64 or hex: make it with rsp ca secret FILE")
