package rserpool

import (
	"fmt"
	"slices"
	"strings"

	"github.com/rserpool/coredns-rserpool/internal/ascii"
)

// glob is a pattern of pool handles: octets, folded, and wildcards. ASCII case does not
// count, as in DNS.
type glob []globToken

// globToken is an octet or a wildcard.
type globToken uint16

const (
	anyRun   globToken = 0x100 + iota // '*': any octets, dots too, or none
	anyOctet                          // '?'
)

// parseGlob reads a pool handle as a name relative to the zone, with the escapes of DNS.
// '*' and '?' that are not escaped are wildcards. A handle that is no such name is written
// in its _ph- form.
func parseGlob(text string) (glob, error) {
	g, why := readGlob(text)
	if name, ok := g.name(); ok && why == "" {
		g, why = readPoolName(name)
	}
	if why != "" {
		return nil, fmt.Errorf("%q %s; write a pool as its name without the zone, such as web, Compute\\032Pool or *.eu", text, why)
	}
	return g, nil
}

// readGlob undoes the escapes, or says why it cannot.
func readGlob(text string) (g glob, why string) {
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
			if c, size = unescape(text[i:]); size == 0 {
				return nil, "has an escape that is not \\DDD"
			}
			if c == '.' {
				return nil, "has a dot within a label, which no pool has"
			}
			i += size
		}
		g = append(g, globToken(ascii.Lower(c)))
	}
	switch {
	case len(g) == 0:
		return nil, "is empty"
	case len(g) > maxName:
		return nil, "is too long"
	case g[len(g)-1] == '.':
		return nil, "ends in a dot"
	}
	return g, ""
}

// readPoolName returns the glob of the pool with this name.
func readPoolName(name string) (_ glob, why string) {
	if hasPrefixFold([]byte(name), encodedPrefix) {
		h, ok := decodeHandle([]byte(name))
		if !ok {
			return nil, "is not the _ph- form of a handle"
		}
		return globOf(string(h)), ""
	}
	if len(name) > maxName-2 {
		return nil, "is too long"
	}
	for label := range strings.SplitSeq(name, ".") {
		switch {
		case label == "":
			return nil, "has an empty label"
		case len(label) > maxLabel:
			return nil, "has a label of more than 63 octets"
		}
	}
	return globOf(name), ""
}

// globOf returns the glob that matches only this handle.
func globOf(handle string) glob {
	g := make(glob, len(handle))
	for i := range len(handle) {
		g[i] = globToken(ascii.Lower(handle[i]))
	}
	return g
}

// name returns the handle, folded, that is all that the glob matches; ok is false if it has
// wildcards.
func (g glob) name() (_ string, ok bool) {
	b := make([]byte, len(g))
	for i, t := range g {
		if t > 0xff {
			return "", false
		}
		b[i] = byte(t)
	}
	return string(b), true
}

// matcher is a glob in parts: head before the first '*', tail behind the last one, which
// decide most cases at once, and between them what begins and ends with '*', or nothing.
type matcher struct{ head, middle, tail glob }

func (g glob) matcher() matcher {
	first := slices.Index(g, anyRun)
	if first < 0 {
		return matcher{head: g}
	}
	last := len(g) - 1
	for g[last] != anyRun {
		last--
	}
	return matcher{g[:first], g[first : last+1], g[last+1:]}
}

// match reports whether the glob matches all of a handle. It takes O(len(glob) *
// len(handle)) steps at most.
func (m *matcher) match(handle string) bool {
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
func (g glob) matchOctets(octets string) bool {
	for i := len(g) - 1; i >= 0; i-- {
		if g[i] != anyOctet && g[i] != globToken(ascii.Lower(octets[i])) {
			return false
		}
	}
	return true
}

// match is matcher.match for any glob. Only the last '*' is ever tried again.
func (g glob) match(handle string) bool {
	i, j := 0, 0        // in g, in handle
	star, from := -1, 0 // the last '*', and where it was tried last
	for j < len(handle) {
		switch {
		case i < len(g) && g[i] == anyRun:
			star, from = i, j
			i++
		case i < len(g) && (g[i] == anyOctet || g[i] == globToken(ascii.Lower(handle[j]))):
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
func (g glob) String() string {
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
