package tlv

import (
	"math"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/tlv/tlvtest"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// TestSuspect: what an element says of itself as a suspect gets lost; what a registrar says
// of it does not, up to what the field can hold.
func TestSuspect(t *testing.T) {
	e := rserpool.PoolElement{ID: 1, Life: -1}
	for _, row := range []struct {
		silent time.Duration
		want   string
	}{
		{-time.Second, "94e9 0008 00000000"},
		{1999 * time.Millisecond, "94e9 0008 00000001"},
		{math.MaxInt64, "94e9 0008 ffffffff"},
	} {
		w := begin(nil)
		w.SuspectElement(&e, row.silent)
		b, err := w.Finish()
		if want := tlvtest.Unhex(t, "000a 0018 00000001 00000000 ffffffff"+row.want); err != nil || string(b) != string(want) {
			t.Fatalf("got %x, %v, want %x", b, err, want)
		}
		var got rserpool.PoolElement
		c := NewCursor(message(b))
		c.Next()
		silent, suspect := c.SuspectElement(&got)
		if _, err := c.Finish(); err != nil || !suspect || silent != min(max(row.silent.Truncate(time.Second), 0), math.MaxUint32*time.Second) || len(got.Unknown) > 0 {
			t.Errorf("read %v, suspect %v for %v, %v", got, suspect, silent, err)
		}
		c = NewCursor(message(b))
		c.Next()
		c.PoolElement(&got)
		if _, err := c.Finish(); err != nil || len(got.Unknown) > 0 {
			t.Errorf("read %v, %v", got, err)
		}
	}
	for _, bad := range []string{
		"000a 0017 00000001 00000000 ffffffff 94e9 0007 000000",
		"000a 0020 00000001 00000000 ffffffff 94e9 0008 00000000 94e9 0008 00000000",
	} {
		c := NewCursor(message(tlvtest.Unhex(t, bad)))
		c.Next()
		var got rserpool.PoolElement
		c.SuspectElement(&got)
		if _, err := c.Finish(); err == nil {
			t.Errorf("%s is not refused", bad)
		}
	}
}
