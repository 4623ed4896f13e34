package trust

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math/big"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/identity"
)

const (
	// secretLen is the number of bytes of a secret.
	secretLen = 32
	// maxSecrets bounds the lines of a file.
	maxSecrets = 8
	// secretUse is the info of HKDF (RFC 5869): a secret has one key for each use.
	secretUse = "rserpool tls_secret ed25519 1"
)

// NewSecret makes the contents of a file with a shared secret.
func NewSecret() []byte {
	secret := make([]byte, secretLen)
	_, _ = rand.Read(secret) // never fails
	return fmt.Appendf(nil, "# The shared secret of a trusted scope (tls_secret). Who has it may do everything.\n%s\n",
		base64.StdEncoding.EncodeToString(secret))
}

// secrets reads a file of shared secrets.
func (r *reader) secrets(path string) (*loaded, error) {
	text, err := r.read(path, checkSecrets)
	if err != nil {
		return nil, err
	}
	list, err := parseSecrets(path, text)
	if err != nil {
		return nil, err
	}
	l := &loaded{name: identity.Shared}
	for i, secret := range list {
		key, err := keyOf(secret)
		if err == nil && i == 0 {
			l.own, err = selfSigned(key)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		l.keys = append(l.keys, key.Public())
	}
	return l, nil
}

// checkSecrets refuses files that are not of shared secrets.
func checkSecrets(path string, text []byte) error {
	_, err := parseSecrets(path, text)
	return err
}

// parseSecrets reads the lines of a file, of which one at least must have a secret.
func parseSecrets(path string, text []byte) (list [][]byte, err error) {
	for line := range bytes.Lines(text) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		secret, err := parseSecret(string(line))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if list = append(list, secret); len(list) > maxSecrets {
			return nil, fmt.Errorf("%s has more than %d secrets", path, maxSecrets)
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s has no secret: %w", path, errSecretLine)
	}
	return list, nil
}

// parseSecret reads a secret. Its length tells hex from base64. Passphrases are refused: who
// records one handshake could guess them.
func parseSecret(line string) ([]byte, error) {
	decode := base64.StdEncoding.DecodeString
	if len(line) == hex.EncodedLen(secretLen) {
		decode = hex.DecodeString
	}
	b, err := decode(line)
	if err != nil || len(b) != secretLen {
		return nil, errSecretLine
	}
	return b, nil
}

// keyOf derives the key pair of a secret.
func keyOf(secret []byte) (ed25519.PrivateKey, error) {
	seed, err := hkdf.Key(sha256.New, secret, nil, secretUse, ed25519.SeedSize)
	if err != nil {
		return nil, err
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

// selfSigned makes a certificate around a key: TLS 1.3 of crypto/tls wants one. Only its key
// counts, so it has no end.
func selfSigned(key ed25519.PrivateKey) (tls.Certificate, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: identity.Shared},
		NotBefore:    time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:     time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), // no end (RFC 5280, Section 4.1.2.5)
		KeyUsage:     x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// hasKey reports whether a certificate has the key of one of the secrets.
func (l *loaded) hasKey(c *x509.Certificate) bool {
	for _, k := range l.keys {
		if own, ok := k.(interface{ Equal(crypto.PublicKey) bool }); ok && own.Equal(c.PublicKey) {
			return true
		}
	}
	return false
}
