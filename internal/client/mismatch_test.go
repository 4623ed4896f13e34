package client

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// TestMismatch: which ends of an association look like a registrar with TLS, to a side without it.
func TestMismatch(t *testing.T) {
	aborted := fmt.Errorf("%w: user-initiated abort", sctp.ErrAborted)
	abort := sctp.Event{Type: sctp.Down, Reason: sctp.PeerAbort, Err: aborted}
	for _, tt := range []struct {
		name   string
		at     string
		heard  bool
		inTLS  bool
		ppid   uint32
		ev     sctp.Event
		within string // "" if it looks like something else
	}{
		{"the port of TLS", "192.0.2.1:3864", false, false, 0, abort, "user-initiated abort, before any answer: port 3864 is for TLS, which this side does not speak: use TLS, too, or the port without TLS (3863 by default)"},
		{"another port", "192.0.2.1:5000", false, false, 0, abort, "port 5000 may be for TLS"},
		{"the port of ENRP", "192.0.2.1:9902", false, false, enrp.PPID, abort, "port 9902 is for TLS, which this side does not speak: use TLS, too, or the port without TLS (9901 by default)"},
		{"the port without TLS", "192.0.2.1:3863", false, false, 0, abort, ""},
		{"after an answer", "192.0.2.1:3864", true, false, 0, abort, ""},
		{"with TLS", "192.0.2.1:3864", false, true, 0, abort, ""},
		{"a registrar that has connected", "", false, false, 0, abort, ""},
		{"end of a connection", "192.0.2.1:3864", false, false, 0, sctp.Event{Type: sctp.Down, Reason: sctp.PeerShutdown}, "the peer has shut the association down, before any answer"},
		{"no answer", "192.0.2.1:3864", false, false, 0, sctp.Event{Type: sctp.Down, Reason: sctp.ConnectFailed, Err: sctp.ErrTimeout}, ""},
		{"restart", "192.0.2.1:3864", false, false, 0, sctp.Event{Type: sctp.Down, Reason: sctp.PeerAbort, Err: sctp.ErrRestarted}, ""},
		{"message not delivered", "192.0.2.1:3864", false, false, 0, sctp.Event{Type: sctp.SendFailed, Err: aborted}, "port 3864 is for TLS"},
		{"connection reset", "192.0.2.1:3864", false, false, 0, sctp.Event{Type: sctp.SendFailed, Err: syscall.ECONNRESET}, "port 3864 is for TLS"},
		{"queue of the kernel", "192.0.2.1:3864", false, false, 0, sctp.Event{Type: sctp.SendFailed, Err: syscall.ENOBUFS}, ""},
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
			if is := errors.Is(got, rserpool.ErrTLSMismatch); is != (tt.within != "") {
				t.Fatalf("Got %v, is ErrTLSMismatch: %v", got, is)
			}
			if tt.within == "" {
				if !errors.Is(got, tt.ev.Err) {
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
