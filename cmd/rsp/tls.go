package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/asap/pe"
	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/internal/client"
	"github.com/rserpool/coredns-rserpool/internal/identity"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/trust"
	"github.com/rserpool/coredns-rserpool/rserpool"
	"github.com/spf13/cobra"
)

// tlsVariable has the default of --tls.
const tlsVariable = "RSP_TLS"

// tlsHelp explains the flags of a trusted scope.
const tlsHelp = `Trusted scope:
  --tls DIR connects to registrars in TLS, with the files cert.pem, key.pem and ca.pem
  in DIR, or secret, as rsp ca makes them. Registrars must have a certificate, too.
  The default ports are 3864 for ASAP and 9902 for ENRP then. The environment variable
  ` + tlsVariable + ` is the default of --tls; --tls '' ignores it. --tls-cert, --tls-key, --tls-ca
  and --tls-secret name the files one by one; --tls-ca alone is enough to resolve.
  rsp ends if it cannot use the files when it starts, except for a certificate that has
  ended. Files that change are read again. Sessions (rsp serve, rsp connect) are in TLS, too: an
  element must have the certificate of its pool, and a user needs none.`

// tlsFlags are the flags of a trusted scope.
type tlsFlags struct {
	dir        string
	files      rserpool.TLSFiles
	registrars []string
	elements   []string
}

func (f *tlsFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.dir, "tls", "", "connect in TLS, with the files in `DIR` (default $"+tlsVariable+")")
	fl.StringVar(&f.files.Cert, "tls-cert", "", "`FILE` with the certificate, in place of --tls")
	fl.StringVar(&f.files.Key, "tls-key", "", "`FILE` with the key of the certificate")
	fl.StringVar(&f.files.CA, "tls-ca", "", "`FILE` with the certificates of the authorities")
	fl.StringVar(&f.files.Secret, "tls-secret", "", "`FILE` with the shared secret, in place of certificates")
	fl.StringArrayVar(&f.registrars, "tls-registrars", nil, "`IDENTITY` of registrars, a pattern (repeatable; default spiffe://*/rserpool/registrar/*)")
	_ = cmd.MarkFlagDirname("tls")
	noFiles(cmd, "tls-registrars")
}

// addElements adds the flag of commands that have sessions with elements.
func (f *tlsFlags) addElements(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&f.elements, "tls-elements", nil, "`IDENTITY` of elements whose certificate does not name the pool, a pattern (repeatable; default none)")
	noFiles(cmd, "tls-elements")
}

// read returns the files, none without TLS.
func (f *tlsFlags) read(cmd *cobra.Command) (rserpool.TLSFiles, error) {
	if err := f.checkPatterns(); err != nil {
		return rserpool.TLSFiles{}, usage(cmd, err)
	}
	if cmd.Flags().Changed("tls") && f.files.Set() {
		return rserpool.TLSFiles{}, usage(cmd, errors.New("--tls names all files: leave out --tls-cert, --tls-key, --tls-ca and --tls-secret"))
	}
	dir, name := f.dir, "--tls"
	if !cmd.Flags().Changed("tls") && !f.files.Set() {
		dir, name = os.Getenv(tlsVariable), "$"+tlsVariable
	}
	if dir == "" {
		return f.files, f.check(cmd)
	}
	files, err := trust.Dir(dir)
	if err != nil {
		return rserpool.TLSFiles{}, usage(cmd, fmt.Errorf("%s: %w", name, err))
	}
	return rserpool.TLSFiles(files), readable(files, trust.Files{Cert: name, Key: name, CA: name, Secret: name})
}

// checkPatterns refuses patterns that cannot be read.
func (f *tlsFlags) checkPatterns() error {
	if _, err := identity.New(identity.Rules{Registrars: f.registrars}); err != nil {
		return fmt.Errorf("--tls-registrars: %w", err)
	}
	if _, err := identity.New(identity.Rules{Deny: f.elements}); err != nil { // any list of patterns
		return fmt.Errorf("--tls-elements: %w", err)
	}
	return nil
}

