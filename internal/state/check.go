package state

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
)

// unusableError says why a file is not used. It is renamed with the suffix.
type unusableError struct {
	path, why, suffix string
}

func (e *unusableError) Error() string { return fmt.Sprintf("state file %s %s", e.path, e.why) }

// damage is what is wrong with a file.
type damage string

func (d damage) Error() string { return string(d) }

func damagef(format string, args ...any) error { return damage(fmt.Sprintf(format, args...)) }

// examine checks a file that nobody writes, and returns its current set. The error is an
// *unusableError, or the file cannot be read.
func examine(path string) (found set, err error) {
	f, err := os.Open(path)
	if err != nil {
		return set{}, err
	}
	defer f.Close()
	c, err := newChecker(f)
	if err == nil {
		found, err = c.run()
	}
	var (
		d     damage
		other otherError
	)
	switch {
	case errors.As(err, &d):
		err = &unusableError{path, "is damaged (" + d.Error() + ")", ".damaged"}
	case errors.As(err, &other):
		err = &unusableError{path, other.Error(), other.suffix}
	}
	if err != nil {
		return set{}, err
	}
	return found, nil
}

// otherError is a database that is not damaged, but is not of this format.
type otherError struct{ why, suffix string }

func (e otherError) Error() string { return e.why }

// The parts of a bbolt file, all in the machine's byte order. A page has a header:
//
//	id 8, flags 2, count 2, overflow 4
//
// The overflow is how many pages follow that belong to it. Pages 0 and 1 are metas:
//
//	magic 4, version 4, page size 4, flags 4, root 8, sequence 8, freelist 8, end 8, txid 8, checksum 8
//
// The valid one with the higher txid counts. A branch page has elements
//
//	pos 4, key size 4, page 8
//
// and a leaf page
//
//	flags 4, pos 4, key size 4, value size 4
//
// where pos is the distance of the key from its element. The value of a bucket is the number
// of its root page and a sequence; if the number is 0, the page itself follows.
const (
	headerSize, elementSize, metaSize, bucketSize = 16, 16, 64, 16

	branchFlag, leafFlag, metaFlag, freelistFlag = 1, 2, 4, 16

	bucketElement = 1

	magic, boltVersion = 0xED0CDAED, 2

	noPage = ^uint64(0)

	maxDepth = 64
)

var order = binary.NativeEndian

// checker checks the pages that a bbolt file refers to. Each of them must be where it
// belongs, once, and inside of the file, so that bbolt cannot go astray.
type checker struct {
	f        io.ReaderAt
	pageSize uint64
	root     uint64
	freelist uint64
	end      uint64 // no page has this number, or a greater one
	seen     []uint64
	page     []byte // memory for the next one
}

// newChecker finds the meta page that counts.
func newChecker(f *os.File) (*checker, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	size := uint64(info.Size())
	best := []byte(nil)
	versions := 0
	for _, at := range metaPlaces(f) {
		b := make([]byte, headerSize+metaSize)
		if n, err := f.ReadAt(b, at); n < len(b) {
			if errors.Is(err, io.EOF) {
				continue
			}
			return nil, err
		}
		m := b[headerSize:]
		switch {
		case order.Uint32(m) != magic || order.Uint16(b[8:]) != metaFlag:
		case order.Uint32(m[4:]) != boltVersion:
			versions++
		case sum64(m[:metaSize-8]) != order.Uint64(m[metaSize-8:]):
		case best == nil || order.Uint64(m[48:]) > order.Uint64(best[48:]):
			best = m
		}
	}
	switch {
	case best == nil && versions > 0:
		return nil, otherError{"has a version of bbolt that this program does not read", ".foreign"}
	case best == nil:
		return nil, damagef("%d bytes without a valid meta page", size)
	}
	c := &checker{f: f, pageSize: uint64(order.Uint32(best[8:])), root: order.Uint64(best[16:]), freelist: order.Uint64(best[32:]), end: order.Uint64(best[40:])}
	if c.pageSize < 1024 || c.pageSize > 1<<24 || c.pageSize&(c.pageSize-1) != 0 {
		return nil, damagef("page size %d", c.pageSize)
	}
	if c.end < 4 || c.end > size/c.pageSize {
		return nil, damagef("%d bytes, but %d pages of %d bytes are in use", size, c.end, c.pageSize)
	}
	c.seen = make([]uint64, c.end/64+1)
	return c, nil
}

