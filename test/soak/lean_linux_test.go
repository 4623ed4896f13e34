package soak

import (
	"container/heap"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/asap/pe"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// A lean throng has elements that cost as little processor time as they can, so that what a
// registrar needs can be measured with thousands of them on its own machine. On the wire they
// are like pool elements of asap/pe over SCTP in UDP: see lean. They share one goroutine. Each
// has a socket with an address and a port of its own.
type leanThrong struct {
	throngRecord
	pool     rserpool.PoolHandle
	to       unix.SockaddrInet4
	port     uint16 // of the registrar, for SCTP
	poll     int
	began    time.Time
	in, out  []byte            // of one packet
	certs    []tls.Certificate // of the elements of a trusted scope
	elements []lean

	sctp   sync.Mutex // guards the elements and what follows
	timers leanTimers
	turns  leanTurns
	plain  [16 << 10]byte // of a record
}

func init() { leanMain = runLean }

func runLean(n int, pool, registrar string) {
	c := &leanThrong{pool: rserpool.PoolHandle(pool), began: time.Now(), in: make([]byte, 1<<16), elements: make([]lean, n)}
	c.expect(n)
	at, encap, _ := strings.Cut(registrar, "/")
	addr, err := netip.ParseAddrPort(at)
	c.must(err)
	_, err = fmt.Sscan(encap, &c.to.Port)
	c.must(err)
	c.to.Addr, c.port = addr.Addr().As4(), addr.Port()
	c.poll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	c.must(err)
	if dir := os.Getenv(throngTLSEnv); dir != "" {
		c.certificates(dir)
		c.turns.free = runtime.NumCPU()
	}
	for i := range c.elements {
		c.open(i)
	}
	go c.run()
	answerAll(func(question string) any { return c.answer(question) })
}

// must ends the process if a system call fails that should not, or if the registrar does what it
// should not: the test then has no answer.
func (c *leanThrong) must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "lean throng:", err)
		os.Exit(1)
	}
}

// open opens the socket of an element, and has it look for the registrar.
func (c *leanThrong) open(i int) {
	e := &c.elements[i]
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	c.must(err)
	c.must(unix.Bind(fd, &unix.SockaddrInet4{Addr: throngAddr(i).As4()}))
	c.must(unix.Connect(fd, &c.to))
	own, err := unix.Getsockname(fd)
	c.must(err)
	*e = lean{i: i, fd: fd, port: uint16(own.(*unix.SockaddrInet4).Port)}
	c.must(unix.EpollCtl(c.poll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(i)}))
	c.sctp.Lock()
	defer c.sctp.Unlock()
	c.connect(e)
	c.arm(e)
}

// run handles what arrives, and what is due.
func (c *leanThrong) run() {
	events := make([]unix.EpollEvent, 256)
	for {
		n, err := unix.EpollWait(c.poll, events, c.due())
		if err != unix.EINTR {
			c.must(err)
		}
		for _, ev := range events[:max(n, 0)] {
			c.sctp.Lock()
			c.readable(&c.elements[ev.Fd])
			c.sctp.Unlock()
		}
	}
}

// readable handles a packet or an ICMP error.
func (c *leanThrong) readable(e *lean) {
	n, err := unix.Read(e.fd, c.in)
	switch err {
	case nil:
		c.receive(e, c.in[:n])
	case unix.ECONNREFUSED:
		c.refused(e)
	case unix.EAGAIN, unix.EINTR:
	default:
		c.must(err)
	}
	c.arm(e)
}

// write sends a packet. The first one may only report an ICMP error for an earlier packet: if
// nobody listens, there is another error for this one.
func (c *leanThrong) write(e *lean, p []byte) {
	_, err := unix.Write(e.fd, p)
	if err == unix.ECONNREFUSED {
		_, err = unix.Write(e.fd, p)
	}
	// A packet for which there is no room is lost, as it may be on any network.
	if err != unix.ECONNREFUSED && err != unix.EAGAIN && err != unix.ENOBUFS && err != unix.EINTR {
		c.must(err)
	}
}

