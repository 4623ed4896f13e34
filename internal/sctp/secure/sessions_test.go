package secure

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
)

// withSessions has the sites of a world carry messages with heads.
func withSessions(w *world, _, _ *Config) { w.sessions = true }

// TestSessionMessages: messages of sessions keep their boundaries, bytes and PPIDs.
func TestSessionMessages(t *testing.T) {
	lim := sctp.Limits{}.WithDefaults()
	inWorld(t, lim, withSessions, func(t *testing.T, w *world) {
		a, b := w.call()
		for _, ppid := range []uint32{0, 11, 0x20, 1<<32 - 1} {
			for _, n := range []int{1, 7, 8, 9, 1000, 16375, 16376, 16377, 16384, 50001, lim.MessageSize} {
				want := sctp.Message{Data: bytes.Repeat([]byte{byte(n), 0x16, 3}, n/3+1)[:n], PPID: ppid}
				for _, dir := range []struct {
					from, to *site
					id       sctp.AssocID
				}{{w.x, w.y, a}, {w.y, w.x, b}} {
					if err := dir.from.Endpoint.Send(dir.id, want); err != nil {
						t.Fatalf("Send of %d bytes: %v", n, err)
					}
					if got := dir.to.Next(sctp.Received); !sctptest.Same(got.Message, want) {
						t.Fatalf("Got message of %d bytes, PPID %d, want %d bytes, PPID %d", len(got.Message.Data), got.Message.PPID, n, ppid)
					}
				}
			}
		}
		mustSay(t, w.x.Endpoint.Send(a, sctp.Message{Data: []byte{1}, Stream: 1}), "only stream 0")
		mustSay(t, w.x.Endpoint.Send(a, sctp.Message{}), "it must have 1 to")
		mustSay(t, w.x.Endpoint.Send(a, sctp.Message{Data: make([]byte, lim.MessageSize+1)}), "it must have 1 to")
	})
}

// TestSessionHeads: a peer that breaks the rules of the heads is cut off.
func TestSessionHeads(t *testing.T) {
	lim := sctp.Limits{}.WithDefaults()
	for _, n := range []uint32{0, uint32(lim.MessageSize) + 1, 1<<32 - 1, 1 << 31} {
		inWorld(t, lim, withSessions, func(t *testing.T, w *world) {
			a, _ := w.call()
			x := w.x.Endpoint.All[a]
			if _, err := x.conn.Write(binary.BigEndian.AppendUint64(nil, uint64(n))); err != nil {
				t.Fatal(err)
			}
			mustSay(t, w.y.Down(sctp.Overrun).Err, "peer sent a message with length")
			w.x.Down(sctp.PeerAbort)
		})
	}
}

// TestPlainSession: a peer whose sessions are without TLS, at either end.
func TestPlainSession(t *testing.T) {
	for _, m := range []sctp.Message{
		{Data: []byte("hello")}, {Data: []byte{1}, PPID: 0x20}, {Data: []byte{1, 9, 0, 8, 0, 0, 0, 0}, PPID: 11},
	} {
		inWorld(t, sctp.Limits{}, withSessions, func(t *testing.T, w *world) {
			z := w.plain("10.0.0.3:3864")
			defer z.Close()
			a := z.Connect(dest("10.0.0.2:3864"))
			z.Up()
			if err := z.Send(a, m); err != nil {
				t.Fatal(err)
			}
			z.Down(sctp.PeerAbort)
			synctest.Wait()
			w.y.None()
			if log := w.log(); !strings.Contains(log, "peer has sessions without TLS") {
				t.Errorf("Got log %q", log)
			}
			w.x.Endpoint.Connect(dest("10.0.0.3:3864"))
			if err := z.Send(z.Up().Assoc, m); err != nil {
				t.Fatal(err)
			}
			mustSay(t, w.x.Down(sctp.ConnectFailed).Err, "peer has sessions without TLS")
		})
	}
}
