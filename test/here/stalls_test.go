package here

import (
	"testing"
	"time"
)

// TestWithout: what the machine stood still does not count.
func TestWithout(t *testing.T) {
	at := time.Unix(1000, 0)
	span := func(from, to int) Span {
		return Span{at.Add(time.Duration(from) * time.Second), time.Duration(to-from) * time.Second}
	}
	for _, tt := range []struct {
		stalls []Span
		want   time.Duration
	}{
		{nil, 10 * time.Second},
		{[]Span{span(-5, 0), span(10, 20)}, 10 * time.Second},
		{[]Span{span(-5, 3)}, 7 * time.Second},
		{[]Span{span(2, 4), span(8, 12)}, 6 * time.Second},
		{[]Span{span(-1, 11)}, 0},
	} {
		if got := span(0, 10).Without(tt.stalls); got != tt.want {
			t.Errorf("without %v: got %v, want %v", tt.stalls, got, tt.want)
		}
	}
}
