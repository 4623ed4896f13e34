package services

import "time"

// Daytime is the line that an element of the daytime service sends.
func Daytime(now time.Time) []byte {
	return []byte(now.Format("Monday, 02-January-2006 15:04:05.000000") + "\n")
}

const (
	chargenFirst, chargenLast = ' ', '~'
	chargenWidth              = 72
)

// ChargenLine is line n of the character generator: 72 printable characters, which begin
// one character further in each line (RFC 864). RSPLIB 3.4.4 does not serve it.
func ChargenLine(b []byte, n int) []byte {
	const count = chargenLast - chargenFirst + 1
	for i := range chargenWidth {
		b = append(b, byte(chargenFirst+(n+i)%count))
	}
	return append(b, '\r', '\n')
}
