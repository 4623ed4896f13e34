package hostile

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	stdlog "log"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coredns/caddy"
	_ "github.com/coredns/coredns/core"
	"github.com/coredns/coredns/core/dnsserver"
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/metrics"
	clog "github.com/coredns/coredns/plugin/pkg/log"
	_ "github.com/rserpool/coredns-rserpool/plugin/rserpool"
	"github.com/rserpool/coredns-rserpool/rserpool"
	"github.com/rserpool/coredns-rserpool/test/here"
)

var (
	long = flag.Bool("long", false, "larger attacks that last longer")
	// slow is how many times slower than usual everything may be.
	slow time.Duration = 1
	// openFiles is how many descriptors servers may have; 0 is no limit.
	openFiles int
)

// serverEnv holds the Corefile for the process that is to be a server.
const serverEnv = "HOSTILE_COREFILE"

func TestMain(m *testing.M) {
	if text := os.Getenv(serverEnv); text != "" {
		if err := serve(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	here.Signals()
	os.Exit(m.Run())
}

// serve is CoreDNS until the end of standard input. It first writes where it
// serves DNS over UDP and TCP, and then for each line that it reads what it costs: after a
// garbage collection if the line is "rest".
func serve(text string) error {
	clog.Discard()
	stdlog.SetOutput(io.Discard)
	caddy.Quiet, dnsserver.Quiet = true, true
	at := slices.Index(dnsserver.Directives, "kubernetes")
	if err := dnsserver.SetDirectives(slices.Insert(slices.Clone(dnsserver.Directives), at, "rserpool")); err != nil {
		return err
	}
	inst, err := caddy.Start(caddy.CaddyfileInput{Contents: []byte(text), Filepath: "Corefile", ServerTypeName: "dns"})
	if err != nil {
		return err
	}
	fmt.Println(inst.Servers()[0].LocalAddr(), inst.Servers()[0].Addr())
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		if in.Text() == "rest" {
			runtime.GC()
			runtime.GC() // what pools hold goes with the second
		}
		if err := json.NewEncoder(os.Stdout).Encode(measure()); err != nil {
			return err
		}
	}
	return nil
}

// cost is what a server costs at one moment.
type cost struct {
	Heap       int // bytes
	Stack      int // bytes
	Goroutines int
	Files      int
	CPU        time.Duration // since the start of the process
}

func measure() (c cost) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	c.Heap, c.Stack, c.Goroutines = int(m.HeapAlloc), int(m.StackInuse), runtime.NumGoroutine()
	if list, err := os.ReadDir("/proc/self/fd"); err == nil {
		c.Files = len(list)
	}
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) == nil {
		c.CPU = time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	return c
}

// server is a registrar with DNS in a process of its own.
type server struct {
	t       *testing.T
	asap    netip.AddrPort // over TCP, and the SCTP port
	encap   uint16
	via     rserpool.Via      // of honest elements
	tls     rserpool.TLSFiles // of honest elements, if the server has TLS
	dns     string            // over UDP
	dnsTCP  string
	metrics string

	mu  sync.Mutex
	in  io.WriteCloser
	out *bufio.Reader
}

// zone is where the pools are in DNS.
const zone = "pool.example.org."

// startServer starts a server with options of the plugin, one a line.
func startServer(t *testing.T, options ...string) *server {
	t.Helper()
	return startServerOver(t, "udp", here.FreePort(t), options...)
}

// startServerOver is startServer with a transport, which has the UDP port.
func startServerOver(t *testing.T, transport string, encap uint16, options ...string) *server {
	t.Helper()
	s := &server{
		t:       t,
		asap:    netip.AddrPortFrom(loopback, here.FreePort(t)),
		encap:   encap,
		via:     map[string]rserpool.Via{"udp": rserpool.ViaUDP, "kernel": rserpool.ViaKernel}[transport],
		metrics: fmt.Sprintf("127.0.0.1:%d", here.FreePort(t)),
	}
	cmd := exec.Command(os.Args[0])
	if openFiles > 0 {
		cmd = exec.Command("sh", "-c", fmt.Sprintf(`ulimit -n %d && exec "$0"`, openFiles), os.Args[0])
	}
	cmd.Env = append(os.Environ(), serverEnv+"="+fmt.Sprintf(`%s:0 {
		bind 127.0.0.1
		prometheus %s
		rserpool {
			asap %v
			encap %d
			transport %s
			timer KEEP-ALIVE-INTERVAL 1s
			timer PROBE-TIMEOUT 2s
			%s
		}
	}`, zone, s.metrics, s.asap, s.encap, transport, strings.Join(options, "\n")))
	cmd.Stderr = os.Stderr
	var err error
	if s.in, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	s.out = bufio.NewReader(out)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = s.in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("server: %v", err)
		}
	})
	line, err := s.out.ReadString('\n')
	if err != nil {
		t.Fatalf("server does not start: %v", err)
	}
	if s.dns, s.dnsTCP, _ = strings.Cut(strings.TrimSpace(line), " "); s.dnsTCP == "" {
		t.Fatalf("server serves at %q, want two addresses", line)
	}
	return s
}

var loopback = netip.MustParseAddr("127.0.0.1")

// encapAddr is where the server takes SCTP in UDP.
func (s *server) encapAddr() netip.AddrPort { return netip.AddrPortFrom(s.asap.Addr(), s.encap) }

// now asks the server what it costs now.
func (s *server) now() cost { return s.ask("now") }

// rest asks the server what it costs after a garbage collection.
func (s *server) rest() cost { return s.ask("rest") }

