package handlespace

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// look is a handlespace as one would write it down.
func look(pools func(func(*Pool, []*Element))) string {
	var all []string
	pools(func(p *Pool, es []*Element) {
		line := fmt.Sprintf("%s %v:", p.Handle(), p.Policy())
		for _, e := range es {
			line += fmt.Sprintf(" %v/%d", e.ID, e.Life)
		}
		all = append(all, line)
	})
	slices.Sort(all)
	return strings.Join(all, "\n")
}

func (s *Space) look() string {
	return look(func(yield func(*Pool, []*Element)) {
		for p := range s.Pools() {
			yield(p, p.Elements(nil))
		}
	})
}

func (s *Snapshot) look() string {
	return look(func(yield func(*Pool, []*Element)) {
		for p := range s.Pools() {
			yield(p.Pool, p.Elements)
		}
	})
}

// randomChange puts, renews or removes an element. Each version of an element has another
// Life.
func randomChange(t *testing.T, s *Space, r *rand.Rand, version int32) {
	t.Helper()
	h, id := rserpool.PoolHandle(fmt.Sprintf("pool%d", r.IntN(12))), rserpool.PEID(r.IntN(6))
	e := newElement(id, IPv4, rserpool.Policy{Type: []rserpool.PolicyType{rserpool.RoundRobin, rserpool.Priority}[r.IntN(2)]})
	e.Life = version
	switch r.IntN(3) {
	case 0:
		s.Remove(h, id)
	case 1:
		_, _ = s.Renew(h, e) // the other policy may not fit
	default:
		_, _ = s.Put(h, e)
	}
}

// TestSnapshotMoment interrupts the reader after each number of pools, has the writer change
// as much as it likes, and compares the snapshot with the handlespace at its moment.
func TestSnapshotMoment(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 4))
	version := int32(0)
	for range 300 {
		s := newSpace()
		change := func(n int) {
			for range n {
				version++
				randomChange(t, s, r, version)
			}
		}
		change(r.IntN(60))
		for range 1 + r.IntN(3) { // the marks of one must be right for the next
			c, _ := s.beginCapture(time.Unix(1e9, 0))
			want := s.look()
			if r.IntN(2) == 0 {
				change(1 + r.IntN(20))
			}
			for p := range s.table.all {
				c.take(p)
				change(r.IntN(8))
			}
			got := &Snapshot{pools: c.taken, saved: s.endCapture()}
			for p := range got.Pools() {
				slices.SortFunc(p.Elements, byID)
			}
			if got.look() != want {
				t.Fatalf("got the snapshot\n%s\nwant\n%s", got.look(), want)
			}
			change(r.IntN(20))
		}
	}
}

// TestSnapshotConcurrent: a writer puts a new version of all elements of two pools, one after
// the other. A snapshot must not have a later version of an element that was put later.
func TestSnapshotConcurrent(t *testing.T) {
	t.Parallel()
	const pools, ids = 40, 5
	s := newSpace()
	put := func(version int32) {
		for i := range pools {
			for id := range rserpool.PEID(ids) {
				e := roundRobin(id)
				e.Life = version
				mustPut(t, s, rserpool.PoolHandle(fmt.Sprint(i)), e)
			}
		}
	}
	put(0)
	var readers sync.WaitGroup
	stop := make(chan struct{})
	for range 3 {
		readers.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				snap := s.Snapshot(time.Unix(1e9+int64(i), 0))
				last := int32(-1)
				for i := range pools {
					p := snap.Pool(rserpool.PoolHandle(fmt.Sprint(i)))
					for _, e := range p.Elements {
						if last >= 0 && e.Life != last && e.Life != last-1 {
							t.Errorf("version %d after %d in one snapshot", e.Life, last)
							return
						}
						last = e.Life
					}
					if len(p.Elements) != ids {
						t.Errorf("%d elements in pool %d, want %d", len(p.Elements), i, ids)
					}
				}
			}
		})
	}
	for version := range int32(300) {
		put(version)
	}
	close(stop)
	readers.Wait()
}

// TestSnapshotShared: two readers at the same time have the same snapshot; a change has
// another one as soon as it has a serial number.
func TestSnapshotShared(t *testing.T) {
	t.Parallel()
	s := newSpace()
	now := time.Unix(1e9, 0)
	mustPut(t, s, "p", roundRobin(1))
	s.Serial(now)
	now = now.Add(time.Second)
	first := s.Snapshot(now)
	if second := s.Snapshot(now.Add(time.Hour)); second != first {
		t.Error("another snapshot without a change")
	}
	mustPut(t, s, "p", roundRobin(2))
	second := s.Snapshot(now.Add(time.Hour))
	if second == first || second.Serial == first.Serial {
		t.Errorf("serial %d after a change, was %d", second.Serial, first.Serial)
	}
	if got := len(first.Pool("p").Elements); got != 1 {
		t.Errorf("the first snapshot has %d elements after a change, had 1", got)
	}
	runtime.KeepAlive(first)
	first, second = nil, nil
	runtime.GC()
	if s.snapshots.last.Value() != nil {
		t.Error("a snapshot without a user is kept")
	}
}

