//go:build unix

package state

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestUnreachable runs TestUnreachableChild as a user whom permissions stop.
func TestUnreachable(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	user := new(syscall.SysProcAttr)
	if os.Getuid() == 0 {
		exe = "/proc/self/exe" // the directory of the test may be root's
		user.Credential = &syscall.Credential{Uid: 1234, Gid: 1234}
	}
	cmd := exec.Command(exe, "-test.run=^TestUnreachableChild$", "-test.v")
	cmd.Env, cmd.Dir, cmd.SysProcAttr = append(os.Environ(), "STATE_UNREACHABLE=1"), "/", user
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err != nil && !errors.As(err, &exit):
		t.Skipf("LEFT OUT: root cannot run a test as another user on this machine: %v", err)
	case err != nil:
		t.Errorf("%v\n%s", err, out)
	}
}

// TestUnreachableChild: when a restart could not read or write the file any more, the Store
// that writes it says so, and writes all that it was given as soon as the file is within reach.
func TestUnreachableChild(t *testing.T) {
	if os.Getenv("STATE_UNREACHABLE") == "" {
		t.Skip("is run by TestUnreachable")
	}
	mode := func(name string, mode os.FileMode) func(dir string) error {
		return func(dir string) error { return os.Chmod(filepath.Join(dir, name), mode) }
	}
	for _, c := range []struct {
		name     string
		do, undo func(dir string) error
		says     string
	}{
		{"directory", mode("", 0), mode("", 0o700), "permission denied"},
		{"file", mode("state.db", 0), mode("state.db", 0o600), "permission denied"},
		{"file cannot be written", mode("state.db", 0o400), mode("state.db", 0o600), "permission denied"},
		{"no directory any more",
			func(dir string) error { return errors.Join(os.Rename(dir, dir+".x"), os.WriteFile(dir, nil, 0o600)) },
			func(dir string) error { return errors.Join(os.Remove(dir), os.Rename(dir+".x", dir)) }, "state.db"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, l := filepath.Join(t.TempDir(), "state"), new(log)
			want := map[string]string{"a": "1", "b": "2"}
			s := rewriting(t, dir, l, want)
			s.Put("a", text("1"))
			eventually(t, "not written", func() bool { st := s.Stats(); return st.Pending == 0 && st.Writes > 1 })
			if err := c.do(dir); err != nil {
				t.Fatal(err)
			}
			eventually(t, "not noticed", func() bool { st := s.Stats(); return st.Behind && st.Failures > 1 })
			if got := l.String(); !strings.HasPrefix(got, "!cannot write the state to "+dir) || !strings.Contains(got, c.says) || strings.Contains(got, "\n") {
				t.Errorf("log: %s", got)
			}
			s.Put("b", text("2"))
			if err := c.undo(dir); err != nil {
				t.Fatal(err)
			}
			eventually(t, "not written again", func() bool { st := s.Stats(); return !st.Behind })
			if err := s.Close(10 * time.Second); err != nil {
				t.Error(err)
			}
			if got := l.String(); !strings.Contains(got, "\nthe state is written to "+dir+" again") {
				t.Errorf("log: %s", got)
			}
			s = open(t, dir, l)
			if got := content(t, s); !same(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
			closed(t, s)
		})
	}
}
