package sim

import (
	"os"
	"runtime/debug"
	"strconv"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/registrar"
)

// large is a scope of a size that few have. Registrars crash and are cut off
// while elements come and go.
func large(registrars, elements int) Config {
	return Config{
		Seed: 1, Registrars: registrars, Elements: elements,
		Start: 20 * time.Second, Refresh: 10 * time.Minute,
		Timers: registrar.Timers{
			KeepAliveInterval: 15 * time.Second,
			KeepAliveTimeout:  5 * time.Second,
			ProbeTimeout:      4 * time.Second,
			PeerHeartbeat:     10 * time.Second,
			MaxTimeLastHeard:  21 * time.Second,
			MaxTimeNoResponse: 5 * time.Second,
		},
		Sample: elements, LookGap: 10 * time.Second,
	}
}

// TestLarge: SIM_LARGE registrars, each with 100 elements; make sim has 100 of them. The work
// grows with the cube of their number.
func TestLarge(t *testing.T) {
	cfg := large(20, 500)
	if v := os.Getenv("SIM_LARGE"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 20 {
			t.Fatalf("SIM_LARGE=%s: want a number of registrars, 20 at least", v)
		}
		cfg = large(n, 100*n)
	}
	defer debug.SetGCPercent(debug.SetGCPercent(200)) // a million elements are much to look through
	began := time.Now()
	s := New(cfg)
	step := func(what string) {
		t.Helper()
		t.Logf("%4.1fs %10v %s: %d ENRP messages, %d of ASAP, at most %d of ENRP in a second", time.Since(began).Seconds(), s.net.now, what,
			s.net.sent.all(), s.net.sent.asap, s.storm.most)
		s.storm.most = 0
	}
	s.net.run(cfg.Start + 10*time.Second)
	step("started")
	s.checkAgreed()
	for range 3 {
		s.kill(s.servers[s.net.rand.IntN(len(s.servers))], 20*time.Second)
		s.net.run(2 * time.Second)
	}
	for range 50 {
		s.killElement(s.elements[s.net.rand.IntN(len(s.elements))])
		e := s.elements[s.net.rand.IntN(len(s.elements))]
		if e.h.proc != nil {
			e.leave()
		}
	}
	s.net.run(40 * time.Second)
	step("three taken over")
	s.checkAgreed()
	s.split(func(h *host) int { // a tenth of all is cut off
		if h.addr.As4()[3]%10 == 0 {
			return 1
		}
		return 0
	})
	s.net.run(75 * time.Second)
	step("cut")
	s.heal()
	s.net.run(50 * time.Second)
	step("healed")
	s.checkRest()
	step("at rest")
	if err := s.err(); err != nil {
		t.Error(err)
	}
}
