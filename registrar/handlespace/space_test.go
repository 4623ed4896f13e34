package handlespace

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

func newSpace() *Space { return New(rand.New(rand.NewPCG(1, 2))) }

func mustPut(t testing.TB, s *Space, h rserpool.PoolHandle, e *Element) {
	t.Helper()
	if _, err := s.Put(h, e); err != nil {
		t.Fatalf("Put(%q, %v): %v", h, e.ID, err)
	}
}

func roundRobin(id rserpool.PEID) *Element {
	return newElement(id, IPv4, rserpool.Policy{Type: rserpool.RoundRobin})
}

func TestPoolIsExact(t *testing.T) {
	s := newSpace()
	mustPut(t, s, "Pool", roundRobin(1))
	if p := s.Pool("pool"); p != nil {
		t.Errorf("Pool(pool) = %q", p.Handle())
	}
	if e := s.Remove("pool", 1); e != nil {
		t.Errorf("Remove(pool, 1) = %v", e)
	}
}

func TestConsistency(t *testing.T) {
	transport := func(typ rserpool.TransportType, use rserpool.TransportUse) rserpool.Transport {
		return rserpool.Transport{Type: typ, Use: use, Port: 7, Addrs: addrsOf[IPv4]}
	}
	element := func(policy rserpool.PolicyType, tr rserpool.Transport) *Element {
		return &Element{PoolElement: rserpool.PoolElement{ID: 1, UserTransport: tr, Policy: rserpool.Policy{Type: policy}}}
	}
	sctp := transport(rserpool.SCTP, rserpool.DataOnly)
	tests := []struct {
		name        string
		first, next *Element
		cause       rserpool.CauseCode // 0 if it fits
		text        string
	}{
		{"same", element(rserpool.RoundRobin, sctp), element(rserpool.RoundRobin, sctp), 0, ""},
		{"policy", element(rserpool.RoundRobin, sctp), element(rserpool.LeastUsed, sctp),
			rserpool.CauseInconsistentPolicy, "the element has LeastUsed, the pool has RoundRobin"},
		{"unknown policies", element(0x99, sctp), element(0x9a, sctp),
			rserpool.CauseInconsistentPolicy, "the element has 0x0000009a, the pool has 0x00000099"},
		{"transport", element(rserpool.RoundRobin, sctp), element(rserpool.RoundRobin, transport(rserpool.TCP, 0)),
			rserpool.CauseInconsistentTransportType, "the element has tcp, the pool has sctp"},
		{"use", element(rserpool.RoundRobin, sctp), element(rserpool.RoundRobin, transport(rserpool.SCTP, rserpool.DataPlusControl)),
			rserpool.CauseInconsistentDataControl, "the element has data plus control, the pool has data only"},
		{"use the other way", element(rserpool.RoundRobin, transport(rserpool.SCTP, rserpool.DataPlusControl)), element(rserpool.RoundRobin, sctp),
			rserpool.CauseInconsistentDataControl, "the element has data only, the pool has data plus control"},
		{"use counts for SCTP alone", element(rserpool.RoundRobin, transport(rserpool.TCP, 0)),
			element(rserpool.RoundRobin, transport(rserpool.TCP, rserpool.DataPlusControl)), 0, ""},
		{"policy comes first", element(rserpool.RoundRobin, sctp), element(rserpool.LeastUsed, transport(rserpool.TCP, 1)),
			rserpool.CauseInconsistentPolicy, "the pool has RoundRobin"},
	}
	for _, tt := range tests {
		for _, id := range []rserpool.PEID{1, 2} {
			t.Run(fmt.Sprintf("%s/%d", tt.name, id), func(t *testing.T) {
				s := newSpace()
				mustPut(t, s, "p", tt.first)
				serial := s.Changes()
				next := *tt.next
				next.ID = id
				_, err := s.Put("p", &next)
				if tt.cause == 0 {
					if err != nil {
						t.Fatalf("Put: %v", err)
					}
					return
				}
				var ie *InconsistentError
				if !errors.As(err, &ie) || ie.Cause != tt.cause || !strings.Contains(err.Error(), tt.text) {
					t.Errorf("Put: %#v (%v), want cause %v and %q", err, err, tt.cause, tt.text)
				}
				if ie.Policy != tt.first.Policy.Type || ie.Transport != tt.first.UserTransport.Type {
					t.Errorf("error names policy %v, transport %v", ie.Policy, ie.Transport)
				}
				if s.Pool("p").Len() != 1 || s.Pool("p").Element(1) != tt.first || s.Changes() != serial {
					t.Error("a refused element changed the pool")
				}
			})
		}
	}
}

