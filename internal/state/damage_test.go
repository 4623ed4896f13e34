package state

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"
)

// TestUnusable: whatever the file is, the Store begins without it, keeps it under another
// name, and says why.
func TestUnusable(t *testing.T) {
	random := make([]byte, 100_000)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range random {
		random[i] = byte(r.Uint32())
	}
	dir, _ := filled(t, 1000)
	good := read(t, filepath.Join(dir, "state.db"))
	for _, c := range []struct {
		name  string
		file  []byte
		kept  string
		reads string
	}{
		{"random", random, "state.db.damaged", "is damaged ("},
		{"text", []byte("hello\n"), "state.db.damaged", "is damaged ("},
		{"zeros", make([]byte, 65536), "state.db.damaged", "is damaged ("},
		{"empty", nil, "state.db.damaged", "is damaged ("},
		{"half", good[:len(good)/8], "state.db.damaged", "pages of 4096 bytes are in use"},
		{"first page only", good[:4096], "state.db.damaged", "pages of 4096 bytes are in use"},
		{"foreign", foreign(t), "state.db.foreign", "is a database of another program"},
		{"newer", withFormat(t, good, 2), "state.db.format2", "has format 2, and this version reads format 1"},
		{"older", withFormat(t, good, 0), "state.db.format0", "has format 0, and this version reads format 1"},
		{"other bbolt", withBoltVersion(good), "state.db.foreign", "has a version of bbolt that this program does not read"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, l := t.TempDir(), new(log)
			writeFile(t, filepath.Join(dir, "state.db"), c.file)
			s := open(t, dir, l)
			if s.entries() != 0 || s.Stamp("id") != nil {
				t.Errorf("it has %d entries and stamp %q", s.entries(), s.Stamp("id"))
			}
			s.Start()
			s.Put("a", text("1"))
			if err := s.Close(1e10); err != nil {
				t.Error(err)
			}
			kept := filepath.Join(dir, c.kept)
			if got := read(t, kept); !bytes.Equal(got, c.file) {
				t.Errorf("%s is not the file that was there", kept)
			}
			got := l.String()
			if strings.Count(got, "\n") != 0 || !strings.HasPrefix(got, "!") || !strings.Contains(got, c.reads) ||
				!strings.HasSuffix(got, ": starting without the stored state; the file is kept as "+kept) {
				t.Errorf("log: %s", got)
			}
			s = open(t, dir, l)
			if got := content(t, s); !same(got, map[string]string{"a": "1"}) {
				t.Errorf("the new file has %v", got)
			}
			closed(t, s)
		})
	}
}

// foreign is a database of another program.
func foreign(t *testing.T) []byte {
	path := filepath.Join(t.TempDir(), "x")
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		b, err := tx.CreateBucket([]byte("members"))
		if err != nil {
			return err
		}
		return b.Put([]byte("k"), []byte("v"))
	})
	if err != nil {
		t.Fatal(err)
	}
	_ = db.Close()
	return read(t, path)
}

// withFormat is a file that a version with another format has written.
func withFormat(t *testing.T, good []byte, n uint32) []byte {
	path := filepath.Join(t.TempDir(), "x")
	writeFile(t, path, good)
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(func(tx *bolt.Tx) error {
		return tx.Bucket(metaBucket).Put(formatKey, binary.BigEndian.AppendUint32(nil, n))
	}); err != nil {
		t.Fatal(err)
	}
	_ = db.Close()
	return read(t, path)
}

func withBoltVersion(good []byte) []byte {
	b := bytes.Clone(good)
	for _, page := range []int{0, 4096} {
		order.PutUint32(b[page+headerSize+4:], 3)
	}
	return b
}

// outcome examines a file that may be damaged. It must have what was written, or not be used.
// bbolt reads it as it would if it were to write it.
func outcome(t *testing.T, b []byte, want map[string]string) (unusable bool) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "state.db")
	writeFile(t, path, b)
	found, err := examine(path)
	if err != nil {
		var u *unusableError // an old page may look like another program's
		if !errors.As(err, &u) {
			t.Error(err)
		}
		return true
	}
	db, err := bolt.Open(path, fileMode, &bolt.Options{ReadOnly: true, PreLoadFreelist: true})
	if err != nil {
		t.Errorf("bbolt does not open what was found good: %v", err)
		return false
	}
	defer db.Close()
	got := make(map[string]string)
	if err := (&file{db: db, current: found}).each(func(k, v []byte) error { got[string(k)] = string(v); return nil }); err != nil {
		t.Error(err)
	}
	if !same(got, want) {
		t.Errorf("a damaged file is taken for good: %d entries, want %d", len(got), len(want))
	}
	return false
}

