package tlv_test

import (
	"testing"

	"github.com/rserpool/coredns-rserpool/internal/tlv"
)

func TestCursorRun(t *testing.T) {
	const a, b = 0x01, 0x02
	encode := func(typ byte, size int) []byte {
		p := make([]byte, (size+3)&^3)
		p[1], p[3] = typ, byte(size)
		return p
	}
	for _, tt := range []struct {
		name   string
		params [][]byte
		want   int
	}{
		{"one", [][]byte{encode(a, 8)}, 1},
		{"with padding", [][]byte{encode(a, 9), encode(a, 10), encode(a, 11)}, 3},
		{"until another type", [][]byte{encode(a, 8), encode(a, 8), encode(b, 8), encode(a, 8)}, 2},
		{"until a short one", [][]byte{encode(a, 8), encode(a, 4), encode(a, 8)}, 1},
		{"until one that is cut", [][]byte{encode(a, 8), encode(a, 8)[:6]}, 1},
		{"until one that is no parameter", [][]byte{encode(a, 8), {0, a, 0, 3}}, 1},
	} {
		msg := []byte{1, 0, 0, 0}
		for _, p := range tt.params {
			msg = append(msg, p...)
		}
		msg[3] = byte(len(msg))
		c := tlv.NewCursor(msg)
		if !c.Next() {
			t.Fatalf("%s: %x has no parameter", tt.name, msg)
		}
		if got := c.Run(8); got != tt.want {
			t.Errorf("%s: got %d, want %d", tt.name, got, tt.want)
		}
	}
}
