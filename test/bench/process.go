package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/rserpool/coredns-rserpool/internal/sctp/secure"
)

// process is a server in a process of its own.
type process struct {
	cmd   *exec.Cmd
	dir   string
	addr  string // of DNS
	pprof string
	// asap and encap are the ports of ASAP and of SCTP in UDP, of a registrar.
	asap, encap uint16
	// tls is that of hosts of elements, if the registrar has TLS.
	tls *secure.Config
}

// asMain has the test binary be bench.
const asMain = "BENCH_AS_MAIN"

// spawn starts a command, in an empty directory of its own, that serves DNS.
func (p *process) spawn(binary string, args ...string) error {
	binary, err := filepath.Abs(binary)
	if err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(p.dir, "log"))
	if err != nil {
		return err
	}
	defer log.Close()
	p.cmd = exec.Command(binary, args...)
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = p.dir, log, log
	p.cmd.Env = append(os.Environ(), asMain+"=1")
	p.cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return err
	}
	return p.wait()
}

// wait waits until the server answers anything. A query to a port where nobody listens
// yet comes back as its own answer if the kernel gives it that same port.
func (p *process) wait() error {
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		c := dns.Client{Timeout: 100 * time.Millisecond}
		m, _, err := c.Exchange(new(dns.Msg).SetQuestion("web.pool.example.org.", dns.TypeA), p.addr)
		if err == nil && m.Response {
			return nil
		}
	}
	return p.explain(fmt.Errorf("%s does not answer", p.cmd.Path))
}

// explain adds the end of the process's log to an error.
func (p *process) explain(err error) error {
	log, _ := os.ReadFile(filepath.Join(p.dir, "log"))
	return fmt.Errorf("%w; the process's log ends with:\n%s", err, log[max(0, len(log)-2000):])
}

func (p *process) close() {
	if p.cmd != nil && p.cmd.Process != nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	}
	_ = os.RemoveAll(p.dir)
}

// cpu is the CPU time that the process has used so far.
func (p *process) cpu() time.Duration {
	// The CPU clock of another process, as clock_getcpuclockid(3) makes it.
	id := int32(^p.cmd.Process.Pid<<3 | 2)
	var ts unix.Timespec
	if err := unix.ClockGettime(id, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// memory is what a CoreDNS holds.
type memory struct {
	heap, stack, goroutines float64
	gcs, allocated, next    float64
}

// memory asks a CoreDNS, after a garbage collection.
func (p *process) memory() (m memory, err error) {
	heap, err := p.get("heap?gc=1&debug=1")
	if err != nil {
		return m, err
	}
	for _, f := range []struct {
		name string
		to   *float64
	}{
		{"# HeapAlloc = ", &m.heap},
		{"# Stack = ", &m.stack},
		{"# NumGC = ", &m.gcs},
		{"# TotalAlloc = ", &m.allocated},
		{"# NextGC = ", &m.next},
	} {
		if *f.to, err = field(heap, f.name); err != nil {
			return m, err
		}
	}
	gs, err := p.get("goroutine?debug=1")
	if err != nil {
		return m, err
	}
	m.goroutines, err = field(gs, "goroutine profile: total ")
	return m, err
}

func (p *process) get(what string) ([]byte, error) {
	r, err := http.Get("http://" + p.pprof + "/debug/pprof/" + what)
	if err != nil {
		return nil, p.explain(err)
	}
	defer r.Body.Close()
	var b bytes.Buffer
	_, err = b.ReadFrom(r.Body)
	return b.Bytes(), err
}

// field finds the number behind a name at the beginning of a line.
func field(text []byte, name string) (float64, error) {
	for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
		if rest, ok := strings.CutPrefix(s.Text(), name); ok {
			word, _, _ := strings.Cut(rest, " ")
			return strconv.ParseFloat(word, 64)
		}
	}
	return 0, fmt.Errorf("pprof tells no %q", name)
}

// newProcess gives a process its directory and its ports.
func newProcess() (*process, error) {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return nil, err
	}
	var ports [4]uint16
	for i := range ports {
		if ports[i], err = freePort(); err != nil {
			return nil, err
		}
	}
	return &process{
		dir: dir, addr: local(ports[0]), pprof: local(ports[1]), asap: ports[2], encap: ports[3],
	}, nil
}

func local(port uint16) string { return fmt.Sprintf("127.0.0.1:%d", port) }

// freePort gives a port that is free for UDP and TCP.
func freePort() (uint16, error) {
	for range 100 {
		u, err := net.ListenPacket("udp", local(0))
		if err != nil {
			return 0, err
		}
		port := u.LocalAddr().(*net.UDPAddr).Port
		l, err := net.Listen("tcp", local(uint16(port)))
		u.Close()
		if err == nil {
			l.Close()
			return uint16(port), nil
		}
	}
	return 0, errors.New("no port is free for UDP and TCP")
}

// startCoreDNS starts CoreDNS for pool.example.org with these plugins, and
// the files that they need. In the text of the plugins, DIR is the process's
// directory, ASAP and ENCAP are ports of its own.
func (b *bench) startCoreDNS(plugins string, files map[string]string) (*process, error) {
	p, err := newProcess()
	if err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(p.addr)
	plugins = strings.NewReplacer(
		"DIR", p.dir, "ASAP", strconv.Itoa(int(p.asap)), "ENCAP", strconv.Itoa(int(p.encap)),
	).Replace(plugins)
	all := maps.Clone(files)
	if all == nil {
		all = map[string]string{}
	}
	all["Corefile"] = fmt.Sprintf("pool.example.org:%s {\nbind 127.0.0.1\npprof %s\n%s\n}\n", port, p.pprof, plugins)
	for name, text := range all {
		if err = os.WriteFile(filepath.Join(p.dir, name), []byte(text), 0o600); err != nil {
			break
		}
	}
	if err == nil {
		err = p.spawn(b.coredns, "-conf", "Corefile")
	}
	if err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// startRegistrar starts CoreDNS with our plugin and an option. Nothing but the load is to
// keep it busy, so its timers are long.
func (b *bench) startRegistrar(option string) (*process, error) {
	return b.startCoreDNS(registrarBlock(option), nil)
}

func registrarBlock(option string) string {
	return strings.Replace(`rserpool {
		asap 127.0.0.1:ASAP
		encap ENCAP
		transport udp
		timer KEEP-ALIVE-INTERVAL 24h
		timer LINGER 24h
		limit pools 1000000
		limit elements 3000000
		limit elements_per_association 3000000
		OPTION
	}`, "OPTION", option, 1)
}

// ofThree has answers like those about a pool of three elements.
const ofThree = "answers 3"
