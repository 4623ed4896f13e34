package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/registrar"
	"github.com/rserpool/coredns-rserpool/registrar/host"
	"github.com/rserpool/coredns-rserpool/rserpool"
	"github.com/rserpool/coredns-rserpool/test/here"
	"go.uber.org/goleak"
)

// asMain has the test binary be rsp.
const asMain = "RSP_TEST_AS_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(asMain) != "" {
		main()
	}
	here.Signals()
	// Most tests wait for processes and timers, and not for a processor.
	flag.Parse()
	_ = flag.Set("test.parallel", "8")
	goleak.VerifyTestMain(m)
}

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// registry is a registrar on loopback, over SCTP in UDP and TCP.
type registry struct {
	*host.Host
	at   string // for --registrar
	enrp string // the same for peers and dump, if it serves ENRP
}

func newRegistry(t *testing.T) *registry {
	t.Helper()
	port := freePort(t)
	return registryAt(t, port, port)
}

func registryAt(t *testing.T, port, encap uint16) *registry {
	t.Helper()
	return startRegistry(t, host.Config{
		Config: registrar.Config{Timers: registrar.Timers{
			KeepAliveInterval: 500 * time.Millisecond,
		}},
		ASAP:      []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)},
		Via:       rserpool.ViaUDP,
		EncapPort: encap,
		Logger:    slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
}

func startRegistry(t *testing.T, cfg host.Config) *registry {
	t.Helper()
	cfg.CloseTimeout = time.Second
	var h *host.Host
	eventually(t, "the former registrar has left its ports", func() bool {
		var err error
		if h, err = host.Open(cfg); err != nil && !errors.Is(err, syscall.EADDRINUSE) {
			t.Fatal(err)
		}
		return err == nil
	})
	r := &registry{Host: h, at: fmt.Sprintf("%v/%d", h.LocalAddrs()[0], cfg.EncapPort)}
	t.Cleanup(r.close)
	return r
}

func (r *registry) close() {
	_ = r.Close()
}

// portsGiven counts the ports that freePort has looked at.
var portsGiven atomic.Uint32

// freePort gives a port that is free for UDP and TCP: a registrar takes both. No other
// test of this process gets it, and the kernel gives it to no socket that takes any
// port: those are 32768 and more.
func freePort(t *testing.T) uint16 {
	t.Helper()
	for range 1000 {
		at := fmt.Sprintf("127.0.0.1:%d", 12000+(307*uint32(os.Getpid())+portsGiven.Add(1))%20000)
		u, err := net.ListenPacket("udp", at)
		if err != nil {
			continue
		}
		l, err := net.Listen("tcp", at)
		u.Close()
		if err == nil {
			l.Close()
			return uint16(l.Addr().(*net.TCPAddr).Port)
		}
	}
	t.Fatal("no port is free for UDP and TCP")
	return 0
}

// elements asks the registrar for a pool's elements, as a user would.
func (r *registry) elements(t *testing.T, pool string) []jsonElement {
	t.Helper()
	out, errs, status := rsp(t, "resolve", "--json", "--via", "tcp", "-n", "100", "--registrar", r.at, pool)
	if status == exitRefused {
		return nil
	}
	if status != exitOK {
		t.Fatalf("rsp resolve: status %d\n%s", status, errs)
	}
	var res jsonResolution
	if err := json.Unmarshal([]byte(out), &res); err != nil {
		t.Fatalf("%v in %q", err, out)
	}
	return res.Elements
}

// has waits until the pool has n elements, and gives them.
func (r *registry) has(t *testing.T, pool string, n int) []jsonElement {
	t.Helper()
	var list []jsonElement
	eventually(t, fmt.Sprintf("pool %s has %d elements", pool, n), func() bool {
		list = r.elements(t, pool)
		return len(list) == n
	})
	return list
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for start := time.Now(); !f(); time.Sleep(20 * time.Millisecond) {
		if time.Since(start) > patience {
			t.Fatalf("waited %v in vain: %s", patience, what)
		}
	}
}

// rsp runs a command line in this process.
func rsp(t *testing.T, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	var out, errs bytes.Buffer
	status = run(args, &out, &errs)
	return out.String(), errs.String(), status
}

// proc is rsp in a process of its own.
type proc struct {
	t   *testing.T
	cmd *exec.Cmd
	mu  sync.Mutex
	out bytes.Buffer
	end chan struct{}
}

