package state

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	bolt "go.etcd.io/bbolt"
)

// faulty is a file of which one commit fails.
type faulty struct {
	*file
	fault *fault
}

// fault is how a commit fails.
type fault struct {
	in     atomic.Int32 // commits until then
	err    error
	counts bool              // the transaction is in the file all the same
	closed func(path string) // called when the file was closed for it
}

func (f *faulty) commit(b *batch) error {
	if f.fault.in.Add(-1) != 0 {
		return f.file.commit(b)
	}
	if f.fault.counts {
		w := &write{batch: b, current: f.current}
		if f.next != nil {
			w.next = new(*f.next)
		}
		if err := f.db.Update(w.run); err != nil {
			return err
		}
	}
	return f.fault.err
}

func (f *faulty) close() error {
	err := f.file.close()
	if f.fault.closed != nil {
		f.fault.closed(f.path)
	}
	return err
}

// model is a registrar: it has entries, and gives all of them to its Store if that asks for them.
type model struct {
	*Store
	entries map[string]string
	asked   atomic.Int32
	opened  atomic.Int32 // how often the file was opened
}

func newModel(t *testing.T, dir string, l *log, f *fault) *model {
	t.Helper()
	m := &model{entries: make(map[string]string)}
	cfg := Config{Dir: dir, Log: l.add, Rewrite: func() { m.asked.Add(1) }, open: func(cfg Config, held io.Closer) opened {
		m.opened.Add(1)
		o := openFile(cfg, held)
		if inner, ok := o.disk.(*file); ok {
			o.disk = &faulty{inner, f}
		}
		return o
	}}
	var err error
	if m.Store, err = Open(cfg); err != nil {
		t.Fatal(err)
	}
	m.Start()
	return m
}

func (m *model) put(k, v string) { m.entries[k] = v; m.Put(k, text(v)) }
func (m *model) remove(k string) { delete(m.entries, k); m.Delete(k) }

// lose has the Store drop its changes.
func (m *model) lose() {
	m.mu.Lock()
	m.drop()
	m.mu.Unlock()
	m.poke()
}

// answer gives all entries as often as the Store asks for them, in four writes. It calls between before
// each.
func (m *model) answer(between func(part int)) {
	for range 10 {
		pass(20 * time.Second) // a pause after a failed write, and a beat
		if m.asked.Swap(0) == 0 {
			return
		}
		m.Rewriting()
		for part := range 4 {
			between(part)
			for k, v := range m.entries {
				if len(k)%4 == part {
					m.Put(k, text(v))
				}
			}
			pass(2 * time.Second)
		}
		m.Rewritten()
	}
}

// inFile is what the next process reads.
func inFile(t *testing.T, dir string) map[string]string {
	t.Helper()
	l := new(log)
	s := open(t, dir, l)
	m := content(t, s)
	closed(t, s)
	if l.String() != "" {
		t.Errorf("log: %s", l)
	}
	return m
}

// errGrow is what is left of an ENOSPC in bbolt's error if it cannot make the file longer.
var errGrow = errors.New("file sync error: " + syscall.ENOSPC.Error())

// TestRewriteFails: any write may fail while all entries are written again, for any reason, and
// some fail although their content is in the file. When all is well again, the file has what the
// Store was given.
func TestRewriteFails(t *testing.T) {
	errs := []error{syscall.EIO, syscall.ENOSPC, errGrow, errReplaced}
	if testing.Short() {
		errs = errs[:2]
	}
	for _, err := range errs {
		for _, counts := range []bool{false, true} {
			for at := range int32(6) {
				t.Run(fmt.Sprintf("%v %v in %d", err, counts, at), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { rewriteFails(t, at, &fault{err: err, counts: counts}) })
				})
			}
		}
	}
}

