package registrar

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/registrar/internal/ledger"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// toldWorld counts the updates that peer 2 gets, and notes what it knows by them.
type toldWorld struct {
	*world
	known        map[string]bool
	adds, leaves int
}

func newToldWorld(t *testing.T) *toldWorld {
	w := &toldWorld{world: newPeerWorld(t), known: make(map[string]bool)}
	w.meet(2, greater)
	w.up(1, rserpool.ViaKernel, "10.0.1.1")
	return w
}

// note takes what was done since the last call.
func (w *toldWorld) note() {
	w.t.Helper()
	for _, line := range w.trace {
		if name, ok := strings.CutPrefix(line, "2 < handle_update ADD_PE "); ok {
			w.known[name] = true
			w.adds++
		}
		if name, ok := strings.CutPrefix(line, "2 < handle_update DEL_PE "); ok {
			if !w.known[name] {
				w.t.Errorf("at %v: the peer is told that %s has left, which it does not know", w.now.Sub(w.start), name)
			}
			delete(w.known, name)
			w.leaves++
		}
	}
	w.trace = nil
}

// wantKnown compares what the peer knows with the handlespace.
func (w *toldWorld) wantKnown() {
	w.t.Helper()
	w.note()
	var known []string
	for name := range w.known {
		known = append(known, name)
	}
	var sum enrp.Checksum
	for x := w.r.roster.FirstOf(ledger.Member); x != nil; x = w.r.roster.Next(x) {
		if name := fmt.Sprintf("%s:%x@%x", x.Handle(), uint32(x.ID()), uint32(testServer)); !w.known[name] {
			w.t.Errorf("the peer does not know %s", name)
		}
		sum.Add(x.Handle(), x.ID())
	}
	if len(known) != members(w.r.roster) {
		w.t.Errorf("the peer knows %q, there are %d", known, members(w.r.roster))
	}
}

// TestRestless: a client that registers elements and deregisters them, by turns, has a bounded number of
// updates sent. In the end the peers know what there is.
func TestRestless(t *testing.T) {
	const seconds, perSecond = 3, 1000
	for _, tt := range []struct {
		name  string
		id    func(n int) uint32
		stays bool
	}{
		{"one element, which leaves", func(int) uint32 { return 1 }, false},
		{"one element, which stays", func(int) uint32 { return 1 }, true},
		{"always another one", func(n int) uint32 { return uint32(n + 1) }, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newToldWorld(t)
			for n := range seconds * perSecond {
				w.recv(1, reg("a", tt.id(n), "10.0.1.1"))
				if n+1 < seconds*perSecond || !tt.stays {
					w.recv(1, dereg("a", tt.id(n)))
				}
				w.note()
				w.pass(time.Second / perSecond)
			}
			w.pass(time.Second)
			w.wantKnown()
			if most := (seconds + 3) * lateRate; w.adds > most || w.leaves > most || w.adds < lateRate {
				t.Errorf("%d and %d updates for %d registrations in %d s, want up to %d", w.adds, w.leaves, seconds*perSecond, seconds, most)
			}
			if w.r.late.list.Len() > 0 {
				t.Errorf("%d updates wait at rest", w.r.late.list.Len())
			}
		})
	}
}

// TestRestlessUpdates: so it is with an element that registers again and again. The peers learn the last
// values.
func TestRestlessUpdates(t *testing.T) {
	w := newToldWorld(t)
	for n := range 3000 {
		m := reg("a", 1, "10.0.1.1")
		m.Element.Life = int32(n + 1000)
		w.recv(1, m)
		w.note()
		w.pass(time.Millisecond)
	}
	var last enrp.HandleUpdate
	for range 100 {
		w.now = w.now.Add(10 * time.Millisecond)
		for _, a := range w.r.Handle(w.now, Tick{}) {
			if s, ok := a.(*Send); ok && s.PPID == enrp.PPID {
				msg, _, _ := enrp.Parse(s.Data)
				last = *msg.(*enrp.HandleUpdate)
			}
		}
	}
	if most := 6 * lateRate; w.adds > most {
		t.Errorf("%d updates, want up to %d", w.adds, most)
	}
	if last.Element.Life != 3999 {
		t.Errorf("the last update says a life of %d, want 3999", last.Element.Life)
	}
}

// TestRestlessOthers: what others register is told at once meanwhile, and so are many elements of the
// same association after a pause.
func TestRestlessOthers(t *testing.T) {
	w := newToldWorld(t)
	w.up(3, rserpool.ViaKernel, "10.0.1.3")
	for n := range 1000 {
		w.recv(1, reg("a", 1, "10.0.1.1"))
		w.recv(1, dereg("a", 1))
		w.note()
		if n == 500 {
			w.recv(3, reg("b", 3, "10.0.1.3"))
			w.want("2 < handle_update ADD_PE b:3@10000001", "3 < registration granted b:3")
			w.known["b:3@10000001"] = true
		}
	}
	w.recv(3, dereg("b", 3))
	w.pass(restlessTime)
	w.note()
	for id := range uint32(500) { // it has been quiet
		w.recv(1, reg("c", id+1, "10.0.1.1"))
	}
	if w.note(); w.r.late.list.Len() > 0 {
		t.Errorf("%d updates wait, though the client was quiet", w.r.late.list.Len())
	}
}

// TestRestlessShown: a peer that has an element from a table is told that it has left, even if no update
// has announced it.
func TestRestlessShown(t *testing.T) {
	for _, shown := range []bool{true, false} {
		w := newToldWorld(t)
		for w.r.late.list.Len() == 0 {
			w.recv(1, dereg("a", 1))
			w.recv(1, reg("a", 1, "10.0.1.1"))
		}
		w.trace = nil
		if shown {
			w.tell(2, &enrp.HandleTableRequest{Sender: greater, OwnChildrenOnly: true})
			w.want("2 < handle_table_response to 20000002 a:1@10000001")
		}
		w.recv(1, dereg("a", 1))
		if shown {
			w.want("2 < handle_update DEL_PE a:1@10000001", "1 < deregistration a:1")
		} else {
			w.want("1 < deregistration a:1")
		}
	}
}

// checkLate checks the updates that wait.
func (r *Registrar) checkLate(fail failFunc) {
	n := 0
	for x := r.roster.FirstOf(ledger.Member); x != nil; x = r.roster.Next(x) {
		if e := x.Note.own; e.late != nil {
			n++
			if !e.late.place.In(&r.late.list) {
				fail("element %v waits for an update, and is not in the list", x.ID())
			}
		}
	}
	if n != r.late.list.Len() || (n > 0) != r.late.timer.Armed() {
		fail("%d members wait for an update, %d are in the list, timer %v", n, r.late.list.Len(), r.late.timer.Armed())
	}
}
