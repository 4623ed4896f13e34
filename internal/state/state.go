package state

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
)

// Value is what a Store keeps under a key. It must not change after it was given to a Store:
// the Store encodes it when it writes.
type Value interface {
	// Append appends the encoded value. After an error the key is left as it is.
	Append(b []byte) ([]byte, error)
}

// Config configures a Store. Zero fields stand for their defaults.
type Config struct {
	// Dir is the directory, which is made if it is not there; those above it are not. It belongs to
	// one Store.
	Dir string
	// Stamp returns what every write has beside the changes. Its keys are fixed and few.
	// The Store's goroutine calls it.
	Stamp func(now time.Time) map[string][]byte
	// Rewrite is called when changes were dropped and the disk accepts writes again. One
	// goroutine then has to call Rewriting, to Put all entries, and to call Rewritten. The
	// Store's goroutine calls Rewrite, so it must not wait.
	Rewrite func()
	// Log gets lines for the operator. It must not wait.
	Log func(warn bool, text string)

	// Every is the least time between two writes, 1 s by default, and beat the longest,
	// 10 s.
	Every, beat time.Duration
	// retry is the pause after a failed write, 5 s by default.
	retry time.Duration
	// slow is the time after which a write that has not ended is logged, 5 s by default.
	slow time.Duration
	// lockTimeout is how long Open waits for a process that still uses the directory, 3 s
	// by default.
	lockTimeout time.Duration
	// openTimeout is how long Open waits for the disk, 10 s by default.
	openTimeout time.Duration
	// MaxPending is how many changes may wait in memory, 262144 by default. Their keys may have
	// meanKey bytes on average.
	MaxPending int

	// open opens the disk; a test's, or openFile.
	open func(Config, io.Closer) opened
}

func (c *Config) complete() {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&c.Every, time.Second}, {&c.beat, 10 * time.Second}, {&c.retry, 5 * time.Second},
		{&c.slow, 5 * time.Second}, {&c.lockTimeout, 3 * time.Second}, {&c.openTimeout, 10 * time.Second},
	} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if c.MaxPending == 0 {
		c.MaxPending = 1 << 18
	}
	if c.Stamp == nil {
		c.Stamp = func(time.Time) map[string][]byte { return nil }
	}
	if c.Rewrite == nil {
		c.Rewrite = func() {}
	}
	if c.Log == nil {
		c.Log = func(bool, string) {}
	}
	if c.open == nil {
		c.open = openFile
	}
}

// disk is what a Store's goroutine writes to.
type disk interface {
	// commit writes a batch as a whole, or nothing of it.
	commit(*batch) error
	// holds is the set of entries that the last successful commit has left.
	holds() set
	// size is the size of the file in bytes.
	size() int64
	close() error
}

// opened is the result of opening a disk.
type opened struct {
	disk disk // nil if it cannot be written
	err  error
	// lock is held on the directory; nil if that is not possible.
	lock io.Closer
	// made tells that the directory is new, and exposed is its mode if any user may write to it.
	made    bool
	exposed os.FileMode
	// fresh tells that the file is new, because there was none that can be used.
	fresh bool
	stamp map[string][]byte
	count uint64 // of the entries that each yields
	// each yields the entries; nil if there are none.
	each func(func(key, value []byte) error) error
	// done ends the use of each.
	done func()
	// unusable is why a file is not used; it has been renamed to kept.
	unusable error
	kept     string
}