func TestPutReplaces(t *testing.T) {
	s := New(rand.New(rand.NewPCG(1, 2)))
	a, b := roundRobin(7), roundRobin(7)
	b.Expires = time.Unix(1, 0)
	if old, err := s.Put("p", a); old != nil || err != nil {
		t.Errorf("Put: %v, %v", old, err)
	}
	if got := s.Changes(); got != 1 {
		t.Errorf("%d changes, want 1", got)
	}
	if old, err := s.Put("p", b); old != a || err != nil {
		t.Errorf("Put: %v, %v; want the first element", old, err)
	}
	if got := s.Changes(); got != 1 {
		t.Errorf("%d changes after a longer life alone, want 1", got)
	}
	if pools, elements := s.Len(); pools != 1 || elements != 1 {
		t.Errorf("Len = %d, %d", pools, elements)
	}
	if e := s.Remove("p", 8); e != nil || s.Changes() != 1 {
		t.Errorf("Remove(8) = %v, %d changes", e, s.Changes())
	}
	p := s.Pool("p")
	if e := s.Remove("p", 7); e != b || s.Changes() != 2 {
		t.Errorf("Remove(7) = %v, %d changes", e, s.Changes())
	}
	if got := p.Select(nil, 3, 0); len(got) != 0 || p.Len() != 0 || p.Element(7) != nil || len(p.Elements(nil)) != 0 {
		t.Errorf("the old pool still holds %v", got)
	}
	if e := s.Remove("p", 7); e != nil {
		t.Errorf("Remove(7) = %v again", e)
	}
	// The next one may have another policy.
	mustPut(t, s, "p", newElement(7, IPv4, rserpool.Policy{Type: rserpool.LeastUsed}))
	if got := s.Pool("p").Policy(); got != rserpool.LeastUsed {
		t.Errorf("policy %v", got)
	}
	if pools, elements := s.Len(); pools != 1 || elements != 1 {
		t.Errorf("Len = %d, %d", pools, elements)
	}
}

// TestChanges changes everything that a zone could show.
func TestChanges(t *testing.T) {
	base := func() *Element {
		e := roundRobin(1)
		e.UserTransport.Addrs = slices.Clone(e.UserTransport.Addrs)
		e.Unknown = []rserpool.Parameter{{Type: 0x8001, Value: []byte{1}}}
		e.UserTransport.Opaque = []byte{1}
		return e
	}
	tests := []struct {
		name   string
		change func(*Element)
		grows  bool
	}{
		{"nothing", func(*Element) {}, false},
		{"expires", func(e *Element) { e.Expires = time.Unix(9, 9) }, false},
		{"life", func(e *Element) { e.Life++ }, true},
		{"home", func(e *Element) { e.Home++ }, true},
		{"address", func(e *Element) { e.UserTransport.Addrs[0] = netip.MustParseAddr("192.0.2.9") }, true},
		{"addresses", func(e *Element) { e.UserTransport.Addrs = nil }, true},
		{"port", func(e *Element) { e.UserTransport.Port++ }, true},
		{"opaque", func(e *Element) { e.UserTransport.Opaque[0]++ }, true},
		{"ASAP transport", func(e *Element) { e.ASAPTransport.Type = rserpool.SCTP }, true},
		{"policy value", func(e *Element) { e.Policy.Load++ }, true},
		{"policy extra", func(e *Element) { e.Policy.Extra = "x" }, true},
		{"unknown", func(e *Element) { e.Unknown[0].Value[0]++ }, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newSpace()
			mustPut(t, s, "p", base())
			e := base()
			tt.change(e)
			mustPut(t, s, "p", e)
			if got := s.Changes() != 1; got != tt.grows {
				t.Errorf("serial %d, grows %v, want %v", s.Changes(), got, tt.grows)
			}
			if s.Pool("p").Element(1) != e {
				t.Error("element not replaced")
			}
		})
	}
}

