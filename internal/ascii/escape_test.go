package ascii

import "testing"

func TestUnescape(t *testing.T) {
	for _, tt := range []struct {
		text string
		want byte
		size int
	}{
		{".rest", '.', 1}, {"\\", '\\', 1}, {"032x", ' ', 3}, {"255", 0xff, 3}, {"0000", 0, 3},
		{"", 0, 0}, {"256", 0, 0}, {"999", 0, 0}, {"12", 0, 0}, {"1", 0, 0}, {"1x3", 0, 0}, {"12x", 0, 0},
	} {
		if got, size := Unescape(tt.text); got != tt.want || size != tt.size {
			t.Errorf("%q: got %d, length %d; want %d, length %d", tt.text, got, size, tt.want, tt.size)
		}
	}
}
