package rserpool

import (
	"context"
	"fmt"
	"io"
	stdlog "log"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coredns/caddy"
	_ "github.com/coredns/coredns/core"
	"github.com/coredns/coredns/core/dnsserver"
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/forward"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/log"
	_ "github.com/coredns/coredns/plugin/metrics"
	clog "github.com/coredns/coredns/plugin/pkg/log"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/reload"
	_ "github.com/coredns/coredns/plugin/view"
	_ "github.com/coredns/coredns/plugin/whoami"
	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rserpool/coredns-rserpool/asap/pe"
	"github.com/rserpool/coredns-rserpool/plugin/rserpool/internal/registrars"
	rsp "github.com/rserpool/coredns-rserpool/rserpool"
	"github.com/rserpool/coredns-rserpool/test/here"
)

func TestMain(m *testing.M) {
	clog.Discard()
	stdlog.SetOutput(io.Discard)
	caddy.Quiet, dnsserver.Quiet = true, true
	at := slices.Index(dnsserver.Directives, "kubernetes")
	if err := dnsserver.SetDirectives(slices.Insert(slices.Clone(dnsserver.Directives), at, pluginName)); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// running is the number of registrars of this process, by their metrics.
func running(t *testing.T) int {
	t.Helper()
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "coredns_rserpool_pools" {
			return len(f.GetMetric())
		}
	}
	return 0
}

// leases is the number of CoreDNS instances that have registrars.
func leases() (n int) {
	process.Sweep(func(*registrars.Lease) bool { n++; return true })
	return n
}

// server is a whole CoreDNS.
type server struct {
	t    *testing.T
	inst *caddy.Instance
}

func corefile(s string) caddy.Input {
	return caddy.CaddyfileInput{Contents: []byte(s), Filepath: "Corefile", ServerTypeName: "dns"}
}

// startServer starts CoreDNS; the end of the test stops it, as SIGTERM would.
func startServer(t *testing.T, text string) *server {
	t.Helper()
	inst, err := caddy.Start(corefile(text))
	if err != nil {
		t.Fatalf("%v with Corefile\n%s", err, text)
	}
	s := &server{t, inst}
	t.Cleanup(s.stop)
	return s
}

func (s *server) stop() {
	if s.inst == nil {
		return
	}
	// CoreDNS does not stop a server that has not begun to serve yet, but
	// lets it serve forever.
	for _, l := range s.inst.Servers() {
		for network, addr := range map[string]net.Addr{"udp": l.LocalAddr(), "tcp": l.Addr()} {
			c := dns.Client{Net: network, Timeout: 20 * time.Second}
			if _, _, err := c.Exchange(new(dns.Msg).SetQuestion(".", dns.TypeNS), addr.String()); err != nil {
				s.t.Errorf("before the stop: %v", err)
			}
		}
	}
	for _, err := range s.inst.ShutdownCallbacks() {
		s.t.Errorf("shutdown: %v", err)
	}
	if err := s.inst.Stop(); err != nil {
		s.t.Errorf("stop: %v", err)
	}
	s.inst = nil
}

// reload does what SIGUSR1 and the reload plugin do.
func (s *server) reload(text string) error {
	next, err := s.inst.Restart(corefile(text))
	s.inst = next
	return err
}

func (s *server) addr() string { return s.inst.Servers()[0].LocalAddr().String() }

// query asks the server, or the one of its servers that zones tell.
func (s *server) query(name string, qtype uint16) *dns.Msg {
	s.t.Helper()
	m, err := dns.Exchange(new(dns.Msg).SetQuestion(name, qtype), s.addr())
	if err != nil {
		s.t.Fatalf("%s: %v", name, err)
	}
	return m
}

// waitFor asks until the answer is what ok wants.
func (s *server) waitFor(what, name string, qtype uint16, ok func(*dns.Msg) bool) *dns.Msg {
	s.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; {
		m := s.query(name, qtype)
		if ok(m) {
			return m
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%s: no %s within 20 s; the last answer is\n%s", name, what, m)
		}
	}
}

func hasAnswer(m *dns.Msg) bool { return len(m.Answer) > 0 }
func isUnknown(m *dns.Msg) bool { return m.Rcode == dns.RcodeNameError }

// ports are free ports of a registrar's own on a loopback address.
type ports struct{ asap, encap int }

func freePorts(t *testing.T) ports {
	t.Helper()
	return ports{int(here.FreePort(t)), int(here.FreePort(t))}
}

