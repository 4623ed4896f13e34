package soak

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// TestReloadUnderLoad: reloads, some with a Corefile that cannot be, lose
// neither a query nor an association, and leave nothing behind.
func TestReloadUnderLoad(t *testing.T) {
	outside(t)
	reloads, every, rate := 20, 10, 500
	if *long {
		reloads, every, rate = 100, 10, 2000
	}
	p := freePorts(t, "127.0.0.1")
	const elements = 20
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()

	text := func(ttl int) string { return p.corefile(fmt.Sprintf("ttl %d", ttl), "errors") }
	broken := []string{
		"pool.example.org:0 {\n",
		p.corefile("ttl for ever", ""),
		p.corefile("timer KEEP-ALIVE-INTERVAL 7s", ""), // the registrar's options stay
		// Everything has begun when the taken port ends it. CoreDNS's pprof
		// would leave its listener behind then.
		strings.Replace(text(7), "pprof", "#", 1) + fmt.Sprintf("example.net:%d {\n\tbind 127.0.0.1\n\twhoami\n}\n", taken.Addr().(*net.TCPAddr).Port),
	}
	s := startServer(t, p, text(1))
	var members []*member
	home := map[netip.Addr]bool{}
	for i := range elements {
		addr := fmt.Sprintf("127.0.2.%d", i+1)
		home[netip.MustParseAddr(addr)] = true
		members = append(members, p.member(t, "web", uint32(i+1), addr))
	}
	// What the first reloads allocate once is not a leak.
	for i := range 3 {
		if !s.reload(text(1)) || i == 0 && s.reload(broken[0]) {
			t.Fatal("the reloads before the load do not go as they should")
		}
	}
	before := s.mustUsage()
	const associations = elements
	eventually(t, "counting of the associations", func() error {
		if n := s.metric("coredns_rserpool_associations_total"); n != associations {
			return fmt.Errorf("%v associations, want %d", n, associations)
		}
		return nil
	})

	var seen atomic.Int64
	a := ask(t, p.dnsAddr(), rate, 16, func(int64) question {
		return question{name: "web." + zone, qtype: dns.TypeA, check: func(m *dns.Msg, _ time.Time) error {
			if m.Rcode != dns.RcodeSuccess || len(m.Answer) != 1 {
				return fmt.Errorf("not one address:\n%v", m)
			}
			addr, _ := netip.AddrFromSlice(m.Answer[0].(*dns.A).A)
			if !home[addr.Unmap()] {
				return fmt.Errorf("no element has the address %v", addr)
			}
			seen.Store(int64(m.Answer[0].Header().Ttl))
			return nil
		}}
	})
	perf := startDNSPerf(t, p, rate)
	start := time.Now()
	refused := 0
	for i := range reloads {
		if i%every == every-1 {
			if s.reload(broken[refused%len(broken)]) {
				t.Errorf("reload %d succeeds with a broken Corefile:\n%s", i, broken[refused%len(broken)])
			}
			refused++
			continue
		}
		ttl := 2 + i%50
		if !s.reload(text(ttl)) {
			t.Fatalf("reload %d fails", i)
		}
		// The next ones come from the new instance.
		eventually(t, "answer of the new instance", func() error {
			if got := seen.Load(); got != int64(ttl) {
				return fmt.Errorf("TTL %d, want %d", got, ttl)
			}
			return nil
		})
	}
	took := time.Since(start)
	perf.judge(t)
	a.judge(t)
	for _, m := range members {
		m.undisturbed(t)
	}
	if got := s.metric("coredns_rserpool_associations_total"); got != associations {
		t.Errorf("%v associations came anew", got-associations)
	}
	if got := s.metric("coredns_rserpool_elements"); got != elements {
		t.Errorf("%v elements, want %d", got, elements)
	}
	if got := s.metric("coredns_rserpool_registrations_total"); got != elements {
		t.Errorf("%v registrations, want %d", got, elements)
	}
	after := s.atRest(usage{before.goroutines, before.files, before.heap + 4<<20})
	t.Logf("%d reloads, %d of them refused, in %v; before: %v; after: %v", reloads, refused, took.Round(time.Millisecond), before, after)
	for _, m := range members {
		m.leave(t)
	}
	if n, err := s.total(); err != nil || n != 0 {
		t.Errorf("%d elements, %v, when all have left", n, err)
	}
}

// outside skips in the kernel lab what runs on every machine.
func outside(t *testing.T) {
	t.Helper()
	if inLab() {
		t.Skip("runs outside of the lab")
	}
	if testing.Short() {
		t.Skip("takes more than two seconds")
	}
}
