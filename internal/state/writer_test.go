package state

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// fake is a disk in memory.
type fake struct {
	mu      sync.Mutex
	err     error             // of the next commits
	hang    chan struct{}     // commits wait for it
	times   []time.Time       // of the commits
	current map[string]string // the set that a next process would read
	next    map[string]string
	closed  int
	stamps  int
}

func (f *fake) commit(b *batch) error {
	f.mu.Lock()
	err, hang := f.err, f.hang
	f.times = append(f.times, time.Now())
	f.mu.Unlock()
	if hang != nil {
		<-hang
	}
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if b.begin {
		f.next = make(map[string]string)
	}
	to := f.current
	if f.next != nil {
		to = f.next
	}
	for k, v := range b.changes {
		if v == nil {
			delete(to, k)
			continue
		}
		to[k] = string(v.(text))
	}
	if b.finish && f.next != nil {
		f.current, f.next = f.next, nil
	}
	if b.stamp != nil {
		f.stamps++
	}
	return nil
}

func (f *fake) size() int64 { return 4096 }

func (f *fake) holds() set {
	f.mu.Lock()
	defer f.mu.Unlock()
	return set{count: uint64(len(f.current))}
}

func (f *fake) close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed++
	f.next = nil // a file that is opened again does not know it
	return nil
}

func (f *fake) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

func (f *fake) commits() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.times)
}

func (f *fake) content() map[string]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.current)
}

// pass lets time pass. What is due at its end has happened.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// started is a Store that writes to a fake disk.
func started(t *testing.T, f *fake, cfg Config) (*Store, *log) {
	t.Helper()
	l := new(log)
	f.current = make(map[string]string)
	cfg.Dir, cfg.Log = "DIR", l.add
	cfg.Stamp = func(time.Time) map[string][]byte { return map[string][]byte{"id": nil} }
	cfg.open = func(Config, io.Closer) opened { return opened{disk: f} }
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	return s, l
}

// TestPace: changes are written together, at most once a second, and the stamp alone every
// ten seconds.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := new(fake)
		s, _ := started(t, f, Config{})
		for i := range 300 {
			s.Put(fmt.Sprint(i%7), text(fmt.Sprint(i)))
			pass(10 * time.Millisecond)
		}
		synctest.Wait()
		if n := f.commits(); n < 3 || n > 4 {
			t.Errorf("%d writes in 3 s, want one a second", n)
		}
		for i := 1; i < len(f.times); i++ {
			if gap := f.times[i].Sub(f.times[i-1]); gap < time.Second {
				t.Errorf("a write %v after the one before", gap)
			}
		}
		pass(2 * time.Second)
		before := f.commits()
		pass(time.Minute)
		if n := f.commits() - before; n != 6 {
			t.Errorf("%d writes in a minute without changes, want 6", n)
		}
		s.Put("late", text("x"))
		begin := time.Now()
		if err := s.Close(time.Minute); err != nil || time.Since(begin) != 0 {
			t.Errorf("close: %v after %v", err, time.Since(begin))
		}
		if f.current["late"] != "x" || f.closed != 1 {
			t.Errorf("after Close the disk has %v, and was closed %d times", f.current, f.closed)
		}
	})
}

// TestFirstChange: a change after a quiet time is written at once: Every is for what follows.
func TestFirstChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := new(fake)
		s, _ := started(t, f, Config{})
		pass(5 * time.Second)
		n := f.commits()
		s.Put("a", text("1"))
		synctest.Wait()
		if f.commits() != n+1 {
			t.Errorf("%d writes, want %d", f.commits(), n+1)
		}
		_ = s.Close(time.Minute)
	})
}

// TestHungDisk: a disk that does not respond delays nobody: a change no more than Close.
func TestHungDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{hang: make(chan struct{})}
		s, l := started(t, f, Config{})
		pass(time.Nanosecond) // the write that hangs has no change
		s.Put("a", text("1"))
		pass(10 * time.Second)
		begin := time.Now()
		s.Put("a", text("2"))
		s.Delete("b")
		st := s.Stats()
		if time.Since(begin) != 0 || !st.Behind || st.Pending != 2 || st.Writes != 0 {
			t.Errorf("after %v: %+v", time.Since(begin), st)
		}
		if got, want := l.String(), "!the disk of state directory DIR has not finished a write for 5s: the registrar continues, and a restart would forget the latest changes"; got != want {
			t.Errorf("log: %s", got)
		}
		err := s.Close(2 * time.Second)
		if !errors.Is(err, errNotWritten) || time.Since(begin) != 2*time.Second {
			t.Errorf("close: %v after %v", err, time.Since(begin))
		}
		close(f.hang) // it was only slow
		synctest.Wait()
		if f.current["a"] != "2" || f.closed != 1 {
			t.Errorf("the disk has %v and was closed %d times", f.current, f.closed)
		}
	})
}

