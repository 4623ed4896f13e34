package enrp

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// block is an element as it goes into a PE checksum.
type block struct {
	handle rserpool.PoolHandle
	id     rserpool.PEID
}

// slowChecksum computes the checksum as the RFCs write it down: RFC 5353,
// Section 3.6.2, for the bytes and RFC 1071, Section 4.1, for the sum.
func slowChecksum(blocks []block) uint16 {
	var b []byte
	for _, e := range blocks {
		b = append(b, e.handle...)
		for len(b)%4 != 0 {
			b = append(b, 0)
		}
		b = binary.BigEndian.AppendUint32(b, uint32(e.id))
	}
	var sum uint32
	for ; len(b) > 0; b = b[2:] {
		sum += uint32(b[0])<<8 | uint32(b[1])
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

func TestChecksum(t *testing.T) {
	tests := []struct {
		name   string
		blocks []block
		want   uint16
	}{
		{"none", nil, 0xffff},
		// As in the capture c4-audit, message 20.
		{"reference", []block{{"AlphaPool", 0x01000001}, {"AlphaPool", 0x01000002}}, 0x20d3},
		{"one byte", []block{{"a", 1}}, ^uint16(0x6101)},
		{"zeros", []block{{"\x00", 0}}, 0xffff},
		{"sum 0xffff", []block{{"\xff\xff", 0}}, 0},
		{"carry", []block{{"\xff\xff", 2}}, ^uint16(2)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var s Checksum
			for _, b := range tt.blocks {
				s.Add(b.handle, b.id)
			}
			if got := s.Value(); got != tt.want {
				t.Errorf("Value() of %v = %#04x, want %#04x", tt.blocks, got, tt.want)
			}
			if slow := slowChecksum(tt.blocks); slow != tt.want {
				t.Errorf("slow checksum of %v = %#04x, want %#04x", tt.blocks, slow, tt.want)
			}
		})
	}
}

// TestChecksumIncremental compares with a full computation after each of many
// random changes.
func TestChecksumIncremental(t *testing.T) {
	const seed = 1
	r := rand.New(rand.NewPCG(seed, 0))
	var s Checksum
	var have []block
	for i := range 5000 {
		if len(have) > 0 && r.IntN(5) < 2 {
			j := r.IntN(len(have))
			s.Remove(have[j].handle, have[j].id)
			have = append(have[:j], have[j+1:]...)
		} else {
			h := make([]byte, 1+r.IntN(9))
			for j := range h {
				h[j] = byte(r.IntN(4) * 85) // many bytes of all ones and zeros
			}
			b := block{rserpool.PoolHandle(h), rserpool.PEID(r.Uint32())}
			have = append(have, b)
			s.Add(b.handle, b.id)
		}
		if len(have) > 20 {
			s, have = Checksum{}, nil
		}
		if got, want := s.Value(), slowChecksum(have); got != want {
			t.Fatalf("seed %d, step %d: checksum of %v = %#04x, want %#04x", seed, i, have, got, want)
		}
	}
}

func TestChecksumsMatch(t *testing.T) {
	for _, tt := range []struct {
		a, b uint16
		want bool
	}{
		{1, 1, true},
		{0, 0xffff, true},
		{0xffff, 0, true},
		{0, 1, false},
		{0xffff, 0xfffe, false},
	} {
		if got := ChecksumsMatch(tt.a, tt.b); got != tt.want {
			t.Errorf("ChecksumsMatch(%#04x, %#04x) = %v, want %v", tt.a, tt.b, got, tt.want)
		}
	}
}
