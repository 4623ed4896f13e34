package secure

import (
	"bytes"
	"testing"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
)

// FuzzSplit splits bytes into records, which are together what was there.
func FuzzSplit(f *testing.F) {
	f.Add([]byte{0x17, 3, 3, 0, 2, 1, 2, 0x15, 3, 3, 0, 0, 1})
	f.Add([]byte{0x16, 3, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		var all []byte
		for rest := b; len(rest) > 0; {
			var record []byte
			if record, rest = split(rest); len(record) == 0 {
				t.Fatal("Got an empty record: that has no end")
			}
			all = append(all, record...)
		}
		if !bytes.Equal(all, b) {
			t.Errorf("Got %x, want %x", all, b)
		}
	})
}

// FuzzCut cuts a stream into messages, which do not depend on how the stream arrives.
func FuzzCut(f *testing.F) {
	f.Add(bytes.Join([][]byte{sctptest.Message(8, 1), sctptest.Message(4, 2), {1, 0, 0, 5, 9, 0, 0, 0}}, nil), uint8(3))
	f.Add([]byte{1, 0, 0, 3}, uint8(1))
	f.Fuzz(func(t *testing.T, b []byte, step uint8) {
		const most = 1000
		messages := func(step int) (all [][]byte, failed bool) {
			c := cutter{frame: &sctptest.Framing, max: most}
			for len(b) > 0 {
				piece := b[:min(step, len(b))]
				b = b[len(piece):]
				for len(piece) > 0 {
					msg, rest, err := c.cut(piece)
					if err != nil {
						return all, true
					}
					if msg == nil && len(rest) > 0 {
						t.Fatal("Got a rest and no message")
					}
					if msg != nil {
						all = append(all, msg)
					}
					piece = rest
				}
			}
			if len(c.part) > most+4 {
				t.Errorf("Got %d bytes kept, want at most a message", len(c.part))
			}
			return all, false
		}
		whole := b
		want, bad := messages(len(b) + 1)
		b = whole
		got, worse := messages(int(step) + 1)
		if bad != worse || len(got) != len(want) {
			t.Fatalf("Got %d messages, error %v, want %d, %v", len(got), worse, len(want), bad)
		}
		for i := range got {
			if !bytes.Equal(got[i], want[i]) {
				t.Errorf("message %d: got %x, want %x", i, got[i], want[i])
			}
		}
	})
}

// FuzzCutSessions cuts a stream into messages of sessions. It does not depend on how the stream
// arrives, and the messages are together what was there.
func FuzzCutSessions(f *testing.F) {
	const most = 1000
	e := &Endpoint{sessions: true}
	hello := appendSession(nil, sctp.Message{Data: []byte("hello"), PPID: 11})
	f.Add(hello, uint8(3))
	f.Add(append(bytes.Clone(hello), hello[:9]...), uint8(0))
	f.Add([]byte{0, 0, 0, 11, 0, 0, 0, 0}, uint8(1))
	f.Add([]byte{0, 0, 0, 11, 0xff, 0xff, 0xff, 0xff, 1}, uint8(1))
	f.Fuzz(func(t *testing.T, b []byte, step uint8) {
		messages := func(step int) (again []byte, failed bool) {
			c := cutter{frame: &sessionFraming, max: most + sessionHead}
			for b := b; len(b) > 0; {
				piece := b[:min(step, len(b))]
				b = b[len(piece):]
				for len(piece) > 0 {
					cut, rest, err := c.cut(piece)
					if err != nil {
						return again, true
					}
					if cut == nil && len(rest) > 0 {
						t.Fatal("Got a rest and no message")
					}
					if cut != nil {
						m := e.content(cut)
						if n := len(m.Data); n == 0 || n > most {
							t.Errorf("Got a message of %d bytes, want 1 to %d", n, most)
						}
						again = appendSession(again, m)
					}
					piece = rest
				}
				if len(c.part) > most+sessionHead {
					t.Errorf("Got %d bytes kept, want at most a message", len(c.part))
				}
			}
			if whole := append(bytes.Clone(again), c.part...); !bytes.Equal(whole, b) {
				t.Errorf("Got %x, want %x", whole, b)
			}
			return again, false
		}
		want, bad := messages(len(b) + 1)
		got, worse := messages(int(step) + 1)
		if bad != worse || !bytes.Equal(got, want) {
			t.Errorf("Got %x, error %v, want %x, %v", got, worse, want, bad)
		}
	})
}
