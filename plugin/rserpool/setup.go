package rserpool

import (
	"fmt"
	"time"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	clog "github.com/coredns/coredns/plugin/pkg/log"
)

const pluginName = "rserpool"

var log = clog.NewWithPlugin(pluginName)

func init() {
	plugin.Register(pluginName, func(c *caddy.Controller) error { return setup(c, process) })
}

// setup reads one directive and has its registrar started with the instance.
// It opens nothing itself: it also runs for a reload that then fails.
func setup(c *caddy.Controller, rs *registrars) error {
	cfg, err := parse(c)
	if err != nil {
		return plugin.Error(pluginName, err)
	}
	site := dnsserver.GetConfig(c)
	h := newHandler(cfg, site.ListenHosts)
	if err := instanceOf(c, rs).add(&block{options: cfg.options, handler: h, where: cfg.where}); err != nil {
		return plugin.Error(pluginName, fmt.Errorf("%s - %w", cfg.where, err))
	}
	site.AddPlugin(func(next plugin.Handler) plugin.Handler {
		h.Next = next
		return h
	})
	return nil
}

// newHandler makes the handler of a directive, yet without registrar.
func newHandler(cfg config, listenHosts []string) *Handler {
	h := &Handler{
		Fall:      cfg.fall,
		ttl:       cfg.ttl,
		answers:   cfg.answers,
		addresses: cfg.addresses,
		srv:       cfg.srv,
		siblings:  newSiblings(),
		now:       time.Now,
	}
	own := ownAddrs(listenHosts)
	for _, name := range cfg.zones {
		h.zones = append(h.zones, newZone(name, cfg.servers, own))
	}
	return h
}

// instanceKey is where a CoreDNS instance stores its *instance.
type instanceKey struct{}

// instanceOf returns what c's CoreDNS instance has in common, which the first
// call makes and ties to the instance's life.
func instanceOf(c *caddy.Controller, rs *registrars) *instance {
	if inst, ok := c.Get(instanceKey{}).(*instance); ok {
		return inst
	}
	rs.sweep(isLive)
	inst := newInstance(rs)
	c.Set(instanceKey{}, inst)
	c.OnStartup(inst.startup)
	c.OnRestart(func() error { inst.restart(); return nil })
	c.OnRestartFailed(func() error { inst.restartFailed(isLive); return nil })
	c.OnShutdown(func() error { inst.shutdown(); return nil })
	c.OnFinalShutdown(inst.finalShutdown)
	return inst
}

// isLive reports whether the CoreDNS instance that has the lease serves, or is
// about to.
func isLive(l *lease) bool {
	for _, i := range caddy.Instances() {
		i.StorageMu.RLock()
		inst, ok := i.Storage[instanceKey{}].(*instance)
		i.StorageMu.RUnlock()
		if ok && inst.lease == l {
			return true
		}
	}
	return false
}