// options are the Corefile lines of a registrar at these ports.
func (p ports) options() string {
	return fmt.Sprintf("asap 127.0.0.1:%d\nencap %d\ntransport udp\n", p.asap, p.encap)
}

// registered is a pool element that is registered, and what became of it.
type registered struct {
	cancel context.CancelFunc
	done   chan error
	lost   chan struct{} // has a value after pe.HomeLost
	events sync.Map      // pe.EventType to *atomic.Int32
}

func (r *registered) count(e pe.EventType) int {
	n, _ := r.events.LoadOrStore(e, new(atomic.Int32))
	return int(n.(*atomic.Int32).Load())
}

// leave deregisters.
func (r *registered) leave(t *testing.T) {
	t.Helper()
	r.cancel()
	if err := <-r.done; err != nil {
		t.Errorf("pool element: %v", err)
	}
}

// register starts a pool element, in TLS if there are files, and returns when it is
// registered.
func register(t *testing.T, p ports, pool string, id rsp.PEID, files ...rsp.TLSFiles) *registered {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &registered{cancel: cancel, done: make(chan error, 1), lost: make(chan struct{}, 1)}
	up := make(chan struct{}, 1)
	var trust rsp.TLSFiles
	for _, f := range files {
		trust = f
	}
	e, err := pe.Open(pe.Config{
		TLS:        trust,
		Pool:       rsp.PoolHandle(pool),
		ID:         id,
		Transport:  rsp.Transport{Type: rsp.TCP, Port: 8080, Addrs: addrs("127.0.0.1")},
		Policy:     rsp.Policy{Type: rsp.RoundRobin},
		Registrars: []string{fmt.Sprintf("127.0.0.1:%d/%d", p.asap, p.encap)},
		Via:        rsp.ViaUDP,
		Notify: func(e pe.Event) {
			n, _ := r.events.LoadOrStore(e.Type, new(atomic.Int32))
			n.(*atomic.Int32).Add(1)
			signal := map[pe.EventType]chan struct{}{pe.Registered: up, pe.HomeLost: r.lost}[e.Type]
			select {
			case signal <- struct{}{}:
			default: // nil, or full
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		select {
		case <-ctx.Done():
		case <-e.Done():
		}
		r.done <- e.Close()
	}()
	select {
	case <-up:
	case err := <-r.done:
		t.Fatalf("pool element: %v", err)
	case <-time.After(20 * time.Second):
		cancel()
		t.Fatal("pool element is not registered within 20 s")
	}
	t.Cleanup(cancel)
	return r
}

// TestServerAnswers goes the whole way: an element registers over SCTP in UDP,
// is in DNS answers, and leaves them.
func TestServerAnswers(t *testing.T) {
	p := freePorts(t)
	s := startServer(t, "pool.example.org:0 {\n rserpool {\n"+p.options()+"}\n}")
	if m := s.query("web."+zoneZ, dns.TypeA); !isUnknown(m) || len(m.Ns) != 1 {
		t.Fatalf("before the registration: got\n%s\nwant NXDOMAIN with the SOA", m)
	}
	e := register(t, p, "web", 7)
	m := s.waitFor("answer", "_http._tcp.web."+zoneZ, dns.TypeSRV, hasAnswer)
	if got, want := lines(m.Answer), "_http._tcp.web."+zoneZ+" 5 IN SRV 0 1 8080 pe-00000007.web."+zoneZ+"\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := lines(s.query("wEb."+zoneZ, dns.TypeA).Answer), "wEb."+zoneZ+" 5 IN A 127.0.0.1\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	e.leave(t)
	s.waitFor("NXDOMAIN", "web."+zoneZ, dns.TypeA, isUnknown)
}

// TestServerEnd: until health's lameduck time is over there are answers, then
// none are left, and the element has been notified.
func TestServerEnd(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	p, web := freePorts(t), freePorts(t)
	s := startServer(t, fmt.Sprintf(`pool.example.org:0 {
		rserpool {
			%s
		}
		health 127.0.0.1:%d {
			lameduck 500ms
		}
	}`, p.options(), web.asap))
	e := register(t, p, "web", 7)
	s.waitFor("answer", "web."+zoneZ, dns.TypeA, hasAnswer)
	ended := make(chan []error)
	begin := time.Now()
	go func() { ended <- s.inst.ShutdownCallbacks() }()
	for time.Since(begin) < 300*time.Millisecond {
		if m := s.query("web."+zoneZ, dns.TypeA); len(m.Answer) != 1 {
			t.Fatalf("%v after the beginning of the end: got\n%s\nwant one address", time.Since(begin), m)
		}
	}
	if errs := <-ended; len(errs) > 0 {
		t.Errorf("shutdown: %v", errs)
	}
	if m := s.query("web."+zoneZ, dns.TypeA); m.Rcode != dns.RcodeServerFailure {
		t.Errorf("after the end of the registrar: got\n%s\nwant SERVFAIL", m)
	}
	await(t, "the element notices that its registrar has ended", e.lost)
	e.cancel()
	<-e.done
	if err := s.inst.Stop(); err != nil {
		t.Error(err)
	}
	s.inst = nil
}

// TestServerMonitoring: readiness and metrics over HTTP.
func TestServerMonitoring(t *testing.T) {
	p, web := freePorts(t), []int{freePorts(t).asap, freePorts(t).asap}
	s := startServer(t, fmt.Sprintf(`pool.example.org:0 {
		rserpool {
			%s
		}
		ready 127.0.0.1:%d
		prometheus 127.0.0.1:%d
	}`, p.options(), web[0], web[1]))
	register(t, p, "web", 7)
	s.waitFor("answer", "web."+zoneZ, dns.TypeA, hasAnswer)
	get := func(port int, path string) string {
		r, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d%s", port, path))
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if got := get(web[0], "/ready"); got != "OK" {
		t.Errorf("/ready: got %q, want OK", got)
	}
	registrar := fmt.Sprintf("127.0.0.1:%d", p.asap)
	wants := []string{
		`coredns_rserpool_answers_total{kind="data",server="dns://:0"} `,
		`coredns_rserpool_selections_total{kind="new",server="dns://:0"} `,
		fmt.Sprintf(`coredns_rserpool_elements{registrar="%s"} 1`, registrar),
		fmt.Sprintf(`coredns_rserpool_registrations_total{registrar="%s"} 1`, registrar),
		fmt.Sprintf(`coredns_rserpool_associations_open{registrar="%s",transport="udp"} 1`, registrar),
	}
	var got string
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		got = get(web[1], "/metrics") // up to a tenth of a second late
		wants = slices.DeleteFunc(wants, func(w string) bool { return strings.Contains(got, "\n"+w) })
		if len(wants) == 0 {
			return
		}
	}
	t.Errorf("metrics have no %q but\n%s", wants, strings.Join(regexp.MustCompile("(?m)^coredns_rserpool.*$").FindAllString(got, -1), "\n"))
}

// TestServerBlocks: two blocks share a registrar, a third has one of its own.
func TestServerBlocks(t *testing.T) {
	p, p2 := freePorts(t), freePorts(t)
	one := "pool.example.org:0 {\n rserpool {\n" + p.options() + "}\n}\n"
	two := "pool.example.net:0 {\n rserpool {\n" + p.options() + "ttl 9\n}\n}\n"
	three := "other.example.org:0 {\n rserpool {\n" + p2.options() + "}\n}\n"
	s := startServer(t, one+two+three)
	register(t, p, "web", 7)
	register(t, p2, "mail", 8)
	if n := running(t); n != 2 {
		t.Errorf("got %d registrars, want 2", n)
	}
	s.waitFor("answer", "web.pool.example.org.", dns.TypeA, hasAnswer)
	for name, want := range map[string]string{
		"web.pool.example.org.":   "web.pool.example.org. 5 IN A 127.0.0.1\n",
		"web.pool.example.net.":   "web.pool.example.net. 9 IN A 127.0.0.1\n",
		"mail.other.example.org.": "mail.other.example.org. 5 IN A 127.0.0.1\n",
		"mail.pool.example.org.":  "",
		"web.other.example.org.":  "",
	} {
		if got := lines(s.query(name, dns.TypeA).Answer); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	// A reload removes blocks. The registrars that are still used stay.
	if err := s.reload(two); err != nil {
		t.Fatal(err)
	}
	if got := s.query("web.pool.example.net.", dns.TypeA); len(got.Answer) != 1 {
		t.Errorf("after the reload: got\n%s\nwant one address", got)
	}
	if n := running(t); n != 1 {
		t.Errorf("got %d registrars, want only the one that is still used", n)
	}
}
