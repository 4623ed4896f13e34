package lookup

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	rsp "github.com/rserpool/coredns-rserpool/rserpool"
)

// TestPick: what the policy selects for questions of one moment, element 1 without an IPv6
// address.
func TestPick(t *testing.T) {
	request, other := new(net.UDPAddr), new(net.UDPAddr)
	client := func(r *net.UDPAddr) Origin {
		return Origin{Addr: netip.MustParseAddr("10.0.0.1"), Port: 1, Request: r}
	}
	type question struct {
		from Origin
		kind Kind
		want rsp.PEID // 0: none
	}
	for _, tt := range []struct {
		name      string
		only4     bool // no element has an IPv6 address
		questions []question
	}{
		{"AAAA needs another element", false, []question{{client(nil), A, 1}, {client(nil), AAAA, 2}, {client(nil), SRV, 1}, {client(nil), A, 3}, {client(nil), AAAA, 3}}},
		{"no address", false, []question{{Origin{}, A, 1}, {Origin{}, SRV, 2}, {Origin{}, A, 3}}},
		{"A for an AAAA answer", true, []question{{client(request), AAAA, 0}, {client(request), A, 1}, {client(other), A, 1}, {client(other), A, 2}}},
		{"A after an AAAA answer", true, []question{{client(request), AAAA, 0}, {client(other), A, 1}, {client(other), A, 2}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			space := newSpace()
			for id := rsp.PEID(1); id <= 3; id++ {
				addrs := fmt.Sprintf("192.0.2.%d", id)
				if id > 1 && !tt.only4 {
					addrs += fmt.Sprintf(" 2001:db8::%d", id)
				}
				put(t, space, "web", element(id, addrs))
			}
			p := space.Pool("web")
			m := New(1, 1)
			for i, q := range tt.questions {
				got, _ := m.Pick(nil, &q.from, p, q.kind, q.kind.Families(), 1, now)
				if !slices.EqualFunc(got, []rsp.PEID{q.want}[:min(1, q.want)], func(e *handlespace.Element, id rsp.PEID) bool { return e.ID == id }) {
					t.Fatalf("question %d: got %d elements %v, want %d", i, len(got), got, q.want)
				}
			}
		})
	}
}
