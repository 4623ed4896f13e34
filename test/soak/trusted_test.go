package soak

import (
	"fmt"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/rserpool/coredns-rserpool/internal/trust/trusttest"
)

// TestTrustedScope: very many elements with certificates are registered at one registrar. A
// tenth of them leaves and comes back, again and again, and the registrar's certificate is
// renewed meanwhile. No association is lost, no element is a suspect, no answer is empty, and
// the registrar's memory and goroutines stay as they are.
func TestTrustedScope(t *testing.T) {
	outside(t)
	const pool = "web"
	n, turns, interval := 100, 3, 500*time.Millisecond
	if *long {
		n, turns, interval = 10_000, 12, 10*time.Second
	}
	p := freePorts(t, "127.0.0.1")
	ca := trusttest.New(t, "example.org", time.Now())
	r := newRotation(t, p, n, ca)
	r.more = fmt.Sprint("timer KEEP-ALIVE-INTERVAL ", interval)
	r.server = startServer(t, p, r.text())
	empty := r.mustUsage()
	began := time.Now()
	x := startThrong(t, p, pool, n, throngTLSEnv+"="+r.dir)
	x.all(4 * patience)
	t.Logf("%d elements are registered after %v", n, time.Since(began).Round(time.Millisecond))
	associations := n
	r.undisturbed("registration", n, associations)
	a := ask(t, p.dnsAddr(), 200, 4, func(int64) question {
		// A slow machine may lose a question, but no answer may be wrong.
		late := func(time.Time) bool { return true }
		return question{name: pool + "." + zone, qtype: dns.TypeA, excuse: late, check: func(m *dns.Msg, _ time.Time) error {
			if m.Rcode != dns.RcodeSuccess || len(m.Answer) == 0 {
				return fmt.Errorf("no address:\n%v", m)
			}
			return nil
		}}
	})
	var used []usage
	for turn := range turns {
		from := turn % 10 * n / 10
		x.leave(from, from+n/10)
		r.settle("a tenth has left", n-n/10)
		if turn == turns/2 {
			r.renew(ca, time.Duration(1+turn)*time.Hour)
		}
		if news := x.join(from, from+n/10); news.Lost+news.Vain > 0 {
			t.Errorf("turn %d: %d elements have lost their registrar, %d could not connect at first", turn, news.Lost, news.Vain)
		}
		associations += n / 10
		r.undisturbed(fmt.Sprintf("turn %d", turn), n, associations)
		r.asked(n)
		used = append(used, r.mustUsage())
		t.Logf("turn %d, %v after the beginning: %v", turn, time.Since(began).Round(time.Second), used[turn])
	}
	a.judge(t)
	r.flat(used)
	late, suspected := r.metric("coredns_rserpool_keepalives_timed_out_total"), r.metric("coredns_rserpool_suspected_total")
	t.Logf("%v keep-alives were not acknowledged in time, %v times an element was a suspect", late, suspected)
	if *long && suspected > 0 { // the short form runs on machines that stand still for seconds
		t.Error("no element should have been a suspect")
	}
	for _, name := range []string{"tls_peers_refused_total", "transport_refused_total", "transport_overruns_total"} {
		if v := r.metric("coredns_rserpool_" + name); v != 0 {
			t.Errorf("%s is %v, want 0", name, v)
		}
	}
	for from := 0; from < n; from += n / 10 {
		x.leave(from, from+n/10)
	}
	r.settle("the end", 0)
	// Tables shrink late.
	after := r.atRest(usage{empty.goroutines, empty.files, empty.heap + (used[turns-1].heap-empty.heap)/5 + 2<<20})
	t.Logf("before: %v; after: %v", empty, after)
}

// renew gives the registrar a new certificate, and waits until it has that.
func (r *rotation) renew(ca *trusttest.CA, life time.Duration) {
	r.t.Helper()
	const end = "coredns_rserpool_tls_certificate_end_timestamp_seconds"
	before := r.metric(end)
	r.issue(ca, "ns1", ca.PEM(), life)
	r.reloaded(nobody(len(r.denied)))
	if now := r.metric(end); now <= before {
		r.t.Errorf("the registrar's certificate ends at %v, as before", now)
	}
}

// asked waits until n more keep-alives are acknowledged.
func (r *rotation) asked(n int) {
	r.t.Helper()
	const acked = "coredns_rserpool_keepalives_acked_total"
	before := r.metric(acked)
	eventuallyWithin(r.t, 4*patience, "keep-alives", func() error {
		v, err := r.metrics(acked)
		if err == nil && int(v-before) < n {
			err = fmt.Errorf("%v of %d", v-before, n)
		}
		return err
	})
}

// flat checks that no more is in use after the last turn than after the first one.
func (r *rotation) flat(used []usage) {
	r.t.Helper()
	first, last := used[0], used[len(used)-1]
	if most := first.heap + first.heap/20 + 1<<20; last.heap > most {
		r.t.Errorf("heap: %.1f MB after the first turn, %.1f MB after the last, want %.1f at most", float64(first.heap)/1e6, float64(last.heap)/1e6, float64(most)/1e6)
	}
	if last.goroutines > first.goroutines+8 || last.files > first.files+8 {
		r.t.Errorf("after the first turn: %v; after the last: %v", first, last)
	}
}