// now is the time since the throng began, which is never 0.
func (c *leanThrong) now() time.Duration { return time.Since(c.began) }

// leanTimer is the kind of a timer of an element.
type leanTimer uint8

const (
	leanRepeat leanTimer = iota // of what the registrar has not acknowledged
	leanCall                    // when to connect, or to register over the registrar's association
	leanBeat                    // when a keep-alive is overdue
	leanIdle                    // when nothing at all has arrived for long
	leanRenew                   // T4-reregistration
	leanTimerKinds
)

// leanAlarm is when an element has something to do.
type leanAlarm struct {
	at time.Duration
	e  *lean
}

// leanTimers are the alarms, the first one in front. One that its element has replaced by an
// earlier one has no effect.
type leanTimers []leanAlarm

func (t leanTimers) Len() int           { return len(t) }
func (t leanTimers) Less(i, j int) bool { return t[i].at < t[j].at }
func (t leanTimers) Swap(i, j int)      { t[i], t[j] = t[j], t[i] }
func (t *leanTimers) Push(x any)        { *t = append(*t, x.(leanAlarm)) }
func (t *leanTimers) Pop() any {
	last := (*t)[len(*t)-1]
	*t = (*t)[:len(*t)-1]
	return last
}

// arm sets an element's alarm to its first timer, unless it rings before: timers that move on
// are looked at again then.
func (c *leanThrong) arm(e *lean) {
	var first time.Duration
	for _, at := range e.at {
		if at != 0 && (first == 0 || at < first) {
			first = at
		}
	}
	if first != 0 && (e.alarm == 0 || first < e.alarm) {
		e.alarm = first
		heap.Push(&c.timers, leanAlarm{first, e})
	}
}

// due does what is due. It returns for how many milliseconds the next packet may be waited for.
func (c *leanThrong) due() int {
	c.sctp.Lock()
	defer c.sctp.Unlock()
	now := c.now()
	for len(c.timers) > 0 && c.timers[0].at <= now {
		a := heap.Pop(&c.timers).(leanAlarm)
		if a.at != a.e.alarm {
			continue
		}
		a.e.alarm = 0
		for kind := range leanTimerKinds { // each may change those behind it
			if at := &a.e.at[kind]; *at != 0 && *at <= now {
				*at = 0
				c.expired(a.e, kind, now)
			}
		}
		c.arm(a.e)
	}
	// Handshakes of TLS may set timers meanwhile.
	const most = 100 * time.Millisecond
	if len(c.timers) == 0 {
		return int(most.Milliseconds())
	}
	return int((min(c.timers[0].at-now, most) + time.Millisecond - 1) / time.Millisecond)
}

// vary varies a pause by a part of it.
func vary(p time.Duration, by float64) time.Duration {
	return time.Duration(float64(p) * (1 - by + 2*by*rand.Float64()))
}

// onMessage handles a message of the registrar, like asap/pe.
func (c *leanThrong) onMessage(e *lean, b []byte) {
	m, _, err := asap.Parse(b)
	c.must(err)
	now := c.now()
	switch m := m.(type) {
	case *asap.RegistrationResponse:
		if m.Reject || m.ID != e.id() {
			c.must(fmt.Errorf("the registrar answers element %v: %+v", e.id(), m))
		}
		what := pe.Registered
		if e.stands {
			what = pe.Reregistered
		}
		e.stands, e.former, e.pause = true, false, 0
		e.at[leanRenew] = now + leanT4
		e.quiet.begin(e, now)
		c.note(e.i, what, "registered")
	case *asap.EndpointKeepAlive:
		c.say(e, &asap.EndpointKeepAliveAck{Handle: c.pool, ID: e.id(), Unordered: true})
		switch {
		case e.home:
			e.quiet.heard(e, now)
		case e.former && m.Server == e.server:
			e.home, e.stands, e.former, e.pause = true, true, false, 0
			e.at[leanCall] = 0
			e.at[leanRenew] = max(e.renewBy, now+vary(leanT4/4, 0.25))
			e.quiet.begin(e, now)
			c.note(e.i, pe.Resumed, "called; the registration stands")
		}
		e.server = m.Server
	default:
		c.must(fmt.Errorf("the registrar sends element %v a %T", e.id(), m))
	}
}

