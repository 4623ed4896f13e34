package child

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestShell(t *testing.T) {
	for _, c := range []struct {
		line   string
		stderr bool
		want   string
		err    string
	}{
		{"echo a; echo b >&2", false, "a\n", ""},
		{"echo a; echo b >&2", true, "a\nb\n", ""},
		{"echo a; exit 3", false, "a\n", `command "echo a; exit 3": exit status 3`},
	} {
		out, err := Shell(t.Context(), c.line, c.stderr)
		if string(out) != c.want || fmt.Sprint(err) != c.err && (err != nil || c.err != "") {
			t.Errorf("%s: got %q, %v, want %q, %s", c.line, out, err, c.want, c.err)
		}
	}
}

// TestShellOutput: a command that prints without end is ended, and its output
// is not kept.
func TestShellOutput(t *testing.T) {
	for _, line := range []string{"yes", "trap '' PIPE; while :; do echo 0123456789 2>&1; done", "yes >&2"} {
		start := time.Now()
		out, err := Shell(t.Context(), line, true)
		if !errors.Is(err, errOutput) {
			t.Errorf("%s: got error %v, want %v", line, err, errOutput)
		}
		if len(out) > MaxOutput {
			t.Errorf("%s: %d bytes of output, want at most %d", line, len(out), MaxOutput)
		}
		if d := time.Since(start); d > 5*time.Second {
			t.Errorf("%s: it took %v", line, d)
		}
	}
}

// TestShellLeavesNothing: neither a command that ends nor one that is ended
// leaves a process behind, nor is its end waited for.
func TestShellLeavesNothing(t *testing.T) {
	for _, c := range []struct {
		name, line string
		limit      time.Duration
	}{
		{"ends itself", "sleep 600 & echo $! >%s", time.Minute},
		{"is ended", "sleep 600 & echo $! >%s; wait", time.Second},
		{"ends itself with a closed output", "sleep 600 >/dev/null & echo $! >%s", time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "pid")
			ctx, cancel := context.WithTimeout(t.Context(), c.limit)
			defer cancel()
			start := time.Now()
			_, err := Shell(ctx, fmt.Sprintf(c.line, "'"+file+"'"), false)
			if (err != nil) != (ctx.Err() != nil) {
				t.Errorf("got error %v", err)
			}
			if d := time.Since(start); d > c.limit+5*time.Second || d > 30*time.Second {
				t.Errorf("it took %v", d)
			}
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
			if err != nil {
				t.Fatal(err)
			}
			for start := time.Now(); alive(pid); time.Sleep(10 * time.Millisecond) {
				if time.Since(start) > 10*time.Second {
					t.Fatalf("process %d is left", pid)
				}
			}
		})
	}
}

// TestShellStartsDaemon: a command that has succeeded is no failure because a
// daemon, which it has started, holds on to its output.
func TestShellStartsDaemon(t *testing.T) {
	if _, err := exec.LookPath("setsid"); err != nil {
		t.Skip("there is no setsid(1)")
	}
	file := filepath.Join(t.TempDir(), "pid")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	start := time.Now()
	out, err := Shell(ctx, "setsid sh -c 'echo $$ >\""+file+"\"; echo up; exec sleep 600' & until [ -s '"+file+"' ]; do :; done; sleep 0.1; echo done", false)
	if b, err := os.ReadFile(file); err == nil {
		if pid, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
			defer syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	if err != nil || string(out) != "up\ndone\n" {
		t.Errorf("got %q, %v, want what it prints", out, err)
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("it took %v", d)
	}
}

// alive reports whether a process runs; a zombie does not.
func alive(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return syscall.Kill(pid, 0) == nil
	}
	_, state, _ := strings.Cut(string(b), ") ")
	return !strings.HasPrefix(state, "Z")
}
