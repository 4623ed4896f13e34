package main

import (
	"fmt"
	"github.com/rserpool/coredns-rserpool/test/here"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestRegisterResolveEnd: register, resolve over each transport, SIGTERM, deregistered.
func TestRegisterResolveEnd(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	for _, sig := range endAlone {
		p := startRSP(t, register(r, "--id", "0x0d000001", "--policy", "LeastUsed:25%", "--address", "127.0.0.1")...)
		list := r.has(t, "web", 1)
		e := list[0]
		if e.ID != "0d000001" || e.Home != r.ID().String() || e.Protocol != "tcp" || e.Port != 8080 || !slices.Equal(e.Addresses, []string{"127.0.0.1"}) ||
			e.Policy != "LeastUsed" || e.Load == nil || *e.Load != 0.25 || e.Life != 90000 {
			t.Errorf("element %+v is not as registered", e)
		}
		for _, via := range []string{"udp", "tcp"} {
			out, errs, status := rsp(t, "resolve", "--via", via, "--registrar", r.at, "web")
			if status != exitOK || !strings.Contains(out, "0d000001") || !strings.Contains(out, "tcp:8080") || !strings.Contains(out, "load 25.0%") {
				t.Errorf("rsp resolve --via %s: status %d\n%s%s", via, status, out, errs)
			}
		}
		before := r.Stats().KeepAlivesAcked
		eventually(t, "three more keep-alives are acknowledged", func() bool { return r.Stats().KeepAlivesAcked >= before+3 })
		r.has(t, "web", 1)
		p.signal(sig)
		if status := p.wait(); status != exitOK {
			t.Errorf("status %d after %v", status, sig)
		}
		p.says("deregistered 0d000001")
		if list := r.elements(t, "web"); list != nil {
			t.Errorf("%d elements after %v", len(list), sig)
		}
	}
	// Stats are at most 100 ms old.
	eventually(t, "the registrar counts all deregistrations", func() bool { return r.Stats().Deregistrations == uint64(len(endAlone)) })
	s := r.Stats()
	if n := s.KeepAlivesTimedOut + s.KeepAlivesUnexpected + s.Malformed + s.Misplaced + s.ErrorsSent + s.ErrorsReceived + s.SendsFailed; n != 0 {
		t.Errorf("the registrar has something to complain of: %+v", s)
	}
}

// TestRegisterCommand: the element is registered while the command runs.
func TestRegisterCommand(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	dir := t.TempDir()
	script := func(text string) []string { return register(r, "--", "/bin/sh", "-c", text) }

	t.Run("ends by itself", func(t *testing.T) {
		stop := filepath.Join(dir, "stop")
		p := startRSP(t, script(fmt.Sprintf("while [ ! -e '%s' ]; do sleep 0.05; done; exit 7", stop))...)
		r.has(t, "web", 1)
		if err := os.WriteFile(stop, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if status := p.wait(); status != 7 {
			t.Errorf("status %d, want the command's 7", status)
		}
		r.has(t, "web", 0)
	})
	t.Run("SIGTERM", func(t *testing.T) {
		p := startRSP(t, script("trap 'echo terminated; exit 9' TERM; while :; do sleep 0.05; done")...)
		r.has(t, "web", 1)
		p.signal(syscall.SIGTERM)
		if status := p.wait(); status != 9 {
			t.Errorf("status %d, want the command's 9", status)
		}
		// Deregistered first, so that no new client connects.
		out := p.String()
		if i, j := strings.Index(out, "deregistered"), strings.Index(out, "terminated"); i < 0 || j < i {
			t.Errorf("want the element deregistered before the command is terminated:\n%s", out)
		}
	})
	t.Run("killed by a signal", func(t *testing.T) {
		p := startRSP(t, script("sleep 0.3; kill -KILL $$")...)
		if status := p.wait(); status != 137 {
			t.Errorf("status %d, want 137", status)
		}
	})
	t.Run("other signals", func(t *testing.T) {
		p := startRSP(t, script("trap 'echo reloaded' HUP; trap 'exit 0' TERM; echo ready; while :; do sleep 0.05; done")...)
		p.says("ready")
		p.signal(syscall.SIGHUP)
		p.says("reloaded")
		r.has(t, "web", 1)
		p.signal(syscall.SIGTERM)
		if status := p.wait(); status != 0 {
			t.Errorf("status %d", status)
		}
	})
	t.Run("no such command", func(t *testing.T) {
		for command, text := range map[string]string{
			"/no/such/command":       "rsp: cannot run /no/such/command: no such file or directory\n",
			"no-such-command-at-all": "rsp: cannot run no-such-command-at-all: executable file not found in $PATH\n",
		} {
			p := startRSP(t, register(r, "--", command)...)
			if status := p.wait(); status != 127 {
				t.Errorf("status %d, want 127", status)
			}
			p.says(text)
		}
	})
	t.Run("no registrar, SIGTERM", func(t *testing.T) {
		p := startRSP(t, "register", "-p", "web", "-s", "tcp:1", "--via", "udp", "-r", fmt.Sprintf("127.0.0.1/%d", here.FreePort(t)),
			"--", "/bin/sh", "-c", "trap 'exit 0' TERM; echo ready; while :; do sleep 0.05; done")
		p.says("ready")
		p.signal(syscall.SIGTERM)
		if status := p.wait(); status != 0 {
			t.Errorf("status %d", status)
		}
	})
}

// TestRegisterCheck: the element is registered while the check passes.
func TestRegisterCheck(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	var mu sync.Mutex
	status := http.StatusServiceUnavailable
	set := func(s int) {
		mu.Lock()
		defer mu.Unlock()
		status = s
	}
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		w.WriteHeader(status)
	}))
	defer web.Close()
	p := startRSP(t, "register", "-p", "web", "-s", "tcp:"+web.URL[strings.LastIndex(web.URL, ":")+1:], "--via", "udp", "-r", r.at,
		"--check", "http:/health", "--check-interval", "100ms", "--check-fail", "2", "--check-rise", "2")
	p.says("check fails: GET")
	if list := r.elements(t, "web"); list != nil {
		t.Error("registered before the check passes")
	}
	set(http.StatusOK)
	r.has(t, "web", 1)
	set(http.StatusInternalServerError)
	r.has(t, "web", 0)
	p.says("deregistered")
	set(http.StatusNoContent)
	r.has(t, "web", 1)
	p.signal(syscall.SIGTERM)
	if status := p.wait(); status != exitOK {
		t.Errorf("status %d", status)
	}
	r.has(t, "web", 0)
}

