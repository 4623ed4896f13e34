// Package identity has the names by which the members of a trusted scope know one another,
// and the rights that a name has (RFC 5355, Section 3).
//
// A name is the URI of a certificate, in the form of SPIFFE:
//
//	spiffe://DOMAIN/rserpool/registrar/NAME
//	spiffe://DOMAIN/rserpool/pool/POOL/NAME
//
// or dns:NAME of a certificate that has no such URI, or Shared for a peer that has the shared
// secret. The empty name is nobody: a peer without a certificate, or of a scope without TLS.
package identity

import (
	"encoding/base32"
	"errors"
	"fmt"
	"strings"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Shared is the name of each peer that has the shared secret.
const Shared = "shared-secret"

// MaxLen is the most bytes of a name, MaxDNS those of a DNS name that becomes one.
const (
	MaxLen = 256
	MaxDNS = MaxLen - len(dnsScheme)
)

const (
	scheme    = "spiffe://"
	dnsScheme = "dns:"
	registrar = "/rserpool/registrar/"
	pool      = "/rserpool/pool/"
	// encoded begins a pool's segment that is not its handle: base32hex follows.
	encoded = "_ph-"
)

var encoding = base32.HexEncoding.WithPadding(base32.NoPadding)

// Registrar makes the name of a registrar. The error says which part cannot be.
func Registrar(domain, name string) (string, error) {
	return join(domain, registrar, name)
}

// Pool makes the name of an element that may register in a pool.
func Pool(domain string, handle rserpool.PoolHandle, name string) (string, error) {
	if handle == "" {
		return "", errors.New("the pool handle is empty")
	}
	return join(domain, pool+segmentOf(handle)+"/", name)
}

func join(domain, path, name string) (string, error) {
	if !isDomain(domain) {
		return "", fmt.Errorf("%q is not a domain: it has small letters, digits and .-_ only", domain)
	}
	if !isSegment(name) {
		return "", fmt.Errorf("%q is not a name: it has letters, digits and .-_ only", name)
	}
	id := scheme + domain + path + name
	if len(id) > MaxLen {
		return "", fmt.Errorf("the name has %d bytes, more than %d: %s", len(id), MaxLen, id)
	}
	return id, nil
}

// IsURI reports whether a URI has the form of a name: that of SPIFFE, with small letters in the
// domain, no escapes and no segment that is empty or stands for another one, so that each name has one
// spelling.
func IsURI(uri string) bool {
	domain := Domain(uri)
	if !isDomain(domain) {
		return false
	}
	path, ok := strings.CutPrefix(uri[len(scheme)+len(domain):], "/")
	if !ok {
		return false
	}
	for s := range strings.SplitSeq(path, "/") {
		if !isSegment(s) {
			return false
		}
	}
	return true
}

// OfDNS makes a name of a DNS name, whose case does not count.
func OfDNS(dns string) (name string, ok bool) {
	ok = dns != "" && len(dns) <= MaxDNS && strings.IndexFunc(dns, func(r rune) bool { return !inPath(r) }) < 0
	return dnsScheme + strings.ToLower(dns), ok
}

// Domain returns the domain of a name in the form of SPIFFE, or "".
func Domain(id string) string {
	rest, ok := strings.CutPrefix(id, scheme)
	if !ok {
		return ""
	}
	domain, _, _ := strings.Cut(rest, "/")
	return domain
}

// IsRegistrar reports whether a name has the form of a registrar's.
func IsRegistrar(id string) bool {
	name, ok := after(id, registrar)
	return ok && isSegment(name)
}

// PoolOf returns the pool that a name is for. ok is false if it is not for a pool.
func PoolOf(id string) (_ rserpool.PoolHandle, ok bool) {
	rest, ok := after(id, pool)
	if !ok {
		return "", false
	}
	segment, name, ok := strings.Cut(rest, "/")
	if !ok || !isSegment(segment) || !isSegment(name) {
		return "", false
	}
	return handleOf(segment)
}

// after returns what follows a domain and a path.
func after(id, path string) (rest string, ok bool) {
	domain := Domain(id)
	if !isDomain(domain) {
		return "", false
	}
	return strings.CutPrefix(id[len(scheme)+len(domain):], path)
}

// segmentOf is the form of a handle in a path.
func segmentOf(h rserpool.PoolHandle) string {
	if isSegment(string(h)) && !strings.HasPrefix(string(h), encoded) {
		return string(h)
	}
	return encoded + strings.ToLower(encoding.EncodeToString([]byte(h)))
}

func handleOf(segment string) (_ rserpool.PoolHandle, ok bool) {
	rest, is := strings.CutPrefix(segment, encoded)
	if !is {
		return rserpool.PoolHandle(segment), true
	}
	b, err := encoding.DecodeString(strings.ToUpper(rest))
	h := rserpool.PoolHandle(b)
	// A second spelling of a name would escape a rule for the first one.
	return h, err == nil && len(b) > 0 && segmentOf(h) == segment
}

// isSegment reports whether a segment of a path is allowed in SPIFFE.
func isSegment(s string) bool {
	return s != "" && s != "." && s != ".." && strings.IndexFunc(s, func(r rune) bool { return !inPath(r) }) < 0
}

func isDomain(s string) bool {
	return s != "" && strings.IndexFunc(s, func(r rune) bool { return !inDomain(r) }) < 0
}

// inPath reports whether a path may have a letter, digit or sign, and inDomain whether a domain may.
func inPath(r rune) bool { return inDomain(r) || 'A' <= r && r <= 'Z' }

func inDomain(r rune) bool {
	return 'a' <= r && r <= 'z' || '0' <= r && r <= '9' || r == '.' || r == '-' || r == '_'
}
