package slab

import "testing"

// TestOf: all values are zero and apart from one another, whatever the lengths.
func TestOf(t *testing.T) {
	var s Of[int]
	var all [][]int
	for n := range 700 {
		all = append(all, s.Slice(n))
		p := s.New()
		all = append(all, []int{*p})
		*p = -1
	}
	for i, values := range all {
		if want := i / 2; i%2 == 0 && (len(values) != want || cap(values) != want) {
			t.Fatalf("slice %d has length %d and room for %d", want, len(values), cap(values))
		}
		for j, v := range values {
			if v != 0 {
				t.Fatalf("value %d of %d is %d", j, i, v)
			}
			values[j] = i + 1
		}
	}
	for i, values := range all {
		for j, v := range values {
			if v != i+1 {
				t.Fatalf("value %d of %d has become %d", j, i, v)
			}
		}
	}
}

func TestAllocations(t *testing.T) {
	type value [240]byte
	var s Of[value]
	if got := testing.AllocsPerRun(1000, func() { s.New() }); got != 0 { // it rounds down
		t.Errorf("%v allocations for a value, want 1 for 17", got)
	}
}
