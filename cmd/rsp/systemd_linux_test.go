package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// systemd is a script that starts its arguments as systemd does with a socket and a
// watchdog. The descriptor is that of a file.
const systemd = `exec 3<"$SOCKET"; export LISTEN_FDS=1 LISTEN_PID=$$ LISTEN_PIDFDID=7 WATCHDOG_PID=$$ WATCHDOG_USEC=1000000; exec "$@"`

func startAsUnit(t *testing.T, args ...string) *proc {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "socket")
	if err := os.WriteFile(socket, []byte("from the socket"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := newShellProc(t, systemd, args...)
	withEnv(p.cmd, "SOCKET="+socket)
	p.start(args)
	return p
}

// TestSystemdVariables: what systemd has addressed to rsp is addressed to the command,
// which would not use its sockets and not send signs of life otherwise.
func TestSystemdVariables(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	p := startAsUnit(t, register(r, "--", "/bin/sh", "-c", `echo "I am $$: $LISTEN_PID $WATCHDOG_PID $LISTEN_FDS $(cat <&3)${LISTEN_PIDFDID-.}"; exit 7`)...)
	if status := p.wait(); status != 7 {
		t.Errorf("status %d, want the command's 7", status)
	}
	_, line, _ := strings.Cut(p.String(), "I am ")
	pid, got, _ := strings.Cut(line, ": ")
	got, _, _ = strings.Cut(got, "\n")
	if _, err := strconv.Atoi(pid); err != nil || got != fmt.Sprintf("%s %s 1 from the socket.", pid, pid) {
		t.Errorf("process %s has %q", pid, got)
	}
}

// TestSystemdErrors: a command that cannot be started is refused as without systemd.
func TestSystemdErrors(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, command := range []string{
		"/no/such/command", "no-such-command-at-all", write("data", "", 0o600),
		write("no-format", "\x00", 0o700), write("no-interpreter", "#!/no/such/interpreter\n", 0o700),
	} {
		firstLine := func(p *proc) string {
			status := p.wait()
			line, _, _ := strings.Cut(p.String(), "\n")
			return fmt.Sprintf("%s, status %d", line, status)
		}
		args := register(r, "--", command)
		want, got := firstLine(startRSP(t, args...)), firstLine(startAsUnit(t, args...))
		if got != want || !strings.Contains(want, "rsp: cannot run "+command+": ") {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestSystemdEnds: a command with a watchdog ends when rsp is killed, and inherits which
// signals are ignored, as without one.
func TestSystemdEnds(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	p := startAsUnit(t, register(r, "--", "/bin/sh", "-c", `echo "server $$."; exec sleep 600`)...)
	server := p.process("server")
	p.kills()
	hasEnded(t, server)

	ignores := func(before string) string {
		p := newShellProc(t, before+systemd, register(r, "--", "grep", "SigIgn", "/proc/self/status")...)
		withEnv(p.cmd, "SOCKET=/dev/null")
		p.start(p.cmd.Args)
		p.wait()
		_, text, _ := strings.Cut(p.String(), "SigIgn:\t")
		text, _, _ = strings.Cut(text, "\n")
		return text
	}
	if with, without := ignores("trap '' HUP INT QUIT; "), ignores(""); with == without || !strings.HasSuffix(with, "7") {
		t.Errorf("the command ignores %s, want HUP, INT and QUIT too (7)", with)
	}
}

var shownUnit = regexp.MustCompile("(?ms)^```ini (\\S+)\n(.*?)^```$")

// TestSystemdUnits: systemd accepts the units in docs/systemd.md, and rsp their command
// lines.
func TestSystemdUnits(t *testing.T) {
	text, err := os.ReadFile("../../docs/systemd.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	started := 0
	for _, m := range shownUnit.FindAllStringSubmatch(string(text), -1) {
		unit := strings.ReplaceAll(m[2], "\\\n", "")
		if _, line, ok := strings.Cut(unit, "ExecStart=/usr/local/bin/rsp "); ok {
			started++
			line, _, _ := strings.Cut(line, "\n")
			acceptsArgs(t, strings.Fields(line))
		}
		// systemd wants programs that exist.
		unit = regexp.MustCompile(`/usr/local/bin/\w+`).ReplaceAllString(unit, "/bin/sh")
		path := filepath.Join(dir, m[1])
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(unit), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if started != 2 {
		t.Fatalf("%d units start rsp, want 2", started)
	}
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("LEFT OUT: systemd-analyze is missing: install systemd")
	}
	unit := filepath.Join(dir, "web.service")
	out, err := exec.Command("systemd-analyze", "verify", "--man=no", unit).CombinedOutput()
	if err != nil || strings.Contains(string(out), dir) {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}

// acceptsArgs fails the test if the command line of rsp register has a mistake.
func acceptsArgs(t *testing.T, args []string) {
	t.Helper()
	cmd, f := newRegister(), new(registerFlags)
	cmd.ResetFlags()
	f.add(cmd)
	if err := cmd.ParseFlags(args[1:]); err != nil {
		t.Error(err)
		return
	}
	if err := cmd.ValidateArgs(cmd.Flags().Args()); err != nil {
		t.Error(err)
	}
	if _, err := f.supervisor(cmd, cmd.Flags().Args()); err != nil {
		t.Error(err)
	}
}
