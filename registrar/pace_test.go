package registrar

import (
	"cmp"
	"container/heap"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/registrar/internal/ledger"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// fleet is a registrar with elements, each at the end of a lane: an association with a
// round-trip time and losses. Messages are retransmitted as SCTP does it on its timer alone:
// after 1 s, and then after twice as long each time (RFC 9260, Section 6.3). An ordered
// message arrives after those before it.
type fleet struct {
	t     testing.TB
	r     *Registrar
	rng   *rand.Rand
	now   time.Time
	queue fleetQueue
	seq   int
	lanes map[AssocID]*lane
	sent  int // keep-alives, without the transport's retransmissions

	stands bool // the registrar's host does nothing
	onSent func(*Send)
}

type lane struct {
	id      AssocID
	rtt     time.Duration
	loss    float64 // of one packet
	ordered bool    // the element's implementation knows no unordered messages
	hung    bool
	last    [2]time.Time // arrival of the last ordered message, there and back
}

type fleetEvent struct {
	at  time.Time
	seq int
	do  func()
}

type fleetQueue []fleetEvent

func (q fleetQueue) Len() int { return len(q) }
func (q fleetQueue) Less(i, j int) bool {
	return q[i].at.Before(q[j].at) || q[i].at.Equal(q[j].at) && q[i].seq < q[j].seq
}
func (q fleetQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *fleetQueue) Push(x any)   { *q = append(*q, x.(fleetEvent)) }
func (q *fleetQueue) Pop() any {
	last := len(*q) - 1
	x := (*q)[last]
	*q = (*q)[:last]
	return x
}

// newFleet makes a registrar with elements, so many on each lane.
func newFleet(t testing.TB, lanes, elements int, change func(*Config, *lane)) *fleet {
	t.Helper()
	cfg := Config{ServerID: testServer, Rand: rand.New(rand.NewPCG(1, 2))}
	cfg.Limits.ElementsPerAssoc = max(elements, 1)
	f := &fleet{t: t, rng: rand.New(rand.NewPCG(3, 4)), now: time.Unix(1000, 0), lanes: map[AssocID]*lane{}}
	for i := range lanes {
		l := &lane{id: AssocID(i + 1), rtt: 20 * time.Millisecond}
		if change != nil {
			change(&cfg, l)
		}
		f.lanes[l.id] = l
	}
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	f.r = r
	for i := range lanes {
		id := AssocID(i + 1)
		addr := fmt.Sprintf("10.%d.%d.%d", id>>16, id>>8&255, id&255)
		f.do(AssocUp{Assoc: id, Peer: peers(addr), Via: rserpool.ViaKernel})
		for e := range elements {
			f.do(Received{Assoc: id, PPID: asap.PPID, Data: encode(t, reg(fmt.Sprint("p", id%100), uint32(i*elements+e+1), addr))})
		}
	}
	return f
}

// at has something happen.
func (f *fleet) at(when time.Time, do func()) {
	f.seq++
	heap.Push(&f.queue, fleetEvent{when, f.seq, do})
}

// do gives the registrar an event and sends what it sends.
func (f *fleet) do(ev Event) {
	for _, a := range f.r.Handle(f.now, ev) {
		s, ok := a.(*Send)
		if !ok || s.PPID != asap.PPID || s.Data[0] != byte(asap.TypeEndpointKeepAlive) {
			continue
		}
		if f.sent++; f.onSent != nil {
			f.onSent(s)
		}
		m, _, err := asap.Parse(s.Data)
		if err != nil {
			f.t.Fatal(err)
		}
		l, ka := f.lanes[s.Assoc], m.(*asap.EndpointKeepAlive)
		f.at(l.arrival(f, 0, s.Unordered), func() { l.answer(f, ka) })
	}
}

// arrival is when a message arrives that is sent now.
func (l *lane) arrival(f *fleet, direction int, unordered bool) time.Time {
	at := f.now.Add(l.rtt / 2)
	for rto := time.Second; f.rng.Float64() < l.loss; rto *= 2 {
		at = at.Add(rto)
	}
	if last := &l.last[direction]; !unordered {
		if last.After(at) {
			at = *last
		}
		*last = at
	}
	return at
}

// answer has the element acknowledge a keep-alive.
func (l *lane) answer(f *fleet, ka *asap.EndpointKeepAlive) {
	if l.hung {
		return
	}
	ack := encode(f.t, &asap.EndpointKeepAliveAck{Handle: ka.Handle, ID: ka.ID, Unordered: !l.ordered})
	f.at(l.arrival(f, 1, !l.ordered), func() { f.receive(l.id, ack) })
}

// receive hands a message over, or has it wait while the registrar's host stands still.
func (f *fleet) receive(id AssocID, data []byte) {
	if f.stands {
		f.at(f.now.Add(time.Millisecond), func() { f.receive(id, data) })
		return
	}
	f.do(Received{Assoc: id, PPID: asap.PPID, Data: data})
}

// run lets time pass.
func (f *fleet) run(d time.Duration) {
	end := f.now.Add(d)
	for {
		at, timer := f.r.NextDeadline()
		timer = timer && !f.stands
		event := len(f.queue) > 0 && (!timer || !f.queue[0].at.After(at))
		if event {
			at = f.queue[0].at
		}
		if !event && !timer || at.After(end) {
			break
		}
		if at.After(f.now) {
			f.now = at
		}
		if event {
			heap.Pop(&f.queue).(fleetEvent).do()
		} else {
			f.do(Tick{})
		}
	}
	f.now = end
}

// standStill suspends the registrar's host. What arrives meanwhile is handed over first, or
// lost.
func (f *fleet) standStill(d time.Duration, lost bool) {
	f.stands = true
	f.run(d)
	f.stands = false
	if lost {
		f.queue = nil
		return
	}
	waiting := f.queue
	f.queue = nil
	slices.SortFunc(waiting, func(a, b fleetEvent) int { return a.seq - b.seq })
	for _, ev := range waiting {
		if !ev.at.After(f.now.Add(time.Millisecond)) {
			ev.do()
		} else {
			heap.Push(&f.queue, ev)
		}
	}
}

// suspected is how many elements have become suspects so far.
func (f *fleet) suspected() (n uint64) {
	for _, k := range f.r.Stats().Suspected {
		n += k
	}
	return n
}

// detection hangs the elements of a lane, and returns how long it takes until they are suspects.
func (f *fleet) detection(l *lane, most time.Duration) time.Duration {
	f.t.Helper()
	return f.detections([]*lane{l}, most)[0]
}

// detections is detection for several lanes with one element each, which hang within 100 ms.
func (f *fleet) detections(lanes []*lane, most time.Duration) (took []time.Duration) {
	f.t.Helper()
	since := make(map[AssocID]time.Time)
	for _, l := range lanes {
		f.at(f.now.Add(time.Duration(f.rng.IntN(100))*time.Millisecond), func() { l.hung, since[l.id] = true, f.now })
	}
	for end := f.now.Add(most + 100*time.Millisecond); len(took) < len(lanes); f.run(time.Millisecond) {
		if f.now.After(end) {
			f.t.Fatalf("%d suspects of %d within %v", len(took), len(lanes), most)
		}
		for id, at := range since {
			if e := f.r.assocs[id].client.elements.First(); e.isSuspect() {
				took = append(took, f.now.Sub(at))
				delete(since, id)
			}
		}
	}
	return took
}

// TestPaceHung: an element that hangs is a suspect after a keep-alive interval, plus 10 %, and
// seven tries of 200 ms; within 2.4 s at the median.
func TestPaceHung(t *testing.T) {
	for _, tt := range []struct {
		name            string
		lanes           int
		change          func(*Config, *lane)
		warm            time.Duration
		median, longest time.Duration
		sample, waves   int // the elements hang in so many waves, 10 by default
		long            bool
	}{
		{name: "default", lanes: 1000, warm: 10 * time.Second, median: 2400 * time.Millisecond, longest: 3600 * time.Millisecond, sample: 300},
		{name: "RTT 45 ms", lanes: 400, change: func(_ *Config, l *lane) { l.rtt = 45 * time.Millisecond }, warm: 10 * time.Second, median: 2400 * time.Millisecond, longest: 3600 * time.Millisecond, sample: 100},
		{name: "interval 500 ms", lanes: 400, change: func(c *Config, _ *lane) { c.Timers.KeepAliveInterval = 500 * time.Millisecond }, warm: 5 * time.Second, median: 1650 * time.Millisecond, longest: 2 * time.Second, sample: 100},
		{name: "ordered", lanes: 400, change: func(_ *Config, l *lane) { l.ordered = true }, warm: 10 * time.Second, median: 4 * time.Second, longest: 5200 * time.Millisecond, sample: 50},
		{name: "RTT 600 ms", lanes: 400, change: func(_ *Config, l *lane) { l.rtt = 600 * time.Millisecond }, warm: 60 * time.Second, median: 6 * time.Second, longest: 2200*time.Millisecond + 7*650*time.Millisecond, sample: 50},
		{name: "10000 elements", lanes: 10000, warm: 6 * time.Second, median: 2400 * time.Millisecond, longest: 3600 * time.Millisecond, sample: 200, waves: 2, long: true},
		{name: "100000 elements", lanes: 100000, warm: 45 * time.Second, median: 12400 * time.Millisecond, longest: 23400 * time.Millisecond, sample: 500, waves: 1, long: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.long && testing.Short() {
				t.Skip("takes some seconds")
			}
			f := newFleet(t, tt.lanes, 1, tt.change)
			f.run(tt.warm)
			var took []time.Duration
			waves := cmp.Or(tt.waves, 10)
			for wave := range waves {
				var list []*lane
				for i := wave; i < tt.sample; i += waves {
					list = append(list, f.lanes[AssocID(1+i*tt.lanes/tt.sample)])
				}
				took = append(took, f.detections(list, 2*tt.longest)...)
			}
			if n := f.suspected(); n != uint64(tt.sample) {
				t.Errorf("%d elements became suspects, want the %d that hang", n, tt.sample)
			}
			slices.Sort(took)
			median, longest := took[len(took)/2], took[len(took)-1]
			t.Logf("median %v, longest %v", median, longest)
			// The time of the packets themselves comes on top, and the chance of a sample.
			if median > tt.median+tt.median/10 || longest > tt.longest+5*time.Millisecond {
				t.Errorf("median %v, longest %v, want %v and %v at most", median, longest, tt.median, tt.longest)
			}
			if longest < tt.longest*8/10 {
				t.Errorf("longest %v: much less than %v, so elements have not the time that the manual says", longest, tt.longest)
			}
		})
	}
}

