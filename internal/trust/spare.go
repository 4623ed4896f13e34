package trust

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"net/netip"
	"time"
)

const (
	// retryAfter is how long the former certificate is used after a peer has refused the new one.
	retryAfter = time.Hour
	// maxHosts is how many hosts may have refused a certificate. If there are more, all have to
	// refuse it again.
	maxHosts = 1024
	// maxTold is how many of them the log names after each change of the files.
	maxTold = 10
)

// spare is the certificate in place of the one in use. After a change of the files it is the
// former one: associations are renewed with the new one, and peers that refuse it, because they
// do not have its authority yet, must not lose a member that they have accepted so far. The zero
// value is none.
type spare struct {
	other *loaded   // nil: there is none
	until time.Time // when the new one is tried again; zero: it is in use
	told  bool
	// toldOf is how many hosts the log was to name.
	toldOf int
	// hosts are those of peers that have not shown who they are, and have refused the one in use.
	hosts map[netip.Addr]refused
}

// refused is what a host has refused.
type refused struct {
	cert  []byte
	until time.Time // when it is shown again
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
	if len(a) == 0 || len(b) == 0 {
		return false
	}
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
// A peer that has not shown who it is may be anybody. Then by is its host, and the other
// certificate is only for peers there; see anonymous. Else by is not valid.
func (c *Credentials) Refused(cert []byte, by netip.Addr) {
	c.reading <- struct{}{}
	defer func() { <-c.reading }()
	s, now := &c.spare, c.now()
	switch {
	case !s.holds(now):
	case by.IsValid():
		s.anonymous(c, cert, by)
	case !c.loaded.Load().hasCertificate(cert):
	case !s.until.IsZero():
		s.swap(c, time.Time{})
	default:
		s.swap(c, now.Add(retryAfter))
		if !s.told {
			s.told = true
			c.warn(fmt.Sprintf("a peer refuses our new certificate, so that the former one is used again for an hour: does the peer's CA file have the authority of %s?", c.files.Cert))
		}
	}
}

// holds reports whether there is another certificate, and it has not ended.
func (s *spare) holds(now time.Time) bool {
	return s.other != nil && (s.other.end.IsZero() || now.Before(s.other.end))
}

// anonymous notes that a peer at a host has refused a certificate. A peer that lacks the authority
// of both changes nothing. If the one before is refused there too, peers at that host get the one in
// use again: there may be several.
func (s *spare) anonymous(c *Credentials, cert []byte, host netip.Addr) {
	present := c.loaded.Load()
	switch {
	case s.other.hasCertificate(cert):
		delete(s.hosts, host)
		return
	case !present.hasCertificate(cert), s.other.hasAuthorityOf(present):
		return
	case len(s.hosts) >= maxHosts:
		clear(s.hosts)
	case s.hosts == nil:
		s.hosts = make(map[netip.Addr]refused)
	}
	s.hosts[host] = refused{cert, c.now().Add(retryAfter)}
	if s.toldOf++; s.toldOf <= maxTold {
		c.warn(fmt.Sprintf("a peer at %v refuses our new certificate, so that peers there get the former one for an hour: does the peer's CA file have the authority of %s?", host, c.files.Cert))
	}
}

// shownTo is what a peer at a host gets.
func (s *spare) shownTo(host netip.Addr, present *loaded, now time.Time) *loaded {
	r, ok := s.hosts[host]
	if !ok || !s.holds(now) || !now.Before(r.until) || !present.hasCertificate(r.cert) {
		return present
	}
	return present.withOwn(s.other)
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
	c.loaded.Store(present.withOwn(s.other))
	s.other, s.until = present, until
}

// withOwn is l with the certificate of others.
func (l *loaded) withOwn(o *loaded) *loaded {
	next := *l
	next.own, next.name, next.begin, next.end, next.ends = o.own, o.name, o.begin, o.end, o.ends
	return &next
}
