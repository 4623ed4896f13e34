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
)

// inNamespace runs a test of this package in a mount namespace of its own, where it may mount
// what it likes.
func inNamespace(t *testing.T, test string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^"+test+"$", "-test.v")
	cmd.Env = append(os.Environ(), "STATE_DIR="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if id := os.Getuid(); id != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: id, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err != nil && !errors.As(err, &exit):
		t.Skipf("no mount namespace on this machine: %v", err)
	case err != nil:
		t.Errorf("%v\n%s", err, out)
	}
}

// mounted is a small file system.
func mounted(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("STATE_DIR")
	if dir == "" {
		t.Skip("is run by another test")
	}
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("state", dir, "tmpfs", 0, "size=4m,mode=0700"); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestFullFileSystem(t *testing.T)     { inNamespace(t, "TestFullFileSystemChild") }
func TestReadOnlyFileSystem(t *testing.T) { inNamespace(t, "TestReadOnlyFileSystemChild") }

// TestFullFileSystemChild: what does not fit stays in memory, and is written when there is
// room. What fitted before is never lost.
func TestFullFileSystemChild(t *testing.T) {
	dir, l := mounted(t), new(log)
	s, err := Open(quick(dir, l))
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	want := make(map[string]string)
	put := func(k string, size int) {
		want[k] = strings.Repeat(k[:1], size)
		s.Put(k, text(want[k]))
	}
	put("first", 10)
	eventually(t, "not written", func() bool { st := s.Stats(); return st.Pending == 0 && st.Writes > 1 })
	other := filepath.Join(dir, "other")
	for n := 64 << 10; os.WriteFile(other, make([]byte, n), 0o600) == nil; n += 64 << 10 {
	}
	for i := range 40 {
		put(fmt.Sprintf("large %d", i), 50_000)
	}
	eventually(t, "not full", func() bool { return s.Stats().Failures > 5 })
	s.Delete("first")
	delete(want, "first")
	put("second", 10)
	if st := s.Stats(); !st.Behind || st.Pending == 0 {
		t.Errorf("%+v", st)
	}
	copied := t.TempDir()
	writeFile(t, filepath.Join(copied, "state.db"), read(t, filepath.Join(dir, "state.db")))
	if _, err := examine(filepath.Join(copied, "state.db")); err != nil {
		t.Errorf("after failed writes: %v", err)
	}
	if err := os.Remove(other); err != nil {
		t.Fatal(err)
	}
	eventually(t, "not written when there is room", func() bool { st := s.Stats(); return st.Pending == 0 && !st.Behind })
	if err := s.Close(10 * time.Second); err != nil {
		t.Error(err)
	}
	lines := strings.Split(l.String(), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], "no space left on device") || !strings.Contains(lines[1], "is written to "+dir+" again") {
		t.Errorf("log: %s", l)
	}
	s, err = Open(quick(dir, l))
	if err != nil {
		t.Fatal(err)
	}
	if got := content(t, s); !same(got, want) {
		t.Errorf("%d entries, want %d", len(got), len(want))
	}
	closed(t, s)
}

// TestReadOnlyFileSystemChild: the state of a read-only file system is read, and when it can
// be written, all entries are.
func TestReadOnlyFileSystemChild(t *testing.T) {
	dir, l := mounted(t), new(log)
	below := filepath.Join(dir, "state")
	mode := func(flags uintptr) {
		if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	s, err := Open(quick(below, l))
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	s.Put("a", text("1"))
	s.Put("b", text("1"))
	if err := s.Close(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	mode(syscall.MS_RDONLY)
	asked := make(chan bool, 1)
	cfg := quick(below, l)
	cfg.Rewrite = func() { asked <- true }
	if s, err = Open(cfg); err != nil {
		t.Fatal(err)
	}
	if got, want := content(t, s), (map[string]string{"a": "1", "b": "1"}); !same(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	s.Start()
	s.Delete("a")
	eventually(t, "no attempt", func() bool { return s.Stats().Failures > 5 })
	if got, want := l.String(), "!cannot write the state to "+below+": open "+below+"/state.db: read-only file system: the registrar continues, and tries again every 10ms"; got != want {
		t.Errorf("log: %s, want %s", got, want)
	}
	mode(0)
	<-asked
	s.Rewriting()
	s.Put("b", text("1"))
	s.Rewritten()
	if err := s.Close(10 * time.Second); err != nil {
		t.Error(err)
	}
	s = open(t, below, l)
	if got, want := content(t, s), (map[string]string{"b": "1"}); !same(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	closed(t, s)
	mode(syscall.MS_RDONLY)
	empty := filepath.Join(dir, "none")
	if s, err = Open(quick(empty, l)); err != nil {
		t.Fatal(err)
	}
	s.Start()
	s.Put("a", text("1"))
	if err := s.Close(10 * time.Second); !errors.Is(err, errNotWritten) {
		t.Errorf("close: %v", err)
	}
}
