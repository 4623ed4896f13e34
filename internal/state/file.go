package state

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// The database has these buckets:
//
//	meta       format: the version of this format, 4 bytes
//	           set:    the number of the current set of entries, its length and its sum
//	stamp      the values of the stamp
//	set.N      a set of entries. There is another one while that is being filled
//
// All numbers are in network byte order.
const format = 1

var (
	metaBucket  = []byte("meta")
	stampBucket = []byte("stamp")
	formatKey   = []byte("format")
	setKey      = []byte("set")
)

func setBucket(n uint64) []byte { return fmt.Appendf(nil, "set.%d", n) }

// set is a set of entries: its number, its length, and the sum of the checksums of its
// entries, whatever their order. Each write knows what it adds to that and takes from it.
type set struct{ number, count, sum uint64 }

func (s set) append(b []byte) []byte {
	for _, n := range []uint64{s.number, s.count, s.sum} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	return b
}

func parseSet(b []byte) (s set, ok bool) {
	if len(b) != 24 {
		return s, false
	}
	return set{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:]), binary.BigEndian.Uint64(b[16:])}, true
}

func (s *set) add(key, value []byte) {
	s.count++
	s.sum += checksum(key, value)
}

func (s *set) subtract(key, value []byte) {
	s.count--
	s.sum -= checksum(key, value)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum is that of an entry. A key and its value count differently, so that no byte can
// go from the one to the other.
func checksum(key, value []byte) uint64 {
	k := crc32.Checksum(key, castagnoli)
	return uint64(k)<<32 | uint64(crc32.Update(k+uint32(len(key)), castagnoli, value))
}

// file is an open database.
type file struct {
	db      *bolt.DB
	handle  *os.File // that db has opened
	path    string
	current set
	next    *set // that is being filled; nil if there is none
	id      int  // of the next transaction; 0 if it is not known yet
	stuck   bool // a call of db has not returned: its locks may be held for ever
}

// openDB opens a database.
func openDB(path string, options bolt.Options) (*file, error) {
	f := &file{path: path}
	options.OpenFile = func(name string, flag int, mode os.FileMode) (_ *os.File, err error) {
		f.handle, err = os.OpenFile(name, flag, mode)
		return f.handle, err
	}
	var err error
	f.db, err = bolt.Open(path, fileMode, &options)
	return f, err
}

// use calls a function that uses db, and notes it if that panics.
func (f *file) use(call func() error) error {
	f.stuck = true
	err := call()
	f.stuck = false
	return err
}

// openFile is Config.open.
func openFile(cfg Config, held io.Closer) (o opened) {
	o.lock = held
	if o.made, o.err = makeDir(cfg.Dir); o.err != nil {
		return o
	}
	o.exposed = exposed(cfg.Dir)
	if f, ok := o.lock.(*os.File); ok && errors.Is(stillAt(f, cfg.lockPath()), errReplaced) {
		_ = f.Close() // it locks nothing any more
		o.lock = nil
	}
	if o.lock == nil {
		if o.lock, o.err = acquire(cfg.lockPath(), cfg.lockTimeout); errors.Is(o.err, ErrInUse) || errors.Is(o.err, errNoLock) {
			return o
		}
	}
	var f *file
	err := guarded(func() (err error) {
		f, err = o.open(cfg)
		return err
	})
	switch o.err = err; {
	case err == nil:
		o.disk = f
		o.serve(f)
	case errors.Is(err, ErrInUse) && o.lock != nil: // the lock that the other process has was deleted
		_ = o.lock.Close()
		o.lock = nil
	}
	return o
}

// notDirError says that a path cannot be a directory, and what to do. It is an ENOTDIR.
type notDirError string

func (e notDirError) Error() string      { return string(e) }
func (notDirError) Is(target error) bool { return target == syscall.ENOTDIR }

// makeDir makes the directory if it is not there, and reports whether it has. It does not make the
// directories above: a path that is mistyped would be a state that is always empty.
func makeDir(dir string) (made bool, err error) {
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		return false, nil
	}
	if err = os.Mkdir(dir, dirMode); err == nil {
		return true, nil
	}
	at, missing := dir, ""
	for {
		if _, err := os.Lstat(at); err == nil || at == filepath.Dir(at) {
			break
		}
		at, missing = filepath.Dir(at), at
	}
	info, statErr := os.Stat(at)
	switch {
	case errors.Is(statErr, os.ErrNotExist):
		return false, notDirError(at + " is a symbolic link to a directory that does not exist; make that directory, or name another one")
	case statErr == nil && !info.IsDir():
		return false, notDirError(at + " is not a directory; name a directory")
	case errors.Is(err, os.ErrNotExist):
		return false, fmt.Errorf("%s does not exist, and only the last directory of the path is made; make it, or name another one", missing)
	case errors.Is(err, os.ErrExist) && at == dir && statErr == nil: // another process has made it
		return false, nil
	}
	return false, err
}

