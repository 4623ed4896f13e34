package tlv

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

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
		"000a 0020 00000001 00000000 ffffffff 94eb 0005 61 000000 94ec 0005 01 000000",
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

// elements writes a message of elements with these identities, and identities reads one.
func elements(t *testing.T, names []string) []byte {
	t.Helper()
	w := BeginMessage(nil, 1, 0)
	for _, name := range names {
		w.PoolElement(&rserpool.PoolElement{ID: 1, Life: -1, Identity: name})
	}
	b, err := w.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func identities(b []byte) (names []string, err error) {
	c := NewCursor(b)
	for c.Next() {
		var e rserpool.PoolElement
		c.SuspectElement(&e)
		names = append(names, e.Identity)
	}
	_, err = c.Finish()
	return names, err
}

// TestIdentityTail: an identity comes without what it has in common with the one before it.
func TestIdentityTail(t *testing.T) {
	const head = "000a 0016 00000001 00000000 ffffffff " // of an element with 2 bytes of identity
	ab, z := head+"94eb 0006 6162 0000", strings.Repeat("z", 256)
	hexZ := "000a 0114 00000001 00000000 ffffffff 94eb 0104" + strings.Repeat("7a", 256)
	for _, row := range []struct {
		names []string
		want  string
	}{
		{[]string{"ab", "ab", "ab"}, ab + strings.Repeat("000a 0015 00000001 00000000 ffffffff 94ec 0005 02 000000", 2)},
		{[]string{"ab", "ac", "a"}, ab + "000a 0016 00000001 00000000 ffffffff 94ec 0006 0163 0000 000a 0015 00000001 00000000 ffffffff 94ec 0005 01 000000"},
		{[]string{"ab", "", "abc"}, ab + "000a 0010 00000001 00000000 ffffffff 000a 0016 00000001 00000000 ffffffff 94ec 0006 0263 0000"},
		{[]string{"ab", "b"}, ab + "000a 0015 00000001 00000000 ffffffff 94eb 0005 62 000000"},
		{[]string{z, z}, hexZ + "000a 0016 00000001 00000000 ffffffff 94ec 0006 ff7a 0000"},
		{[]string{"\u00e4", "\u00f6"}, head + "94eb 0006 c3a4 0000 000a 0016 00000001 00000000 ffffffff 94ec 0006 01b6 0000"},
	} {
		b := elements(t, row.names)
		if want := tlvtest.Unhex(t, row.want); string(b[4:]) != string(want) {
			t.Errorf("%q: got %x, want %x", row.names, b[4:], want)
		}
		if got, err := identities(b); err != nil || !slices.Equal(got, row.names) {
			t.Errorf("read %q, %v, want %q", got, err, row.names)
		}
	}
	for _, bad := range []string{
		"000a 0015 00000001 00000000 ffffffff 94ec 0005 00 000000",
		"000a 0016 00000001 00000000 ffffffff 94ec 0006 0161 0000",
		ab + "000a 0014 00000001 00000000 ffffffff 94ec 0004",
		ab + "000a 0015 00000001 00000000 ffffffff 94ec 0005 00 000000",
		ab + "000a 0015 00000001 00000000 ffffffff 94ec 0005 03 000000",
		ab + "000a 0016 00000001 00000000 ffffffff 94ec 0006 02ff 0000",
		ab + "000a 0020 00000001 00000000 ffffffff 94ec 0005 02 000000 94eb 0005 61 000000",
		hexZ + "000a 0017 00000001 00000000 ffffffff 94ec 0007 ff6161 00",
	} {
		if got, err := identities(message(tlvtest.Unhex(t, bad))); err == nil {
			t.Errorf("%s is not refused: %q", bad, got)
		}
	}
}

// FuzzIdentities: identities are read as they were written, whatever they have in common, and
// what is read of any bytes can be written.
func FuzzIdentities(f *testing.F) {
	f.Add("spiffe://a/rserpool/pool/web/1", "spiffe://a/rserpool/pool/web/2", "dns:a", []byte{})
	f.Add(strings.Repeat("a", 256), strings.Repeat("a", 255), "", message(tlvtest.Unhex(f,
		"000a 0018 00000001 00000000 ffffffff 94eb 0006 6162 0000 000a 0016 00000001 00000000 ffffffff 94ec 0006 0163 0000")))
	f.Fuzz(func(t *testing.T, x, y, z string, b []byte) {
		names := []string{x, y, z, x, x}
		if !slices.ContainsFunc(names, func(s string) bool { return len(s) > MaxIdentity || !utf8.ValidString(s) }) {
			if got, err := identities(elements(t, names)); err != nil || !slices.Equal(got, names) {
				t.Errorf("read %q, %v, want %q", got, err, names)
			}
		}
		if read, err := identities(b); err == nil {
			if got, err := identities(elements(t, read)); err != nil || !slices.Equal(got, read) {
				t.Errorf("read %q, %v, want %q", got, err, read)
			}
		}
	})
}