// metaPlaces are where the meta pages may be: the size of the pages is in the first one.
func metaPlaces(f io.ReaderAt) []int64 {
	b := make([]byte, headerSize+metaSize)
	if n, _ := f.ReadAt(b, 0); n == len(b) && sum64(b[headerSize:headerSize+metaSize-8]) == order.Uint64(b[headerSize+metaSize-8:]) {
		return []int64{0, int64(order.Uint32(b[headerSize+8:]))}
	}
	places := []int64{0}
	for i := range 15 {
		places = append(places, 1024<<i)
	}
	return places
}

func sum64(b []byte) uint64 {
	h := fnv.New64a()
	_, _ = h.Write(b)
	return h.Sum64()
}

// run checks all pages and returns the current set.
func (c *checker) run() (set, error) {
	buckets, err := c.buckets()
	if err != nil {
		return set{}, err
	}
	meta, stamp := buckets[string(metaBucket)], buckets[string(stampBucket)]
	if meta == nil || stamp == nil {
		return set{}, otherError{"is a database of another program", ".foreign"}
	}
	values := make(map[string][]byte)
	if err := c.bucket(meta, func(k, v []byte) { values[string(k)] = bytes.Clone(v) }); err != nil {
		return set{}, err
	}
	switch f := values[string(formatKey)]; {
	case len(f) != 4:
		return set{}, otherError{"is a database of another program", ".foreign"}
	case binary.BigEndian.Uint32(f) != format:
		n := binary.BigEndian.Uint32(f)
		return set{}, otherError{fmt.Sprintf("has format %d, and this version reads format %d", n, format), fmt.Sprintf(".format%d", n)}
	}
	want, ok := parseSet(values[string(setKey)])
	current := buckets[string(setBucket(want.number))]
	if !ok || current == nil {
		return set{}, damagef("no current set of entries")
	}
	got := set{number: want.number}
	for name, b := range buckets {
		each := func([]byte, []byte) {}
		switch name {
		case string(metaBucket):
			continue
		case string(setBucket(want.number)):
			each = got.add
		}
		if err := c.bucket(b, each); err != nil {
			return set{}, err
		}
	}
	if got != want {
		return set{}, damagef("%d entries whose sum is %x, not %d whose sum is %x", got.count, got.sum, want.count, want.sum)
	}
	return got, c.free()
}

// buckets returns the values of the buckets at the top.
func (c *checker) buckets() (map[string][]byte, error) {
	list := make(map[string][]byte)
	w := walk{c: c, each: func(flags uint32, k, v []byte) error {
		if flags != bucketElement {
			return nil // it is not ours
		}
		if len(v) < bucketSize {
			return damagef("a bucket of %d bytes", len(v))
		}
		list[string(k)] = bytes.Clone(v)
		return nil
	}}
	return list, w.page(c.root, 0)
}

// bucket yields the entries of a bucket.
func (c *checker) bucket(b []byte, each func(k, v []byte)) error {
	w := walk{c: c, each: func(flags uint32, k, v []byte) error {
		if flags != 0 {
			return damagef("a bucket in a bucket")
		}
		each(k, v)
		return nil
	}}
	if root := order.Uint64(b); root != 0 {
		return w.page(root, 0)
	}
	if len(b) < bucketSize+headerSize {
		return damagef("a bucket of %d bytes without a page", len(b))
	}
	return w.leaf(b[bucketSize:])
}

// read reads a page and those that belong to it, and marks them as seen.
func (c *checker) read(id uint64, buf []byte) ([]byte, error) {
	if id < 2 || id >= c.end {
		return nil, damagef("page %d of %d", id, c.end)
	}
	buf, err := c.readAt(id, 1, buf)
	if err != nil {
		return nil, err
	}
	if got := order.Uint64(buf); got != id {
		return nil, damagef("page %d is in the place of page %d", got, id)
	}
	pages := 1 + uint64(order.Uint32(buf[12:]))
	if pages > c.end-id {
		return nil, damagef("page %d is too long", id)
	}
	for i := id; i < id+pages; i++ {
		if err := c.mark(i); err != nil {
			return nil, err
		}
	}
	if pages > 1 {
		return c.readAt(id, pages, buf)
	}
	return buf, nil
}

