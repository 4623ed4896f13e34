package asap

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rserpool/coredns-rserpool/internal/tlv"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// golden is a message of testdata/golden.
type golden struct {
	name string // of the capture, and the message's number in it
	typ  string
	data []byte
}

// readGolden reads all captured messages.
func readGolden(t testing.TB) []golden {
	t.Helper()
	files, err := filepath.Glob("testdata/golden/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no captures in testdata/golden (%v)", err)
	}
	var all []golden
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		capture := strings.TrimSuffix(filepath.Base(name), ".txt")
		for lines := bufio.NewScanner(f); lines.Scan(); {
			field := strings.Fields(lines.Text())
			data, err := hex.DecodeString(field[2])
			if err != nil {
				t.Fatalf("%s, message %s: %v", name, field[0], err)
			}
			all = append(all, golden{capture + " " + field[0], field[1], data})
		}
	}
	return all
}

// malformed are the captured messages that are to be refused: a probe made
// them wrong on purpose.
var malformed = map[string]struct {
	cause  rserpool.CauseCode
	report bool
	at     tlv.Type // the parameter at fault, 0 for the message
	info   string   // what the error cause carries
}{
	// Pool elements without a user transport, and without a policy.
	"g1-asap-probe 17": {rserpool.CauseInvalidValues, true, tlv.TypePoolElement, "000a001800000059000000000000ea600008000800000001"},
	"g1-asap-probe 18": {rserpool.CauseInvalidValues, true, tlv.TypePoolElement, "000a00200000005a000000000000ea600004001013920000000100080a63001f"},
	// Unknown message types, with high bits 01 and 11.
	"g1-asap-probe 64": {rserpool.CauseUnrecognizedMessage, true, 0, "7f00000c0009000578000000"},
	"g1-asap-probe 67": {rserpool.CauseUnrecognizedMessage, false, 0, "ff00000c0009000578000000"},
	// Unknown parameters, with high bits 00 and 01.
	"g1-asap-probe 70": {rserpool.CauseUnrecognizedParameter, false, 0x0123, "0123000861626364"},
	"g1-asap-probe 73": {rserpool.CauseUnrecognizedParameter, true, 0x4123, "4123000861626364"},
	// No pool handle; message length too long, and too short.
	"g1-asap-probe 89": {rserpool.CauseInvalidValues, true, 0, "05000004"},
	"g1-asap-probe 93": {rserpool.CauseInvalidValues, true, 0, "050000c80009000d50726f6265506f6f6c000000"},
	"g1-asap-probe 97": {rserpool.CauseInvalidValues, true, 0, "050000060009000d50726f6265506f6f6c000000"},
	// Parameter length too long, and 0; empty pool handle; three bytes.
	"g1-asap-probe 101": {rserpool.CauseInvalidValues, true, tlv.TypePoolHandle, "0009006461626364"},
	"g1-asap-probe 105": {rserpool.CauseInvalidValues, true, tlv.TypePoolHandle, "00090000"},
	"g1-asap-probe 109": {rserpool.CauseInvalidValues, true, tlv.TypePoolHandle, "00090004"},
	"g1-asap-probe 113": {rserpool.CauseInvalidValues, true, 0, "050000"},
}

// canonical are the captured messages that are good but not in the form that
// Append gives them: unknown flags are ignored (RFC 5354, Section 4), unknown
// parameters go to the end.
var canonical = map[string]string{
	"g1-asap-probe 85":  "0500001c0009000d50726f6265506f6f6c000000c123000861626364",
	"g1-asap-probe 138": "050100100009000b4e6f776865726500",
}