// TestPaceHungAgain: an element that stood still for some seconds is no slow one: if it hangs
// soon again, that is found as fast.
func TestPaceHungAgain(t *testing.T) {
	f := newFleet(t, 10, 1, func(_ *Config, l *lane) { l.rtt = 5 * time.Millisecond })
	f.run(10 * time.Second)
	l := f.lanes[3]
	for range 5 {
		l.rtt = 3 * time.Second
		before := f.suspected()
		f.run(5 * time.Second)
		if f.suspected() == before {
			t.Fatal("an element that answers after 3 s is no suspect: its time-out follows the time for which it stood still")
		}
		l.rtt = 5 * time.Millisecond
		f.run(4 * time.Second)
		if took := f.detection(l, 20*time.Second); took > 3600*time.Millisecond {
			t.Errorf("it hangs again: a suspect after %v, want 3.6 s at most", took)
		}
		l.hung = false
		f.run(10 * time.Second)
	}
}

// TestPaceHungAfterPause: nor is an element one that stood still for so short that it was no
// suspect, or whose first word after that is late, as on a busy machine.
func TestPaceHungAfterPause(t *testing.T) {
	for _, pause := range []time.Duration{700 * time.Millisecond, 1300 * time.Millisecond, 3 * time.Second} {
		t.Run(pause.String(), func(t *testing.T) {
			f := newFleet(t, 10, 1, func(_ *Config, l *lane) { l.rtt = 5 * time.Millisecond })
			f.run(10 * time.Second)
			l := f.lanes[3]
			for range 5 {
				l.rtt = pause
				f.run(2 * time.Second)
				l.rtt = 150 * time.Millisecond
				f.run(3 * time.Second)
				l.rtt = 5 * time.Millisecond
				f.run(time.Second)
				if took := f.detection(l, 20*time.Second); took > 4*time.Second {
					t.Errorf("a suspect after %v, want 3.6 s at most, or little more", took)
				}
				l.hung = false
				f.run(20 * time.Second)
			}
		})
	}
}

