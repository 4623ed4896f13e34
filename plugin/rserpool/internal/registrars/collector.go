package registrars

import (
	"strings"

	"github.com/coredns/coredns/plugin"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rserpool/coredns-rserpool/registrar/host"
)

// A Collector reads the counters of the running registrars when Prometheus asks for
// them, so that the metrics of a stopped registrar vanish. They have no label server:
// a registrar belongs to the process, not to a DNS server.
type Collector struct{ Set *Set }

// Describe implements prometheus.Collector.
func (c Collector) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range metrics(&host.Stats{}) {
		ch <- m.desc()
	}
	ch <- poolElements
	ch <- poolSelections
	ch <- poolsUnlisted
}

// Collect implements prometheus.Collector.
func (c Collector) Collect(ch chan<- prometheus.Metric) {
	for _, s := range c.Set.inUse() {
		stats := s.Stats()
		for _, m := range metrics(&stats) {
			m.collect(s.options.String(), ch)
		}
		s.collectPools(ch)
	}
}

// subsystem is the plugin's name in those of its metrics.
const subsystem = "rserpool"

// metric is a metric of a registrar with its present values: one, or one for each
// value of its label.
type metric struct {
	name, help string
	label      string // empty if there is none
	of         []string
	values     []uint64
}

// collect sends the values.
func (m metric) collect(registrar string, ch chan<- prometheus.Metric) {
	kind, desc := prometheus.GaugeValue, m.desc()
	if strings.HasSuffix(m.name, "_total") {
		kind = prometheus.CounterValue
	}
	for i, v := range m.values {
		labels := []string{registrar}
		if m.label != "" {
			labels = append(labels, m.of[i])
		}
		ch <- prometheus.MustNewConstMetric(desc, kind, float64(v), labels...)
	}
}

func (m metric) desc() *prometheus.Desc {
	labels := []string{"registrar"}
	if m.label != "" {
		labels = append(labels, m.label)
	}
	return prometheus.NewDesc(prometheus.BuildFQName(plugin.Namespace, subsystem, m.name), m.help, labels, nil)
}
