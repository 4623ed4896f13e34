package network_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/rserpool/coredns-rserpool/test/binary"
	"github.com/rserpool/coredns-rserpool/test/network"
)

// blocks gives the blocks of a language under a heading of docs/networks.md.
func blocks(t *testing.T, heading, language string) (list []string) {
	t.Helper()
	text, err := os.ReadFile("../../docs/networks.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## "+heading+"\n")
	section, _, _ = strings.Cut(section, "\n## ")
	for _, part := range strings.Split(section, "\n```"+language+"\n")[1:] {
		block, _, _ := strings.Cut(part, "```")
		list = append(list, strings.ReplaceAll(block, "\\\n", " "))
	}
	if len(list) == 0 {
		t.Fatalf("docs/networks.md has no %s under %q", language, heading)
	}
	return list
}

// shell starts a command line of the manual on a host: rsp and coredns are ours,
// server is a server, Corefile is a file with this text and quick timers.
func shell(t *testing.T, h *network.Host, line, corefile string) *network.Process {
	t.Helper()
	dir := t.TempDir()
	for name, target := range map[string]string{"rsp": binary.Path(t, "rsp"), "coredns": binary.Path(t, "coredns")} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	files := map[string]string{
		"server":   "#!/bin/sh\ntrap 'echo the server ends; kill $!; exit 0' TERM\necho the server runs as $$\nsleep 100 & wait\n",
		"Corefile": strings.Replace(corefile, "rserpool {", "rserpool {\n"+quick+"\n", 1),
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := h.Command("sh", "-c", "exec "+line)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
	return h.StartCommand(cmd)
}

var dockerRun = regexp.MustCompile(`^docker run ((?:--\S+ \S+ +)*)example/\S+ +(.*)$`)

// docker does what `docker run` does, on the default network of the host or on the
// host's: ports that are published, and a container with the command.
func docker(t *testing.T, h *network.Host, line, corefile string) (*network.Host, *network.Process) {
	t.Helper()
	m := dockerRun.FindStringSubmatch(strings.TrimSpace(line))
	if m == nil {
		t.Fatalf("the test does not understand %q", line)
	}
	if strings.TrimSpace(m[1]) == "--network host" {
		return h, shell(t, h, m[2], corefile)
	}
	c := h.Container(h.Name+"'s container", "docker0", "172.17.0.2/16")
	h.Masquerade("eth0")
	options := strings.Fields(m[1])
	for i := 0; i < len(options); i += 2 {
		ports, protocol, ok := strings.Cut(options[i+1], "/")
		if !ok {
			protocol = "tcp"
		}
		outer, inner, _ := strings.Cut(ports, ":")
		if options[i] != "--publish" {
			t.Fatalf("the test does not understand %q", line)
		}
		h.Publish("eth0", protocol+" dport "+outer, "172.17.0.2:"+inner)
	}
	return c, shell(t, c, m[2], corefile)
}

// stays asks a server for a pool until stop is closed, and tells how long the pool
// was without elements.
func stays(h *network.Host, server, pool string, stop <-chan struct{}) (without time.Duration) {
	last := time.Now()
	for {
		select {
		case <-stop:
			return without
		case <-time.After(20 * time.Millisecond):
		}
		list, err := h.Lookup(server, pool+"."+network.Zone, dns.TypeSRV)
		if now := time.Now(); err != nil || len(list) == 0 {
			without += now.Sub(last)
		}
		last = time.Now()
	}
}

// TestManualContainers: a server and two of three registrars in containers, as
// docs/networks.md has it. All containers have the same address. The home of the
// server's element is killed: another registrar takes the element over.
func TestManualContainers(t *testing.T) {
	t.Parallel()
	n := network.New(t)
	host := func(addr string) *network.Host {
		h := machine(n, addr, addr)
		h.Bridge("docker0", "172.17.0.1/16")
		return h
	}
	a, b, c := host("192.0.2.53"), host("192.0.2.54"), host("192.0.2.55")
	web, client := host("192.0.2.11"), machine(n, "client", "192.0.2.99")
	run, corefile := blocks(t, "Registrars in containers", "sh"), blocks(t, "Registrars in containers", "corefile")[0]
	peers := func(list string) string {
		return strings.Replace(corefile, "peer 192.0.2.53 192.0.2.55", "peer "+list, 1)
	}
	_, first := docker(t, a, run[0], peers("192.0.2.54 192.0.2.55"))
	docker(t, b, run[1], corefile)
	docker(t, c, run[1], peers("192.0.2.53 192.0.2.54"))
	for _, server := range []string{"192.0.2.53", "192.0.2.54", "192.0.2.55"} {
		client.Serving(server)
	}
	_, p := docker(t, web, blocks(t, "Servers in containers", "sh")[0], "")
	p.WaitFor("tcp 172.17.0.2 port 8080 is offered, registered is tcp 192.0.2.11 port 8080")
	for _, server := range []string{"192.0.2.53", "192.0.2.54", "192.0.2.55"} {
		namesOnly(t, client, server, "web", "192.0.2.11")
	}
	stop, without := make(chan struct{}), make(chan time.Duration)
	go func() { without <- stays(client, "192.0.2.54", "web", stop) }()
	first.Signal(syscall.SIGKILL)
	first.Wait()
	p.WaitFor("has taken over as home registrar")
	for _, server := range []string{"192.0.2.54", "192.0.2.55"} {
		namesOnly(t, client, server, "web", "192.0.2.11")
	}
	close(stop)
	if d := <-without; d > 0 {
		t.Errorf("the element was out of the answers for %v", d)
	}
}

// TestManualKubernetes: the command of the Deployment is process 1 of a pod. When
// the pod is to end, the element leaves DNS, and the server gets its signal later.
func TestManualKubernetes(t *testing.T) {
	t.Parallel()
	m := regexp.MustCompile(`(?s)command: (\[.*?\])`).FindStringSubmatch(blocks(t, "Kubernetes", "yaml")[0])
	var command []string
	if err := json.Unmarshal([]byte(m[1]), &command); err != nil {
		t.Fatal(err)
	}
	n := network.New(t)
	r, pod := machine(n, "registrar", "192.0.2.53"), machine(n, "pod", "192.0.2.11")
	r.CoreDNS(site(quick))
	r.Serving("127.0.0.1")
	pod.File("/etc/hosts", "192.0.2.53 registrars.rserpool.svc.cluster.local\n")
	l, err := pod.Listen("tcp", ":8080") // for --check tcp, which has to pass
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p := shell(t, pod, "unshare --pid --fork --kill-child --mount-proc "+strings.Join(command, " "), "")
	p.WaitFor("the server runs")
	namesOnly(t, r, "127.0.0.1", "web", "192.0.2.11")
	// unshare is the parent of the pod's process 1.
	if err := syscall.Kill(child(t, p.PID()), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	r.Has("127.0.0.1", "web", 0)
	gone := time.Since(start)
	p.WaitFor("the server ends")
	drained := time.Since(start)
	if code := p.Wait(); code != 0 || gone > 2*time.Second || drained < 5*time.Second {
		t.Errorf("status %d; out of DNS after %v, want at once; the server's signal after %v, want 5 s at least", code, gone, drained)
	}
}

// child gives the only child of a process.
func child(t *testing.T, pid int) (child int) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", pid))
	if err == nil {
		_, err = fmt.Sscan(string(text), &child)
	}
	if err != nil {
		t.Fatalf("child of process %d: %v", pid, err)
	}
	return child
}

// TestManualSeveralNetworks: the commands of that chapter register, and go over
// the second network when the first one is dead. TestOneOfTwoNetworksDies has the
// times.
func TestManualSeveralNetworks(t *testing.T) {
	t.Parallel()
	n := network.New(t)
	second := n.NewLAN()
	r, e := machine(n, "registrar", "192.0.2.53"), machine(n, "element", "192.0.2.11")
	r.Link("eth1", second, "198.51.100.53/24")
	e.Link("eth1", second, "198.51.100.11/24")
	const chapter = "Hosts with several networks"
	shell(t, r, "coredns -conf Corefile", blocks(t, chapter, "corefile")[0])
	r.Serving("127.0.0.1")
	for _, line := range blocks(t, chapter, "sh") {
		shell(t, e, line, "")
	}
	r.Has("127.0.0.1", "jobs", 1)
	namesOnly(t, r, "127.0.0.1", "web", "192.0.2.11")
	r.Eth0().Wire(network.Wire{Dead: true})
	stop, without := make(chan struct{}), make(chan time.Duration)
	for _, pool := range []string{"jobs", "web"} {
		go func() { without <- stays(r, "127.0.0.1", pool, stop) }()
	}
	<-time.After(10 * time.Second) // ten keep-alives; a dead network has no event
	close(stop)
	if d := max(<-without, <-without); d > 2*time.Second {
		t.Errorf("out of the answers for %v", d)
	}
}

// TestManualCommands: the commands to look with succeed on a host, and say something.
func TestManualCommands(t *testing.T) {
	t.Parallel()
	n := network.New(t)
	r, e := machine(n, "registrar", "192.0.2.53"), machine(n, "element", "192.0.2.11")
	r.Bridge("docker0", "172.17.0.1/16")
	r.IP("addr add 192.0.2.100/24 dev eth0")
	p := r.CoreDNS(site("enrp_announce", quick))
	p.WaitFor("so peers are told of 192.0.2.53; name the addresses to listen on to use one of " +
		"192.0.2.100 (a further address in its network), 172.17.0.1 (docker0 is a bridge without an uplink)")
	r.Serving("127.0.0.1")
	e.RSP("register", "-r", "192.0.2.53", "-p", "web", "-s", "tcp:8080", "--encap", "9899").WaitFor("registered")
	for line := range strings.Lines(blocks(t, "When it does not work", "sh")[0]) {
		if name, _, _ := strings.Cut(line, " "); name == "dig" {
			if _, err := exec.LookPath(name); err != nil {
				t.Logf("LEFT OUT: %v", err)
				continue
			}
		}
		q := shell(t, e, strings.TrimSpace(line), "")
		if code := q.Wait(); code != 0 || strings.TrimSpace(q.Output()) == "" {
			t.Errorf("%s: status %d\n%s", line, code, q.Output())
		}
	}
}
