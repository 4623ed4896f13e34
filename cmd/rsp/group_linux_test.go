package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// startScript is a script that starts a server without exec. The server says
// its process number.
func startScript(t *testing.T, before string) []string {
	t.Helper()
	shell, err := exec.LookPath("bash") // which waits for its child when SIGINT comes
	if err != nil {
		shell = "/bin/sh"
	}
	return []string{"--", shell, "-c", before + `; /bin/sh -c 'echo "server $$."; exec sleep 600'; echo the script goes on; exit 9`}
}

// process waits for the line "NAME PID." and returns the number.
func (p *proc) process(name string) int {
	p.t.Helper()
	var pid int
	eventually(p.t, "the process number of "+name, func() bool {
		_, rest, found := strings.Cut(p.String(), name+" ")
		number, _, ended := strings.Cut(rest, ".")
		if !found || !ended {
			return false
		}
		_, err := fmt.Sscan(number, &pid)
		return err == nil
	})
	p.t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
	return pid
}

// stateOf returns a process's state, such as T for stopped; "" if it has ended.
func stateOf(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	state := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))[0]
	if state == "Z" {
		return ""
	}
	return state
}

func hasEnded(t *testing.T, pid int) {
	t.Helper()
	eventually(t, fmt.Sprintf("process %d has ended", pid), func() bool { return stateOf(pid) == "" })
}

// TestTerminalInterruptScript: Ctrl-C and Ctrl-\ end a start script and the
// server that it has started, as without rsp.
func TestTerminalInterruptScript(t *testing.T) {
	for _, c := range []struct {
		name, key string
		status    int
	}{{"Ctrl-C", "\x03", 130}, {"Ctrl-backslash", "\x1c", 131}} {
		t.Run(c.name, func(t *testing.T) {
			r := newRegistry(t)
			p, tty := startInTerminal(t, "", register(r, startScript(t, "ulimit -c 0")...)...)
			r.has(t, "web", 1)
			server := p.process("server")
			tty.types(c.key)
			// The script can wait for its child, which has not ended by INT.
			if status := p.wait(); status != c.status && status != 9 {
				t.Errorf("status %d, want %d", status, c.status)
			}
			hasEnded(t, server)
			r.has(t, "web", 0)
		})
	}
}

// TestTerminalHangup: when the terminal is closed, a server ends even if its
// start script waits for it and handles SIGHUP.
func TestTerminalHangup(t *testing.T) {
	for _, before := range []string{"true", "trap 'true' HUP"} {
		t.Run(before, func(t *testing.T) {
			r := newRegistry(t)
			p, tty := startInTerminal(t, "", register(r, startScript(t, before)...)...)
			r.has(t, "web", 1)
			server := p.process("server")
			tty.Close()
			p.wait()
			hasEnded(t, server)
			r.has(t, "web", 0)
		})
	}
}

// TestTermEndsRest: when rsp has ended a start script, the rest of its process group ends
// too. A daemon in a process group of its own runs on.
func TestTermEndsRest(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGHUP} {
		t.Run(sig.String(), func(t *testing.T) {
			r := newRegistry(t)
			p := startRSP(t, register(r, startScript(t, `setsid sleep 600 >/dev/null 2>&1 & echo "daemon $!."`)...)...)
			r.has(t, "web", 1)
			server, daemon := p.process("server"), p.process("daemon")
			eventually(t, "the daemon has its process group", func() bool { g, _ := syscall.Getpgid(daemon); return g == daemon })
			p.signal(sig)
			if status := p.wait(); status != 128+int(sig) {
				t.Errorf("status %d, want %d", status, 128+int(sig))
			}
			hasEnded(t, server)
			if stateOf(daemon) == "" {
				t.Error("the daemon has ended too")
			}
		})
	}
}

// TestEndLeavesRest: if the command ends on its own, the rest of its group runs on.
func TestEndLeavesRest(t *testing.T) {
	r := newRegistry(t)
	p := startRSP(t, register(r, "--", "/bin/sh", "-c", `sleep 600 >/dev/null 2>&1 & echo "server $!."; exit 7`)...)
	server := p.process("server")
	if status := p.wait(); status != 7 {
		t.Errorf("status %d, want the command's 7", status)
	}
	if stateOf(server) == "" {
		t.Error("the server has ended too")
	}
}

// TestTerminalSuspend: Ctrl-Z deregisters the element and stops the server and rsp; fg
// continues both.
func TestTerminalSuspend(t *testing.T) { // not parallel: rsp waits for suspendLimit
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("left out: bash is not here")
	}
	r := newRegistry(t)
	p, tty := startInTerminal(t, "exec "+bash+` -c 'set -m; "$@"; echo "stopped $?."; read x; fg; echo "status $?."' bash "$@"`,
		register(r, startScript(t, "true")...)...)
	r.has(t, "web", 1)
	p.says("registered as") // rsp has the answer, so it deregisters before it stops
	server := p.process("server")
	tty.types("\x1a")
	p.says("stopped 148.")
	if list := r.elements(t, "web"); len(list) != 0 {
		t.Errorf("%d elements while all is stopped", len(list))
	}
	if n := r.Stats().KeepAlivesTimedOut; n != 0 {
		t.Errorf("%d keep-alives timed out", n)
	}
	eventually(t, "the server is stopped", func() bool { return stateOf(server) == "T" })
	tty.types("go\n")
	r.has(t, "web", 1)
	if s := stateOf(server); s == "T" || s == "" {
		t.Errorf("the server is in state %q, want it to run", s)
	}
	tty.types("\x03")
	// SIGINT has ended rsp, so bash ends too, as it does for the command without rsp.
	if status := p.wait(); status != 130 && !strings.Contains(p.String(), "status 1") { // 137 is of bash's own making
		t.Errorf("status %d, want 130", status)
	}
	hasEnded(t, server)
}

// TestTerminalSuspendOrphaned: if no shell can continue rsp, Ctrl-Z does not stop it.
func TestTerminalSuspendOrphaned(t *testing.T) {
	r := newRegistry(t)
	p, tty := startInTerminal(t, "", register(r, startScript(t, "true")...)...)
	r.has(t, "web", 1)
	p.says("registered as") // rsp has the answer, so it deregisters before it stops
	server := p.process("server")
	tty.types("\x1a")
	eventually(t, "the element was deregistered", func() bool { return r.Stats().Deregistrations == 1 })
	r.has(t, "web", 1)
	eventually(t, "the server runs", func() bool { return stateOf(server) != "T" })
	tty.types("\x03")
	p.wait()
	hasEnded(t, server)
}

// TestStillRunning: if the command does not end after the signal, rsp logs that, and
// registers the element again after SIGCONT.
func TestStillRunning(t *testing.T) {
	slow(t)
	t.Parallel()
	r := newRegistry(t)
	p := startRSP(t, register(r, "--", "/bin/sh", "-c", `trap 'echo handled' INT; trap 'exit 9' TERM; echo "server $$."; while :; do sleep 0.05; done`)...)
	server := p.process("server")
	r.has(t, "web", 1)
	p.signal(os.Interrupt)
	p.says("handled")
	p.signal(syscall.SIGCONT) // as of systemd, which sends it behind each SIGTERM
	p.says(fmt.Sprintf("the command (pid %d) is still running 10s after SIGINT", server))
	r.has(t, "web", 0)
	p.signal(syscall.SIGCONT)
	r.has(t, "web", 1)
	p.signal(syscall.SIGTERM)
	if status := p.wait(); status != 9 {
		t.Errorf("status %d, want the command's 9", status)
	}
	if err := syscall.Kill(server, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("the command: %v, want it ended", err)
	}
}
