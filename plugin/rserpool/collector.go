package rserpool

import (
	"github.com/coredns/coredns/plugin"
	"github.com/prometheus/client_golang/prometheus"

	core "github.com/rserpool/coredns-rserpool/registrar"
	"github.com/rserpool/coredns-rserpool/registrar/host"
)

func init() { prometheus.MustRegister(collector{process}) }

// collector reads the metrics of running registrars when they are asked for,
// so that those of a registrar that has stopped vanish. Its metrics have no
// label server: a registrar belongs to the process, not to a DNS server.
type collector struct{ registrars *registrars }

// Describe implements prometheus.Collector.
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	none := host.Stats{Stats: core.Stats{Homes: make([]core.HomeStats, 1)}} // a value of each
	last := ""
	for m := range none.All() {
		if m.Name != last {
			last = m.Name
			ch <- desc(m)
		}
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	for _, s := range c.registrars.snapshot() {
		stats := s.Stats()
		for m, v := range stats.All() {
			kind := prometheus.CounterValue
			if m.Gauge {
				kind = prometheus.GaugeValue
			}
			labels := []string{s.options.String()}
			if m.Label != "" {
				labels = append(labels, m.Value)
			}
			ch <- prometheus.MustNewConstMetric(desc(m), kind, float64(v), labels...)
		}
	}
}

func desc(m core.Metric) *prometheus.Desc {
	labels := []string{"registrar"}
	if m.Label != "" {
		labels = append(labels, m.Label)
	}
	return prometheus.NewDesc(prometheus.BuildFQName(plugin.Namespace, pluginName, m.Name), m.Help, labels, nil)
}
