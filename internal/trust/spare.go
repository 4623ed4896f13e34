package trust

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"time"
)

// retryAfter is how long the former certificate is used after a peer has refused the new one.
const retryAfter = time.Hour

// spare is the certificate in place of the one in use. After a change of the files it is the
// former one: associations are renewed with the new one, and peers that refuse it, because they
// do not have its authority yet, must not lose a member that they have accepted so far. The zero
// value is none.
type spare struct {
	other *loaded   // nil: there is none
	until time.Time // when the new one is tried again; zero: it is in use
	told  bool
}

// keep keeps the former certificate, if the files have another one now. It is given up when the
// own CA file does not have its authority any more: the operator has finished the change.
func (s *spare) keep(former, now *loaded, at time.Time) {
	switch {
	case former.leaf() == nil:
	case !former.hasCertificate(now.leaf()):
		*s = spare{other: former}
	case !s.until.IsZero(): // the files have the former one again, and not the one that was refused
		*s = spare{}
	}
	if s.other != nil && !now.accepts(s.other, at) {
		*s = spare{}
	}
}

// accepts reports whether the certificate of other credentials would be accepted by these.
func (l *loaded) accepts(other *loaded, at time.Time) bool {
	_, _, err := l.verify(other.chain(), at)
	return err == nil
}

// chain is the certificate and those between it and its authority.
func (l *loaded) chain() (list []*x509.Certificate) {
	for _, der := range l.own.Certificate {
		if c, err := x509.ParseCertificate(der); err == nil {
			list = append(list, c)
		}
	}
	return list
}

// hasAuthorityOf reports whether the same authority has signed both certificates. In secret
// mode there is none.
func (l *loaded) hasAuthorityOf(other *loaded) bool {
	if l.roots == nil {
		return false
	}
	a, b := l.chain(), other.chain()
	x, y := a[len(a)-1], b[len(b)-1]
	return bytes.Equal(x.RawIssuer, y.RawIssuer) && bytes.Equal(x.AuthorityKeyId, y.AuthorityKeyId)
}

// leaf is the certificate in DER, nil without one.
func (l *loaded) leaf() []byte {
	if len(l.own.Certificate) == 0 {
		return nil
	}
	return l.own.Certificate[0]
}

func (l *loaded) hasCertificate(der []byte) bool { return bytes.Equal(l.leaf(), der) }

// Refused tells that a peer has refused a certificate. If it is the one in use, the one before
// is used in its place, as long as that holds; the new one is tried again after an hour.
//
// A peer that has not shown who it is may be anybody, or lack the authority of both: if that
// is the same one, such a peer changes nothing.
func (c *Credentials) Refused(cert []byte, anonymous bool) {
	c.reading <- struct{}{}
	defer func() { <-c.reading }()
	s, now := &c.spare, c.now()
	if s.other == nil || !c.loaded.Load().hasCertificate(cert) || !s.other.end.IsZero() && !now.Before(s.other.end) {
		return
	}
	if anonymous && s.other.hasAuthorityOf(c.loaded.Load()) {
		return
	}
	if s.until.IsZero() {
		s.swap(c, now.Add(retryAfter))
	} else {
		s.swap(c, time.Time{})
	}
	if !s.told {
		s.told = true
		c.warn(fmt.Sprintf("a peer refuses our new certificate, so that the former one is used again for an hour: does the peer's CA file have the authority of %s?", c.files.Cert))
	}
}

// retry tries the new certificate again when it is time.
func (s *spare) retry(c *Credentials) {
	if now, end := c.now(), c.loaded.Load().end; !s.until.IsZero() && (!now.Before(s.until) || !end.IsZero() && !now.Before(end)) {
		s.swap(c, time.Time{})
		c.changed = true
	}
}

// swap exchanges the certificates. All else is as the files have it now.
func (s *spare) swap(c *Credentials, until time.Time) {
	present := c.loaded.Load()
	next := *present
	o := s.other
	next.own, next.name, next.begin, next.end, next.ends = o.own, o.name, o.begin, o.end, o.ends
	s.other, s.until = present, until
	c.loaded.Store(&next)
}
