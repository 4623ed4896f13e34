package pe

import (
	"container/heap"
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/hunt"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// multitude is many elements in virtual time, with a lone registrar that is killed and
// starts again without its state.
type multitude struct {
	now      time.Duration
	due      dues
	members  []*oneOfMany
	dead, up time.Duration // when the registrar dies, and serves again
	silent   bool          // nobody refuses packets while it is dead
	told     bool          // its kernel ends its associations
	rand     *rand.Rand
	back     []time.Duration // of each element, after up
	calls    []time.Duration // all of them, by the time
}

// oneOfMany is an element and its side of the network.
type oneOfMany struct {
	k       *core
	refs    uint64
	assoc   sctp.AssocID // with the registrar's present or former process
	born    time.Duration
	planned time.Duration // of the core's deadline
}

// oneDue is something that is due.
type oneDue struct {
	at time.Duration
	f  func()
}

type dues []oneDue

func (d dues) Len() int           { return len(d) }
func (d dues) Less(i, j int) bool { return d[i].at < d[j].at }
func (d dues) Swap(i, j int)      { d[i], d[j] = d[j], d[i] }
func (d *dues) Push(x any)        { *d = append(*d, x.(oneDue)) }
func (d *dues) Pop() any {
	last := (*d)[len(*d)-1]
	*d = (*d)[:len(*d)-1]
	return last
}

func (m *multitude) after(d time.Duration, f func()) { heap.Push(&m.due, oneDue{m.now + d, f}) }

func (m *multitude) serves() bool { return m.now < m.dead || m.now >= m.up }

// time is the present time for a core.
func (m *multitude) time() time.Time { return time.Unix(1_000_000, 0).Add(m.now) }

// trip is the time of a packet.
const trip = 500 * time.Microsecond

// settle performs what the element wants done.
func (m *multitude) settle(x *oneOfMany) {
	for {
		actions, _ := x.k.take()
		if len(actions) == 0 {
			break
		}
		for _, a := range actions {
			m.perform(x, a)
		}
	}
	at, ok := x.k.NextDeadline()
	if next := at.Sub(time.Unix(1_000_000, 0)); ok && next != x.planned {
		x.planned = next
		m.after(max(0, next-m.now), func() {
			if x.planned == next {
				x.planned = 0
				x.k.Tick(m.time())
				m.settle(x)
			}
		})
	}
}

func (m *multitude) perform(x *oneOfMany, a hunt.Action) {
	switch a := a.(type) {
	case hunt.Connect:
		x.refs++
		id := sctp.AssocID(x.refs)
		x.k.Connecting(m.time(), a.Ref, id, nil)
		m.calls = append(m.calls, m.now)
		m.call(x, id, m.now)
	case hunt.Heartbeat:
		m.after(trip, func() { m.arrive(x, a.Assoc) })
	case hunt.Send:
		m.after(trip, func() {
			if m.arrive(x, a.Assoc) {
				m.answer(x, a)
			}
		})
	case hunt.Close: // nobody minds
	}
}

// call sends an INIT, and again after pauses as SCTP does.
func (m *multitude) call(x *oneOfMany, id sctp.AssocID, begun time.Duration) {
	m.after(trip, func() {
		switch {
		case m.serves():
			m.after(3*trip, func() {
				x.assoc, x.born = id, m.now
				x.k.Up(m.time(), id, []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:3863")})
				m.settle(x)
			})
		case !m.silent:
			m.after(trip, func() { m.down(x, id, sctp.ErrRefused) })
		case m.now-begun > 9*time.Second:
			m.after(time.Second, func() { m.down(x, id, sctp.ErrTimeout) })
		default: // 1, 3 and 7 s after the first one
			m.after(m.now-begun+time.Second-2*trip, func() { m.call(x, id, begun) })
		}
	})
}

func (m *multitude) down(x *oneOfMany, id sctp.AssocID, why error) {
	if x.assoc == id {
		x.assoc = 0
	}
	x.k.Down(m.time(), id, why)
	m.settle(x)
}

// arrive reports whether a packet reaches the process that knows the association. Another
// process answers with an ABORT, and a machine without one with an ICMP error.
func (m *multitude) arrive(x *oneOfMany, id sctp.AssocID) bool {
	knows := x.assoc == id && m.serves() && (m.now < m.dead || x.born >= m.up)
	if !knows && x.assoc == id && (m.serves() || !m.silent) {
		m.after(trip, func() { m.down(x, id, errors.New("aborted")) })
	}
	return knows
}

// answer is the registrar.
func (m *multitude) answer(x *oneOfMany, a hunt.Send) {
	if msg, _, _ := asap.Parse(a.Data); msg.Type() != asap.TypeRegistration {
		return
	}
	reply, _ := (&asap.RegistrationResponse{Handle: testPool, ID: x.k.element.ID}).Append(nil)
	first := x.k.attempts == 1 && !x.k.standing
	m.after(trip, func() {
		x.k.Received(m.time(), a.Assoc, reply)
		m.settle(x)
		if first && m.now >= m.up {
			m.back = append(m.back, m.now-m.up)
		}
		if first {
			m.ask(x, a.Assoc)
		}
	})
}

// ask sends a keep-alive after the interval of 2 s and 10 %.
func (m *multitude) ask(x *oneOfMany, id sctp.AssocID) {
	m.after(time.Duration(float64(2*time.Second)*(0.9+0.2*m.rand.Float64())), func() {
		if !m.serves() || m.now >= m.up && x.born < m.up || x.assoc != id {
			return
		}
		ask, _ := (&asap.EndpointKeepAlive{Server: 7, Handle: testPool, ID: x.k.element.ID, HasID: true}).Append(nil)
		x.k.Received(m.time(), id, ask)
		m.settle(x)
		m.ask(x, id)
	})
}

// run makes n elements and lets the time pass until they are back.
func (m *multitude) run(t *testing.T, n int) {
	t.Helper()
	m.rand = rand.New(rand.NewPCG(1, 2))
	for i := range n {
		cfg := Config{
			Pool: testPool, ID: rserpool.PEID(i + 1), Registrars: []string{"10.0.0.1"},
			Transport: rserpool.Transport{Type: rserpool.TCP, Port: 80, Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.11")}},
			Policy:    rserpool.Policy{Type: rserpool.RoundRobin},
		}
		if err := cfg.prepare(); err != nil {
			t.Fatal(err)
		}
		x := &oneOfMany{k: newCore(cfg, rand.New(rand.NewPCG(uint64(i), 3)), nil)}
		m.members = append(m.members, x)
		m.after(time.Duration(m.rand.Int64N(int64(2*time.Second))), func() {
			x.k.register(m.time())
			m.settle(x)
		})
	}
	if m.told {
		m.after(m.dead, func() {
			for _, x := range m.members {
				m.down(x, x.assoc, errors.New("shut down"))
			}
		})
	}
	for len(m.back) < n && m.now < m.up+time.Minute {
		next := heap.Pop(&m.due).(oneDue)
		m.now = next.at
		next.f()
	}
}

// most is the greatest number of times in a period.
func most(times []time.Duration, in time.Duration) (n int) {
	slices.Sort(times)
	first := 0
	for i := range times {
		for times[i]-times[first] >= in {
			first++
		}
		n = max(n, i-first+1)
	}
	return n
}

// TestComeBack: thousands of elements of a lone registrar that was killed are back within
// 3 s after its restart, however long that has taken, and they do not all come in one moment.
func TestComeBack(t *testing.T) {
	n := 2000
	if testing.Short() {
		n = 500
	}
	for _, tt := range []struct {
		name         string
		away         time.Duration
		silent, told bool
		within       time.Duration // after it serves again
		perSecond    int           // calls after it
	}{
		{"UDP, at once", 300 * time.Millisecond, false, false, 2500 * time.Millisecond, n * 55 / 100},
		{"UDP, after 3 s", 3 * time.Second, false, false, 3 * time.Second, n * 6 / 10},
		{"UDP, after a minute", time.Minute, false, false, 3 * time.Second, n * 55 / 100},
		{"kernel, at once", 300 * time.Millisecond, false, true, 1500 * time.Millisecond, n},
		{"kernel, after a minute", time.Minute, false, true, 3 * time.Second, n * 55 / 100},
		{"machine down for 30 s", 30 * time.Second, true, false, 14 * time.Second, n * 2 / 10},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := &multitude{dead: 20 * time.Second, up: 20*time.Second + tt.away, silent: tt.silent, told: tt.told}
			m.run(t, n)
			if len(m.back) < n {
				t.Fatalf("%d of %d are back", len(m.back), n)
			}
			last := slices.Max(m.back)
			calls := slices.DeleteFunc(slices.Clone(m.calls), func(at time.Duration) bool { return at < m.up })
			t.Logf("the last one is back %v after the restart; at most %d are in 0.1 s; at most %d calls a second after it, %d before", last.Round(time.Millisecond),
				most(m.back, 100*time.Millisecond), most(calls, time.Second), most(slices.DeleteFunc(m.calls, func(at time.Duration) bool { return at <= m.dead+time.Second || at > m.up }), time.Second))
			if last > tt.within {
				t.Errorf("the last one is back after %v, want %v", last, tt.within)
			}
			if got := most(calls, time.Second); got > tt.perSecond*11/10 {
				t.Errorf("%d calls in a second, want %d", got, tt.perSecond)
			}
		})
	}
}
