package state

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"
)

// batch is what one transaction writes.
type batch struct {
	changes map[string]Value
	stamp   map[string][]byte
	// begin begins a new set of entries, which changes belong to; finish has it take the
	// place of the former one.
	begin, finish bool
}

// run is the goroutine that writes.
func (s *Store) run() {
	defer close(s.ended)
	timer := time.NewTimer(0)
	defer timer.Stop()
	last := time.Now().Add(-s.cfg.beat) // the last write, or attempt
	for {
		timer.Reset(time.Until(last.Add(s.pause())))
		select {
		case <-timer.C:
		case <-s.wake:
			continue
		case o := <-s.found:
			s.foundLate(o)
			if o.fatal() {
				return
			}
			continue
		case <-s.stop:
			s.write()
			s.release()
			return
		}
		s.write()
		last = time.Now()
	}
}

// foundLate takes what an Open that was too slow has found. The entries there are old by now.
func (s *Store) foundLate(o opened) {
	if o.done != nil {
		o.done()
	}
	if o.fatal() {
		s.cfg.Log(true, o.err.Error()+": the state is not stored")
		return
	}
	s.use(o)
}

// pause is the time from the last write to the next one.
func (s *Store) pause() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.failing:
		return s.cfg.retry
	case len(s.pending) > 0 || s.lost || s.begin || s.finish:
		return s.cfg.Every
	}
	return s.cfg.beat
}

// write writes what is pending.
func (s *Store) write() {
	if s.disk == nil && !s.reopen() {
		return
	}
	b := s.gather()
	began := time.Now()
	slow := time.AfterFunc(s.cfg.slow, func() {
		s.count(func(st *Stats) { st.Behind = true })
		s.cfg.Log(true, fmt.Sprintf("the disk of state directory %s has not finished a write for %v: the registrar continues, and a restart would forget the latest changes", s.cfg.Dir, s.cfg.slow))
	})
	err := guarded(func() error { return s.disk.commit(b) })
	if !slow.Stop() && err == nil {
		s.cfg.Log(false, fmt.Sprintf("the disk of state directory %s responds again after %v", s.cfg.Dir, time.Since(began).Round(time.Millisecond)))
	}
	if err != nil {
		s.putBack(b)
		s.failed(err)
		if !isFull(err) { // what bbolt has in memory may not be what is in the file
			s.shut(errors.Is(err, errReplaced))
		}
		return
	}
	s.wrote(b)
}

// shut closes the file after a failed write. If the path does not lead to the file any more, what
// was written before is lost. A part of a set of entries that is not complete is lost, too: a file
// that is opened again does not continue it.
func (s *Store) shut(replaced bool) {
	s.held = s.disk.holds()
	_ = guarded(s.disk.close)
	s.disk = nil
	s.mu.Lock()
	defer s.mu.Unlock()
	if part := (s.filling || s.finish) && !s.begin; part || replaced {
		s.drop()
	}
}

// guarded calls f and turns a panic into an error. A fault is one, too: the file is mapped
// into memory, so that is what a disk error may look like, or a file that somebody has changed.
func guarded(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		switch p := recover(); p.(type) {
		case nil:
		case runtime.Error: // its text says nothing about a file
			err = errors.New("the file cannot be used: it does not have what was written to it, or the disk does not read it")
		default:
			err = fmt.Errorf("the file cannot be used: %v", p)
		}
	}()
	return f()
}

// gather takes what is pending.
func (s *Store) gather() *batch {
	b := &batch{stamp: s.cfg.Stamp(time.Now())}
	s.mu.Lock()
	defer s.mu.Unlock()
	b.changes, b.begin, b.finish = s.take(), s.begin, s.finish
	s.writing = len(b.changes)
	return b
}

// putBack makes a batch pending again, except for what has changed since.
func (s *Store) putBack(b *batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writing = 0
	if s.lost {
		return
	}
	for key, v := range b.changes {
		if _, later := s.pending[key]; !later {
			s.note(key, v)
		}
	}
	if s.tooMuch() {
		s.drop()
	}
}

// reopen tries to open the file again, and reports whether that has succeeded.
func (s *Store) reopen() bool {
	if s.found != nil {
		return false // it is being opened
	}
	o := s.cfg.open(s.cfg, s.lock)
	if o.done != nil {
		o.done() // its entries are older than what is in memory
	}
	if o.fresh || o.disk != nil && o.disk.holds() != s.held {
		s.mu.Lock()
		s.drop() // this is not the file as the last write has left it
		s.mu.Unlock()
	}
	s.use(o)
	return s.disk != nil
}

// isFull reports whether the disk has no room. Of an error that is met while the file grows, bbolt keeps
// only the text.
func isFull(err error) bool {
	for _, full := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT} {
		if errors.Is(err, full) || strings.HasSuffix(err.Error(), full.Error()) {
			return true
		}
	}
	return false
}

// release closes the file and lets others use the directory. If the file is still being opened, that
// happens as soon as the disk responds; nobody waits for it.
func (s *Store) release() {
	if late := s.found; late != nil {
		go func() {
			o := <-late
			o.release()
		}()
		return
	}
	(&opened{disk: s.disk, lock: s.lock}).release()
}

func (o *opened) release() {
	if o.done != nil {
		o.done()
	}
	if o.disk != nil {
		_ = guarded(o.disk.close)
	}
	if o.lock != nil {
		_ = o.lock.Close()
	}
}

// failed notes that a write has failed.
func (s *Store) failed(err error) {
	if err == nil {
		err = errors.New("the directory cannot be written")
	}
	s.count(func(st *Stats) { st.Failures++; st.Behind = true })
	s.failing = true
	if s.behind.IsZero() {
		s.behind = time.Now()
		s.cfg.Log(true, fmt.Sprintf("cannot write the state to %s: %v: the registrar continues, and tries again every %v", s.cfg.Dir, err, s.cfg.retry))
	}
}

// wrote notes that the write of a batch has succeeded. If changes were dropped, it asks for all entries.
func (s *Store) wrote(b *batch) {
	s.failing = false
	size := s.disk.size()
	s.mu.Lock()
	s.stats.Writes++
	s.writing = 0
	s.begin, s.finish = s.begin && !b.begin, s.finish && !b.finish
	behind := s.lost || s.begin || s.filling || s.finish
	s.stats.Written, s.stats.Bytes, s.stats.Behind = time.Now(), size, behind
	ask := s.lost && !s.asked
	s.asked = s.lost
	s.mu.Unlock()
	if !behind && !s.behind.IsZero() {
		s.cfg.Log(false, fmt.Sprintf("the state is written to %s again after %v", s.cfg.Dir, time.Since(s.behind).Round(time.Second)))
		s.behind = time.Time{}
	}
	if ask {
		s.cfg.Rewrite()
	}
}

// count changes the counters.
func (s *Store) count(f func(*Stats)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.stats)
}
