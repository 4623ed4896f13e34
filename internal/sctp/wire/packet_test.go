package wire

import "testing"

// TestLastPadding: the length of a chunk counts the padding of all parameters
// but the last one (RFC 9260, Section 3.2).
func TestLastPadding(t *testing.T) {
	for n := range 9 {
		p := InitParams{Tag: 1, RWND: 2000, Out: 1, In: 1, Cookie: make([]byte, n+1)}
		if got, want := len(p.Body()), initFixedLen+4+n+1; got != want {
			t.Errorf("INIT ACK with a cookie of %d bytes: got length %d, want %d", n+1, got, want)
		}
		p.Unreported = appendPadded(nil, AppendTLV(nil, 0xc123, make([]byte, n)))
		if got, want := len(p.Body()), initFixedLen+Padded(4+n+1)+4+4+n; got != want {
			t.Errorf("INIT ACK with a report of %d bytes: got length %d, want %d", n, got, want)
		}
		q, err := ParseInit(p.Body())
		if err != nil || len(q.Cookie) != n+1 {
			t.Errorf("got a cookie of %d bytes, %v; want %d", len(q.Cookie), err, n+1)
		}
	}
}