func (c *checker) readAt(id, pages uint64, buf []byte) ([]byte, error) {
	n := int(pages * c.pageSize)
	if cap(buf) < n {
		buf = make([]byte, n)
	}
	buf = buf[:n]
	_, err := c.f.ReadAt(buf, int64(id*c.pageSize))
	return buf, err
}

// mark notes that a page is in use.
func (c *checker) mark(id uint64) error {
	if c.seen[id/64]&(1<<(id%64)) != 0 {
		return damagef("page %d is in use twice", id)
	}
	c.seen[id/64] |= 1 << (id % 64)
	return nil
}

// free checks that the pages that are free for new content are not in use.
func (c *checker) free() error {
	if c.freelist == noPage {
		return nil
	}
	b, err := c.read(c.freelist, nil)
	if err != nil {
		return err
	}
	if order.Uint16(b[8:]) != freelistFlag {
		return damagef("page %d is not a list of free pages", c.freelist)
	}
	n, ids := uint64(order.Uint16(b[10:])), b[headerSize:]
	if n == 0xffff { // then the first number is the length
		n, ids = order.Uint64(ids), ids[8:]
	}
	if n > uint64(len(ids)/8) {
		return damagef("%d free pages in a list for %d", n, len(ids)/8)
	}
	for i := range n {
		id := order.Uint64(ids[8*i:])
		if id < 2 || id >= c.end {
			return damagef("free page %d of %d", id, c.end)
		}
		if err := c.mark(id); err != nil {
			return err
		}
	}
	return nil
}

// walk goes through the entries of a bucket in the order of their keys.
type walk struct {
	c    *checker
	each func(flags uint32, k, v []byte) error
	last []byte // the last key
	any  bool
	low  []byte // no key that follows is less
}

func (w *walk) page(id uint64, depth int) error {
	if depth > maxDepth {
		return damagef("more than %d pages deep", maxDepth)
	}
	b, err := w.c.read(id, w.c.page)
	if err != nil {
		return err
	}
	w.c.page = b
	switch flags := order.Uint16(b[8:]); flags {
	case leafFlag:
		return w.leaf(b)
	case branchFlag:
		w.c.page = nil // it is needed until all below it are done
		return w.branch(b, depth)
	default:
		return damagef("page %d has type %#x", id, flags)
	}
}

func (w *walk) branch(b []byte, depth int) error {
	n := int(order.Uint16(b[10:]))
	if n == 0 || headerSize+n*elementSize > len(b) {
		return damagef("a branch page of %d elements in %d bytes", n, len(b))
	}
	for i := range n {
		e := b[headerSize+i*elementSize:]
		pos, size := uint64(order.Uint32(e)), uint64(order.Uint32(e[4:]))
		if pos+size > uint64(len(e)) {
			return damagef("a key outside of its page")
		}
		w.low = e[pos : pos+size]
		if w.any && bytes.Compare(w.last, w.low) >= 0 {
			return damagef("keys that are not in order")
		}
		if err := w.page(order.Uint64(e[8:]), depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (w *walk) leaf(b []byte) error {
	n := int(order.Uint16(b[10:]))
	if order.Uint16(b[8:]) != leafFlag || headerSize+n*elementSize > len(b) {
		return damagef("a leaf page of %d elements in %d bytes", n, len(b))
	}
	for i := range n {
		e := b[headerSize+i*elementSize:]
		flags, pos, ksize, vsize := order.Uint32(e), uint64(order.Uint32(e[4:])), uint64(order.Uint32(e[8:])), uint64(order.Uint32(e[12:]))
		if pos+ksize+vsize > uint64(len(e)) {
			return damagef("an entry outside of its page")
		}
		k, v := e[pos:pos+ksize], e[pos+ksize:pos+ksize+vsize]
		if w.any && bytes.Compare(w.last, k) >= 0 || bytes.Compare(k, w.low) < 0 {
			return damagef("keys that are not in order")
		}
		w.last, w.any = append(w.last[:0], k...), true
		if err := w.each(flags, k, v); err != nil {
			return err
		}
	}
	return nil
}
