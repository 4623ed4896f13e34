package registrar

import (
	"testing"
	"time"
)

func TestBucket(t *testing.T) {
	var b bucket
	now := time.Unix(100, 0)
	n := 0
	for range 100 {
		if b.allow(now, 5) {
			n++
		}
	}
	if n != 10 {
		t.Errorf("at once: got %d, want 10", n)
	}
	for n = 0; now.Before(time.Unix(110, 0)); now = now.Add(time.Millisecond) {
		if b.allow(now, 5) {
			n++
		}
	}
	if n < 49 || n > 51 {
		t.Errorf("in 10 s: got %d, want 50", n)
	}
}
