package here

import (
	"testing"
	"time"
)

// TestPace: outside of the kernel lab, times are as they are written.
func TestPace(t *testing.T) {
	t.Setenv("IN_UML", "")
	if got := Paced(t, time.Second); got != time.Second {
		t.Errorf("a second is %v, want a second", got)
	}
	// What took a guest twice as long as usual is allowed for from then on.
	t.Setenv("IN_UML", "1")
	t.Cleanup(func() { slowest.Store(0) })
	slowest.Store(2000)
	if got := Paced(t, time.Second); got != 2*time.Second {
		t.Errorf("a second is %v in a guest that is half as fast as usual, want 2s", got)
	}
	if got := Pace(t); got < 2 {
		t.Errorf("pace %v after it was 2, want the greatest", got)
	}
}
