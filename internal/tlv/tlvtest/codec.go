package tlvtest

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// MessageType is the type of a protocol's messages.
type MessageType interface {
	~uint8
	fmt.Stringer
}

// Message is a protocol's message.
type Message[T MessageType] interface {
	Type() T
	Append(b []byte) ([]byte, error)
}

// Row is a message and its form on the wire, as [Unhex] reads it. The types of rows in
// this package are aliases, so that tables need no field names.
type Row[M any] = struct {
	Name    string
	Message M
	Hex     string
}

// Codec is a protocol under test.
type Codec[T MessageType, M Message[T]] struct {
	Parse func(b []byte) (M, []rserpool.Cause, error)
	// Reply answers the message b, which Parse has refused with err, and reports
	// whether there is an answer.
	Reply func(err error, b []byte) (M, bool)
	// WantReply is the answer to expect from Reply. peer is the number behind the
	// message's header, 0 if there is none: in ENRP the sender's identifier.
	WantReply func(err error, peer rserpool.ServerID, causes []rserpool.Cause) M
	// Report makes an error message, whose type is Error.
	Report func(causes []rserpool.Cause) M
	Error  T
	// Messages has at least one row for each type of message.
	Messages []Row[M]
}

// Golden reads all captured messages and writes them again. malformed are the messages
// that must be refused, by name. canonical are the messages that are good, but are not
// written as they were, with the form that they get.
func (c Codec[T, M]) Golden(t *testing.T, malformed map[string]Refusal, canonical map[string]string) {
	for _, g := range readCaptured(t) {
		t.Run(g.name, func(t *testing.T) {
			m, _, err := c.Parse(g.data)
			if want, bad := malformed[g.name]; bad {
				c.checkRefusal(t, g.data, err, want)
				return
			}
			if err != nil {
				t.Fatalf("Parse(%x): %v", g.data, err)
			}
			if got := m.Type().String(); got != g.typ {
				t.Errorf("Type() = %v, want %v", got, g.typ)
			}
			out := g.data
			if s, ok := canonical[g.name]; ok {
				out = Unhex(t, s)
			}
			b := c.checkAppend(t, m, out)
			again, _, err := c.Parse(b)
			if err != nil {
				t.Fatalf("Parse after Append: %v", err)
			}
			if diff := cmp.Diff(m, again, CompareAddrs); diff != "" {
				t.Errorf("Parse after Append (-want +got):\n%s", diff)
			}
		})
	}
}

// checkAppend checks that m is written as want, and returns the bytes.
func (c Codec[T, M]) checkAppend(t *testing.T, m M, want []byte) []byte {
	t.Helper()
	b, err := m.Append([]byte("before"))
	if err != nil {
		t.Fatalf("Append of %+v: %v", m, err)
	}
	b = b[len("before"):]
	if diff := cmp.Diff(hex.EncodeToString(want), hex.EncodeToString(b)); diff != "" {
		t.Errorf("Append (-want +got):\n%s", diff)
	}
	return b
}

// Truncated cuts every captured message at every byte.
func (c Codec[T, M]) Truncated(t *testing.T) {
	for _, g := range readCaptured(t) {
		for n := range g.data {
			m, causes, err := c.Parse(g.data[:n])
			var pe *rserpool.ParseError
			if !errors.As(err, &pe) || any(m) != nil || causes != nil {
				t.Errorf("%s cut to %d bytes: Parse gives %v, %v, %v, want a *rserpool.ParseError", g.name, n, m, causes, err)
			}
		}
	}
}

// KeepsNothing overwrites the buffer after Parse.
func (c Codec[T, M]) KeepsNothing(t *testing.T) {
	for _, g := range readCaptured(t) {
		b := bytes.Clone(g.data)
		m, causes, err := c.Parse(b)
		clear(b)
		want, wantCauses, wantErr := c.Parse(g.data)
		if diff := cmp.Diff(want, m, CompareAddrs); diff != "" {
			t.Errorf("%s: message shares memory with the input (-want +got):\n%s", g.name, diff)
		}
		if diff := cmp.Diff(wantCauses, causes); diff != "" {
			t.Errorf("%s: causes share memory with the input (-want +got):\n%s", g.name, diff)
		}
		if err == nil {
			continue
		}
		got, _ := c.Reply(err, g.data)
		wantReply, _ := c.Reply(wantErr, g.data)
		if diff := cmp.Diff(wantReply, got); diff != "" {
			t.Errorf("%s: error shares memory with the input (-want +got):\n%s", g.name, diff)
		}
	}
}

