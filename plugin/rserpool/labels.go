package rserpool

import (
	"strings"

	"github.com/rserpool/coredns-rserpool/internal/ascii"
)

// labels is the part of a name below its zone, with escapes undone.
type labels struct {
	// name holds the labels joined by dots.
	name []byte
	// n is the number of labels. For the first two of them, end says where
	// they end in name, offset where the next label begins in the name that
	// was decoded.
	n      int
	end    [2]int
	offset [2]int
}

// decodeLabels reads rel, labels in presentation form each followed by a dot,
// into buf. It fails if rel is not a name, and if a label has a dot in it: handles are
// split at their dots, so that no handle has such a name.
func decodeLabels(buf []byte, rel string) (l labels, ok bool) {
	start := 0
	for i := 0; i < len(rel); {
		c := rel[i]
		i++
		switch c {
		case '.':
			if len(buf) == start || len(buf)-start > maxLabel {
				return l, false
			}
			if l.n < len(l.end) {
				l.end[l.n], l.offset[l.n] = len(buf), i
			}
			l.n++
			if i < len(rel) {
				buf = append(buf, '.')
			}
			start = len(buf)
			continue
		case '\\':
			var size int
			if c, size = ascii.Unescape(rel[i:]); size == 0 || c == '.' {
				return l, false
			}
			i += size
		}
		if len(buf) >= maxName {
			return l, false
		}
		buf = append(buf, c)
	}
	l.name = buf
	return l, l.n > 0 && rel[len(rel)-1] == '.'
}

// label returns one of the first two labels, nil if there is none.
func (l *labels) label(i int) []byte {
	switch {
	case i >= l.n:
		return nil
	case i == 0:
		return l.name[:l.end[0]]
	}
	return l.name[l.end[i-1]+1 : l.end[i]]
}

// after returns the labels behind the first i, which are 1 or 2. There are more than i.
func (l *labels) after(i int) []byte { return l.name[l.end[i-1]+1:] }

// wireLen returns the octets that a name in presentation form has on the wire.
func wireLen(name string) int {
	switch {
	case name == ".":
		return 1
	case strings.IndexByte(name, '\\') < 0:
		return len(name) + 1
	}
	n := 1 // a length octet for each dot, and the root's
	for i := 0; i < len(name); i++ {
		if name[i] == '\\' {
			_, size := ascii.Unescape(name[i+1:])
			i += size
		}
		n++
	}
	return n
}

func hasPrefixFold(b []byte, prefix string) bool {
	return len(b) >= len(prefix) && ascii.EqualFold(b[:len(prefix)], prefix)
}

// hasSuffixName reports whether the fully qualified name lies in the zone or
// is the zone itself.
func hasSuffixName(name, zone string) bool {
	if zone == "." {
		return strings.HasSuffix(name, ".")
	}
	at := len(name) - len(zone)
	if at < 0 || !ascii.EqualFold(name[at:], zone) {
		return false
	}
	if at == 0 {
		return true
	}
	// The zone begins at a label only behind a dot that is not escaped.
	if name[at-1] != '.' {
		return false
	}
	escaped := false
	for i := at - 2; i >= 0 && name[i] == '\\'; i-- {
		escaped = !escaped
	}
	return !escaped
}
