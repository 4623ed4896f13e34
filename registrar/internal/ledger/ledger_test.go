package ledger

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

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
	elements, aside, suspects, guarded, pools, inSpace, handleBytes, bytes := 0, 0, 0, 0, 0, 0, 0, reserved
	for h, p := range l.pools {
		handleBytes += handlespace.HandleSize(h)
		var n tally
		for _, e := range p.entries {
			id := e.id
			if e.pool != p || e.pe.ID != id || p.handle != h || p.find(id) != e {
				return fmt.Errorf("entry %v of %q is under %v of %q", e.pe.ID, p.handle, id, h)
			}
			if err := l.checkEntry(h, e, &n); err != nil {
				return fmt.Errorf("entry %v of %q: %w", id, h, err)
			}
			elements++
			bytes += size(&e.pe.PoolElement)
			if e.state == Suspect {
				suspects++
			}
		}
		if err := l.checkPool(h, p, n); err != nil {
			return fmt.Errorf("pool %q: %w", h, err)
		}
		if l.space.Pool(h) != nil {
			pools++
		}
		if p.special != nil && p.special.guarded {
			guarded++
		}
		aside += n.aside
		inSpace += n.served
	}
	if got, want := [6]int{l.elements, l.aside, l.suspects, l.guarded, l.handleBytes, l.bytes}, [6]int{elements, aside, suspects, guarded, handleBytes, bytes}; got != want {
		return fmt.Errorf("elements, aside, suspects, guarded, handle bytes, bytes: got %v, want %v", got, want)
	}
	if p, e := l.space.Len(); p != pools || e != inSpace {
		return fmt.Errorf("handlespace has %d pools, %d elements, want %d, %d", p, e, pools, inSpace)
	}
	for _, r := range rosters {
		var sum enrp.Checksum
		for _, s := range []State{Member, Unconfirmed, Suspect} {
			n := 0
			for e := r.FirstOf(s); e != nil; e = r.Next(e) {
				n++
				if s == Member {
					sum.Add(e.pool.handle, e.pe.ID)
				}
				if e.roster != r || e.pe.Home != r.home || e.state != s {
					return fmt.Errorf("entry %v is in the wrong roster, or the wrong list", e.pe.ID)
				}
			}
			if n != r.LenOf(s) {
				return fmt.Errorf("roster of %v has %d elements in state %d, want %d", r.home, r.LenOf(s), s, n)
			}
		}
		if sum.Value() != r.Checksum() {
			return fmt.Errorf("roster of %v has checksum %04x, want %04x", r.home, r.Checksum(), sum.Value())
		}
		elements -= r.LenAll()
	}
	if elements != 0 {
		return fmt.Errorf("%d elements are in no roster", elements)
	}
	return nil
}

// tally counts the entries of a pool.
type tally struct {
	aside, served, suspects int
	barred                  int // of those aside
	able                    int // others that serve
	in, out                 int // suspects
	displaced, wrong        int // suspects: at whose place others are, and that are where they should not be
}

// checkEntry compares an entry with the handlespace, and counts it.
func (l *Ledger[N]) checkEntry(h rserpool.PoolHandle, e *Entry[N], n *tally) error {
	sp := l.space.Pool(h)
	var in *handlespace.Element
	if sp != nil {
		in = sp.Element(e.id)
	}
	isOut, isIn := false, false
	if e.doubt != nil {
		outs, ins := e.pool.special.lists(e.Displaced())
		isOut, isIn = e.doubt.place.In(outs), e.doubt.place.In(ins)
	}
	fits := l.excluded(h, e.pe) == nil && (sp == nil || sp.Policy() == e.pe.Policy.Type)
	switch {
	case (e.doubt != nil) != (e.state == Suspect) || e.state == Suspect && e.Since().IsZero():
		return fmt.Errorf("state %d, a suspect since %v", e.state, e.Since())
	case e.Served() != (in == e.pe) || in != nil && in != e.pe:
		return fmt.Errorf("served %v, but %v is in the handlespace", e.Served(), in)
	case isOut != (e.at == out) || isIn != (e.state == Suspect && e.at == served):
		return fmt.Errorf("location %d, in the list out %v, in %v", e.at, isOut, isIn)
	case e.Aside() && fits:
		return errors.New("set aside, but fits")
	case !e.Aside() && l.excluded(h, e.pe) != nil:
		return errors.New("excluded, but not set aside")
	case e.barred != (e.Aside() && l.excluded(h, e.pe) != nil):
		return fmt.Errorf("barred %v", e.barred)
	}
	switch {
	case e.Aside():
		n.aside++
		if e.barred {
			n.barred++
		}
	case e.state == Suspect:
		n.suspects++
		if e.Displaced() {
			n.displaced++
		}
	case e.pe.Policy.Type != rserpool.WeightedRoundRobin || e.pe.Policy.Weight > 0:
		n.able++
	}
	if isIn {
		n.in++
	}
	if isOut {
		n.out++
	}
	if in != nil {
		n.served++
	}
	return nil
}

