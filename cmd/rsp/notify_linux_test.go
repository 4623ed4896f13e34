package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rserpool/coredns-rserpool/asap/pe"
	"github.com/rserpool/coredns-rserpool/test/here"
	"golang.org/x/sys/unix"
)

// serviceManager is the socket of a service manager.
type serviceManager struct {
	t    *testing.T
	conn *net.UnixConn
	env  string
}

func newServiceManager(t *testing.T) *serviceManager {
	t.Helper()
	return serviceManagerAt(t, filepath.Join(here.ShortDir(t), "notify"))
}

// serviceManagerAt has its socket at a path, or at a name outside of the file system that begins
// with @.
func serviceManagerAt(t *testing.T, path string) *serviceManager {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &serviceManager{t, conn, notifySocket + "=" + path}
}

// start starts rsp as the manager does.
func (m *serviceManager) start(args ...string) *proc {
	m.t.Helper()
	p := newProc(m.t, args...)
	withEnv(p.cmd, m.env)
	p.start(args)
	return p
}

// hears waits for a message that begins with a text. No message before it may have another text.
func (m *serviceManager) hears(text string, not ...string) string {
	m.t.Helper()
	_ = m.conn.SetReadDeadline(time.Now().Add(patience))
	b := make([]byte, 4096)
	for {
		n, err := m.conn.Read(b)
		got := string(b[:n])
		if err != nil {
			m.t.Fatalf("waiting for %q: %v", text, err)
		}
		if strings.HasPrefix(got, text) {
			return got
		}
		for _, n := range not {
			if strings.Contains(got, n) {
				m.t.Fatalf("heard %q before %q", got, text)
			}
		}
	}
}

// waiting returns the messages that have come and were not heard yet.
func (m *serviceManager) waiting() (list []string) {
	m.t.Helper()
	raw, err := m.conn.SyscallConn()
	if err != nil {
		m.t.Fatal(err)
	}
	_ = raw.Control(func(fd uintptr) {
		b := make([]byte, 4096)
		for {
			n, _, err := unix.Recvfrom(int(fd), b, unix.MSG_DONTWAIT)
			if err != nil {
				return
			}
			list = append(list, string(b[:n]))
		}
	})
	return list
}

// hearsNothing fails the test if there is a message.
func (m *serviceManager) hearsNothing() {
	m.t.Helper()
	if got := m.waiting(); len(got) > 0 {
		m.t.Errorf("heard %q", got)
	}
}

const (
	hearsReady = "READY=1\nSTATUS=registered as "
	hearsStop  = "STOPPING=1\nSTATUS=deregistering"
)

