package ascii

// Unescape reads the escape behind a backslash (RFC 1035, Section 5.1) and returns its byte
// and its length, which is 0 if it is not valid.
func Unescape(s string) (byte, int) {
	switch {
	case s == "":
		return 0, 0
	case !IsDigit(s[0]):
		return s[0], 1
	case len(s) < 3 || !IsDigit(s[1]) || !IsDigit(s[2]):
		return 0, 0
	}
	v := int(s[0]-'0')*100 + int(s[1]-'0')*10 + int(s[2]-'0')
	if v > 0xff {
		return 0, 0
	}
	return byte(v), 3
}

// IsDigit reports whether c is an ASCII digit.
func IsDigit(c byte) bool { return '0' <= c && c <= '9' }