func rewriteFails(t *testing.T, at int32, f *fault) {
	dir, l := filepath.Join(t.TempDir(), "state"), new(log)
	m := newModel(t, dir, l, f)
	for i := range 40 {
		m.put(strings.Repeat("k", i+1), "1")
	}
	m.put("gone", "1")
	pass(2 * time.Second)
	m.lose()
	m.remove("gone")
	m.put("k", "2")
	first := true
	m.answer(func(part int) {
		if first && part == 0 {
			f.in.Store(at + 1)
			first = false
		}
		m.put("changed "+fmt.Sprint(part), "1")
		m.remove(strings.Repeat("k", part+20))
	})
	if st := m.Stats(); st.Behind || st.All || st.Pending > 0 || st.Failures < 1 || st.Failures > 2 || first {
		t.Errorf("%+v", st)
	}
	if full := errors.Is(f.err, syscall.ENOSPC) || errors.Is(f.err, errGrow); full && !f.counts && m.opened.Load() > 1 {
		t.Errorf("the file was closed because the disk was full")
	}
	if err := m.Close(time.Minute); err != nil {
		t.Error(err)
	}
	if got := inFile(t, dir); !maps.Equal(got, m.entries) {
		t.Errorf("a restart reads %v, want %v", got, m.entries)
	}
	if got := strings.Split(l.String(), "\n"); len(got) != 2 || !strings.Contains(got[1], "is written to "+dir+" again") {
		t.Errorf("log: %s", l)
	}
}

// TestRewriteFailsOften: a disk that takes changes, but not all entries, is two lines in the log for any
// number of attempts, and the state is behind all the time.
func TestRewriteFailsOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, l, f := filepath.Join(t.TempDir(), "state"), new(log), &fault{err: syscall.EIO}
		m := newModel(t, dir, l, f)
		m.put("a", "1")
		pass(2 * time.Second)
		m.lose()
		rounds := 0
		m.answer(func(part int) {
			if part == 1 {
				rounds++
			}
			if part == 1 && rounds < 5 {
				f.in.Store(1)
			}
			m.put(fmt.Sprint("changed ", part), fmt.Sprint(rounds))
			if st := m.Stats(); !st.Behind || !st.All {
				t.Errorf("%+v", st)
			}
		})
		if st := m.Stats(); st.Behind || st.Failures != 4 || rounds != 5 {
			t.Errorf("%d rounds, %+v", rounds, st)
		}
		if got := strings.Split(l.String(), "\n"); len(got) != 2 || !strings.HasPrefix(got[0], "!cannot write the state") || !strings.HasPrefix(got[1], "the state is written") {
			t.Errorf("log: %s", l)
		}
		if err := m.Close(time.Minute); err != nil {
			t.Error(err)
		}
		if got := inFile(t, dir); !maps.Equal(got, m.entries) {
			t.Errorf("a restart reads %v, want %v", got, m.entries)
		}
	})
}

// TestWriteFails is the same while changes are written.
func TestWriteFails(t *testing.T) {
	for _, err := range []error{syscall.EIO, syscall.ENOSPC, errGrow, errReplaced} {
		for _, counts := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v %v", err, counts), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					dir, f := filepath.Join(t.TempDir(), "state"), &fault{err: err, counts: counts}
					m := newModel(t, dir, new(log), f)
					m.put("a", "1")
					m.put("b", "1")
					pass(2 * time.Second)
					f.in.Store(1)
					m.put("a", "2")
					m.put("c", "1")
					m.remove("b")
					m.answer(func(int) {})
					m.put("d", "1")
					if err := m.Close(time.Minute); err != nil {
						t.Error(err)
					}
					if got := inFile(t, dir); !maps.Equal(got, m.entries) {
						t.Errorf("a restart reads %v, want %v", got, m.entries)
					}
				})
			})
		}
	}
}

// TestReplacedWhileClosed: somebody replaces the file by a valid one in the pause after a failed write, when the
// Store has no file open.
func TestReplacedWhileClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		other, _ := filled(t, 100)
		valid := read(t, filepath.Join(other, "state.db"))
		dir, f := filepath.Join(t.TempDir(), "state"), &fault{err: syscall.EIO}
		m := newModel(t, dir, new(log), f)
		m.put("a", "1")
		pass(2 * time.Second)
		f.closed = func(path string) { f.closed = nil; writeFile(t, path, valid) }
		f.in.Store(1)
		m.put("b", "1")
		m.answer(func(int) {})
		if err := m.Close(time.Minute); err != nil {
			t.Error(err)
		}
		if got := inFile(t, dir); !maps.Equal(got, m.entries) {
			t.Errorf("a restart reads %v, want %v", got, m.entries)
		}
	})
}

