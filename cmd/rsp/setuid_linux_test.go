package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// becomesRoot names the file where the test binary, as a server that has become
// root's, writes its process number.
const becomesRoot = "RSP_TEST_BECOMES_ROOT"

func init() {
	if file := os.Getenv(becomesRoot); file != "" {
		if err := syscall.Setuid(0); err != nil {
			panic(err)
		}
		if err := os.WriteFile(file, []byte(strconv.Itoa(os.Getpid())), 0o644); err != nil {
			panic(err)
		}
		time.Sleep(time.Minute)
		os.Exit(1)
	}
}

// TestCommandOfAnotherUser: if the command has become root's, rsp may not send it
// signals. rsp logs that, deregisters, and ends with the command.
func TestCommandOfAnotherUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can make a command that becomes root's")
	}
	server := executable(t)
	if err := os.Chmod(server, 0o4755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "pid")
	id := uint32(100_000 + os.Getpid())
	r := newRegistry(t)
	p := newProc(t)
	p.cmd = withEnv(exec.Command(executable(t), register(r, "--", "env", becomesRoot+"="+file, server)...))
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.Dir = p, p, "/"
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: id, Gid: id}}
	p.start(p.cmd.Args)
	pid := 0
	for start := time.Now(); pid == 0; time.Sleep(10 * time.Millisecond) {
		b, _ := os.ReadFile(file)
		pid, _ = strconv.Atoi(strings.TrimSpace(string(b)))
		select {
		case <-p.end:
			t.Skipf("a file system without setuid: %s", p)
		default:
		}
		if time.Since(start) > patience {
			t.Fatal("the command does not begin")
		}
	}
	defer syscall.Kill(pid, syscall.SIGKILL)
	r.has(t, "web", 1)
	p.signal(syscall.SIGTERM)
	p.says("cannot send the command the signal (terminated): operation not permitted")
	r.has(t, "web", 0)
	_ = syscall.Kill(pid, syscall.SIGKILL)
	if status := p.wait(); status != 128+int(syscall.SIGKILL) {
		t.Errorf("status %d, want the command's", status)
	}
}
