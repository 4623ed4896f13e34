package soak

import (
	"bufio"
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/rserpool/coredns-rserpool/test/binary"
	"github.com/rserpool/coredns-rserpool/test/here"
)

var long = flag.Bool("long", false, "the long form: more of everything, for minutes")

const (
	zone = "pool.example.org."
	// patience is how long a test waits for what must happen.
	patience = 30 * time.Second
)

func TestMain(m *testing.M) {
	if os.Getenv(throngEnv) != "" {
		throngMain()
		return
	}
	if os.Getenv(crowdEnv) != "" {
		crowdMain()
		return
	}
	here.Signals()
	flag.Parse()
	os.Exit(m.Run())
}

// inLab reports whether the test runs in the kernel lab (test/lab).
func inLab() bool { return os.Getenv("IN_UML") != "" }

// ports are those of one server on one address.
type ports struct {
	host                       string
	dns, asap, encap, met, pro int
	transport                  string // SCTP in UDP, if empty
}

func freePorts(t *testing.T, host string) ports {
	t.Helper()
	p := ports{host: host}
	for _, port := range []*int{&p.dns, &p.asap, &p.encap, &p.met, &p.pro} {
		*port = int(here.FreePort(t))
	}
	return p
}

// corefile is a Corefile with these ports; options are more lines of rserpool,
// plugins more of the server block.
func (p ports) corefile(options, plugins string) string {
	return fmt.Sprintf(`pool.example.org:%d {
	bind %s
	rserpool {
		asap %s:%d
		encap %d
		transport %s
		%s
	}
	prometheus %s:%d
	pprof %s:%d
	%s
}
`, p.dns, p.host, p.host, p.asap, p.encap, cmp.Or(p.transport, "udp"), strings.ReplaceAll(options, "\n", "\n\t\t"), p.host, p.met, p.host, p.pro, plugins)
}

func (p ports) dnsAddr() string { return net.JoinHostPort(p.host, strconv.Itoa(p.dns)) }

// server is a CoreDNS process.
type server struct {
	ports
	t      *testing.T
	cmd    *exec.Cmd
	file   string
	exited chan struct{}
	log    *lines
}

// lines gathers the lines of a log while tests wait for more.
type lines struct {
	mu    sync.Mutex
	cond  sync.Cond
	lines []string
	ended bool
}

func newLines() *lines {
	l := new(lines)
	l.cond.L = &l.mu
	return l
}

func (l *lines) read(r io.Reader) {
	s := bufio.NewScanner(r)
	for s.Scan() {
		l.mu.Lock()
		l.lines = append(l.lines, s.Text())
		l.cond.Broadcast()
		l.mu.Unlock()
	}
	l.mu.Lock()
	l.ended = true
	l.cond.Broadcast()
	l.mu.Unlock()
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "\n")
}

func (l *lines) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.lines)
}

// after waits for a line, behind the first n, with one of the texts, and tells
// which; -1 if it does not come.
func (l *lines) after(n int, texts ...string) int {
	late := time.AfterFunc(patience, func() { l.cond.Broadcast() })
	defer late.Stop()
	deadline := time.Now().Add(patience)
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		for ; n < len(l.lines); n++ {
			for i, text := range texts {
				if strings.Contains(l.lines[n], text) {
					return i
				}
			}
		}
		if l.ended || !time.Now().Before(deadline) {
			return -1
		}
		l.cond.Wait()
	}
}

// command makes a server's command, not started yet.
func command(t *testing.T, p ports, corefile string, wrap ...string) *server {
	t.Helper()
	path := binary.Path(t, "coredns")
	s := &server{ports: p, t: t, file: filepath.Join(t.TempDir(), "Corefile"), exited: make(chan struct{}), log: newLines()}
	s.write(corefile)
	args := append(wrap, path, "-conf", s.file)
	s.cmd = exec.Command(args[0], args[1:]...)
	return s
}

// startServer starts CoreDNS and waits until it answers. The end of the test
// ends it.
func startServer(t *testing.T, p ports, corefile string, wrap ...string) *server {
	t.Helper()
	s := command(t, p, corefile, wrap...)
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	s.cmd.Stdout, s.cmd.Stderr = in, in
	s.start()
	in.Close()
	go func() {
		defer out.Close()
		s.log.read(out)
	}()
	s.serving()
	return s
}

// start starts the process.
func (s *server) start() {
	s.t.Helper()
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	go func() {
		_ = s.cmd.Wait()
		close(s.exited)
	}()
	s.t.Cleanup(func() {
		s.stop()
		if s.t.Failed() {
			list := strings.Split(s.log.String(), "\n")
			s.t.Logf("CoreDNS's log ends with\n%s", strings.Join(list[max(0, len(list)-40):], "\n"))
		}
	})
}

// serving waits until the server answers, over UDP and TCP: CoreDNS does not
// stop a server that has not begun to serve.
func (s *server) serving() {
	s.t.Helper()
	for _, network := range []string{"udp", "tcp"} {
		eventually(s.t, "an answer over "+network, func() error {
			select {
			case <-s.exited:
				s.t.Fatalf("CoreDNS has ended:\n%s", s.log)
			default:
			}
			c := dns.Client{Net: network, Timeout: time.Second}
			m, _, err := c.Exchange(new(dns.Msg).SetQuestion(zone, dns.TypeSOA), s.dnsAddr())
			if err == nil && !m.Response {
				// Nobody listens there yet, and the query's own port is that one.
				err = errors.New("the query itself has come back")
			}
			return err
		})
	}
}

// stop ends the process, in good order if it can.
func (s *server) stop() {
	_ = s.cmd.Process.Signal(syscall.SIGCONT)
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.exited:
	case <-time.After(patience):
		s.t.Error("CoreDNS does not end")
		_ = s.cmd.Process.Kill()
		<-s.exited
	}
}

