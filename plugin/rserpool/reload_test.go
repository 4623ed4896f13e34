package rserpool

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coredns/caddy"
	"github.com/miekg/dns"

	"github.com/rserpool/coredns-rserpool/asap/pe"
)

// resources counts what a leak would raise.
func resources(t *testing.T) (goroutines, files int) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("no /proc to count descriptors in")
	}
	return runtime.NumGoroutine(), len(fds)
}

// takenPort is a TCP port at which something listens until free, or the end of the test.
func takenPort(t *testing.T) (port int, free func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free = func() { _ = l.Close() }
	t.Cleanup(free)
	return l.Addr().(*net.TCPAddr).Port, free
}

// noLeak checks that no more is in use than before, when all has settled.
func noLeak(t *testing.T, goroutines, files int) {
	t.Helper()
	var g, f int
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		// A failed reload leaves copies of its listeners to the collector.
		runtime.GC()
		if g, f = resources(t); g <= goroutines && f <= files {
			return
		}
	}
	buf := make([]byte, 1<<20)
	t.Errorf("got %d goroutines and %d descriptors, before it were %d and %d\n%s", g, f, goroutines, files, buf[:runtime.Stack(buf, true)])
}

// TestServerReload: reloads lose neither a registration nor a query, and leave
// nothing behind.
func TestServerReload(t *testing.T) {
	goroutines, files := resources(t)
	p := freePorts(t)
	text := func(ttl int) string {
		return fmt.Sprintf("pool.example.org:0 {\n rserpool {\n%sttl %d\n}\n}", p.options(), ttl)
	}
	s := startServer(t, text(1))
	e := register(t, p, "web", 7)
	s.waitFor("answer", "web."+zoneZ, dns.TypeA, hasAnswer)

	stop := make(chan struct{})
	var asking sync.WaitGroup
	addr, failed := s.addr(), atomic.Pointer[string]{}
	asking.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			m, err := dns.Exchange(new(dns.Msg).SetQuestion("web."+zoneZ, dns.TypeA), addr)
			if err == nil && len(m.Answer) != 1 {
				err = errors.New(m.String())
			}
			// CoreDNS itself may lose a query that is in the old server's
			// socket buffer; a wrong answer would be ours.
			if err != nil && !os.IsTimeout(err) {
				text := err.Error()
				failed.Store(&text)
				return
			}
		}
	})
	for i := range 20 {
		if err := s.reload(text(2 + i)); err != nil {
			t.Fatalf("reload %d: %v", i, err)
		}
		if got := s.query("web."+zoneZ, dns.TypeA).Answer; len(got) != 1 || got[0].Header().Ttl != uint32(2+i) {
			t.Fatalf("after reload %d: got\n%s\nwant one record with the new TTL %d", i, lines(got), 2+i)
		}
	}
	close(stop)
	asking.Wait()
	if text := failed.Load(); text != nil {
		t.Errorf("a query during the reloads: %s", *text)
	}
	if n := e.count(pe.Registered); n != 1 || e.count(pe.HomeLost) != 0 || e.count(pe.NoRegistrar) != 0 {
		t.Errorf("pool element registered %d times and lost its home %d times, want 1 and 0", n, e.count(pe.HomeLost))
	}
	e.leave(t)
	s.waitFor("NXDOMAIN", "web."+zoneZ, dns.TypeA, isUnknown)
	s.stop()
	noLeak(t, goroutines, files)
}