// TestOverwritten: somebody writes a valid file over that of a Store.
func TestOverwritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "state")
		path := filepath.Join(dir, "state.db")
		m := newModel(t, dir, new(log), new(fault))
		m.put("a", "1")
		pass(2 * time.Second)
		old := read(t, path)
		m.put("b", "1")
		m.remove("a")
		pass(2 * time.Second)
		writeFile(t, path, old)
		m.answer(func(int) {})
		m.put("c", "1")
		if err := m.Close(time.Minute); err != nil {
			t.Error(err)
		}
		if got := inFile(t, dir); !maps.Equal(got, m.entries) {
			t.Errorf("a restart reads %v, want %v", got, m.entries)
		}
	})
}

// TestRewriteAgain: the end of a sequence of all entries does not end the next one, which the Store
// has asked for meanwhile.
func TestRewriteAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "state")
		m := newModel(t, dir, new(log), new(fault))
		m.put("a", "1")
		m.put("b", "1")
		pass(2 * time.Second)
		m.lose()
		pass(2 * time.Second)
		m.Rewriting()
		m.Put("a", text("1"))
		m.lose()
		pass(2 * time.Second)
		m.Put("b", text("1")) // it is the last one of the first sequence
		m.Rewritten()
		pass(2 * time.Second)
		if st := m.Stats(); m.asked.Swap(1) != 2 || !st.Behind {
			t.Errorf("%+v", st)
		}
		m.answer(func(int) {})
		if st := m.Stats(); st.Behind {
			t.Errorf("%+v", st)
		}
		if err := m.Close(time.Minute); err != nil {
			t.Error(err)
		}
		if got := inFile(t, dir); !maps.Equal(got, m.entries) {
			t.Errorf("a restart reads %v, want %v", got, m.entries)
		}
	})
}

// TestSizeOfRewrites: the file has room for two sets of entries, and does not grow with each.
func TestSizeOfRewrites(t *testing.T) {
	cfg := Config{Dir: t.TempDir()}
	cfg.complete()
	o := openFile(cfg, nil)
	if o.err != nil {
		t.Fatal(o.err)
	}
	used := func() (n int64) {
		_ = o.disk.(*file).view(func(tx *bolt.Tx) error { n = tx.Size(); return nil })
		return n
	}
	var early int64
	for round := range 25 {
		for part := range 8 { // four fill a set
			b := &batch{changes: make(map[string]Value), begin: part == 0, finish: part == 3}
			for i := part % 4; i < 2000; i += 4 {
				b.changes[fmt.Sprint("key ", i*7919%2000)] = text(strings.Repeat(".", 100+(i*round+part)%100))
			}
			if err := o.disk.commit(b); err != nil {
				t.Fatal(err)
			}
		}
		if round == 4 {
			early = used()
		}
	}
	if n := used(); n > early*5/4 {
		t.Errorf("%d bytes after 25 sets, %d after 5", n, early)
	}
	_ = o.disk.close()
	_ = o.lock.Close()
}

// TestCloseWhileRewriting: a restart reads the former entries, and Close says so.
func TestCloseWhileRewriting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "state")
		m := newModel(t, dir, new(log), new(fault))
		m.put("a", "1")
		pass(2 * time.Second)
		m.lose()
		pass(2 * time.Second)
		m.Rewriting()
		m.Put("b", text("1"))
		pass(2 * time.Second)
		m.Put("c", text("1"))
		if err := m.Close(time.Minute); !errors.Is(err, errNotWritten) {
			t.Errorf("close: %v", err)
		}
		if got := inFile(t, dir); !maps.Equal(got, m.entries) {
			t.Errorf("a restart reads %v, want %v", got, m.entries)
		}
	})
}
