package soak

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// fate is how an element has gone.
type fate int32

const (
	registered fate = iota
	left            // it has deregistered
	closed          // its association was ended by its process, which lives on
	killed          // its process was killed: in user space, no message tells of it
	hung            // its process was suspended
	fates
)

func (f fate) String() string {
	return [...]string{"registered", "left", "closed", "killed", "hung"}[f]
}

// bounds say how long after that answers may name it.
type bounds [fates]time.Duration

// timers are a registrar's, and the bounds that follow from them.
type timers struct{ interval, timeout, probe time.Duration }

func (t timers) options() string {
	return fmt.Sprintf("timer KEEP-ALIVE-INTERVAL %v\ntimer KEEP-ALIVE-TIMEOUT %v\ntimer PROBE-TIMEOUT %v\ntimer LINGER 1s", t.interval, t.timeout, t.probe)
}

// refusal is how long it may take until a machine that says so (an ABORT, an
// ICMP message) is understood, on a machine under load.
const refusal = time.Second

// userSpace are the bounds for SCTP in UDP.
func (t timers) userSpace() bounds {
	const again = time.Second  // RTO.Initial: the call can be lost with what the socket has not read
	next := t.interval * 3 / 2 // to the next keep-alive, at most
	return bounds{
		left:   refusal / 10,
		closed: min(again, t.probe) + refusal,
		killed: next + refusal,
		hung:   next + t.timeout + refusal,
	}
}

// kernel are the bounds for kernel SCTP, which tells of ends at once: within
// 200 ms (TestLabKill), and in the lab, where one slow processor ends a whole
// crowd, a refusal's time more.
func (t timers) kernel() bounds {
	b := t.userSpace()
	b[killed] = 200*time.Millisecond + refusal
	b[closed] = b[killed]
	return b
}

// churn is a crowd of crowds, and the ledger of what became of its elements.
type churn struct {
	t      *testing.T
	s      *server
	kind   string
	bounds bounds
	pools  []string
	// places per crowd, and elements per place.
	places, each int

	// silent has room for the crowds that may be silent at a time, because they hang or were
	// killed and the registrar does not know yet: less than half of them, as the registrar
	// takes its own side for the cause if it hears from less than half.
	silent chan struct{}

	addrs, ids, ops atomic.Int64
	// elements are by identifier, which are counted from 1.
	elements [1 << 17]element

	// up is when the server was started the last time, in nanoseconds, if a test
	// starts it again: what is bounded begins then.
	up atomic.Int64

	lags [fates]atomic.Int64 // the longest time that one was named
	ends [fates]atomic.Int64 // how many went so
}

type element struct {
	pool string
	fate atomic.Int32
	// gone is when that was, in nanoseconds.
	gone atomic.Int64
}

func (c *churn) end(id int64, f fate, at time.Time) {
	e := &c.elements[id]
	e.gone.Store(at.UnixNano())
	e.fate.Store(int32(f))
	c.ends[f].Add(1)
}

// alive counts the elements that are registered.
func (c *churn) alive() int {
	n := int(c.ids.Load())
	for f := left; f < fates; f++ {
		n -= int(c.ends[f].Load())
	}
	return n
}

// question asks for some pool and checks that the answer names no element that is
// gone for longer than the bounds say. Every pool has an element at all times.
func (c *churn) question(i int64) question {
	q := question{name: c.pools[int(i)%len(c.pools)] + "." + zone, qtype: dns.TypeSRV, check: c.check}
	if i%4 == 0 {
		q.qtype = dns.TypeA
	}
	return q
}

// living checks that an answer has an element.
func living(m *dns.Msg) error {
	if m.Rcode != dns.RcodeSuccess || len(m.Answer) == 0 {
		return fmt.Errorf("no element:\n%v", m)
	}
	return nil
}

