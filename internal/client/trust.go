package client

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/identity"
	"github.com/rserpool/coredns-rserpool/internal/member"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/secure"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Trust says by which files a client proves who it is, and which registrars it trusts. The
// zero value is no TLS.
type Trust struct {
	rserpool.TLSFiles
	// Registrars are patterns of the identities of registrars; none stands for
	// spiffe://*/rserpool/registrar/*.
	Registrars []string
	// Elements are patterns of the identities of elements that may serve sessions in any
	// pool, beside those whose certificate names it.
	Elements []string
	// Look is the time between two looks at the files; default a minute.
	Look time.Duration
	// Records is secure.Config.Records.
	Records uint64
}

// ASAPPort is the default port of registrars.
func (t Trust) ASAPPort() uint16 {
	if t.Set() {
		return asap.TLSPort
	}
	return asap.Port
}

// Check refuses combinations of files that have no meaning, patterns that cannot be read, and
// those without files. It reads no file.
func (t Trust) Check() error {
	switch {
	case t.Set():
		if err := member.Check(t.TLSFiles); err != nil {
			return err
		}
	case len(t.Registrars) > 0:
		return errors.New("field TLSRegistrars needs TLS: set the files, or leave it out")
	case len(t.Elements) > 0:
		return errors.New("field TLSElements needs TLS: set the files, or leave it out")
	}
	_, err := t.rights()
	return err
}

func (t Trust) rights() (*identity.Rights, error) {
	rules := identity.Rules{Registrars: t.Registrars}
	for _, e := range t.Elements {
		rules.Allow = append(rules.Allow, identity.Allow{Pools: "*", Names: e})
	}
	return identity.New(rules)
}

// Sessions reads the files for sessions; nil without TLS. All peers are accepted whose
// certificate is valid, and those without one: see Serves. What is to be said of the files
// is said of those for registrars, which are the same.
func (t Trust) Sessions() (*member.Member, error) {
	if !t.Set() {
		return nil, nil
	}
	return member.Open(t.TLSFiles, member.Config{
		Judge: func(string) error { return nil }, Log: func(bool, string) {}, Protocols: []string{"asap"}, Look: t.Look, Records: t.Records,
	})
}

// Serves says why an element with an identity may not serve sessions in a pool, nil if it
// may. Without TLS, all may.
func (t Trust) Serves(name string, pool rserpool.PoolHandle) error {
	if !t.Set() {
		return nil
	}
	rights, err := t.rights()
	if err != nil {
		return err
	}
	switch {
	case rights.Registers(name, pool):
		return nil
	case name == "":
		return errors.New("the element has no certificate")
	}
	return &NotServingError{name, pool}
}

// RefusesUs reports whether an association has ended because the peer does not accept this
// side's certificate. Only the peer knows why.
func RefusesUs(err error) bool { return errors.Is(err, secure.ErrOurs) }

// NotServingError says that the identity of an element is not one that may serve a pool.
type NotServingError struct {
	name string
	pool rserpool.PoolHandle
}

func (e *NotServingError) Error() string {
	return fmt.Sprintf("the certificate of the element is that of %s, which may not serve pool %q", e.name, e.pool)
}

// open reads the files; nil without TLS.
func (t Trust) open(l *slog.Logger, protocol string) (*member.Member, error) {
	if !t.Set() {
		return nil, nil
	}
	rights, err := t.rights()
	if err != nil {
		return nil, err
	}
	judge := func(name string) error {
		switch {
		case rights.Registrar(name):
			return nil
		case name == "":
			return errors.New("it has no certificate, and only registrars may speak to us")
		}
		return fmt.Errorf("certificate of %s is not that of a registrar", name)
	}
	return member.Open(t.TLSFiles, member.Config{Judge: judge, Log: lines(l), Protocols: []string{protocol}, Look: t.Look, Records: t.Records})
}

// lines hands lines to a Logger, which may be nil.
func lines(l *slog.Logger) func(warn bool, text string) {
	return func(warn bool, text string) {
		switch {
		case l == nil:
		case warn:
			l.Warn(text)
		default:
			l.Info(text)
		}
	}
}

// recheck has the peers of all associations judged again.
func (t *Transport) recheck() {
	t.mu.Lock()
	all := append([]*binding{}, t.former...)
	if t.now != nil {
		all = append(all, t.now)
	}
	t.mu.Unlock()
	for _, b := range all {
		secure.Recheck(b.Endpoint)
	}
}

// explain adds to the end of an association what an operator can do about it: which certificate
// the peer refuses, or that only one side speaks TLS. a is what is known of the association.
func (t *Transport) explain(ev sctp.Event, a *talk) sctp.Event {
	if ev.Type != sctp.Down && ev.Type != sctp.SendFailed {
		return ev
	}
	if t.member != nil && ev.Type == sctp.Down {
		ev.Err = t.member.Explain(ev.Err)
	}
	if a != nil {
		ev.Err = t.mismatch(ev, a)
	}
	return ev
}