// TestRegisterLoad: the load of a file is sent to the registrar.
func TestRegisterLoad(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	path := filepath.Join(t.TempDir(), "load")
	write := func(s string) {
		err := os.WriteFile(path+".new", []byte(s), 0o600)
		if err == nil {
			err = os.Rename(path+".new", path) // at no time is it empty
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	write("0.5\n")
	p := startRSP(t, register(r, "--policy", "LUD:degradation=10%", "--load", "file:"+path, "--load-interval", "50ms")...)
	loadIs := func(want string) {
		t.Helper()
		eventually(t, "load is "+want, func() bool {
			list := r.elements(t, "web")
			return len(list) == 1 && fmt.Sprintf("%.2f %.2f", *list[0].Load, *list[0].Degradation) == want
		})
	}
	loadIs("0.50 0.10")
	write("80%")
	loadIs("0.80 0.10")
	write("nonsense")
	p.says("is not a fraction")
	loadIs("0.80 0.10")
	p.signal(syscall.SIGTERM)
	p.wait()
}

// TestRegisterFailover: when the registrar ends, the element registers with the next one,
// with the same identifier.
func TestRegisterFailover(t *testing.T) {
	t.Parallel()
	r1, r2 := newRegistry(t), newRegistry(t)
	p := startRSP(t, "register", "-p", "web", "-s", "tcp:80", "-r", r1.at, "-r", r2.at, "--id", "5")
	r1.has(t, "web", 1)
	r1.close()
	if list := r2.has(t, "web", 1); list[0].ID != "00000005" {
		t.Errorf("element %s, want the same one", list[0].ID)
	}
	p.says("looking for a registrar")
	p.signal(syscall.SIGTERM)
	if status := p.wait(); status != exitOK {
		t.Errorf("status %d", status)
	}
	r2.has(t, "web", 0)
}

// TestRegisterRegistrarComesLater: rsp waits for a registrar, and logs that.
func TestRegisterRegistrarComesLater(t *testing.T) {
	t.Parallel()
	port, encap := here.FreePort(t), here.FreePort(t)
	p := startRSP(t, "register", "-p", "web", "-s", "tcp:80", "--via", "udp", "-r", fmt.Sprintf("127.0.0.1:%d/%d", port, encap))
	p.says(fmt.Sprintf("no registrar could be reached: 127.0.0.1:%d/%d: ", port, encap))
	r := registryAt(t, port, encap)
	r.has(t, "web", 1)
	p.signal(syscall.SIGTERM)
	if status := p.wait(); status != exitOK {
		t.Errorf("status %d", status)
	}
}

// TestRegisterRejected: rsp ends, and logs the cause in words.
func TestRegisterRejected(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	p := startRSP(t, register(r)...)
	r.has(t, "web", 1)
	for _, command := range [][]string{nil, {"--", "sleep", "60"}} {
		q := startRSP(t, register(r, append([]string{"--policy", "Random"}, command...)...)...)
		if status := q.wait(); status != exitRefused {
			t.Errorf("status %d, want %d", status, exitRefused)
		}
		q.says("policy differs from the pool's: the element has Random, the pool has RoundRobin: start the element with policy RoundRobin (rsp: --policy RoundRobin), or give it another pool")
		if got := strings.Contains(q.String(), "rsp: ending the command: registrar "); got != (command != nil) {
			t.Errorf("rsp says that it ends the command: %t\n%s", got, q)
		}
		if n := strings.Count(q.String(), "policy differs from the pool's"); n != 1 {
			t.Errorf("rsp says the reason %d times, want once:\n%s", n, q)
		}
	}
	r.has(t, "web", 1)
	p.signal(syscall.SIGTERM)
	p.wait()
}

// TestWatch: rsp prints the pool after each change.
func TestWatch(t *testing.T) {
	slow(t)
	t.Parallel()
	r := newRegistry(t)
	w := startRSP(t, "resolve", "--watch", "--json", "--via", "udp", "--registrar", r.at, "web")
	w.says(`knows no pool "web"`)
	p := startRSP(t, register(r, "--id", "1")...)
	w.says(`"00000001"`)
	q := startRSP(t, register(r, "--id", "2")...)
	w.says(`"00000002"`)
	p.signal(syscall.SIGTERM)
	p.wait()
	q.signal(syscall.SIGTERM)
	q.wait()
	eventually(t, "the watch sees the pool end", func() bool { return strings.Count(w.String(), "knows no pool") == 2 })
	w.signal(syscall.SIGTERM)
	if status := w.wait(); status != exitOK {
		t.Errorf("status %d", status)
	}
}

// TestUnreachable: the registrar sends the reported element a keep-alive; the element
// answers and stays.
func TestUnreachable(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	p := startRSP(t, register(r, "--id", "1")...)
	r.has(t, "web", 1)
	for _, via := range []string{"udp", "tcp"} {
		before := r.Stats().Unreachable
		if _, errs, status := rsp(t, "unreachable", "--via", via, "--registrar", r.at, "web", "pe-00000001"); status != exitOK {
			t.Errorf("via %s: status %d\n%s", via, status, errs)
		}
		eventually(t, "the registrar counts the report by "+via, func() bool { return r.Stats().Unreachable == before+1 })
	}
	r.has(t, "web", 1)
	p.signal(syscall.SIGTERM)
	p.wait()
}

// TestTimeout: silent registrars get all of the time, and leave half of it if others wait for
// their turn.
func TestTimeout(t *testing.T) {
	slow(t)
	r := newRegistry(t)
	startRSP(t, register(r)...)
	r.has(t, "web", 1)
	var silent []string
	for range 3 {
		l, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		silent = append(silent, fmt.Sprintf("127.0.0.1:3863/%d", l.LocalAddr().(*net.UDPAddr).Port))
	}
	named := func(list ...string) (args []string) {
		for _, at := range list {
			args = append(args, "-r", at)
		}
		return args
	}
	const timeout = time.Second
	for _, c := range []struct {
		name   string
		args   []string
		least  time.Duration
		status int
		says   string
	}{
		{"one", append(named(silent[0]), "resolve", "web"), timeout, exitUnreachable, silent[0] + ": no answer"},
		{"three", append(named(silent...), "resolve", "web"), timeout, exitUnreachable, silent[2] + ": no answer"},
		{"the fourth answers", append(named(append(silent, r.at)...), "resolve", "web", "--timeout", "4s"), 2 * time.Second, exitOK, ""},
		{"connect", append(named(silent[0]), "connect", "web"), timeout, exitUnreachable, ": no answer"},
		{"unreachable", append(named(silent[0]), "unreachable", "web", "1"), timeout, exitUnreachable, ": no answer"},
		{"no time", append(named(silent[0]), "resolve", "web", "--timeout", "1ns"), 0, exitUnreachable, ": no answer"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			start := time.Now()
			_, errs, status := rsp(t, append([]string{"--via", "udp", "--timeout", timeout.String()}, c.args...)...)
			if status != c.status || !strings.Contains(errs, c.says) {
				t.Errorf("status %d, want %d and %q in\n%s", status, c.status, c.says, errs)
			}
			if d := time.Since(start); d < c.least {
				t.Errorf("rsp gave up after %v, want at least %v", d, c.least)
			}
		})
	}
}

// TestNoRegistrar: the errors name the unreachable registrars and the reasons.
func TestNoRegistrar(t *testing.T) {
	at := fmt.Sprintf("127.0.0.1:3863/%d", here.FreePort(t))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { // takes connections, and says nothing
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(io.Discard, c); c.Close() }()
		}
	}()
	defer l.Close()
	for _, c := range []struct {
		name string
		args []string
		want []string
	}{
		{"udp", []string{"resolve", "--timeout", "2s", "--via", "udp", "-r", at, "web"}, []string{"rsp: no registrar could be reached: " + at + ": ", "is a registrar running there?"}},
		{"tcp", []string{"resolve", "--via", "tcp", "-r", "127.0.0.1:1", "-r", "127.0.0.1:2", "web"}, []string{"127.0.0.1:1: ", "127.0.0.1:2: ", "refused"}},
		{"unreachable", []string{"unreachable", "--via", "tcp", "-r", "127.0.0.1:1", "web", "5"}, []string{"127.0.0.1:1: ", "refused"}},
		{"silent", []string{"resolve", "--timeout", "300ms", "--via", "tcp", "-r", l.Addr().String(), "web"}, []string{l.Addr().String() + " accepts the association but", "The port of ENRP (9901)"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			start := time.Now()
			_, errs, status := rsp(t, c.args...)
			if status != exitUnreachable {
				t.Errorf("status %d, want %d", status, exitUnreachable)
			}
			for _, want := range c.want {
				if !strings.Contains(errs, want) {
					t.Errorf("%q is not in\n%s", want, errs)
				}
			}
			if d := time.Since(start); d > 5*time.Second {
				t.Errorf("took %v", d)
			}
		})
	}
}
