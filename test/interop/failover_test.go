package interop

import (
	"fmt"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap/pu"
	"github.com/rserpool/coredns-rserpool/internal/services"
	"github.com/rserpool/coredns-rserpool/rserpool"
	"github.com/rserpool/coredns-rserpool/test/here"
)

// pool is a pool of our elements, one on each node, which are killed and started again.
type pool struct {
	l     *lab
	via   rserpool.Via
	nodes []*node
	procs []*proc
	ids   []rserpool.PEID
	last  rserpool.PEID
}

// pool starts CoreDNS and as many elements.
func (l *lab) pool(via rserpool.Via, elements int) *pool {
	l.t.Helper()
	l.node("r1", registrarIP+"/24").coredns(registrarIP, corefile())
	p := &pool{l: l, via: via, procs: make([]*proc, elements), ids: make([]rserpool.PEID, elements)}
	for i := range elements {
		p.nodes = append(p.nodes, l.node(fmt.Sprintf("pe%d", i+1), fmt.Sprintf("10.99.0.1%d/24", i+1)))
		p.start(i)
	}
	p.wait()
	return p
}

func (p *pool) start(i int) {
	p.last++
	p.ids[i] = p.last
	p.procs[i] = p.nodes[i].role(role{Service: "pingpong", ID: p.last, Via: p.via.String()})
}

// wait waits until all elements are registered.
func (p *pool) wait() {
	p.l.t.Helper()
	p.l.registered(registrarIP, "pingpong", len(p.nodes))
}

// fail sends a signal to the element that serves the session. It returns what is closed
// when the process has ended, and a function that starts a new one in its place.
func (p *pool) fail(s *conversation, sig syscall.Signal) (ended <-chan struct{}, renew func()) {
	p.l.t.Helper()
	i := slices.Index(p.ids, s.element())
	if i < 0 {
		p.l.t.Fatalf("session with element %v, there are only %v", s.element(), p.ids)
	}
	p.procs[i].kill(sig)
	return p.procs[i].exited, func() {
		p.procs[i].kill(syscall.SIGKILL)
		p.procs[i].wait()
		p.start(i)
		p.wait()
	}
}

// times are durations, and what they are.
type times struct {
	what string
	list []time.Duration
}

// at returns the duration within which the given part of all are.
func (d *times) at(part float64) time.Duration {
	slices.Sort(d.list)
	return d.list[min(len(d.list)-1, int(part*float64(len(d.list))))]
}

func (d *times) String() string {
	ms := func(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }
	return fmt.Sprintf("%s: median %v, 99th percentile %v, of %d", d.what, ms(d.at(0.5)), ms(d.at(0.99)), len(d.list))
}

func (d *times) add(took time.Duration) { d.list = append(d.list, took) }

// most fails the test if the durations are greater than the ceilings. On a slow or busy
// machine the ceilings are a multiple of what slow cases without a failure take.
func (d *times) most(t *testing.T, median, p99 time.Duration, multiple int, load *times) {
	t.Helper()
	t.Log(d)
	if got, ceiling := d.at(0.5), max(here.Paced(t, median), time.Duration(multiple)*load.at(0.9)); got > ceiling {
		t.Errorf("%s: median %v, want at most %v", d.what, got, ceiling)
	}
	if got, ceiling := d.at(0.99), max(here.Paced(t, p99), time.Duration(multiple)*load.at(0.99)); got > ceiling {
		t.Errorf("%s: 99th percentile %v, want at most %v", d.what, got, ceiling)
	}
}

// failures has one session of pings fail over again and again.
type failures struct {
	t       *testing.T
	p       *pool
	u       *pu.User
	s       *conversation
	n       uint64
	mu      sync.Mutex
	failing time.Time // when the session noticed
	// all is from the failure to the next element's answer, notice and again are its parts,
	// and healthy is a new session up to its first answer. unseen is how much later a failure
	// was noticed than the killed process had ended: to end it takes the kernel of some guests
	// longer than all that we do.
	all, notice, unseen, again, healthy times
}