// TestPaceLoss loses 5 % of all packets for ten minutes: no living element becomes a suspect,
// except where acknowledgements are ordered.
func TestPaceLoss(t *testing.T) {
	lanes := 1000
	if testing.Short() {
		lanes = 50
	}
	for _, tt := range []struct {
		name    string
		ordered bool
	}{{"unordered", false}, {"ordered", true}} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFleet(t, lanes, 1, func(_ *Config, l *lane) { l.loss, l.ordered = 0.05, tt.ordered })
			f.run(10 * time.Minute)
			s := f.r.Stats()
			t.Logf("%d keep-alives, %d repeats, %d suspects, %d returned", s.KeepAlivesSent, s.KeepAlivesRepeated, f.suspected(), s.Returned)
			if n := f.suspected(); !tt.ordered && n > 0 {
				t.Errorf("%d suspects, want none", n)
			}
			if 10*s.KeepAlivesRepeated < s.KeepAlivesSent {
				t.Errorf("%d repeats of %d keep-alives: the losses are too few", s.KeepAlivesRepeated, s.KeepAlivesSent)
			}
			if got := members(f.r.roster); got < lanes*99/100 {
				t.Errorf("%d members at the end, want nearly all of %d", got, lanes)
			}
		})
	}
}

// TestPaceFar has elements that are far away, and whose round-trip times vary.
func TestPaceFar(t *testing.T) {
	for _, rtt := range []time.Duration{300 * time.Millisecond, 600 * time.Millisecond, 1500 * time.Millisecond} {
		for _, ordered := range []bool{false, true} {
			t.Run(fmt.Sprint(rtt, ", ordered ", ordered), func(t *testing.T) {
				f := newFleet(t, 20, 1, func(_ *Config, l *lane) { l.rtt, l.ordered = rtt, ordered })
				for range 600 {
					for _, l := range f.lanes {
						l.rtt = rtt*9/10 + time.Duration(f.rng.Int64N(int64(rtt/5)))
					}
					f.run(time.Second)
				}
				s := f.r.Stats()
				if n := f.suspected(); n > 0 {
					t.Errorf("%d suspects, want none", n)
				}
				if rtt < maxTry && 10*s.KeepAlivesRepeated > s.KeepAlivesSent {
					t.Errorf("%d repeats of %d keep-alives: the time-out does not follow the round-trip time", s.KeepAlivesRepeated, s.KeepAlivesSent)
				}
			})
		}
	}
}