func (s *server) ask(what string) (c cost) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := fmt.Fprintln(s.in, what); err != nil {
		s.t.Fatalf("server: %v", err)
	}
	line, err := s.out.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &c)
	}
	if err != nil {
		s.t.Fatalf("server: %v", err)
	}
	return c
}

// stat reads a metric; name has its labels but for registrar. What is not
// there is 0.
func (s *server) stat(name, labels string) int {
	s.t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
	r, err := client.Get("http://" + s.metrics + "/metrics")
	if err != nil {
		s.t.Fatal(err)
	}
	defer r.Body.Close()
	sum := 0.0
	for in := bufio.NewScanner(r.Body); in.Scan(); {
		rest, ok := strings.CutPrefix(in.Text(), "coredns_rserpool_"+name+"{")
		if !ok || !strings.Contains(rest, labels) {
			continue
		}
		v, err := strconv.ParseFloat(rest[strings.LastIndex(rest, " ")+1:], 64)
		if err != nil {
			s.t.Fatal(err)
		}
		sum += v
	}
	return int(sum)
}

// wait asks again and again until ok.
func wait(t *testing.T, what string, ok func() bool) {
	t.Helper()
	waitFor(t, func() string {
		if ok() {
			return ""
		}
		return "no " + what
	})
}

// waitFor asks again and again until nothing is missing any more.
func waitFor(t *testing.T, missing func() string) {
	t.Helper()
	patience := here.Paced(t, 30*time.Second)
	for start := time.Now(); ; {
		what := missing()
		if what == "" {
			return
		}
		took := time.Since(start)
		if took > patience {
			t.Fatalf("%s within %v", what, patience)
		}
		// Each try takes time of the processor that the test waits for.
		time.Sleep(min(max(10*time.Millisecond, took/20), 200*time.Millisecond))
	}
}

// ceiling is what an attack may cost the server.
type ceiling struct {
	heap       int           // bytes more than before, while the attack lasts
	goroutines int           // more than before
	files      int           // more than before
	cpu        time.Duration // per packet or message of the attack; 0 if it is not about that
	left       int           // bytes of the heap that tables may keep; 0 is 2 MiB
}

// siege is a server with honest elements and users, to be attacked.
type siege struct {
	*server
	honest *honest
	before cost
	max    cost
}

// beginSiege starts a server with honest elements and users.
func beginSiege(t *testing.T, options ...string) *siege {
	t.Helper()
	s := startServer(t, options...)
	g := &siege{server: s, honest: s.beHonest(honestElements)}
	g.before = s.rest()
	g.max = g.before
	return g
}

// watch takes in what the server costs now, with all of the attack in place.
func (g *siege) watch() {
	c := g.rest()
	g.max.Heap, g.max.Goroutines, g.max.Files = max(g.max.Heap, c.Heap), max(g.max.Goroutines, c.Goroutines), max(g.max.Files, c.Files)
	g.max.CPU = c.CPU
}

// elements waits until there are so many elements besides the honest ones.
func (g *siege) elements(n int) {
	g.t.Helper()
	waitFor(g.t, func() string {
		if got, want := g.stat("elements", ""), g.honest.elements+n; got != want {
			return fmt.Sprintf("%d elements instead of %d", got, want)
		}
		return ""
	})
}

// check compares what an attack of n packets has cost with its ceiling. What
// honest peers cost meanwhile is in it.
func (g *siege) check(n int, c ceiling) {
	g.t.Helper()
	g.watch()
	used := g.max.CPU - g.before.CPU
	each := used / time.Duration(max(n, 1))
	g.t.Logf("%d packets: heap %+d KiB, goroutines %+d, files %+d, CPU %v, %v each",
		n, (g.max.Heap-g.before.Heap)>>10, g.max.Goroutines-g.before.Goroutines, g.max.Files-g.before.Files, used.Round(time.Millisecond), each)
	if got := g.max.Heap - g.before.Heap; got > c.heap {
		g.t.Errorf("heap has grown by %d KiB, want at most %d", got>>10, c.heap>>10)
	}
	if got := g.max.Goroutines - g.before.Goroutines; got > c.goroutines {
		g.t.Errorf("%d goroutines more, want at most %d", got, c.goroutines)
	}
	if got := g.max.Files - g.before.Files; got > c.files {
		g.t.Errorf("%d descriptors more, want at most %d", got, c.files)
	}
	if c.cpu > 0 && each > c.cpu*slow {
		g.t.Errorf("%v of processor time for each packet, want at most %v", each, c.cpu*slow)
	}
}

// end checks that honest peers noticed nothing, and that the server is back
// where it was. The attackers are gone.
func (g *siege) end(c ceiling) {
	g.t.Helper()
	g.honest.check()
	if c.left == 0 {
		c.left = 2 << 20
	}
	var now cost
	patience := here.Paced(g.t, 30*time.Second)
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		now = g.rest()
		if now.Heap <= g.before.Heap+c.left && now.Goroutines <= g.before.Goroutines && now.Files <= g.before.Files {
			break
		}
		if time.Now().After(deadline) {
			g.t.Errorf("at rest %v after the attack: heap %+d KiB, goroutines %+d, files %+d", patience,
				(now.Heap-g.before.Heap)>>10, now.Goroutines-g.before.Goroutines, now.Files-g.before.Files)
			break
		}
	}
	g.t.Logf("afterwards: heap %+d KiB", (now.Heap-g.before.Heap)>>10)
	if n := g.stat("panics_total", "") + g.stat("transport_panics_total", ""); n != 0 {
		g.t.Errorf("server has survived %d panics", n)
	}
}
