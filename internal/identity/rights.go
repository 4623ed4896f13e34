package identity

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/rserpool/coredns-rserpool/internal/ascii"
	"github.com/rserpool/coredns-rserpool/internal/glob"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Rules say who may do what in a trusted scope. Patterns of names are those of path.Match: a
// '*' stays within a segment of a path.
type Rules struct {
	// Allow are the pools that names may register in, beside the pool that a name has itself.
	Allow []Allow
	// Deny are the names that may do nothing. Their case does not count, as that of a pool's
	// name does not: a certificate for Web is one for web.
	Deny []string
	// Registrars are the names of registrars; none is those of all domains.
	Registrars []string
	// Resolvers are the names that may resolve pool handles and report elements, beside
	// the elements and registrars; none is everybody, also without a certificate.
	Resolvers []string
}

// Allow lets names register in pools.
type Allow struct {
	// Pools is a pattern of package glob.
	Pools string
	Names string
}

// Rights are Rules that have been read. They do not change; any goroutine may use them. The
// rights of a scope without TLS are nil: everybody may do everything.
type Rights struct {
	allow                       []allowed
	deny, registrars, resolvers patterns
}

type allowed struct {
	pools glob.Matcher
	names pattern
}

// pattern is one of path.Match. Most have no wildcards: literal is for those, which each
// element of a download is compared with.
type pattern struct {
	text    string
	literal bool
}

type patterns []pattern

// New reads rules. The error names the one that cannot be read.
func New(r Rules) (*Rights, error) {
	var rights Rights
	for _, a := range r.Allow {
		g, err := glob.Parse(a.Pools)
		if err != nil {
			return nil, fmt.Errorf("pools %w", err)
		}
		names, err := read([]string{a.Names})
		if err != nil {
			return nil, err
		}
		rights.allow = append(rights.allow, allowed{g.Matcher(), names[0]})
	}
	if len(r.Registrars) == 0 {
		r.Registrars = []string{scheme + "*" + registrar + "*"}
	}
	var deny []string
	for _, text := range r.Deny {
		deny = append(deny, ascii.Fold(text))
	}
	for _, list := range []struct {
		to   *patterns
		from []string
	}{{&rights.deny, deny}, {&rights.registrars, r.Registrars}, {&rights.resolvers, r.Resolvers}} {
		var err error
		if *list.to, err = read(list.from); err != nil {
			return nil, err
		}
	}
	return &rights, nil
}

func read(list []string) (patterns, error) {
	var out patterns
	for _, text := range list {
		_, err := path.Match(text, "")
		switch {
		case err != nil, text != Shared && !strings.HasPrefix(text, scheme) && !strings.HasPrefix(text, dnsScheme):
			return nil, fmt.Errorf("%q is not a pattern of identities, such as spiffe://example.org/rserpool/pool/web/*, dns:*.example.org or %s", text, Shared)
		case strings.Contains(text, "**"):
			return nil, fmt.Errorf("%q has **: a * stays within a segment of the path, so each segment needs one", text)
		case !mayMatch(text):
			return nil, fmt.Errorf("%q matches no identity: these are spiffe://DOMAIN/SEGMENT/... without a slash at the end, dns:NAME and %s, with letters, digits and .-_ only, and only small ones in DOMAIN and NAME", text, Shared)
		}
		out = append(out, pattern{text, !strings.ContainsAny(text, `*?[\`)})
	}
	return out, nil
}

// mayMatch reports whether there can be a name that a pattern matches. One that matches none would be a
// mistake that nobody notices: a name would not be denied.
func mayMatch(text string) bool {
	var b strings.Builder // a name that the pattern matches, but for its classes
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '*', '?':
			b.WriteByte('x')
		case '[':
			for i++; text[i] != ']'; i++ {
				if text[i] == '\\' {
					i++
				}
			}
			b.WriteByte('x')
		case '\\':
			i++
			b.WriteByte(text[i])
		default:
			b.WriteByte(text[i])
		}
	}
	id := b.String()
	if dns, ok := strings.CutPrefix(id, dnsScheme); ok {
		name, ok := OfDNS(dns)
		return ok && name == id
	}
	return id == Shared || IsURI(id)
}

func (p pattern) match(id string) bool {
	if p.literal {
		return p.text == id
	}
	ok, _ := path.Match(p.text, id)
	return ok
}

func (p patterns) match(id string) bool {
	return slices.ContainsFunc(p, func(p pattern) bool { return p.match(id) })
}

// Denied reports whether a name may do nothing.
func (r *Rights) Denied(id string) bool { return r != nil && id != "" && r.denies(id) }

func (r *Rights) denies(id string) bool { return r.deny.match(ascii.Fold(id)) }

// Registers reports whether a name may register in a pool.
func (r *Rights) Registers(id string, h rserpool.PoolHandle) bool {
	switch {
	case r == nil:
		return true
	case id == "" || r.denies(id):
		return false
	case id == Shared:
		return true
	}
	if own, ok := PoolOf(id); ok && ascii.EqualFold(string(own), string(h)) {
		return true
	}
	return slices.ContainsFunc(r.allow, func(a allowed) bool { return a.names.match(id) && a.pools.Match(string(h)) })
}

// Registrar reports whether a name is one of a registrar.
func (r *Rights) Registrar(id string) bool {
	return r == nil || id != "" && !r.denies(id) && (id == Shared || r.registrars.match(id))
}

// Resolves reports whether a name may resolve pool handles and report elements.
func (r *Rights) Resolves(id string) bool {
	switch {
	case r == nil:
		return true
	case id != "" && r.denies(id):
		return false
	case len(r.resolvers) == 0, id == Shared, id != "" && (r.resolvers.match(id) || r.registrars.match(id)):
		return true
	}
	_, isElement := PoolOf(id)
	return isElement
}