// check refuses files that are named one by one.
func (f *tlsFlags) check(cmd *cobra.Command) error {
	switch {
	case f.files.Set():
	case len(f.registrars) > 0:
		return usage(cmd, errors.New("--tls-registrars needs --tls"))
	case len(f.elements) > 0:
		return usage(cmd, errors.New("--tls-elements needs --tls"))
	default:
		return nil
	}
	files, flags := trust.Files(f.files), trust.Files{Cert: "--tls-cert", Key: "--tls-key", CA: "--tls-ca", Secret: "--tls-secret"}
	if err := files.Check(); err != nil {
		return usage(cmd, trust.Name(err, flags))
	}
	return readable(files, flags)
}

// readable says why files cannot be used. A certificate that has ended, or has not begun, may
// be another one soon: it is for the command to go on, or to end with that error.
func readable(files, flags trust.Files) error {
	_, err := trust.Open(files, time.Now, func(string) {})
	if errors.Is(err, trust.ErrUntimely) {
		return nil
	}
	return trust.Name(err, flags)
}

// tlsPort is the port of a protocol in TLS.
func tlsPort(port uint16) uint16 {
	if port == enrp.Port {
		return enrp.TLSPort
	}
	return asap.TLSPort
}

// inTLS reports whether the flags of a command, or the environment, ask for TLS.
func inTLS(cmd *cobra.Command) bool {
	for _, flag := range []string{"tls", "tls-ca", "tls-secret"} {
		if value, err := cmd.Flags().GetString(flag); err == nil && value != "" {
			return true
		}
	}
	return !cmd.Flags().Changed("tls") && os.Getenv(tlsVariable) != ""
}

// untrusted reports whether a handshake of TLS has failed.
func untrusted(err error) bool { return errors.Is(err, sctp.ErrUntrusted) }

// wrongPort returns what to try if a registrar was asked for TLS at a plain port, or the
// other way round; "" if neither is so. tls says that rsp speaks TLS.
func wrongPort(e *rserpool.UnreachableError, tls bool) string {
	for _, a := range e.Attempts {
		switch port := a.Registrar.Port; {
		case untrusted(a.Err) && (port == asap.Port || port == enrp.Port):
			return fmt.Sprintf("registrar %v does not speak TLS: its TLS port is %d, or leave --tls out", a.Registrar, tlsPort(port))
		case !tls && (port == asap.TLSPort || port == enrp.TLSPort):
			return fmt.Sprintf("is a registrar running there? Port %d is for TLS: its Corefile needs tls, and rsp needs --tls", port)
		}
	}
	return ""
}

// mayHaveTLS returns how a hint begins if SCTP runs where a registrar was looked for, and nobody
// serves the port for those without TLS: so it is at a registrar with TLS. It is "" otherwise.
func mayHaveTLS(err error, tls bool) string {
	var e *rserpool.UnreachableError
	if tls || !errors.As(err, &e) {
		return ""
	}
	for _, a := range e.Attempts {
		if port := a.Registrar.Port; (port == asap.Port || port == enrp.Port) && errors.Is(a.Err, sctp.ErrRefused) && errors.Is(a.Err, sctp.ErrAborted) {
			return fmt.Sprintf("if the registrar's Corefile has tls, rsp needs --tls, and uses port %d. If not: ", tlsPort(port))
		}
	}
	return ""
}

// otherElements reports whether an element was refused because its certificate does not name
// the pool.
func otherElements(e *rserpool.FailoverError) bool {
	return slices.ContainsFunc(e.Attempts, func(a rserpool.ElementAttempt) bool {
		var not *client.NotServingError
		return errors.As(a.Err, &not)
	})
}

// refusedHint returns what to do if a registrar refuses this side for its rights, "" if none
// does. It does not say why: a stranger should learn nothing.
func refusedHint(err error) string {
	var (
		rejected    *pe.RejectedError
		unreachable *rserpool.UnreachableError
	)
	refusesUs := client.RefusesUs(err)
	if errors.As(err, &unreachable) {
		refusesUs = slices.ContainsFunc(unreachable.Attempts, func(a rserpool.Attempt) bool { return client.RefusesUs(a.Err) })
	}
	switch {
	case errors.As(err, &rejected) && errors.Is(err, rserpool.CauseSecurity):
		return "the registrar's log says why. In a trusted scope the element needs --tls with a certificate for its pool (rsp ca issue pool/POOL/NAME), or one that the Corefile allows"
	case refusesUs:
		return "the registrar's log says why: its Corefile denies the certificate (deny), its file of CAs lacks the CA, or the certificate has ended by its clock. Show yours with rsp ca show; --tls names another one"
	}
	return ""
}