func (c *churn) check(m *dns.Msg, sent time.Time) error {
	if err := living(m); err != nil {
		return err
	}
	for _, rr := range m.Answer {
		srv, ok := rr.(*dns.SRV)
		if !ok {
			continue
		}
		var id int64
		if _, err := fmt.Sscanf(srv.Target, "pe-%08x.", &id); err != nil || id > c.ids.Load() {
			return fmt.Errorf("nobody has registered as %s", srv.Target)
		}
		e := &c.elements[id]
		f := fate(e.fate.Load())
		if f == registered {
			continue
		}
		lag := sent.UnixNano() - max(e.gone.Load(), c.up.Load())
		for old := c.lags[f].Load(); lag > old && !c.lags[f].CompareAndSwap(old, lag); old = c.lags[f].Load() {
		}
		if d := time.Duration(lag); d > c.bounds[f] && !c.spared(f) {
			return fmt.Errorf("element %08x of pool %s is named %v after it %s, want at most %v", id, e.pool, d, f, c.bounds[f])
		}
	}
	return nil
}

// spared reports whether elements that went in silence may be named for longer, because the
// registrar has taken its own side for the cause: on a machine so busy that most living elements
// were late, too, it was right. The long form wants a machine that is not.
func (c *churn) spared(f fate) bool {
	if *long || f != killed && f != hung {
		return false
	}
	guards, err := c.s.metrics("coredns_rserpool_registrar_guards_total")
	return err == nil && guards > 0
}

// place is an association of a crowd with its elements.
type place struct {
	n        int
	elements []int64
}

// actor plays with one crowd.
type actor struct {
	*churn
	crowd  *crowd
	rand   *rand.Rand
	places []*place
	next   int
}

func (c *churn) actor(seed uint64) *actor {
	return &actor{churn: c, crowd: startCrowd(c.t, c.s.ports, c.kind), rand: rand.New(rand.NewPCG(1, seed))}
}

// fill opens places with elements until there are all. In a crowd of anchors,
// pool gives the elements' pools; else they are random ones.
func (a *actor) fill(pool func() string) error {
	var waits []func() error
	fresh := len(a.places)
	for len(a.places) < a.churn.places {
		n := a.addrs.Add(1)
		a.next++
		waits = append(waits, a.crowd.begin("open %d 127.%d.%d.%d", a.next, 10+n>>16, n>>8&0xff, n&0xff))
		a.places = append(a.places, &place{n: a.next})
		if len(waits) == 32 {
			if err := all(waits); err != nil {
				return err
			}
			waits = waits[:0]
		}
	}
	if err := all(waits); err != nil {
		return err
	}
	for _, p := range a.places[fresh:] {
		waits = waits[:0]
		for range a.each {
			waits = append(waits, a.join(p, pool()))
		}
		if err := all(waits); err != nil {
			return err
		}
	}
	return nil
}

func all(waits []func() error) (err error) {
	for _, wait := range waits {
		err = errors.Join(err, wait())
	}
	return err
}

// join registers a new element.
func (a *actor) join(p *place, pool string) func() error {
	id := a.ids.Add(1)
	a.elements[id].pool = pool
	p.elements = append(p.elements, id)
	return a.crowd.begin("register %d %s %08x %08x", p.n, pool, id, a.rand.Uint32()>>1)
}

func (a *actor) randomPool() string { return a.pools[a.rand.IntN(len(a.pools))] }

// step does something in good order.
func (a *actor) step() error {
	a.ops.Add(1)
	p := a.places[a.rand.IntN(len(a.places))]
	if len(p.elements) == 0 {
		return a.join(p, a.randomPool())()
	}
	i := a.rand.IntN(len(p.elements))
	id := p.elements[i]
	switch x := a.rand.IntN(100); {
	case x < 50:
		return a.crowd.do("register %d %s %08x %08x", p.n, a.elements[id].pool, id, a.rand.Uint32()>>1)
	case x < 70:
		return a.join(p, a.randomPool())()
	case x < 95:
		p.elements = append(p.elements[:i], p.elements[i+1:]...)
		err := a.crowd.do("deregister %d %s %08x", p.n, a.elements[id].pool, id)
		a.end(id, left, time.Now())
		return err
	default:
		return errors.Join(a.close(p), a.fill(a.randomPool))
	}
}

