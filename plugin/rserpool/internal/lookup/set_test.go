package lookup

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	rsp "github.com/rserpool/coredns-rserpool/rserpool"
)

// TestStands: an element that cannot answer the question does not stand for the lookup.
func TestStands(t *testing.T) {
	space := newSpace()
	put(t, space, "web", element(1, "192.0.2.1"), element(2, "192.0.2.2 2001:db8::2"), element(3, "2001:db8::3"))
	p := space.Pool("web")
	set := []handlespace.Selected{{Element: p.Element(2)}}
	for _, tt := range []struct {
		known    rsp.PEID
		families handlespace.Families
		want     bool
	}{
		{2, handlespace.IPv6, true}, // the first of the set
		{1, handlespace.IPv6, false},
		{1, handlespace.IPv4, true}, // only the set has no room for it
		{3, handlespace.IPv6, true},
		{3, handlespace.IPv4, false},
		{4, handlespace.IPv4 | handlespace.IPv6, false}, // not registered any more
	} {
		if got := stands([]rsp.PEID{tt.known}, set, p, tt.families); got != tt.want {
			t.Errorf("element %v, families %b: got %t, want %t", tt.known, tt.families, got, tt.want)
		}
	}
}

// TestPickSet: a question about the set belongs to a lookup as others do. The first element
// is the lookup's.
func TestPickSet(t *testing.T) {
	space := newSpace()
	for id := rsp.PEID(1); id <= 4; id++ {
		put(t, space, "web", element(id, fmt.Sprintf("192.0.2.%d 2001:db8::%d", id, id)))
	}
	p := space.Pool("web")
	m := New(1, 1)
	udp := &Origin{Addr: netip.MustParseAddr("10.0.0.1"), Port: 1}
	tcp := &Origin{Addr: udp.Addr, Port: 2, TCP: true}
	// first asks for a set of n, of which the answer by TCP has whole if it is cut.
	first := func(c *Origin, n, whole uint16, want bool) rsp.PEID {
		t.Helper()
		set, more, reused := m.PickSet(c, SRV, &Wanted{Pool: p, N: n, Whole: whole, Families: SRV.Families()}, now)
		if len(set) != min(int(n), p.Len()) || more != (int(n) < p.Len()) || reused != want {
			t.Fatalf("got a set of %d, more %t, reused %t; want %d of %d, reused %t", len(set), more, reused, n, p.Len(), want)
		}
		return set[0].ID
	}
	one := func(k Kind) rsp.PEID {
		got, _ := m.Pick(nil, udp, p, k, k.Families(), 1, now)
		return got[0].ID
	}
	a, srv, aaaa := one(A), first(udp, 4, 0, true), one(AAAA)
	if a != 1 || srv != 1 || aaaa != 1 {
		t.Errorf("A, SRV and AAAA have the elements %d, %d and %d; want 1", a, srv, aaaa)
	}
	if got := first(udp, 4, 0, false); got != 2 {
		t.Errorf("the next lookup begins with element %d, want 2", got)
	}
	m = New(1, 1)
	seen := map[rsp.PEID]bool{}
	for range 4 {
		part, _ := p.SelectSet(nil, 3, SRV.Families(), 0, 1, 2, 3, 4) // moves nothing
		cut, whole := first(udp, 3, 4, false), first(tcp, 4, 0, true)
		if in := slices.ContainsFunc(part, func(s handlespace.Selected) bool { return s.ID == whole }); in != (cut == whole) {
			t.Errorf("cut and by TCP, the answer begins with the elements %d and %d", cut, whole)
		}
		seen[whole] = true
	}
	if len(seen) != 4 {
		t.Errorf("in four lookups, the elements %v are first by TCP, want all", seen)
	}
	if got, _, reused := m.PickSet(&Origin{}, SRV, &Wanted{Pool: p, N: 4, Families: SRV.Families()}, now); reused || len(got) != 4 {
		t.Errorf("without an address: got %d elements, reused %t", len(got), reused)
	}
}
