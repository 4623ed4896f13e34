//go:build unix

package state

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestReplaced: whatever somebody does to the files of a Store that writes, the next process
// reads all that the Store was given, and the log and the statistics tell what has happened.
func TestReplaced(t *testing.T) {
	other, _ := filled(t, 100)
	valid := read(t, filepath.Join(other, "state.db"))
	rename := func(path string, b []byte) error {
		return errors.Join(os.WriteFile(path+".x", b, 0o600), os.Rename(path+".x", path))
	}
	for _, c := range []struct {
		name string
		do   func(path string) error
		says string
	}{
		{"deleted", os.Remove, "state.db"},
		{"directory deleted", func(path string) error { return os.RemoveAll(filepath.Dir(path)) }, "state.db"},
		{"replaced", func(path string) error { return rename(path, valid) }, "state.db"},
		{"replaced by garbage", func(path string) error { return rename(path, []byte("?")) }, "state.db"},
		{"truncated", func(path string) error { return os.Truncate(path, 0) },
			"the file cannot be used: it does not have what was written to it, or the disk does not read it"},
		{"overwritten", func(path string) error { return os.WriteFile(path, make([]byte, 32768), 0o600) }, "the file cannot be used: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, l := filepath.Join(t.TempDir(), "state"), new(log)
			want := map[string]string{"a": "1", "b": "2"}
			s := rewriting(t, dir, l, want)
			for k, v := range want {
				s.Put(k, text(v))
			}
			eventually(t, "not written", func() bool { return s.Stats().Pending == 0 && s.Stats().Writes > 1 })
			if err := c.do(filepath.Join(dir, "state.db")); err != nil {
				t.Fatal(err)
			}
			eventually(t, "not noticed", func() bool { return s.Stats().Failures > 0 })
			eventually(t, "not written again", func() bool { return !s.Stats().Behind })
			if _, err := Open(Config{Dir: dir, lockTimeout: time.Millisecond}); !errors.Is(err, ErrInUse) {
				t.Errorf("another Store gets %v", err)
			}
			if err := s.Close(10 * time.Second); err != nil {
				t.Error(err)
			}
			lines := strings.Split(l.String(), "\n")
			if !strings.HasPrefix(lines[0], "!cannot write the state to "+dir) || !strings.Contains(lines[0], c.says) || strings.Contains(lines[0], "runtime error") ||
				!strings.HasPrefix(lines[len(lines)-1], "the state is written to "+dir+" again") {
				t.Errorf("log: %s", l)
			}
			if strings.Contains(c.says, "cannot be used") && (len(lines) != 3 || !strings.Contains(lines[1], "state.db is damaged (") ||
				!strings.HasSuffix(lines[1], "): all elements are written to a new file; this one is kept as "+filepath.Join(dir, "state.db.damaged"))) {
				t.Errorf("log: %s", l)
			}
			s = open(t, dir, l)
			if got := content(t, s); !same(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
			closed(t, s)
		})
	}
}

// TestLockDeleted: the directory is in use also when somebody has deleted the lock. The file
// of the Store that uses it is left alone, even if it seems to be damaged for a moment.
func TestLockDeleted(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, new(log))
	defer closed(t, s)
	if err := os.Remove(filepath.Join(dir, "lock")); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "state.db")
	good := read(t, path)
	for _, content := range [][]byte{good, append([]byte("?"), good[1:len(good):len(good)]...)[:4096]} {
		writeFile(t, path, content)
		for range 2 { // the first one leaves no lock
			_, err := Open(Config{Dir: dir, lockTimeout: time.Millisecond})
			if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "another process (perhaps in another container) uses "+dir) {
				t.Errorf("got %v", err)
			}
		}
	}
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
	writeFile(t, path, good)
}

// TestInUseByStranger: the process identifier in the lock is that of another time or of another
// container, if the process does not hold the lock. Then the error does not name it.
func TestInUseByStranger(t *testing.T) {
	if _, err := os.Stat("/proc/locks"); err != nil {
		t.Skipf("LEFT OUT: only the /proc/locks of Linux tells who holds a lock: %v", err)
	}
	for _, pid := range []int{1, os.Getpid()} {
		dir := t.TempDir()
		path := filepath.Join(dir, "lock")
		writeFile(t, path, fmt.Appendf(nil, "%d\n", pid))
		cmd := exec.Command(os.Args[0], "-test.run=^TestInUseByStrangerChild$")
		cmd.Env = append(os.Environ(), "STATE_LOCK="+path)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		_, err = Open(Config{Dir: dir, lockTimeout: time.Millisecond})
		if want := "another process (perhaps in another container) uses " + dir + ": end it"; !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), want) {
			t.Errorf("pid %d in the lock: got %v, want %s", pid, err, want)
		}
		_ = in.Close()
		_, _ = io.Copy(io.Discard, out)
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
}

// TestInUseByStrangerChild locks a file until its standard input ends.
func TestInUseByStrangerChild(t *testing.T) {
	path := os.Getenv("STATE_LOCK")
	if path == "" {
		t.Skip("is run by TestInUseByStranger")
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		t.Fatal(err)
	}
	fmt.Println("locked")
	_, _ = io.Copy(io.Discard, os.Stdin)
	_ = f.Close()
}
