package ledger

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

var since = time.Unix(7, 0)

// full returns a ledger with a pool of n members.
func full(t testing.TB, n int, policy rserpool.PolicyType) (*Ledger[int], *Roster[int]) {
	t.Helper()
	l := New[int](handlespace.New(rand.New(rand.NewPCG(1, 2))), Limits{Pools: 4, Elements: n + 10, HandleBytes: 1 << 20, ElementBytes: 1 << 30, Alike: 4})
	r := NewRoster[int](own)
	for id := range rserpool.PEID(n) {
		if _, err := l.Put(nil, r, "p", element(id+1, policy), Refuse); err != nil {
			t.Fatal(err)
		}
	}
	return l, r
}

// TestNeverEmpty: readers find an element in a pool, whatever its elements do while one of
// them is not known to be gone.
func TestNeverEmpty(t *testing.T) {
	const n = 12
	for _, policy := range []rserpool.PolicyType{rserpool.WeightedRoundRobin, rserpool.LeastUsedDegradation} {
		l, r := full(t, n, policy)
		l.batch = 3
		var readers sync.WaitGroup
		stop := make(chan struct{})
		for range 2 {
			readers.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					p, _ := l.space.Lookup([]byte("p"))
					if p == nil || len(p.Select(nil, 1, 0)) != 1 || p.Len() == 0 {
						t.Errorf("policy %v: no element", policy)
						return
					}
				}
			})
		}
		rng := rand.New(rand.NewPCG(3, 4))
		guarded := 0
		for i := range 4000 {
			id := rserpool.PEID(1 + rng.IntN(n))
			e, quiet := l.Find("p", id), i/80%2 == 0 // by turns, most fall silent, and come back
			switch k := rng.IntN(20); {
			case k < 14 && e != nil && quiet:
				l.Suspect(e, since)
				if k == 0 {
					l.Displace(e)
				}
			case k < 10 && e != nil && !quiet:
				l.Confirm(e)
			case k < 15 && e != nil && l.Pool("p").Elements > 1:
				l.Remove(e)
			case k < 17 && !quiet:
				if _, err := l.Put(e, r, "p", element(id, policy), Refuse); err != nil {
					t.Fatal(err)
				}
			default:
				l.Step()
			}
			guarded += l.GuardedPools()
		}
		close(stop)
		readers.Wait()
		if guarded < 400 || guarded > 3600 {
			t.Errorf("policy %v: the pool was guarded %d times", policy, guarded)
		}
		if err := l.check(0, r); err != nil {
			t.Error(err)
		}
	}
}

