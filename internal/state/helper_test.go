package state

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// text is a value.
type text string

func (v text) Append(b []byte) ([]byte, error) { return append(b, v...), nil }

// log collects lines. A line that warns begins with "!".
type log struct {
	mu    sync.Mutex
	lines []string
}

func (l *log) add(warn bool, line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if warn {
		line = "!" + line
	}
	l.lines = append(l.lines, line)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "\n")
}

// open opens a Store that nobody writes to.
func open(t *testing.T, dir string, l *log) *Store {
	t.Helper()
	s, err := Open(Config{Dir: dir, Log: l.add, Stamp: func(time.Time) map[string][]byte { return map[string][]byte{"id": []byte("7")} }})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// entries is how many entries the former process has left.
func (s *Store) entries() (n int) {
	_ = s.Each(func(_, _ []byte) error { n++; return nil })
	return n
}

// content is what the former process has left.
func content(t *testing.T, s *Store) map[string]string {
	t.Helper()
	m := make(map[string]string)
	if err := s.Each(func(k, v []byte) error { m[string(k)] = string(v); return nil }); err != nil {
		t.Error(err)
	}
	if f, ok := s.disk.(*file); ok && uint64(len(m)) != f.current.count {
		t.Errorf("%d entries, want %d", len(m), f.current.count)
	}
	return m
}

// closed starts and closes a Store.
func closed(t *testing.T, s *Store) {
	t.Helper()
	s.Start()
	if err := s.Close(10 * time.Second); err != nil {
		t.Error(err)
	}
}

// filled is a directory with n entries, written in several transactions, and the entries.
func filled(t testing.TB, n int) (dir string, want map[string]string) {
	t.Helper()
	dir, want = filepath.Join(t.TempDir(), "state"), make(map[string]string)
	cfg := Config{Dir: dir}
	cfg.complete()
	o := openFile(cfg, nil)
	if o.err != nil {
		t.Fatal(o.err)
	}
	for part := range 4 {
		b := &batch{changes: make(map[string]Value), stamp: map[string][]byte{"id": []byte("7")}}
		for i := part; i < n; i += 4 {
			k, v := fmt.Sprintf("key %d", i*7919%n), fmt.Sprintf("value %d of %d%s", i, part, strings.Repeat(".", i%200))
			b.changes[k], want[k] = text(v), v
		}
		if part == 3 {
			for k := range want {
				if strings.HasSuffix(k, "3") {
					b.changes[k] = nil
					delete(want, k)
				}
			}
		}
		if err := o.disk.commit(b); err != nil {
			t.Fatal(err)
		}
	}
	if err := o.disk.commit(new(batch)); err != nil { // now both meta pages have the same content
		t.Fatal(err)
	}
	if err := errors.Join(o.disk.close(), o.lock.Close()); err != nil {
		t.Fatal(err)
	}
	return dir, want
}

func same(a, b map[string]string) bool { return maps.Equal(a, b) }

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func writeFile(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}
