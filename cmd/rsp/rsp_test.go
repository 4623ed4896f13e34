package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/registrar"
	"github.com/rserpool/coredns-rserpool/registrar/host"
	"github.com/rserpool/coredns-rserpool/rserpool"
	"github.com/rserpool/coredns-rserpool/test/here"
	"go.uber.org/goleak"
)

// asMain makes the test binary run as rsp.
const asMain = "RSP_TEST_AS_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(asMain) != "" {
		main()
	}
	here.Signals()
	// Most tests wait for processes and timers; more processors would not help.
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
	tls  rserpool.TLSFiles
}

func newRegistry(t *testing.T) *registry {
	t.Helper()
	port := here.FreePort(t)
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

// elements asks the registrar for a pool's elements, as a pool user does.
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

// has waits until the pool has n elements, and returns them.
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
	status, _ = run(args, &out, &errs)
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

// withEnv makes the test binary run as rsp.
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

// wait waits for the end and returns the exit status, as a shell has it: 128 + N if signal
// N has ended rsp.
func (p *proc) wait() int {
	p.t.Helper()
	select {
	case <-p.end:
	case <-time.After(patience):
		p.t.Fatalf("rsp does not end:\n%s", p)
	}
	if s := p.endedBy(); s != 0 {
		return 128 + int(s)
	}
	return p.cmd.ProcessState.ExitCode()
}

// endedBy is the signal that has ended rsp, 0 for none, after wait.
func (p *proc) endedBy() syscall.Signal {
	if ws, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return ws.Signal()
	}
	return 0
}

func (p *proc) says(text string) {
	p.t.Helper()
	eventually(p.t, "rsp says "+text, func() bool { return strings.Contains(p.String(), text) })
}

func register(r *registry, more ...string) []string {
	return append([]string{"register", "--pool", "web", "--serve", "tcp:8080", "--via", "udp", "--registrar", r.at}, more...)
}

// slow skips a test of more than two seconds in `make short`.
func slow(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("takes some seconds")
	}
}
