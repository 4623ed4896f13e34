package param_test

import (
	"testing"

	"github.com/rserpool/coredns-rserpool/asap/param"
)

func TestCursorRun(t *testing.T) {
	const a, b = 0x01, 0x02
	tlv := func(typ byte, size int) []byte {
		p := make([]byte, (size+3)&^3)
		p[1], p[3] = typ, byte(size)
		return p
	}
	for _, tt := range []struct {
		name   string
		params [][]byte
		want   int
	}{
		{"one", [][]byte{tlv(a, 8)}, 1},
		{"with padding", [][]byte{tlv(a, 9), tlv(a, 10), tlv(a, 11)}, 3},
		{"until another type", [][]byte{tlv(a, 8), tlv(a, 8), tlv(b, 8), tlv(a, 8)}, 2},
		{"until a short one", [][]byte{tlv(a, 8), tlv(a, 4), tlv(a, 8)}, 1},
		{"until one that is cut", [][]byte{tlv(a, 8), tlv(a, 8)[:6]}, 1},
		{"until one that is no parameter", [][]byte{tlv(a, 8), {0, a, 0, 3}}, 1},
	} {
		msg := []byte{1, 0, 0, 0}
		for _, p := range tt.params {
			msg = append(msg, p...)
		}
		msg[3] = byte(len(msg))
		c := param.NewCursor(msg)
		if !c.Next() {
			t.Fatalf("%s: %x has no parameter", tt.name, msg)
		}
		if got := c.Run(8); got != tt.want {
			t.Errorf("%s: got %d, want %d", tt.name, got, tt.want)
		}
	}
}
