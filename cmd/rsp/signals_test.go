package main

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// TestNohup: signals that rsp was started to ignore stay ignored by rsp and by the
// command, as if the command had been started in place of rsp.
func TestNohup(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	s := newServer(t)
	p := shellRSP(t, `trap '' HUP; exec "$@"`, register(r, s.args...)...)
	r.has(t, "web", 1)
	p.signal(syscall.SIGHUP)
	before := r.Stats().KeepAlivesAcked
	eventually(t, "two more keep-alives are acknowledged", func() bool { return r.Stats().KeepAlivesAcked >= before+2 })
	s.lives(p)
	s.end(p)

	for _, c := range []struct {
		name, ignored string
		want          uint64 // bits of signal numbers: HUP is 1, INT 2, QUIT 3
	}{
		{"nothing", `exec "$@"`, 0},
		{"nohup", `trap '' HUP; exec "$@"`, 1},
		{"in the background", `trap '' INT QUIT; exec "$@"`, 6},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := shellRSP(t, c.ignored, register(r, "--", "grep", "SigIgn", "/proc/self/status")...)
			if status := p.wait(); status != exitOK {
				t.Skip("no /proc")
			}
			_, text, _ := strings.Cut(p.String(), "SigIgn:\t")
			text, _, _ = strings.Cut(text, "\n")
			got, err := strconv.ParseUint(text, 16, 64)
			// The children of GNU make ignore signals 32 and 33 as well.
			if got &= 7; err != nil || got != c.want {
				t.Errorf("the command ignores %s, want %d of HUP, INT and QUIT", text, c.want)
			}
		})
	}
}

// TestRepeatedSignal: a signal that is repeated at once counts once. GNU timeout sends one
// to the process and to the group.
func TestRepeatedSignal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from, to, done := make(chan os.Signal), make(chan os.Signal, 8), make(chan struct{})
		defer close(done)
		go dropRepeats(from, to, endCommand, done)
		for _, c := range []struct {
			after  time.Duration
			signal os.Signal
			passed bool
		}{
			{0, syscall.SIGTERM, true},
			{5 * time.Millisecond, syscall.SIGTERM, false},
			{0, syscall.SIGCONT, true},
			{0, syscall.SIGTERM, false},
			{0, syscall.SIGINT, true},
			{0, syscall.SIGHUP, true},
			{0, syscall.SIGHUP, true}, // to read the configuration again, perhaps a newer one
			{repeatTime / 2, syscall.SIGINT, false},
			{repeatTime / 2, syscall.SIGINT, true},
		} {
			time.Sleep(c.after)
			from <- c.signal
			synctest.Wait()
			if passed := len(to) == 1; passed != c.passed {
				t.Errorf("%v after %v: passed %v, want %v", c.signal, c.after, passed, c.passed)
			}
			for len(to) > 0 {
				<-to
			}
		}
	})
}

// again sends a signal that has been sent before, so that it counts.
func (p *proc) again(s os.Signal) {
	p.t.Helper()
	time.Sleep(repeatTime + 50*time.Millisecond)
	p.signal(s)
}

// shellRSP starts rsp from a script of the shell that gets its command line.
func shellRSP(t *testing.T, script string, args ...string) *proc {
	t.Helper()
	p := newShellProc(t, script, args...)
	p.start(args)
	return p
}

func newShellProc(t *testing.T, script string, args ...string) *proc {
	p := newProc(t, args...)
	p.cmd = withEnv(exec.Command("/bin/sh", append([]string{"-c", script, "sh"}, p.cmd.Args...)...))
	p.cmd.Stdout, p.cmd.Stderr = p, p
	return p
}
