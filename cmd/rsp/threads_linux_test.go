package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// withProcesses is how many processes and threads the user of the test binary, as rsp, may
// have.
const withProcesses = "RSP_TEST_WITH_PROCESSES"

func init() {
	if n, err := strconv.ParseUint(os.Getenv(withProcesses), 10, 32); err == nil {
		if err := unix.Setrlimit(unix.RLIMIT_NPROC, &unix.Rlimit{Cur: n, Max: n}); err != nil {
			panic(err)
		}
	}
}

// executable returns a copy of the test binary that each user can run.
func executable(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "rsp-threads-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	name := filepath.Join(dir, "rsp")
	from, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	to, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(to, from)
	if err := cmp.Or(err, to.Close(), os.Chmod(name, 0o755), os.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestThreadsInReserve: rsp has all threads that it can need before the command starts,
// because the command may take all others.
func TestThreadsInReserve(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	file := filepath.Join(t.TempDir(), "threads")
	p := startRSP(t, register(r, "--", "/bin/sh", "-c", `ls /proc/$PPID/task | wc -l >"$1"`, "sh", file)...)
	p.wait()
	b, err := os.ReadFile(file)
	n, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || n < spareThreads {
		t.Errorf("rsp has %d threads, %v, want %d at least", n, err, spareThreads)
	}
}

// TestSurvivesNoMoreProcesses: the user of rsp has as many processes as allowed,
// so that there is not even another thread. The runtime of Go ends a process that
// needs one, and the server would end with it.
func TestSurvivesNoMoreProcesses(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can run rsp as a user with no other processes")
	}
	const limit = 100
	id := uint32(100_000 + os.Getpid())
	user := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: id, Gid: id}}
	r := newRegistry(t)
	p := newProc(t)
	p.cmd = exec.Command(executable(t), register(r, "--check", "cmd:sleep 0.1", "--check-interval", "200ms",
		"--policy", "LU", "--load", "cmd:sleep 0.1; echo 0.5", "--load-interval", "200ms", "--", "sleep", "1000")...)
	withEnv(p.cmd, withProcesses+"="+strconv.Itoa(limit))
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.SysProcAttr, p.cmd.Dir = p, p, user, "/"
	p.start(p.cmd.Args)
	r.has(t, "web", 1)

	var others []*exec.Cmd
	end := func() {
		for _, c := range others {
			_ = c.Process.Kill()
			_ = c.Wait()
		}
		others = nil
	}
	t.Cleanup(end)
	// Two places stay free, so that rsp can start a process now and then.
	for deadline := time.Now().Add(4 * time.Second); time.Now().Before(deadline); {
		select {
		case <-p.end:
			t.Fatal("rsp has ended, and the server with it")
		case <-time.After(20 * time.Millisecond):
		}
		threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", p.cmd.Process.Pid))
		if err != nil {
			continue
		}
		for len(others) < limit-len(threads)-2 {
			c := exec.Command("sleep", "1000")
			c.SysProcAttr, c.Dir = user, "/"
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			others = append(others, c)
		}
	}
	p.says("check could not be made")
	r.has(t, "web", 1)
	end()
	p.signal(syscall.SIGTERM)
	if status := p.wait(); status != 128+int(syscall.SIGTERM) {
		t.Errorf("status %d, want that of a server that SIGTERM has ended", status)
	}
}