// Store is a map on disk. Its methods are for any number of goroutines, except as noted.
type Store struct {
	cfg   Config
	read  opened
	found chan opened // what an Open that was too slow has found

	mu      sync.Mutex
	pending map[string]Value // a nil value deletes
	keys    int              // the bytes of the pending keys
	lost    bool             // changes were dropped, and all are until Rewriting
	asked   bool             // Config.Rewrite was called, and Rewriting was not
	begin   bool             // until a write has begun a new set of entries
	filling bool             // until all entries of that set are there
	finish  bool             // they are there, until a write has completed the set
	writing int              // changes in the write that has begun
	stats   Stats

	started           bool
	wake, stop, ended chan struct{}

	// Only the goroutine uses the rest.
	disk    disk
	lock    io.Closer
	held    set       // what the file had when it was closed after a failed write
	failing bool      // the last write has failed
	warned  bool      // that any user may write to the directory
	behind  time.Time // since when the log says that the state is not written; zero if it does not
}

// Stats tell how a Store does.
type Stats struct {
	// Writes that have succeeded, and those that have failed.
	Writes, Failures uint64
	// Pending changes are in memory only. If All is set, they do not count those that were
	// dropped: no entry is stored for good until all are.
	Pending int
	All     bool
	// Written is when the last write has succeeded; zero if none has.
	Written time.Time
	// Behind tells that the last write has failed or does not end, or that changes were
	// dropped.
	Behind bool
	// Bytes is the size of the file.
	Bytes int64
}

// ErrInUse is wrapped by the error of Open if another Store uses the directory.
var ErrInUse = errors.New("the state directory is in use")

// errNoLock is in the error of Open if what has the name of the lock is no file of a Store.
var errNoLock = errors.New("the lock of the state directory is not a regular file")

// Open opens the directory and reads what is needed to begin. The entries and the stamp of
// the former process can be read until Start.
func Open(cfg Config) (*Store, error) {
	cfg.complete()
	s := &Store{
		cfg:     cfg,
		found:   make(chan opened, 1),
		pending: make(map[string]Value),
		wake:    make(chan struct{}, 1),
		stop:    make(chan struct{}),
		ended:   make(chan struct{}),
	}
	go func() { s.found <- cfg.open(cfg, nil) }()
	timer := time.NewTimer(cfg.openTimeout)
	defer timer.Stop()
	select {
	case o := <-s.found:
		if o.fatal() {
			return nil, o.err
		}
		s.read = o
		s.use(o)
	case <-timer.C:
		s.lost = true
		s.stats.Behind = true
		cfg.Log(true, fmt.Sprintf("the disk of state directory %s has not responded within %v: starting without the stored state", cfg.Dir, cfg.openTimeout))
	}
	return s, nil
}

// fatal reports whether the directory must not be used.
func (o *opened) fatal() bool {
	return errors.Is(o.err, ErrInUse) || errors.Is(o.err, errNoLock) || errors.Is(o.err, syscall.ENOTDIR)
}

// use writes from now on to what opening has found.
func (s *Store) use(o opened) {
	if o.exposed != 0 && !s.warned {
		s.warned = true
		s.cfg.Log(true, fmt.Sprintf("every user of this machine can write to state directory %s (mode %04o), and so replace the stored state: make it one of the user that runs this process, with the mode 0700", s.cfg.Dir, o.exposed))
	}
	if o.unusable != nil {
		what := "starting without the stored state; the file"
		if s.started {
			what = "all elements are written to a new file; this one"
		}
		s.cfg.Log(true, fmt.Sprintf("%v: %s is kept as %s", o.unusable, what, o.kept))
	}
	s.found, s.disk, s.lock = nil, o.disk, o.lock
	if o.disk != nil {
		s.count(func(st *Stats) { st.Bytes = o.disk.size() })
		return
	}
	s.mu.Lock()
	s.drop() // what is on the disk will not be what is in memory
	s.mu.Unlock()
	s.failed(o.err)
}

// Made reports whether Open has made the directory. To be called before Start.
func (s *Store) Made() bool { return s.read.made }

// Stamp returns a value of the former process's last stamp, nil if there is none. To be
// called before Start.
func (s *Store) Stamp(name string) []byte { return s.read.stamp[name] }

// Each calls f with the entries that the former process has left, until f fails. The key and
// the value are valid until Each returns. To be called before Start.
func (s *Store) Each(f func(key, value []byte) error) error {
	if s.read.each == nil {
		return nil
	}
	return s.read.each(f)
}

