package sim

import (
	"reflect"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/session"
)

func sessionsOf(seed uint64) sessionConfig {
	return sessionConfig{
		Config: Config{
			Seed: seed, Registrars: 2 + int(seed%3), Elements: 3 + int(seed%5), Start: 6 * time.Second,
			Faults: 60 * time.Second, Rest: 150 * time.Second,
		},
		Users: 4, Sessions: 24, Requests: 60, Hostile: int(seed % 2),
	}
}

// TestSessions: whatever goes wrong, each session gets exactly the answers that it should,
// in their order, and none is without an element for long while one could serve it.
func TestSessions(t *testing.T) {
	each(t, 20, func(seed uint64, trace tracer) error {
		w := newSessions(sessionsOf(seed))
		w.Trace = trace
		err := w.run()
		if trace != nil {
			t.Log(w.stats)
		}
		return err
	})
}

// TestThousandSessions: a thousand of them, of fifty pool users.
func TestThousandSessions(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	w := newSessions(sessionConfig{
		Config: Config{
			Seed: 6, Registrars: 4, Elements: 12, Start: 10 * time.Second, Faults: 60 * time.Second, Rest: 200 * time.Second,
		},
		Users: 50, Sessions: 1000, Requests: 40, Hostile: 1,
	})
	if err := w.run(); err != nil {
		t.Error(err)
	}
	answers := 0
	for _, s := range w.list {
		answers += int(s.app.got)
	}
	t.Logf("%d answers in %v; %v", answers, w.net.now, w.stats)
	if w.stats.failovers < 1000 {
		t.Errorf("%d failovers, want 1000 or more: choose another seed", w.stats.failovers)
	}
}

// TestSessionReplay: a seed does the same each time.
func TestSessionReplay(t *testing.T) {
	for seed := range uint64(3) {
		a, b := newSessions(sessionsOf(seed)), newSessions(sessionsOf(seed))
		_, _ = a.run(), b.run()
		if a.net.sum != b.net.sum {
			t.Errorf("seed %d: two runs differ", seed)
		}
	}
}

// TestSessionFailover: an element ends, while all else is well. Its sessions are with
// another one as soon as that can be called and answers. A last will may name elements that
// have ended since, each of which refuses a call; a cache may know no other element, and
// asks a registrar.
func TestSessionFailover(t *testing.T) {
	const call = 2 * (maxDelay + time.Millisecond)
	failovers, trips := 0, 0
	for seed := range uint64(10) {
		cfg := sessionsOf(2 * seed)
		cfg.Elements, cfg.Requests, cfg.Sessions = 8, 1000, 40
		w := newSessions(cfg)
		for _, s := range w.services {
			s.limit = 0
		}
		w.net.run(cfg.Start*2 + 10*time.Second)
		for i, s := range w.services[:4] {
			if i%2 == 0 {
				w.killService(s, false)
			} else {
				s.leave()
			}
			w.net.run(15 * time.Second)
		}
		if err := w.err(); err != nil {
			t.Error(err)
		}
		for _, s := range w.list {
			for _, f := range s.failover {
				failovers++
				trips += f.trips
				if most := time.Duration(1+f.trips) * call; f.time > most {
					t.Errorf("seed %d: a failover of session %d takes %v with %d round trips before, want %v at most", seed, s.id, f.time, f.trips, most)
				}
			}
		}
	}
	t.Logf("%d failovers, with %d round trips before their last call", failovers, trips)
	if failovers < 100 {
		t.Errorf("%d failovers, want 100 or more", failovers)
	}
}

// TestSessionMemory: hostile elements, which send cookies and cards without end, do not have
// a session use more memory than its limits say.
func TestSessionMemory(t *testing.T) {
	cfg := sessionsOf(1)
	cfg.Requests, cfg.Hostile = 1000, cfg.Elements-1
	w := newSessions(cfg)
	good := w.services[cfg.Elements-1]
	most := 0
	for i := range 240 { // half seconds
		if i%40 == 39 { // now and then the sessions must go to the hostile ones
			w.killService(good, false)
			w.net.after(5*time.Second, func() { w.boot(good) })
		}
		w.net.run(500 * time.Millisecond)
		for _, s := range w.list {
			if s.core != nil {
				most = max(most, sizeOf(s.core))
			}
		}
	}
	if err := w.err(); err != nil {
		t.Error(err)
	}
	// A cookie, and the elements of a card, share the memory of the message that they came
	// in. The queues may have grown to twice what they hold.
	u := w.list[0].cfg
	limit := 2*(u.MaxReceive+u.MaxUnacked) + 2*session.MaxMessage + 64<<10
	t.Logf("a session uses %d bytes at most", most)
	if most > limit || most < 60000 { // less than a cookie: none has come
		t.Errorf("a session uses %d bytes at most, want between 60000 and %d", most, limit)
	}
}

// sizeOf is about the memory that a value leads to.
func sizeOf(x any) int { return deepSize(reflect.ValueOf(x), make(map[uintptr]bool)) }

func deepSize(v reflect.Value, seen map[uintptr]bool) int {
	size := 0
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() && !seen[v.Pointer()] {
			seen[v.Pointer()] = true
			size = int(v.Type().Elem().Size()) + deepSize(v.Elem(), seen)
		}
	case reflect.Interface:
		if !v.IsNil() {
			size = int(v.Elem().Type().Size()) + deepSize(v.Elem(), seen)
		}
	case reflect.Slice:
		if v.IsNil() || seen[v.Pointer()] {
			return 0
		}
		seen[v.Pointer()] = true
		size = v.Cap() * int(v.Type().Elem().Size())
		if v.Type().Elem().Kind() != reflect.Uint8 {
			for i := range v.Len() {
				size += deepSize(v.Index(i), seen)
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			size += deepSize(v.Field(i), seen)
		}
	case reflect.String:
		size = v.Len()
	}
	return size
}
