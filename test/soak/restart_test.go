package soak

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/rserpool/coredns-rserpool/test/here"
	"github.com/rserpool/coredns-rserpool/test/looks"
)

var cold = flag.Bool("cold", false, "restart the registrar without `state`, for comparison")

// TestRestarts: a registrar that is alone is killed and started again, while elements
// register, deregister, are killed and hang, also while no registrar runs. No living
// pool is without an element in any answer, and nothing dead is named past the bounds.
// Questions fail only while no process serves.
func TestRestarts(t *testing.T) {
	outside(t)
	if *long {
		restart(t, "udp", 8, 1250, 100, 20, 1000, 5*time.Second)
	} else {
		restart(t, "udp", 2, 100, 10, 2, 300, 2*time.Second)
	}
}

// TestLabRestarts is the same over kernel SCTP, with few elements: a start takes the lab's
// processor ten seconds.
func TestLabRestarts(t *testing.T) {
	needLab(t)
	if !*long {
		t.Skip("with -long only; TestReferenceRestart has one start")
	}
	restart(t, "auto", 2, 20, 5, 4, 20, 10*time.Second)
}

// restart starts so many herds of elements, in pools, and asks for those at a rate; settle
// is how long it may take after a start until each element is known to live or not.
func restart(t *testing.T, transport string, herds, each, pools, rounds, rate int, settle time.Duration) {
	// A keep-alive takes 0.2 ms of processor time at each end, and both ends are here: with the
	// default of 5,000 a second, nothing would be left for restarts.
	const askRate = 2000
	options := fmt.Sprint("answers 32\ntimer KEEP-ALIVE-RATE ", askRate)
	if !*cold {
		options += "\nstate " + t.TempDir()
	}
	p := portsFor(t, transport)
	r := &restarts{stalls: here.WatchStalls(t), corefile: func(ttl int) string { return p.corefile(fmt.Sprint(options, "\nttl ", ttl), "errors") }}
	c := &churn{t: t, s: startServer(t, p, r.corefile(0)), kind: herdKind}
	r.churn = c
	// A dead element is called at the start, and its machine refuses that; one that hangs
	// is given time.
	turn := time.Duration(herds*each) * time.Second / askRate
	c.bounds = bounds{left: settle, closed: settle, killed: settle + max(2*time.Second, turn)*11/10, hung: settle + 3*time.Second + detection + turn}
	for i := range pools {
		c.pools = append(c.pools, fmt.Sprint("rr", i))
	}
	r.fill(herds, each)
	questions := ask(t, p.dnsAddr(), rate, 16, func(i int64) question {
		q := c.question(i)
		q.excuse = r.lost
		q.check = func(m *dns.Msg, sent time.Time) error {
			if r.down(sent) { // the bounds begin with the first answer
				return living(m)
			}
			return c.check(m, sent)
		}
		return q
	})
	stop := make(chan struct{})
	for i, h := range r.herds[1:] {
		r.movers.Go(func() { r.move(h, uint64(i), stop) })
	}
	for i := range rounds {
		r.round(i)
	}
	close(stop)
	r.movers.Wait()
	questions.judge(t)
	t.Logf("%d questions without an answer were sent while no process served", questions.excused.Load())
	for f := left; f < fates; f++ {
		t.Logf("%5d elements %-6s, named for %v after it or after the start, of %v allowed", c.ends[f].Load(), f, time.Duration(c.lags[f].Load()).Round(time.Millisecond), c.bounds[f])
		if c.ends[f].Load() == 0 {
			t.Errorf("no element %s", f)
		}
	}
	t.Logf("exit %s after kill -9", looks.Spread(r.exit))
	t.Logf("first answer %s after the exec", looks.Spread(r.first))
	t.Logf("without an answer for %s", looks.Spread(r.without))
	t.Logf("all elements were heard or removed %s after the first answer", looks.Spread(r.settled))
	t.Logf("%d elements in the end", c.alive())
	for _, s := range r.stalls.All() {
		t.Logf("the machine stood still at %s for %v", s.From.Format("15:04:05.000"), s.Took.Round(time.Millisecond))
	}
}

// restarts is the churn of TestRestarts.
type restarts struct {
	*churn
	corefile func(ttl int) string
	stalls   *here.Stalls
	herds    []*herd
	movers   sync.WaitGroup
	steps    sync.RWMutex // held by the movers' steps

	mu                            sync.Mutex
	downs                         [][2]time.Time // the second one is zero while no process serves
	exit, first, without, settled []time.Duration
}

// fill starts the herds. The first one are the anchors, which stay: each pool has some.
func (r *restarts) fill(herds, each int) {
	r.t.Helper()
	start := time.Now()
	errs := make(chan error, herds)
	for range herds {
		h := r.herd()
		r.herds = append(r.herds, h)
		go func() { errs <- h.fill(each) }()
	}
	for range herds {
		if err := <-errs; err != nil {
			r.t.Fatal(err)
		}
	}
	r.t.Logf("%d elements registered within %v", r.alive(), time.Since(start).Round(time.Millisecond))
}

// down tells whether no process served at a time.
func (r *restarts) down(at time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.downs, func(d [2]time.Time) bool {
		return at.After(d[0]) && (d[1].IsZero() || at.Before(d[1]))
	})
}

// lost tells whether a question that was sent at a time needs no answer: what a process
// has not answered is lost with it.
func (r *restarts) lost(sent time.Time) bool {
	unanswered := 50 * time.Millisecond
	if inLab() { // on a busy machine answers take as long there
		unanswered = 3 * time.Second
	}
	if r.down(sent) {
		return true
	}
	stalls := r.stalls.All()
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.downs, func(d [2]time.Time) bool {
		return !sent.After(d[0]) && here.Span{From: sent, Took: d[0].Sub(sent)}.Without(stalls) < unanswered
	})
}

