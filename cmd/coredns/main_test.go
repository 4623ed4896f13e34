package main

import (
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/coredns/coredns/core/dnsserver"
	"github.com/google/go-cmp/cmp"
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

// TestCommand builds the command and checks its version and plugins. CoreDNS tests the
// rest.
func TestCommand(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the whole of CoreDNS")
	}
	bin := filepath.Join(t.TempDir(), "coredns")
	build := exec.Command("go", "build", "-ldflags", "-X main.version=v1.2.3", "-o", bin, ".")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		t.Fatalf("go build: %v", err)
	}
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