// BothWays writes and reads all Messages.
func (c Codec[T, M]) BothWays(t *testing.T) {
	for _, tt := range c.Messages {
		t.Run(tt.Name, func(t *testing.T) {
			data := Unhex(t, tt.Hex)
			c.checkAppend(t, tt.Message, data)
			m, reports, err := c.Parse(data)
			if err != nil || reports != nil {
				t.Fatalf("Parse: %v, reports %v", err, reports)
			}
			if diff := cmp.Diff(tt.Message, m, CompareAddrs); diff != "" {
				t.Errorf("Parse (-want +got):\n%s", diff)
			}
		})
	}
}

// Complete checks that Messages has all types from first to last.
func (c Codec[T, M]) Complete(t *testing.T, first, last T) {
	seen := make(map[T]bool)
	for _, tt := range c.Messages {
		seen[tt.Message.Type()] = true
	}
	for typ := first; typ <= last; typ++ {
		if !seen[typ] {
			t.Errorf("%v is not in the table", typ)
		}
	}
}

// Find returns the message of that name in Messages, and its bytes.
func (c Codec[T, M]) Find(t testing.TB, name string) (M, []byte) {
	t.Helper()
	for _, tt := range c.Messages {
		if tt.Name == name {
			return tt.Message, Unhex(t, tt.Hex)
		}
	}
	t.Fatalf("no message %q", name)
	panic("unreachable")
}

// Allocs checks how often reading a message allocates memory, and that writing it into a
// buffer that is large enough does not. parse is the number allowed, by the name in
// Messages.
func (c Codec[T, M]) Allocs(t *testing.T, parse map[string]float64) {
	for name, want := range parse {
		t.Run(name, func(t *testing.T) {
			m, data := c.Find(t, name)
			if got := testing.AllocsPerRun(100, func() {
				if _, _, err := c.Parse(data); err != nil {
					t.Fatal(err)
				}
			}); got > want {
				t.Errorf("Parse allocates %v times, want at most %v", got, want)
			}
			buf := make([]byte, 0, 1024)
			if got := testing.AllocsPerRun(100, func() {
				if _, err := m.Append(buf); err != nil {
					t.Fatal(err)
				}
			}); got > 0 {
				t.Errorf("Append allocates %v times, want 0", got)
			}
		})
	}
}

// Fuzz checks that Append writes what Parse accepts so that it is the same message again,
// and that Parse refuses everything else with an error that can be answered. check, if it
// is not nil, is called for each message that is accepted.
func (c Codec[T, M]) Fuzz(f *testing.F, check func(t *testing.T, m M, b []byte)) {
	for _, g := range readCaptured(f) {
		f.Add(g.data)
	}
	for _, tt := range c.Messages {
		f.Add(Unhex(f, tt.Hex))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, reports, err := c.Parse(b)
		if err != nil {
			c.checkReply(t, b, err)
			return
		}
		if check != nil {
			check(t, m, b)
		}
		if len(reports) > 0 {
			c.checkReadable(t, c.Report(reports))
		}
		c.checkReadable(t, m)
	})
}

// checkReadable checks that m can be written and read again.
func (c Codec[T, M]) checkReadable(t *testing.T, m M) {
	t.Helper()
	b, err := m.Append(nil)
	if err != nil {
		t.Fatalf("%v cannot be written: %v\n%+v", m.Type(), err, m)
	}
	again, _, err := c.Parse(b)
	if err != nil {
		t.Fatalf("%v cannot be read again: %v\nmessage %+v\nwritten %x", m.Type(), err, m, b)
	}
	if !reflect.DeepEqual(m, again) {
		t.Fatalf("%v has changed after it has been written and read again:\nbefore %+v\nafter  %+v\nwritten %x", m.Type(), m, again, b)
	}
	b2, err := again.Append([]byte{0xff})
	if err != nil || !bytes.Equal(b, b2[1:]) {
		t.Fatalf("%v is written another way the second time: %v\nfirst  %x\nsecond %x", m.Type(), err, b, b2)
	}
}

// checkReply checks that the error can be answered.
func (c Codec[T, M]) checkReply(t *testing.T, b []byte, err error) {
	t.Helper()
	var pe *rserpool.ParseError
	if !errors.As(err, &pe) {
		t.Fatalf("error %v is no *rserpool.ParseError", err)
	}
	if pe.Offset+len(pe.Bytes) > len(b) || !bytes.Equal(pe.Bytes, b[pe.Offset:][:len(pe.Bytes)]) {
		t.Fatalf("error %v: bytes %x are not at offset %d of %x", err, pe.Bytes, pe.Offset, b)
	}
	reply, ok := c.Reply(err, b)
	if !ok {
		return
	}
	if len(b) > 0 && T(b[0]) == c.Error {
		t.Fatalf("error %v of an error message is answered", err)
	}
	c.checkReadable(t, reply)
}