// register registers over the association that there is.
func (c *leanThrong) register(e *lean) {
	e.home = true
	e.at[leanRenew] = c.now() + leanT4
	c.say(e, &asap.Registration{Handle: c.pool, Element: rserpool.PoolElement{
		ID: e.id(), Life: int32(leanLife.Milliseconds()),
		UserTransport: rserpool.Transport{Type: rserpool.TCP, Port: 8080, Addrs: []netip.Addr{throngAddr(e.i)}},
		Policy:        rserpool.Policy{Type: rserpool.RoundRobin},
	}})
}

// lost goes on without an association: the element connects at once. If it is the registrar that
// connects, the element waits for its keep-alive.
func (c *leanThrong) lost(e *lean, why string, called bool) {
	e.end()
	switch {
	case e.home:
	case e.at[leanCall] == 0: // in the handshake of TLS
		c.failed(e, why)
		return
	default: // the registrar had opened it
		return
	}
	c.note(e.i, pe.HomeLost, "lost: "+why)
	e.former, e.renewBy = e.stands, e.at[leanRenew]
	e.home, e.stands = false, false
	e.at[leanRenew], e.at[leanBeat], e.quiet.guess = 0, 0, 0
	switch {
	case called && e.former:
		e.at[leanCall] = c.now() + leanCallTime
	case called:
		e.at[leanCall] = c.now() + vary(leanPause, 0.5)
	default:
		c.connect(e)
	}
}

// failed pauses before the next attempt to connect: for 0.5 s, and then for twice as long each
// time, but not for longer than between two keep-alives.
func (c *leanThrong) failed(e *lean, why string) {
	e.end()
	if e.pause == 0 {
		c.note(e.i, pe.NoRegistrar, "cannot connect: "+why)
	}
	by := 0.25
	if e.pause = min(max(2*e.pause, leanPause), max(e.quiet.gap, leanMostPause)); e.pause == leanPause {
		by = 0.5
	}
	e.at[leanCall] = c.now() + vary(e.pause, by)
}

// The times of asap/pe.
const (
	leanT4        = 30 * time.Second
	leanLife      = 90 * time.Second
	leanCallTime  = 3 * time.Second
	leanPause     = 500 * time.Millisecond
	leanMostPause = 2 * time.Second
)

// leanQuiet notices that keep-alives are overdue, as asap/pe does: see quiet there.
type leanQuiet struct {
	asked, gap, guess, pause time.Duration
	gaps                     [4]time.Duration
	next                     int
}

func (q *leanQuiet) heard(e *lean, now time.Duration) {
	gap := now - q.asked
	if q.gap > 0 {
		gap = min(gap, 2*q.gap)
	}
	q.gaps[q.next%len(q.gaps)] = min(max(gap, time.Second), 5*time.Minute)
	q.next++
	q.gap = max(q.gaps[0], q.gaps[1], q.gaps[2], q.gaps[3])
	q.begin(e, now)
}

func (q *leanQuiet) begin(e *lean, now time.Duration) {
	gap := q.interval()
	q.asked, q.pause = now, gap
	if e.at[leanBeat] = 0; q.mayBeat() {
		e.at[leanBeat] = now + gap + gap/8 + 100*time.Millisecond
	}
}

func (q *leanQuiet) interval() time.Duration {
	switch {
	case q.gap > 0:
		return q.gap
	case q.guess > 0:
		return q.guess
	}
	return 2 * time.Second
}

func (q *leanQuiet) mayBeat() bool { return q.gap > 0 || q.guess <= 10*time.Second }

// beat is called when a HEARTBEAT is sent, and plans the next one.
func (q *leanQuiet) beat(e *lean, now time.Duration) {
	e.at[leanBeat] = now + vary(q.pause, 0.25)
	q.pause = max(q.interval(), min(2*q.pause, 10*time.Second))
	if q.gap == 0 {
		q.guess = 2 * q.interval()
	}
	if !q.mayBeat() {
		e.at[leanBeat] = 0
	}
}