// TestPendingInWrite: what a write has that does not end is not on the disk.
func TestPendingInWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := new(fake)
		s, _ := started(t, f, Config{})
		pass(time.Second)
		hang := make(chan struct{})
		f.mu.Lock()
		f.hang = hang
		f.mu.Unlock()
		s.Put("a", text("1"))
		s.Put("b", text("1"))
		pass(3 * time.Second)
		s.Put("c", text("1"))
		if st := s.Stats(); f.commits() != 2 || st.Pending != 3 {
			t.Errorf("%d writes have begun, %d changes are pending, want 2 and 3", f.commits(), st.Pending)
		}
		close(hang)
		pass(3 * time.Second)
		if st := s.Stats(); st.Pending != 0 {
			t.Errorf("%d changes are pending after the write", st.Pending)
		}
		f.fail(syscall.ENOSPC)
		s.Put("a", text("2"))
		pass(3 * time.Second)
		if st := s.Stats(); st.Pending != 1 || st.Failures != 1 {
			t.Errorf("%d changes are pending after %d failed writes, want 1 after 1", st.Pending, st.Failures)
		}
		f.fail(nil)
		_ = s.Close(time.Minute)
	})
}

// TestPendingInLastWrite: no entry is stored for good while the write that completes the set of entries
// does not end.
func TestPendingInLastWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := new(fake)
		s, _ := started(t, f, Config{MaxPending: 10})
		f.fail(syscall.EIO)
		for i := range 20 {
			s.Put(fmt.Sprint(i), text("1"))
		}
		f.fail(nil)
		pass(20 * time.Second)
		s.Rewriting()
		s.Put("a", text("1"))
		pass(2 * time.Second)
		hang := make(chan struct{})
		f.mu.Lock()
		f.hang = hang
		f.mu.Unlock()
		s.Put("b", text("1"))
		s.Rewritten()
		pass(3 * time.Second)
		if st := s.Stats(); !st.All || !st.Behind || st.Pending != 1 {
			t.Errorf("while the last write hangs: %+v", st)
		}
		close(hang)
		pass(2 * time.Second)
		if st := s.Stats(); st.All || st.Behind || st.Pending != 0 || !maps.Equal(f.content(), map[string]string{"a": "1", "b": "1"}) {
			t.Errorf("%+v, %v", st, f.content())
		}
		_ = s.Close(time.Minute)
	})
}

// TestSlowDisk: after a slow write the others follow, and the log says so.
func TestSlowDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{hang: make(chan struct{})}
		s, l := started(t, f, Config{})
		s.Put("a", text("1"))
		pass(time.Minute)
		s.Put("b", text("1"))
		close(f.hang)
		f.mu.Lock()
		f.hang = nil
		f.mu.Unlock()
		pass(2 * time.Second)
		if got := f.content(); !maps.Equal(got, map[string]string{"a": "1", "b": "1"}) || s.Stats().Behind {
			t.Errorf("got %v, %+v", got, s.Stats())
		}
		if got := l.String(); !strings.HasSuffix(got, "\nthe disk of state directory DIR responds again after 1m0s") {
			t.Errorf("log: %s", got)
		}
		_ = s.Close(time.Minute)
	})
}

// TestFullDisk: what could not be written is written when there is room, with two lines in
// the log for any number of attempts. A later change counts, not the one that has failed.
func TestFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := new(fake)
		s, l := started(t, f, Config{})
		s.Put("a", text("1"))
		s.Put("b", text("1"))
		pass(2 * time.Second)
		f.fail(fmt.Errorf("write: %w", syscall.ENOSPC))
		s.Put("a", text("2"))
		s.Put("c", text("2"))
		pass(2 * time.Second)
		s.Put("c", text("3"))
		s.Delete("b")
		pass(time.Minute)
		st := s.Stats()
		if !st.Behind || st.Pending != 3 || st.Failures < 10 || st.Failures > 20 {
			t.Errorf("%+v", st)
		}
		if got, want := l.String(), "!cannot write the state to DIR: write: no space left on device: the registrar continues, and tries again every 5s"; got != want {
			t.Errorf("log: %s", got)
		}
		f.fail(nil)
		pass(6 * time.Second)
		if got, want := f.content(), (map[string]string{"a": "2", "c": "3"}); !maps.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		if got := l.String(); !strings.Contains(got, "\nthe state is written to DIR again after 1m") {
			t.Errorf("log: %s", got)
		}
		if st := s.Stats(); st.Behind || st.Pending != 0 {
			t.Errorf("%+v", st)
		}
		if err := s.Close(time.Minute); err != nil {
			t.Error(err)
		}
	})
}

