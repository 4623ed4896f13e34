package interop

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// watch asks a server for a pool again and again, as a client that never rests,
// and notes which elements are in the answers.
type watch struct {
	server, pool string
	stop         chan struct{}
	wg           sync.WaitGroup

	mu      sync.Mutex
	asked   int
	slowest time.Duration
	wrong   []string // what no answer may be
	seen    map[string]*sight
}

// sight is what answers have said of an element.
type sight struct {
	first   time.Time // when the first answer with it came
	left    time.Time // when the first answer without it came, zero if it is there
	missing time.Duration
	gone    time.Time // since when no answer may name it
	late    time.Duration
}

// watch begins to ask; workers ask at the same time.
func (l *lab) watch(server, pool string, workers int) *watch {
	w := &watch{server: server, pool: pool, stop: make(chan struct{}), seen: map[string]*sight{}}
	for range workers {
		w.wg.Go(func() {
			pause := time.NewTicker(20 * time.Millisecond)
			defer pause.Stop()
			for {
				w.ask()
				select {
				case <-pause.C:
				case <-w.stop:
					return
				}
			}
		})
	}
	l.t.Cleanup(w.end)
	return w
}

func (w *watch) end() {
	select {
	case <-w.stop:
	default:
		close(w.stop)
	}
	w.wg.Wait()
}

// ask asks once. That there is no such pool is an answer as well.
func (w *watch) ask() {
	sent := time.Now()
	r, err := large(w.server, w.pool+".pool.example.org.", dns.TypeSRV)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked++
	took := time.Since(sent)
	w.slowest = max(w.slowest, took)
	switch {
	case err != nil:
		w.wrong = append(w.wrong, fmt.Sprintf("%s: %v", sent.Format("15:04:05.000"), err))
		return
	case r.Rcode != dns.RcodeSuccess && r.Rcode != dns.RcodeNameError, r.Truncated:
		w.wrong = append(w.wrong, fmt.Sprintf("%s: %s, truncated %v", sent.Format("15:04:05.000"), dns.RcodeToString[r.Rcode], r.Truncated))
		return
	}
	w.note(elementsOf(r), sent, sent.Add(took))
}

func (w *watch) note(ids map[string]bool, sent, came time.Time) {
	for id := range ids {
		s := w.seen[id]
		if s == nil {
			s = &sight{}
			w.seen[id] = s
		}
		if s.first.IsZero() {
			s.first = came
		}
		if !s.left.IsZero() {
			s.missing = max(s.missing, came.Sub(s.left))
			s.left = time.Time{}
		}
		if !s.gone.IsZero() && sent.After(s.gone) {
			s.late = max(s.late, sent.Sub(s.gone))
		}
	}
	for id, s := range w.seen {
		if !ids[id] && s.left.IsZero() {
			s.left = came
		}
	}
}

// leaves says that an element has been told that it is registered no more.
func (w *watch) leaves(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.seen[id] == nil {
		w.seen[id] = &sight{}
	}
	w.seen[id].gone = time.Now()
}

// missing is how long an element has been missing at most since it was seen
// first; found says whether it has been seen.
func (w *watch) missing(id string) (longest time.Duration, found bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.seen[id]
	if s == nil || s.first.IsZero() {
		return 0, false
	}
	longest = s.missing
	if !s.left.IsZero() {
		longest = max(longest, time.Since(s.left))
	}
	return longest, true
}

// judge ends the asking. Every question must have been answered, and no element
// of ids be missing for longer than allowed. It returns the longest time that one
// was.
func (w *watch) judge(t *testing.T, ids []string, allowed time.Duration) time.Duration {
	t.Helper()
	w.end()
	if len(w.wrong) > 0 {
		t.Errorf("%s: %d of %d questions were not answered, the first: %s", w.server, len(w.wrong), w.asked, w.wrong[0])
	}
	var longest time.Duration
	for _, id := range ids {
		d, found := w.missing(id)
		switch {
		case !found:
			t.Errorf("%s has never named element %s", w.server, id)
		case d > allowed:
			t.Errorf("%s has not named element %s for %v, want %v at most", w.server, id, d, allowed)
		}
		longest = max(longest, d)
	}
	return longest
}

// late is how long after it had left an element was still named, at most.
func (w *watch) late() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	var longest time.Duration
	for _, s := range w.seen {
		longest = max(longest, s.late)
	}
	return longest
}

// elementsOf are the elements that SRV records name.
func elementsOf(m *dns.Msg) map[string]bool {
	ids := map[string]bool{}
	for _, rr := range m.Answer {
		if srv, ok := rr.(*dns.SRV); ok {
			id, _, _ := strings.Cut(strings.TrimPrefix(srv.Target, "pe-"), ".")
			ids[id] = true
		}
	}
	return ids
}

// elements is how many elements there are in all of a server's pools.
func elements(server string) (int, error) {
	m, err := query(server, "_rserpool.pool.example.org.", dns.TypeTXT)
	if err != nil {
		return 0, err
	}
	for _, rr := range m.Answer {
		if txt, ok := rr.(*dns.TXT); ok {
			for _, s := range txt.Txt {
				if n, ok := strings.CutPrefix(s, "elements="); ok {
					return strconv.Atoi(n)
				}
			}
		}
	}
	return 0, fmt.Errorf("%s: %v", dns.RcodeToString[m.Rcode], m.Answer)
}
