package hostile

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// multiplied is the common hash without a seed: h*factor + byte.
func multiplied(h []byte, factor uint64) (sum uint64) {
	for _, c := range h {
		sum = sum*factor + uint64(c)
	}
	return sum
}

// colliding returns 1<<pairs handles that all have the same such hash: each
// pair of bytes can be one of two.
func colliding(pairs int, factor byte) []string {
	list := make([]string, 1<<pairs)
	for i := range list {
		var b []byte
		for j := range pairs {
			if i>>j&1 == 0 {
				b = append(b, 'a', '_')
			} else {
				b = append(b, 'b', '_'-factor)
			}
		}
		list[i] = string(b)
	}
	return list
}

// fnvColliding returns handles whose FNV-1a hashes end in the same bits.
func fnvColliding(n, bits int) []string {
	var list []string
	for i := uint64(0); len(list) < n; i++ {
		b := []byte("00000000")
		for j, v := 0, i; j < len(b); j, v = j+1, v>>4 {
			b[j] = "0123456789abcdef"[v&15]
		}
		h := uint64(14695981039346656037)
		for _, c := range b {
			h = (h ^ uint64(c)) * 1099511628211
		}
		if h&(1<<bits-1) == 0 {
			list = append(list, string(b))
		}
	}
	return list
}

// TestCollidingHandles fills the handlespace with handles that collide under
// well-known hashes. Those of its table have a random seed, so that
// looking them up takes no longer than others.
func TestCollidingHandles(t *testing.T) {
	const pairs = 11
	if h := colliding(pairs, 31); multiplied([]byte(h[0]), 31) != multiplied([]byte(h[len(h)-1]), 31) {
		t.Fatal("handles do not collide")
	}
	other := make([]string, 1<<pairs)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range other {
		b := make([]byte, 2*pairs)
		for j := range b {
			b[j] = "abcdefghijklmnopqrstuvwxyz_"[r.IntN(27)]
		}
		other[i] = string(b)
	}
	usual := lookupTime(t, other)
	for name, handles := range map[string][]string{
		"h*31": colliding(pairs, 31), "h*33": colliding(pairs, 33), "FNV-1a": fnvColliding(1<<pairs, 9),
	} {
		got := lookupTime(t, handles)
		t.Logf("%s: %v for a lookup, usually %v", name, got, usual)
		if got > 4*usual {
			t.Errorf("%s: %v for a lookup, want at most 4 times the usual %v", name, got, usual)
		}
	}
}

// lookupTime is how long a lookup takes among pools of these handles: the
// best of some rounds, as others use the machine, too.
func lookupTime(t *testing.T, handles []string) time.Duration {
	t.Helper()
	s := handlespace.New(rand.New(rand.NewPCG(1, 2)))
	for _, h := range handles {
		if _, err := s.Put(rserpool.PoolHandle(h), &handlespace.Element{PoolElement: registration(h, 1, loopback).Element}); err != nil {
			t.Fatal(err)
		}
	}
	names := make([][]byte, len(handles))
	for i, h := range handles {
		names[i] = []byte(h)
	}
	var rounds []time.Duration
	for range 10 {
		began := time.Now()
		for _, n := range names {
			if p, _ := s.Lookup(n); p == nil {
				t.Fatalf("no pool %q", n)
			}
		}
		rounds = append(rounds, time.Since(began)/time.Duration(len(names)))
	}
	return slices.Min(rounds)
}
