package handlespace

import (
	"bytes"
	"cmp"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// model is a handlespace as maps, searched from end to end.
type model map[rserpool.PoolHandle]map[rserpool.PEID]*Element

func (m model) put(h rserpool.PoolHandle, e *Element) (old *Element, cause rserpool.CauseCode) {
	pool := m[h]
	for _, o := range pool {
		switch {
		case o.Policy.Type != e.Policy.Type:
			return nil, rserpool.CauseInconsistentPolicy
		case o.UserTransport.Type != e.UserTransport.Type:
			return nil, rserpool.CauseInconsistentTransportType
		case o.UserTransport.Use != e.UserTransport.Use && e.UserTransport.Type == rserpool.SCTP:
			return nil, rserpool.CauseInconsistentDataControl
		}
	}
	if pool == nil {
		pool = make(map[rserpool.PEID]*Element)
		m[h] = pool
	}
	old, pool[e.ID] = pool[e.ID], e
	return old, 0
}

func (m model) remove(h rserpool.PoolHandle, id rserpool.PEID) *Element {
	e := m[h][id]
	delete(m[h], id)
	if len(m[h]) == 0 {
		delete(m, h)
	}
	return e
}

func (m model) lookup(name string) (found rserpool.PoolHandle, below bool) {
	folded := strings.ToLower(name) // the fuzz target's handles are ASCII
	for h := range m {
		lower := strings.ToLower(string(h))
		if lower == folded && h > found {
			found = h
		}
		if strings.HasSuffix(lower, "."+folded) && carriable(lower) {
			below = true
		}
	}
	return found, below
}

func carriable(name string) bool {
	if len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if len(label) < 1 || len(label) > 63 {
			return false
		}
	}
	return true
}

func (m model) elements(h rserpool.PoolHandle) []*Element {
	var es []*Element
	for _, e := range m[h] {
		es = append(es, e)
	}
	slices.SortFunc(es, func(a, b *Element) int { return cmp.Compare(a.ID, b.ID) })
	return es
}

// FuzzSpace reads operations from bytes, four each, and does them to a Space
// and to its model.
func FuzzSpace(f *testing.F) {
	names := []string{
		"a", "A", "b.a", "B.a", "b.A", "c.b.a", ".a", "a.", "b..a", ".", "aB\x00.[@`{", "c.b", "b",
		strings.Repeat("x", 63) + ".a", strings.Repeat("X", 64) + ".a",
		strings.Repeat("abcdefg.", 31) + "abcde", strings.Repeat("abcdefg.", 31) + "abcdeF",
	}
	f.Add([]byte{0, 0, 0, 0, 0, 1, 0, 0, 2, 0, 3, 0, 1, 0, 0, 0, 3, 1, 0, 0})
	f.Add(bytes.Repeat([]byte{0, 3, 1, 1, 2, 3, 5, 3, 0, 2, 9, 9, 1, 3, 1, 0}, 4))
	f.Add([]byte{0, 0, 1, 9, 0, 0, 2, 9, 2, 0, 2, 0, 4, 0, 1, 0, 2, 0, 1, 0, 5, 0, 1, 0, 2, 0, 2, 0, 4, 0, 2, 0, 4, 0, 1, 0, 5, 0, 2, 0, 5, 0, 1, 0, 2, 0, 3, 0})
	for i := range byte(17) {
		f.Add([]byte{0, i, 1, i, 0, i + 1, 1, i, 2, i, 2, 0, 3, i, 0, 0, 1, i, 1, 0})
	}
	policies := testPolicies()
	f.Fuzz(func(t *testing.T, ops []byte) {
		s, m := newSpace(), make(model)
		away := make(map[rserpool.PoolHandle]map[rserpool.PEID]Standing)
		for ; len(ops) >= 4; ops = ops[4:] {
			h := rserpool.PoolHandle(names[int(ops[1])%len(names)])
			id, x := rserpool.PEID(ops[2]%16), ops[3]
			switch ops[0] % 6 {
			case 0:
				e := newElement(id, Families(x%4), rserpool.Policy{
					Type: policies[int(ops[1]+ops[2]>>4)%len(policies)], Weight: uint32(x >> 4), Load: uint32(x) << 24,
				})
				if x%16 == 7 {
					e.UserTransport.Type = rserpool.SCTP
					e.UserTransport.Use = rserpool.TransportUse(x >> 7)
				}
				fuzzPut(t, s, m, h, e)
			case 1:
				if got, want := s.Remove(h, id), m.remove(h, id); got != want {
					t.Fatalf("Remove(%q, %v) = %v, want %v", h, id, got, want)
				}
			case 2:
				if p := s.Pool(h); p != nil {
					fuzzSelect(t, p, m, int(ops[2]%8), Families(x%4))
				} else if m[h] != nil {
					t.Fatalf("Pool(%q) = nil", h)
				}
			case 3:
				fuzzLookup(t, s, m, string(h))
			case 4:
				got, st := s.Suspend(h, id)
				if want := m.remove(h, id); got != want {
					t.Fatalf("Suspend(%q, %v) = %v, want %v", h, id, got, want)
				}
				if away[h] == nil {
					away[h] = make(map[rserpool.PEID]Standing)
				}
				away[h][id] = st
			case 5:
				if st := away[h][id]; st.former != nil && m[h][id] == nil {
					_, cause := m.put(h, st.former)
					if err := s.Resume(h, st.former, st); (err != nil) != (cause != 0) {
						t.Fatalf("Resume(%q, %v) = %v, want cause %d", h, id, err, cause)
					}
				}
			}
		}
		pools, elements := 0, 0
		for h := range m {
			pools++
			elements += len(m[h])
			if got, want := s.Pool(h).Elements(nil), m.elements(h); !slices.Equal(got, want) {
				t.Errorf("pool %q has %v, want %v", h, got, want)
			}
			if err := s.Pool(h).sound(); err != nil {
				t.Errorf("pool %q: %v", h, err)
			}
		}
		if gotPools, gotElements := s.Len(); gotPools != pools || gotElements != elements {
			t.Errorf("Len = %d, %d; want %d, %d", gotPools, gotElements, pools, elements)
		}
		for range s.Pools() {
			pools--
		}
		if pools != 0 {
			t.Errorf("Pools has %d too few", pools)
		}
		for _, name := range names {
			fuzzLookup(t, s, m, name)
		}
	})
}