// open opens the database of a directory, made anew if there is none that can be used.
func (o *opened) open(cfg Config) (*file, error) {
	path := cfg.path()
	found, err := examine(path)
	var unusable *unusableError
	switch {
	case errors.As(err, &unusable) && isLocked(path):
		return nil, inUseBySomebody(cfg.Dir) // it was changed while it was read
	case errors.As(err, &unusable):
		kept, err := setAside(path, unusable.suffix)
		if err != nil {
			return nil, fmt.Errorf("%w, and it cannot be renamed: %w", unusable, err)
		}
		o.unusable, o.kept = unusable, kept
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("%w: starting without the stored state", err)
	}
	if err != nil { // there is no file, or none any more
		o.fresh = true
		if err := create(cfg); err != nil {
			return nil, err
		}
	}
	f, err := openDB(path, bolt.Options{Timeout: cfg.lockTimeout, NoStatistics: true})
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return nil, inUseBySomebody(cfg.Dir)
	case err != nil:
		o.readOnly(path, found)
		return nil, err
	}
	f.current = found
	return f, nil
}

func inUseBySomebody(dir string) error {
	return fmt.Errorf("%w: another process (perhaps in another container) uses %s: end it, or use another directory", ErrInUse, dir)
}

// readOnly makes the entries of a file readable that cannot be written.
func (o *opened) readOnly(path string, found set) {
	f, err := openDB(path, bolt.Options{ReadOnly: true, Timeout: time.Second})
	if err != nil {
		return
	}
	f.current = found
	o.serve(f)
	o.done = func() { _ = f.close() }
}

// serve makes the file's entries and stamp readable.
func (o *opened) serve(f *file) {
	o.each, o.count = f.each, f.current.count
	o.stamp = f.stamp()
}

// setAside renames a file that cannot be used. A file that was renamed so before is replaced:
// otherwise each restart could add one.
func setAside(path, suffix string) (kept string, err error) {
	kept = path + suffix
	return kept, os.Rename(path, kept)
}

// create makes an empty database. The file has its name when it is complete.
func create(cfg Config) error {
	path := cfg.path() + ".new"
	_ = os.Remove(path)
	db, err := bolt.Open(path, fileMode, nil)
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bolt.Tx) error {
		meta, err := tx.CreateBucket(metaBucket)
		for _, name := range [][]byte{stampBucket, setBucket(0)} {
			if err == nil {
				_, err = tx.CreateBucket(name)
			}
		}
		if err != nil {
			return err
		}
		return errors.Join(meta.Put(formatKey, binary.BigEndian.AppendUint32(nil, format)), meta.Put(setKey, set{}.append(nil)))
	})
	if err = errors.Join(err, db.Close()); err != nil {
		_ = os.Remove(path)
		return err
	}
	if err := os.Rename(path, cfg.path()); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// each yields the entries.
func (f *file) each(yield func(key, value []byte) error) error {
	return guarded(func() error {
		return f.view(func(tx *bolt.Tx) error { return tx.Bucket(setBucket(f.current.number)).ForEach(yield) })
	})
}

// stamp returns the last stamp.
func (f *file) stamp() map[string][]byte {
	stamp := make(map[string][]byte)
	_ = guarded(func() error {
		return f.view(func(tx *bolt.Tx) error {
			return tx.Bucket(stampBucket).ForEach(func(k, v []byte) error {
				stamp[string(k)] = bytes.Clone(v)
				return nil
			})
		})
	})
	return stamp
}

func (f *file) holds() set { return f.current }

func (f *file) size() int64 {
	info, err := os.Stat(f.db.Path())
	if err != nil {
		return 0
	}
	return info.Size()
}

func (f *file) view(read func(*bolt.Tx) error) error {
	return f.use(func() error { return f.db.View(read) })
}

// close closes the file. If the database is stuck, its Close would wait for ever. Then what is
// mapped into memory stays, but another file can be opened and locked.
func (f *file) close() error {
	if f.stuck {
		unlock(f.handle) // what is mapped keeps the lock otherwise
		return f.handle.Close()
	}
	return f.db.Close()
}