// TestServerReloadRules: reloads change the rules of the running registrar. An element that
// they exclude stays registered, and is in the answers again when they admit it. A reload that
// fails changes nothing.
func TestServerReloadRules(t *testing.T) {
	taken, _ := takenPort(t)
	p := freePorts(t)
	text := func(lines string) string {
		return fmt.Sprintf("pool.example.org:0 {\n rserpool {\n%s%s\n}\n}\n", p.options(), lines)
	}
	const least, admit = "pool web policy LeastUsed\npool web ttl 1", "pool web policy RoundRobin"
	s := startServer(t, text("pool web"))
	e := register(t, p, "web", 7)
	s.waitFor("answer", "web."+zoneZ, dns.TypeA, hasAnswer)
	isEmpty := func(m *dns.Msg) bool { return m.Rcode == dns.RcodeSuccess && len(m.Answer) == 0 }
	for range 3 {
		if err := s.reload(text(least)); err != nil {
			t.Fatal(err)
		}
		s.waitFor("no answer", "web."+zoneZ, dns.TypeA, isEmpty)
		if err := s.reload(text(admit)); err != nil {
			t.Fatal(err)
		}
		s.waitFor("answer", "web."+zoneZ, dns.TypeA, hasAnswer)
		err := s.reload(text(least) + fmt.Sprintf("example.net:%d {\n bind 127.0.0.1\n whoami\n}\n", taken))
		if err == nil {
			t.Fatal("reload succeeded, want the taken port to fail it")
		}
		s.waitFor("answer", "web."+zoneZ, dns.TypeA, hasAnswer)
	}
	if n := e.count(pe.Registered); n != 1 || e.count(pe.HomeLost) != 0 {
		t.Errorf("pool element registered %d times and lost its home %d times, want 1 and 0", n, e.count(pe.HomeLost))
	}
	e.leave(t)
	s.waitFor("no answer", "web."+zoneZ, dns.TypeA, isEmpty)
}

// TestServerFailedReload: whatever is wrong with a new Corefile, and whenever
// it shows, the old one continues and nothing of the new one stays.
func TestServerFailedReload(t *testing.T) {
	goroutines, files := resources(t)
	taken, free := takenPort(t)
	p, p2 := freePorts(t), freePorts(t)
	good := "pool.example.org:0 {\n rserpool {\n" + p.options() + "}\n}\n"
	other := "other.example.org:0 {\n rserpool {\n" + p2.options() + "}\n}\n"
	late := fmt.Sprintf("example.net:%d {\n bind 127.0.0.1\n whoami\n}\n", taken)

	s := startServer(t, good)
	e := register(t, p, "web", 7)
	tests := []struct{ name, corefile, want string }{
		{"no Corefile", "pool.example.org:0 {\n", "Corefile:"},
		{"unknown plugin", "pool.example.org:0 {\n nothing\n}", "nothing"},
		{"wrong option", "pool.example.org:0 {\n rserpool {\n ttl forever\n}\n}", `Corefile:3 - Error during parsing: ttl: "forever"`},
		{"option of the running registrar", strings.Replace(good, "transport udp", "transport auto", 1), "transport auto, not udp"},
		{"failure after startup", good + late, "address already in use"},
		{"failure after the start of another registrar", good + other + late, "address already in use"},
		{"registrar cannot start", good + strings.Replace(other, fmt.Sprint(p2.asap), fmt.Sprint(taken), 1), "plugin"},
	}
	for range 3 {
		for _, tt := range tests {
			err := s.reload(tt.corefile)
			if err == nil {
				t.Fatalf("%s: reload succeeded", tt.name)
			}
			if tt.want != "plugin" && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s: got error %q, want one with %q", tt.name, err, tt.want)
			}
			if m := s.query("web."+zoneZ, dns.TypeA); len(m.Answer) != 1 {
				t.Fatalf("%s: after the failed reload got\n%s\nwant one address", tt.name, m)
			}
		}
	}
	if n := e.count(pe.Registered); n != 1 || e.count(pe.HomeLost) != 0 {
		t.Errorf("pool element registered %d times and lost its home %d times, want 1 and 0", n, e.count(pe.HomeLost))
	}
	// The second registrar's ports are free again.
	if err := s.reload(good + other); err != nil {
		t.Fatalf("good reload after the failed ones: %v", err)
	}
	register(t, p2, "mail", 8).leave(t)
	e.leave(t)
	free()
	s.stop()
	noLeak(t, goroutines, files)
}

