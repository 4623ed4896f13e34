// Package interop runs the product against other implementations in the
// kernel lab (test/lab): the reference implementation RSPLIB over kernel SCTP,
// and DNS clients as Debian ships them. Every host of a test is a network
// namespace on one bridge; the test itself sits on the bridge as 10.99.0.254.
package interop

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/rserpool/coredns-rserpool/asap/cookie"
	"github.com/rserpool/coredns-rserpool/test/here"
)

var long = flag.Bool("long", false, "the long forms: more failures, more orders of starts, ten minutes of a bad path")

// often is how often a test does something in the long form, or in the short one.
func often(inLong, short int) int {
	if *long {
		return inLong
	}
	return short
}

// patience is how long a test waits for what must happen, and forAnswer how long for one
// answer of DNS: the lab is slow, and slower at some hosts.
var (
	patience  = 120 * time.Second
	forAnswer = 2 * time.Second
)

type lab struct {
	t     *testing.T
	dir   string     // empty directory of this test
	key   cookie.Key // of our elements
	ports int
}

// newLab makes the bridge, and skips the test outside of the lab.
func newLab(t *testing.T) *lab {
	t.Helper()
	if os.Getenv("IN_UML") == "" {
		t.Skip("needs the kernel lab: run test/lab/all")
	}
	l := &lab{t: t, dir: t.TempDir(), key: cookie.GenerateKey()}
	here.Pace(t)
	patience, forAnswer = l.paced(120*time.Second), l.paced(2*time.Second)
	// Each interface answers only for its own addresses, so that a cut link is a cut path.
	// The hosts' namespaces inherit this.
	for name, value := range map[string]string{"arp_ignore": "1", "arp_announce": "2"} {
		if err := os.WriteFile("/proc/sys/net/ipv4/conf/all/"+name, []byte(value), 0); err != nil {
			t.Fatal(err)
		}
	}
	l.batch("ip",
		"link add br0 type bridge forward_delay 0 mcast_snooping 0",
		"addr add 10.99.0.254/24 dev br0",
		"addr add fd00:99::fe/64 dev br0 nodad",
		"link set br0 up promisc on")
	t.Cleanup(func() { l.sh("ip link del br0") })
	return l
}

// paced is a time that a test allows, in this guest.
func (l *lab) paced(d time.Duration) time.Duration {
	l.t.Helper()
	return here.Paced(l.t, d)
}

// sh runs a command line without quoting and fails the test if it fails.
func (l *lab) sh(line string) string {
	l.t.Helper()
	f := strings.Fields(line)
	out, err := exec.Command(f[0], f[1:]...).CombinedOutput()
	if err != nil {
		l.t.Fatalf("%s: %v\n%s", line, err, out)
	}
	return string(out)
}

// node is a host: a network namespace with an interface on the bridge.
type node struct {
	l     *lab
	name  string
	ip    string // its first address
	ports []string
}

// node makes a host with one interface per list of comma-separated addresses. Each start of
// a program takes the lab's processor a tenth of a second, so the commands come in batches.
func (l *lab) node(name string, addrs ...string) *node {
	l.t.Helper()
	n := &node{l: l, name: name}
	n.ip, _, _ = strings.Cut(addrs[0], "/")
	outside, inside, filters := []string{"netns add " + name}, []string{"link set lo up"}, []string{}
	for i, list := range addrs {
		l.ports++
		eth, port := fmt.Sprintf("eth%d", i), fmt.Sprintf("p%d", l.ports)
		n.ports = append(n.ports, port)
		outside = append(outside, fmt.Sprintf("link add %s type veth peer name %s netns %s", port, eth, name), fmt.Sprintf("link set %s master br0 up", port))
		filters = append(filters, fmt.Sprintf("qdisc add dev %s clsact", port)) // for cut, since adding it later loses packets
		for a := range strings.SplitSeq(list, ",") {
			if strings.Contains(a, ":") {
				a += " nodad"
			}
			inside = append(inside, fmt.Sprintf("addr add dev %s %s", eth, a))
		}
		inside = append(inside, fmt.Sprintf("link set %s up", eth))
	}
	l.t.Cleanup(func() {
		var end []string
		for _, port := range n.ports { // the kernel may keep the namespace for associations that end slowly
			end = append(end, "link del "+port)
		}
		l.batch("ip", append(end, "netns del "+name)...)
	})
	l.batch("ip", outside...)
	l.batch("tc", filters...)
	l.batch("ip -n "+name, inside...)
	return n
}