// write replaces the Corefile at once.
func (s *server) write(corefile string) {
	s.t.Helper()
	err := os.WriteFile(s.file+".new", []byte(corefile), 0o644)
	if err == nil {
		err = os.Rename(s.file+".new", s.file)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// reload reloads with another Corefile, and reports whether CoreDNS took it.
func (s *server) reload(corefile string) bool {
	s.t.Helper()
	s.write(corefile)
	n := s.log.count()
	if err := s.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
		s.t.Fatal(err)
	}
	switch s.log.after(n, "Reloading complete", "[ERROR] SIGUSR1: starting with listener file descriptors", "[ERROR] SIGUSR1") {
	case 0:
		return true
	case -1:
		s.t.Fatal("no end of the reload")
	}
	return false
}

// query asks over UDP.
func (s *server) query(name string, qtype uint16) (*dns.Msg, error) {
	return dns.Exchange(new(dns.Msg).SetQuestion(name, qtype), s.dnsAddr())
}

// present tells whether an element can be asked for by its name.
func (s *server) present(pool string, id uint32) (bool, error) {
	m, err := s.query(fmt.Sprintf("pe-%08x.%s.%s", id, pool, zone), dns.TypeSRV)
	switch {
	case err != nil:
		return false, err
	case m.Rcode == dns.RcodeNameError:
		return false, nil
	case m.Rcode != dns.RcodeSuccess || len(m.Answer) != 1:
		return false, fmt.Errorf("unexpected answer\n%v", m)
	}
	return true, nil
}

// metric adds up a metric's values over its labels, of which some may be said.
func (s *server) metric(name string, labels ...string) float64 {
	s.t.Helper()
	var sum float64
	eventually(s.t, "metrics", func() (err error) {
		sum, err = s.metrics(name, labels...)
		return err
	})
	return sum
}

func (s *server) metrics(name string, labels ...string) (sum float64, err error) {
	text, err := get(fmt.Sprintf("http://%s:%d/metrics", s.host, s.met))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		for _, l := range labels {
			ok = ok && strings.Contains(rest, l)
		}
		if ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(rest[strings.LastIndexByte(rest, ' '):]), 64)
			if err != nil {
				return 0, err
			}
			sum += v
		}
	}
	return sum, nil
}

// client makes a connection for each request and leaves none behind.
var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}

func get(url string) (string, error) {
	r, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err == nil && r.StatusCode != http.StatusOK {
		err = errors.New(r.Status)
	}
	return string(b), err
}

// usage is what a leak would raise.
type usage struct {
	goroutines, files int
	heap              int // bytes in use after a collection
}

func (u usage) String() string {
	return fmt.Sprintf("%d goroutines, %d descriptors, %.1f MB of heap", u.goroutines, u.files, float64(u.heap)/1e6)
}

var heapAlloc = regexp.MustCompile(`(?m)^# HeapAlloc = (\d+)`)

// usage has the server collect its garbage and tells what is left.
func (s *server) usage() (u usage, err error) {
	base := fmt.Sprintf("http://%s:%d/debug/pprof/", s.host, s.pro)
	// What finalizers free is gone after the second collection.
	var text string
	for range 2 {
		if text, err = get(base + "heap?gc=1&debug=1"); err != nil {
			return u, err
		}
	}
	m := heapAlloc.FindStringSubmatch(text)
	if m == nil {
		return u, errors.New("no heap figure in the profile")
	}
	u.heap, _ = strconv.Atoi(m[1])
	if text, err = get(base + "goroutine?debug=1"); err != nil {
		return u, err
	}
	if _, err := fmt.Sscanf(text, "goroutine profile: total %d", &u.goroutines); err != nil {
		return u, err
	}
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.cmd.Process.Pid))
	u.files = len(list)
	return u, err
}

// mustUsage is usage, for a server at rest.
func (s *server) mustUsage() usage {
	s.t.Helper()
	u, err := s.usage()
	if err != nil {
		s.t.Fatal(err)
	}
	return u
}

// atRest waits until no more is in use than limit says.
func (s *server) atRest(limit usage) usage {
	s.t.Helper()
	var u usage
	eventually(s.t, "no more than "+limit.String(), func() (err error) {
		if u, err = s.usage(); err == nil && (u.goroutines > limit.goroutines || u.files > limit.files || u.heap > limit.heap) {
			err = errors.New(u.String())
		}
		return err
	})
	return u
}

// asBefore waits until all have gone and no more is in use than before they
// came, but for the heap of tables that stay.
func (s *server) asBefore(before usage) {
	s.t.Helper()
	eventually(s.t, "an empty handlespace", func() error {
		n, err := s.total()
		if err == nil && n != 0 {
			err = fmt.Errorf("%d elements", n)
		}
		return err
	})
	after := s.atRest(usage{before.goroutines, before.files, before.heap + 2<<20})
	s.t.Logf("before: %v; after: %v", before, after)
}

// eventually tries f until it gives no error.
func eventually(t *testing.T, what string, f func() error) {
	t.Helper()
	eventuallyWithin(t, patience, what, f)
}

func eventuallyWithin(t *testing.T, d time.Duration, what string, f func() error) {
	t.Helper()
	for start := time.Now(); ; {
		err := f()
		if err == nil {
			return
		}
		took := time.Since(start)
		if took > d {
			t.Fatalf("no %s within %v: %v", what, d, err)
		}
		// Each try takes time of the processor that the test waits for.
		time.Sleep(min(max(20*time.Millisecond, took/20), 200*time.Millisecond))
	}
}

// pause is the time between two looks at another process, which cannot tell us.
func pause() { time.Sleep(20 * time.Millisecond) }