func startRSP(t *testing.T, args ...string) *proc {
	t.Helper()
	p := newProc(t, args...)
	p.start(args)
	return p
}

func newProc(t *testing.T, args ...string) *proc {
	p := &proc{t: t, cmd: withEnv(exec.Command(os.Args[0], args...)), end: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p, p
	return p
}

// withEnv has the test binary be rsp.
func withEnv(cmd *exec.Cmd, more ...string) *exec.Cmd {
	cmd.Env = append(append(os.Environ(), asMain+"=1"), more...)
	return cmd
}

// start starts the process, and kills it at the end of the test.
func (p *proc) start(args []string) {
	t := p.t
	t.Helper()
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.end)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.end
		if t.Failed() {
			t.Logf("rsp %s\n%s", strings.Join(args, " "), p)
		}
	})
}

func (p *proc) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.Write(b)
}

func (p *proc) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

func (p *proc) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Error(err)
	}
}

// wait waits for the end and gives the exit status.
func (p *proc) wait() int {
	p.t.Helper()
	select {
	case <-p.end:
	case <-time.After(patience):
		p.t.Fatalf("rsp does not end:\n%s", p)
	}
	return p.cmd.ProcessState.ExitCode()
}

func (p *proc) says(text string) {
	p.t.Helper()
	eventually(p.t, "rsp says "+text, func() bool { return strings.Contains(p.String(), text) })
}

func register(r *registry, more ...string) []string {
	return append([]string{"register", "--pool", "web", "--serve", "tcp:8080", "--via", "udp", "--registrar", r.at}, more...)
}

// TestRegisterResolveEnd: register, resolve over each transport, SIGTERM, gone.
func TestRegisterResolveEnd(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	for _, sig := range []os.Signal{syscall.SIGTERM, os.Interrupt} {
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
	// Stats are a tenth of a second old at most.
	eventually(t, "the registrar counts both deregistrations", func() bool { return r.Stats().Deregistrations == 2 })
	s := r.Stats()
	if n := s.KeepAlivesTimedOut + s.KeepAlivesUnexpected + s.Malformed + s.Misplaced + s.ErrorsSent + s.ErrorsReceived + s.SendsFailed; n != 0 {
		t.Errorf("the registrar has something to complain of: %+v", s)
	}
}

// TestRegisterCommand: the element is there while the command is.
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
		// Deregistered first, so that no user comes any more.
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
		p := startRSP(t, "register", "-p", "web", "-s", "tcp:1", "--via", "udp", "-r", fmt.Sprintf("127.0.0.1/%d", freePort(t)),
			"--", "/bin/sh", "-c", "trap 'exit 0' TERM; echo ready; while :; do sleep 0.05; done")
		p.says("ready")
		p.signal(syscall.SIGTERM)
		if status := p.wait(); status != 0 {
			t.Errorf("status %d", status)
		}
	})
}

// TestRegisterCheck: the element comes with the check and goes with it.
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

// TestRegisterLoad: the load of a file is told.
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

// TestRegisterFailover: the registrar ends; the element goes to the next one,
// with its identifier.
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

// TestRegisterRegistrarComesLater: rsp waits for a registrar, and says so.
func TestRegisterRegistrarComesLater(t *testing.T) {
	t.Parallel()
	port, encap := freePort(t), freePort(t)
	p := startRSP(t, "register", "-p", "web", "-s", "tcp:80", "--via", "udp", "-r", fmt.Sprintf("127.0.0.1:%d/%d", port, encap))
	p.says(fmt.Sprintf("no registrar could be reached: 127.0.0.1:%d/%d: ", port, encap))
	r := registryAt(t, port, encap)
	r.has(t, "web", 1)
	p.signal(syscall.SIGTERM)
	if status := p.wait(); status != exitOK {
		t.Errorf("status %d", status)
	}
}

// TestRegisterRejected: rsp ends, with the cause in words.
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
	}
	r.has(t, "web", 1)
	p.signal(syscall.SIGTERM)
	p.wait()
}

// TestWatch: the table comes again at each change.
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

// TestUnreachable: the registrar asks the reported element, which answers and
// stays.
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

// TestNoRegistrar: the errors say who could not be reached, and why.
func TestNoRegistrar(t *testing.T) {
	at := fmt.Sprintf("127.0.0.1:3863/%d", freePort(t))
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
		{"silent", []string{"resolve", "--timeout", "300ms", "--via", "tcp", "-r", l.Addr().String(), "web"}, []string{l.Addr().String() + " accepts the association but"}},
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