// batch has a program such as ip run several of its commands.
func (l *lab) batch(program string, commands ...string) {
	l.t.Helper()
	f := strings.Fields(program + " -batch -")
	cmd := exec.Command(f[0], f[1:]...)
	cmd.Stdin = strings.NewReader(strings.Join(commands, "\n") + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		l.t.Fatalf("%s: %v\n%s\n%s", program, err, strings.Join(commands, "\n"), out)
	}
}

// cut has the bridge drop all packets between two sets of hosts.
func (l *lab) cut(these, those []*node) {
	l.t.Helper()
	for _, side := range [][2][]*node{{these, those}, {those, these}} {
		for _, to := range side[0] {
			for _, from := range side[1] {
				l.sh("tc filter add dev " + to.ports[0] + " egress protocol ip u32 match ip src " + from.ip + "/32 action drop")
			}
		}
	}
}

// mend ends all cuts to these hosts.
func (l *lab) mend(nodes []*node) {
	l.t.Helper()
	for _, n := range nodes {
		l.sh("tc filter del dev " + n.ports[0] + " egress")
	}
}

// sysctl sets kernel parameters of the host, before its sockets are made.
func (n *node) sysctl(settings ...string) {
	n.l.t.Helper()
	n.l.sh("ip netns exec " + n.name + " sysctl -qw " + strings.Join(settings, " "))
}

// proc is a process on a host, ended with the test.
type proc struct {
	t      *testing.T
	name   string
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	out    *logBuffer
	exited chan struct{}
}

// logBuffer gathers a process's output while tests look at it.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// start starts a process on the host. Its output is shown if the test fails.
func (n *node) start(args ...string) *proc {
	n.l.t.Helper()
	t := n.l.t
	p := &proc{t: t, name: filepath.Base(args[0]), out: &logBuffer{}, exited: make(chan struct{})}
	p.cmd = exec.Command("ip", append([]string{"netns", "exec", n.name}, args...)...)
	p.cmd.Dir = n.l.dir
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	var err error
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() {
		p.kill(syscall.SIGKILL)
		<-p.exited
		if t.Failed() {
			t.Logf("[%s] %s:\n%s", n.name, strings.Join(args, " "), p.out)
		}
	})
	return p
}

func (p *proc) kill(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

// wait waits for the process to end and gives its exit code.
func (p *proc) wait() int {
	p.t.Helper()
	select {
	case <-p.exited:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		p.t.Fatalf("%s does not end:\n%s", p.name, p.out)
		return -1
	}
}

// says waits until the process has written text.
func (p *proc) says(text string) {
	p.t.Helper()
	eventually(p.t, p.name+" says "+text, func() error {
		if strings.Contains(p.out.String(), text) {
			return nil
		}
		return errors.New(p.out.String())
	})
}

// run runs a command on the host to its end and gives what it wrote to its
// standard output.
func (n *node) run(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", n.name}, args...)...)
	cmd.Dir = n.l.dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s: %w\n%s%s", strings.Join(args, " "), err, out, &stderr)
	}
	return string(out), err
}

// eventually tries f again and again until it gives no error. The pauses grow: each try
// takes time of the processor that the test waits for.
func eventually(t *testing.T, what string, f func() error) time.Duration {
	t.Helper()
	start := time.Now()
	for {
		err := f()
		if err == nil {
			return time.Since(start)
		}
		if time.Since(start) > patience {
			t.Fatalf("waited %v: %s: %v", patience, what, err)
		}
		time.Sleep(min(max(10*time.Millisecond, time.Since(start)/20), 200*time.Millisecond))
	}
}

// bin is the path of one of our own programs, built before on the host.
func (l *lab) bin(name string) string {
	l.t.Helper()
	p, err := filepath.Abs(filepath.Join("..", "..", "bin", name))
	if err == nil {
		_, err = os.Stat(p)
	}
	if err != nil {
		l.t.Fatalf("%v: run `make build` on the host first", err)
	}
	return p
}

