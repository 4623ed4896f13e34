package rserpool

import (
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/nsid"
	clog "github.com/coredns/coredns/plugin/pkg/log"
	"github.com/coredns/coredns/plugin/transfer"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rserpool/coredns-rserpool/plugin/rserpool/internal/lookup"
	"github.com/rserpool/coredns-rserpool/plugin/rserpool/internal/registrars"
	"github.com/rserpool/coredns-rserpool/registrar/host"
)

const pluginName = "rserpool"

// process has the registrars of this process. A reload replaces the CoreDNS instance and
// everything in it, so that only a package variable lasts. There is no other one.
var process = registrars.New(openHost)

func init() {
	plugin.Register(pluginName, func(c *caddy.Controller) error { return setup(c, process) })
	prometheus.MustRegister(registrars.Collector{Set: process})
}

// openHost starts a registrar on the machine's network.
func openHost(cfg host.Config) (registrars.Registrar, error) {
	h, err := host.Open(cfg)
	if err != nil {
		return nil, err // not h: it would be a Registrar that is not nil
	}
	return h, nil
}

// setup reads one directive. Its registrar is started with the CoreDNS instance: setup
// opens nothing, because it also runs for a reload that fails afterwards.
func setup(c *caddy.Controller, rs *registrars.Set) error {
	cfg, err := parse(c)
	if err != nil {
		return plugin.Error(pluginName, err)
	}
	cfg.warnZones(c.ServerBlockKeys)
	cfg.warnFallthrough()
	site := dnsserver.GetConfig(c)
	h := newHandler(cfg, site.ListenHosts, lookup.Buckets)
	cfg.options.Pools = h.pools.forRegistrar()
	b := registrars.Block{Options: cfg.options, Where: cfg.where, Serve: func(r registrars.Registrar) { h.registrar = r }}
	own, others := newBlock(c, h.zones), blocksOf(c)
	*others = append(*others, own)
	inst := instanceOf(c, rs)
	if err := inst.Add(b); err != nil {
		return plugin.Error(pluginName, err)
	}
	c.OnStartup(func() error {
		h.setZones(slices.Concat(own.zones, others.below(own)))
		// CoreDNS knows the plugins of a server block once it has made its chain.
		h.signer, _ = site.Handler("dnssec").(signer)
		if hosts := site.ListenHosts; len(hosts) > 0 { // bind can leave none
			server := site.Transport + "://" + net.JoinHostPort(hosts[0], site.Port)
			if err := h.checkSigners(server); err != nil {
				clog.NewWithPlugin(pluginName).Warningf("%s: %v", cfg.where, err)
			}
			h.warnDenials(cfg.where, server)
		}
		h.traces, h.tsig = site.Handler("metadata") != nil, site.Handler("tsig") != nil
		if n, ok := site.Handler("nsid").(nsid.Nsid); ok {
			h.nsid = len(n.Data)
		}
		inst.OnRelease(h.indexAddrs())
		if t, ok := site.Handler("transfer").(*transfer.Transfer); ok {
			inst.OnRelease(h.notifySecondaries(t.Notify))
			// The options may be new. A former instance would give the new serial number to zones
			// with the former ones.
			inst.OnBegin(h.registrar.Space().Touch)
		}
		return nil
	})
	var warn sync.Once // CoreDNS makes the chain once for each address
	site.AddPlugin(func(next plugin.Handler) plugin.Handler {
		h.Next = next
		if next == nil && len(h.Fall.Zones) > 0 {
			warn.Do(func() {
				clog.NewWithPlugin(pluginName).Warningf("%s: fallthrough has no effect but SERVFAIL for unknown names: no plugin follows rserpool in this server block. "+
					"Remove the option, or add a plugin that answers, such as forward or file", cfg.where)
			})
		}
		return h
	})
	return nil
}