// move has elements of a herd come and go.
func (r *restarts) move(h *herd, seed uint64, stop chan struct{}) {
	random := rand.New(rand.NewPCG(2, seed))
	for {
		select {
		case <-stop:
			return
		case <-time.After(20 * time.Millisecond):
		}
		r.steps.RLock()
		var err error
		if random.IntN(2) == 0 && len(h.elements) > 0 {
			r.leave(h, random.IntN(len(h.elements)))
		} else {
			err = h.join(r.pools[random.IntN(len(r.pools))])()
		}
		r.steps.RUnlock()
		if err != nil {
			r.t.Error(err)
			return
		}
	}
}

// leave has the i-th element end, in good order if a registrar is there. If none is, its
// socket is closed, and its machine says so to the next one.
func (r *restarts) leave(h *herd, i int) {
	id := h.elements[i]
	h.elements[i] = h.elements[len(h.elements)-1]
	h.elements = h.elements[:len(h.elements)-1]
	f := left
	if r.down(time.Now()) {
		f = closed
	}
	if err := h.crowd.do("leave %08x", id); err != nil || r.down(time.Now()) {
		f = closed
	}
	r.end(id, f, time.Now())
}

// round kills the server and starts it again, in odd rounds after two seconds.
func (r *restarts) round(i int) {
	r.t.Helper()
	doomed := r.herd()
	if err := doomed.fill(2 * len(r.pools)); err != nil {
		r.t.Fatal(err)
	}
	// The state is written once a second at most. Elements that came later have to register
	// again on their own.
	time.Sleep(2 * time.Second)
	f, sig := killed, syscall.SIGKILL
	if i%4 == 1 || i%4 == 2 {
		f, sig = hung, syscall.SIGSTOP
	}
	kill := func() {
		doomed.gone(f)
		doomed.crowd.signal(sig)
	}
	pause := 2 * time.Second * time.Duration(i%2)
	if pause == 0 {
		kill() // the registrar does not learn it any more
	}
	dead := time.Now()
	r.mu.Lock()
	r.downs = append(r.downs, [2]time.Time{dead})
	r.mu.Unlock()
	_ = r.s.cmd.Process.Kill()
	<-r.s.exited
	r.exit = append(r.exit, time.Since(dead))
	if pause > 0 {
		time.Sleep(pause / 2)
		r.leave(doomed, 0)
		kill()
		time.Sleep(pause / 2)
	}
	up := make(chan time.Time)
	exec := time.Now()
	go func() { up <- firstAnswer(r.s.dnsAddr()) }()
	r.s = startServer(r.t, r.s.ports, r.corefile(0))
	at := <-up
	r.up.Store(at.UnixNano())
	r.mu.Lock()
	r.downs[len(r.downs)-1][1] = at
	r.mu.Unlock()
	r.first = append(r.first, at.Sub(exec))
	r.without = append(r.without, r.exit[i]+r.first[i])
	loaded, err := r.s.total()
	if err != nil {
		r.t.Error(err)
	}
	if i%3 == 1 && !r.s.reload(r.corefile(i)) {
		r.t.Error("the reload fails")
	}
	r.settled = append(r.settled, r.settle(at))
	r.t.Logf("round %d: killed at %s, answers at %s: %d elements right after the start, with %d that live and %d %s; settled after %v", i, dead.Format("15:04:05.000"), at.Format("15:04:05.000"), loaded, r.alive(), r.ends[f].Load(), f, r.settled[i].Round(time.Millisecond))
	doomed.crowd.kill()
}

// firstAnswer asks until it gets an answer, and tells when that was.
func firstAnswer(addr string) time.Time {
	for {
		conn, err := net.Dial("udp", addr)
		if err != nil {
			panic(err)
		}
		c := &dns.Conn{Conn: conn}
		m := new(dns.Msg).SetQuestion(zone, dns.TypeSOA)
		_ = conn.SetDeadline(time.Now().Add(20 * time.Millisecond))
		if err = c.WriteMsg(m); err == nil {
			var r *dns.Msg
			if r, err = c.ReadMsg(); err == nil && !r.Response {
				err = errors.New("nobody listens there yet, and the query's own port is that one")
			}
		}
		conn.Close()
		if err == nil {
			return time.Now()
		}
		if inLab() { // its processor is slow
			pause()
		}
		time.Sleep(time.Millisecond)
	}
}

// settle waits until the registrar knows of each element whether it lives, and tells
// how long after a time that was. Then it has exactly those that live.
func (r *restarts) settle(since time.Time) (took time.Duration) {
	r.t.Helper()
	eventually(r.t, "end of all doubt", func() error {
		open, err := r.s.metrics("coredns_rserpool_elements_unconfirmed")
		if err != nil {
			return err
		}
		guarded, err := r.s.metrics("coredns_rserpool_registrar_guarded")
		if err == nil && (open > 0 || guarded > 0) {
			err = fmt.Errorf("%v unconfirmed, guarded: %v", open, guarded)
		}
		took = time.Since(since)
		return err
	})
	r.steps.Lock()
	defer r.steps.Unlock()
	eventually(r.t, "agreement about the number of elements", func() error {
		n, err := r.s.total()
		if err == nil && n != r.alive() {
			err = fmt.Errorf("%d elements, want %d; %s", n, r.alive(), r.missing())
		}
		return err
	})
	if *cold {
		took = time.Since(since)
	}
	return took
}
