package slots

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// TestIndex compares an index with a list that is searched, while it grows and shrinks.
func TestIndex(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var x Index
	var want []rserpool.PEID
	for i := range 20000 {
		grows := i/1000%2 == 0
		id := rserpool.PEID(r.IntN(400))
		at := slices.Index(want, id)
		slot, ok := x.Find(id)
		if ok != (at >= 0) || ok && int(slot) != at {
			t.Fatalf("step %d: Find(%v) = %d, %v; want %d", i, id, slot, ok, at)
		}
		switch {
		case grows && !ok:
			x.Add(id)
			want = append(want, id)
		case !grows && ok:
			if got := x.Remove(id, i%3 == 0); int(got) != at {
				t.Fatalf("step %d: Remove(%v) = %d, want %d", i, id, got, at)
			}
			last := len(want) - 1
			want[at] = want[last]
			want = want[:last]
		}
		if !slices.Equal(x.ids, want) || x.many != nil && len(x.many) != len(want) {
			t.Fatalf("step %d: identifiers %v, %d in the map; want %v", i, x.ids, len(x.many), want)
		}
	}
}

// TestMemory: an index takes no map while it has few identifiers, and frees memory.
func TestMemory(t *testing.T) {
	var x Index
	for id := range rserpool.PEID(few) {
		x.Add(id)
	}
	if x.many != nil {
		t.Errorf("a map of %d identifiers, want none", few)
	}
	for id := range rserpool.PEID(1000) {
		x.Add(few + id)
	}
	for id := range rserpool.PEID(1000 + few) {
		x.Remove(id, false)
	}
	if cap(x.ids) > 64 {
		t.Errorf("room for %d identifiers after all are gone", cap(x.ids))
	}
}

// TestRoom: identifiers that leave for a short time keep their memory.
func TestRoom(t *testing.T) {
	var x Index
	for id := range rserpool.PEID(1000) {
		x.Add(id)
	}
	had := cap(x.ids)
	for id := range rserpool.PEID(1000) {
		x.Remove(id, true)
	}
	if cap(x.ids) != had || x.many == nil {
		t.Errorf("room for %d identifiers, want %d", cap(x.ids), had)
	}
}
