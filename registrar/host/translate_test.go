package host

import (
	"errors"
	"fmt"
	"testing"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/secure"
	"github.com/rserpool/coredns-rserpool/internal/trust"
	"github.com/rserpool/coredns-rserpool/registrar"
)

// TestDownReason: only the peer's own word counts as evidence against it.
func TestDownReason(t *testing.T) {
	refused := fmt.Errorf("connect: %w", sctp.ErrRefused)
	for _, tt := range []struct {
		reason sctp.Reason
		err    error
		want   registrar.DownReason
	}{
		{sctp.PeerShutdown, nil, registrar.DownByPeer},
		{sctp.PeerAbort, errors.New("user-initiated abort"), registrar.DownByPeer},
		{sctp.PeerAbort, sctp.ErrRestarted, registrar.DownByPeer},
		{sctp.PeerAbort, fmt.Errorf("handshake: %w", sctp.ErrUntrusted), registrar.DownSilent},
		{sctp.ConnectFailed, sctp.ErrUntrusted, registrar.DownSilent},
		{sctp.ConnectFailed, refused, registrar.DownRefused},
		{sctp.ConnectFailed, sctp.ErrTimeout, registrar.DownSilent},
		{sctp.ConnectFailed, sctp.ErrConnected, registrar.DownSilent},
		{sctp.ConnectFailed, nil, registrar.DownSilent},
		{sctp.Lost, sctp.ErrTimeout, registrar.DownSilent},
		{sctp.Lost, refused, registrar.DownSilent}, // one call follows
		{sctp.LocalClose, nil, registrar.DownSilent},
		{sctp.LocalClose, sctp.ErrRenew, registrar.DownRenew},
		{sctp.LocalClose, errors.Join(secure.ErrTheirs, sctp.ErrUntrusted), registrar.DownUntrusted},
		{sctp.LocalClose, errors.Join(secure.ErrTheirs, sctp.ErrUntrusted, sctp.ErrRenew), registrar.DownRenew},
		{sctp.LocalClose, errors.Join(secure.ErrTheirs, secure.ErrEnded, sctp.ErrUntrusted), registrar.DownUntimely},
		{sctp.ConnectFailed, errors.Join(secure.ErrTheirs, trust.ErrUntimely, sctp.ErrUntrusted), registrar.DownUntimely},
		{sctp.LocalClose, errors.Join(secure.ErrTheirs, secure.ErrEnded, sctp.ErrUntrusted, sctp.ErrRenew), registrar.DownRenew},
		{sctp.Overrun, sctp.ErrStalled, registrar.DownSilent},
	} {
		ev := sctp.Event{Type: sctp.Down, Assoc: 7, Reason: tt.reason, Err: tt.err}
		want := registrar.AssocDown{Assoc: 7, Reason: tt.want}
		if (tt.reason == sctp.ConnectFailed || errors.Is(tt.err, sctp.ErrUntrusted)) && !errors.Is(tt.err, sctp.ErrConnected) {
			want.Err = tt.err
		}
		if got := translate(ev); got != want {
			t.Errorf("%v: got %v, want %v", ev, got, want)
		}
	}
}

// TestFarewell: only the end inside of TLS says that the peer may be about to come back.
func TestFarewell(t *testing.T) {
	ev := sctp.Event{Type: sctp.Down, Assoc: 7, Reason: sctp.PeerShutdown, Farewell: true}
	if got := translate(ev); got != (registrar.AssocDown{Assoc: 7, Reason: registrar.DownFarewell}) {
		t.Errorf("got %v", got)
	}
}

// TestTranslateUp: the core gets the peer's identity.
func TestTranslateUp(t *testing.T) {
	up, ok := translate(sctp.Event{Type: sctp.Up, Assoc: 7, Identity: "dns:web.example"}).(registrar.AssocUp)
	if !ok || up.Assoc != 7 || up.Identity != "dns:web.example" {
		t.Errorf("got %+v", up)
	}
}
