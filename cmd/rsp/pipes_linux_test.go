package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/services"
	"golang.org/x/sys/unix"
)

// startPiped starts rsp with a pipe for standard error, or for standard output, and
// returns the read end.
func startPiped(t *testing.T, fd int, full bool, args ...string) (*proc, *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	if full {
		fill(t, w)
	}
	p := newProc(t, args...)
	if fd == 2 {
		p.cmd.Stderr = w
	} else {
		p.cmd.Stdout = w
	}
	p.start(args)
	w.Close()
	return p, r
}

// fill writes to a pipe until it is full. The file that fill opens for this does not
// block; the pipe of the process does.
func fill(t *testing.T, w *os.File) {
	t.Helper()
	fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", w.Fd()), unix.O_WRONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	for _, size := range []int{1 << 16, 1} {
		for {
			if _, err := unix.Write(fd, make([]byte, size)); err != nil {
				break
			}
		}
	}
}

// pipedCommand is a server that prints nothing, and creates a file after SIGTERM.
func pipedCommand(t *testing.T) (command []string, ended string) {
	ended = filepath.Join(t.TempDir(), "ended")
	return []string{"--", "/bin/sh", "-c", `trap 'touch "$1"; exit 9' TERM; while :; do sleep 0.05; done`, "sh", ended}, ended
}

// TestLogReaderEnds: if the logger of "rsp ... 2>&1 | logger" ends, rsp and the server run
// on.
func TestLogReaderEnds(t *testing.T) {
	slow(t)
	t.Parallel()
	r := newRegistry(t)
	command, ended := pipedCommand(t)
	p, log := startPiped(t, 2, false, register(r, append([]string{"-v", "--life", "3s"}, command...)...)...)
	r.has(t, "web", 1)
	log.Close()
	before := r.Stats().Reregistrations
	// Each one logs a line.
	eventually(t, "two more registrations", func() bool { return r.Stats().Reregistrations >= before+2 })
	r.has(t, "web", 1)
	p.signal(syscall.SIGTERM)
	if status := p.wait(); status != 9 {
		t.Errorf("status %d, want the command's 9", status)
	}
	if _, err := os.Stat(ended); err != nil {
		t.Error(err)
	}
	r.has(t, "web", 0)
}

// TestLogReaderHangs: if the pipe of the log is full and not read, rsp acknowledges
// keep-alives, and passes the first SIGTERM on.
func TestLogReaderHangs(t *testing.T) {
	slow(t)
	t.Parallel()
	r := newRegistry(t)
	command, ended := pipedCommand(t)
	p, _ := startPiped(t, 2, true, register(r, append([]string{"-v"}, command...)...)...)
	r.has(t, "web", 1)
	before := r.Stats().KeepAlivesAcked
	eventually(t, "three more keep-alives are acknowledged", func() bool { return r.Stats().KeepAlivesAcked >= before+3 })
	p.signal(syscall.SIGTERM)
	start := time.Now()
	eventually(t, "SIGTERM reaches the command", func() bool { _, err := os.Stat(ended); return err == nil })
	t.Logf("SIGTERM reached the command after %v", time.Since(start))
	if status := p.wait(); status != 9 {
		t.Errorf("status %d, want the command's 9", status)
	}
	r.has(t, "web", 0)
}

// TestErrorReaderHangs: an error that cannot be written delays the end of rsp by at most a
// second.
func TestErrorReaderHangs(t *testing.T) {
	t.Parallel()
	p, _ := startPiped(t, 2, true, "resolve", "--via", "tcp", "-r", "127.0.0.1:1", "web")
	if status := p.wait(); status != exitUnreachable {
		t.Errorf("status %d, want %d", status, exitUnreachable)
	}
}

// TestWatchReaderHangs: a watch whose output is not read ends with the first SIGTERM.
func TestWatchReaderHangs(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	q := startRSP(t, register(r)...)
	r.has(t, "web", 1)
	p, _ := startPiped(t, 1, true, "resolve", "--watch", "--via", "udp", "-r", r.at, "web")
	eventually(t, "the watch has subscribed", func() bool { return r.Stats().Subscriptions == 1 })
	p.signal(syscall.SIGTERM)
	if status := p.wait(); status != exitOK {
		t.Errorf("status %d", status)
	}
	q.signal(syscall.SIGTERM)
	q.wait()
}

// TestReaderEnds: "rsp ... | head" ends rsp without a message.
func TestReaderEnds(t *testing.T) {
	slow(t)
	t.Parallel()
	r := newRegistry(t)
	q := startRSP(t, register(r)...)
	r.has(t, "web", 1)
	p, out := startPiped(t, 1, false, "resolve", "--watch", "--via", "udp", "-r", r.at, "web")
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	out.Close()
	q.signal(syscall.SIGTERM)
	q.wait() // rsp prints nothing about an unknown pool, but prints the next element
	q = startRSP(t, register(r)...)
	p.wait()
	if s := p.String(); strings.Contains(s, "pipe") {
		t.Errorf("rsp speaks of a pipe:\n%s", s)
	}
	q.signal(syscall.SIGTERM)
	q.wait()
}

// TestReaderEndsQuietPool: "rsp ... | head -1" ends rsp with the status of SIGPIPE, although
// nothing changes, so that rsp has nothing to write.
func TestReaderEndsQuietPool(t *testing.T) {
	r := newRegistry(t)
	port := echoTCP(t, func(net.Conn) {})
	startRSP(t, register(r, "--serve", "tcp:"+port, "--address", "127.0.0.1")...)
	startRSP(t, serves(r, "echo")...)
	r.has(t, "web", 1)
	r.has(t, services.EchoPool, 1)
	for _, args := range [][]string{
		{"watch", "web"},
		{"watch", "--json", "web"},
		{"watch", "-v", "web"},
		{"resolve", "--watch", "web"},
		{"resolve", "--watch", "--json", "web"},
		{"connect", "--tcp", "web"},
		{"connect", services.EchoPool},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			in, keepOpen, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer keepOpen.Close()
			out, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			args = append(args, "--via", "udp", "-r", r.at)
			p := newProc(t, args...)
			p.cmd.Stdin, p.cmd.Stdout = in, w
			p.start(args)
			in.Close()
			w.Close()
			if _, err := io.WriteString(keepOpen, "hello\n"); err != nil {
				t.Fatal(err)
			}
			if _, err := out.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			out.Close()
			if status := p.wait(); status != exitPipe || strings.Contains(p.String(), "pipe") {
				t.Errorf("status %d, want %d, and\n%s", status, exitPipe, p)
			}
		})
	}
}

// TestCommandOwnFiles: the command has rsp's own standard output, and not a pipe to rsp.
func TestCommandOwnFiles(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	link := "readlink /proc/self/fd/1; readlink /proc/self/fd/2"
	p := startRSP(t, register(r, "--", "/bin/sh", "-c", link)...)
	p.wait()
	var own []string
	for line := range strings.Lines(p.String()) {
		if strings.HasPrefix(line, "pipe:") {
			own = append(own, line)
		}
	}
	// startRSP gives one pipe for both.
	if len(own) != 2 || own[0] != own[1] {
		t.Errorf("the command has %q, want the one pipe that rsp has", own)
	}
}
