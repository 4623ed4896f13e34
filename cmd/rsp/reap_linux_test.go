package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// asSubreaper makes the test binary, as rsp, the parent of orphans.
const asSubreaper = "RSP_TEST_AS_SUBREAPER"

func init() {
	if os.Getenv(asSubreaper) != "" {
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
			panic(err)
		}
	}
}

// children returns the numbers of a process's children, and how many are zombies.
func children(t *testing.T, parent int) (pids []int, zombies int) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil || len(stats) == 0 {
		t.Skip("no /proc")
	}
	for _, file := range stats {
		b, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		_, rest, _ := strings.Cut(string(b), ") ")
		if f := strings.Fields(rest); len(f) > 1 && f[1] == strconv.Itoa(parent) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			pids = append(pids, pid)
			if f[0] == "Z" {
				zombies++
			}
		}
	}
	return pids, zombies
}

// TestReapsOrphans: if orphans become children of rsp, as in a container, rsp reaps them,
// and still gets the exit statuses of its command and its checks.
func TestReapsOrphans(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		start func(t *testing.T, args ...string) (p *proc, pid int)
	}{
		{"subreaper", func(t *testing.T, args ...string) (*proc, int) {
			p := newProc(t, args...)
			withEnv(p.cmd, asSubreaper+"=1")
			p.start(args)
			return p, p.cmd.Process.Pid
		}},
		{"process 1", startAsFirst},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRegistry(t)
			const script = `trap 'exit 7' HUP
			n=0; while [ $n -lt 60 ]; do n=$((n+1)); (sleep 0.01 &); done; echo "all started"
			while :; do sleep 0.05; done`
			p, pid := c.start(t, register(r, "--check", "cmd:exit 0", "--check-interval", "50ms", "--check-timeout", "30s", "--check-fail", "1", "--", "/bin/sh", "-c", script)...)
			r.has(t, "web", 1)
			p.says("all started")
			eventually(t, "no zombie is left", func() bool { _, n := children(t, pid); return n == 0 })
			if s := p.String(); strings.Contains(s, "check fails") {
				t.Errorf("a check's end was taken away:\n%s", s)
			}
			if err := syscall.Kill(pid, syscall.SIGHUP); err != nil { // is passed on
				t.Fatal(err)
			}
			if status := p.wait(); status != 7 {
				t.Errorf("status %d, want the command's 7", status)
			}
		})
	}
}

// startAsFirst starts rsp as process 1 of a namespace of its own, and returns its number
// outside.
func startAsFirst(t *testing.T, args ...string) (*proc, int) {
	if os.Geteuid() != 0 || exec.Command("unshare", "--pid", "--fork", "--mount-proc", "true").Run() != nil {
		t.Skip("left out: process namespaces need root and unshare(1)")
	}
	p := newProc(t, args...)
	p.cmd = withEnv(exec.Command("unshare", append([]string{"--pid", "--fork", "--mount-proc", "--kill-child"}, p.cmd.Args...)...))
	p.cmd.Stdout, p.cmd.Stderr = p, p
	p.start(args)
	var pid int
	eventually(t, "rsp runs in its namespace", func() bool {
		list, _ := children(t, p.cmd.Process.Pid)
		if len(list) == 1 {
			pid = list[0]
		}
		return pid != 0
	})
	if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)); err == nil && !strings.Contains(string(b), "NSpid:\t"+strconv.Itoa(pid)+"\t1\n") {
		t.Errorf("it is not process 1:\n%s", b)
	}
	return p, pid
}
