package handlespace

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// randomAddrs returns addresses of small networks, so that many elements share them.
func randomAddrs(r *rand.Rand) (addrs []netip.Addr) {
	for range r.IntN(4) {
		four := [4]byte{10, byte(r.IntN(3)), byte(r.IntN(2)), byte(r.IntN(4))}
		addrs = append(addrs, netip.AddrFrom4(four))
		six := [16]byte{0: 0x20, 1: 0x01, 7: byte(r.IntN(2)), 15: byte(r.IntN(4))}
		addrs = append(addrs, netip.AddrFrom16(six), netip.AddrFrom16(netip.AddrFrom4(four).As16()))
	}
	return addrs
}

var indexed = []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("10.2.1.0/24"), netip.MustParsePrefix("2001::/16")}

func covered(a netip.Addr) bool {
	return slices.ContainsFunc(indexed, func(p netip.Prefix) bool { return p.Contains(a) })
}

// checkIndex compares an index with a search of the whole space.
func checkIndex(t *testing.T, s *Space, x *AddrIndex) {
	t.Helper()
	want := map[netip.Addr][]string{}
	for p := range s.Pools() {
		for _, e := range p.Elements(nil) {
			for _, a := range e.UserTransport.Addrs {
				name := fmt.Sprint(p.Handle(), "/", e.ID)
				if covered(a) && !slices.Contains(want[a], name) {
					want[a] = append(want[a], name)
				}
			}
		}
	}
	for b := range 256 {
		four := netip.AddrFrom4([4]byte{10, byte(b >> 4 & 3), byte(b >> 3 & 1), byte(b & 7)})
		six := netip.AddrFrom16([16]byte{0: 0x20, 1: 0x01, 7: byte(b >> 4 & 3), 15: byte(b & 7)})
		for _, a := range []netip.Addr{four, six, netip.AddrFrom16(four.As16())} {
			var got []string
			for _, h := range x.Lookup(nil, a) {
				got = append(got, fmt.Sprint(h.Pool.Handle(), "/", h.Element.ID))
			}
			slices.Sort(got)
			slices.Sort(want[a])
			if !slices.Equal(got, want[a]) {
				t.Fatalf("at %v: got %q, want %q", a, got, want[a])
			}
			for n := a.BitLen(); n >= 0; n-- {
				p, _ := a.Prefix(n)
				any := false
				for w, names := range want {
					any = any || len(names) > 0 && p.Contains(w)
				}
				if got := x.Any(p); got != any {
					t.Fatalf("Any(%v) = %t, want %t", p, got, any)
				}
			}
		}
	}
}

// TestAddrIndex: an index follows all changes, and has what was there before it was made.
func TestAddrIndex(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(5, 6))
	s := newSpace()
	change := func() {
		h, id := rserpool.PoolHandle(fmt.Sprint("pool", r.IntN(6))), rserpool.PEID(r.IntN(4))
		e := newElement(id, 0, rserpool.Policy{Type: []rserpool.PolicyType{rserpool.RoundRobin, rserpool.Priority}[r.IntN(2)]})
		e.UserTransport.Addrs = randomAddrs(r)
		switch r.IntN(3) {
		case 0:
			s.Remove(h, id)
		case 1:
			_, _ = s.Renew(h, e)
		default:
			_, _ = s.Put(h, e)
		}
	}
	for range 50 {
		change()
	}
	x, y := s.IndexAddrs(indexed), s.IndexAddrs(indexed)
	for i := range 400 {
		change()
		if i%10 == 0 {
			checkIndex(t, s, x)
		}
	}
	y.Close()
	before := y.tree
	for range 100 {
		change()
	}
	if y.tree != before || len(s.indexes) != 1 {
		t.Error("an index that was closed follows")
	}
	for p := range s.Pools() {
		for _, e := range p.Elements(nil) {
			s.Remove(p.Handle(), e.ID)
		}
	}
	if x.tree != (addrTree{}) {
		t.Error("an index of nothing is not empty")
	}
}

// TestAddrIndexWhileWriting: an index that is made while the space changes lacks nothing, and has
// nothing too much.
func TestAddrIndexWhileWriting(t *testing.T) {
	t.Parallel()
	s := newSpace()
	r := rand.New(rand.NewPCG(7, 8))
	put := func() {
		e := newElement(rserpool.PEID(r.IntN(1000)), 0, rserpool.Policy{Type: rserpool.RoundRobin})
		e.UserTransport.Addrs = randomAddrs(r)
		h := rserpool.PoolHandle(fmt.Sprint("pool", r.IntN(3)))
		if r.IntN(3) == 0 {
			s.Remove(h, e.ID)
			return
		}
		mustPut(t, s, h, e)
	}
	for range 3000 {
		put()
	}
	for range 20 {
		var writer sync.WaitGroup
		stop := make(chan struct{})
		writer.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					put()
				}
			}
		})
		x := s.IndexAddrs(indexed)
		close(stop)
		writer.Wait()
		for _, a := range []string{"10.1.0.1", "10.2.1.2", "2001::1"} {
			var want int
			for p := range s.Pools() {
				for _, e := range p.Elements(nil) {
					if slices.Contains(e.UserTransport.Addrs, netip.MustParseAddr(a)) {
						want++
					}
				}
			}
			l, got := x.tree.find(netip.MustParseAddr(a)), 0
			if l != nil {
				got = len(l.first) + len(l.rest)
			}
			if got != want {
				t.Fatalf("%s: %d elements in the index, want %d", a, got, want)
			}
		}
		x.Close()
	}
}

// TestAddrIndexCrowd: of very many elements at one address, a lookup finds some, as long as
// there are any.
func TestAddrIndexCrowd(t *testing.T) {
	t.Parallel()
	s := newSpace()
	x := s.IndexAddrs([]netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")})
	a := netip.MustParseAddr("192.0.2.1")
	for id := range rserpool.PEID(1000) {
		e := newElement(id, 0, rserpool.Policy{Type: rserpool.RoundRobin})
		e.UserTransport.Addrs = []netip.Addr{a}
		mustPut(t, s, "web", e)
	}
	for id := range rserpool.PEID(1000) {
		got := len(x.Lookup(nil, a))
		if want := min(maxHolders, 1000-int(id)); got != want {
			t.Fatalf("%d elements, want %d", got, want)
		}
		s.Remove("web", id)
	}
	if x.Any(netip.MustParsePrefix("0.0.0.0/0")) {
		t.Error("there are elements when all are gone")
	}
}

// BenchmarkAddrIndex reports the memory that an index takes for an address.
func BenchmarkAddrIndex(b *testing.B) {
	s := newSpace()
	for i := range 100_000 {
		e := newElement(rserpool.PEID(i), 0, rserpool.Policy{Type: rserpool.RoundRobin})
		e.UserTransport.Addrs = []netip.Addr{netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})}
		mustPut(b, s, benchHandle(i/3), e)
	}
	for b.Loop() {
		before := heapInUse()
		x := s.IndexAddrs([]netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")})
		b.ReportMetric(float64(heapInUse()-before)/100_000, "B/address")
		x.Close()
	}
}
