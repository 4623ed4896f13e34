package ascii

import "testing"

func TestCapitals(t *testing.T) {
	for c := range 256 {
		for i := range 8 {
			const rest = 0x7a5b4041dac1005a
			shift := 8 * i
			w := uint64(rest)&^(0xff<<shift) | uint64(c)<<shift
			var want uint64
			for j := range 8 {
				if b := byte(w >> (8 * j)); b != Lower(b) {
					want |= 0x80 << (8 * j)
				}
			}
			if got := capitals(w); got != want {
				t.Errorf("capitals(%#x) = %#x, want %#x", w, got, want)
			}
		}
	}
}

func TestEqualFold(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want bool
	}{
		{"", "", true},
		{"web", "web", true},
		{"Web", "wEB", true},
		{"web", "webs", false},
		{"a@", "A`", false},
		{"[", "{", false},
		{"\u00c4", "\u00e4", false},
	} {
		if got := EqualFold(tt.a, []byte(tt.b)); got != tt.want {
			t.Errorf("EqualFold(%q, %q) = %v, want %v", tt.a, tt.b, got, tt.want)
		}
		if got := Fold(tt.a) == Fold(tt.b); got != tt.want {
			t.Errorf("Fold(%q) == Fold(%q) is %v, want %v", tt.a, tt.b, got, tt.want)
		}
	}
}