// TestNotify: a service manager hears that rsp is ready when the element is registered, and that
// the end has begun before it is deregistered. The command does not hear of the manager.
func TestNotify(t *testing.T) {
	t.Parallel()
	port := here.FreePort(t)
	at := register(&registry{at: "127.0.0.1:" + fmt.Sprint(port) + "/" + fmt.Sprint(port)})
	command := []string{"--", "/bin/sh", "-c", `echo "socket ${NOTIFY_SOCKET-none}."; exec sleep 600`}
	m := newServiceManager(t)
	p := m.start(append(append(at, "--notify"), command...)...)
	m.hears("STATUS=no registrar could be reached: ", "READY")
	r := registryAt(t, port, port)
	m.hears(hearsReady)
	p.says("socket none.")
	p.signal(syscall.SIGTERM)
	m.hears(hearsStop)
	m.hears("STATUS=deregistered ", "READY")
	p.wait()

	// The command ends by itself.
	p = m.start(register(r, "--notify", "--", "/bin/sh", "-c", `echo "server $$."; exec sleep 600`)...)
	m.hears(hearsReady)
	if err := syscall.Kill(p.process("server"), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	m.hears(hearsStop)
	p.wait()
	m.hears("STATUS=deregistered ")
	m.hearsNothing()
}

// TestNotifyOfCommand: without --notify, it is for the command to tell the manager.
func TestNotifyOfCommand(t *testing.T) {
	t.Parallel()
	r, m := newRegistry(t), newServiceManager(t)
	_, path, _ := strings.Cut(m.env, "=")
	p := m.start(register(r, "--", "/bin/sh", "-c", `echo "socket $NOTIFY_SOCKET."; exec sleep 600`)...)
	p.says("socket " + path + ".")
	p.says("registered as")
	p.signal(syscall.SIGTERM)
	p.wait()
	m.hearsNothing()
}

// TestNotifyAlone: without a command, rsp tells the manager in any case, also one whose socket is
// not in the file system.
func TestNotifyAlone(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	for _, args := range [][]string{
		register(r),
		{"serve", "echo", "--via", "udp", "--registrar", r.at},
	} {
		m := newServiceManager(t)
		if args[0] == "serve" {
			m = serviceManagerAt(t, fmt.Sprintf("@rsp-test-%d", os.Getpid()))
		}
		p := m.start(args...)
		m.hears(hearsReady)
		p.signal(syscall.SIGTERM)
		m.hears(hearsStop)
		m.hears("STATUS=deregistered ")
		if status := p.wait(); status != exitOK {
			t.Errorf("rsp %q: status %d", args, status)
		}
	}
}

// TestNotifyCheck: while a check keeps the element from its registration, a service manager hears
// why, before the first registration and later.
func TestNotifyCheck(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	fit := filepath.Join(t.TempDir(), "fit")
	const reason = "exit status 1: not yet"
	m := newServiceManager(t)
	p := m.start(register(r, "--check", `cmd:test -e "`+fit+`" || { echo not yet; exit 1; }`, "--check-interval", "50ms", "--check-fail", "1", "--check-rise", "1")...)
	m.hears("STATUS=waiting for the check")
	if got := m.hears("STATUS=check fails: ", "READY"); !strings.HasSuffix(got, reason) {
		t.Errorf("heard %q, want the reason", got)
	}
	if err := os.WriteFile(fit, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	m.hears("STATUS=check passes; registering", "READY")
	m.hears(hearsReady)
	if err := os.Remove(fit); err != nil {
		t.Fatal(err)
	}
	m.hears("STATUS=check fails: ", "deregistered")
	if got := m.hears("STATUS=deregistered "); !strings.Contains(got, "; check fails: ") || !strings.HasSuffix(got, reason) {
		t.Errorf("heard %q, want the reason, too", got)
	}
	p.signal(syscall.SIGTERM)
	m.hears(hearsStop)
	p.wait()

	m = newServiceManager(t)
	p = m.start("serve", "echo", "--via", "udp", "--registrar", r.at)
	m.hears("STATUS=registering", "READY")
	m.hears(hearsReady)
	p.signal(syscall.SIGTERM)
	p.wait()
}

// TestNotifyRefused: a refusal of the first registration ends rsp, which the manager hears before.
func TestNotifyRefused(t *testing.T) {
	t.Parallel()
	r, m := newRegistry(t), newServiceManager(t)
	q := startRSP(t, register(r, "--policy", "WRR:1")...)
	q.says("registered as")
	p := m.start(register(r, "--notify", "--", "/bin/sh", "-c", "exec sleep 600")...)
	m.hears(hearsStop, "READY")
	if status := p.wait(); status != exitRefused {
		t.Errorf("status %d, want %d", status, exitRefused)
	}
}

// TestNotifyNobody: without a manager, --notify says so. A manager that is gone or hangs is logged
// once, and holds nothing up for long.
func TestNotifyNobody(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	p := startRSP(t, register(r, "--notify")...)
	p.says("--notify has no effect")
	p.says("registered as")
	m := newServiceManager(t)
	_, path, _ := strings.Cut(m.env, "=")
	for name, at := range map[string]string{"gone": path + "x", "hangs": path} {
		out := newReader()
		full := &manager{at: &net.UnixAddr{Name: at, Net: "unixgram"}, log: &logger{w: out, level: quiet}}
		begin := time.Now()
		for i := 0; !full.failed; i++ {
			if i > 100_000 {
				t.Fatalf("%s: no message fails", name)
			}
			full.tell(pe.Event{Type: pe.Registered})
		}
		full.mu.Lock()
		full.at.Name = path + "x" // fails at once
		full.mu.Unlock()
		full.stop()
		if d := time.Since(begin); d > here.Paced(t, 5*managerTime) {
			t.Errorf("%s: held up for %v", name, d)
		}
		if got := out.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "cannot tell the service manager the state (NOTIFY_SOCKET): ") {
			t.Errorf("%s: log %q", name, got)
		}
	}
}

// TestNotifyReadyAgain: a manager that could not be told that the service is ready, such as one that
// was being restarted, is told with the next event, or some time later, and once. Otherwise systemd
// would end the service after TimeoutStartSec.
func TestNotifyReadyAgain(t *testing.T) {
	registered := pe.Event{Type: pe.Registered, ID: 1, Registrar: "192.0.2.1:3863"}
	const ready = "READY=1\nSTATUS="
	// unheard makes a manager that did not hear of the registration, and does not until move is called.
	unheard := func(t *testing.T) (x *serviceManager, m *manager, move func()) {
		x = newServiceManager(t)
		_, path, _ := strings.Cut(x.env, "=")
		out := newReader()
		m = &manager{at: &net.UnixAddr{Name: path + "x", Net: "unixgram"}, log: &logger{w: out, level: quiet}}
		t.Cleanup(func() {
			if got := out.String(); strings.Count(got, "\n") != 1 {
				t.Errorf("log %q, want one line", got)
			}
		})
		m.tell(registered)
		time.Sleep(readyAgain + readyAgain/2) // it has tried again once
		return x, m, func() {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.at.Name = path
		}
	}
	for name, c := range map[string]struct {
		next func(*manager)
		want string
	}{
		"event": {func(m *manager) { m.tell(pe.Event{Type: pe.HomeChanged, Registrar: "192.0.2.2:3863"}) }, "registrar 192.0.2.2:3863 has taken over as home registrar"},
		"check": {func(m *manager) { m.onCheck(errors.New("too slow")) }, "check fails: too slow"},
		"time":  {func(*manager) { time.Sleep(readyAgain) }, registered.String()},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x, m, move := unheard(t)
				move()
				c.next(m)
				synctest.Wait()
				if got := x.waiting(); len(got) != 1 || got[0] != ready+c.want {
					t.Errorf("heard %q, want %q", got, ready+c.want)
				}
				m.tell(registered)
				time.Sleep(3 * readyAgain)
				synctest.Wait()
				if got := x.waiting(); len(got) != 1 || !strings.HasPrefix(got[0], "STATUS=") {
					t.Errorf("heard %q, want one status", got)
				}
			})
		})
	}
	t.Run("stopping", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			x, m, move := unheard(t)
			move()
			m.stop()
			time.Sleep(3 * readyAgain)
			synctest.Wait()
			if got := x.waiting(); len(got) != 1 || got[0] != hearsStop {
				t.Errorf("heard %q, want %q", got, hearsStop)
			}
		})
	})
}

// TestStatus: a status is one line of valid text, and not too long.
func TestStatus(t *testing.T) {
	if got, want := status("a\nREADY=1\r b\xff"), "a READY=1 b"; got != want {
		t.Errorf("Got %q, want %q", got, want)
	}
	if got := status(strings.Repeat("ü", maxStatus)); len(got) > maxStatus || strings.Trim(got, "ü") != "" {
		t.Errorf("Got %d bytes: %q", len(got), got)
	}
}