// checkPool compares the pool's guard with what it has to be.
func (l *Ledger[N]) checkPool(h rserpool.PoolHandle, p *pool[N], n tally) error {
	if len(p.entries) == 0 {
		return errors.New("it has no entries")
	}
	got := l.Pool(h)
	if want := (PoolCount{Elements: len(p.entries), Suspects: n.suspects, Displaced: n.displaced, Aside: n.aside, Guarded: got.Guarded}); got != want {
		return fmt.Errorf("got %+v, want %+v", got, want)
	}
	if s := p.special; s != nil && s.barred != n.barred {
		return fmt.Errorf("%d are barred, want %d", s.barred, n.barred)
	}
	var rule GuardRule
	if l.Guard != nil {
		rule = l.Guard(h)
	}
	silent := n.suspects - n.displaced
	guarded := n.suspects > 0 && !rule.Off && (n.able == 0 || silent > 0 && rule.Share > 0 && float64(silent)/float64(silent+n.able) >= rule.Share)
	for _, e := range p.entries {
		wanted := guarded && (!e.Displaced() || silent+n.able == 0)
		if e.state == Suspect && !e.Aside() && e.Served() != wanted {
			n.wrong++
		}
	}
	if got.Guarded != guarded {
		return fmt.Errorf("guarded %v, want %v: %+v, %+v", got.Guarded, guarded, rule, n)
	}
	if n.wrong > 0 && !slices.Contains(l.queue, p) {
		return fmt.Errorf("guarded %v, %d suspects in and %d out, in the queue %v", guarded, n.in, n.out, p.special.queued)
	}
	sp := l.space.Pool(h)
	if (sp == nil) != (n.served == 0) {
		return fmt.Errorf("%d elements are served, but the pool is %v", n.served, sp)
	}
	if sp != nil {
		if s, g := sp.Doubt(); s != n.suspects || g != guarded {
			return fmt.Errorf("readers are told %d suspects, guarded %v, want %d, %v", s, g, n.suspects, guarded)
		}
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

// world is a ledger with rules that change, and what a test knows of it.
type world struct {
	*Ledger[int]
	rng      *rand.Rand
	rules    ruler
	guards   map[rserpool.PoolHandle]GuardRule
	rosters  []*Roster[int]
	reserved int

	cursor *Cursor[int]
	all    bool                 // it reads suspects, too
	stays  map[*Entry[int]]bool // what it must find

	refused, moved, guarded int
}

func newWorld(seed uint64) *world {
	w := &world{Ledger: newLedger(), rng: rand.New(rand.NewPCG(seed, 3)), rules: ruler{}, guards: make(map[rserpool.PoolHandle]GuardRule)}
	w.Check = w.rules.check
	w.Guard = func(h rserpool.PoolHandle) GuardRule { return w.guards[h] }
	w.batch = 1 + w.rng.IntN(3)
	w.rosters = []*Roster[int]{NewRoster[int](own), NewRoster[int](peer)}
	w.cursor, w.stays = w.Open(w.rosters...), make(map[*Entry[int]]bool)
	return w
}

// served is what pool users see.
func (w *world) served() map[rserpool.PoolHandle][]*handlespace.Element {
	all := make(map[rserpool.PoolHandle][]*handlespace.Element)
	for p := range w.space.Pools() {
		all[p.Handle()] = p.Elements(nil)
	}
	return all
}

// Random changes, with everything recomputed after each. A cursor that is open meanwhile
// finds every entry that stays in its rosters, in its state.
func TestRandom(t *testing.T) {
	var sum world
	for seed := range uint64(60) {
		w := newWorld(seed)
		for step := range 1000 {
			if err := w.step(); err != nil {
				t.Fatalf("seed %d, step %d: %v", seed, step, err)
			}
		}
		if w.Close(w.cursor); len(w.cursors) != 0 {
			t.Errorf("seed %d: %d cursors are left", seed, len(w.cursors))
		}
		for w.Unsettled() {
			w.Step()
		}
		if err := w.check(w.reserved, w.rosters...); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
		sum.refused, sum.moved, sum.guarded = sum.refused+w.refused, sum.moved+w.moved, sum.guarded+w.guarded
	}
	if sum.refused == 0 || sum.moved == 0 || sum.guarded == 0 {
		t.Errorf("%d elements were refused, %d steps have moved suspects, %d pools were guarded", sum.refused, sum.moved, sum.guarded)
	}
}

// step makes a change at random, and checks what it says of itself.
func (w *world) step() error {
	h := rserpool.PoolHandle(rune('a' + w.rng.IntN(5)))
	pools, guarded := w.served(), w.GuardedPools()
	changes, err := w.change(&h)
	if err != nil {
		return err
	}
	visible, emptied := false, false
	for _, c := range changes {
		visible, emptied, guarded = visible || c.Visible, emptied || c.Emptied, guarded+int(c.Guarded)
		if c.Guarded != 0 {
			w.guarded++
		}
	}
	for x, was := range pools {
		if x != h && !slices.Equal(was, w.served()[x]) {
			return fmt.Errorf("pool %q has changed, not %q", x, h)
		}
	}
	is := w.served()[h]
	switch {
	case guarded != w.GuardedPools():
		return fmt.Errorf("%d pools are guarded, the changes say %d", w.GuardedPools(), guarded)
	case emptied != (len(pools[h]) > 0 && len(is) == 0):
		return fmt.Errorf("pool %q had %d elements, has %d, the changes are %+v", h, len(pools[h]), len(is), changes)
	case !visible && !slices.EqualFunc(pools[h], is, func(a, b *handlespace.Element) bool { return a.ID == b.ID && a.SameToUsers(b) }):
		return fmt.Errorf("pool %q has changed, but not visibly: %+v", h, changes)
	}
	for x := range w.stays {
		if x.Roster() == nil || x.Note != noted(x) {
			delete(w.stays, x) // it may have been passed
		}
	}
	for _, p := range w.pools {
		for _, e := range p.entries {
			e.Note = noted(e)
		}
	}
	return w.check(w.reserved, w.rosters...)
}

func noted(e *Entry[int]) int { return int(e.Roster().Home())<<8 | int(e.State()) }

// change makes one change of pool h, or of another one, which it notes.
func (w *world) change(h *rserpool.PoolHandle) (changes []Change[int], err error) {
	pe := element(rserpool.PEID(1+w.rng.IntN(6)), rserpool.RoundRobin+rserpool.PolicyType(w.rng.IntN(2)))
	pe.Policy.Weight = uint32(min(1, w.rng.IntN(4)))
	to, since := w.rosters[w.rng.IntN(2)], time.Unix(w.rng.Int64N(100), 0)
	e := w.Find(*h, pe.ID)
	switch k := w.rng.IntN(17); {
	case k < 5:
		return w.put(e, to, *h, pe, since)
	case k < 6 && e != nil:
		was, seen := e.State(), e.Since()
		c := w.Move(e, to, pe)
		if c.Entry != e || e.Roster() != to || e.State() != was || e.Since() != seen {
			err = fmt.Errorf("%+v", c)
		}
		return []Change[int]{c}, err
	case k < 7 && e != nil:
		delete(w.stays, e)
		c := w.Remove(e)
		if c.To != nil || w.Find(*h, pe.ID) != nil || e.ID() != pe.ID || e.Handle() != *h || e.Aside() || e.Served() {
			err = fmt.Errorf("%+v", c)
		}
		return []Change[int]{c}, err
	case k < 10 && e != nil:
		was := e.State()
		c := w.Suspect(e, since)
		if e.State() != Suspect || was != Suspect && (e.Since() != since || e.Served() && !w.Pool(*h).Guarded) {
			err = fmt.Errorf("%+v: state %d since %v", c, e.State(), e.Since())
		}
		return []Change[int]{c}, err
	case k < 11 && e != nil && w.rng.IntN(2) == 0:
		was, seen, displaced := e.State(), e.Since(), e.Displaced()
		c := w.Displace(e)
		if c.Entry != e || e.State() != was || e.Since() != seen || e.Displaced() != (was == Suspect) || displaced && c.Visible {
			err = fmt.Errorf("%+v: state %d since %v, displaced %v", c, e.State(), e.Since(), e.Displaced())
		}
		return []Change[int]{c}, err
	case k < 12 && e != nil:
		c := w.Confirm(e)
		if e.State() != Member || e.Displaced() || !e.Served() && !e.Aside() {
			err = fmt.Errorf("%+v", c)
		}
		return []Change[int]{c}, err
	case k < 13:
		w.rules[*h] = []rserpool.PolicyType{0, 0, rserpool.RoundRobin, rserpool.RoundRobin + 1}[w.rng.IntN(4)]
		return w.refit(*h)
	case k < 14:
		w.guards[*h] = []GuardRule{{}, {}, {Off: true}, {Share: 0.5}, {Share: 0.9}}[w.rng.IntN(5)]
		c := w.Reguard(*h)
		return []Change[int]{{Guarded: c.Guarded, Visible: c.Visible, Emptied: c.Emptied}}, nil
	case k < 15:
		n := w.rng.IntN(3) - min(1, w.reserved)
		w.Reserve(n)
		w.reserved += n
	case k < 16:
		c := w.Step()
		*h = c.Handle
		if c.Visible {
			w.moved++
		}
		return []Change[int]{{Guarded: c.Guarded, Visible: c.Visible, Emptied: c.Emptied}}, nil
	default:
		return nil, w.read()
	}
	return nil, nil
}

func (w *world) put(e *Entry[int], to *Roster[int], h rserpool.PoolHandle, pe *handlespace.Element, since time.Time) ([]Change[int], error) {
	before, room := w.Used(), w.Room(e, h, &pe.PoolElement)
	s := []State{Member, Member, Unconfirmed, Suspect}[w.rng.IntN(4)]
	c, err := w.PutAs(e, to, h, pe, Fit(w.rng.IntN(3)), s, since)
	switch {
	case room == errors.Is(err, ErrFull):
		return nil, fmt.Errorf("room %v, error %w", room, err)
	case err != nil:
		w.refused++
		if w.Used() != before || w.Find(h, pe.ID) != e {
			return nil, fmt.Errorf("a refused element has changed the ledger: %w", err)
		}
	case c.Entry != w.Find(h, pe.ID) || (c.From == nil) != (e == nil) || c.To != to || e != nil && c.Entry != e || c.Entry.State() != s || c.Conflict != nil && !c.Entry.Aside():
		return nil, fmt.Errorf("%+v", c)
	}
	return []Change[int]{c}, nil
}

func (w *world) refit(h rserpool.PoolHandle) ([]Change[int], error) {
	aside := w.Aside()
	changes := w.Refit(h)
	for _, c := range changes {
		if c.Conflict != nil {
			aside++
		} else {
			aside--
		}
		if c.Conflict != nil && !c.Entry.Aside() || c.From == nil || c.From != c.To {
			return nil, fmt.Errorf("%+v", c)
		}
	}
	if aside > w.Aside() { // a suspect that does not fit any more may be set aside when it comes back
		return nil, fmt.Errorf("%d set aside, the changes say %d", w.Aside(), aside)
	}
	return changes, nil
}

// read has the cursor read an entry, or begin again.
func (w *world) read() error {
	x := w.cursor.Next()
	delete(w.stays, x)
	if x != nil {
		if x.State() == Unconfirmed || x.State() == Suspect && !w.all {
			return fmt.Errorf("the cursor has read an entry in state %d", x.State())
		}
		return nil
	}
	if len(w.stays) > 0 {
		return fmt.Errorf("the cursor has missed %d entries", len(w.stays))
	}
	w.Close(w.cursor)
	w.cursor, w.all = w.Open(w.rosters...), w.rng.IntN(2) == 0
	states := []State{Member}
	if w.all {
		w.Close(w.cursor)
		w.cursor, states = w.OpenAll(w.rosters...), append(states, Suspect)
	}
	for _, r := range w.rosters {
		for _, s := range states {
			for e := r.FirstOf(s); e != nil; e = r.Next(e) {
				w.stays[e] = true
			}
		}
	}
	return nil
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

// TestBarred: a pool whose elements are all excluded costs no more the more of them there are.
// They do not keep another element from the pool, and are in it when Check admits them.
func TestBarred(t *testing.T) {
	l := newLedger()
	l.Limits.Elements, l.Limits.ElementBytes = 1<<20, 1<<30
	checks, bar := 0, errors.New("barred")
	admit := rserpool.PEID(0)
	l.Check = func(_ rserpool.PoolHandle, e *handlespace.Element) error {
		if checks++; e.ID > admit {
			return bar
		}
		return nil
	}
	theirs := NewRoster[int](peer)
	const n = 200
	for id := rserpool.PEID(1); id <= n; id++ {
		if c, err := l.Put(nil, theirs, "p", element(id, rserpool.RoundRobin), SetAside); err != nil || !errors.Is(c.Conflict, bar) {
			t.Fatalf("got %+v, %v", c, err)
		}
	}
	if checks > 4*n {
		t.Errorf("%d checks of %d elements", checks, n)
	}
	if err := l.check(0, theirs); err != nil {
		t.Error(err)
	}
	admit = 2
	for id := rserpool.PEID(1); id <= n; id++ { // one after the other, as a caller may
		if x := l.Find("p", id); x.Aside() != (id > admit) {
			l.Move(x, theirs, x.PE())
		}
	}
	if p, e := l.space.Len(); p != 1 || e != 2 {
		t.Errorf("%d pools, %d elements, want 1 and 2", p, e)
	}
	l.Remove(l.Find("p", 2))
	if c, err := l.Put(l.Find("p", 1), theirs, "p", element(1, rserpool.Random), Renew); err != nil || !c.Visible {
		t.Errorf("the only element of the pool cannot become another one: %+v, %v", c, err)
	}
	if err := l.check(0, theirs); err != nil {
		t.Error(err)
	}
}