// TestGuardRules: when suspects are served.
func TestGuardRules(t *testing.T) {
	for _, c := range []struct {
		name     string
		rule     GuardRule
		suspects int // of four
		served   int
		guarded  bool
	}{
		{"none", GuardRule{}, 0, 4, false},
		{"some", GuardRule{}, 3, 1, false},
		{"all", GuardRule{}, 4, 4, true},
		{"below the share", GuardRule{Share: 0.5}, 1, 3, false},
		{"at the share", GuardRule{Share: 0.5}, 2, 4, true},
		{"off", GuardRule{Off: true}, 3, 1, false},
		{"off, all", GuardRule{Off: true}, 4, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, r := full(t, 4, rserpool.RoundRobin)
			l.Guard = func(rserpool.PoolHandle) GuardRule { return c.rule }
			emptied := false
			for id := range rserpool.PEID(c.suspects) {
				emptied = l.Suspect(l.Find("p", id+1), since).Emptied
			}
			if _, served := l.space.Len(); served != c.served || l.Pool("p").Guarded != c.guarded || emptied != (served == 0) {
				t.Errorf("%d served, guarded %v, emptied %v, want %d, %v", served, l.Pool("p").Guarded, emptied, c.served, c.guarded)
			}
			if err := l.check(0, r); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestDisplaced: a pool does without a suspect at whose place another one is as long as it has
// any other element.
func TestDisplaced(t *testing.T) {
	for _, c := range []struct {
		name      string
		rule      GuardRule
		suspects  int // of four, the first ones
		displaced int // of these
		served    int
		guarded   bool
	}{
		{"one, with members", GuardRule{}, 1, 1, 3, false},
		{"one of two suspects, with members", GuardRule{}, 2, 1, 2, false},
		{"one, of all", GuardRule{}, 4, 1, 3, true},
		{"all but one", GuardRule{}, 4, 3, 1, true},
		{"all", GuardRule{}, 4, 4, 4, true},
		{"all, off", GuardRule{Off: true}, 4, 4, 0, false},
		{"at the share", GuardRule{Share: 0.5}, 3, 1, 3, true},
		{"not at the share without it", GuardRule{Share: 0.6}, 3, 2, 1, false},
		{"at the share, all suspects", GuardRule{Share: 0.1}, 2, 2, 2, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, r := full(t, 4, rserpool.RoundRobin)
			l.Guard = func(rserpool.PoolHandle) GuardRule { return c.rule }
			for id := range rserpool.PEID(c.suspects) {
				l.Suspect(l.Find("p", id+1), since)
			}
			for id := range rserpool.PEID(c.displaced) {
				l.Displace(l.Find("p", id+1))
			}
			if _, served := l.space.Len(); served != c.served || l.Pool("p").Guarded != c.guarded {
				t.Errorf("%d served, guarded %v, want %d, %v", served, l.Pool("p").Guarded, c.served, c.guarded)
			}
			if err := l.check(0, r); err != nil {
				t.Error(err)
			}
			for id := range rserpool.PEID(c.displaced) { // each is heard again
				l.Confirm(l.Find("p", id+1))
				if e := l.Find("p", id+1); !e.Served() || e.Displaced() {
					t.Errorf("element %v is back, but served %v, displaced %v", id+1, e.Served(), e.Displaced())
				}
			}
			if err := l.check(0, r); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestDrained: an element of weight 0 is no reason to do without suspects.
func TestDrained(t *testing.T) {
	l, r := full(t, 2, rserpool.WeightedRoundRobin)
	drained := element(1, rserpool.WeightedRoundRobin)
	drained.Policy.Weight = 0
	if _, err := l.Put(l.Find("p", 1), r, "p", drained, Refuse); err != nil {
		t.Fatal(err)
	}
	if c := l.Suspect(l.Find("p", 2), since); c.Guarded != 1 || c.Visible {
		t.Errorf("%+v", c)
	}
	if got := l.space.Pool("p").Select(nil, 2, 0); len(got) != 1 || got[0].ID != 2 {
		t.Errorf("got %v", got)
	}
	if c, err := l.Put(l.Find("p", 1), r, "p", element(1, rserpool.WeightedRoundRobin), Refuse); err != nil || c.Guarded != -1 || !c.Visible {
		t.Errorf("%+v, %v", c, err)
	}
	if err := l.check(0, r); err != nil {
		t.Error(err)
	}
}

// TestSuspectValues: a suspect keeps its turn and its sum while it is out.
func TestSuspectValues(t *testing.T) {
	l, _ := full(t, 3, rserpool.LeastUsedDegradation)
	for _, id := range []rserpool.PEID{1, 2, 3} {
		e := l.Find("p", id)
		pe := *e.PE()
		pe.Policy.LoadDegradation = uint32(10 * id)
		if _, err := l.Put(e, e.Roster(), "p", &pe, Refuse); err != nil {
			t.Fatal(err)
		}
	}
	p := l.space.Pool("p")
	p.Select(nil, 3, 0) // 10, 20, 30
	l.Suspect(l.Find("p", 3), since)
	p.Select(nil, 2, 0) // 20, 40
	if c := l.Confirm(l.Find("p", 3)); !c.Visible || c.Entry.State() != Member || !c.Entry.Since().IsZero() {
		t.Errorf("%+v", c)
	}
	if got := p.Select(nil, 3, 0); got[0].ID != 1 || got[1].ID != 2 && got[1].ID != 3 || got[0].Value != 20 || got[1].Value != 40 || got[2].Value != 40 {
		t.Errorf("got %v %d, %v %d, %v %d", got[0].ID, got[0].Value, got[1].ID, got[1].Value, got[2].ID, got[2].Value)
	}
}

// TestSizes: entries and pools without suspects take what they did before there were any.
func TestSizes(t *testing.T) {
	type note [32]byte // as large as the registrar's
	if got := unsafe.Sizeof(Entry[note]{}); got > 112 {
		t.Errorf("an entry takes %d bytes, want 112 at most", got)
	}
	if got := unsafe.Sizeof(pool[note]{}); got > 80 {
		t.Errorf("a pool takes %d bytes, want 80 at most", got)
	}
	l, _ := full(t, 4, rserpool.RoundRobin)
	for id := range rserpool.PEID(4) {
		l.Suspect(l.Find("p", id+1), since)
	}
	for id := range rserpool.PEID(4) {
		l.Confirm(l.Find("p", id+1))
	}
	if l.pools["p"].special != nil || l.Find("p", 1).doubt != nil {
		t.Error("memory for suspects is left")
	}
}

// cpu is the time that the thread has used.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(1, &u); err != nil { // RUSAGE_THREAD
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkGuard has the guard of a large pool begin and end, again and again, and reports the
// longest time that one event takes.
func BenchmarkGuard(b *testing.B) {
	const n = 100000
	for _, policy := range []rserpool.PolicyType{rserpool.RoundRobin, rserpool.WeightedRoundRobin, rserpool.WeightedRandom, rserpool.LeastUsedDegradation} {
		b.Run(policy.String(), func(b *testing.B) {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			l, _ := full(b, n, policy)
			l.space.Pool("p").SelectSet(nil, 10, 0, 1)
			for id := rserpool.PEID(2); id <= n; id++ {
				l.Suspect(l.Find("p", id), since)
			}
			longest, steps := time.Duration(0), 0
			timed := func(f func()) {
				began := cpu(b)
				f()
				longest = max(longest, cpu(b)-began)
				steps++
			}
			for b.Loop() {
				timed(func() { l.Suspect(l.Find("p", 1), since) })
				for l.Unsettled() {
					timed(func() { l.Step() })
				}
				timed(func() { l.Confirm(l.Find("p", 1)) })
				for l.Unsettled() {
					timed(func() { l.Step() })
				}
			}
			b.ReportMetric(float64(longest)/1e6, "ms/longest")
			b.ReportMetric(float64(steps)/float64(b.N), "steps/op")
		})
	}
}
