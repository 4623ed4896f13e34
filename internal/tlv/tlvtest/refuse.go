package tlvtest

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Refusal describes a *[rserpool.ParseError].
type Refusal = struct {
	Cause  rserpool.CauseCode
	Report bool
	At     rserpool.ParameterType // the parameter at fault, 0 for the message
	Info   string                 // what the error cause carries, as Unhex reads it
}

// checkRefusal checks that err is the error described for the message b, and that it is
// answered if it is to be reported.
func (c Codec[T, M]) checkRefusal(t *testing.T, b []byte, err error, want Refusal) {
	t.Helper()
	var pe *rserpool.ParseError
	if !errors.As(err, &pe) {
		t.Fatalf("error is %v, want a *rserpool.ParseError", err)
	}
	info := Unhex(t, want.Info)
	if pe.Cause != want.Cause || pe.Report != want.Report || pe.Param != want.At || !slices.Equal(pe.Bytes, info) {
		t.Errorf("got  error %v: cause %v, report %v, parameter %v, bytes %x\nwant cause %v, report %v, parameter %v, bytes %x",
			err, pe.Cause, pe.Report, pe.Param, pe.Bytes, want.Cause, want.Report, want.At, info)
	}
	reply, ok := c.Reply(err, b)
	if ok != want.Report {
		t.Fatalf("the error is answered: %v, want %v", ok, want.Report)
	}
	if !ok {
		return
	}
	var peer rserpool.ServerID
	if len(b) >= 8 {
		peer = rserpool.ServerID(binary.BigEndian.Uint32(b[4:]))
	}
	wantReply := c.WantReply(err, peer, []rserpool.Cause{{Code: want.Cause, Info: info}})
	if diff := cmp.Diff(wantReply, reply); diff != "" {
		t.Errorf("answer (-want +got):\n%s", diff)
	}
	c.checkReadable(t, reply)
}

// RefusedRow is a message that Parse must refuse for invalid values.
type RefusedRow = struct {
	Name, Hex string
	Text      string                 // in the error
	At        rserpool.ParameterType // 0 for the message
	Info      string                 // of the error cause; "" for all of the message
}

// Refused reads messages that must be refused.
func (c Codec[T, M]) Refused(t *testing.T, rows []RefusedRow) {
	for _, tt := range rows {
		t.Run(tt.Name, func(t *testing.T) {
			data := Unhex(t, tt.Hex)
			m, reports, err := c.Parse(data)
			if any(m) != nil || reports != nil {
				t.Errorf("Parse gives %v, %v beside an error", m, reports)
			}
			info := tt.Info
			if info == "" {
				info = tt.Hex
			}
			c.checkRefusal(t, data, err, Refusal{rserpool.CauseInvalidValues, true, tt.At, info})
			if !strings.Contains(err.Error(), tt.Text) {
				t.Errorf("error is %q, want one with %q", err, tt.Text)
			}
		})
	}
}

// UnknownTypes reads messages of unknown types, which are in hexadecimal digits. The two
// high bits of the type decide whether they are reported (RFC 5354, Section 4), before
// anything else.
func (c Codec[T, M]) UnknownTypes(t *testing.T, reported map[string]bool) {
	for digits, report := range reported {
		t.Run(digits, func(t *testing.T) {
			data := Unhex(t, digits)
			m, reports, err := c.Parse(data)
			if any(m) != nil || reports != nil {
				t.Errorf("Parse gives %v, %v", m, reports)
			}
			info := data
			if n := int(binary.BigEndian.Uint16(data[2:])); n < len(data) {
				info = data[:n] // without padding
			}
			c.checkRefusal(t, data, err, Refusal{rserpool.CauseUnrecognizedMessage, report, 0, hex.EncodeToString(info)})
		})
	}
}

// NotAnswered reads error messages, which must never be answered: two peers could
// otherwise answer each other without end. Those in good are accepted.
func (c Codec[T, M]) NotAnswered(t *testing.T, messages map[string]string, good ...string) {
	for name, digits := range messages {
		t.Run(name, func(t *testing.T) {
			data := Unhex(t, digits)
			_, reports, err := c.Parse(data)
			if (err == nil) != slices.Contains(good, name) {
				t.Errorf("Parse: %v", err)
			}
			if reply, ok := c.Reply(err, data); ok || any(reply) != nil || reports != nil {
				t.Errorf("error %v is answered by %v, reports %v", err, reply, reports)
			}
		})
	}
}

// OnlyParseErrors checks that no other error is answered.
func (c Codec[T, M]) OnlyParseErrors(t *testing.T) {
	for _, err := range []error{nil, errors.New("no ParseError")} {
		if reply, ok := c.Reply(err, nil); any(reply) != nil || ok {
			t.Errorf("the error %v is answered by %v, %v, want no answer", err, reply, ok)
		}
	}
}

// UnwritableRow is a message that Append must refuse.
type UnwritableRow[M any] = struct {
	Name    string
	Message M
	Text    string // in the error
}

// Unwritable checks that Append refuses what Parse refuses.
func (c Codec[T, M]) Unwritable(t *testing.T, rows []UnwritableRow[M]) {
	for _, tt := range rows {
		t.Run(tt.Name, func(t *testing.T) {
			b, err := tt.Message.Append([]byte("before"))
			if err == nil || !strings.Contains(err.Error(), tt.Text) || string(b) != "before" {
				t.Errorf("Append gives %.80q, %v, want the buffer as it was and an error with %q", b, err, tt.Text)
			}
		})
	}
}