// TestDamagedPage: each page is once zeros, random bytes, and another page.
func TestDamagedPage(t *testing.T) {
	dir, want := filled(t, 400)
	good := read(t, filepath.Join(dir, "state.db"))
	r := rand.New(rand.NewPCG(1, 2))
	c := order.Uint64(good[headerSize+40:])
	if m := order.Uint64(good[4096+headerSize+40:]); m > c {
		c = m
	}
	found := 0
	for page := range int(c) {
		for _, kind := range []string{"zeros", "random", "torn", "other"} {
			b := bytes.Clone(good)
			p := b[page*4096 : (page+1)*4096]
			switch kind {
			case "zeros":
				clear(p)
			case "random":
				for i := range p {
					p[i] = byte(r.Uint32())
				}
			case "torn":
				clear(p[512:])
			case "other":
				o := 2 + r.IntN(int(c)-2)
				copy(p, good[o*4096:(o+1)*4096])
			}
			if outcome(t, b, want) {
				found++
			}
			if t.Failed() {
				t.Fatalf("page %d: %s", page, kind)
			}
		}
	}
	if found < int(c) {
		t.Errorf("damage was found in %d of %d files", found, 4*c)
	}
}

// TestDamagedBits: a few bytes are wrong.
func TestDamagedBits(t *testing.T) {
	dir, want := filled(t, 60)
	good := read(t, filepath.Join(dir, "state.db"))[:65536]
	n := 600
	if testing.Short() {
		n = 100
	}
	for seed := range n {
		r := rand.New(rand.NewPCG(uint64(seed), 0))
		b := bytes.Clone(good)
		for range 1 + r.IntN(3) {
			i := r.IntN(len(b))
			if r.IntN(2) == 0 {
				i = i/4096*4096 + r.IntN(64) // a header is worse
			}
			b[i] = byte(r.Uint32())
		}
		outcome(t, b, want)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// TestTorn: of a transaction that the machine has not finished, the disk may have any pages,
// but not the meta page, which follows them. The file is that before the transaction.
func TestTorn(t *testing.T) {
	dir, want := filled(t, 2000)
	cfg := Config{Dir: dir}
	cfg.complete()
	o := openFile(cfg, nil)
	if o.err != nil {
		t.Fatal(o.err)
	}
	path := filepath.Join(dir, "state.db")
	r := rand.New(rand.NewPCG(3, 4))
	for round := range 20 {
		before := read(t, path)
		b := &batch{changes: make(map[string]Value)}
		next := make(map[string]string)
		for k, v := range want {
			next[k] = v
		}
		for range 100 {
			k := fmt.Sprintf("key %d", r.IntN(3000))
			if r.IntN(4) == 0 {
				b.changes[k] = nil
				delete(next, k)
				continue
			}
			v := strings.Repeat("x", r.IntN(300))
			b.changes[k], next[k] = text(v), v
		}
		if err := o.disk.commit(b); err != nil {
			t.Fatal(err)
		}
		after := read(t, path)
		mixed := make([]byte, len(after))
		copy(mixed, before)
		for p := 2 * 4096; p < len(after); p += 4096 {
			if r.IntN(2) == 0 {
				copy(mixed[p:p+4096], after[p:])
			}
		}
		if outcome(t, mixed, want) {
			t.Errorf("round %d: the file before the transaction is lost", round)
		}
		copy(mixed, after[:2*4096]) // a disk that writes the meta page before its data
		outcome(t, mixed, next)
		outcome(t, after, next)
		if t.Failed() {
			t.Fatalf("round %d", round)
		}
		want = next
	}
	_ = o.disk.close()
	_ = o.lock.Close()
}

// TestRemainder: what the making of a file has left does not matter.
func TestRemainder(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "state.db.new"), []byte("half"))
	l := new(log)
	closed(t, open(t, dir, l))
	if _, err := os.Stat(filepath.Join(dir, "state.db.new")); !os.IsNotExist(err) || l.String() != "" {
		t.Errorf("got %v, log %s", err, l)
	}
}
