package rserpool

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/rserpool/coredns-rserpool/internal/identity"
	"github.com/rserpool/coredns-rserpool/plugin/rserpool/internal/registrars"
	"github.com/rserpool/coredns-rserpool/registrar/host"
	rsp "github.com/rserpool/coredns-rserpool/rserpool"
)

// isTLS reports whether an option names the files of a trusted scope.
func isTLS(name string) bool { return name == "tls" || name == "tls_secret" }

var errBothTLS = errors.New("a registrar has either tls or tls_secret; remove one of them")

func (cfg *config) parseTLS(args []string) error {
	return cfg.setFiles(rsp.TLSFiles{Cert: cfg.file(args[0]), Key: cfg.file(args[1]), CA: cfg.file(args[2])})
}

func (cfg *config) parseTLSSecret(args []string) error {
	return cfg.setFiles(rsp.TLSFiles{Secret: cfg.file(args[0])})
}

func (cfg *config) setFiles(files rsp.TLSFiles) error {
	if cfg.options.Trust.Set() {
		return errBothTLS
	}
	cfg.options.Trust.TLSFiles = files
	cfg.options.ASAP = nil // the default has another port with TLS
	return nil
}

// file is the path of a file. A relative one begins at the directory of the plugin root, as
// with CoreDNS's own tls.
func (cfg *config) file(path string) string {
	if !filepath.IsAbs(path) && cfg.root != "" {
		path = filepath.Join(cfg.root, path)
	}
	return filepath.Clean(path)
}

func (cfg *config) parseAllow(args []string) error {
	a := host.Allow{Pools: args[0], Names: args[1]}
	if slices.Contains(cfg.options.Trust.Allow, a) {
		return fmt.Errorf("%s %s is listed twice", a.Pools, a.Names)
	}
	cfg.options.Trust.Allow = append(cfg.options.Trust.Allow, a)
	return readable(identity.Rules{Allow: []identity.Allow{{Pools: a.Pools, Names: a.Names}}})
}

func (cfg *config) parseDeny(args []string) error {
	return addPattern(&cfg.options.Trust.Deny, args[0])
}

func (cfg *config) parseRegistrars(args []string) error {
	return addPattern(&cfg.options.Trust.Registrars, args[0])
}

func (cfg *config) parseResolvers(args []string) error {
	const any = "any"
	list := &cfg.options.Trust.Resolvers
	switch {
	case cfg.anyResolves, args[0] == any && len(*list) > 0:
		return errors.New("any stands alone: it is everybody, also without a certificate")
	case args[0] == any:
		cfg.anyResolves = true // the default
		return nil
	}
	return addPattern(list, args[0])
}

func addPattern(list *[]string, pattern string) error {
	if slices.Contains(*list, pattern) {
		return fmt.Errorf("%s is listed twice", pattern)
	}
	*list = append(*list, pattern)
	return readable(identity.Rules{Deny: []string{pattern}})
}

// readable refuses a pattern that cannot be read.
func readable(r identity.Rules) error {
	_, err := identity.New(r)
	return err
}

// checkTrust refuses the rights of a registrar without TLS.
func (cfg *config) checkTrust() error {
	if cfg.anyResolves && !cfg.options.Trust.Set() {
		return registrars.NeedsTLS("resolvers")
	}
	return nil
}