// TestCloseWithFullDisk: Close says that the last changes are lost.
func TestCloseWithFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{err: syscall.ENOSPC}
		s, _ := started(t, f, Config{})
		s.Put("a", text("1"))
		if err := s.Close(time.Minute); !errors.Is(err, errNotWritten) {
			t.Errorf("got %v, want %v", err, errNotWritten)
		}
	})
}

// TestTooMuch: memory is bounded. What was dropped comes with all entries once the disk
// accepts writes, and the former entries stay until then.
func TestTooMuch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := new(fake)
		asked := 0
		s, _ := started(t, f, Config{MaxPending: 100, Rewrite: func() { asked++ }})
		s.Put("old", text("1"))
		pass(2 * time.Second)
		f.fail(syscall.EIO)
		for i := range 1000 {
			s.Put(fmt.Sprint(i), text("1"))
			if n := s.Stats().Pending; n > 100 {
				t.Fatalf("%d changes are in memory", n)
			}
		}
		s.Delete("old")
		pass(20 * time.Second)
		if asked > 0 {
			t.Error("all entries are asked for while the disk fails")
		}
		f.fail(nil)
		pass(10 * time.Second)
		if asked != 1 {
			t.Fatalf("all entries were asked for %d times", asked)
		}
		if !s.Stats().Behind {
			t.Error("not behind")
		}
		s.Rewriting()
		s.Put("new", text("1"))
		pass(3 * time.Second)
		if got := f.content(); !maps.Equal(got, map[string]string{"old": "1"}) {
			t.Errorf("before all are there: %v", got)
		}
		s.Put("5", text("2"))
		s.Rewritten()
		pass(3 * time.Second)
		if got, want := f.content(), (map[string]string{"new": "1", "5": "2"}); !maps.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		if s.Stats().Behind || !s.Room() || asked != 1 {
			t.Errorf("%+v, asked %d times", s.Stats(), asked)
		}
		_ = s.Close(time.Minute)
	})
}

// TestLongKeysPending: long keys need memory, too.
func TestLongKeysPending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{err: syscall.EIO}
		s, _ := started(t, f, Config{MaxPending: 100})
		key := func(i int) string { return fmt.Sprint(i) + strings.Repeat("k", 20000) }
		for i := range 3 {
			s.Put(key(i), text("1"))
		}
		for range 3 { // failed writes, and the same keys again
			pass(20 * time.Second)
			s.Delete(key(1))
		}
		if n := s.Stats().Pending; n != 3 || s.Room() {
			t.Errorf("%d changes are pending, want 3", n)
		}
		for i := range 100 {
			s.Delete(key(i))
			if n := s.Stats().Pending; n > 5 {
				t.Fatalf("%d changes with 20,000 bytes each are in memory", n)
			}
		}
		f.fail(nil)
		pass(20 * time.Second)
		s.Rewriting()
		for i := range 5 {
			s.Put(key(i), text("2"))
		}
		s.Rewritten()
		pass(2 * time.Second)
		if n := len(f.content()); n != 5 || !s.Room() || s.Stats().Behind {
			t.Errorf("%d entries, want 5; %+v", n, s.Stats())
		}
		_ = s.Close(time.Minute)
	})
}

// TestTooMuchAgain: the same while all entries are on their way.
func TestTooMuchAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := new(fake)
		asked := 0
		s, _ := started(t, f, Config{MaxPending: 100, Rewrite: func() { asked++ }})
		lose := func() {
			f.fail(syscall.EIO)
			for i := range 1000 {
				s.Put(fmt.Sprint(i), text("1"))
			}
			f.fail(nil)
			pass(10 * time.Second)
		}
		lose()
		s.Rewriting()
		s.Put("first", text("1"))
		pass(2 * time.Second)
		lose()
		if asked != 2 {
			t.Fatalf("all entries were asked for %d times", asked)
		}
		s.Rewriting()
		s.Put("second", text("1"))
		s.Rewritten()
		pass(2 * time.Second)
		if got, want := f.content(), (map[string]string{"second": "1"}); !maps.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		_ = s.Close(time.Minute)
	})
}

