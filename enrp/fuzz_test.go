package enrp

import (
	"bytes"
	"errors"
	"reflect"
	"testing"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// FuzzParse: what Parse accepts, Append writes so that it is the same message
// again; what it refuses, it refuses with an error that can be answered.
func FuzzParse(f *testing.F) {
	for _, g := range readGolden(f) {
		f.Add(g.data)
	}
	for _, tt := range messages {
		f.Add(unhex(f, tt.hex))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, reports, err := Parse(b)
		if err != nil {
			checkReply(t, b, err)
			return
		}
		sender, receiver := m.IDs()
		if s, r := IDs(b); s != sender || r != receiver {
			t.Fatalf("IDs() of the message are %v, %v, of its bytes %v, %v", sender, receiver, s, r)
		}
		if len(reports) > 0 {
			checkReadable(t, &Error{Causes: reports})
		}
		checkReadable(t, m)
	})
}

// checkReadable checks that m can be written and read again.
func checkReadable(t *testing.T, m Message) {
	t.Helper()
	b, err := m.Append(nil)
	if err != nil {
		t.Fatalf("%v cannot be written: %v\n%+v", m.Type(), err, m)
	}
	again, _, err := Parse(b)
	if err != nil {
		t.Fatalf("%v cannot be read again: %v\nmessage %+v\nwritten %x", m.Type(), err, m, b)
	}
	if !reflect.DeepEqual(m, again) {
		t.Fatalf("%v is another after it has been written and read again:\nbefore %+v\nafter  %+v\nwritten %x", m.Type(), m, again, b)
	}
	b2, err := again.Append([]byte{0xff})
	if err != nil || !bytes.Equal(b, b2[1:]) {
		t.Fatalf("%v is written another way the second time: %v\nfirst  %x\nsecond %x", m.Type(), err, b, b2)
	}
}

// checkReply checks that the error can be answered.
func checkReply(t *testing.T, b []byte, err error) {
	t.Helper()
	var pe *rserpool.ParseError
	if !errors.As(err, &pe) {
		t.Fatalf("error %v is no *rserpool.ParseError", err)
	}
	if pe.Offset+len(pe.Bytes) > len(b) || !bytes.Equal(pe.Bytes, b[pe.Offset:][:len(pe.Bytes)]) {
		t.Fatalf("error %v: bytes %x are not at offset %d of %x", err, pe.Bytes, pe.Offset, b)
	}
	reply, ok := ErrorReply(err, 1, b)
	if !ok {
		return
	}
	if len(b) > 0 && MessageType(b[0]) == TypeError {
		t.Fatalf("error %v of an error message is answered", err)
	}
	checkReadable(t, reply)
}