func fuzzPut(t *testing.T, s *Space, m model, h rserpool.PoolHandle, e *Element) {
	t.Helper()
	serial := s.Changes()
	got, err := s.Put(h, e)
	want, cause := m.put(h, e)
	var gotCause rserpool.CauseCode
	if inconsistent := (*InconsistentError)(nil); errors.As(err, &inconsistent) {
		gotCause = inconsistent.Cause
	} else if err != nil {
		t.Fatal(err)
	}
	if got != want || gotCause != cause {
		t.Fatalf("Put(%q, %v) = %v, %v; want %v, cause %d", h, e.ID, got, err, want, cause)
	}
	if changed := cause == 0 && (want == nil || !want.same(e)); (s.Changes() != serial) != changed {
		t.Fatalf("Put(%q, %v): serial from %d to %d", h, e.ID, serial, s.Changes())
	}
}

func fuzzSelect(t *testing.T, p *Pool, m model, n int, f Families) {
	t.Helper()
	got := p.Select(nil, n, f)
	checkSelected(t, p, m, got, n, f)
	set, _ := p.SelectSet(nil, n, f, uint64(n)<<29, 3)
	checkSelected(t, p, m, set, n, f)
}

func checkSelected(t *testing.T, p *Pool, m model, got []Selected, n int, f Families) {
	t.Helper()
	seen := make(map[rserpool.PEID]bool)
	for _, e := range got {
		if m[p.Handle()][e.ID] != e.Element || !f.admits(e.Families()) || seen[e.ID] {
			t.Fatalf("pool %q: Select(%d, %d) = %v", p.Handle(), n, f, brief(got))
		}
		seen[e.ID] = true
	}
	if len(got) > n {
		t.Fatalf("pool %q: Select(%d, %d) = %v", p.Handle(), n, f, brief(got))
	}
}

func fuzzLookup(t *testing.T, s *Space, m model, name string) {
	t.Helper()
	for _, name := range []string{name, strings.ToUpper(name), strings.ToLower(name)} {
		p, below := s.Lookup([]byte(name))
		var got rserpool.PoolHandle
		if p != nil {
			got = p.Handle()
		}
		if want, wantBelow := m.lookup(name); got != want || below != wantBelow {
			t.Fatalf("Lookup(%q) = %q, %v; want %q, %v", name, got, below, want, wantBelow)
		}
	}
}
