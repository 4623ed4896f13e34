package pe

import (
	"net/netip"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/client"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// lookInterval is the time between two looks at the machine's addresses: one query to the
// system for each address of a registrar.
const lookInterval = 2 * time.Second

// prepareAddrs normalizes the addresses, and fills in those that follow from others:
// addresses to register are bound, and bound addresses are registered.
func (c *Config) prepareAddrs() {
	for i, a := range c.Transport.Addrs {
		c.Transport.Addrs[i] = a.Unmap().WithZone("")
	}
	for i, a := range c.Advertise {
		c.Advertise[i] = a.Unmap().WithZone("")
	}
	if c.toward == nil {
		c.toward = client.LocalToward
	}
	if c.has == nil {
		c.has = client.HasAddr
	}
	switch {
	case c.Transport.Type == rserpool.Opaque:
	case len(c.Local) == 0:
		for _, a := range c.Transport.Addrs {
			c.Local = append(c.Local, netip.AddrPortFrom(a, 0))
		}
	case len(c.Transport.Addrs) == 0:
		var own []netip.Addr
		for _, l := range c.Local {
			if !l.Addr().IsUnspecified() {
				own = append(own, l.Addr().Unmap().WithZone(""))
			}
		}
		c.Transport.Addrs = own[:min(len(own), c.most())]
	}
}

// most is how many addresses the element can have.
func (c *Config) most() int {
	if c.Transport.Type == rserpool.SCTP {
		return MaxAddrs
	}
	return 1
}

// follows reports whether the element registers the addresses toward the registrars, also
// after they change, and not given ones.
func (c *Config) follows() bool {
	return len(c.Transport.Addrs) == 0 && c.Transport.Type != rserpool.Opaque
}

// registered are the addresses to register for an element at these, in a slice of its own.
func (c *Config) registered(at []netip.Addr) []netip.Addr {
	if len(c.Advertise) > 0 {
		return slices.Clone(c.Advertise)
	}
	var all []netip.Addr
	for _, a := range at {
		all = append(all, a.WithZone(""))
	}
	return all
}

// settle decides which addresses to have. some are the present ones, which stay as long
// as they lead to a registrar; from want the registrars are reached now; most is the
// greatest number.
func settle(some, want []netip.Addr, most int, has func(netip.Addr) bool) []netip.Addr {
	wanted := func(a netip.Addr) bool { return slices.Contains(want, a) }
	outside := func(a netip.Addr) bool { return !a.IsLoopback() && has(a) }
	switch {
	case len(want) == 0,
		// No way out for now; the loopback would be of no use to others.
		!slices.ContainsFunc(want, func(a netip.Addr) bool { return !a.IsLoopback() }) && slices.ContainsFunc(some, outside):
		return some
	}
	kept := slices.DeleteFunc(slices.Clone(some), func(a netip.Addr) bool { return !wanted(a) })
	gone := slices.ContainsFunc(some, func(a netip.Addr) bool { return !wanted(a) && !has(a) })
	more := slices.DeleteFunc(slices.Clone(want), func(a netip.Addr) bool { return slices.Contains(kept, a) })
	if len(kept) > 0 && !gone && (len(more) == 0 || len(some) == most) {
		return some
	}
	all := slices.Concat(kept, more)
	return all[:min(len(all), most)]
}

// look finds out from which addresses the registrars are reached now, and has
// the element move there if they are others.
func (r *runner) look(now time.Time) {
	r.lookAt, r.news = now.Add(lookInterval), r.core.hunt.News()
	if !r.cfg.follows() {
		if !r.tr.Bound() && r.tr.Bind(r.cfg.Local) == nil {
			r.core.hunt.Restart(now)
		}
		if r.tr.Bound() {
			r.lookAt = time.Time{}
		}
		return
	}
	some, want, why := r.turn(now, r.wanted(now))
	addrs := settle(some, want, r.cfg.most(), r.cfg.has)
	if len(addrs) == 0 || slices.Equal(addrs, r.addrs) {
		r.core.moveOn(now)
		return
	}
	fresh, err := r.bind(addrs)
	if err != nil {
		if r.bindErr != err.Error() {
			r.bindErr = err.Error()
			r.core.warn(now, "%w", err)
		}
		return
	}
	r.addrs, r.bindErr = addrs, ""
	r.core.readdress(now, r.cfg.registered(addrs), fresh, why)
}

// wanted are the addresses from which the configured registrars and the home registrar
// are reached. If there are none, those from which registrars that announce themselves
// are reached.
func (r *runner) wanted(now time.Time) []netip.Addr {
	list := r.core.hunt.Configured()
	if r.core.home != 0 {
		list = append(list, r.core.homeAt)
	}
	want, _ := r.cfg.toward(list)
	if len(want) == 0 && r.core.home == 0 {
		want, _ = r.cfg.toward(r.core.hunt.Known(now))
	}
	return want
}

// bind binds the addresses, or binds given ones again, and reports whether associations
// can be started beside the present ones. SCTP has one association with each peer from
// the same addresses and port.
func (r *runner) bind(addrs []netip.Addr) (fresh bool, err error) {
	local := r.cfg.Local
	if len(local) > 0 && local[0].Port() != 0 && r.tr.Bound() {
		return false, nil
	}
	if len(local) == 0 {
		for _, a := range addrs {
			local = append(local, netip.AddrPortFrom(a, 0))
		}
	}
	return true, r.tr.Bind(local)
}
