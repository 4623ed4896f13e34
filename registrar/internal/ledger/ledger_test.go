package ledger

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

const own, peer = 0x10000001, 0x20000002

func newLedger() *Ledger[int] {
	space := handlespace.New(rand.New(rand.NewPCG(1, 2)))
	return New[int](space, Limits{Pools: 4, Elements: 8, HandleBytes: 1 << 20, ElementBytes: 1 << 20, Alike: 4})
}

func element(id rserpool.PEID, policy rserpool.PolicyType) *handlespace.Element {
	return &handlespace.Element{PoolElement: rserpool.PoolElement{
		ID: id, Policy: rserpool.Policy{Type: policy, Weight: 1},
		UserTransport: rserpool.Transport{Type: rserpool.UDP, Port: 7, Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.1")}},
	}}
}

// check recomputes all that the ledger counts, and compares it with the handlespace.
func (l *Ledger[N]) check(reserved int, rosters ...*Roster[N]) error {
	elements, aside, served, handleBytes, bytes := 0, 0, 0, 0, reserved
	for h, p := range l.pools {
		handleBytes += handlespace.HandleSize(h)
		n := 0
		for id, e := range p.entries {
			sp := l.space.Pool(h)
			switch {
			case e.pool != p || e.pe.ID != id || p.handle != h:
				return fmt.Errorf("entry %v of %q is under %v of %q", e.pe.ID, p.handle, id, h)
			case !e.aside && l.excluded(h, e.pe) != nil:
				return fmt.Errorf("entry %v of %q is in the handlespace, but excluded", id, h)
			case e.aside != (sp == nil || sp.Element(id) == nil):
				return fmt.Errorf("entry %v of %q: aside %v, in the handlespace %v", id, h, e.aside, sp)
			case e.aside && l.excluded(h, e.pe) == nil && (sp == nil || sp.Policy() == e.pe.Policy.Type):
				return fmt.Errorf("entry %v of %q is set aside, but fits", id, h)
			case !e.aside && sp.Element(id) != e.pe:
				return fmt.Errorf("entry %v of %q is not what is in the handlespace", id, h)
			}
			if e.aside {
				n++
			}
			elements++
			bytes += size(&e.pe.PoolElement)
		}
		if l.space.Pool(h) != nil {
			served++
		}
		if n != p.aside || len(p.entries) == 0 {
			return fmt.Errorf("pool %q: %d of %d set aside, counted %d", h, n, len(p.entries), p.aside)
		}
		aside += n
	}
	if got, want := [4]int{l.elements, l.aside, l.handleBytes, l.bytes}, [4]int{elements, aside, handleBytes, bytes}; got != want {
		return fmt.Errorf("elements, aside, handle bytes, bytes: got %v, want %v", got, want)
	}
	if p, e := l.space.Len(); p != served || e != elements-aside {
		return fmt.Errorf("handlespace has %d pools, %d elements, want %d, %d", p, e, served, elements-aside)
	}
	for _, r := range rosters {
		var sum enrp.Checksum
		n := 0
		for e := r.First(); e != nil; e = e.place.Next() {
			sum.Add(e.pool.handle, e.pe.ID)
			n++
			if e.roster != r || e.pe.Home != r.home {
				return fmt.Errorf("entry %v is in the wrong roster", e.pe.ID)
			}
		}
		if n != r.Len() || sum.Value() != r.Checksum() {
			return fmt.Errorf("roster of %v has %d elements, checksum %04x, want %d, %04x", r.home, r.Len(), r.Checksum(), n, sum.Value())
		}
		elements -= n
	}
	if elements != 0 {
		return fmt.Errorf("%d elements are in no roster", elements)
	}
	return nil
}

// ruler is a Check that changes: by handle, the policy that a pool must have.
type ruler map[rserpool.PoolHandle]rserpool.PolicyType

func (r ruler) check(h rserpool.PoolHandle, pe *handlespace.Element) error {
	if want := r[h]; want != 0 && want != pe.Policy.Type {
		return &handlespace.InconsistentError{Cause: rserpool.CauseInconsistentPolicy, Policy: want, Element: pe.Kind()}
	}
	return nil
}

// Random changes, with everything recomputed after each. A cursor that is open
// meanwhile finds every entry that stays in its rosters.
func TestRandom(t *testing.T) {
	refused := 0
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 3))
		l, rules := newLedger(), ruler{}
		l.Check = rules.check
		rosters := []*Roster[int]{NewRoster[int](own), NewRoster[int](peer)}
		cursor, reserved := l.Open(rosters...), 0
		stays := map[*Entry[int]]bool{}
		for step := range 1000 {
			h := rserpool.PoolHandle(rune('a' + rng.IntN(5)))
			pe := element(rserpool.PEID(1+rng.IntN(6)), rserpool.RoundRobin+rserpool.PolicyType(rng.IntN(2)))
			to := rosters[rng.IntN(2)]
			e := l.Find(h, pe.ID)
			before := l.Used()
			had := l.space.Pool(h) != nil
			var changes []Change[int]
			switch k := rng.IntN(9); {
			case k < 4:
				room := l.Room(e, h, &pe.PoolElement)
				c, err := l.Put(e, to, h, pe, Fit(rng.IntN(3)))
				changes = append(changes, c)
				if room == errors.Is(err, ErrFull) {
					t.Fatalf("seed %d, step %d: room %v, error %v", seed, step, room, err)
				}
				if err != nil {
					refused++
					if l.Used() != before || l.Find(h, pe.ID) != e {
						t.Fatalf("seed %d, step %d: a refused element has changed the ledger: %v", seed, step, err)
					}
				} else if c.Entry != l.Find(h, pe.ID) || (c.From == nil) != (e == nil) || c.To != to || e != nil && c.Entry != e {
					t.Fatalf("seed %d, step %d: %+v", seed, step, c)
				}
			case k < 5 && e != nil:
				c := l.Move(e, to, pe)
				changes = append(changes, c)
				if c.Entry != e || e.Roster() != to {
					t.Fatalf("seed %d, step %d: %+v", seed, step, c)
				}
			case k < 6 && e != nil:
				delete(stays, e)
				c := l.Remove(e)
				changes = append(changes, c)
				if c.To != nil || l.Find(h, pe.ID) != nil || e.ID() != pe.ID || e.Handle() != h {
					t.Fatalf("seed %d, step %d: %+v", seed, step, c)
				}
			case k < 7:
				rules[h] = []rserpool.PolicyType{0, 0, rserpool.RoundRobin, rserpool.RoundRobin + 1}[rng.IntN(4)]
				aside := l.Aside()
				changes = l.Refit(h)
				for _, c := range changes {
					if c.Entry.Aside() {
						aside++
					} else {
						aside--
					}
					if c.Entry.Aside() != (c.Conflict != nil) || !c.Visible || c.From == nil || c.From != c.To {
						t.Fatalf("seed %d, step %d: %+v", seed, step, c)
					}
				}
				if aside != l.Aside() {
					t.Fatalf("seed %d, step %d: %d set aside, the changes say %d", seed, step, l.Aside(), aside)
				}
			case k < 8:
				n := rng.IntN(3) - min(1, reserved)
				l.Reserve(n)
				reserved += n
			default:
				x := cursor.Next()
				delete(stays, x)
				if x == nil {
					if len(stays) > 0 {
						t.Fatalf("seed %d, step %d: the cursor has missed %d entries", seed, step, len(stays))
					}
					l.Close(cursor)
					cursor = l.Open(rosters...)
					for _, r := range rosters {
						for e := r.First(); e != nil; e = e.place.Next() {
							stays[e] = true
						}
					}
				}
			}
			if emptied := had && l.space.Pool(h) == nil; emptied != slices.ContainsFunc(changes, func(c Change[int]) bool { return c.Emptied }) {
				t.Fatalf("seed %d, step %d: the pool is emptied: %t, the changes are %+v", seed, step, emptied, changes)
			}
			for x := range stays { // one that has moved may have been passed
				if x.Note != 0 && x.Roster() != nil && rserpool.ServerID(x.Note) != x.Roster().Home() {
					delete(stays, x)
				}
			}
			for _, r := range rosters {
				for e := r.First(); e != nil; e = e.place.Next() {
					e.Note = int(r.home)
				}
			}
			if err := l.check(reserved, rosters...); err != nil {
				t.Fatalf("seed %d, step %d: %v", seed, step, err)
			}
		}
		if l.Close(cursor); len(l.cursors) != 0 {
			t.Errorf("seed %d: %d cursors are left", seed, len(l.cursors))
		}
	}
	if refused == 0 {
		t.Error("no element was refused")
	}
}

