package registrars

import (
	"fmt"
	"slices"
	"strings"

	"github.com/coredns/coredns/plugin"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rserpool/coredns-rserpool/internal/ascii"
	core "github.com/rserpool/coredns-rserpool/registrar"
	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Pools are what a Corefile says about the pools of a registrar. In contrast to the other
// options, a reload changes them while the registrar runs.
type Pools struct {
	// Lines are the Corefile lines, each in its one spelling. Two Pools with the same lines
	// are the same.
	Lines []string
	// Rules are nil if there are none.
	Rules core.PoolRules
	// Listed is the value of the metrics' label pool, "" if the pool has no metrics. It is
	// nil if none has.
	Listed func(rserpool.PoolHandle) string
	// Declared are the handles of those pools with metrics that have them even while they
	// are empty.
	Declared []rserpool.PoolHandle
}

// disagree returns why the blocks of one registrar cannot have p and q.
func (p Pools) disagree(q Pools) error {
	var diff []string
	for _, l := range p.Lines {
		if !slices.Contains(q.Lines, l) {
			diff = append(diff, l)
		}
	}
	for _, l := range q.Lines {
		if !slices.Contains(p.Lines, l) {
			diff = append(diff, "no "+l)
		}
	}
	switch {
	case len(diff) > 0:
		return fmt.Errorf("another block of the same registrar says otherwise about its pools (here: %s); give all blocks of a registrar the same guard, and the same pool lines for guard, policy, transport, timer and metrics", strings.Join(diff, ", "))
	case !slices.Equal(p.Lines, q.Lines):
		return fmt.Errorf("another block of the same registrar has the same pool lines in another order, and a later line has precedence; use the same order (here: %s)", strings.Join(p.Lines, ", "))
	}
	return nil
}

// followPools has a running registrar follow the pool lines of a Corefile that is loaded, as soon as
// the instance with the lease l serves: the start of the instance may fail.
func (s *shared) followPools(l *Lease, p Pools) {
	if l.successorOf == nil {
		s.setPools(p)
		return
	}
	l.begins = append(l.begins, func() { s.setPools(p) })
}

// setPools has a running registrar follow other pool lines.
func (s *shared) setPools(p Pools) {
	if slices.Equal(s.pools.Load().Lines, p.Lines) {
		return
	}
	s.pools.Store(&p)
	s.SetRules(p.Rules)
	log.Infof("registrar at %s has new rules for pools", s.options)
}

// maxListed bounds the pools of a registrar with metrics: their handles come from the
// network.
const maxListed = 1000

var (
	poolElements   = poolDesc("pool_elements", "Pool elements in the handlespace, of pools with the option metrics.", "registrar", "pool")
	poolSelections = poolDesc("pool_selections_total", "Selections from pools with the option metrics, for DNS answers and handle resolutions, since the pool has an element.", "registrar", "pool")
	poolsUnlisted  = poolDesc("pools_unlisted", "Pools with the option metrics that have none, because 1000 others of the registrar do.", "registrar")
)

func poolDesc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName(plugin.Namespace, subsystem, name), help, labels, nil)
}

// poolUsage is a pool with its metrics.
type poolUsage struct {
	label      string
	declared   bool
	elements   int
	selections uint32
}

// usages returns the pools with metrics in the order of their labels, the declared ones
// first, and how many do not fit.
func (p *Pools) usages(space *handlespace.Space) (all []poolUsage, unlisted int) {
	declared := make(map[string]bool) // by handle, folded
	for _, h := range p.Declared {
		declared[ascii.Fold(string(h))] = true
		if pool, _ := space.Lookup([]byte(h)); pool == nil {
			all = append(all, poolUsage{label: p.Listed(h), declared: true})
		}
	}
	for pool := range space.Pools() {
		if label := p.Listed(pool.Handle()); label != "" {
			u := poolUsage{label: label, declared: declared[ascii.Fold(string(pool.Handle()))]}
			u.elements, u.selections = pool.Usage()
			all = append(all, u)
		}
	}
	slices.SortFunc(all, func(a, b poolUsage) int {
		switch {
		case a.declared != b.declared && a.declared:
			return -1
		case a.declared != b.declared:
			return 1
		}
		return strings.Compare(a.label, b.label)
	})
	// A pool can have come between the two loops.
	all = slices.CompactFunc(all, func(a, b poolUsage) bool { return a.label == b.label })
	unlisted = max(0, len(all)-maxListed)
	return all[:len(all)-unlisted], unlisted
}

// collectPools sends the metrics by pool, of the pools that there are at this moment.
func (s *shared) collectPools(ch chan<- prometheus.Metric) {
	p := s.pools.Load()
	if p.Listed == nil {
		return
	}
	registrar := s.options.String()
	all, unlisted := p.usages(s.Space())
	for _, u := range all {
		ch <- prometheus.MustNewConstMetric(poolElements, prometheus.GaugeValue, float64(u.elements), registrar, u.label)
		ch <- prometheus.MustNewConstMetric(poolSelections, prometheus.CounterValue, float64(u.selections), registrar, u.label)
	}
	ch <- prometheus.MustNewConstMetric(poolsUnlisted, prometheus.GaugeValue, float64(unlisted), registrar)
}
