package services

import (
	"bufio"
	"bytes"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
)

// captured is a message of testdata.
type captured struct {
	name string // of the capture, and the message's number in it
	user bool   // the user has sent it, not the element
	ppid uint32
	data []byte
}

// readCaptured reads the messages of captures, in their order.
func readCaptured(t testing.TB, pattern string) []captured {
	t.Helper()
	files, err := filepath.Glob("testdata/" + pattern + ".txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no captures %s in testdata (%v)", pattern, err)
	}
	var all []captured
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
			f := strings.Fields(lines.Text())
			if len(f) != 4 {
				t.Fatalf("%s: line %q", name, lines.Text())
			}
			ppid, err1 := strconv.ParseUint(f[2], 10, 32)
			data, err2 := hex.DecodeString(f[3])
			if err1 != nil || err2 != nil {
				t.Fatalf("%s: line %q: %v %v", name, lines.Text(), err1, err2)
			}
			all = append(all, captured{filepath.Base(name) + " " + f[0], f[1] == "user", uint32(ppid), data})
		}
	}
	return all
}

// again parses a message and appends it.
func again(c captured) ([]byte, error) {
	switch c.ppid {
	case PPIDPingPong:
		if c.user {
			p, err := ParsePing(c.data)
			if err != nil {
				return nil, err
			}
			return p.Append(nil)
		}
		p, err := ParsePong(c.data)
		if err != nil {
			return nil, err
		}
		return p.Append(nil)
	case PPIDCalc:
		m, err := ParseCalc(c.data)
		return m.Append(nil), err
	case PPIDScripting:
		m, err := ParseScripting(c.data)
		if err != nil {
			return nil, err
		}
		return m.Append(nil)
	}
	return nil, fmt.Errorf("PPID %d", c.ppid)
}

const ppidASAP = 11

// TestGolden: each captured message is read, and written as it was.
func TestGolden(t *testing.T) {
	for _, pattern := range []string{"pingpong", "calcapp*", "scripting*"} {
		for _, c := range readCaptured(t, pattern) {
			if c.ppid == ppidASAP {
				continue
			}
			got, err := again(c)
			if err != nil || !bytes.Equal(got, c.data) {
				t.Errorf("%s: %x, %v, want %x", c.name, got, err, c.data)
			}
		}
	}
}

// cookieOf returns the cookie of a captured ASAP message.
func cookieOf(t *testing.T, c captured) []byte {
	t.Helper()
	m, _, err := asap.Parse(c.data)
	if err != nil {
		t.Fatalf("%s: %v", c.name, err)
	}
	switch m := m.(type) {
	case *asap.Cookie:
		return m.Cookie
	case *asap.CookieEcho:
		return m.Cookie
	}
	t.Fatalf("%s is %v, want a cookie", c.name, m.Type())
	return nil
}

// TestGoldenPingPong: the numbers and the cookies of a session with failovers. The reply
// number counts the answers, and the cookie has the next one.
func TestGoldenPingPong(t *testing.T) {
	next := uint64(1)
	for _, c := range readCaptured(t, "pingpong") {
		switch {
		case c.ppid == ppidASAP:
			b := cookieOf(t, c)
			got, err := ParsePingPongCookie(b)
			if err != nil || got != next {
				t.Errorf("%s: cookie with reply %d, %v, want %d", c.name, got, err, next)
			}
			if !bytes.Equal(AppendPingPongCookie(nil, got), b) {
				t.Errorf("%s: cookie %x is written as %x", c.name, b, AppendPingPongCookie(nil, got))
			}
		case !c.user:
			p, err := ParsePong(c.data)
			if err != nil || p.Reply != next || p.Number < p.Reply || !bytes.HasPrefix(p.Data, fmt.Appendf(nil, "Nachricht: %d,", p.Number)) {
				t.Errorf("%s: %+v, %v, want reply %d", c.name, p, err, next)
			}
			next++
		}
	}
	if next < 20 {
		t.Errorf("only %d answers", next-1)
	}
}

// TestGoldenCalc: the states of jobs grow, and a job is complete when all is done.
func TestGoldenCalc(t *testing.T) {
	types := map[CalcType]int{}
	for _, c := range readCaptured(t, "calcapp*") {
		if c.ppid == ppidASAP {
			b := cookieOf(t, c)
			got, err := ParseCalcCookie(b)
			if err != nil || got.Job == 0 || got.Completed == 0 || got.Completed > got.Size || !bytes.Equal(got.Append(nil), b) {
				t.Errorf("%s: cookie %+v, %v of %x", c.name, got, err, b)
			}
			continue
		}
		m, err := ParseCalc(c.data)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		types[m.Type]++
		if m.Type == CalcRequest && (m.Size == 0 || m.Completed != 0) || m.Type == CalcComplete && m.Size != m.Completed {
			t.Errorf("%s: %+v", c.name, m)
		}
	}
	for _, want := range []CalcType{CalcRequest, CalcAccept, CalcReject, CalcComplete, CalcKeepAlive, CalcKeepAliveAck} {
		if types[want] == 0 {
			t.Errorf("no message of type %d", want)
		}
	}
}

