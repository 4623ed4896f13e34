package state

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
)

func TestRoundTrip(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	l := new(log)
	s := open(t, dir, l)
	if s.entries() != 0 || s.Stamp("id") != nil {
		t.Errorf("a new state has %d entries and stamp %q", s.entries(), s.Stamp("id"))
	}
	s.Start()
	s.Put("a", text("1"))
	s.Put("b", text("2"))
	s.Put("c", text("3"))
	s.Delete("b")
	if err := s.Close(10 * time.Second); err != nil {
		t.Error(err)
	}
	s = open(t, dir, l)
	if got, want := content(t, s), (map[string]string{"a": "1", "c": "3"}); !same(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := string(s.Stamp("id")); got != "7" {
		t.Errorf("stamp %q, want 7", got)
	}
	s.Start()
	s.Delete("a")
	s.Put("c", text("4"))
	if err := s.Close(10 * time.Second); err != nil {
		t.Error(err)
	}
	s = open(t, dir, l)
	if got, want := content(t, s), (map[string]string{"c": "4"}); !same(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	closed(t, s)
	if got := l.String(); got != "" {
		t.Errorf("log: %s", got)
	}
}

// TestModes: nobody else may read the state.
func TestModes(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	dir := filepath.Join(t.TempDir(), "state")
	closed(t, open(t, dir, new(log)))
	for path, want := range map[string]os.FileMode{dir: 0o700 | os.ModeDir, filepath.Join(dir, "state.db"): 0o600, filepath.Join(dir, "lock"): 0o600} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != want {
			t.Errorf("%s has mode %v, want %v", path, info.Mode(), want)
		}
	}
}

// TestValueError: a value that cannot be encoded leaves its key and the others alone.
func TestValueError(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, new(log))
	s.Start()
	s.Put("a", text("1"))
	s.Put("b", bad{})
	if err := s.Close(10 * time.Second); err != nil {
		t.Error(err)
	}
	s = open(t, dir, new(log))
	if got, want := content(t, s), (map[string]string{"a": "1"}); !same(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	closed(t, s)
}

// TestLongKey: a key that is too long for the database is left out, and stops no other one.
func TestLongKey(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, new(log))
	s.Start()
	key := func(n int) string { return strings.Repeat("k", n) }
	s.Put(key(bolt.MaxKeySize), text("1"))
	for _, n := range []int{bolt.MaxKeySize + 1, 1 << 16} {
		s.Put(key(n), text("1"))
		s.Delete(key(n + 1))
	}
	s.Put("b", text("1"))
	if err := s.Close(10 * time.Second); err != nil {
		t.Error(err)
	}
	s = open(t, dir, new(log))
	if got, want := content(t, s), (map[string]string{key(bolt.MaxKeySize): "1", "b": "1"}); !same(got, want) {
		t.Errorf("a restart reads %d entries, want 2", len(got))
	}
	closed(t, s)
}

type bad struct{}

func (bad) Append([]byte) ([]byte, error) { return nil, errors.New("bad") }

// TestInUse: a second Store of the directory is refused, and the error says by whom.
func TestInUse(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, new(log))
	_, err := Open(Config{Dir: dir, lockTimeout: time.Millisecond})
	if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "another registrar of this process uses "+dir) {
		t.Errorf("got %v", err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestInUseChild$")
	cmd.Env = append(os.Environ(), "STATE_DIR="+dir)
	out, err := cmd.CombinedOutput()
	if want := fmt.Sprintf("another process (pid %d) uses %s", os.Getpid(), dir); err != nil || !strings.Contains(string(out), want) {
		t.Errorf("got %v, %s, want %q", err, out, want)
	}
	go func() { // it is free before the time is up
		s.Start()
		_ = s.Close(10 * time.Second)
	}()
	s, err = Open(Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	closed(t, s)
}

func TestInUseChild(t *testing.T) {
	dir := os.Getenv("STATE_DIR")
	if dir == "" {
		t.Skip("is run by TestInUse")
	}
	_, err := Open(Config{Dir: dir, lockTimeout: time.Millisecond})
	fmt.Println(err)
}

// TestNotADirectory: what cannot be a directory is an error that says so.
func TestNotADirectory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	writeFile(t, path, nil)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(filepath.Join(t.TempDir(), "none"), link); err != nil {
		t.Fatal(err)
	}
	file, dangling := path+" is not a directory; name a directory", link+" is a symbolic link to a directory that does not exist; make that directory, or name another one"
	for dir, want := range map[string]string{path: file, filepath.Join(path, "below"): file, link: dangling, filepath.Join(link, "below"): dangling} {
		if _, err := Open(Config{Dir: dir}); !errors.Is(err, syscall.ENOTDIR) || fmt.Sprint(err) != want {
			t.Errorf("%s: got %v, want %s", dir, err, want)
		}
	}
}

// TestNewDirectory: only the last directory of a path is made.
func TestNewDirectory(t *testing.T) {
	above, l := filepath.Join(t.TempDir(), "above"), new(log)
	dir := filepath.Join(above, "state")
	s := open(t, dir, l)
	if got, want := l.String(), above+" does not exist, and only the last directory of the path is made"; !strings.Contains(got, want) {
		t.Errorf("log: %s, want %s", got, want)
	}
	_ = s.Close(time.Second)
	if _, err := os.Lstat(above); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("the directory above: got %v, want %v", err, os.ErrNotExist)
	}
	if err := os.Mkdir(above, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, want := range []bool{true, false} {
		s := open(t, dir, new(log))
		if got := s.Made(); got != want {
			t.Errorf("the directory is new: got %v, want %v", got, want)
		}
		closed(t, s)
	}
}

// TestUnreadable: if the file cannot be read, the log says that the state is not known.
func TestUnreadable(t *testing.T) {
	dir, l := t.TempDir(), new(log)
	if err := os.Mkdir(filepath.Join(dir, "state.db"), 0o700); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir, l)
	if got, want := l.String(), "is a directory: starting without the stored state: the registrar continues"; !strings.Contains(got, want) {
		t.Errorf("log: %s, want %s", got, want)
	}
	s.Start()
	_ = s.Close(time.Second)
}

// quick has a Store write, look and try again at once.
func quick(dir string, l *log) Config {
	return Config{Dir: dir, Log: l.add, Every: time.Millisecond, beat: 10 * time.Millisecond, retry: 10 * time.Millisecond}
}

// rewriting starts a quick Store that is given want if it asks for all values again.
func rewriting(t *testing.T, dir string, l *log, want map[string]string) (s *Store) {
	t.Helper()
	cfg := quick(dir, l)
	cfg.Rewrite = func() {
		s.Rewriting()
		for k, v := range want {
			s.Put(k, text(v))
		}
		s.Rewritten()
	}
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	return s
}

// eventually waits for the Store's goroutine.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(what)
		}
	}
}