// Len is how many entries Each yields.
func (s *Store) Len() int { return int(s.read.count) }

// Start starts to write.
func (s *Store) Start() {
	s.started = true
	if s.read.done != nil {
		s.read.done()
	}
	s.read = opened{}
	go s.run()
}

const (
	maxKey  = bolt.MaxKeySize // the length of the longest key that the database takes
	meanKey = 1024            // see Config.MaxPending
)

// Put sets the value of a key. It never waits for the disk. A key of more than 32768 bytes is
// not stored.
func (s *Store) Put(key string, v Value) { s.change(key, v) }

// Delete deletes a key. It never waits for the disk.
func (s *Store) Delete(key string) { s.change(key, nil) }

func (s *Store) change(key string, v Value) {
	if len(key) > maxKey {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lost {
		return
	}
	if len(s.pending) == 0 {
		s.poke()
	}
	s.note(key, v)
	if s.tooMuch() {
		s.drop()
	}
}

// note makes a change pending.
func (s *Store) note(key string, v Value) {
	if _, there := s.pending[key]; !there {
		s.keys += len(key)
	}
	s.pending[key] = v
}

// tooMuch reports whether memory has no room for the pending changes.
func (s *Store) tooMuch() bool {
	return len(s.pending) > s.cfg.MaxPending || s.keys > s.cfg.MaxPending*meanKey
}

// take takes what is pending.
func (s *Store) take() map[string]Value {
	taken := s.pending
	s.pending, s.keys = make(map[string]Value), 0
	return taken
}

// drop drops the pending changes, and with them what was written of a set of entries that is
// not complete.
func (s *Store) drop() {
	s.take()
	s.lost, s.begin, s.filling, s.finish = true, false, false, false
	s.stats.Behind = true
}

// poke wakes the goroutine.
func (s *Store) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Room reports whether more entries should be Put now for Config.Rewrite.
func (s *Store) Room() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.pending) < s.cfg.MaxPending/4 && s.keys < s.cfg.MaxPending/4*meanKey
}

// Rewriting begins the sequence of entries that Config.Rewrite has asked for.
func (s *Store) Rewriting() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asked {
		s.lost, s.asked, s.begin, s.filling = false, false, true, true
	}
}

// Rewritten ends that sequence. If changes were dropped since Rewriting, it does nothing, and
// Config.Rewrite will ask again.
func (s *Store) Rewritten() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.filling {
		s.filling, s.finish = false, true
		s.poke()
	}
}

// Stats returns how the Store does.
func (s *Store) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	st.Pending = len(s.pending) + s.writing
	st.All = s.lost || s.begin || s.filling || s.finish
	return st
}

// errNotWritten is wrapped by the error of Close if the last changes are not on the disk.
var errNotWritten = errors.New("the last changes of the state are not written")

// Close writes what is pending and closes the file. It waits no longer than the timeout. If
// the disk does not respond within that, the directory stays in use until it does. A Store
// that was not started writes nothing.
func (s *Store) Close(timeout time.Duration) error {
	if !s.started {
		if s.read.done != nil {
			s.read.done()
		}
		s.release()
		return nil
	}
	close(s.stop)
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-s.ended:
	case <-timer.C:
		return fmt.Errorf("%w: the disk of %s has not responded within %v", errNotWritten, s.cfg.Dir, timeout)
	}
	if st := s.Stats(); st.Behind {
		return fmt.Errorf("%w to %s", errNotWritten, s.cfg.Dir)
	}
	return nil
}

// The files in the directory.
func (c *Config) path() string     { return filepath.Join(c.Dir, "state.db") }
func (c *Config) lockPath() string { return filepath.Join(c.Dir, "lock") }

const (
	dirMode  os.FileMode = 0o700
	fileMode os.FileMode = 0o600
)