// warnZones warns of zones of which the server block gets no query. They are no error: the plugin
// rewrite can put names into them.
func (cfg *config) warnZones(keys []string) {
	origins := plugin.OriginsFromArgsOrServerBlock(nil, keys)
	for _, z := range cfg.zones {
		if len(keys) > 0 && !overlapsZone(z, origins) {
			clog.NewWithPlugin(pluginName).Warningf("%s: no query for %s reaches this server block, which has %s, unless rewrite changes its name; "+
				"correct the zone, or add it to the first line of the block: %s", cfg.where, z, strings.Join(origins, " "), keysBeside(keys, z))
		}
	}
}

// warnFallthrough warns of zones of fallthrough that do not count. They are no error: a snippet can be
// imported in several blocks.
func (cfg *config) warnFallthrough() {
	own := slices.Concat(cfg.zones, cfg.reverse)
	for _, z := range cfg.fall.Zones {
		if !overlapsZone(z, own) {
			clog.NewWithPlugin(pluginName).Warningf("%s: fallthrough %s has no effect: it is in none of the zones %s", cfg.where, z, strings.Join(own, " "))
		}
	}
}

// newHandler makes the handler of a directive, with a memory of lookups of that many buckets.
// The registrar is set at startup.
func newHandler(cfg config, listenHosts []string, buckets int) *Handler {
	pools := newPoolTable(cfg.pools)
	h := &Handler{
		Fall:    cfg.fall,
		pools:   pools,
		inspect: cfg.inspect,
		lookups: lookup.New(buckets, pools.mostAddresses()),
		now:     time.Now,
	}
	own := ownAddrs(listenHosts)
	for _, name := range cfg.zones {
		h.zones = append(h.zones, newZone(name, cfg.servers, own, pools))
	}
	for _, name := range cfg.reverse {
		h.zones = append(h.zones, newReverseZone(name, &h.zones[0]))
	}
	h.setZones(h.zones)
	return h
}

// instanceKey is where a CoreDNS instance stores its *registrars.Instance.
type instanceKey struct{}

// instanceOf returns what the directives of c's CoreDNS instance share. The first call
// makes it and registers its callbacks.
func instanceOf(c *caddy.Controller, rs *registrars.Set) *registrars.Instance {
	if inst, ok := c.Get(instanceKey{}).(*registrars.Instance); ok {
		return inst
	}
	rs.Sweep(isLive)
	inst := rs.NewInstance()
	c.Set(instanceKey{}, inst)
	c.OnStartup(func() error {
		refuseUpgrade()
		sweepIfRestartFails(rs)
		if err := inst.Startup(); err != nil {
			return plugin.Error(pluginName, err)
		}
		return nil
	})
	c.OnRestart(func() error { inst.Restart(); return nil })
	c.OnRestartFailed(func() error { inst.RestartFailed(isLive); return nil })
	c.OnShutdown(func() error { inst.Shutdown(); return nil })
	c.OnFinalShutdown(inst.FinalShutdown)
	return inst
}

// sweptKey marks a CoreDNS instance without rserpool blocks of which sweepIfRestartFails knows.
type sweptKey struct{}

// sweepIfRestartFails has the registrars end of an instance that a failed restart leaves behind.
// CoreDNS tells only the instance before it. If that one has no rserpool block, nobody has asked
// it to tell. It is one of those in the list, because the new instance starts while the former one
// serves.
func sweepIfRestartFails(rs *registrars.Set) {
	for _, i := range caddy.Instances() {
		i.StorageMu.Lock()
		known := i.Storage[instanceKey{}] != nil || i.Storage[sweptKey{}] != nil
		if !known {
			i.Storage[sweptKey{}] = true
			i.OnRestartFailed = append(i.OnRestartFailed, func() error { rs.Sweep(isLive); return nil })
		}
		i.StorageMu.Unlock()
	}
}

// isLive reports whether the CoreDNS instance that has the lease serves or is about to
// serve.
func isLive(l *registrars.Lease) bool {
	for _, i := range caddy.Instances() {
		i.StorageMu.RLock()
		inst, ok := i.Storage[instanceKey{}].(*registrars.Instance)
		i.StorageMu.RUnlock()
		if ok && inst.Holds(l) {
			return true
		}
	}
	return false
}
