package chain

import (
	"math/rand/v2"
	"slices"
	"testing"
)

type item struct{ place Place[item] }

// TestRandom compares two lists with slices, after each of many random steps.
func TestRandom(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	items := make([]item, 20)
	var lists [2]List[item]
	var want [2][]*item
	for range 5000 {
		v, to := &items[rnd.IntN(len(items))], rnd.IntN(2)
		for i := range want {
			want[i] = slices.DeleteFunc(want[i], func(x *item) bool { return x == v })
		}
		if rnd.IntN(3) > 0 {
			lists[to].Add(v, &v.place)
			want[to] = append(want[to], v)
		} else {
			v.place.Leave()
		}
		for i := range lists {
			var got []*item
			for x := lists[i].First(); x != nil; x = x.place.Next() {
				got = append(got, x)
			}
			if !slices.Equal(got, want[i]) || lists[i].Len() != len(got) {
				t.Fatalf("list %d: got %d values of %d, want %d", i, len(got), lists[i].Len(), len(want[i]))
			}
		}
		for i := range items {
			x := &items[i]
			if in := slices.Contains(want[0], x); x.place.In(&lists[0]) != in || !in && !slices.Contains(want[1], x) && x.place.Next() != nil {
				t.Fatalf("value %d: in list 0: %v, next %p", i, x.place.In(&lists[0]), x.place.Next())
			}
		}
	}
}
