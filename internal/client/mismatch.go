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

// hintError is the end of an association of which only one side speaks TLS, or may.
type hintError struct {
	text string
	err  error // how it has ended
	sure bool
}

func (e *hintError) Error() string { return e.text }

func (e *hintError) Unwrap() []error {
	if !e.sure {
		return []error{e.err}
	}
	return []error{rserpool.ErrTLSMismatch, e.err}
}

// mismatch returns why an association has ended, with what to do if only one side speaks TLS. A
// registrar with TLS ends an association at the first message without TLS, and answers nothing; one
// without TLS ends it at the first message in TLS. Registrars that restart, or are full, do the same.
// So such an end is ErrTLSMismatch only at the usual port of the other kind. At the usual port of
// this side's kind it has other reasons; at other ports, the text says that it may have this one.
func (t *Transport) mismatch(ev sctp.Event, a *talk) error {
	plain, inTLS := t.ports()
	switch port := a.to.Port; {
	case port == 0: // the registrar has connected
	case errors.Is(ev.Err, secure.ErrPlainPeer), errors.Is(ev.Err, secure.ErrUnanswered) && port == plain:
		return &hintError{fmt.Sprintf("%v: connect to its TLS port (%d by default), or do without TLS", ev.Err, inTLS), ev.Err, true}
	case errors.Is(ev.Err, secure.ErrUnanswered) && port != inTLS:
		return &hintError{fmt.Sprintf("%v. If it speaks none, connect to its TLS port (%d by default), or do without TLS", ev.Err, inTLS), ev.Err, false}
	case t.cfg.Trust.Set() || a.heard || !byPeer(ev) || port == plain || errors.Is(ev.Err, sctp.ErrRestarted):
	case port == inTLS:
		err := DownError(ev)
		return &hintError{fmt.Sprintf("%v, before any answer: port %d is for TLS, which this side does not speak: use TLS, too, or the port without TLS (%d by default)", err, port, plain), err, true}
	default:
		err := DownError(ev)
		return &hintError{fmt.Sprintf("%v, before any answer: port %d may be for TLS, which this side does not speak. If it is, use TLS, too, or the port without TLS (%d by default)", err, port, plain), err, false}
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
