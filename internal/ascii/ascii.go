// Package ascii reads and compares names as DNS does: with escapes, and only ASCII letters
// have case (RFC 4343).
package ascii

// Octets is a name in either form, so that no caller has to convert one.
type Octets interface{ ~string | ~[]byte }

// Lower is the lower case of a letter, and all else as it is.
func Lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

// ToLower puts letters into lower case in place.
func ToLower(b []byte) {
	for i, c := range b {
		b[i] = Lower(c)
	}
}

// Fold is a name in lower case; itself if that changes nothing.
func Fold(name string) string {
	if !HasUpper(name) {
		return name
	}
	b := []byte(name)
	ToLower(b)
	return string(b)
}

// EqualFold reports whether two names differ at most in case.
func EqualFold[A, B Octets](a A, b B) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if a[i] != b[i] && Lower(a[i]) != Lower(b[i]) {
			return false
		}
	}
	return true
}

// HasUpper reports whether there are ASCII capitals in b.
func HasUpper[T Octets](b T) bool {
	for ; len(b) >= 8; b = b[8:] {
		w := uint64(b[0]) | uint64(b[1])<<8 | uint64(b[2])<<16 | uint64(b[3])<<24 |
			uint64(b[4])<<32 | uint64(b[5])<<40 | uint64(b[6])<<48 | uint64(b[7])<<56
		if capitals(w) != 0 {
			return true
		}
	}
	for i := range len(b) {
		if b[i] != Lower(b[i]) {
			return true
		}
	}
	return false
}

// capitals sets bit 7 of those of eight bytes that are ASCII capitals, and no
// other bit.
func capitals(w uint64) uint64 {
	const ones = 0x0101010101010101
	low := w & (0x7f * ones)
	fromA := low + (0x80-'A')*ones     // bit 7 is set in bytes of at least 'A',
	beyondZ := low + (0x80-'Z'-1)*ones // and in those above 'Z'
	return fromA &^ beyondZ &^ w & (0x80 * ones)
}
