package soak

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/trust/trusttest"
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

// TestComeBack: the lone registrar is killed and starts again, without TLS and with it. Without
// its state, the elements come back by themselves; with it, the registrar calls them. Each is
// back soon, and not all in one moment.
func TestComeBack(t *testing.T) {
	outside(t)
	c := comeBack{n: 200, rounds: 2}
	if *long {
		c.n, c.rounds = 10_000, 5
	}
	t.Run("cold", func(t *testing.T) { c.run(t, "") })
	t.Run("warm", func(t *testing.T) { c.run(t, "state "+t.TempDir()) })
	c.trusted = true
	if !*long {
		c.rounds = 1
	}
	t.Run("trusted cold", func(t *testing.T) { c.run(t, "") })
	t.Run("trusted warm", func(t *testing.T) { c.run(t, "state "+t.TempDir()) })
}

// TestComeBackLean is TestComeBack with elements that need little processor time, as if each had a
// machine of its own. All 10,000 are back as soon as those of a product have to be.
func TestComeBackLean(t *testing.T) {
	outside(t)
	if leanMain == nil {
		t.Skip("needs Linux")
	}
	c := comeBack{n: 200, rounds: 1, lean: true}
	if *long {
		c.n, c.rounds = 10_000, 5
	}
	t.Run("cold", func(t *testing.T) { c.run(t, "") })
	t.Run("warm", func(t *testing.T) { c.run(t, "state "+t.TempDir()) })
	c.trusted = true
	t.Run("trusted cold", func(t *testing.T) { c.run(t, "") })
}

// comeBack is how many elements come back, and how often.
type comeBack struct {
	n, rounds int
	trusted   bool // each has a certificate, and so has the registrar
	lean      bool // the elements are those of a lean throng
}

func (c comeBack) run(t *testing.T, options string) {
	n, warm := c.n, options != ""
	settle := 5 * time.Second
	if *long {
		settle = 40 * time.Second
	}
	p := freePorts(t, "127.0.0.1")
	var env []string
	if c.trusted {
		r := newRotation(t, p, n, trusttest.New(t, "example.org", time.Now()))
		// All elements share the processors of this machine, so that the registrar waits for
		// more of them at a time than it does for elements on machines of their own.
		options += "\n" + r.tls() + "\nlimit half_open 16384"
		env = append(env, throngTLSEnv+"="+r.dir)
	}
	if c.lean {
		env = append(env, leanEnv+"=1")
	}
	s := startServer(t, p, p.corefile(options, "errors"))
	x := startThrong(t, p, "web", n, env...)
	x.all(4 * patience)
	for range c.rounds {
		// Until the elements know how often they are asked: less often while many come, and then
		// not evenly at first.
		time.Sleep(settle)
		x.again()
		before, all := x.cpu(), busy(t)
		var started time.Time
		s, started = s.killed()
		serving := time.Since(started)
		back := x.all(4 * patience)
		theirs, ours := x.cpu()-before, s.cpu()
		others := busy(t) - all - theirs - ours
		t.Logf("it serves after %v; its elements are back %s; %d were called and did not register, %d could not connect at first", serving.Round(time.Millisecond), since(started, back.Back), back.Resumed, back.Vain)
		t.Logf("the last one: %s; all else on this machine used %v of processor time meanwhile", strings.Join(back.Last, "; "), others)
		c.judge(t, s, back.Back[n-1].Sub(started), ours, theirs)
		want := n / 2
		if *long { // an element that has not been called after 2.6 s comes by itself, at the same cost
			want = n / 10
		}
		if warm && back.Resumed < want {
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

// judge judges how long the elements have taken to be back, and the processor time of the
// registrar and of the elements meanwhile. Elements notice the end of their registrar within
// 2.6 s. All of them run on this machine, so that their processor time comes on top of that. The
// registrar's alone is what a server of its own would need.
func (c comeBack) judge(t *testing.T, s *server, took, ours, theirs time.Duration) {
	t.Helper()
	n, each, most := c.n, returnTime, time.Hour
	if c.trusted {
		each += handshakeTime
		if *long {
			most = trustedTime
		}
	}
	asked := time.Duration(s.metric("coredns_rserpool_keepalives_acked_total"))
	of := func(d time.Duration) time.Duration { return (d / time.Duration(n)).Round(10 * time.Microsecond) }
	t.Logf("processor time with the start, %d keep-alives and %v repeats: %v of the registrar (%v an element), %v of the elements (%v)", asked, s.metric("coredns_rserpool_keepalives_repeated_total"), ours, of(ours), theirs, of(theirs))
	// The race detector, or a guest of a busy machine, takes several times as much.
	if want := startTime + time.Duration(n)*each + asked*askTime; *long && ours > want {
		t.Errorf("the registrar took %v of processor time, want at most %v", ours, want)
	}
	want := min(most, 3*time.Second+(ours+theirs)/time.Duration(runtime.NumCPU())+slack())
	if c.lean && *long {
		if want = leanTime; c.trusted {
			want = trustedTime
		}
	}
	if took > want {
		t.Errorf("all elements are back after %v, want %v", took.Round(time.Millisecond), want.Round(time.Millisecond))
	}
}

// The bounds of the registrar's processor time: of its start, for each element that comes back,
// and for each keep-alive. They are twice what a machine takes that other programs also use.
const (
	startTime  = 300 * time.Millisecond
	returnTime = 500 * time.Microsecond
	askTime    = 400 * time.Microsecond
	// handshakeTime is what a handshake of TLS may cost the registrar.
	handshakeTime = 2 * time.Millisecond
	// leanTime is when 10,000 elements without TLS have to be back that cost next to nothing.
	leanTime = 3 * time.Second
	// trustedTime is when the 10,000 elements of a trusted scope have to be back.
	trustedTime = 15 * time.Second
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
