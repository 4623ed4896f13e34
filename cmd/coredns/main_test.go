package main

import (
	"bufio"
	"fmt"
	"go/parser"
	"go/token"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coredns/coredns/core/dnsserver"
	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	"github.com/rserpool/coredns-rserpool/test/here"
)

// stock is the order of CoreDNS 1.15.0. When an upgrade changes it, look where
// the new plugins stand relative to rserpool, then change it here.
const stock = `root metadata geoip cancel proxyproto quic grpc_server https https3 timeouts multisocket reload
nsid bufsize bind debug trace ready health pprof shed prometheus errors log dnstap local dns64 siit any chaos
loadbalance tsig rewrite autopath acl cache header dnssec tls minimal template transfer dynupdate hosts route53
azure clouddns k8s_external kubernetes file auto secondary etcd loop forward grpc erratic whoami on sign view nomad`

func TestOrder(t *testing.T) {
	if diff := cmp.Diff(strings.Fields(stock), dnsserver.Directives); diff != "" {
		t.Errorf("CoreDNS has another order of plugins now (-known +now):\n%s", diff)
	}
	got, err := directives(dnsserver.Directives)
	if err != nil {
		t.Fatal(err)
	}
	at := slices.Index(got, "rserpool")
	if at < 0 {
		t.Fatal("no rserpool in the order")
	}
	if diff := cmp.Diff(dnsserver.Directives, slices.Delete(slices.Clone(got), at, at+1)); diff != "" {
		t.Errorf("stock plugins changed their order (-stock +ours):\n%s", diff)
	}
	for _, above := range []string{"metadata", "ready", "prometheus", "log", "any", "loadbalance", "rewrite", "acl", "cache", "header", "dnssec", "minimal", "transfer", "hosts"} {
		if slices.Index(got, above) > at {
			t.Errorf("%s comes after rserpool, want before", above)
		}
	}
	for _, below := range []string{"kubernetes", "file", "auto", "secondary", "etcd", "forward", "whoami"} {
		if slices.Index(got, below) < at {
			t.Errorf("%s comes before rserpool, want after", below)
		}
	}
}

func TestOrderWithoutKubernetes(t *testing.T) {
	if got, err := directives([]string{"cache", "file"}); err == nil {
		t.Errorf("got %v, want an error that says what is missing", got)
	}
}

// TestPlugins: the two lists together are the plugins of CoreDNS, and no plugin is in
// both.
func TestPlugins(t *testing.T) {
	dir, err := exec.Command("go", "list", "-f", "{{.Dir}}", "github.com/coredns/coredns/core/plugin").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	want := imports(t, filepath.Join(strings.TrimSpace(string(dir)), "zplugin.go"))
	light, heavy := imports(t, "plugins.go"), imports(t, "plugins_all.go")
	got := slices.Concat(light, heavy)
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("plugins.go and plugins_all.go are not CoreDNS's plugins (-CoreDNS +ours):\n%s", diff)
	}
}

func imports(t *testing.T, file string) []string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, i := range f.Imports {
		p, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, p)
	}
	return paths
}

// build makes the command.
func build(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("builds the whole of CoreDNS")
	}
	bin := filepath.Join(t.TempDir(), "coredns")
	cmd := exec.Command("go", "build", "-ldflags", "-X main.version=v1.2.3", "-o", bin, ".")
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("go build: %v", err)
	}
	return bin
}

// TestCommand builds the command and checks its version and plugins. CoreDNS tests the
// rest.
func TestCommand(t *testing.T) {
	bin := build(t)
	tests := []struct {
		flag string
		want []string
	}{
		{"-version", []string{"CoreDNS-1.15.0+rserpool-v1.2.3"}},
		{"-plugins", []string{"\nrserpool\n", "\ndnssec\n", "\nforward\n", "\ntransfer\n"}},
	}
	for _, tt := range tests {
		out, err := exec.Command(bin, tt.flag).CombinedOutput()
		if err != nil {
			t.Fatalf("coredns %s: %v\n%s", tt.flag, err, out)
		}
		for _, want := range tt.want {
			if !strings.Contains(string(out), want) {
				t.Errorf("coredns %s: got\n%s\nwant %q in it", tt.flag, out, want)
			}
		}
	}
}

// TestUpgradeRefused sends SIGUSR2, which changes nothing: the server still answers, and
// SIGTERM ends it.
func TestUpgradeRefused(t *testing.T) {
	bin := build(t)
	dir := t.TempDir()
	corefile := filepath.Join(dir, "Corefile")
	port, asap, encap := here.FreePort(t), here.FreePort(t), here.FreePort(t)
	text := fmt.Sprintf(`pool.example.org:%d {
	bind 127.0.0.1
	rserpool {
		asap 127.0.0.1:%d
		transport udp
		encap %d
	}
}
`, port, asap, encap)
	if err := os.WriteFile(corefile, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "-conf", corefile)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	stuck := time.AfterFunc(30*time.Second, func() { _ = cmd.Process.Kill() })
	defer stuck.Stop()
	lines := bufio.NewScanner(out)
	waitFor := func(text string) {
		t.Helper()
		for lines.Scan() {
			t.Log(lines.Text())
			if strings.Contains(lines.Text(), text) {
				return
			}
		}
		t.Fatalf("the server ended before it said %q", text)
	}
	ask := func() {
		t.Helper()
		m := new(dns.Msg).SetQuestion("pool.example.org.", dns.TypeSOA)
		if _, err := dns.Exchange(m, net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port)))); err != nil {
			t.Fatalf("no answer: %v", err)
		}
	}
	waitFor("CoreDNS-")
	ask()
	if err := cmd.Process.Signal(syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	waitFor("SIGUSR2 is refused")
	ask()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for lines.Scan() {
		t.Log(lines.Text())
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("SIGTERM: %v, want exit status 0", err)
	}
}
