package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// terminal is a pseudo-terminal whose other end is rsp's.
type terminal struct {
	*os.File
	fd int // that File.Fd would make blocking, so that nobody could close it
	t  *testing.T
}

// startInTerminal starts rsp in a session of its own, with a terminal for its
// standard files that it controls.
func startInTerminal(t *testing.T, script string, args ...string) (*proc, *terminal) {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals here: %v", err)
	}
	master := os.NewFile(uintptr(fd), "/dev/ptmx")
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals here: %v", err)
	}
	defer slave.Close()
	p := newProc(t, args...)
	if script != "" {
		p = newShellProc(t, script, args...)
	}
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = slave, slave, slave
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	p.start(args)
	go func() { // until the terminal is closed
		b := make([]byte, 4096)
		for {
			n, err := master.Read(b)
			if err != nil {
				return
			}
			_, _ = p.Write(b[:n])
		}
	}()
	return p, &terminal{master, fd, t}
}

func (m *terminal) types(s string) {
	m.t.Helper()
	if _, err := m.WriteString(s); err != nil {
		m.t.Fatal(err)
	}
}

// foreground is the process group that has the terminal.
func (m *terminal) foreground() int {
	n, _ := unix.IoctlGetInt(m.fd, unix.TIOCGPGRP)
	return n
}

// TestTerminalRead: a command can read the terminal.
func TestTerminalRead(t *testing.T) {
	r := newRegistry(t)
	p, tty := startInTerminal(t, "", register(r, "--", "/bin/sh", "-c", `read x; echo "got $x"; read x; echo "got $x"; exit 7`)...)
	r.has(t, "web", 1)
	p.says("the command uses the terminal")
	r.has(t, "web", 1)
	tty.types("hello\n")
	p.says("got hello")
	if got := tty.foreground(); got == p.cmd.Process.Pid {
		t.Error("rsp is in the foreground, want the command there")
	}
	tty.types("again\n")
	if status := p.wait(); status != 7 {
		t.Errorf("status %d, want the command's 7", status)
	}
	p.says("got again")
	r.has(t, "web", 0)
}

// TestTerminalInterrupt: if the command does not use the terminal, it gets Ctrl-C after
// the deregistration.
func TestTerminalInterrupt(t *testing.T) {
	r := newRegistry(t)
	p, tty := startInTerminal(t, "", register(r, "--", "/bin/sh", "-c", `trap 'echo interrupted; exit 9' INT; echo ready; while :; do sleep 0.05; done`)...)
	r.has(t, "web", 1)
	p.says("ready") // its trap is set
	tty.types("\x03")
	if status := p.wait(); status != 9 {
		t.Errorf("status %d, want the command's 9", status)
	}
	p.says("interrupted")
	out := p.String()
	if i, j := strings.Index(out, "deregistered"), strings.Index(out, "interrupted"); i < 0 || j < i {
		t.Errorf("want the element deregistered before the command is interrupted:\n%s", out)
	}
}

// TestTerminalStop: Ctrl-Z stops a command that has the terminal; rsp takes the terminal
// back, and Ctrl-C ends both.
func TestTerminalStop(t *testing.T) {
	r := newRegistry(t)
	p, tty := startInTerminal(t, "", register(r, "--", "/bin/sh", "-c", `read x`)...)
	r.has(t, "web", 1)
	p.says("the command uses the terminal")
	tty.types("\x1a")
	p.says("the command is stopped")
	r.has(t, "web", 0)
	eventually(t, "rsp has the terminal", func() bool { return tty.foreground() == p.cmd.Process.Pid })
	tty.types("\x03")
	if status := p.wait(); status != 130 {
		t.Errorf("status %d, want 130 for SIGINT", status)
	}
}

// TestTerminalBackground: in the background, a command that reads the terminal is stopped.
// rsp logs that, and SIGTERM still ends the command.
func TestTerminalBackground(t *testing.T) {
	r := newRegistry(t)
	// The shell with job control is the foreground, and rsp another group.
	p, _ := startInTerminal(t, `set -m; "$@" & echo "rsp is $!."; wait $!; echo "status $?."`, register(r, "--", "/bin/sh", "-c", `read x`)...)
	p.says("the command is stopped (tty input) from the background")
	r.has(t, "web", 0)
	_, pid, _ := strings.Cut(p.String(), "rsp is ")
	pid, _, _ = strings.Cut(pid, ".")
	var n int
	if _, err := fmt.Sscan(pid, &n); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(n, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p.says("status 143.")
	p.wait()
}

// TestTerminalForegroundLater: a command that was stopped in the background gets the
// terminal when a shell puts rsp into the foreground. The shell sends no signal then,
// because rsp was not stopped.
func TestTerminalForegroundLater(t *testing.T) {
	t.Parallel()
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("left out: bash is not here")
	}
	r := newRegistry(t)
	p, tty := startInTerminal(t, "exec "+bash+` -c 'set -m; "$@" & read x; fg; echo "status $?."' bash "$@"`,
		register(r, "--", "/bin/sh", "-c", `read x; echo "got $x"; exit 7`)...)
	p.says("the command is stopped (tty input) from the background")
	tty.types("go\n")
	p.says("the command uses the terminal")
	r.has(t, "web", 1)
	tty.types("hello\n")
	p.says("got hello")
	p.says("status 7.")
	p.wait()
}

// TestTerminalClosed: if the terminal is closed while the command is stopped, rsp and the
// command end.
func TestTerminalClosed(t *testing.T) {
	r := newRegistry(t)
	p, tty := startInTerminal(t, "", register(r, "--", "/bin/sh", "-c", `read x`)...)
	p.says("the command uses the terminal")
	tty.types("\x1a")
	p.says("the command is stopped")
	p.signal(syscall.SIGHUP)
	if status := p.wait(); status != 129 {
		t.Errorf("status %d, want 129 for SIGHUP", status)
	}
	r.has(t, "web", 0)
}

// TestCommandStopped: while the command is stopped, its element is not registered, and rsp
// logs that.
func TestCommandStopped(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	p := startRSP(t, register(r, "--", "/bin/sh", "-c", `echo "pid $$."; trap 'exit 9' TERM; while :; do sleep 0.05; done`)...)
	r.has(t, "web", 1)
	p.says(".")
	_, pid, _ := strings.Cut(p.String(), "pid ")
	var n int
	if _, err := fmt.Sscan(strings.TrimSuffix(strings.Fields(pid)[0], "."), &n); err != nil {
		t.Fatal(err)
	}
	signal := func(s syscall.Signal) {
		t.Helper()
		if err := syscall.Kill(n, s); err != nil {
			t.Fatal(err)
		}
	}
	signal(syscall.SIGSTOP)
	p.says("the command is stopped (signal): not registered until it continues")
	r.has(t, "web", 0)
	signal(syscall.SIGCONT)
	p.says("the command continues")
	r.has(t, "web", 1)
	signal(syscall.SIGSTOP)
	r.has(t, "web", 0)
	p.signal(syscall.SIGTERM)
	if status := p.wait(); status != 9 {
		t.Errorf("status %d, want the command's 9", status)
	}
}
