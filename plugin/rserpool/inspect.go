package rserpool

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/miekg/dns"
)

// The texts below _rserpool tell about the inside of the registry: how many pools and elements
// there are, the homes of elements and their state. The option inspect says who may read them.
// Others are refused, for all types, and as acl does it: a denial would say that the name does
// not exist, or what it lacks. Caches, such as the plugin of this server block, and validators
// that use NSEC records (RFC 8198) would give it to those who may read the texts.

// inspectors are the clients that may read the texts below _rserpool.
type inspectors struct {
	networks []netip.Prefix // none: nobody
}

// noInspectors is the argument of inspect that stands for no network.
const noInspectors = "off"

func (cfg *config) parseInspect(args []string) error {
	if cfg.inspect == nil {
		cfg.inspect = new(inspectors)
	} else if len(cfg.inspect.networks) == 0 {
		return errNobodyInspects
	}
	for _, arg := range args {
		if arg == noInspectors {
			if len(args) > 1 || len(cfg.inspect.networks) > 0 {
				return errNobodyInspects
			}
			return nil
		}
		n, err := parseNetwork(arg)
		if err != nil {
			return err
		}
		if slices.Contains(cfg.inspect.networks, n) {
			return fmt.Errorf("%s is listed twice", n)
		}
		cfg.inspect.networks = append(cfg.inspect.networks, n)
	}
	return nil
}

var errNobodyInspects = errors.New(noInspectors + " stands alone: it lets nobody read the texts")

// parseNetwork reads a network, or an address as a network of its own.
func parseNetwork(arg string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(arg); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	n, err := netip.ParsePrefix(arg)
	switch {
	case err != nil || n.Addr().Is4In6():
		return n, fmt.Errorf("%q is not a network or an address, such as 10.0.0.0/8 or 2001:db8::1, and not %s", arg, noInspectors)
	case n != n.Masked():
		return n, fmt.Errorf("%w, or the address without a prefix", hostBits(n))
	}
	return n, nil
}

// hostBits is the error about a network that has more of an address than its prefix.
func hostBits(n netip.Prefix) error { return fmt.Errorf("%s has host bits: write %s", n, n.Masked()) }

// admit reports whether a client may read the texts. Without the option, all may.
func (i *inspectors) admit(w dns.ResponseWriter) bool {
	if i == nil {
		return true
	}
	a := originOf(w).Addr.WithZone("")
	return slices.ContainsFunc(i.networks, func(n netip.Prefix) bool { return n.Contains(a) })
}

// bars reports whether the question is about a name that this client may not read.
func (q *query) bars() bool { return q.node.kind == nodeInfo && !q.inspect.admit(q.w) }

// refuse answers that the client may not ask this, with the extended DNS error Prohibited (RFC
// 8914, Section 4.19) for clients with EDNS.
func refuse(w dns.ResponseWriter, r *dns.Msg) (int, error) {
	return answerError(w, r, dns.RcodeRefused, dns.ExtendedErrorCodeProhibited, "this text is for other networks")
}

// CacheBypassZones implements cache.ZoneBypasser: with the option, the cache plugin of the server
// block leaves the zones out, because it would give the texts to everybody.
func (h *Handler) CacheBypassZones() (names []string) {
	if h.inspect == nil {
		return nil
	}
	for _, z := range h.zones.own() {
		names = append(names, z.name)
	}
	return names
}
