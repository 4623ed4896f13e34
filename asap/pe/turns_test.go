package pe

import (
	"net/netip"
	"slices"
	"testing"
	"time"
)

// TestTurns: of several addresses each has its turn, and then longer ones.
func TestTurns(t *testing.T) {
	var want []netip.Addr
	for _, a := range []string{"10.1.0.1", "10.2.0.1", "10.3.0.1"} {
		want = append(want, netip.MustParseAddr(a))
	}
	some := want[:1]
	var tt turns
	now := time.Unix(0, 0)
	var got, ends []int
	for range 120 {
		if order, leave := tt.next(now, some, want, 2*time.Second); leave {
			some = order[:1]
			got = append(got, slices.Index(want, some[0]))
			ends = append(ends, int(now.Unix()))
		}
		now = now.Add(time.Second)
	}
	if want := []int{1, 2, 0, 1, 2, 0, 1, 2, 0, 1}; !slices.Equal(got[:min(len(got), 10)], want) {
		t.Errorf("got turns of %v, want %v", got, want)
	}
	if want := []int{2, 4, 6, 10, 14, 18, 26, 34, 42, 58}; !slices.Equal(ends[:min(len(ends), 10)], want) {
		t.Errorf("turns end at %v s, want %v", ends, want)
	}
	if _, leave := tt.next(now, want, want, time.Second); leave || tt != (turns{}) {
		t.Error("an element that has all addresses leaves them")
	}
}
