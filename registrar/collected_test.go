package registrar

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"runtime/metrics"
	"testing"
	"time"
	"unsafe"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// TestCollected: a garbage collection, which delays DNS answers, has few objects to visit for each
// element.
func TestCollected(t *testing.T) {
	for _, tt := range []struct {
		pools, each int
		most        float64 // objects for an element
	}{
		{1, 10000, 3.1}, // the description, the entry, and what its home knows of it
		{1000, 10, 4.2}, // and a tenth of what a pool takes
	} {
		before := collected()
		r := registered(t, tt.pools, tt.each)
		after := collected()
		n := float64(tt.pools * tt.each)
		objects := (after.objects - before.objects) / n
		t.Logf("%d pools of %d: for an element %.2f objects, %.0f bytes, %.0f of them with pointers",
			tt.pools, tt.each, objects, (after.bytes-before.bytes)/n, (after.scanned-before.scanned)/n)
		if objects < 2 || objects > tt.most {
			t.Errorf("%d pools of %d: an element takes %.2f objects, want %.2f at most", tt.pools, tt.each, objects, tt.most)
		}
		runtime.KeepAlive(r)
	}
}

// TestDense: what is kept of elements that come one after the other fills its pages of memory. Garbage
// of the same size between them would leave a garbage collection with several times as many pages to
// visit.
func TestDense(t *testing.T) {
	const n = 10000
	r := registered(t, 1, n)
	const page = 8192 // of Go's allocator
	pages := map[string]map[uintptr]bool{"descriptions": {}, "entries": {}}
	for c := r.ledger.OpenAll(r.roster); c.Peek() != nil; {
		x := c.Next()
		pages["descriptions"][uintptr(unsafe.Pointer(x.PE()))/page] = true
		pages["entries"][uintptr(unsafe.Pointer(x))/page] = true
	}
	for what, size := range map[string]uintptr{"descriptions": unsafe.Sizeof(ownElement{}), "entries": unsafe.Sizeof(ownEntry{})} {
		if got, full := len(pages[what]), n*int(size)/page; got > full*5/4 {
			t.Errorf("the %s of %d elements are in %d pages, which they could fill %d of", what, n, got, full)
		}
	}
}

// registered is a registrar with so many elements in each pool, all on one association.
func registered(t *testing.T, pools, each int) *Registrar {
	cfg := Config{ServerID: testServer, Rand: rand.New(rand.NewPCG(1, 2))}
	cfg.Limits.Pools, cfg.Limits.Elements, cfg.Limits.ElementsPerAssoc = pools, pools*each, pools*each
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1000, 0)
	r.Handle(now, AssocUp{Assoc: 1, Peer: peers("10.0.0.1"), Via: rserpool.ViaKernel})
	m := reg("", 0, "10.0.0.1")
	for id := range pools * each {
		m.Handle, m.Element.ID = rserpool.PoolHandle(fmt.Sprintf("pool-%06d", id/each)), rserpool.PEID(id+1)
		r.Handle(now, Received{Assoc: 1, PPID: asap.PPID, Data: encode(t, m)})
	}
	if got := members(r.roster); got != pools*each {
		t.Fatalf("%d elements are registered, want %d", got, pools*each)
	}
	return r
}

// findings is what a garbage collection has found.
type findings struct{ objects, bytes, scanned float64 }

func collected() findings {
	runtime.GC()
	runtime.GC() // sync.Pool keeps values for one collection
	s := []metrics.Sample{{Name: "/gc/heap/objects:objects"}, {Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/heap:bytes"}}
	metrics.Read(s)
	return findings{float64(s[0].Value.Uint64()), float64(s[1].Value.Uint64()), float64(s[2].Value.Uint64())}
}