// close ends a place in good order.
func (a *actor) close(p *place) error {
	for i, q := range a.places {
		if q == p {
			a.places = append(a.places[:i], a.places[i+1:]...)
			break
		}
	}
	a.gone(p, closed)
	return a.crowd.do("close %d", p.n)
}

// gone notes that the elements of a place have gone. That comes before they
// go, so that it is never too early.
func (a *actor) gone(p *place, f fate) {
	now := time.Now()
	for _, id := range p.elements {
		a.end(id, f, now)
	}
	p.elements = nil
}

// closeAll ends all places in good order.
func (a *actor) closeAll() (err error) {
	for len(a.places) > 0 {
		err = errors.Join(err, a.close(a.places[0]))
	}
	return err
}

// play lets the crowd live and die until stop is closed: after a spell it is
// killed or suspended, in turns that begin with round.
func (a *actor) play(stop chan struct{}, round int, spell, pace time.Duration) error {
	for ; ; round++ {
		until := time.Now().Add(spell/2 + time.Duration(a.rand.Int64N(int64(spell))))
		for time.Now().Before(until) {
			select {
			case <-stop:
				return nil
			case <-time.After(pace):
			}
			if err := a.step(); err != nil {
				return err
			}
		}
		f, sig := killed, syscall.SIGKILL
		if round%2 == 0 {
			f, sig = hung, syscall.SIGSTOP
		}
		select {
		case a.silent <- struct{}{}:
		case <-stop:
			return nil
		}
		for _, p := range a.places {
			a.gone(p, f)
		}
		a.crowd.signal(sig)
		if f == hung {
			// An element that woke up would be back with its late acknowledgement,
			// for which TestRegisterWakes is.
			time.Sleep(a.bounds[hung])
			a.crowd.signal(syscall.SIGKILL)
			<-a.silent
		} else {
			time.AfterFunc(a.bounds[killed], func() { <-a.silent })
		}
		<-a.crowd.ended
		a.places = nil
		a.crowd = startCrowd(a.t, a.s.ports, a.kind)
		if err := a.fill(a.randomPool); err != nil {
			return err
		}
	}
}

// allFates reports whether elements have gone in every way.
func (c *churn) allFates() bool {
	for f := left; f < fates; f++ {
		if c.ends[f].Load() == 0 {
			return false
		}
	}
	return true
}

// total asks how many elements there are.
func (s *server) total() (int, error) {
	m, err := s.query("_rserpool."+zone, dns.TypeTXT)
	if err != nil {
		return 0, err
	}
	if len(m.Answer) == 1 {
		for _, text := range m.Answer[0].(*dns.TXT).Txt {
			var n int
			if _, err := fmt.Sscanf(text, "elements=%d", &n); err == nil {
				return n, nil
			}
		}
	}
	return 0, fmt.Errorf("no number of elements in\n%v", m)
}

// TestThousands: elements come, change their load, go, are killed and hang by
// the thousand while the pools are asked for. No element is named for longer than
// supervision allows, every pool with an element has an answer, no living element
// is lost, and in the end all is as it was.
func TestThousands(t *testing.T) {
	outside(t)
	crowds, places, each, pools, rate := 8, 25, 5, 50, 1000
	tm := timers{2 * time.Second, 3 * time.Second, time.Second}
	life, pace := 10*time.Second, 20*time.Millisecond
	if *long {
		crowds, places, pools, rate = 8, 250, 200, 5000
		tm = timers{5 * time.Second, 5 * time.Second, 4 * time.Second}
		life, pace = 4*time.Minute, 10*time.Millisecond
	}
	p := freePorts(t, "127.0.0.1")
	s := startServer(t, p, p.corefile(tm.options(), "errors"))
	if *long {
		tm.interval *= 2 // a crowd that comes again is more than a sixteenth of all elements
	}
	c := &churn{t: t, s: s, kind: "udp", bounds: tm.userSpace(), places: places, each: each}
	for i := range pools {
		c.pools = append(c.pools, fmt.Sprint([]string{"rr", "lu"}[i%2], i))
	}
	c.run(crowds, rate, life, pace)
}