// TestPaceJump has the round-trip time grow at once. The time-out follows soon.
func TestPaceJump(t *testing.T) {
	for _, tt := range []struct {
		to      time.Duration
		suspect bool // for a moment
	}{
		{500 * time.Millisecond, false},
		{900 * time.Millisecond, false},
		{1300 * time.Millisecond, false},
		{2 * time.Second, true},
		{3 * time.Second, true},
	} {
		t.Run(tt.to.String(), func(t *testing.T) {
			f := newFleet(t, 5, 1, func(_ *Config, l *lane) { l.rtt = 10 * time.Millisecond })
			f.run(30 * time.Second)
			for _, l := range f.lanes {
				l.rtt = tt.to
			}
			var longest time.Duration
			since := f.now
			for range 2000 {
				f.run(10 * time.Millisecond)
				if members(f.r.roster) == len(f.lanes) {
					since = f.now
				}
				longest = max(longest, f.now.Sub(since))
			}
			n := f.suspected()
			t.Logf("%d suspects, not all members for %v", n, longest)
			if !tt.suspect && n > 0 || longest > tt.to {
				t.Errorf("%d suspects, not all members for %v", n, longest)
			}
			f.run(time.Minute)
			if late := f.suspected(); late != n {
				t.Errorf("%d suspects after 20 s, want none", late-n)
			}
			sent := f.r.Stats()
			f.run(time.Minute)
			if s := f.r.Stats(); tt.to < maxTry && s.KeepAlivesRepeated > sent.KeepAlivesRepeated {
				t.Errorf("%d repeats: the time-out does not follow", s.KeepAlivesRepeated-sent.KeepAlivesRepeated)
			}
		})
	}
}

// TestPaceShared: if an association with many elements is silent, a few keep-alives stand for
// all. When it works again, all are back soon.
func TestPaceShared(t *testing.T) {
	const elements = 1000
	f := newFleet(t, 1, elements, nil)
	f.run(10 * time.Second)
	if n := f.suspected(); n != 0 {
		t.Fatalf("%d suspects of an association that works", n)
	}
	f.sent = 0
	l := f.lanes[1]
	l.hung = true
	f.run(3600*time.Millisecond + 5*time.Millisecond)
	if n := f.suspected(); n != elements {
		t.Errorf("%d suspects within 3.6 s, want all %d", n, elements)
	}
	t.Logf("%d keep-alives", f.sent)
	if most := 64*3600/200 + 200; f.sent > most || f.sent < 64 {
		t.Errorf("%d keep-alives were sent, want %d at most, and some", f.sent, most)
	}
	l.hung = false
	f.run(75 * time.Second)
	if got := members(f.r.roster); got != elements {
		t.Errorf("%d members a while after the association works again, want %d", got, elements)
	}
}

