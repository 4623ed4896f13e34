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
	"time"
)

// TestLoadHangs: a load source that never gives a value keeps neither the
// element from being registered nor rsp from ending.
func TestLoadHangs(t *testing.T) {
	slow(t)
	t.Parallel()
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		source  string
		command []string
	}{
		{"file:" + fifo, []string{"--", "sleep", "600"}},
		{"cmd:sleep 600", nil},
	} {
		t.Run(c.source[:4], func(t *testing.T) {
			r := newRegistry(t)
			p := startRSP(t, register(r, append([]string{"--policy", "LU:25%", "--load", c.source, "--load-interval", "1h"}, c.command...)...)...)
			if list := r.has(t, "web", 1); *list[0].Load != 0.25 {
				t.Errorf("load %v, want the 0.25 of --policy", *list[0].Load)
			}
			p.says("load: no value after 2s: registering with the load of --policy")
			start := time.Now()
			p.signal(syscall.SIGTERM)
			p.wait()
			if d := time.Since(start); d > 2*time.Second {
				t.Errorf("rsp ends after %v", d)
			}
			r.has(t, "web", 0)
		})
	}
}

// TestEndlessOutput: sources that print without end do not use up the memory.
func TestEndlessOutput(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	p := startRSP(t, register(r, "--policy", "LU:25%", "--load", "cmd:yes", "--check", "cmd:yes; exit 0", "--check-timeout", "3s")...)
	p.says("check fails: command \"yes; exit 0\": it prints more than 65536 bytes")
	p.says("load: command \"yes\": it prints more than 65536 bytes")
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Skip(err)
	}
	_, peak, _ := strings.Cut(string(b), "VmHWM:")
	kb, err := strconv.Atoi(strings.Fields(peak)[0])
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("at most %d kB of memory", kb)
	if kb > 200<<10 {
		t.Errorf("%d kB of memory", kb)
	}
	p.signal(syscall.SIGTERM)
	p.wait()
}

// TestProbesEnd: the processes that commands of checks and loads have started end with
// these commands, or with rsp.
func TestProbesEnd(t *testing.T) {
	slow(t)
	t.Parallel()
	r := newRegistry(t)
	// Numbers that no other process sleeps for.
	run := fmt.Sprintf("86%d", os.Getpid())
	left := func() int {
		out, _ := exec.Command("pgrep", "-f", "^sleep "+run).Output()
		return strings.Count(string(out), "\n")
	}
	p := startRSP(t, register(r, "--policy", "LU:25%",
		"--check", "cmd:sleep "+run+"1 & exit 0", "--check-interval", "50ms",
		"--load", "cmd:sleep "+run+"2 & sleep "+run+"3")...)
	r.has(t, "web", 1)
	if n := left(); n > 4 {
		t.Errorf("%d processes of probes run", n)
	}
	p.signal(syscall.SIGTERM)
	p.wait()
	eventually(t, "nothing is left of the probes", func() bool { return left() == 0 })
}

// TestFlappingCheck: a check whose result changes each time registers the element at most
// once a second.
func TestFlappingCheck(t *testing.T) {
	slow(t)
	t.Parallel()
	r := newRegistry(t)
	file := filepath.Join(t.TempDir(), "file")
	start := time.Now()
	p := startRSP(t, register(r, "--check", fmt.Sprintf("cmd:if [ -e '%[1]s' ]; then rm '%[1]s'; else touch '%[1]s'; exit 1; fi", file),
		"--check-interval", "50ms", "--check-fail", "1", "--check-rise", "1")...)
	const times = 4
	eventually(t, "the element is registered again and again", func() bool { return strings.Count(p.String(), ": registered as") >= times })
	if d := time.Since(start); d < (times-1)*time.Second-100*time.Millisecond {
		t.Errorf("%d registrations in %v, want one in a second", times, d)
	}
	p.signal(syscall.SIGTERM)
	if status := p.wait(); status != exitOK {
		t.Errorf("status %d", status)
	}
}
