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
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, source := range []string{"file:" + fifo, "cmd:sleep 600"} {
		for _, command := range [][]string{nil, {"--", "sleep", "600"}} {
			t.Run(strings.Join(append([]string{source[:4]}, command...), " "), func(t *testing.T) {
				r := newRegistry(t)
				p := startRSP(t, register(r, append([]string{"--policy", "LU:25%", "--load", source, "--load-interval", "1h"}, command...)...)...)
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
}

// TestEndlessOutput: sources that print without end cost no memory.
func TestEndlessOutput(t *testing.T) {
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

// TestProbesEnd: what the commands of checks and loads have started ends with
// them, or with rsp.
func TestProbesEnd(t *testing.T) {
	r := newRegistry(t)
	// Numbers that nobody else sleeps for.
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