func (c *churn) run(crowds, rate int, life, pace time.Duration) {
	t := c.t
	before := c.s.mustUsage()
	start := time.Now()
	var actors []*actor
	var filling sync.WaitGroup
	errs := make(chan error, crowds)
	c.silent = make(chan struct{}, max(1, crowds*3/8))
	for i := range crowds {
		a := c.actor(uint64(i))
		actors = append(actors, a)
		filling.Go(func() {
			pool := a.randomPool
			if n := 0; i == 0 { // the anchors: some in every pool
				pool = func() string { n++; return c.pools[n%len(c.pools)] }
			}
			errs <- a.fill(pool)
		})
	}
	filling.Wait()
	for range crowds {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	if n, err := c.s.total(); err != nil || n != c.alive() {
		t.Fatalf("%d elements, %v; want %d", n, err, c.alive())
	}
	peak := c.s.mustUsage()
	t.Logf("%d elements over %d associations in %v", c.alive(), crowds*c.places, time.Since(start).Round(time.Millisecond))

	questions := ask(t, c.s.dnsAddr(), rate, 64, c.question)
	stop := make(chan struct{})
	for i, a := range actors[1:] {
		go func() { errs <- a.play(stop, i, life/4, pace) }()
	}
	timeUp, atLatest := time.After(life), time.Now().Add(life+time.Minute)
	playing := crowds - 1
	for playing > 0 {
		select {
		case <-timeUp:
			if !c.allFates() && time.Now().Before(atLatest) { // a slow machine
				timeUp = time.After(100 * time.Millisecond)
				continue
			}
			close(stop)
			timeUp = nil
		case err := <-errs:
			playing--
			if err != nil {
				t.Error(err)
			}
			if timeUp != nil {
				close(stop)
				timeUp = nil
			}
		}
	}
	eventuallyWithin(t, 2*c.bounds[hung], "agreement about the number of elements", func() error {
		n, err := c.s.total()
		if err == nil && n != c.alive() {
			err = fmt.Errorf("%d elements, want %d; %s", n, c.alive(), c.missing())
		}
		return err
	})
	questions.judge(t)
	for f := left; f < fates; f++ {
		t.Logf("%5d elements %-6s, named for %v after it, of %v allowed", c.ends[f].Load(), f, time.Duration(c.lags[f].Load()).Round(time.Millisecond), c.bounds[f])
		if c.ends[f].Load() == 0 {
			t.Errorf("no element %s", f)
		}
	}
	t.Logf("%d steps; %v", c.ops.Load(), strings.TrimSpace(c.removals()))

	for _, a := range actors {
		if err := a.closeAll(); err != nil {
			t.Error(err)
		}
	}
	eventually(t, "an empty handlespace", func() error {
		n, err := c.s.total()
		if err == nil && n != 0 {
			err = fmt.Errorf("%d elements", n)
		}
		return err
	})
	after := c.s.atRest(usage{before.goroutines, before.files, before.heap + (peak.heap-before.heap)/5 + 2<<20})
	t.Logf("before: %v; full: %v; after: %v", before, peak, after)
}

// missing names elements that should be registered and are not.
func (c *churn) missing() string {
	var b strings.Builder
	for id := int64(1); id <= c.ids.Load(); id++ {
		if e := &c.elements[id]; fate(e.fate.Load()) == registered {
			if there, err := c.s.present(e.pool, uint32(id)); !there {
				fmt.Fprintf(&b, "%08x of %s is missing (%v) ", id, e.pool, err)
			}
		}
	}
	return b.String()
}

// removals tells why the registrar has removed elements.
func (c *churn) removals() string {
	var b strings.Builder
	for _, reason := range []string{"deregistered", "expired", "claimed", "silent", "unreachable", "reported"} {
		if n := c.s.metric("coredns_rserpool_elements_removed_total", `reason="`+reason+`"`); n > 0 {
			fmt.Fprintf(&b, "%s %v ", reason, n)
		}
	}
	return b.String()
}
