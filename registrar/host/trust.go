package host

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/internal/identity"
	"github.com/rserpool/coredns-rserpool/internal/member"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/secure"
	"github.com/rserpool/coredns-rserpool/registrar"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Trust says by which files a registrar proves who it is, and who may do what (RFC 5355). The
// zero value is a registrar without TLS, at which everybody may do everything. Patterns of
// identities are those of [path.Match]: a '*' stays within a segment of a path.
type Trust struct {
	// TLSFiles are the files. ASAP and ENRP are then served in TLS only.
	rserpool.TLSFiles
	// Allow are the pools that identities may register in, beside the one that a
	// certificate names itself.
	Allow []Allow
	// Deny are the identities that may do nothing.
	Deny []string
	// Registrars are the identities of registrars. None stands for
	// spiffe://*/rserpool/registrar/*.
	Registrars []string
	// Resolvers are the identities that may resolve pool handles and report elements,
	// beside elements and registrars. None stands for everybody, also without a certificate.
	Resolvers []string

	look time.Duration // see member.Config; for tests
}

// Allow lets identities register in pools.
type Allow struct {
	// Pools is a pattern of pool handles, such as web or *.eu.
	Pools string
	// Names is a pattern of identities.
	Names string
}

// ASAPPort is the default port of ASAP.
func (t Trust) ASAPPort() uint16 {
	if t.Set() {
		return asap.TLSPort
	}
	return asap.Port
}

// ENRPPort is the default port of ENRP.
func (t Trust) ENRPPort() uint16 {
	if t.Set() {
		return enrp.TLSPort
	}
	return enrp.Port
}

// errNoFiles says that rights without identities mean nothing.
var errNoFiles = errors.New("rights need TLS, which proves who a peer is: name the files, or remove the rights")

// rights are what the patterns say; nil without TLS.
func (t Trust) rights() (*identity.Rights, error) {
	if !t.Set() {
		if len(t.Allow)+len(t.Deny)+len(t.Registrars)+len(t.Resolvers) > 0 {
			return nil, errNoFiles
		}
		return nil, nil
	}
	r := identity.Rules{Deny: t.Deny, Registrars: t.Registrars, Resolvers: t.Resolvers}
	for _, a := range t.Allow {
		r.Allow = append(r.Allow, identity.Allow{Pools: a.Pools, Names: a.Names})
	}
	return identity.New(r)
}

// CheckTrust says why SetTrust would fail, and changes nothing.
func (h *Host) CheckTrust(t Trust) error {
	if t.Set() != (h.scope != nil) {
		return errBegins
	}
	_, err := openScope(t, func(bool, string) {}) // SetTrust warns of what it takes
	return err
}

// errBegins says that TLS is for the whole life of a registrar.
var errBegins = errors.New("a registrar that runs cannot begin or end TLS: close it and open another one (restart the program)")

// SetTrust replaces the files and the rights, and has all that is alive judged by them, for
// which it does not wait. After an error, the former ones stay. It cannot begin or end TLS.
func (h *Host) SetTrust(t Trust) error {
	rights, err := t.rights()
	switch {
	case err != nil:
		return err
	case t.Set() != (h.scope != nil):
		return errBegins
	case h.scope == nil:
		return nil
	}
	if err := h.scope.member.Replace(t.TLSFiles); err != nil {
		return err
	}
	h.scope.rights.Store(rights)
	h.scope.introduce(h.log)
	h.loop.enqueue(registrar.Trust{Rights: rights}) // first: it says why elements go
	h.scope.recheckSoon()
	return nil
}

// LookAtTrust has the files looked at now, as happens each minute. It does not wait.
func (h *Host) LookAtTrust() {
	if h.scope != nil {
		h.scope.member.LookSoon()
	}
}

// scope is the trusted scope of a Host.
type scope struct {
	member *member.Member
	rights atomic.Pointer[identity.Rights]
	denied atomic.Bool   // the registrar's own name
	again  chan struct{} // has a value if a recheck is due
	ended  sync.WaitGroup
}

