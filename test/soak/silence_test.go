package soak

import (
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/test/looks"
)

// detection is how long a hung element may be named with the timers' defaults: a
// KEEP-ALIVE-INTERVAL with its jitter, and the repeats.
const detection = 3600 * time.Millisecond

// slack is what a bound may be missed by. In the short form the machine may be so busy that
// round trips take long, for which the repeats wait: up to KEEP-ALIVE-TIMEOUT.
func slack() time.Duration {
	switch {
	case inLab():
		return 4 * time.Second
	case *long:
		return 100 * time.Millisecond
	}
	return 2 * time.Second
}

// TestAllStopped: all elements of a pool are suspended, which looks as if the
// registrar's own network had failed. The pool is answered all along, also over a
// reload, and all is as before within a second after the elements run on.
func TestAllStopped(t *testing.T) {
	outside(t)
	allStopped(t, "udp")
}

// TestLabAllStopped is the same over kernel SCTP.
func TestLabAllStopped(t *testing.T) {
	needLab(t)
	allStopped(t, "auto")
}

func allStopped(t *testing.T, transport string) {
	d := 7 * time.Second
	switch {
	case *long:
		d = time.Minute
	case inLab():
		d = 10 * time.Second
	}
	// With few elements it is the pool that is guarded, with ten or more the registrar
	// takes its own side for the cause.
	t.Run("pool's guard", func(t *testing.T) { t.Parallel(); stopAll(t, portsFor(t, transport), 6, false, d) })
	if inLab() && !*long {
		return
	}
	t.Run("registrar's guard", func(t *testing.T) { t.Parallel(); stopAll(t, portsFor(t, transport), 12, true, d) })
}

func stopAll(t *testing.T, p ports, n int, registrar bool, d time.Duration) {
	text := func(ttl int) string { return p.corefile(fmt.Sprintf("ttl %d\nanswers 32", ttl), "errors") }
	s := startServer(t, p, text(0))
	elements := p.processes(t, "web", 1, n)
	w := s.look("web")
	w.All(n)
	s.asked(n)
	perf := startDNSPerf(t, p, 200)
	stopped := time.Now()
	for _, e := range elements {
		e.signal(syscall.SIGSTOP)
	}
	settled := stopped
	if !registrar {
		eventually(t, "the judgement of all", func() error {
			got, err := s.metrics("coredns_rserpool_suspects")
			if err == nil && got != float64(n) {
				err = fmt.Errorf("%v suspects", got)
			}
			return err
		})
		settled = time.Now().Add(100 * time.Millisecond) // the answers follow
		if took := settled.Sub(stopped); took > detection+slack() && (*long || !inLab()) {
			t.Errorf("all elements are judged after %v, want %v at most", took, detection)
		}
	}
	time.Sleep(time.Until(stopped.Add(d / 2)))
	if !s.reload(text(1)) {
		t.Error("the reload fails")
	}
	time.Sleep(max(time.Until(stopped.Add(d)), d/5))
	suspects, pools, guarded := s.metric("coredns_rserpool_suspects"), s.metric("coredns_rserpool_pools_guarded"), s.metric("coredns_rserpool_registrar_guarded")
	t.Logf("after %v: %v suspects, %v pools guarded, registrar guarded: %v", d, suspects, pools, guarded)
	woken := time.Now()
	for _, e := range elements {
		e.signal(syscall.SIGCONT)
	}
	complete := func(l looks.Look) bool { return len(l.IDs) == n }
	w.Until("all elements", woken, 4*patience, complete)
	time.Sleep(time.Second) // in which all is as before
	normal := w.Settled(woken, complete)
	perf.judge(t)
	w.NeverEmpty(stopped)

	part := 0
	for _, l := range w.Between(settled, woken) {
		if !complete(l) {
			part++
		}
	}
	t.Logf("%d answers without some of the elements, after the elements were judged; all are named at all times from %v after SIGCONT on", part, normal.Round(time.Millisecond))
	if part > 0 {
		t.Errorf("%d answers are without some of the elements, though all are silent", part)
	}
	if normal > time.Second+slack() {
		t.Errorf("all elements are named %v after SIGCONT, want a second at most", normal)
	}
	wantSuspects, wantPools, wantGuarded := float64(n), 1.0, 0.0
	if registrar {
		wantSuspects, wantPools, wantGuarded = 0, 0, 1
	}
	if suspects != wantSuspects || pools != wantPools || guarded != wantGuarded {
		t.Errorf("%v suspects, %v pools guarded, registrar guarded %v; want %v, %v, %v", suspects, pools, guarded, wantSuspects, wantPools, wantGuarded)
	}
	for _, name := range []string{"suspects", "pools_guarded", "registrar_guarded"} {
		if v := s.metric("coredns_rserpool_" + name); v != 0 {
			t.Errorf("%s is %v when all elements are back", name, v)
		}
	}
	if n := s.metric("coredns_rserpool_registrations_total"); n != float64(len(elements)) {
		t.Errorf("%v elements were registered as new ones, want %d", n, len(elements))
	}
}

// TestSomeStopped: one element in three is suspended. Each is out of the answers
// after the time of detection, and back at once when it runs on.
func TestSomeStopped(t *testing.T) {
	outside(t)
	someStopped(t, "udp")
}

