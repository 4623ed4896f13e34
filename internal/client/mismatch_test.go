package client

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/secure"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// TestMismatch: which ends of an association mean that only one side speaks TLS, and which may.
func TestMismatch(t *testing.T) {
	aborted := fmt.Errorf("%w: user-initiated abort", sctp.ErrAborted)
	abort := sctp.Event{Type: sctp.Down, Reason: sctp.PeerAbort, Err: aborted}
	const (
		no = iota // the error stays as it is
		maybe
		yes // the error is ErrTLSMismatch
	)
	unanswered := sctp.Event{Type: sctp.Down, Reason: sctp.ConnectFailed, Err: secure.ErrUnanswered}
	plain := sctp.Event{Type: sctp.Down, Reason: sctp.ConnectFailed, Err: secure.ErrPlainPeer}
	for _, tt := range []struct {
		name   string
		at     string
		heard  bool
		inTLS  bool
		ppid   uint32
		ev     sctp.Event
		is     int
		within string
	}{
		{"the port of TLS", "192.0.2.1:3864", false, false, 0, abort, yes, "user-initiated abort, before any answer: port 3864 is for TLS, which this side does not speak: use TLS, too, or the port without TLS (3863 by default)"},
		{"another port", "192.0.2.1:5000", false, false, 0, abort, maybe, "port 5000 may be for TLS, which this side does not speak. If it is, use TLS, too, or the port without TLS (3863 by default)"},
		{"the port of ENRP", "192.0.2.1:9902", false, false, enrp.PPID, abort, yes, "port 9902 is for TLS, which this side does not speak: use TLS, too, or the port without TLS (9901 by default)"},
		{"the port without TLS", "192.0.2.1:3863", false, false, 0, abort, no, ""},
		{"after an answer", "192.0.2.1:3864", true, false, 0, abort, no, ""},
		{"with TLS", "192.0.2.1:3864", false, true, 0, abort, no, ""},
		{"a registrar that has connected", "", false, false, 0, abort, no, ""},
		{"end of a connection", "192.0.2.1:3864", false, false, 0, sctp.Event{Type: sctp.Down, Reason: sctp.PeerShutdown}, yes, "the peer has shut the association down, before any answer"},
		{"no answer", "192.0.2.1:3864", false, false, 0, sctp.Event{Type: sctp.Down, Reason: sctp.ConnectFailed, Err: sctp.ErrTimeout}, no, ""},
		{"restart", "192.0.2.1:3864", false, false, 0, sctp.Event{Type: sctp.Down, Reason: sctp.PeerAbort, Err: sctp.ErrRestarted}, no, ""},
		{"message not delivered", "192.0.2.1:3864", false, false, 0, sctp.Event{Type: sctp.SendFailed, Err: aborted}, yes, "port 3864 is for TLS"},
		{"connection reset", "192.0.2.1:3864", false, false, 0, sctp.Event{Type: sctp.SendFailed, Err: syscall.ECONNRESET}, yes, "port 3864 is for TLS"},
		{"queue of the kernel", "192.0.2.1:3864", false, false, 0, sctp.Event{Type: sctp.SendFailed, Err: syscall.ENOBUFS}, no, ""},
		{"another port reset", "192.0.2.1:5000", false, false, 0, sctp.Event{Type: sctp.SendFailed, Err: syscall.ECONNRESET}, maybe, "port 5000 may be for TLS"},
		{"no answer in TLS at the port without", "192.0.2.1:3863", false, true, 0, unanswered, yes, "peer does not speak TLS here, or has no room for a handshake: it ended the association without an answer: connect to its TLS port (3864 by default), or do without TLS"},
		{"no answer in TLS at ENRP's port without", "192.0.2.1:9901", false, true, enrp.PPID, unanswered, yes, "connect to its TLS port (9902 by default)"},
		{"no answer at the port of TLS", "192.0.2.1:3864", false, true, 0, unanswered, no, ""},
		{"no answer at ENRP's port of TLS", "192.0.2.1:9902", false, true, enrp.PPID, unanswered, no, ""},
		{"no answer in TLS at another port", "192.0.2.1:5000", false, true, 0, unanswered, maybe, "without an answer. If it speaks none, connect to its TLS port (3864 by default), or do without TLS"},
		{"an answer without TLS", "192.0.2.1:5000", false, true, 0, plain, yes, "connect to its TLS port (3864 by default), or do without TLS"},
		{"no answer in TLS from a registrar that has connected", "", false, true, 0, unanswered, no, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tr := &Transport{cfg: Config{PPID: tt.ppid}}
			if tt.inTLS {
				tr.cfg.Trust.CA = "ca.pem"
			}
			a := &talk{heard: tt.heard}
			if tt.at != "" {
				a.to = rserpool.MustParseRegistrar(tt.at)
			}
			got := tr.explain(tt.ev, a).Err
			if is := errors.Is(got, rserpool.ErrTLSMismatch); is != (tt.is == yes) {
				t.Fatalf("Got %v, is ErrTLSMismatch: %v", got, is)
			}
			if tt.is == no {
				if !errors.Is(got, tt.ev.Err) || got.Error() != tt.ev.Err.Error() {
					t.Errorf("Got %v, want %v", got, tt.ev.Err)
				}
				return
			}
			if !strings.Contains(got.Error(), tt.within) || tt.ev.Err != nil && !errors.Is(got, tt.ev.Err) {
				t.Errorf("Got %v, want %q in place of %v", got, tt.within, tt.ev.Err)
			}
		})
	}
}
