//go:build unix

package state

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestForeignLock: what is no regular file is not written to, and the directory is refused.
func TestForeignLock(t *testing.T) {
	target := filepath.Join(t.TempDir(), "target")
	for name, make := range map[string]func(lock string) error{
		"symbolic link":         func(lock string) error { return os.Symlink(target, lock) },
		"symbolic link to none": func(lock string) error { return os.Symlink(target+"2", lock) },
		"named pipe":            func(lock string) error { return syscall.Mkfifo(lock, 0o600) },
		"directory":             func(lock string) error { return os.Mkdir(lock, 0o700) },
	} {
		t.Run(name, func(t *testing.T) {
			writeFile(t, target, []byte("precious"))
			dir := t.TempDir()
			lock := filepath.Join(dir, "lock")
			if err := make(lock); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(Config{Dir: dir}); !errors.Is(err, errNoLock) || !strings.HasSuffix(err.Error(), ": remove "+lock) {
				t.Errorf("got %v, want an error that names the lock", err)
			}
			if got := string(read(t, target)); got != "precious" {
				t.Errorf("the file at the other end has %q", got)
			}
			if _, err := os.Lstat(target + "2"); err == nil {
				t.Error("a file was made at the other end")
			}
		})
	}
}

// TestExposed: if every user can write to the directory, the log warns.
func TestExposed(t *testing.T) {
	for mode, want := range map[os.FileMode]bool{0o700: false, 0o770: false, 0o755: false, 0o777: true, 0o777 | os.ModeSticky: true} {
		dir, l := t.TempDir(), new(log)
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		closed(t, open(t, dir, l))
		got := l.String()
		if text := "!every user of this machine can write to state directory " + dir + " (mode 0777)"; strings.HasPrefix(got, text) != want || !want && got != "" {
			t.Errorf("mode %v: got the log %q, want a warning: %v", mode, got, want)
		}
	}
}
