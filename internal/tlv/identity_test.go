package tlv

import (
	"strings"
	"testing"

	"github.com/rserpool/coredns-rserpool/internal/tlv/tlvtest"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// TestIdentity: what an element says of its identity gets lost; what a registrar says of it
// does not.
func TestIdentity(t *testing.T) {
	for _, row := range []struct{ name, want string }{
		{"", "000a 0010 00000001 00000000 ffffffff"},
		{"dns:a", "000a 0019 00000001 00000000 ffffffff 94eb 0009 646e733a61 000000"},
		{strings.Repeat("a", 256), "000a 0114 00000001 00000000 ffffffff 94eb 0104" + strings.Repeat("61", 256)},
	} {
		e := rserpool.PoolElement{ID: 1, Life: -1, Identity: row.name}
		b, err := AppendPoolElement(nil, &e)
		if want := tlvtest.Unhex(t, row.want); err != nil || string(b) != string(want) {
			t.Fatalf("got %x, %v, want %x", b, err, want)
		}
		var got rserpool.PoolElement
		c := NewCursor(message(b))
		c.Next()
		_, suspect := c.SuspectElement(&got)
		if _, err := c.Finish(); err != nil || got.Identity != row.name || suspect || len(got.Unknown) > 0 {
			t.Errorf("read %+v, suspect %v, %v, want identity %q", got, suspect, err, row.name)
		}
		c = NewCursor(message(b))
		c.Next()
		c.PoolElement(&got)
		if _, err := c.Finish(); err != nil || got.Identity != "" || len(got.Unknown) > 0 {
			t.Errorf("read %+v, %v, want no identity", got, err)
		}
	}
	if b, err := AppendPoolElement(nil, &rserpool.PoolElement{Identity: strings.Repeat("a", 257)}); err == nil {
		t.Errorf("an identity of 257 bytes is written: %x", b)
	}
	for _, bad := range []string{
		"000a 0014 00000001 00000000 ffffffff 94eb 0004",
		"000a 0015 00000001 00000000 ffffffff 94eb 0005 ff 000000",
		"000a 0115 00000001 00000000 ffffffff 94eb 0105" + strings.Repeat("61", 257) + "000000",
		"000a 0020 00000001 00000000 ffffffff 94eb 0005 61 000000 94eb 0005 61 000000",
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