func (p *pool) failures(t *testing.T, answer time.Duration) *failures {
	t.Helper()
	f := &failures{t: t, p: p, u: p.l.user(pu.Config{Via: p.via}),
		all: times{what: "from failure to answer"}, notice: times{what: "from failure to detection"},
		unseen: times{what: "from the end of the process to detection"}, again: times{what: "from detection to answer"},
		healthy: times{what: "a new session to its first answer"}}
	f.s = dial(t, f.u, pu.SessionConfig{
		Pool: "pingpong", PPID: services.PPIDPingPong, Unacked: pu.Resend, AnswerTimeout: answer,
		Notify: func(ev pu.SessionEvent) {
			if ev.Type == pu.ElementFailing {
				f.mu.Lock()
				f.failing = time.Now()
				f.mu.Unlock()
			}
		},
	})
	return f
}

// once has the element fail at rest.
func (f *failures) once(sig syscall.Signal) {
	f.t.Helper()
	f.load()
	for range 3 {
		f.n++
		f.s.ping(f.n)
	}
	start := time.Now()
	ended, renew := f.p.fail(f.s, sig)
	end := make(chan time.Time, 1)
	go func() {
		<-ended
		end <- time.Now()
	}()
	f.n++
	f.s.ping(f.n)
	answered := time.Now()
	f.mu.Lock()
	failing := f.failing
	f.mu.Unlock()
	f.all.add(answered.Sub(start))
	f.again.add(answered.Sub(failing))
	f.notice.add(failing.Sub(start))
	renew()
	f.unseen.add(max(0, failing.Sub(<-end)))
}

// load measures a session without a failure.
func (f *failures) load() {
	f.t.Helper()
	start := time.Now()
	s := dial(f.t, f.u, pu.SessionConfig{Pool: "pingpong", PPID: services.PPIDPingPong})
	s.ping(1)
	f.healthy.add(time.Since(start))
	_ = s.Close()
}

// TestFailoverTime: elements fail again and again over kernel SCTP.
func TestFailoverTime(t *testing.T) {
	l := newLab(t)
	p := l.pool(rserpool.ViaKernel, 3)
	const median, p99 = 20 * time.Millisecond, 100 * time.Millisecond
	const worst = 500 * time.Millisecond // the 99th percentile of few is one of them
	t.Run("killed", func(t *testing.T) { // kill -9
		f := p.failures(t, 0)
		for range often(50, 10) {
			f.once(syscall.SIGKILL)
		}
		t.Log(&f.healthy)
		t.Log(&f.notice)
		if *long {
			t.Log(&f.again)
			f.all.most(t, median, p99, 4, &f.healthy)
			return
		}
		t.Log(&f.all)
		f.unseen.most(t, median, worst, 4, &f.healthy)
		f.again.most(t, median, worst, 4, &f.healthy)
	})
	// They are stopped. Their kernel acknowledges the messages, and nobody answers.
	t.Run("hung", func(t *testing.T) {
		const patience = 500 * time.Millisecond
		f := p.failures(t, patience)
		for range often(10, 5) {
			f.once(syscall.SIGSTOP)
		}
		if f.all.at(0.5) > patience+median { // a few say little on a machine that also does other things
			t.Log(&f.all)
			for range 20 {
				f.once(syscall.SIGSTOP)
			}
		}
		t.Log(&f.healthy)
		t.Log(&f.notice)
		f.again.most(t, median, worst, 4, &f.healthy)
		for i := range f.all.list {
			f.all.list[i] -= patience
		}
		f.all.what += ", without the 500 ms that the session waits"
		f.all.most(t, median, worst, 4, &f.healthy)
	})
}

// TestFailoverTimeUDP: the same over SCTP in UDP, with a round trip of 40 ms. The next
// element has the cookie two and a half round trips after the failure was noticed, so that
// its answer is here after three. Something is sent, so ICMP tells of the failure within
// one round trip.
func TestFailoverTimeUDP(t *testing.T) {
	l := newLab(t)
	p := l.pool(rserpool.ViaUDP, 3)
	const oneWay = 20 * time.Millisecond
	for _, n := range p.nodes {
		l.sh("tc qdisc add dev " + n.ports[0] + " root netem delay 20ms")
		l.sh("ip netns exec " + n.name + " tc qdisc add dev eth0 root netem delay 20ms")
	}
	f := p.failures(t, 0)
	for range often(10, 5) {
		f.once(syscall.SIGKILL)
	}
	t.Log(&f.healthy)
	t.Log(&f.notice)
	const trip, slack = 2 * oneWay, 15 * time.Millisecond
	f.again.most(t, 3*trip+slack, 5*trip, 3, &f.healthy)
	f.all.most(t, 4*trip+slack, 6*trip, 3, &f.healthy)
}