// A move is never refused: neither full limits nor a conflict lose the element.
func TestMove(t *testing.T) {
	l := newLedger()
	l.Limits = Limits{Pools: 1, Elements: 2, HandleBytes: 1 << 10, ElementBytes: 2 * size(&element(1, 0).PoolElement), Alike: 4}
	ours, theirs := NewRoster[int](own), NewRoster[int](peer)
	for id := rserpool.PEID(1); id <= 2; id++ {
		if _, err := l.Put(nil, ours, "p", element(id, rserpool.RoundRobin), Refuse); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.Put(nil, ours, "p", element(3, rserpool.RoundRobin), Refuse); !errors.Is(err, ErrFull) {
		t.Errorf("a third element: got %v, want %v", err, ErrFull)
	}
	long := element(1, rserpool.Random)
	long.Unknown = []rserpool.Parameter{{Type: 0xffff, Value: make([]byte, 100)}}
	var ie *handlespace.InconsistentError
	if c := l.Move(l.Find("p", 1), theirs, long); c.From != ours || !errors.As(c.Conflict, &ie) || !c.Entry.Aside() {
		t.Errorf("got %+v, want the element set aside, from the one home to the other", c)
	}
	if err := l.check(0, ours, theirs); err != nil {
		t.Error(err)
	}
	if c := l.Remove(l.Find("p", 2)); !c.Visible || l.Find("p", 1).Aside() || l.Aside() != 0 {
		t.Error("the element that was set aside is not the pool when the other one is gone")
	}
}

// What pool users cannot see is no reason for a notice.
func TestVisible(t *testing.T) {
	l := newLedger()
	ours, theirs := NewRoster[int](own), NewRoster[int](peer)
	put := func(to *Roster[int], pe *handlespace.Element) bool {
		t.Helper()
		c, err := l.Put(l.Find("p", pe.ID), to, "p", pe, Refuse)
		if err != nil {
			t.Fatal(err)
		}
		return c.Visible
	}
	if !put(ours, element(1, rserpool.WeightedRoundRobin)) {
		t.Error("a new element is not visible")
	}
	if put(ours, element(1, rserpool.WeightedRoundRobin)) || put(theirs, element(1, rserpool.WeightedRoundRobin)) {
		t.Error("the same element again, or with another home, is visible")
	}
	heavy := element(1, rserpool.WeightedRoundRobin)
	heavy.Policy.Weight = 2
	if !put(theirs, heavy) {
		t.Error("another weight is not visible")
	}
}
