package rserpool

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/metrics"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Metrics of the DNS side. Those of registrars are in internal/registrars.
var (
	answersCount = promauto.NewCounterVec(prometheus.CounterOpts{
		Namespace: plugin.Namespace,
		Subsystem: pluginName,
		Name:      "answers_total",
		Help:      "Queries in the plugin's zones.",
	}, []string{"server", "kind"})

	selectionsCount = promauto.NewCounterVec(prometheus.CounterOpts{
		Namespace: plugin.Namespace,
		Subsystem: pluginName,
		Name:      "selections_total",
		Help:      "Selections from pools for DNS answers.",
	}, []string{"server", "kind"})

	shortenedCount = promauto.NewCounterVec(prometheus.CounterOpts{
		Namespace: plugin.Namespace,
		Subsystem: pluginName,
		Name:      "answers_shortened_total",
		Help:      "DNS answers from which pool elements were removed to fit into the client's buffer.",
	}, []string{"server"})

	cutNoEDNSCount = promauto.NewCounterVec(prometheus.CounterOpts{
		Namespace: plugin.Namespace,
		Subsystem: pluginName,
		Name:      "srv_shortened_no_edns_total",
		Help:      "SRV answers without some of the pool's elements because the client does not use EDNS.",
	}, []string{"server"})
)

// answerKind is the result of a query.
type answerKind uint8

const (
	answerData answerKind = iota
	answerNoData
	answerNameError
	answerFallthrough
	answerNotReady
	answerRefused
	answerReferral
	answerKinds
)

// String is the value of the label kind.
func (k answerKind) String() string {
	return [answerKinds]string{"data", "nodata", "nxdomain", "fallthrough", "not_ready", "refused", "referral"}[k]
}

// serverCounters are the counters of one server.
type serverCounters struct {
	server        string
	answers       [answerKinds]prometheus.Counter
	selected      prometheus.Counter
	reused        prometheus.Counter
	shortenedOnes prometheus.Counter
	cutNoEDNS     prometheus.Counter
}

func newServerCounters(server string) *serverCounters {
	c := &serverCounters{
		server:        server,
		selected:      selectionsCount.WithLabelValues(server, "new"),
		reused:        selectionsCount.WithLabelValues(server, "reused"),
		shortenedOnes: shortenedCount.WithLabelValues(server),
		cutNoEDNS:     cutNoEDNSCount.WithLabelValues(server),
	}
	for k := range answerKinds {
		c.answers[k] = answersCount.WithLabelValues(server, k.String())
	}
	return c
}

func (c *serverCounters) answer(k answerKind) { c.answers[k].Inc() }

func (c *serverCounters) selection(reused bool) {
	if reused {
		c.reused.Inc()
	} else {
		c.selected.Inc()
	}
}

func (c *serverCounters) shortened() { c.shortenedOnes.Inc() }

// counters finds the counters of the server that handles a query. There are as
// many as the handler's server block has listeners.
type counters struct {
	known atomic.Pointer[[]*serverCounters]
	mu    sync.Mutex // held to add one
}

func (cs *counters) of(ctx context.Context) *serverCounters {
	server := metrics.WithServer(ctx)
	if c := cs.find(server); c != nil {
		return c
	}
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if c := cs.find(server); c != nil {
		return c
	}
	c := newServerCounters(server)
	known := []*serverCounters{c}
	if had := cs.known.Load(); had != nil {
		known = append(known, *had...)
	}
	cs.known.Store(&known)
	return c
}

func (cs *counters) find(server string) *serverCounters {
	known := cs.known.Load()
	if known == nil {
		return nil
	}
	for _, c := range *known {
		if c.server == server {
			return c
		}
	}
	return nil
}
