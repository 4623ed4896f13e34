package enrp

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
	peer   rserpool.ServerID
	info   string // what the error cause carries
}{
	// Unknown message type, with high bits 01.
	"g2-enrp-probe 40": {rserpool.CauseUnrecognizedMessage, true, 0, 0x70000007, "7f00000c7000000700000000"},
	// Unknown parameter, with high bits 01.
	"g2-enrp-probe 43": {rserpool.CauseUnrecognizedParameter, true, 0x4123, 0x70000007, "4123000861626364"},
	// Ends in the sender's identifier.
	"g2-enrp-probe 56": {rserpool.CauseInvalidValues, true, 0, 0, "050000060000"},
}

// canonical are the captured messages that are good but not in the form that
// Append gives them: unknown parameters go to the end.
var canonical = map[string]string{
	"g2-enrp-probe 47": "010100347000000700000000000f0006ffff0000000b0018700000070004001026ad0000000100080a63001fc123000861626364",
}

func TestGolden(t *testing.T) {
	for _, g := range readGolden(t) {
		t.Run(g.name, func(t *testing.T) {
			want, bad := malformed[g.name]
			m, _, err := Parse(g.data)
			if bad {
				checkError(t, err, want.cause, want.report, want.at, want.info)
				reply, ok := ErrorReply(err, 0x10000001, g.data)
				wantReply := &Error{
					Sender: 0x10000001, Receiver: want.peer,
					Causes: []rserpool.Cause{{Code: want.cause, Info: unhex(t, want.info)}},
				}
				if diff := cmp.Diff(wantReply, reply); !ok || diff != "" {
					t.Errorf("ErrorReply says %v (-want +got):\n%s", ok, diff)
				}
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
				out = unhex(t, c)
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

// checkError checks that err is the *rserpool.ParseError described.
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
		got, _ := ErrorReply(err, 1, g.data)
		wantReply, _ := ErrorReply(wantErr, 1, g.data)
		if diff := cmp.Diff(wantReply, got); diff != "" {
			t.Errorf("%s: error shares memory with the input (-want +got):\n%s", g.name, diff)
		}
	}
}
