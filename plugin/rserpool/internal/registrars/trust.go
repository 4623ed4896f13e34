package registrars

import (
	"fmt"
	"slices"
	"strings"

	"github.com/rserpool/coredns-rserpool/internal/trust"
	"github.com/rserpool/coredns-rserpool/registrar/host"
)

// mode is whether the registrar speaks TLS, which it cannot change while it runs. The files
// and the rights can be changed.
func (o *Options) mode() string {
	if o.Trust.Set() {
		return "with tls"
	}
	return "without tls"
}

// fileOptions are the options that name the files, as the manual writes them.
var fileOptions = trust.Files{Cert: "tls CERT", Key: "tls KEY", CA: "tls CA", Secret: "tls_secret"}

// checkTrust refuses rights without TLS.
func (o *Options) checkTrust() error {
	if lines := rightsOf(o.Trust); !o.Trust.Set() && len(lines) > 0 {
		return NeedsTLS(strings.Fields(lines[0])[0])
	}
	return nil
}

// NeedsTLS refuses an option that gives rights.
func NeedsTLS(option string) error {
	return fmt.Errorf("%s needs tls or tls_secret in the same block: without TLS, no peer proves who it is", option)
}

// trustLines are the Corefile lines of a trusted scope, each in its one spelling.
func trustLines(t host.Trust) []string {
	switch {
	case t.Secret != "":
		return append([]string{"tls_secret " + t.Secret}, rightsOf(t)...)
	case t.Set():
		return append([]string{"tls " + t.Cert + " " + t.Key + " " + t.CA}, rightsOf(t)...)
	}
	return rightsOf(t)
}

// rightsOf are those of the lines that give rights.
func rightsOf(t host.Trust) (lines []string) {
	for _, a := range t.Allow {
		lines = append(lines, "allow "+a.Pools+" "+a.Names)
	}
	for _, l := range []struct {
		option string
		list   []string
	}{{"deny", t.Deny}, {"registrars", t.Registrars}, {"resolvers", t.Resolvers}} {
		for _, pattern := range l.list {
			lines = append(lines, l.option+" "+pattern)
		}
	}
	return lines
}

// mistrust returns why the blocks of one registrar cannot have o and p.
func (o *Options) mistrust(p Options) error {
	mine, others := trustLines(o.Trust), trustLines(p.Trust)
	var diff []string
	for _, l := range mine {
		if !slices.Contains(others, l) {
			diff = append(diff, l)
		}
	}
	for _, l := range others {
		if !slices.Contains(mine, l) {
			diff = append(diff, "no "+l)
		}
	}
	if len(diff) == 0 {
		return nil // the order means nothing
	}
	return fmt.Errorf("another block of the same registrar trusts others (here: %s); give all blocks of a registrar the same lines for tls, tls_secret, allow, deny, registrars and resolvers", strings.Join(diff, ", "))
}

// cannotChange says why a reload with o cannot have a registrar with p begin or end TLS, and what
// to do. Without an asap address, o has other ports than p, so that err is about the two.
func (o *Options) cannotChange(p Options, err error) error {
	if o.sameAddresses(p) {
		return fmt.Errorf("registrar at %s runs %s, and a reload cannot change it to one %s: restart CoreDNS. Its elements, users and peers have to change as well", p, p.mode(), o.mode())
	}
	return fmt.Errorf("%w; if this is the registrar that runs there %s, and it is to be one %s, restart CoreDNS: a reload cannot change that", err, p.mode(), o.mode())
}

// followTrust has a running registrar follow the lines of a trusted scope of a Corefile that is
// loaded, as soon as the instance with the lease l serves: an element that is out for a moment would
// have to register again, and the start of the instance may fail.
func (s *shared) followTrust(l *Lease, t host.Trust) error {
	if l.successorOf == nil {
		return s.setTrust(t)
	}
	if err := s.CheckTrust(t); err != nil {
		return err
	}
	l.begins = append(l.begins, func() {
		if sameTrust(*s.trust.Load(), t) {
			s.LookAtTrust() // a reload is what operators use who have replaced a file
		} else if err := s.setTrust(t); err != nil {
			log.Errorf("registrar at %s keeps its former files and rights: %v", s.options, err)
		}
	})
	return nil
}

// sameTrust reports whether the lines are the same, in any order.
func sameTrust(t, u host.Trust) bool {
	a, b := trustLines(t), trustLines(u)
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(a, b)
}

// begun calls the lease's begins. The caller has the lock of the set.
func (l *Lease) begun() {
	for _, begin := range l.begins {
		begin()
	}
	l.begins = nil
}

// setTrust has a running registrar follow other lines of a trusted scope.
func (s *shared) setTrust(t host.Trust) error {
	if sameTrust(*s.trust.Load(), t) {
		return nil
	}
	if err := s.SetTrust(t); err != nil {
		return err
	}
	s.trust.Store(&t)
	log.Infof("registrar at %s has new files or rights (tls, allow, deny, registrars, resolvers)", s.options)
	return nil
}