// errReplaced is the error of commit if what it would write is not what a restart would read.
var errReplaced = errors.New("somebody has deleted or replaced state.db, which only a stopped registrar allows")

// stillAt returns why a restart would not read and write a file that this process has open:
// errReplaced if the path does not lead to it any more, or why it cannot be opened. What fails
// for this process alone, such as one descriptor too many, is no reason.
func stillAt(f *os.File, path string) error {
	is, err := f.Stat()
	if err != nil {
		return nil
	}
	there, err := os.Stat(path)
	switch {
	case err == nil && !os.SameFile(is, there), errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return errReplaced
	case err == nil:
		var again *os.File
		if again, err = os.OpenFile(path, os.O_RDWR, 0); err == nil {
			_ = again.Close() // the lock is that of f
		}
	}
	if errors.Is(err, os.ErrPermission) || errors.Is(err, syscall.ELOOP) {
		return err
	}
	return nil
}

// errOther is the error of commit if there was another transaction since the last successful
// commit: somebody has written to the file, or a commit has failed that counts all the same, since
// only the sync of its last page has failed. The sum of a set that leaves that out would be wrong,
// and a restart would take the file for damaged.
var errOther = errors.New("the file cannot be used: it does not have what was written to it")

// follows checks that a transaction follows that of the last successful commit.
func (f *file) follows(tx *bolt.Tx) error {
	if f.id == 0 {
		f.id = tx.ID()
	}
	if tx.ID() != f.id {
		return errOther
	}
	return nil
}

// commit writes a batch.
func (f *file) commit(b *batch) error {
	if err := stillAt(f.handle, f.path); err != nil {
		return err
	}
	w := &write{batch: b, current: f.current}
	if f.next != nil {
		w.next = new(*f.next)
	}
	err := f.use(func() error {
		return f.db.Update(func(tx *bolt.Tx) error {
			if err := f.follows(tx); err != nil {
				return err
			}
			return w.run(tx)
		})
	})
	if err != nil {
		return err
	}
	f.current, f.next, f.id = w.current, w.next, f.id+1
	return nil
}

// write is a transaction: what a file will be if it succeeds.
type write struct {
	*batch
	current set
	next    *set
}

func (w *write) run(tx *bolt.Tx) error {
	if w.begin {
		if err := w.beginSet(tx); err != nil {
			return err
		}
	}
	to := &w.current
	if w.next != nil {
		to = w.next
	}
	if err := w.apply(tx.Bucket(setBucket(to.number)), to); err != nil {
		return err
	}
	if w.finish && w.next != nil {
		if err := tx.DeleteBucket(setBucket(w.current.number)); err != nil {
			return err
		}
		w.current, w.next = *w.next, nil
	}
	stamp := tx.Bucket(stampBucket)
	for _, k := range slices.Sorted(maps.Keys(w.stamp)) {
		if err := stamp.Put([]byte(k), w.stamp[k]); err != nil {
			return err
		}
	}
	return tx.Bucket(metaBucket).Put(setKey, w.current.append(nil))
}

// beginSet makes the next set, without what a former attempt has left of it.
func (w *write) beginSet(tx *bolt.Tx) error {
	w.next = &set{number: w.current.number + 1}
	name := setBucket(w.next.number)
	if tx.Bucket(name) != nil {
		if err := tx.DeleteBucket(name); err != nil {
			return err
		}
	}
	_, err := tx.CreateBucket(name)
	return err
}

// apply writes the changes in the order of their keys, which lie together in the file.
func (w *write) apply(to *bolt.Bucket, s *set) error {
	var buf []byte // bbolt uses it until the end of the transaction
	at := to.Cursor()
	for _, k := range slices.Sorted(maps.Keys(w.changes)) {
		key, v := []byte(k), w.changes[k]
		var value []byte
		if v != nil {
			n := len(buf)
			b, err := v.Append(buf)
			if err != nil {
				continue
			}
			buf, value = b, b[n:len(b):len(b)]
		}
		var old []byte
		if k, v := at.Seek(key); bytes.Equal(k, key) {
			old = v
		}
		switch {
		case old != nil && v != nil && bytes.Equal(old, value):
			continue
		case old != nil:
			s.subtract(key, old)
		}
		if v == nil {
			if err := to.Delete(key); err != nil {
				return err
			}
			continue
		}
		s.add(key, value)
		if err := to.Put(key, value); err != nil {
			return err
		}
	}
	return nil
}
