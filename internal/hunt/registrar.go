package hunt

import (
	"net/netip"
	"slices"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// named reports whether the registrar's name has to be looked up.
func named(r rserpool.Registrar) bool { return r.Host != "" && len(r.Addrs) == 0 }

// sameName reports whether r and o are the same name, looked up or not.
func sameName(r, o rserpool.Registrar) bool {
	return r.Host != "" && r.Host == o.Host && r.Port == o.Port && r.EncapPort == o.EncapPort
}

// sameAs is sameName for one of the two.
func sameAs(r rserpool.Registrar) func(rserpool.Registrar) bool {
	return func(o rserpool.Registrar) bool { return sameName(r, o) }
}

// alternativeTo reports of a registrar whether it is not r, nor r's name.
func alternativeTo(r rserpool.Registrar) func(rserpool.Registrar) bool {
	return func(o rserpool.Registrar) bool { return !o.Equal(r) && !(named(o) && sameName(o, r)) }
}

// maxHostAddrs bounds how many of a name's addresses are used.
const maxHostAddrs = 16

// At gives one registrar for each address of a name.
func At(r rserpool.Registrar, addrs []netip.Addr) []rserpool.Registrar {
	var all []rserpool.Registrar
	for _, a := range addrs[:min(len(addrs), maxHostAddrs)] {
		one := r
		one.Addrs = []netip.Addr{a.Unmap()}
		if !slices.ContainsFunc(all, one.Equal) {
			all = append(all, one)
		}
	}
	return all
}
