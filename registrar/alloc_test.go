package registrar

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// filled is a registrar with n elements in one pool, on association 1.
func filled(t testing.TB, n int) *Registrar {
	t.Helper()
	r, err := New(Config{ServerID: testServer, Rand: rand.New(rand.NewPCG(1, 2)), Limits: Limits{ElementsPerAssoc: max(n, 1<<16)}})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1000, 0)
	r.Handle(now, AssocUp{Assoc: 1, Peer: peers("10.0.0.1"), Via: rserpool.ViaKernel})
	m := reg("pool", 0, "10.0.0.1")
	for range n {
		m.Element.ID++
		r.Handle(now, Received{Assoc: 1, PPID: asap.PPID, Data: encode(t, m)})
	}
	if members(r.roster) != n {
		t.Fatalf("elements: got %d, want %d", members(r.roster), n)
	}
	return r
}

// A handle resolution, bytes in to bytes out, allocates nothing.
func TestResolutionAllocs(t *testing.T) {
	r := filled(t, 1000)
	now := time.Unix(1000, 0)
	r.Handle(now, Received{Assoc: 1, PPID: asap.PPID, Data: encode(t, reg("another", 1, "10.0.0.1"))})
	evs := []Event{
		Received{Assoc: 1, PPID: asap.PPID, Data: encode(t, resolve("pool"))},
		Received{Assoc: 1, PPID: asap.PPID, Data: encode(t, resolve("another"))},
	}
	if got := testing.AllocsPerRun(1000, func() {
		for _, ev := range evs {
			r.Handle(now, ev)
		}
	}); got > 0 {
		t.Errorf("allocations of a resolution: got %v, want none", got)
	}
}

// shapes are sizes of handlespaces: so many pools of so many elements.
var shapes = []struct{ pools, elements int }{{1, 1}, {1, 1000}, {1000, 10}, {1, 60000}}

// perShape runs a benchmark of messages, taken in turn, that m makes for a pool
// and an element of it.
func perShape(b *testing.B, m func(pool string, id uint32) asap.Message) {
	for _, sh := range shapes {
		b.Run(fmt.Sprintf("%dx%d", sh.pools, sh.elements), func(b *testing.B) {
			r := filled(b, 0)
			now := time.Unix(1000, 0)
			var evs []Event
			for _, i := range rand.New(rand.NewPCG(3, 4)).Perm(sh.pools * sh.elements) {
				pool, id := fmt.Sprintf("pool-%06d", i%sh.pools), uint32(i+1)
				r.Handle(now, Received{Assoc: 1, PPID: asap.PPID, Data: encode(b, reg(pool, id, "10.0.0.1"))})
				if len(evs) < 1000 {
					evs = append(evs, Received{Assoc: 1, PPID: asap.PPID, Data: encode(b, m(pool, id))})
				}
			}
			if want := sh.pools * sh.elements; members(r.roster) != want {
				b.Fatalf("elements: got %d, want %d", members(r.roster), want)
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				r.Handle(now, evs[i])
				if i++; i == len(evs) {
					i = 0
				}
			}
		})
	}
}

func BenchmarkResolution(b *testing.B) {
	perShape(b, func(pool string, _ uint32) asap.Message { return resolve(pool) })
}

func BenchmarkReregistration(b *testing.B) {
	perShape(b, func(pool string, id uint32) asap.Message { return reg(pool, id, "10.0.0.1") })
}

func BenchmarkKeepAlive(b *testing.B) {
	r := filled(b, 60000)
	b.ReportAllocs()
	for b.Loop() {
		now, _ := r.NextDeadline()
		for _, a := range r.Handle(now, Tick{}) {
			if s, ok := a.(*Send); ok && s.Data[0] == byte(asap.TypeEndpointKeepAlive) {
				m, _, _ := asap.Parse(s.Data)
				ka := m.(*asap.EndpointKeepAlive)
				r.alive(r.find(ka.Handle, ka.ID))
			}
		}
	}
}

// collect collects garbage and returns the number of objects that are left.
func collect() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapObjects
}

// TestHeapObjects: with very many elements, the garbage collector's work takes a part of the time for
// each answer, and follows from the number of objects: the description of an own element, and the
// rest of it.
func TestHeapObjects(t *testing.T) {
	const n = 10_000
	before := collect()
	r := filled(t, n)
	if got := float64(collect()-before) / n; got > 2.1 {
		t.Errorf("an own element takes %.2f objects of the heap, want 2", got)
	}
	runtime.KeepAlive(r)
}

// BenchmarkCollection is a garbage collection with 1,000,000 own elements.
func BenchmarkCollection(b *testing.B) {
	r := filled(b, 1_000_000)
	runtime.GC()
	for b.Loop() {
		runtime.GC()
	}
	runtime.KeepAlive(r)
}
