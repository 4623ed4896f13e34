package soak

import (
	"fmt"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// killed kills a server without a word, and starts another one with its Corefile. It returns
// when that was started.
func (s *server) killed() (again *server, started time.Time) {
	s.t.Helper()
	corefile, err := os.ReadFile(s.file)
	if err != nil {
		s.t.Fatal(err)
	}
	_ = s.cmd.Process.Kill()
	<-s.exited
	started = time.Now()
	return startServer(s.t, s.ports, string(corefile)), started
}

// TestComeBack: the lone registrar is killed and starts again. Without its state, the
// elements come back by themselves; with it, the registrar calls them. Each is back soon, and
// not all in one moment.
func TestComeBack(t *testing.T) {
	outside(t)
	n, rounds := 200, 2
	if *long {
		n, rounds = 10_000, 5
	}
	for _, options := range []string{"", "state " + t.TempDir()} {
		name := "cold"
		if options != "" {
			name = "warm"
		}
		t.Run(name, func(t *testing.T) { comeBack(t, n, rounds, options) })
	}
}

func comeBack(t *testing.T, n, rounds int, options string) {
	p := freePorts(t, "127.0.0.1")
	s := startServer(t, p, p.corefile(options, "errors"))
	x := startThrong(t, p, "web", n)
	x.all(4 * patience)
	for range rounds {
		// Until the elements know how often they are asked.
		time.Sleep(5 * time.Second)
		x.again()
		before := x.cpu()
		var started time.Time
		s, started = s.killed()
		serving := time.Since(started)
		back := x.all(4 * patience)
		theirs, ours := x.cpu()-before, s.cpu()
		t.Logf("it serves after %v; its elements are back %s; %d were called and did not register, %d could not connect at first", serving.Round(time.Millisecond), since(started, back.Back), back.Resumed, back.Vain)
		judgeReturn(t, s, back.Back[n-1].Sub(started), ours, theirs, n)
		want := n / 2
		if *long { // an element that has not been called after 2.6 s comes by itself, at the same cost
			want = n / 10
		}
		if options != "" && back.Resumed < want {
			t.Errorf("%d of %d registrations stand again, want at least %d", back.Resumed, n, want)
		}
		eventually(t, "all elements", func() error {
			total, err := s.total()
			if err == nil && total != n {
				err = fmt.Errorf("%d of %d", total, n)
			}
			return err
		})
	}
}

// judgeReturn judges how long n elements have taken to be back, and the processor time of the
// registrar and of the elements meanwhile. Elements notice the end of their registrar within
// 2.6 s. All of them run on this machine, so that their processor time comes on top of that. The
// registrar's alone is what a server of its own would need.
func judgeReturn(t *testing.T, s *server, took, ours, theirs time.Duration, n int) {
	t.Helper()
	asked := time.Duration(s.metric("coredns_rserpool_keepalives_acked_total"))
	each := func(d time.Duration) time.Duration { return (d / time.Duration(n)).Round(10 * time.Microsecond) }
	t.Logf("processor time with the start and %d keep-alives: %v of the registrar (%v an element), %v of the elements (%v)", asked, ours, each(ours), theirs, each(theirs))
	// The race detector, or a guest of a busy machine, takes several times as much.
	if want := startTime + time.Duration(n)*returnTime + asked*askTime; *long && ours > want {
		t.Errorf("the registrar took %v of processor time, want at most %v", ours, want)
	}
	if want := 3*time.Second + (ours+theirs)/time.Duration(runtime.NumCPU()) + slack(); took > want {
		t.Errorf("all elements are back after %v, want %v", took.Round(time.Millisecond), want.Round(time.Millisecond))
	}
}

// The bounds of the registrar's processor time: of its start, for each element that comes back,
// and for each keep-alive. They are twice what a machine takes that other programs also use.
const (
	startTime  = 300 * time.Millisecond
	returnTime = 500 * time.Microsecond
	askTime    = 400 * time.Microsecond
)

// TestStoppedForLong: an element is suspended until its association with the registrar is
// lost. It registers at once when it runs on.
func TestStoppedForLong(t *testing.T) {
	outside(t)
	if !*long {
		t.Skip("takes a minute")
	}
	_, w, elements := startSome(t, portsFor(t, "udp"), "", 3)
	e := elements[0]
	e.signal(syscall.SIGSTOP)
	w.Out(e.id, e.at)
	time.Sleep(time.Until(e.at.Add(time.Minute))) // SCTP gives up after 40 s
	e.signal(syscall.SIGCONT)
	back := w.In(e.id, e.at)
	t.Logf("back %v after SIGCONT", back)
	if back > 200*time.Millisecond+slack() {
		t.Errorf("the element is back %v after SIGCONT, want 200ms at most", back)
	}
}

// since says when a half, 99 % and all of sorted times were, and how many were in the
// busiest tenth of a second.
func since(start time.Time, list []time.Time) string {
	after := func(i int) time.Duration { return list[i].Sub(start).Round(time.Millisecond) }
	busiest, first := 0, 0
	for i := range list {
		for list[i].Sub(list[first]) > 100*time.Millisecond {
			first++
		}
		busiest = max(busiest, i-first+1)
	}
	n := len(list)
	return fmt.Sprintf("after %v (a half), %v (99 %%), %v (all), at most %d in 0.1 s", after(n/2), after(n*99/100), after(n-1), busiest)
}