func TestGolden(t *testing.T) {
	for _, g := range readGolden(t) {
		t.Run(g.name, func(t *testing.T) {
			want, bad := malformed[g.name]
			m, _, err := Parse(g.data)
			if bad {
				checkError(t, err, want.cause, want.report, want.at, want.info)
				return
			}
			if err != nil {
				t.Fatalf("Parse(%x): %v", g.data, err)
			}
			if got := m.Type().String(); got != g.typ {
				t.Errorf("Type() = %v, want %v", got, g.typ)
			}
			out := g.data
			if c, ok := canonical[g.name]; ok {
				out, _ = hex.DecodeString(c)
			}
			got, err := m.Append([]byte("before"))
			if err != nil {
				t.Fatalf("Append of %+v: %v", m, err)
			}
			if diff := cmp.Diff(hex.EncodeToString(out), hex.EncodeToString(got[len("before"):])); diff != "" {
				t.Errorf("Append after Parse (-want +got):\n%s", diff)
			}
			again, _, err := Parse(got[len("before"):])
			if err != nil {
				t.Fatalf("Parse after Append: %v", err)
			}
			if diff := cmp.Diff(m, again, compareAddrs); diff != "" {
				t.Errorf("Parse after Append (-want +got):\n%s", diff)
			}
		})
	}
}

// checkError checks that err is the *rserpool.ParseError described, and that
// ErrorReply makes the fitting answer.
func checkError(t *testing.T, err error, cause rserpool.CauseCode, report bool, at tlv.Type, info string) {
	t.Helper()
	var pe *rserpool.ParseError
	if !errors.As(err, &pe) {
		t.Fatalf("error is %v, want a *rserpool.ParseError", err)
	}
	if pe.Cause != cause || pe.Report != report || pe.Param != at || hex.EncodeToString(pe.Bytes) != info {
		t.Errorf("got  error %v: cause %v, report %v, parameter %v, bytes %x\nwant cause %v, report %v, parameter %v, bytes %s",
			err, pe.Cause, pe.Report, pe.Param, pe.Bytes, cause, report, at, info)
	}
	reply, ok := ErrorReply(err)
	if ok != report {
		t.Fatalf("ErrorReply says %v, want %v", ok, report)
	}
	if !ok {
		return
	}
	causes := []rserpool.Cause{{Code: cause, Info: pe.Bytes}}
	var want Message = &Error{Causes: causes}
	var reg *RegistrationError
	if errors.As(err, &reg) && cause == rserpool.CauseInvalidValues {
		want = &RegistrationResponse{Reject: true, Handle: reg.Handle, ID: reg.ID, Causes: causes}
	}
	if diff := cmp.Diff(want, reply); diff != "" {
		t.Errorf("ErrorReply (-want +got):\n%s", diff)
	}
	b, err := reply.Append(nil)
	if err != nil {
		t.Fatalf("Append of the error reply: %v", err)
	}
	back, _, err := Parse(b)
	if diff := cmp.Diff(want, back); err != nil || diff != "" {
		t.Errorf("Parse of the error reply: %v (-want +got):\n%s", err, diff)
	}
}

// TestTruncated cuts every captured message at every byte.
func TestTruncated(t *testing.T) {
	for _, g := range readGolden(t) {
		for n := range g.data {
			m, causes, err := Parse(g.data[:n])
			var pe *rserpool.ParseError
			if !errors.As(err, &pe) || m != nil || causes != nil {
				t.Errorf("%s cut to %d bytes: Parse gives %v, %v, %v, want a *rserpool.ParseError", g.name, n, m, causes, err)
			}
		}
	}
}

// TestParseKeepsNothing overwrites the buffer after Parse.
func TestParseKeepsNothing(t *testing.T) {
	for _, g := range readGolden(t) {
		b := bytes.Clone(g.data)
		m, causes, err := Parse(b)
		clear(b)
		want, wantCauses, wantErr := Parse(g.data)
		if diff := cmp.Diff(want, m, compareAddrs); diff != "" {
			t.Errorf("%s: message shares memory with the input (-want +got):\n%s", g.name, diff)
		}
		if diff := cmp.Diff(wantCauses, causes); diff != "" {
			t.Errorf("%s: causes share memory with the input (-want +got):\n%s", g.name, diff)
		}
		if err == nil {
			continue
		}
		got, _ := ErrorReply(err)
		wantReply, _ := ErrorReply(wantErr)
		if diff := cmp.Diff(wantReply, got); diff != "" {
			t.Errorf("%s: error shares memory with the input (-want +got):\n%s", g.name, diff)
		}
	}
}
