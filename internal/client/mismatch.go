package client

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/secure"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// mismatchError is the end of an association of which only one side speaks TLS.
type mismatchError struct {
	text string
	err  error // how it has ended
}

func (e *mismatchError) Error() string   { return e.text }
func (e *mismatchError) Unwrap() []error { return []error{rserpool.ErrTLSMismatch, e.err} }

// mismatch returns why an association has ended. It is a mismatchError if that looks like a
// registrar that speaks TLS where this side speaks none, or the other way round. A registrar
// with TLS ends an association at the first message without TLS, and answers nothing. At the
// usual port without TLS, such an end has other reasons.
func (t *Transport) mismatch(ev sctp.Event, a *talk) error {
	plain, inTLS := t.ports()
	switch {
	case a.to.Port == 0: // the registrar has connected
	case secure.SpeaksNone(ev.Err):
		return &mismatchError{fmt.Sprintf("%v: connect to its TLS port (%d by default), or do without TLS", ev.Err, inTLS), ev.Err}
	case t.cfg.Trust.Set() || a.heard || !byPeer(ev) || a.to.Port == plain || errors.Is(ev.Err, sctp.ErrRestarted):
	default:
		what := "may be"
		if a.to.Port == inTLS {
			what = "is"
		}
		err := DownError(ev)
		return &mismatchError{fmt.Sprintf("%v, before any answer: port %d %s for TLS, which this side does not speak: use TLS, too, or the port without TLS (%d by default)", err, a.to.Port, what, plain), err}
	}
	return ev.Err
}

// byPeer reports whether the peer has ended the association. A message that was not delivered
// because of that is reported before the end.
func byPeer(ev sctp.Event) bool {
	if ev.Type == sctp.SendFailed {
		return ev.Err == nil || errors.Is(ev.Err, sctp.ErrAborted) || errors.Is(ev.Err, syscall.ECONNRESET) || errors.Is(ev.Err, syscall.EPIPE)
	}
	return ev.Reason == sctp.PeerAbort || ev.Reason == sctp.PeerShutdown
}

// ports are the usual ports of the protocol, without TLS and in TLS.
func (t *Transport) ports() (plain, inTLS uint16) {
	if t.cfg.PPID == enrp.PPID {
		return enrp.Port, enrp.TLSPort
	}
	return asap.Port, asap.TLSPort
}
