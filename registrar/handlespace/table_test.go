package handlespace

import (
	"fmt"
	"strings"
	"testing"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

func TestLookup(t *testing.T) {
	long63, long64 := strings.Repeat("l", 63), strings.Repeat("l", 64)
	name253 := strings.Repeat("abcdefg.", 31) + "abcde"
	huge := strings.Repeat("Huge", 5000)
	handles := []rserpool.PoolHandle{
		"pool", "Case", "cASE", "CASE", "a.b.c", "b.c", "x.Y.Z",
		"nul\x00byte", "\xff\xfe.\x80", "\xc4", "dot.", ".lead", "two..dots", ".",
		rserpool.PoolHandle(long63 + ".end"), rserpool.PoolHandle(long64 + ".out"),
		rserpool.PoolHandle(name253), rserpool.PoolHandle(name253 + "f"), rserpool.PoolHandle(huge),
	}
	s := newSpace()
	for _, h := range handles {
		mustPut(t, s, h, roundRobin(1))
	}
	tests := []struct {
		name  string
		want  rserpool.PoolHandle // "" for none
		below bool
	}{
		{"pool", "pool", false},
		{"POOL", "pool", false},
		{"poo", "", false},
		{"", "", false},
		{"Case", "cASE", false}, // the greatest, however it is written
		{"cASE", "cASE", false},
		{"case", "cASE", false},
		{"a.b.c", "a.b.c", false},
		{"A.b.C", "a.b.c", false},
		{"b.c", "b.c", true},
		{"c", "", true},
		{"C", "", true},
		{"a.b", "", false},
		{".c", "", false},
		{"y.z", "", true},
		{"z", "", true},
		{"nul\x00byte", "nul\x00byte", false},
		{"nul", "", false},
		{"nul\x00", "", false},
		{"\xff\xfe.\x80", "\xff\xfe.\x80", false},
		{"\x80", "", true},
		{"\xe4", "", false}, // only ASCII has case
		{"dot.", "dot.", false},
		{"dots", "", false}, // under an empty label
		{"lead", "", false},
		{".", ".", false},
		{"end", "", true},
		{"out", "", false}, // under a label of 64
		{name253, rserpool.PoolHandle(name253), false},
		{name253[8:], "", true},
		{"abcde", "", true},
		{"abcdef", "", false}, // under a name that is too long
		{strings.ToLower(huge), rserpool.PoolHandle(huge), false},
		{huge[1:], "", false},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%.20q", tt.name), func(t *testing.T) {
			p, below := s.Lookup([]byte(tt.name))
			var got rserpool.PoolHandle
			if p != nil {
				got = p.Handle()
			}
			if got != tt.want || below != tt.below {
				t.Errorf("Lookup(%q) = %q, %v; want %q, %v", tt.name, got, below, tt.want, tt.below)
			}
		})
	}

	for _, h := range handles {
		if p := s.Pool(h); p == nil || p.Handle() != h {
			t.Errorf("Pool(%q) = %v", h, p)
		}
		if s.Remove(h, 1) == nil {
			t.Errorf("Remove(%q, 1) found nothing", h)
		}
		if p := s.Pool(h); p != nil {
			t.Errorf("Pool(%q) = %v after its last element", h, p)
		}
	}
	for _, tt := range tests {
		if p, below := s.Lookup([]byte(tt.name)); p != nil || below {
			t.Errorf("Lookup(%q) = %v, %v in an empty space", tt.name, p, below)
		}
	}
	for i := range s.table.shards {
		if sh := &s.table.shards[i]; sh.nodes != 0 || sh.buckets.Load() != nil {
			t.Errorf("shard %d keeps %d nodes", i, sh.nodes)
		}
	}
}

func TestAlikeAndHandleSize(t *testing.T) {
	s := newSpace()
	for _, h := range []rserpool.PoolHandle{"case", "Case", "CASE", "a.case"} {
		mustPut(t, s, h, roundRobin(1))
	}
	for _, c := range []struct {
		h           rserpool.PoolHandle
		alike, size int
	}{
		{"case", 3, 4}, {"cAsE", 3, 4}, {"A.CASE", 1, 6 + 128}, {"b", 0, 1}, {"a.b.c", 0, 5 + 2*128},
		{"a..b", 0, 4}, {"", 0, 0}, {rserpool.PoolHandle(strings.Repeat("a.", 200)), 0, 400},
	} {
		if got := s.Alike(c.h); got != c.alike {
			t.Errorf("Alike(%q): got %d, want %d", c.h, got, c.alike)
		}
		if got := HandleSize(c.h); got != c.size {
			t.Errorf("HandleSize(%q): got %d, want %d", c.h, got, c.size)
		}
	}
	s.Remove("Case", 1)
	s.Remove("a.case", 1)
	if got := s.Alike("Case"); got != 2 {
		t.Errorf("Alike after a removal: got %d, want 2", got)
	}
	s.Remove("case", 1)
	s.Remove("CASE", 1)
	if got := s.Alike("Case"); got != 0 {
		t.Errorf("Alike after all removals: got %d, want 0", got)
	}
}

// TestTableGrowsAndShrinks goes up to many names and back, with a map beside.
func TestTableGrowsAndShrinks(t *testing.T) {
	s := newSpace()
	const n = 20000
	handle := func(i int) rserpool.PoolHandle { return rserpool.PoolHandle(fmt.Sprintf("h%d.g%d.top", i, i%97)) }
	check := func(lo, hi int) {
		t.Helper()
		for i := range n {
			p := s.Pool(handle(i))
			if (p != nil) != (i >= lo && i < hi) || p != nil && p.Handle() != handle(i) {
				t.Fatalf("Pool(%q) = %v with %d to %d in", handle(i), p, lo, hi)
			}
		}
		if _, below := s.Lookup([]byte("TOP")); below != (lo < hi) {
			t.Fatalf("something below top: %v with %d to %d in", below, lo, hi)
		}
	}
	for i := range n {
		mustPut(t, s, handle(i), roundRobin(1))
	}
	check(0, n)
	for i := range n {
		if i == n-300 {
			check(n-300, n)
			buckets := 0
			for j := range s.table.shards {
				if b := s.table.shards[j].buckets.Load(); b != nil {
					buckets += len(*b)
				}
			}
			if buckets > 16*400 {
				t.Errorf("%d buckets for some 400 names", buckets)
			}
		}
		s.Remove(handle(i), 1)
	}
	check(0, 0)
}
