package cookie

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// keyLen is the length of a key in octets.
const keyLen = 32

// keyPrefix starts the text of a key, so that people and scanners for secrets
// recognize one.
const keyPrefix = "rspcookie1-"

// Key is a secret that all elements of a pool share. The zero value is no key. Keys can
// be compared with ==.
type Key struct {
	secret [keyLen]byte
	set    bool
}

// GenerateKey makes a new random key.
func GenerateKey() Key {
	k := Key{set: true}
	_, _ = rand.Read(k.secret[:])
	return k
}

// ParseKey reads what [Key.Secret] writes.
func ParseKey(text string) (Key, error) {
	body, ok := strings.CutPrefix(strings.TrimSpace(text), keyPrefix)
	if !ok {
		return Key{}, fmt.Errorf("a cookie key starts with %q", keyPrefix)
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(body)
	if err != nil || len(b) != keyLen+checkLen {
		return Key{}, fmt.Errorf("a cookie key has %d characters of base64url after %q", base64.RawURLEncoding.EncodedLen(keyLen+checkLen), keyPrefix)
	}
	k := Key{secret: [keyLen]byte(b), set: true}
	if [checkLen]byte(b[keyLen:]) != k.check() {
		return Key{}, errors.New("the cookie key has a typing error: its checksum does not match")
	}
	return k, nil
}

// ParseKeys reads the keys of a file, one a line, the one that seals first. Empty lines
// and lines that start with # are skipped.
func ParseKeys(text []byte) ([]Key, error) {
	var keys []Key
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		k, err := ParseKey(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		keys = append(keys, k)
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(keys) == 0 {
		return nil, errors.New("no cookie key: cookie.GenerateKey makes one")
	}
	return keys, nil
}

// Secret writes the key as text, for a file that only the pool's elements can read.
func (k Key) Secret() string {
	check := k.check()
	return keyPrefix + base64.RawURLEncoding.EncodeToString(append(k.secret[:], check[:]...))
}

// String names the key without telling it, for logs: "cookie key 1a2b3c4d".
func (k Key) String() string {
	if !k.set {
		return "no cookie key"
	}
	check := k.check()
	return "cookie key " + hex.EncodeToString(check[:])
}

// GoString is as String, so that no verb of fmt prints the secret.
func (k Key) GoString() string { return k.String() }

// checkLen is the length of a checksum in octets: one typing error in 2^32 is not found.
const checkLen = 4

// check is a checksum of the key, which is also its name. It tells nothing about the key.
func (k Key) check() [checkLen]byte {
	h := sha256.Sum256(append([]byte("rserpool cookie 1 check"), k.secret[:]...))
	return [checkLen]byte(h[:])
}
