package secure

import (
	"slices"
	"testing"
	"testing/synctest"
)

// TestTurns: handshakes that have begun go first, each kind in its order, and the others have a share.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newTurns(1)
		x.take(false)
		var got []int
		wait := func(n int, begun bool) {
			go func() {
				x.take(begun)
				got = append(got, n)
				x.give()
			}()
			synctest.Wait()
		}
		for n := range 3 {
			wait(n, false)
		}
		for n := 10; n < 18; n++ {
			wait(n, true)
		}
		x.give()
		synctest.Wait()
		if want := []int{10, 11, 12, 0, 13, 14, 15, 1, 16, 17, 2}; !slices.Equal(got, want) {
			t.Errorf("Got turns in the order %v, want %v", got, want)
		}
		if x.free != 1 {
			t.Errorf("%d turns are free, want 1", x.free)
		}
	})
}
