package hostile

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/rserpool/coredns-rserpool/asap/pe"
	"github.com/rserpool/coredns-rserpool/rserpool"
	"github.com/rserpool/coredns-rserpool/test/here"
)

const (
	// honestPool has honestElements elements with identifiers from 1 on.
	honestPool     = "web"
	honestElements = 6
	// wholeAnswer is how many SRV records fit into 512 octets.
	wholeAnswer = 9
	// askEvery is the pace of the honest DNS client.
	askEvery = 10 * time.Millisecond
	// lateAnswer bounds the 99th percentile of its waiting times.
	lateAnswer = 250 * time.Millisecond
)

// honest are pool elements that want to stay registered, and a DNS client that
// asks for them all the time.
type honest struct {
	t        *testing.T
	s        *server
	elements int
	stop     context.CancelFunc
	wg       sync.WaitGroup

	mu     sync.Mutex
	lost   []string
	late   []here.Span
	stalls *here.Stalls // of the machine, in the kernel lab
	wrong  []string
}

// beHonest starts that many elements, and returns when all are registered.
func (s *server) beHonest(elements int) *honest {
	s.t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	h := &honest{t: s.t, s: s, elements: elements, stop: stop}
	s.t.Cleanup(h.end)
	up := make(chan struct{}, elements)
	for id := range elements {
		h.element(ctx, rserpool.PEID(id+1), up)
	}
	patience := time.After(here.Paced(s.t, 30*time.Second))
	for range elements {
		select {
		case <-up:
		case <-patience:
			s.t.Fatal("honest elements are not registered in time")
		}
	}
	timeout := 2 * time.Second
	if inLab() {
		timeout = here.Paced(s.t, 10*time.Second) // check judges how long it took
		h.stalls = here.WatchStalls(s.t)
	}
	h.wg.Go(func() { h.client(ctx, timeout) })
	wait(s.t, "metrics with all honest elements", func() bool { return s.stat("elements", "") == elements })
	return h
}

// element runs an honest element.
func (h *honest) element(ctx context.Context, id rserpool.PEID, up chan<- struct{}) {
	registered := false
	e, err := pe.Open(pe.Config{
		Pool:       honestPool,
		ID:         id,
		Transport:  rserpool.Transport{Type: rserpool.TCP, Port: 8000 + uint16(id), Addrs: []netip.Addr{loopback}},
		Policy:     rserpool.Policy{Type: rserpool.RoundRobin},
		Registrars: []string{fmt.Sprintf("%v/%d", h.s.asap, h.s.encap)},
		Via:        h.s.via,
		TLS:        h.s.tls,
		Notify: func(e pe.Event) {
			switch {
			case e.Type == pe.Registered && !registered:
				registered = true
				up <- struct{}{}
			case registered && ctx.Err() == nil && e.Type != pe.Reregistered:
				// A server that is not ready yet refuses, before any attack.
				h.mu.Lock()
				defer h.mu.Unlock()
				h.lost = append(h.lost, fmt.Sprintf("element %v %v: %v", id, time.Now().Format("05.000"), e))
			}
		},
	})
	if err != nil {
		h.t.Fatal(err)
	}
	h.wg.Go(func() {
		<-ctx.Done()
		_ = e.Close()
	})
}

// client asks at a steady pace.
func (h *honest) client(ctx context.Context, timeout time.Duration) {
	c := dns.Client{Timeout: timeout}
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		qtype := []uint16{dns.TypeA, dns.TypeSRV}[i%2]
		began := time.Now()
		m, _, err := c.Exchange(new(dns.Msg).SetQuestion(honestPool+"."+zone, qtype), h.s.dns)
		took := time.Since(began)
		h.mu.Lock()
		h.late = append(h.late, here.Span{From: began, Took: took})
		if what := h.wrongAnswer(m, err); what != "" {
			h.wrong = append(h.wrong, what)
		}
		h.mu.Unlock()
	}
}

// wrongAnswer says what is wrong with an answer, "" if nothing is.
func (h *honest) wrongAnswer(m *dns.Msg, err error) string {
	switch {
	case err != nil:
		return err.Error()
	case m.Rcode != dns.RcodeSuccess:
		return dns.RcodeToString[m.Rcode]
	}
	addrs, targets := 0, 0
	for _, rr := range m.Answer {
		switch rr := rr.(type) {
		case *dns.A:
			if rr.A.String() == loopback.String() {
				addrs++
			}
		case *dns.SRV:
			if id := rr.Port - 8000; id >= 1 && int(id) <= h.elements && rr.Target == fmt.Sprintf("pe-%08x.%s.%s", id, honestPool, zone) {
				targets++
			}
		}
	}
	if addrs != 1 && targets != min(h.elements, wholeAnswer) || len(m.Answer) != addrs+targets {
		return m.String()
	}
	return ""
}

// check reports what has gone wrong for honest peers so far.
func (h *honest) check() {
	h.t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.lost) > 0 {
		h.t.Errorf("honest elements were disturbed %d times: %s", len(h.lost), strings.Join(h.lost[:min(len(h.lost), 8)], "; "))
	}
	if len(h.wrong) > 0 {
		h.t.Errorf("%d of %d DNS answers are wrong: %s", len(h.wrong), len(h.late), h.wrong[0])
	}
	if len(h.late) == 0 {
		h.t.Error("the DNS client has not had a single answer")
		return
	}
	var late []time.Duration
	var stalls []here.Span
	if h.stalls != nil {
		stalls = h.stalls.Take()
	}
	for _, s := range h.late {
		late = append(late, s.Without(stalls))
	}
	slices.Sort(late)
	p50, p99 := late[len(late)/2], late[len(late)*99/100]
	h.t.Logf("DNS: %d answers, median %v, 99th percentile %v", len(late), p50, p99)
	if len(stalls) > 0 {
		longest := slices.MaxFunc(stalls, func(a, b here.Span) int { return cmp.Compare(a.Took, b.Took) })
		h.t.Logf("the machine has stood still %d times, for up to %v, which is left out", len(stalls), longest.Took)
	}
	if limit := here.Paced(h.t, lateAnswer*min(slow, 4)); p99 > limit {
		h.t.Errorf("99th percentile of DNS answers is %v, want at most %v", p99, limit)
	}
	h.late = nil
}

// stood are the times since the last check at which the machine stood still.
func (h *honest) stood() []here.Span {
	if h.stalls == nil {
		return nil
	}
	return h.stalls.All()
}

func (h *honest) end() {
	h.stop()
	h.wg.Wait()
}