// TestPaceSharedOne: one element of many hangs whose association is busy with the others.
func TestPaceSharedOne(t *testing.T) {
	f := newFleet(t, 1, 1000, nil)
	f.run(10 * time.Second)
	l := f.lanes[1]
	l.hung = true // until the line is missing
	f.run(800 * time.Millisecond)
	l.hung = false
	f.run(time.Minute)
	if n := f.suspected(); n != 0 {
		t.Errorf("%d suspects after a pause of 800 ms, want none", n)
	}
}

// TestPaceStandstill suspends the registrar's host again and again. No element is to blame.
func TestPaceStandstill(t *testing.T) {
	f := newFleet(t, 300, 1, func(c *Config, l *lane) {
		l.rtt = 5 * time.Millisecond
		c.Rules = func(rserpool.PoolHandle) PoolRule { return PoolRule{Guard: Guard{Off: true}} }
	})
	f.run(10 * time.Second)
	for _, d := range []time.Duration{time.Second, 300 * time.Millisecond, 5 * time.Second, time.Second, time.Minute, 10 * time.Second, 300 * time.Millisecond} {
		for range 5 {
			f.standStill(d, false)
			f.run(time.Duration(f.rng.IntN(2000)) * time.Millisecond)
		}
	}
	f.run(10 * time.Second)
	// For a while, no element has the time to answer. So many tries do not count.
	for _, l := range f.lanes {
		l.rtt = 50 * time.Millisecond
	}
	for range maxTries {
		f.standStill(450*time.Millisecond, true)
		f.run(20 * time.Millisecond)
	}
	f.run(10 * time.Second)
	if n := f.suspected(); n != 0 {
		t.Errorf("%d suspects, want none", n)
	}
	if took := f.detection(f.lanes[7], 10*time.Second); took > 5*time.Second {
		t.Errorf("an element that hangs is a suspect after %v", took)
	}
}

// TestPaceRate: with KEEP-ALIVE-RATE, intervals are longer, repeats wait, and judgements as well.
func TestPaceRate(t *testing.T) {
	const rate = 100
	f := newFleet(t, 1000, 1, func(c *Config, _ *lane) {
		c.Timers.KeepAliveRate = rate
		c.Rules = func(rserpool.PoolHandle) PoolRule { return PoolRule{Guard: Guard{Off: true}} }
	})
	f.run(40 * time.Second)
	f.sent = 0
	f.run(30 * time.Second)
	if f.sent < 27*rate || f.sent > 31*rate {
		t.Errorf("%d keep-alives in 30 s, want %d", f.sent, 30*rate)
	}
	for _, l := range f.lanes {
		l.hung = true
	}
	f.sent = 0
	for second := range 30 {
		before := f.sent
		f.run(time.Second)
		// As much for repeats, a second's worth at once, and suspects, which are asked without
		// a limit, but seldom.
		if got := f.sent - before; second > 1 && got > 3*rate {
			t.Errorf("%d keep-alives in second %d, want %d at most", got, second, 3*rate)
		}
	}
	if n := f.suspected(); n == 0 || n > 30*rate/6+rate {
		t.Errorf("%d suspects after 30 s, want some, but not more than the repeats allow", n)
	}
	f.run(2 * time.Minute)
	if n := f.r.roster.LenOf(ledger.Suspect); n != 1000 {
		t.Errorf("%d suspects at last, want all", n)
	}
}

