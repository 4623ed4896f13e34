package rserpool

import (
	"strings"

	"github.com/coredns/coredns/plugin"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rserpool/coredns-rserpool/registrar/host"
)

func init() { prometheus.MustRegister(collector{process}) }

// collector reads the counters of the running registrars when Prometheus asks for
// them, so that the metrics of a stopped registrar vanish. They have no label server:
// a registrar belongs to the process, not to a DNS server.
type collector struct{ registrars *registrars }

// Describe implements prometheus.Collector.
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range registrarMetrics(&host.Stats{}) {
		ch <- m.desc()
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	for _, s := range c.registrars.snapshot() {
		stats := s.Stats()
		for _, m := range registrarMetrics(&stats) {
			m.collect(s.options.String(), ch)
		}
	}
}

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
	return prometheus.NewDesc(prometheus.BuildFQName(plugin.Namespace, pluginName, m.name), m.help, labels, nil)
}
