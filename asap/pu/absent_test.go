package pu

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// leave has the registrar name some elements no more, as if they were silent, and tells
// those that have asked for updates.
func (w *world) leave(ids ...rserpool.PEID) {
	w.mu.Lock()
	w.absent = make(map[rserpool.PEID]bool)
	for _, id := range ids {
		w.absent[id] = true
	}
	data, err := w.answer(&asap.HandleResolution{Handle: testPool, Subscribe: true}).Append(nil)
	for a := range w.subscribers {
		_ = w.registry.Send(a, sctp.Message{Data: data, PPID: asap.PPID})
	}
	w.mu.Unlock()
	if err != nil {
		w.t.Error(err)
	}
	synctest.Wait()
}

// listed are the elements that the cache has.
func (w *world) listed() (ids []rserpool.PEID) {
	all, _ := w.u.Elements(w.t.Context(), testPool)
	for _, e := range all {
		ids = append(ids, e.ID)
	}
	return ids
}

// absences are what a registrar may say while elements are silent, or it has lost them.
var absences = []struct {
	name string
	news func(w *world, serving rserpool.PEID)
}{
	{"an update without the element", func(w *world, serving rserpool.PEID) { w.leave(serving) }},
	{"an update without any element", func(w *world, _ rserpool.PEID) { w.leave(1, 2, 3) }},
	{"a resolution without the element", func(w *world, serving rserpool.PEID) {
		w.leave(serving)
		w.u.Purge(testPool)
		_ = w.u.Populate(w.t.Context(), testPool)
	}},
	{"a resolution without any element", func(w *world, _ rserpool.PEID) {
		w.leave(1, 2, 3)
		_ = w.u.Populate(w.t.Context(), testPool)
	}},
	{"a purged cache", func(w *world, _ rserpool.PEID) { w.u.Purge(testPool) }},
	{"no registrar", func(w *world, _ rserpool.PEID) { w.nw.Kill(w.registry) }},
}

// TestAbsence: a registrar that does not name an element any more ends no session with it.
// It may be the registrar that is cut off.
func TestAbsence(t *testing.T) {
	for _, tt := range absences {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, 3, func(t *testing.T, w *world) {
				var n news
				s := dial(t, w, SessionConfig{Notify: n.note})
				ask(t, s, "count")
				synctest.Wait()
				serving := w.serving(s).id
				if got := w.listed(); len(got) != 3 {
					t.Fatalf("the cache has %v, want three elements", got)
				}
				tt.news(w, serving)
				for i := 2; i < 10; i++ {
					time.Sleep(time.Minute)
					if got := ask(t, s, "count"); got != fmt.Sprint(i) {
						t.Fatalf("answer %s, want %d", got, i)
					}
				}
				synctest.Wait()
				if got := w.serving(s).id; got != serving {
					t.Errorf("element %v serves, want %v as before", got, serving)
				}
				s.Close()
				for _, line := range n.log {
					if want := fmt.Sprintf("element %v has sent a cookie", serving); line != want && line != fmt.Sprintf("connected to element %v", serving) && line != "closed" {
						t.Errorf("event %q", line)
					}
				}
				if len(w.reports) > 0 {
					t.Errorf("reports %v, want none", w.reports)
				}
			})
		})
	}
}

// TestAbsenceThenFailover: a session whose element was not named, and then fails, goes on
// with an element that is named, and with the state of its cookie. If none is named, it
// goes on when one is named again.
func TestAbsenceThenFailover(t *testing.T) {
	inWorld(t, 3, func(t *testing.T, w *world) {
		s := dial(t, w, SessionConfig{})
		ask(t, s, "count")
		synctest.Wait()
		first := w.serving(s).id
		others := []rserpool.PEID{first%3 + 1, (first+1)%3 + 1}
		w.leave(first, others[0])
		w.kill(first)
		synctest.Wait()
		if got := ask(t, s, "count"); got != "2" {
			t.Errorf("answer %s, want 2", got)
		}
		synctest.Wait()
		if got := w.serving(s).id; got != others[1] {
			t.Errorf("element %v serves, want %v, the only one that is named", got, others[1])
		}
		w.leave(1, 2, 3)
		w.kill(others[1])
		synctest.Wait()
		if got := s.State(); got != FailingOver {
			t.Errorf("%v without any element, want failing over", got)
		}
		time.Sleep(10 * time.Second)
		w.leave(first, others[1])
		if got := ask(t, s, "count"); got != "3" {
			t.Errorf("answer %s, want 3", got)
		}
		if got := w.serving(s).id; got != others[0] {
			t.Errorf("element %v serves, want %v", got, others[0])
		}
		s.Close()
	})
}

// name has the registrar name only some elements, and asks for them.
func (p *tcpPool) name(ids ...rserpool.PEID) {
	p.r.mu.Lock()
	p.r.list = slices.DeleteFunc(slices.Clone(p.r.list), func(e rserpool.PoolElement) bool { return !slices.Contains(ids, e.ID) })
	p.r.mu.Unlock()
	_ = p.u.Populate(p.t.Context(), testPool)
}

// TestAbsenceStream: the same for connections over TCP.
func TestAbsenceStream(t *testing.T) {
	p := newTCPPool(t, 3)
	s, all := p.dial(), p.r.list
	id, err := served(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range [][]rserpool.PEID{{id%3 + 1}, nil} {
		p.name(list...)
		if again, err := served(s); err != nil || again != id {
			t.Errorf("%v named: element %v serves, %v, want %v as before", list, again, err, id)
		}
	}
	p.r.mu.Lock()
	p.r.list = all
	p.r.mu.Unlock()
	p.wantReports()
}