// TestPaceDoubles: all elements are slow at times, because their machine or the network has too
// much to do. Repeats would be more of that, and stop. An element that hangs is found fast again
// when it is over.
func TestPaceDoubles(t *testing.T) {
	const n, seconds = 300, 60
	f := newFleet(t, n, 1, nil)
	f.run(30 * time.Second)
	f.sent = 0
	for second := range seconds {
		for _, l := range f.lanes {
			if l.rtt = 20 * time.Millisecond; second%6 < 3 {
				l.rtt = 1200 * time.Millisecond
			}
		}
		f.run(time.Second)
	}
	if most := n * seconds / 2 * 16 / 10; f.sent > most {
		t.Errorf("%d keep-alives to %d elements in %d s, want %d at most", f.sent, n, seconds, most)
	}
	if got := f.suspected(); got > 0 {
		t.Errorf("%d elements are suspects, want none", got)
	}
	for _, l := range f.lanes {
		l.rtt = 20 * time.Millisecond
	}
	f.run(30 * time.Second)
	if took := f.detection(f.lanes[1], 4*time.Second); took > 4*time.Second {
		t.Errorf("an element that hangs is a suspect after %v, want 4s at most", took)
	}
}

// TestDoublesShared: an element that was not asked itself, because others of its association were
// silent, is asked once also while nothing is repeated.
func TestDoublesShared(t *testing.T) {
	w := newWorld(t)
	w.up(1, rserpool.ViaKernel, "10.0.0.1")
	w.recv(1, reg("p", 1, "10.0.0.1"))
	w.r.doubles.until = w.now.Add(time.Hour)
	e := w.r.find("p", 1)
	for range 3 {
		w.r.repeatNow(e)
	}
	if s := w.r.Stats(); s.KeepAlivesRepeated != 1 {
		t.Errorf("%d keep-alives are sent, want 1", s.KeepAlivesRepeated)
	}
}

// TestDoublesForged: acknowledgements without a repeat have no effect.
func TestDoublesForged(t *testing.T) {
	w := newWorld(t)
	w.up(1, rserpool.ViaKernel, "10.0.0.1")
	w.recv(1, reg("p", 1, "10.0.0.1"))
	for w.r.Stats().KeepAlivesSent < 20 {
		w.pass(100 * time.Millisecond)
		for range 2 * doublesLeast {
			w.recv(1, ack("p", 1))
		}
	}
	if !w.r.doubles.until.IsZero() {
		t.Error("nothing is repeated")
	}
}

// TestRepeatsAcknowledged: each try of a keep-alive has its acknowledgement, and none is more
// than was asked for.
func TestRepeatsAcknowledged(t *testing.T) {
	w := newWorld(t)
	w.up(1, rserpool.ViaKernel, "10.0.0.1")
	w.recv(1, reg("p", 1, "10.0.0.1"))
	for w.r.Stats().KeepAlivesRepeated < 2 {
		w.pass(50 * time.Millisecond)
	}
	for range 3 {
		w.recv(1, ack("p", 1))
	}
	if s := w.r.Stats(); s.KeepAlivesAcked != 3 || s.KeepAlivesUnexpected != 0 {
		t.Errorf("%d acknowledged, %d unexpected; want 3 and 0", s.KeepAlivesAcked, s.KeepAlivesUnexpected)
	}
	w.recv(1, ack("p", 1))
	if s := w.r.Stats(); s.KeepAlivesUnexpected != 1 {
		t.Errorf("%d unexpected, want 1", s.KeepAlivesUnexpected)
	}
}

