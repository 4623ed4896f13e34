// Package glob matches pool handles with patterns.
package glob

import (
	"fmt"
	"slices"
	"strings"

	"github.com/rserpool/coredns-rserpool/internal/ascii"
)

// maxLength is the most octets and wildcards of a pattern: as many as a DNS name has.
const maxLength = 255

// Glob is a pattern of pool handles: octets, folded, and wildcards. ASCII case does not
// count, as in DNS.
type Glob []token

// token is an octet or a wildcard.
type token uint16

const (
	anyRun   token = 0x100 + iota // '*': any octets, dots too, or none
	anyOctet                      // '?'
)

// Parse reads a pattern with the escapes of DNS (RFC 1035, Section 5.1). '*' and '?' that
// are not escaped are wildcards.
func Parse(text string) (Glob, error) {
	g, why := read(text)
	if why != "" {
		return nil, fmt.Errorf("%q %s", text, why)
	}
	return g, nil
}

// read undoes the escapes, or says why it cannot.
func read(text string) (g Glob, why string) {
	for i := 0; i < len(text); {
		c := text[i]
		i++
		switch c {
		case '*':
			g = append(g, anyRun)
			continue
		case '?':
			g = append(g, anyOctet)
			continue
		case '\\':
			var size int
			if c, size = ascii.Unescape(text[i:]); size == 0 {
				return nil, "has an escape that is not \\DDD"
			}
			if c == '.' {
				return nil, "has a dot within a label, which no pool has"
			}
			i += size
		}
		g = append(g, token(ascii.Lower(c)))
	}
	switch {
	case len(g) == 0:
		return nil, "is empty"
	case len(g) > maxLength:
		return nil, "is too long"
	case g[len(g)-1] == '.':
		return nil, "ends in a dot"
	}
	return g, ""
}

// Exact returns the glob that matches only this handle.
func Exact(handle string) Glob {
	g := make(Glob, len(handle))
	for i := range len(handle) {
		g[i] = token(ascii.Lower(handle[i]))
	}
	return g
}

// Name returns the handle, folded, that is all that the glob matches; ok is false if it has
// wildcards.
func (g Glob) Name() (_ string, ok bool) {
	b := make([]byte, len(g))
	for i, t := range g {
		if t > 0xff {
			return "", false
		}
		b[i] = byte(t)
	}
	return string(b), true
}

// Matcher is a glob in parts: head before the first '*', tail behind the last one, which
// decide most cases at once, and between them what begins and ends with '*', or nothing.
type Matcher struct{ head, middle, tail Glob }

func (g Glob) Matcher() Matcher {
	first := slices.Index(g, anyRun)
	if first < 0 {
		return Matcher{head: g}
	}
	last := len(g) - 1
	for g[last] != anyRun {
		last--
	}
	return Matcher{g[:first], g[first : last+1], g[last+1:]}
}

// Match reports whether the glob matches all of a handle. It takes O(len(glob) *
// len(handle)) steps at most.
func (m *Matcher) Match(handle string) bool {
	rest := len(handle) - len(m.head) - len(m.tail)
	switch {
	case rest < 0 || rest > 0 && len(m.middle) == 0:
		return false
	case !m.tail.matchOctets(handle[len(handle)-len(m.tail):]), !m.head.matchOctets(handle[:len(m.head)]):
		return false
	}
	return len(m.middle) <= 1 || m.middle.match(handle[len(m.head):][:rest])
}

// matchOctets is match for a glob without '*', and as many octets.
func (g Glob) matchOctets(octets string) bool {
	for i := len(g) - 1; i >= 0; i-- {
		if g[i] != anyOctet && g[i] != token(ascii.Lower(octets[i])) {
			return false
		}
	}
	return true
}

// match is Matcher.Match for any glob. Only the last '*' is ever tried again.
func (g Glob) match(handle string) bool {
	i, j := 0, 0        // in g, in handle
	star, from := -1, 0 // the last '*', and where it was tried last
	for j < len(handle) {
		switch {
		case i < len(g) && g[i] == anyRun:
			star, from = i, j
			i++
		case i < len(g) && (g[i] == anyOctet || g[i] == token(ascii.Lower(handle[j]))):
			i++
			j++
		case star >= 0:
			from++
			i, j = star+1, from
		default:
			return false
		}
	}
	for i < len(g) && g[i] == anyRun {
		i++
	}
	return i == len(g)
}

// String returns the one spelling of the glob: in lower case, and with as few escapes as
// possible.
func (g Glob) String() string {
	var b strings.Builder
	for _, t := range g {
		switch {
		case t == anyRun:
			b.WriteByte('*')
		case t == anyOctet:
			b.WriteByte('?')
		case t <= ' ' || t >= 0x7f:
			fmt.Fprintf(&b, "\\%03d", t)
		default:
			if strings.IndexByte(`*?\"`, byte(t)) >= 0 {
				b.WriteByte('\\')
			}
			b.WriteByte(byte(t))
		}
	}
	return b.String()
}