// TestSlowOpen: a disk that does not respond at the start costs openTimeout and the content.
// When it responds, all entries are written.
func TestSlowOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, f := new(log), &fake{current: map[string]string{"old": "1"}}
		hang := make(chan struct{})
		asked := 0
		begin := time.Now()
		s, err := Open(Config{Dir: "DIR", Log: l.add, openTimeout: 3 * time.Second, Rewrite: func() { asked++ }, open: func(Config, io.Closer) opened {
			<-hang
			return opened{disk: f, each: func(f func(k, v []byte) error) error { return f([]byte("old"), []byte("1")) }}
		}})
		if err != nil || time.Since(begin) != 3*time.Second || s.entries() != 0 {
			t.Fatalf("got %v after %v, %d entries", err, time.Since(begin), s.entries())
		}
		s.Start()
		s.Put("a", text("1"))
		pass(time.Minute)
		if got, want := l.String(), "!the disk of state directory DIR has not responded within 3s: starting without the stored state"; got != want {
			t.Errorf("log: %s", got)
		}
		close(hang)
		pass(3 * time.Second)
		if asked != 1 {
			t.Errorf("all entries were asked for %d times", asked)
		}
		s.Rewriting()
		s.Put("a", text("1"))
		s.Rewritten()
		if err := s.Close(time.Minute); err != nil {
			t.Error(err)
		}
		if got, want := f.content(), (map[string]string{"a": "1"}); !maps.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

// TestSlowReadOnly: a directory that responds late and can only be read can be written later. What was
// opened for reading is closed: its lock would stop the writing.
func TestSlowReadOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{current: make(map[string]string)}
		hang := make(chan struct{})
		var opens, done atomic.Int32
		s, err := Open(Config{Dir: "DIR", open: func(Config, io.Closer) opened {
			<-hang
			if opens.Add(1) == 1 {
				return opened{err: syscall.EROFS, done: func() { done.Add(1) }}
			}
			return opened{disk: f}
		}})
		if err != nil {
			t.Fatal(err)
		}
		s.Start()
		pass(time.Minute)
		close(hang)
		pass(time.Minute)
		if done.Load() != 1 || f.commits() == 0 {
			t.Errorf("closed %d times, %d writes", done.Load(), f.commits())
		}
		_ = s.Close(time.Minute)
	})
}

// TestCloseWhileOpening: a Store that is closed before the disk responds waits for nothing, and lets others use the
// directory when the disk has responded.
func TestCloseWhileOpening(t *testing.T) {
	for _, started := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			f, lock := new(fake), new(fake)
			hang := make(chan struct{})
			s, err := Open(Config{Dir: "DIR", open: func(Config, io.Closer) opened {
				<-hang
				return opened{disk: f, lock: closer{lock}}
			}})
			if err != nil {
				t.Fatal(err)
			}
			if started {
				s.Start()
			}
			begin := time.Now()
			if err := s.Close(time.Minute); started && !errors.Is(err, errNotWritten) || time.Since(begin) != 0 {
				t.Errorf("close: %v after %v", err, time.Since(begin))
			}
			close(hang)
			synctest.Wait()
			if f.closed != 1 || lock.closed != 1 || f.commits() != 0 {
				t.Errorf("the disk was closed %d times after %d writes, the lock %d times", f.closed, f.commits(), lock.closed)
			}
		})
	}
}

// closer is a lock.
type closer struct{ f *fake }

func (c closer) Close() error { return c.f.close() }

// TestSlowOpenOfOther: the slow directory turns out to belong to another process.
func TestSlowOpenOfOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := new(log)
		hang := make(chan struct{})
		s, err := Open(Config{Dir: "DIR", Log: l.add, open: func(Config, io.Closer) opened {
			<-hang
			return opened{err: inUse("DIR", 7)}
		}})
		if err != nil {
			t.Fatal(err)
		}
		s.Start()
		close(hang)
		pass(time.Second)
		if got := l.String(); !strings.HasSuffix(got, "\n!the state directory is in use: another process (pid 7) uses DIR: end it, or use another directory: the state is not stored") {
			t.Errorf("log: %s", got)
		}
		if err := s.Close(time.Minute); !errors.Is(err, errNotWritten) {
			t.Errorf("close: %v", err)
		}
	})
}

// TestPanicOfDisk: a panic of the database is a failed write.
func TestPanicOfDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := new(log)
		f := &fake{current: make(map[string]string)}
		var whole atomic.Bool
		s, err := Open(Config{Dir: "DIR", Log: l.add, open: func(Config, io.Closer) opened {
			if whole.Load() {
				return opened{disk: f}
			}
			return opened{disk: broken{}}
		}})
		if err != nil {
			t.Fatal(err)
		}
		s.Start()
		s.Put("a", text("1"))
		pass(time.Second)
		whole.Store(true)
		pass(10 * time.Second)
		if got := f.content(); !maps.Equal(got, map[string]string{"a": "1"}) {
			t.Errorf("got %v", got)
		}
		if got := l.String(); !strings.Contains(got, "cannot write the state to DIR: the file cannot be used: page 7") {
			t.Errorf("log: %s", got)
		}
		_ = s.Close(time.Minute)
	})
}

type broken struct{}

func (broken) commit(*batch) error { panic("page 7") }
func (broken) holds() set          { return set{} }
func (broken) size() int64         { return 0 }
func (broken) close() error        { return nil }