// TestServerFailedFirstReload: the instance before had no rserpool block. The registrars of the
// failed reloads end all the same, and need no reload that succeeds.
func TestServerFailedFirstReload(t *testing.T) {
	taken, _ := takenPort(t)
	p := freePorts(t)
	s := startServer(t, "example.net:0 {\n whoami\n}")
	with := "pool.example.org:0 {\n rserpool {\n" + p.options() + "}\n}\n"
	for range 3 {
		if err := s.reload(with + fmt.Sprintf("example.net:%d {\n bind 127.0.0.1\n whoami\n}", taken)); err == nil {
			t.Fatal("reload succeeded, want the taken port to fail it")
		}
		eventually(t, "the registrar of the failed reload ends", func() bool { return running(t) == 0 })
	}
	if err := s.reload(with); err != nil {
		t.Fatal(err)
	}
	if n := running(t); n != 1 {
		t.Errorf("got %d registrars after the reload that succeeded, want 1", n)
	}
	if err := s.reload("example.net:0 {\n whoami\n}"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the registrar ends", func() bool { return running(t) == 0 })
}

// TestServerSecondReload: after that, a reload with other options for the same
// address is no change of a running registrar.
func TestServerSecondReload(t *testing.T) {
	taken, _ := takenPort(t)
	p := freePorts(t)
	good := "pool.example.org:0 {\n rserpool {\n" + p.options() + "}\n}\n"
	s := startServer(t, "example.net:0 {\n whoami\n}")
	if err := s.reload(good + fmt.Sprintf("example.net:%d {\n bind 127.0.0.1\n whoami\n}", taken)); err == nil {
		t.Fatal("reload succeeded, want the taken port to fail it")
	}
	if err := s.reload(strings.Replace(good, "transport udp", "transport auto", 1)); err != nil {
		t.Fatal(err)
	}
	register(t, p, "web", 7).leave(t)
}

// TestServerReloadPlugin reloads by the reload plugin, which watches the
// Corefile.
func TestServerReloadPlugin(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds: the reload plugin looks every two")
	}
	p := freePorts(t)
	text := func(ttl int) []byte {
		return fmt.Appendf(nil, "pool.example.org:0 {\n reload 2s 1s\n rserpool {\n%sttl %d\n}\n}", p.options(), ttl)
	}
	file := t.TempDir() + "/Corefile"
	write := func(ttl int) {
		if err := os.WriteFile(file, text(ttl), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(1)
	// The plugin reads the file again by the loader that gave it.
	caddy.SetDefaultCaddyfileLoader("test", caddy.LoaderFunc(func(string) (caddy.Input, error) {
		b, err := os.ReadFile(file)
		return caddy.CaddyfileInput{Contents: b, Filepath: file, ServerTypeName: "dns"}, err
	}))
	input, err := caddy.LoadCaddyfile("dns")
	if err != nil {
		t.Fatal(err)
	}
	inst, err := caddy.Start(input)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t, inst}
	addr := s.addr()
	e := register(t, p, "web", 7)
	write(2)
	for deadline := time.Now().Add(30 * time.Second); ; {
		m, err := dns.Exchange(new(dns.Msg).SetQuestion("web."+zoneZ, dns.TypeA), addr)
		if err == nil && len(m.Answer) == 1 && m.Answer[0].Header().Ttl == 2 {
			break
		}
		if err == nil && len(m.Answer) != 1 {
			t.Fatalf("during the reload: got\n%s", m)
		}
		if time.Now().After(deadline) {
			t.Fatalf("no reload within 30 s: %v, %v", m, err)
		}
	}
	if n := e.count(pe.Registered); n != 1 || e.count(pe.HomeLost) != 0 {
		t.Errorf("pool element registered %d times and lost its home %d times, want 1 and 0", n, e.count(pe.HomeLost))
	}
	// The old instance lets go last of all.
	eventually(t, "the old instance ends", func() bool { return leases() == 1 })
	for _, i := range caddy.Instances() {
		i.ShutdownCallbacks()
	}
	caddy.Stop()
}