// file writes a file into the test's directory and gives its path.
func (l *lab) file(name, text string) string {
	l.t.Helper()
	p := filepath.Join(l.dir, name)
	if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
		l.t.Fatal(err)
	}
	return p
}

// coredns starts CoreDNS with a Corefile on the host and waits until it
// answers for pool.example.org at server.
func (n *node) coredns(server, corefile string) *proc {
	n.l.t.Helper()
	return n.corednsFor("pool.example.org.", server, corefile)
}

// corednsFor is coredns with another zone.
func (n *node) corednsFor(zone, server, corefile string) *proc {
	n.l.t.Helper()
	p := n.start(n.l.bin("coredns"), "-conf", n.l.file("Corefile."+n.name, corefile))
	eventually(n.l.t, "coredns answers", func() error {
		m, err := query(server, zone, dns.TypeSOA)
		if err == nil && m.Rcode != dns.RcodeSuccess {
			err = errors.New(dns.RcodeToString[m.Rcode])
		}
		return err
	})
	return p
}

// query asks a server on port 53 once.
func query(server, name string, qtype uint16) (*dns.Msg, error) {
	m := new(dns.Msg).SetQuestion(name, qtype)
	c := &dns.Client{Timeout: forAnswer}
	r, _, err := c.Exchange(m, net.JoinHostPort(server, "53"))
	return r, err
}

// large is query for answers that do not fit into 512 bytes.
func large(server, name string, qtype uint16) (*dns.Msg, error) {
	m := new(dns.Msg).SetQuestion(name, qtype)
	m.SetEdns0(4096, false)
	c := &dns.Client{Timeout: forAnswer, UDPSize: 4096}
	r, _, err := c.Exchange(m, net.JoinHostPort(server, "53"))
	return r, err
}

// answers gives the answer section's data as text, without the owner names.
func answers(server, name string, qtype uint16) ([]string, error) {
	m, err := query(server, name, qtype)
	if err != nil {
		return nil, err
	}
	if m.Rcode != dns.RcodeSuccess {
		return nil, errors.New(dns.RcodeToString[m.Rcode])
	}
	var list []string
	for _, rr := range m.Answer {
		list = append(list, strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	return list, nil
}

// registered waits until pool has n elements in SRV answers of the server.
func (l *lab) registered(server, pool string, n int) {
	l.t.Helper()
	eventually(l.t, fmt.Sprintf("%s has %d elements", pool, n), func() error {
		got, err := answers(server, pool+".pool.example.org.", dns.TypeSRV)
		if err == nil && len(got) != n {
			err = fmt.Errorf("%d SRV records: %q", len(got), got)
		}
		return err
	})
}

// gone waits until the server answers NXDOMAIN for pool and says how long
// that took.
func (l *lab) gone(server, pool string) time.Duration {
	l.t.Helper()
	return eventually(l.t, pool+" is gone", func() error {
		m, err := query(server, pool+".pool.example.org.", dns.TypeSRV)
		if err == nil && m.Rcode != dns.RcodeNameError {
			err = fmt.Errorf("%s, %v", dns.RcodeToString[m.Rcode], m.Answer)
		}
		return err
	})
}

// killed starts an element of pool five times (ten in the long form) and kills it. Four times
// of five at least the pool must be out of the answers within 200 ms: the lab's processor is
// emulated, and what it does meanwhile is at the mercy of the machine's load.
// What takes longer by rule, such as a retransmission, would show each time.
func (l *lab) killed(server, pool string, start func() *proc) {
	l.t.Helper()
	tries := often(10, 5)
	var took []time.Duration
	for range tries {
		e := start()
		l.registered(server, pool, 1)
		e.kill(syscall.SIGKILL)
		took = append(took, l.gone(server, pool).Round(time.Millisecond))
		e.wait()
	}
	slices.Sort(took)
	within := l.paced(200 * time.Millisecond)
	l.t.Logf("gone after kill -9, sorted: %v", took)
	if at := took[tries*8/10-1]; at > within {
		l.t.Errorf("killed elements were served for up to %v in 4 of 5 cases, want at most %v", at, within)
	}
}