// openScope reads the files; nil without TLS.
func openScope(t Trust, log func(warn bool, text string)) (*scope, error) {
	rights, err := t.rights()
	if err != nil || rights == nil {
		return nil, err
	}
	s := &scope{again: make(chan struct{}, 1)}
	s.rights.Store(rights)
	s.member, err = member.Open(t.TLSFiles, member.Config{Judge: s.judge, Log: log, Protocols: []string{"asap", "enrp"}, Look: t.look})
	return s, err
}

// judge refuses those that may do nothing. What the others may do, the registrar decides when
// they do it.
func (s *scope) judge(name string) error {
	if s.rights.Load().Denied(name) {
		return fmt.Errorf("certificate of %s may do nothing (deny)", name)
	}
	return nil
}

// tls is the configuration of the transport; nil without TLS.
func (s *scope) tls() *secure.Config {
	if s == nil {
		return nil
	}
	return s.member.TLS()
}

// unserved says why peers may call the ports of ASAP and ENRP without TLS; none if these are
// served.
func (c *Config) unserved() map[uint16]error {
	if !c.Trust.Set() {
		return nil
	}
	why := func(protocol string, plain, port uint16) error {
		return fmt.Errorf("port %d is that of %s without TLS, and this registrar has TLS only, at port %d: rsp needs --tls", plain, protocol, port)
	}
	m := map[uint16]error{asap.Port: why("ASAP", asap.Port, c.ASAP[0].Port())}
	if len(c.ENRP) > 0 {
		m[enrp.Port] = why("ENRP", enrp.Port, c.ENRP[0].Port())
	}
	return m
}

// introduce says who this registrar is, and warns if it does not take itself for one.
func (s *scope) introduce(log *logger) {
	name := s.member.Name()
	denied := s.rights.Load().Denied(name)
	s.denied.Store(denied)
	if denied {
		log.add(true, fmt.Sprintf("our own certificate may do nothing (deny), so that this registrar is not ready, and others with this line refuse it: %s. Correct the option deny, or give this registrar another identity", name))
		return
	}
	if !s.rights.Load().Registrar(name) {
		log.add(true, fmt.Sprintf("our certificate is not that of a registrar, so that elements, users and other registrars refuse it: %s (rsp ca issue registrar/NAME, or the option registrars)", name))
		return
	}
	log.add(false, fmt.Sprintf("ASAP and ENRP are in TLS only; this registrar is %s", name))
}

// watch looks at the files, and rechecks when it is due, until the loop ends. Signatures of
// 10,000 peers take a second or more, which nobody should wait for.
func (s *scope) watch(l *loop) {
	s.ended.Go(func() {
		s.member.Watch(l.quit, func() {
			s.introduce(l.h.log)
			s.recheckSoon()
		})
	})
	s.ended.Go(func() {
		for {
			select {
			case <-l.quit:
				return
			case <-s.again:
				s.recheck(l)
			}
		}
	})
}

// recheckSoon has a recheck begin. One that has not begun yet is enough for all.
func (s *scope) recheckSoon() {
	select {
	case s.again <- struct{}{}:
	default:
	}
}

// recheck has the peers of all associations judged again.
func (s *scope) recheck(l *loop) {
	for _, ep := range []sctp.Endpoint{l.ep, l.enrp} {
		secure.Recheck(ep)
	}
}

// valid reports whether the registrar can prove who it is, and may do something. Without TLS it need not.
func (s *scope) valid() bool {
	return s == nil || s.member.Valid() && !s.denied.Load()
}

// stats are the counters.
func (s *scope) stats() (t TLSStats) {
	if s == nil {
		return t
	}
	t.PeersRefused = s.member.Refused()
	if end := s.member.End(); !end.IsZero() {
		t.CertificateEnd = uint64(max(0, end.Unix()))
	}
	return t
}
