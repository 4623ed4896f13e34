package registrar

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
)

// filled is a registrar with n elements in one pool, on association 1.
func filled(t testing.TB, n int) *Registrar {
	t.Helper()
	r, err := New(Config{ServerID: testServer, Rand: rand.New(rand.NewPCG(1, 2))})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1000, 0)
	r.Handle(now, AssocUp{Assoc: 1, Peer: peers("10.0.0.1"), Via: ViaKernel})
	for id := uint32(1); id <= uint32(n); id++ {
		r.Handle(now, Received{Assoc: 1, PPID: asap.PPID, Data: encode(t, reg("pool", id, "10.0.0.1"))})
	}
	if r.elements != n {
		t.Fatalf("elements: got %d, want %d", r.elements, n)
	}
	return r
}

// A handle resolution, bytes in to bytes out, allocates the response and
// nothing else: it is the transport's until it has been delivered.
func TestResolutionAllocs(t *testing.T) {
	r := filled(t, 1000)
	now := time.Unix(1000, 0)
	var ev Event = Received{Assoc: 1, PPID: asap.PPID, Data: encode(t, resolve("pool"))}
	if got := testing.AllocsPerRun(1000, func() { r.Handle(now, ev) }); got > 1 {
		t.Errorf("allocations of a resolution: got %v, want at most 1", got)
	}
}

func BenchmarkResolution(b *testing.B) {
	for _, n := range []int{1, 1000, 60000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			r := filled(b, n)
			now := time.Unix(1000, 0)
			var ev Event = Received{Assoc: 1, PPID: asap.PPID, Data: encode(b, resolve("pool"))}
			b.ReportAllocs()
			for b.Loop() {
				r.Handle(now, ev)
			}
		})
	}
}

func BenchmarkReregistration(b *testing.B) {
	r := filled(b, 60000)
	now := time.Unix(1000, 0)
	var ev Event = Received{Assoc: 1, PPID: asap.PPID, Data: encode(b, reg("pool", 77, "10.0.0.1"))}
	b.ReportAllocs()
	for b.Loop() {
		r.Handle(now, ev)
	}
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