// TestRush: elements are asked half as often while very many others register, and as often as
// before afterwards. One that hangs meanwhile is found later by an interval at most. If some
// leave and come again all the time, that is no rush.
func TestRush(t *testing.T) {
	const n, seconds = 1000, 10
	const rate = 2500
	f := newFleet(t, n, 1, func(c *Config, l *lane) {
		c.Timers.KeepAliveInterval = 2 * time.Second
		c.Timers.KeepAliveRate = rate
		c.Limits.ElementsPerAssoc = 1 << 20
	})
	next := uint32(n + 1)
	come := func(each int) {
		for range each {
			f.do(Received{Assoc: 1, PPID: asap.PPID, Data: encode(t, reg("q", next, "10.0.0.1"))})
			next++
		}
	}
	leave := func(each int) {
		for range each {
			next--
			f.do(Received{Assoc: 1, PPID: asap.PPID, Data: encode(t, dereg("q", next))})
		}
	}
	asked := func(each ...func()) (sent float64) {
		f.onSent = func(s *Send) {
			if s.Assoc != 1 {
				sent++
			}
		}
		for i := range 10 * seconds {
			if len(each) > 0 {
				each[i%len(each)]()
			}
			f.run(100 * time.Millisecond)
		}
		return sent / seconds / (n - 1)
	}
	f.run(20 * time.Second)
	usual := asked()
	const some, many = rushLeast + 44, 40 // in a tenth of a second
	comeAndLeave := []func(){func() { come(some) }, func() { leave(some) }}
	for _, do := range comeAndLeave { // the first time it is a rush
		do()
		f.run(5 * time.Second)
	}
	for _, tt := range []struct {
		name        string
		each        []func()
		least, most float64
	}{
		{"some come and leave", comeAndLeave, 0.95, 1.05},
		{"some come and leave in the same moment", []func(){func() { come(some); leave(some) }}, 0.95, 1.05},
		{"a while later", nil, 0.95, 1.05},
		{"many come", []func(){func() { come(many) }}, 0.45, 0.55}, // the first interval of each is longer, too
		{"it is over", nil, 0.75, 1.05},
	} {
		if tt.name == "a while later" {
			f.run(2 * rushMemory)
		}
		if got := asked(tt.each...) / usual; got < tt.least || got > tt.most {
			t.Errorf("%s: the elements are asked %.2f times as often as before, want %v to %v", tt.name, got, tt.least, tt.most)
		}
	}
	for range 20 {
		come(many)
		f.run(100 * time.Millisecond)
	}
	for since, i := f.now, 0; i < 58; i++ {
		f.lanes[7].hung = true
		come(many)
		if f.run(100 * time.Millisecond); f.suspected() > 0 {
			t.Logf("an element that hangs is found after %v", f.now.Sub(since))
			return
		}
	}
	t.Error("an element that hangs is not found within 5.8 s")
}

// TestRushOfFew: an element that hangs is found as soon as usual after all have come at once, if
// they have few keep-alives.
func TestRushOfFew(t *testing.T) {
	const most = 5200 * time.Millisecond // no round-trip time is known yet
	f := newFleet(t, 1999, 1, nil)
	if took := f.detection(f.lanes[1999], most); took > most {
		t.Errorf("an element that hangs is a suspect after %v, want %v at most", took, most)
	}
}

// TestRushFirst: the first elements of a rush came before it was one, and leave the registrar as
// much time for the others as these do.
func TestRushFirst(t *testing.T) {
	f := newFleet(t, 1, 1, func(c *Config, _ *lane) {
		c.Timers.KeepAliveInterval = 2 * time.Second
		c.Timers.KeepAliveRate = 1000
		c.Limits.ElementsPerAssoc = 1 << 20
	})
	asked := 0
	f.onSent = func(*Send) { asked++ }
	for next := uint32(2); next < 3000; {
		for range 100 {
			f.do(Received{Assoc: 1, PPID: asap.PPID, Data: encode(t, reg("q", next, "10.0.0.1"))})
			next++
		}
		f.run(100 * time.Millisecond)
	}
	if asked > 0 {
		t.Errorf("%d keep-alives while 3000 elements came in 3 s, want none", asked)
	}
	if f.run(2 * time.Second); asked < 1000 {
		t.Errorf("%d keep-alives in the 2 s after that, want many", asked)
	}
}

// TestIntervals: the intervals of all pools are longer by the same factor.
func TestIntervals(t *testing.T) {
	var v intervals
	for _, tt := range []struct {
		interval time.Duration
		n        int
		want     float64
	}{
		{2 * time.Second, 1000, 1},
		{500 * time.Millisecond, 250, 1},
		{2 * time.Second, 1000, 1.5},
		{2 * time.Second, -2000, 1},
		{500 * time.Millisecond, 1750, 4},
		{500 * time.Millisecond, -2000, 1},
	} {
		if v.add(tt.interval, tt.n, 1000); v.stretch != tt.want {
			t.Errorf("%d elements more of %v: intervals are %g times as long, want %g", tt.n, tt.interval, v.stretch, tt.want)
		}
	}
	if len(v.count) != 0 {
		t.Errorf("%v are left", v.count)
	}
}

// TestIntervalsInOrder: the factor does not depend on the order in which elements have come.
func TestIntervalsInOrder(t *testing.T) {
	var up, down intervals
	const n = 50
	for i := 1; i <= n; i++ {
		up.add(time.Duration(i)*7*time.Second, 100+i, 1)
		down.add(time.Duration(n+1-i)*7*time.Second, 100+n+1-i, 1)
	}
	if up.stretch != down.stretch {
		t.Errorf("%v and %v for the same elements", up.stretch, down.stretch)
	}
}
