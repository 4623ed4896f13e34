package secure

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
)

// failure is an sctp.ErrUntrusted with a text of its own.
type failure struct {
	text string
	err  error // may be nil
}

func (f *failure) Error() string { return f.text }

func (f *failure) Unwrap() []error {
	if f.err == nil {
		return []error{sctp.ErrUntrusted}
	}
	return []error{sctp.ErrUntrusted, f.err}
}

func untrusted(format string, args ...any) error {
	return &failure{text: fmt.Sprintf(format, args...)}
}

// The errors of peers that do not speak TLS where they should, or speak it where they should
// not.
var (
	// ErrPlainPeer is the error of a peer that has sent something without TLS.
	ErrPlainPeer = untrusted("peer speaks plain ASAP or ENRP at the TLS port")
	// errPlainSession is ErrPlainPeer where sessions are in TLS.
	errPlainSession = untrusted("peer has sessions without TLS, and we only in TLS")
	// ErrUnanswered is the error of a peer that ended the association before it sent anything. It
	// speaks no TLS, restarts, or has no room.
	ErrUnanswered = untrusted("peer does not speak TLS here, or has no room for a handshake: it ended the association without an answer")
	errCutShort   = untrusted("peer ended the association within the TLS handshake")
	// ErrTLSAtPlain is the error of a peer that begins TLS where there is none.
	ErrTLSAtPlain = untrusted("peer speaks TLS at the plain port")
)

// ErrOurs is in the error of an association whose peer refuses this side's certificate.
var ErrOurs = errors.New("peer refuses our certificate")

// ErrTheirs is in the error of an association whose peer has shown a certificate that this side
// does not accept, or not any more.
var ErrTheirs = errors.New("certificate of the peer is not accepted")

// ErrEnded is in an ErrTheirs that says that the certificate has ended during the association.
var ErrEnded = errors.New("certificate of the peer has ended")

// refusals are what a peer says by an alert about our certificate.
var refusals = map[tls.AlertError]string{
	42:  "peer refuses our certificate: its log says why",
	43:  "peer refuses our certificate: it is of a kind that the peer does not support",
	44:  "peer refuses our certificate: it is revoked",
	45:  "peer refuses our certificate: it has expired, or the clocks differ",
	46:  "peer refuses our certificate: its log says why",
	48:  "peer refuses our certificate: unknown authority",
	49:  "peer refuses our certificate: access denied",
	116: "peer wants a certificate, and we have none",
	40:  "peer and we have no way of TLS in common",
	70:  "peer does not speak TLS 1.3",
	120: "peer speaks another protocol inside of TLS",
}

// breaches are errors of package tls, which does not export them. A text that it changes is
// reported as it is.
var breaches = map[string]string{
	"tls: too many non-advancing records": "peer sends nothing but key updates or session tickets",
	"tls: too many ignored records":       "peer sends nothing but empty records",
}

// explain says in plain words why TLS failed. v is what Identify has said.
func explain(err error, v *verdict) error {
	var op *net.OpError
	var header tls.RecordHeaderError
	switch {
	case errors.Is(err, sctp.ErrUntrusted):
		return err
	case v != nil && v.err != nil:
		return &failure{"certificate of the peer is not accepted: " + v.err.Error(), errors.Join(ErrTheirs, v.err)}
	case errors.As(err, &op) && op.Op == "remote error":
		return alerted(op.Err)
	case errors.As(err, &header):
		return untrusted("peer does not speak TLS: %s", header.Msg)
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return errCutShort
	}
	var cert *tls.CertificateVerificationError
	if errors.As(err, &cert) {
		return &failure{"certificate of the peer is not accepted: " + cert.Err.Error(), errors.Join(ErrTheirs, err)}
	}
	if text := breaches[err.Error()]; text != "" {
		return &failure{text, err}
	}
	return &failure{"TLS failed: " + err.Error(), err}
}

// lastBytes are those that a peer has sent last in the handshake. A client of OpenSSL that refuses
// the certificate of its server says so before it encrypts. Package tls takes the alert for a
// record that it cannot decrypt.
type lastBytes struct {
	b [7]byte
	n int
}

// add adds what has been read.
func (l *lastBytes) add(b []byte) {
	all := append(l.b[:l.n:l.n], b...)
	l.n = copy(l.b[:], all[max(0, len(all)-len(l.b)):])
}

// explain is explain for an error of the handshake.
func (l *lastBytes) explain(err error, v *verdict) error {
	const badRecord = tls.AlertError(20)
	var op *net.OpError
	alert := []byte{recordAlert, 3, 3, 0, 2, 2}
	if l.n == len(l.b) && bytes.HasPrefix(l.b[:], alert) && errors.As(err, &op) && op.Op == "local error" && op.Err.Error() == badRecord.Error() {
		return alerted(tls.AlertError(l.b[len(alert)]))
	}
	return explain(err, v)
}

// errAlerted marks that the peer has said so.
var errAlerted = errors.New("alert of the peer")

// alerted says what an alert of the peer means. Package tls gives it a type that is not
// exported, with the text of tls.AlertError.
func alerted(alert error) error {
	for a, text := range refusals {
		if a.Error() == alert.Error() {
			if 42 <= a && a <= 49 { // they are about certificates
				return &failure{text, errors.Join(errAlerted, ErrOurs)}
			}
			return &failure{text, errAlerted}
		}
	}
	return &failure{fmt.Sprintf("peer ended TLS: %v", alert), errAlerted}
}

// IsTLS reports whether bytes that a peer has sent first are the beginning of a TLS
// handshake. No message of ASAP or ENRP begins like that.
func IsTLS(b []byte) bool { return len(b) >= 2 && b[0] == recordHandshake && b[1] == 3 }
