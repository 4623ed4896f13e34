package handlespace

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"testing"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// The benchmarks print the table of the documentation: go test -bench . -benchtime 0.2s

// shape is a handlespace's size.
type shape struct{ pools, elements int }

func (s shape) String() string { return fmt.Sprintf("%dx%d", s.pools, s.elements) }

var shapes = []shape{{1, 10}, {1, 1000}, {1000, 10}, {1, 100000}, {100000, 10}}

var benchPolicies = []struct {
	name string
	typ  rserpool.PolicyType
}{
	{"RR", rserpool.RoundRobin},
	{"WRR", rserpool.WeightedRoundRobin},
	{"RAND", rserpool.Random},
	{"WRAND", rserpool.WeightedRandom},
	{"PRIO", rserpool.Priority},
	{"LU", rserpool.LeastUsed},
	{"LUD", rserpool.LeastUsedDegradation},
	{"PLU", rserpool.PriorityLeastUsed},
	{"RLU", rserpool.RandomizedLeastUsed},
	{"RPLU", rserpool.RandomizedPriorityLeastUsed},
	{"RLUD", rserpool.RandomizedLeastUsedDegradation},
	{"PLUD", rserpool.PriorityLeastUsedDegradation},
	{"RPLUD", rserpool.RandomizedPriorityLeastUsedDegradation},
	{"WRAND-DPF", rserpool.WeightedRandomDPF},
	{"LU-DPF", rserpool.LeastUsedDPF},
	{"LUD-DPF", rserpool.LeastUsedDegradationDPF},
}

// benchElement has two addresses of its own, as parsing makes them, and
// everyday values.
func benchElement(r *rand.Rand, id rserpool.PEID, t rserpool.PolicyType) *Element {
	four, six := [4]byte{192, 0, 2}, [16]byte{0x20, 0x01, 0x0d, 0xb8}
	four[3], six[15] = byte(id), byte(id)
	addrs := []netip.Addr{netip.AddrFrom4(four), netip.AddrFrom16(six)}
	return &Element{PoolElement: rserpool.PoolElement{
		ID:            id,
		UserTransport: rserpool.Transport{Type: rserpool.SCTP, Port: 7, Addrs: addrs},
		Policy: rserpool.Policy{
			Type: t, Weight: 1 + r.Uint32N(100), Priority: r.Uint32N(10), Load: r.Uint32() / 2,
			LoadDegradation: 1 << 16, DPF: 1 << 20, Distance: r.Uint32N(200),
		},
	}}
}

func benchHandle(i int) rserpool.PoolHandle { return rserpool.PoolHandle(fmt.Sprintf("pool-%06d", i)) }

func fill(b *testing.B, sh shape, t rserpool.PolicyType) *Space {
	b.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	s := newSpace()
	for i := range sh.pools {
		h := benchHandle(i)
		for range sh.elements {
			mustPut(b, s, h, benchElement(r, rserpool.PEID(r.Uint32()), t))
		}
	}
	return s
}

// BenchmarkSelect looks up a pool by its name and selects in it. Pools are
// taken at random.
func BenchmarkSelect(b *testing.B) {
	perPolicy(b, func(b *testing.B, sh shape, t rserpool.PolicyType) {
		s := fill(b, sh, t)
		names := make([][]byte, sh.pools)
		for i, j := range rand.New(rand.NewPCG(3, 4)).Perm(sh.pools) {
			names[i] = []byte(benchHandle(j))
		}
		for _, n := range []int{1, 3} {
			b.Run(fmt.Sprint(n), func(b *testing.B) {
				b.ReportAllocs()
				dst := make([]Selected, 0, n)
				i := 0
				for b.Loop() {
					p, _ := s.Lookup(names[i])
					dst = p.Select(dst[:0], n, 0)
					if i++; i == len(names) {
						i = 0
					}
				}
			})
		}
	})
}

// BenchmarkPreview compares an update for a cache with an answer of the same length.
func BenchmarkPreview(b *testing.B) {
	perPolicy(b, func(b *testing.B, sh shape, t rserpool.PolicyType) {
		const n = 128
		p, _ := fill(b, sh, t).Lookup([]byte(benchHandle(0)))
		dst := make([]Selected, 0, n)
		b.Run("select", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				dst = p.Select(dst[:0], n, 0)
			}
		})
		b.Run("preview", func(b *testing.B) {
			b.ReportAllocs()
			view := uint64(0)
			for b.Loop() {
				view += 0x9e3779b9
				dst = p.Preview(dst[:0], n, view)
			}
		})
	})
}

// perPolicy runs a benchmark for every shape and policy.
func perPolicy(b *testing.B, bench func(*testing.B, shape, rserpool.PolicyType)) {
	for _, sh := range shapes {
		b.Run(sh.String(), func(b *testing.B) {
			for _, policy := range benchPolicies {
				b.Run(policy.name, func(b *testing.B) { bench(b, sh, policy.typ) })
			}
		})
	}
}

// smallSpaces tells how many spaces of a shape it takes for at least 1000 elements.
func smallSpaces(sh shape) int { return max(1, 1000/(sh.pools*sh.elements)) }

// BenchmarkPut puts elements into random pools: new ones, which it takes out
// again, and updates with other values. Only Put is timed.
func BenchmarkPut(b *testing.B) {
	perPolicy(b, func(b *testing.B, sh shape, t rserpool.PolicyType) {
		spaces := make([]*Space, smallSpaces(sh))
		for i := range spaces {
			spaces[i] = fill(b, sh, t)
		}
		type put struct {
			space   *Space
			handle  rserpool.PoolHandle
			element *Element
		}
		r := rand.New(rand.NewPCG(5, 6))
		batch := make([]put, min(1000, len(spaces)*sh.pools*sh.elements/10))
		random := func(i int) put {
			return put{spaces[i%len(spaces)], benchHandle(r.IntN(sh.pools)), benchElement(r, rserpool.PEID(r.Uint32()), t)}
		}
		run := func(b *testing.B, next func(i int)) {
			b.ReportAllocs()
			for done := 0; done < b.N; done += len(batch) {
				b.StopTimer()
				for i := range batch {
					next(i)
				}
				b.StartTimer()
				for _, p := range batch[:min(len(batch), b.N-done)] {
					if _, err := p.space.Put(p.handle, p.element); err != nil {
						b.Fatal(err)
					}
				}
			}
		}
		b.Run("new", func(b *testing.B) {
			run(b, func(i int) {
				if p := batch[i]; p.element != nil {
					p.space.Remove(p.handle, p.element.ID)
				}
				batch[i] = random(i)
			})
		})
		b.Run("update", func(b *testing.B) {
			for _, p := range batch { // those of new may not all be there
				mustPut(b, p.space, p.handle, p.element)
			}
			run(b, func(i int) { batch[i].element = benchElement(r, batch[i].element.ID, t) })
		})
	})
}

// BenchmarkHeap reports the heap that a handlespace takes for an element, its
// two addresses and its share of the pool included.
func BenchmarkHeap(b *testing.B) {
	perPolicy(b, func(b *testing.B, sh shape, t rserpool.PolicyType) {
		for b.Loop() {
			spaces := make([]*Space, smallSpaces(sh))
			before := heapInUse()
			for i := range spaces {
				spaces[i] = fill(b, sh, t)
			}
			used := heapInUse() - before
			b.ReportMetric(float64(used)/float64(len(spaces)*sh.pools*sh.elements), "B/element")
			runtime.KeepAlive(spaces)
		}
	})
}

func heapInUse() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
