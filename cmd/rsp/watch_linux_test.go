package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var escapes = regexp.MustCompile(`\x1b\[[?0-9;]*[a-zA-Z]`)

// shown returns what the last complete drawing shows.
func shown(out string) string {
	frames := strings.Split(out, toTop)
	for _, f := range slices.Backward(frames[1:]) {
		if text, _, ok := strings.Cut(f, clearRest); ok {
			return escapes.ReplaceAllString(text, "")
		}
	}
	return ""
}

func (m *terminal) resize(cols, rows uint16) {
	m.t.Helper()
	if err := unix.IoctlSetWinsize(m.fd, unix.TIOCSWINSZ, &unix.Winsize{Col: cols, Row: rows}); err != nil {
		m.t.Fatal(err)
	}
}

// TestWatchTerminal: the table in a terminal, which changes its size; Ctrl-Z and Ctrl-C.
func TestWatchTerminal(t *testing.T) {
	slow(t)
	r := newRegistry(t)
	w, tty := startInTerminal(t, `TERM=xterm NO_COLOR= exec "$@"`, "watch", "--via", "udp", "--registrar", r.at, "web")
	tty.resize(120, 30)
	shows := func(what string, f func(s string) bool) {
		t.Helper()
		eventually(t, "the terminal shows "+what, func() bool { return f(shown(w.String())) })
	}
	has := func(text string) func(string) bool {
		return func(s string) bool { return strings.Contains(s, text) }
	}
	shows("that the pool is unknown", has(`knows no pool "web"`))
	p := startRSP(t, register(r, "--id", "1")...)
	shows("the element", has("+  00000001"))
	shows("its columns", has("LAST CHANGE"))
	shows("the change", has("00000001 joined: tcp:8080"))
	if !strings.Contains(w.String(), "\x1b[1;32m+  00000001") {
		t.Errorf("the new element is not green: %q", w.String())
	}
	tty.resize(50, 6)
	shows("fewer columns", func(s string) bool {
		return strings.Contains(s, "00000001") && !strings.Contains(s, "LAST CHANGE") && strings.Count(s, "\n") < 6
	})
	p.signal(syscall.SIGTERM)
	p.wait()
	shows("that the element has left", has("-  00000001"))
	tty.types("\x1a") // Ctrl-Z; there is no shell that continues rsp
	eventually(t, "rsp gives the terminal back", func() bool { return strings.HasSuffix(w.String(), leaveScreen) })
	w.signalGroup(syscall.SIGCONT)
	eventually(t, "rsp takes the terminal again", func() bool {
		s := w.String()
		return strings.LastIndex(s, enterScreen) > strings.LastIndex(s, leaveScreen)
	})
	start := time.Now()
	tty.types("\x03")
	if status := w.wait(); status != exitOK {
		t.Errorf("status %d", status)
	}
	if d := time.Since(start); d > 3*time.Second { // the race detector waits 1 s at the end
		t.Errorf("rsp took %v to end", d)
	}
	// The last table stays.
	_, after, _ := strings.Cut(w.String()[strings.LastIndex(w.String(), leaveScreen):], leaveScreen)
	if !strings.Contains(after, `pool "web"`) {
		t.Errorf("after the end the terminal shows %q", after)
	}
}

// TestWatchNoColor: NO_COLOR, and lines where the terminal can not show a table.
func TestWatchNoColor(t *testing.T) {
	r := newRegistry(t)
	p := startRSP(t, register(r, "--id", "1")...)
	r.has(t, "web", 1)
	for _, c := range []struct{ name, env, want string }{
		{"table", "TERM=xterm NO_COLOR=1", "   00000001"},
		{"dumb", "TERM=dumb", "00000001 present: tcp:8080"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, tty := startInTerminal(t, c.env+` exec "$@"`, "watch", "--via", "udp", "--registrar", r.at, "web")
			w.says(c.want)
			tty.types("\x03")
			if status := w.wait(); status != exitOK {
				t.Errorf("status %d", status)
			}
			if strings.Contains(w.String(), "m") && regexp.MustCompile(`\x1b\[[0-9;]*m`).MatchString(w.String()) {
				t.Errorf("colours: %q", w.String())
			}
		})
	}
	p.signal(os.Interrupt)
	p.wait()
}

// signalGroup sends a signal to the whole group of a process that leads one.
func (p *proc) signalGroup(s syscall.Signal) {
	p.t.Helper()
	if err := syscall.Kill(-p.cmd.Process.Pid, s); err != nil {
		p.t.Error(err)
	}
}
