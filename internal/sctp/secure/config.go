// Package secure puts TLS 1.3 between the transports and their users (RFC 3436). An
// [Endpoint] wraps the endpoint of one transport of SCTP: it takes the events of that and
// passes on those of its own. The names of the associations stay.
//
// An association carries one TLS session: on stream 0, in order, one record in each
// message. Who opens the association is the TLS client. Up comes after the handshake, and
// the name in the peer's certificate with it. The messages inside of TLS are a stream of
// bytes, which is cut as over TCP (sctp.Framing).
//
// A handshake has a goroutine. After it there is none: what arrives is decrypted by the
// goroutine of the transport that reports it.
package secure

import (
	"crypto/tls"
	"errors"
	"net/netip"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
)

// Config says how a side proves who it is and whom it accepts. Any goroutine may call its
// functions.
type Config struct {
	// Client and Server make the configuration of the next handshake, Server for a peer at a host
	// (sctp.HostOf). The certificates may change between handshakes.
	Client func() *tls.Config
	Server func(host netip.Addr) *tls.Config
	// Identify names the peer by its verified certificates, which may be none, and says
	// until when they hold; the zero time is for ever. An error refuses the peer. It is
	// called when the certificates arrive, before the handshake is complete, so that the
	// peer is told, and again by Recheck.
	Identify func(cs tls.ConnectionState) (name string, until time.Time, err error)
	// Spread is the time over which sessions are renewed after this side's certificate has
	// changed, so that the peers of thousands do not come back at once; default a minute.
	Spread time.Duration
	// Refused, if set, is told a certificate of this side that a peer has refused. A client knows
	// who the peer is, and by is not valid. A server knows only its host: clients look at its
	// certificate before they show their own.
	Refused func(own []byte, by netip.Addr)
	// Records is how many records may be sent, or received, with the keys of one handshake;
	// default 2^23. Tests need less.
	Records uint64
}

// rechecker is an endpoint that can look at its peers' certificates again.
type rechecker interface{ Recheck() }

// Recheck has Identify judge the peers of all associations of an endpoint again. Those that it
// refuses now, or names differently, are shut down. Those with another certificate of this
// side than the present one are renewed soon. No other is touched. An endpoint without TLS has
// nothing to judge.
func Recheck(ep sctp.Endpoint) {
	if r, ok := ep.(rechecker); ok {
		r.Recheck()
	}
}

// verdict is what Identify has said of a peer.
type verdict struct {
	name  string
	until time.Time
	err   error
}

// errNoConfig is the error if there is no certificate to begin a handshake with.
var errNoConfig = errors.New("TLS is not set up at this end")

// prepare returns the configuration of one handshake, which writes what Identify says to v. Whatever
// that is, package tls tells the peer alert 42 (bad_certificate): it has tls.AlertError for QUIC only.
// host is that of the client if this side is the server, else it is not valid.
func (c *Config) prepare(host netip.Addr, v *verdict) (*tls.Config, error) {
	var from *tls.Config
	if host.IsValid() {
		from = c.Server(host)
	} else {
		from = c.Client()
	}
	if from == nil {
		return nil, errNoConfig
	}
	t := from.Clone()
	t.MinVersion = tls.VersionTLS13
	t.SessionTicketsDisabled, t.ClientSessionCache = true, nil
	// A record is a message of SCTP: small first records gain nothing.
	t.DynamicRecordSizingDisabled = true
	t.GetConfigForClient = nil // it would bring a configuration without what follows
	verify := t.VerifyConnection
	t.VerifyConnection = func(cs tls.ConnectionState) error {
		if verify != nil {
			if v.err = verify(cs); v.err != nil {
				return v.err
			}
		}
		v.name, v.until, v.err = c.Identify(cs)
		return v.err
	}
	return t, nil
}

// forget frees what only the handshake needed of a configuration of prepare. The connection
// has the configuration until its end, and with it what the functions refer to: the verdict,
// and the credentials of that day.
func forget(t *tls.Config) {
	t.VerifyConnection, t.VerifyPeerCertificate, t.GetCertificate, t.GetClientCertificate = nil, nil, nil, nil
	t.Certificates, t.NextProtos, t.RootCAs, t.ClientCAs = nil, nil, nil, nil
}
