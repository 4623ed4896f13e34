package secure

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
)

// maxRecords is the default of Config.Records: AES-GCM is safe for 2^24.5 of them (RFC 8446,
// Section 5.5), and package tls never changes keys of itself.
const maxRecords = 1 << 23

// defaultSpread is the default of Config.Spread.
const defaultSpread = time.Minute

// minRenewal is the least age of a session that is renewed because a certificate will end.
const minRenewal = time.Minute

// own is this side's present certificate, nil if it has none. It is not known while there is
// no configuration.
func (c *Config) own() (der []byte, known bool) {
	cfg := c.Client()
	if cfg == nil {
		return nil, false
	}
	return ownOf(cfg), true
}

// ownOf is the certificate in a configuration, nil if it has none.
func ownOf(cfg *tls.Config) []byte {
	if len(cfg.Certificates) == 0 || len(cfg.Certificates[0].Certificate) == 0 {
		return nil
	}
	return cfg.Certificates[0].Certificate[0]
}

// refusal tells Config.Refused of an error if that is the refusal of a certificate of this side.
func (c *Config) refusal(own []byte, by netip.Addr, err error) error {
	if c.Refused != nil && errors.Is(err, ErrOurs) {
		c.Refused(own, by)
	}
	return err
}

// session makes the session of a handshake that has succeeded. host is that of the client, or not valid
// if this side is the client.
func (w *Watch) session(conn *tls.Conn, cfg *tls.Config, host netip.Addr, v *verdict, end func(error)) *Session {
	s := &Session{Name: v.name, conn: conn, until: v.until, end: end, cfg: w.cfg, own: ownOf(cfg), host: host, ours: w.renews(!host.IsValid())}
	s.records = w.cfg.lastRecord(s.ours)
	if !s.ours {
		return s
	}
	now := time.Now()
	if own := s.ownCertificate(cfg); own != nil {
		s.renewBy(renewal(own.NotBefore, own.NotAfter, now, rand.Float64()))
	}
	if peer := conn.ConnectionState().PeerCertificates; len(peer) > 0 && !v.until.IsZero() {
		s.renewBy(renewal(peer[0].NotBefore, v.until, now, rand.Float64()))
	}
	return s
}

// ownCertificate is this side's certificate, nil if it has none.
func (s *Session) ownCertificate(cfg *tls.Config) *x509.Certificate {
	if s.own == nil {
		return nil
	}
	if leaf := cfg.Certificates[0].Leaf; leaf != nil {
		return leaf
	}
	leaf, err := x509.ParseCertificate(s.own)
	if err != nil {
		return nil // then the peer has not accepted it either
	}
	return leaf
}

// renews reports whether this side renews the sessions of which it is the client, or the
// server.
func (w *Watch) renews(client bool) bool {
	return w.kind == sctp.RenewAll || w.kind == sctp.RenewOurs && client
}

// renewal is when a session is renewed because a certificate ends: at a point between one half
// and two thirds of the life of the certificate, or of what is left of it if the first half is
// over. The share, from 0 to 1, says which point. So the new session has the certificate of
// whoever has got a new one by then. The zero time, near the end, is never.
func renewal(begin, end, now time.Time, share float64) time.Time {
	share = 1./2 + share/6
	part := func(d time.Duration) time.Duration { return time.Duration(float64(d) * share) }
	soon := now.Add(minRenewal)
	at := begin.Add(part(end.Sub(begin)))
	if soon.Sub(begin) > end.Sub(begin)/2 {
		at = now.Add(part(end.Sub(now)))
	}
	if at.Before(soon) {
		return time.Time{}
	}
	return at
}

// renewBy has the session renewed at a time or before; the zero time changes nothing.
func (s *Session) renewBy(at time.Time) {
	if !at.IsZero() && (s.renew.IsZero() || at.Before(s.renew)) {
		s.renew = at
	}
}

// renewSoon has a session renewed within Config.Spread, if this side renews it.
func (w *Watch) renewSoon(s *Session) {
	if !s.ours {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	s.renewBy(time.Now().Add(rand.N(cmp.Or(w.cfg.Spread, defaultSpread))))
	w.arm(s.renew)
}

// lastRecord is how many records may be sent or received before this side ends a session. Who
// renews it does so early, so that the peer need not do it.
func (c *Config) lastRecord(ours bool) uint64 {
	most := cmp.Or(c.Records, maxRecords)
	if ours {
		return most - most/8
	}
	return most
}