func TestElementsAndPools(t *testing.T) {
	s := newSpace()
	want := 0
	for _, h := range []rserpool.PoolHandle{"a", "A", "b.a", "c"} {
		for _, id := range []rserpool.PEID{9, 3, 0xffffffff, 0, 5} {
			mustPut(t, s, h, roundRobin(id))
			want++
		}
	}
	dst := []*Element{roundRobin(77)}
	var ids []rserpool.PEID
	for _, e := range s.Pool("c").Elements(dst) {
		ids = append(ids, e.ID)
	}
	if want := []rserpool.PEID{77, 0, 3, 5, 9, 0xffffffff}; !slices.Equal(ids, want) {
		t.Errorf("Elements: %v, want %v", ids, want)
	}
	var handles []rserpool.PoolHandle
	for p := range s.Pools() {
		handles = append(handles, p.Handle())
	}
	slices.Sort(handles)
	if want := []rserpool.PoolHandle{"A", "a", "b.a", "c"}; !slices.Equal(handles, want) {
		t.Errorf("Pools: %q, want %q", handles, want)
	}
	for range s.Pools() {
		break
	}
	if pools, elements := s.Len(); pools != 4 || elements != want {
		t.Errorf("Len = %d, %d; want 4, %d", pools, elements, want)
	}
}

func TestFamilies(t *testing.T) {
	addr := netip.MustParseAddr
	tests := []struct {
		name  string
		addrs []netip.Addr
		want  Families
	}{
		{"none", nil, 0},
		{"zero address", []netip.Addr{{}}, 0},
		{"IPv4", []netip.Addr{addr("192.0.2.1"), addr("192.0.2.2")}, IPv4},
		{"IPv6", []netip.Addr{addr("2001:db8::1")}, IPv6},
		{"both", []netip.Addr{addr("2001:db8::1"), addr("192.0.2.2")}, IPv4 | IPv6},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := &Element{}
			e.UserTransport.Addrs = tt.addrs
			if got := e.Families(); got != tt.want {
				t.Errorf("Families = %d, want %d", got, tt.want)
			}
		})
	}
}

// TestDeterministic runs the same changes and selections twice.
func TestDeterministic(t *testing.T) {
	run := func() []string {
		r := rand.New(rand.NewPCG(5, 6))
		s := New(rand.New(rand.NewPCG(7, 8)))
		var trace []string
		for range 2000 {
			policy := testPolicies()[r.IntN(len(testPolicies()))]
			h := rserpool.PoolHandle(policyName(policy))
			mustPut(t, s, h, newElement(rserpool.PEID(r.IntN(20)), Families(r.IntN(classes)), randomPolicy(r, policy)))
			trace = append(trace, brief(s.Pool(h).Select(nil, 3, Families(r.IntN(classes))))...)
		}
		return trace
	}
	if a, b := run(), run(); !slices.Equal(a, b) {
		t.Error("two runs differ")
	}
}

// TestMemoryReturns: a pool that was large once does not stay so.
func TestMemoryReturns(t *testing.T) {
	const many, few, limit = 5000, 20, 128
	for _, policy := range testPolicies() {
		t.Run(policyName(policy), func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, uint64(policy)))
			s := newSpace()
			for id := range rserpool.PEID(many) {
				mustPut(t, s, "p", newElement(id, Families(id%classes), randomPolicy(r, policy)))
			}
			for _, id := range r.Perm(many)[few:] {
				s.Remove("p", rserpool.PEID(id))
			}
			p := s.Pool("p")
			if err := p.sound(); err != nil {
				t.Error(err)
			}
			m := &p.members
			caps := []int{cap(m.elems), cap(m.at), cap(m.notes)}
			switch x := p.index.(type) {
			case *order:
				for _, h := range x.heaps {
					caps = append(caps, cap(h))
				}
			case *lottery:
				for _, u := range x.urns {
					caps = append(caps, cap(u.slots), cap(u.weights), cap(u.sums))
				}
			}
			if got := slices.Max(caps); got > limit {
				t.Errorf("room for %d elements in a pool of %d", got, few)
			}
		})
	}
}

// TestHeapReturns is TestMemoryReturns for what has no capacity to look at.
func TestHeapReturns(t *testing.T) {
	const many = 50000
	s := newSpace()
	mustPut(t, s, "p", roundRobin(many))
	before := heapInUse()
	for id := range rserpool.PEID(many) {
		mustPut(t, s, "p", roundRobin(id))
	}
	for id := range rserpool.PEID(many) {
		s.Remove("p", id)
	}
	if grown := int64(heapInUse()) - int64(before); grown > 100_000 {
		t.Errorf("%d bytes more than before", grown)
	}
	runtime.KeepAlive(s)
}