// TestGoldenScripting: the environment is named by its SHA-1 hash, and wanted if it is
// not known.
func TestGoldenScripting(t *testing.T) {
	var hash []byte
	var wanted, statuses []string
	for _, c := range readCaptured(t, "scripting-environment") {
		m, err := ParseScripting(c.data)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		switch m.Type {
		case ScriptingEnvironment:
			hash = m.Data
			if !c.user {
				wanted = append(wanted, fmt.Sprint(m.Flags&EnvironmentWanted != 0))
			}
		case ScriptingUpload:
			if len(wanted) == 1 && len(m.Data) > 0 {
				if sum := sha1.Sum(m.Data); !bytes.Equal(sum[:], hash) {
					t.Errorf("%s: environment with hash %x, want %x", c.name, sum, hash)
				}
			}
		case ScriptingStatus:
			statuses = append(statuses, fmt.Sprint(m.Status()))
		default: // has nothing to check
		}
	}
	if got := strings.Join(wanted, " "); got != "true false" {
		t.Errorf("environment wanted: %s, want true false", got)
	}
	if got := strings.Join(statuses, " "); got != "0 0 0 0 0 1" {
		t.Errorf("statuses %s: want one at the start and one at the end of three runs", got)
	}
}

// TestScriptingNotReady: as RSPLIB says that all of its threads are busy.
func TestScriptingNotReady(t *testing.T) {
	m := NewScriptingNotReady("uml")
	got, err := m.Append(nil)
	if want := "0000000b00000001756d6c"; err != nil || hex.EncodeToString(got) != want {
		t.Errorf("%x, %v, want %s", got, err, want)
	}
}

// TestGoldenText: echo repeats, and the line of daytime.
func TestGoldenText(t *testing.T) {
	var last []byte
	for _, c := range readCaptured(t, "echo") {
		if c.ppid != PPIDText || !c.user && !bytes.Equal(last, c.data) {
			t.Errorf("%s: PPID %d, %q after %q", c.name, c.ppid, c.data, last)
		}
		last = c.data
	}
	at := time.Date(2026, 11, 28, 21, 55, 34, 150258000, time.UTC)
	if got, want := Daytime(at), readCaptured(t, "daytime")[0].data; !bytes.Equal(got, want) {
		t.Errorf("daytime %q, want %q", got, want)
	}
}

// TestChargen: RFC 864's first line, and the way around the end.
func TestChargen(t *testing.T) {
	for n, want := range map[int]string{
		0:  " !\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefg\r\n",
		94: "~ !\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdef\r\n",
		95: " !\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefg\r\n",
	} {
		if got := string(ChargenLine(nil, n)); got != want {
			t.Errorf("line %d\n%q, want\n%q", n, got, want)
		}
	}
}

// TestRefused: what is no message of a service, or does not fit, is refused.
func TestRefused(t *testing.T) {
	for _, text := range []string{
		"", "01", "010000", "01000003", "01000005", "0100000b00000000000000", // too short, or another length
		"ff00000c0000000000000001", // another type
	} {
		b, _ := hex.DecodeString(text)
		if p, err := ParsePing(b); err == nil {
			t.Errorf("ParsePing(%s) = %+v", text, p)
		}
		if p, err := ParsePong(b); err == nil {
			t.Errorf("ParsePong(%s) = %+v", text, p)
		}
		if p, err := ParseCalc(b); err == nil {
			t.Errorf("ParseCalc(%s) = %+v", text, p)
		}
	}
	for _, text := range []string{"060000080000", "06000004", "0700000800000000"} {
		b, _ := hex.DecodeString(text)
		if p, err := ParseScripting(b); err == nil {
			t.Errorf("ParseScripting(%s) = %+v", text, p)
		}
	}
	for _, b := range [][]byte{nil, pingPongMagic, bytes.Repeat([]byte{1}, 16), AppendPingPongCookie([]byte("x"), 1)} {
		if n, err := ParsePingPongCookie(b); err == nil {
			t.Errorf("ParsePingPongCookie(%x) = %d", b, n)
		}
	}
	ahead := CalcCookie{Job: 1, Size: 1, Completed: 2}
	for _, b := range [][]byte{nil, make([]byte, 19), make([]byte, 21), ahead.Append(nil)} {
		if c, err := ParseCalcCookie(b); err == nil {
			t.Errorf("ParseCalcCookie(%x) = %+v", b, c)
		}
	}
	long := make([]byte, maxBody+1)
	if _, err := (&ScriptingMessage{Data: long}).Append(nil); err == nil {
		t.Error("a scripting message that is too long is written")
	}
	if _, err := (&Ping{Data: long[:maxPingData+1]}).Append(nil); err == nil {
		t.Error("a ping that is too long is written")
	}
	if _, err := (&Pong{Data: long[:maxPingData+1]}).Append(nil); err == nil {
		t.Error("a pong that is too long is written")
	}
	// A ping as long as a message can be, which a pong could not repeat.
	b := appendHead(nil, typePing, 0, maxBody)
	if _, err := ParsePing(append(b, long[:maxBody]...)); err == nil {
		t.Error("a ping that is too long for an answer is read")
	}
}

// FuzzParse: no message panics, and what is read is written as it was.
func FuzzParse(f *testing.F) {
	for _, c := range readCaptured(f, "*") {
		f.Add(c.user, c.ppid, c.data)
	}
	f.Fuzz(func(t *testing.T, user bool, ppid uint32, b []byte) {
		got, err := again(captured{user: user, ppid: ppid, data: b})
		if err != nil {
			return
		}
		want := bytes.Clone(b)
		if ppid != PPIDScripting {
			want[1] = 0 // the flags, which have no meaning there
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%x is written as %x", b, got)
		}
	})
}
