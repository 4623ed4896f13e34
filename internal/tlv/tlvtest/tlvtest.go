// Package tlvtest holds the tests that every protocol of RFC 5354's messages must pass:
// packages asap and enrp run them on their own messages.
package tlvtest

import (
	"bufio"
	"encoding/hex"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// CompareAddrs lets go-cmp compare addresses.
var CompareAddrs = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

// Unhex reads bytes in hexadecimal digits. Blanks may stand between them anywhere, and a
// comment after # in each line.
func Unhex(t testing.TB, s string) []byte {
	t.Helper()
	var digits strings.Builder
	for line := range strings.Lines(s) {
		line, _, _ = strings.Cut(line, "#")
		digits.WriteString(strings.Join(strings.Fields(line), ""))
	}
	b, err := hex.DecodeString(digits.String())
	if err != nil {
		t.Fatalf("bad hexadecimal digits in the test: %v", err)
	}
	return b
}

// captured is a message of testdata/golden.
type captured struct {
	name string // of the capture, and the message's number in it
	typ  string
	data []byte
}

// readCaptured reads all captured messages of the package under test.
func readCaptured(t testing.TB) []captured {
	t.Helper()
	files, err := filepath.Glob("testdata/golden/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no captures in testdata/golden (%v)", err)
	}
	var all []captured
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
			all = append(all, captured{capture + " " + field[0], field[1], data})
		}
	}
	return all
}