// TestSnapshotLookup compares it with that of the space.
func TestSnapshotLookup(t *testing.T) {
	t.Parallel()
	s := newSpace()
	handles := []rserpool.PoolHandle{"Bank", "BANK", "bAnk", "web", "WEB", "a.b", "A.b", "Ab", "é", "É", ""}
	for _, h := range handles {
		mustPut(t, s, h, roundRobin(7))
	}
	snap := s.Snapshot(time.Unix(1e9, 0))
	for _, h := range append(handles, "none", "b", "bank", "a.B", "AB") {
		var want *Pool
		want, _ = s.Lookup([]byte(h))
		if got := snap.Lookup(string(h)); want == nil && got != nil || want != nil && (got == nil || got.Pool != want) {
			t.Errorf("Lookup(%q): got %v, want %v", h, got, want)
		}
		if got, want := snap.Pool(h), s.Pool(h); want == nil && got != nil || want != nil && (got == nil || got.Pool != want) {
			t.Errorf("Pool(%q): got %v, want %v", h, got, want)
		}
	}
	if p := snap.Pool("web"); p.Element(7) == nil || p.Element(8) != nil || p.Element(6) != nil {
		t.Error("Element finds what is not there, or does not find what is")
	}
}

// BenchmarkSnapshot reports the longest time that a writer waits for a snapshot, besides
// the time of a snapshot.
func BenchmarkSnapshot(b *testing.B) {
	for _, sh := range []shape{{100000, 1}, {33333, 3}, {1, 100000}, {1000000, 1}, {1, 1000000}} {
		b.Run(sh.String(), func(b *testing.B) {
			s := fill(b, sh, rserpool.RoundRobin)
			e := benchElement(rand.New(rand.NewPCG(1, 2)), 0, rserpool.RoundRobin)
			var longest, sum time.Duration
			n := 0
			for i := 0; b.Loop(); i++ {
				done := make(chan struct{})
				go func() {
					defer close(done)
					runtime.KeepAlive(s.Snapshot(time.Unix(1e9+int64(2*i), 0)))
				}()
				for k, more := 0, true; more; k++ {
					select {
					case <-done:
						more = false
					default:
					}
					e := *e
					e.Life = int32(k)
					h := benchHandle(k % sh.pools)
					start := time.Now()
					mustPut(b, s, h, &e)
					took := time.Since(start)
					longest, sum, n = max(longest, took), sum+took, n+1
				}
			}
			b.ReportMetric(float64(longest.Microseconds()), "µs-longest-wait")
			b.ReportMetric(float64(sum.Nanoseconds())/float64(n), "ns/put")
		})
	}
}

// TestSnapshotSet: a set has the elements that the policy may select, with the values that
// they registered, in the policy's order.
func TestSnapshotSet(t *testing.T) {
	t.Parallel()
	type policy = rserpool.Policy
	const rr, wrr, prio, lu, rlu = rserpool.RoundRobin, rserpool.WeightedRoundRobin, rserpool.Priority, rserpool.LeastUsed, rserpool.RandomizedLeastUsed
	tests := []struct {
		name     string
		policies []policy // of the elements 1, 2, ...
		families []Families
		n        int
		want     string // identifier=value
	}{
		{"round robin", []policy{{Type: rr}, {Type: rr}, {Type: rr}}, nil, 5, "1=0 2=0 3=0"},
		{"the first ones", []policy{{Type: rr}, {Type: rr}, {Type: rr}}, nil, 2, "1=0 2=0"},
		{"a family", []policy{{Type: rr}, {Type: rr}, {Type: rr}}, []Families{IPv6, IPv4 | IPv6, IPv4}, 5, "2=0 3=0"},
		{"weights", []policy{{Type: wrr, Weight: 1}, {Type: wrr, Weight: 3}, {Type: wrr}}, nil, 5, "2=3 1=1"},
		{"priorities", []policy{{Type: prio, Priority: 1}, {Type: prio, Priority: 3}, {Type: prio, Priority: 2}, {Type: prio, Priority: 3}}, nil, 3, "2=3 4=3 3=2"},
		{"loads", []policy{{Type: lu, Load: 5}, {Type: lu, Load: 3}, {Type: lu, Load: 4}}, nil, 2, "2=3 1=5"},
		{"spare loads", []policy{{Type: rlu, Load: full}, {Type: rlu, Load: full - 1}}, nil, 5, "2=1"},
		{"no spare load", []policy{{Type: rlu, Load: full}, {Type: rlu, Load: full}}, nil, 1, "1=0"},
	}
	for _, tt := range tests {
		s := newSpace()
		for i, p := range tt.policies {
			f := IPv4
			if tt.families != nil {
				f = tt.families[i]
			}
			mustPut(t, s, "p", newElement(rserpool.PEID(i+1), f, p))
		}
		var got []string
		for _, e := range s.Snapshot(time.Unix(1e9, 0)).Pool("p").Set(tt.n, IPv4) {
			got = append(got, fmt.Sprintf("%d=%d", uint32(e.ID), e.Value))
		}
		if got := strings.Join(got, " "); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
		}
	}
}