// TestLabSomeStopped is the same over kernel SCTP.
func TestLabSomeStopped(t *testing.T) {
	needLab(t)
	someStopped(t, "auto")
}

func someStopped(t *testing.T, transport string) {
	n, rounds := 12, 1
	switch {
	case *long && inLab():
		rounds = 5
	case *long:
		n, rounds = 30, 10
	case inLab():
		n = 6
	}
	t.Run("interval 2s", func(t *testing.T) {
		t.Parallel()
		stopSome(t, portsFor(t, transport), "", n, rounds, detection)
	})
	if inLab() { // TestLabKill has the rest
		return
	}
	t.Run("interval 500ms", func(t *testing.T) {
		t.Parallel()
		stopSome(t, portsFor(t, transport), "timer KEEP-ALIVE-INTERVAL 500ms", n, rounds, 2*time.Second)
	})
	t.Run("killed", func(t *testing.T) {
		t.Parallel()
		killSome(t, portsFor(t, transport), n, rounds)
	})
}

// startSome starts a server and its elements.
func startSome(t *testing.T, p ports, options string, n int) (*server, *looks.Looks, []*process) {
	t.Helper()
	s := startServer(t, p, p.corefile("ttl 0\nanswers 32\n"+options, "errors"))
	elements := p.processes(t, "web", 1, n)
	w := s.look("web")
	w.All(n)
	s.asked(n)
	return s, w, elements
}

// asked waits until each of n elements has acknowledged a keep-alive: from then on the
// registrar knows the time of a round trip.
func (s *server) asked(n int) {
	s.t.Helper()
	eventually(s.t, "acknowledgements of all", func() error {
		got, err := s.metrics("coredns_rserpool_keepalives_acked_total")
		if err == nil && got < float64(n) {
			err = fmt.Errorf("%v", got)
		}
		return err
	})
	// Some may have two. The last one is asked within an interval.
	time.Sleep(detection - 1400*time.Millisecond)
}

// third sends a signal to each third element, at different times between two
// keep-alives, and gives those.
func third(elements []*process, round int, s syscall.Signal) (list []*process) {
	for i, e := range elements {
		if i%3 == round%3 {
			time.Sleep(97 * time.Millisecond)
			e.signal(s)
			list = append(list, e)
		}
	}
	return list
}

// stay checks that the elements, but for some, are in all answers since a time.
func stay(t *testing.T, w *looks.Looks, elements, but []*process, since time.Time) {
	t.Helper()
	for _, l := range w.Between(since, time.Now()) {
		for _, e := range elements {
			if l.Err == nil && !l.IDs[e.id] && !slices.Contains(but, e) {
				t.Errorf("element %08x, which runs, is not named after %v", e.id, l.Sent.Sub(since))
				return
			}
		}
	}
}

func stopSome(t *testing.T, p ports, options string, n, rounds int, bound time.Duration) {
	s, w, elements := startSome(t, p, options, n)
	var out, back []time.Duration
	start := time.Now()
	for round := range rounds {
		begin := time.Now()
		stopped := third(elements, round, syscall.SIGSTOP)
		for _, e := range stopped {
			out = append(out, w.Out(e.id, e.at))
		}
		if round%2 == 1 {
			time.Sleep(5 * time.Second) // the registrar asks more seldom then
		}
		stay(t, w, elements, stopped, begin)
		for _, e := range stopped {
			e.signal(syscall.SIGCONT)
			back = append(back, w.In(e.id, e.at))
		}
	}
	w.NeverEmpty(start)
	t.Logf("out %s after SIGSTOP", looks.Spread(out))
	t.Logf("back %s after SIGCONT", looks.Spread(back))
	if worst := out[len(out)-1]; worst > bound+slack() {
		t.Errorf("a suspended element is named for %v, want %v at most", worst, bound)
	}
	if worst := back[len(back)-1]; worst > 200*time.Millisecond+slack() {
		t.Errorf("an element is back %v after SIGCONT, want 200ms at most", worst)
	}
	if median := back[len(back)/2]; median > 200*time.Millisecond && *long {
		t.Errorf("the median of the elements is back %v after SIGCONT, want 200ms at most", median)
	}
	if v := s.metric("coredns_rserpool_registrations_total"); v != float64(n) {
		t.Errorf("%v elements were registered as new ones, want %d", v, n)
	}
}

// killSome: a killed element is out of the answers with the next keep-alive, which its
// machine refuses; over kernel SCTP at once.
func killSome(t *testing.T, p ports, n, rounds int) {
	_, w, elements := startSome(t, p, "", n)
	var out []time.Duration
	start, next := time.Now(), uint32(n)
	for round := range rounds {
		begin := time.Now()
		killed := third(elements, round, syscall.SIGKILL)
		for _, e := range killed {
			out = append(out, w.Out(e.id, e.at))
		}
		stay(t, w, elements, killed, begin)
		for _, e := range killed {
			next++
			elements[slices.Index(elements, e)] = p.process(t, "web", next)
		}
		w.All(n)
	}
	w.NeverEmpty(start)
	t.Logf("out %s after kill -9", looks.Spread(out))
	bound := 2200*time.Millisecond + slack()
	if p.transport == "auto" {
		bound = 200*time.Millisecond + slack()
	}
	if worst := out[len(out)-1]; worst > bound {
		t.Errorf("a killed element is named for %v, want %v at most", worst, bound)
	}
}
