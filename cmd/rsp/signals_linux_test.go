package main

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// signalsOfServers are signals that some server acts on.
var signalsOfServers = []syscall.Signal{
	unix.SIGABRT, unix.SIGALRM, unix.SIGIO, unix.SIGPWR, unix.SIGTTIN, unix.SIGTTOU,
	unix.SIGUSR1, unix.SIGUSR2, unix.SIGVTALRM, unix.SIGWINCH, 35, 50, lastSignal,
}

// tellsSignals is a server that says which signals it gets.
const tellsSignals = `for n in $(seq 1 64); do trap "echo \"got $n.\"" $n 2>/dev/null; done; trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done`

// TestSignalsPassedOn: the command gets the signals that a server can act on. The others
// do not end rsp.
func TestSignalsPassedOn(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	p := newProc(t, register(r, "--", "/bin/sh", "-c", tellsSignals)...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // without a terminal
	p.start(p.cmd.Args)
	r.has(t, "web", 1)
	p.says("ready")
	const rtmin = 34 // which the Go runtime leaves to C libraries
	for _, s := range []syscall.Signal{rtmin, unix.SIGPIPE, unix.SIGURG, unix.SIGCHLD, unix.SIGPROF, unix.SIGXCPU, unix.SIGXFSZ} {
		p.signal(s)
	}
	for _, s := range signalsOfServers {
		p.signal(s)
		p.says(fmt.Sprintf("got %d.", int(s)))
	}
	for _, s := range []syscall.Signal{unix.SIGPIPE, unix.SIGURG, unix.SIGXCPU, unix.SIGXFSZ} {
		if strings.Contains(p.String(), fmt.Sprintf("got %d.", int(s))) {
			t.Errorf("%v was passed on, which the kernel may send rsp on its own account", s)
		}
	}
	r.has(t, "web", 1)
	p.signal(syscall.SIGTERM)
	if status := p.wait(); status != 9 {
		t.Errorf("status %d, want the command's 9", status)
	}
}

// TestTerminalSignals: rsp does not pass on what its terminal may have sent it. If rsp
// caught SIGTTOU, a write in the background would send it again and again.
func TestTerminalSignals(t *testing.T) {
	r := newRegistry(t)
	p, _ := startInTerminal(t, "", register(r, "--", "/bin/sh", "-c", tellsSignals)...)
	r.has(t, "web", 1)
	p.says("ready")
	p.signal(syscall.SIGTTOU)
	p.signal(syscall.SIGUSR1)
	p.says(fmt.Sprintf("got %d.", int(syscall.SIGUSR1)))
	if strings.Contains(p.String(), fmt.Sprintf("got %d.", int(syscall.SIGTTOU))) {
		t.Error("SIGTTOU was passed on")
	}
	p.signal(syscall.SIGTERM)
	p.wait()
}

// TestEndBySignal: if a signal that rsp has passed on ends the command, it ends rsp too, so
// that a service manager does not take the status for a failure.
func TestEndBySignal(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	for _, s := range []syscall.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGQUIT, unix.SIGHUP, unix.SIGUSR1, unix.SIGABRT, 40} {
		t.Run(s.String(), func(t *testing.T) {
			p := newProc(t, register(r, "--", "sleep", "600")...)
			p.cmd.Dir = t.TempDir()
			p.start(p.cmd.Args)
			r.has(t, "web", 1)
			p.signal(s)
			p.wait()
			if by := p.endedBy(); by != s {
				t.Errorf("%v has ended rsp, want %v", p.cmd.ProcessState, s)
			}
			if ws, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || ws.CoreDump() {
				t.Error("rsp has left a core file")
			}
			r.has(t, "web", 0)
		})
	}
	t.Run("another's signal", func(t *testing.T) {
		p := startRSP(t, register(r, "--", "/bin/sh", "-c", "sleep 0.3; kill -TERM $$")...)
		if status := p.wait(); status != 143 || p.endedBy() != 0 {
			t.Errorf("%v, want status 143", p.cmd.ProcessState)
		}
	})
	t.Run("process 1", func(t *testing.T) {
		p, pid := startAsFirst(t, register(r, "--", "sleep", "600")...)
		r.has(t, "web", 1)
		if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if status := p.wait(); status != 143 || p.endedBy() != 0 {
			t.Errorf("%v, want status 143", p.cmd.ProcessState)
		}
	})
}

// TestWhyTheElementLeft: rsp says how the command has ended if nobody has asked for that.
func TestWhyTheElementLeft(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	for script, want := range map[string]string{
		`echo "server $$."; kill -KILL $$`: "was killed by SIGKILL\n",
		`echo "server $$."; exit 7`:        "has ended with status 7\n",
		`echo "server $$."`:                "has ended with status 0: if it has started a daemon, rsp cannot register that: a server must stay in the foreground",
	} {
		p := startRSP(t, register(r, "-q", "--", "/bin/sh", "-c", script)...)
		server := p.process("server")
		p.wait()
		p.says(fmt.Sprintf("rsp: the command (pid %d) %s", server, want))
	}
	p := startRSP(t, register(r, "--", "sleep", "600")...)
	r.has(t, "web", 1)
	p.signal(syscall.SIGTERM)
	p.wait()
	if strings.Contains(p.String(), "the command (pid") {
		t.Errorf("the user has asked for the end:\n%s", p)
	}
}

// TestQuitServe: SIGQUIT ends rsp serve and rsp watch as SIGTERM does.
func TestQuitServe(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	p := startRSP(t, serves(r, "echo")...)
	r.has(t, "EchoPool", 1)
	w := startRSP(t, "resolve", "--watch", "--via", "udp", "--registrar", r.at, "EchoPool")
	w.says("sctp")
	for _, q := range []*proc{w, p} {
		q.signal(syscall.SIGQUIT)
		if status := q.wait(); status != exitOK {
			t.Errorf("status %d after SIGQUIT", status)
		}
	}
	p.says("deregistered")
	r.has(t, "EchoPool", 0)
}

// TestEndResolveWatch: SIGHUP ends rsp resolve --watch as SIGTERM does, and a signal that rsp was
// started to ignore does not.
func TestEndResolveWatch(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	watch := []string{"resolve", "--watch", "--via", "udp", "--registrar", r.at, "web"}
	w, background := startRSP(t, watch...), shellRSP(t, `trap '' INT; exec "$@"`, watch...)
	for _, p := range []*proc{w, background} {
		p.says(`knows no pool "web"`)
	}
	w.signal(syscall.SIGHUP)
	if status := w.wait(); status != exitOK {
		t.Errorf("%v after SIGHUP, want status 0", w.cmd.ProcessState)
	}
	background.signal(syscall.SIGINT)
	startRSP(t, register(r, "--id", "1")...)
	background.says("00000001")
	background.signal(syscall.SIGTERM)
	if status := background.wait(); status != exitOK {
		t.Errorf("%v after SIGTERM, want status 0", background.cmd.ProcessState)
	}
}
