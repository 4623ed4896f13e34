package clients_test

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"

	"github.com/rserpool/coredns-rserpool/test/clients"
	"github.com/rserpool/coredns-rserpool/test/clients/recipe"
	"github.com/rserpool/coredns-rserpool/test/network"
)

// apps builds the programs of the module in apps, which has the client packages of
// MongoDB, etcd and gRPC: the product's module need not know them.
func apps(t *testing.T) string {
	t.Helper()
	buildApps.Do(func() {
		run := func(args ...string) (string, error) {
			cmd := exec.Command("go", args...)
			cmd.Dir = "apps"
			out, err := cmd.CombinedOutput()
			if err != nil {
				err = fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
			}
			return string(out), err
		}
		if _, noModules = run("mod", "download"); noModules != nil {
			return
		}
		if appsDir, noApps = os.MkdirTemp("", "apps"); noApps == nil {
			_, noApps = run("build", "-o", appsDir+string(filepath.Separator), "./...")
		}
	})
	if noModules != nil && os.Getenv("CI") == "" {
		t.Skipf("LEFT OUT: the modules of test/clients/apps cannot be downloaded: %v", noModules)
	}
	if noModules != nil || noApps != nil {
		t.Fatal(noModules, noApps)
	}
	return appsDir
}

var (
	buildApps         sync.Once
	appsDir           string
	noModules, noApps error
)

// removeApps is called at the end of TestMain.
func removeApps() {
	if appsDir != "" {
		_ = os.RemoveAll(appsDir)
	}
}

// appsSite has the pools of the page, whose dead elements are out after 2 s.
func appsSite(t *testing.T) *clients.Site {
	t.Helper()
	const asap = "asap 192.0.2.53\n"
	return clients.New(t, recipe.Text(t, "apps.corefile", asap, asap+`        transport udp
        timer KEEP-ALIVE-INTERVAL 500ms
        timer KEEP-ALIVE-TIMEOUT 1s
`))
}

// app is a pool of servers that rsp runs.
type app struct {
	s    *clients.Site
	pool string
	list []*network.Process
}

// member adds a server on a host of its own; the command contains ADDRESS.
func (a *app) member(address string, port int, command ...string) {
	h := a.s.Host(a.pool+address[strings.LastIndex(address, "."):], address)
	args := []string{"register", "--registrar", clients.Server, "--via", "udp", "--pool", a.pool,
		"--serve", fmt.Sprintf("tcp:%d", port), "--check", "tcp", "--"}
	for _, c := range command {
		args = append(args, strings.ReplaceAll(c, "ADDRESS", address))
	}
	a.list = append(a.list, h.RSP(args...))
}

// client is a host that asks the registrar's server.
func client(s *clients.Site, name string) *network.Host {
	h := s.Client(name)
	h.File("/etc/resolv.conf", "nameserver "+clients.Server+"\n")
	return h
}

// TestMongo: the driver of MongoDB finds the servers by SRV. It needs no TXT, and takes the
// replica set's name from one.
func TestMongo(t *testing.T) {
	t.Parallel()
	s := appsSite(t)
	dir := apps(t)
	a := &app{s: s, pool: "mongo"}
	for i := range 3 {
		a.member(fmt.Sprintf("203.0.113.%d", 11+i), 27017, filepath.Join(dir, "servers"), "mongos", "ADDRESS:27017")
	}
	c := client(s, "client")
	q := clients.Watch(s.Net.LAN, clients.Server)
	s.Registrar.Has(clients.Server, "mongo", 3)
	set := &app{s: s, pool: "rs0"}
	set.member("203.0.113.14", 27017, filepath.Join(dir, "servers"), "mongod", "ADDRESS:27017")
	s.Registrar.Has(clients.Server, "rs0", 1)
	out, err := c.Try(filepath.Join(dir, "mongo"), "mongodb+srv://rs0.pool.example.org/?tls=false")
	if err != nil || !strings.Contains(out, "replica set: rs0\n") || !strings.Contains(out, "servers: 1 ReplicaSetWithPrimary\n") || !strings.Contains(out, "ping: ok\n") {
		t.Errorf("got %s, %v, want a replica set and a ping", out, err)
	}
	out, err = c.Try(filepath.Join(dir, "mongo"), "mongodb+srv://mongo.pool.example.org/?tls=false")
	if err != nil {
		t.Fatal(err)
	}
	t.Log(out)
	if !strings.Contains(out, "servers: 3 Sharded\n") || !strings.Contains(out, "ping: ok\n") {
		t.Error("want three servers and a ping")
	}
	wantAsked(t, q.Of(c), "SRV _mongodb._tcp.mongo", "TXT mongo")
}

// TestGRPC: gRPC balances over all addresses of a pool with `addresses`, and over the
// elements of the SRV records.
func TestGRPC(t *testing.T) {
	t.Parallel()
	s := appsSite(t)
	dir := apps(t)
	a := &app{s: s, pool: "grpc"}
	for i := range 3 {
		a.member(fmt.Sprintf("203.0.113.%d", 21+i), 50051, filepath.Join(dir, "servers"), "grpc", "ADDRESS:50051")
	}
	c := client(s, "client")
	q := clients.Watch(s.Net.LAN, clients.Server)
	s.Registrar.Has(clients.Server, "grpc", 3)
	for _, target := range []string{"dns:///grpc.pool.example.org:50051", "srv:///_grpc._tcp.grpc.pool.example.org"} {
		out, err := c.Try(filepath.Join(dir, "grpc"), target, "3")
		if err != nil {
			t.Fatal(err)
		}
		if want := "[203.0.113.21:50051 203.0.113.22:50051 203.0.113.23:50051]\n"; out != want {
			t.Errorf("%s: got %s, want %s", target, out, want)
		}
	}
	wantAsked(t, q.Of(c), "A grpc", "AAAA grpc", "TXT _grpc_config.grpc", "SRV _grpc._tcp.grpc")
}

// TestEtcd: etcd's client package finds the members by SRV, each once, and writes.
func TestEtcd(t *testing.T) {
	t.Parallel()
	clients.Need(t, "etcd", "etcd-server")
	s := appsSite(t)
	dir := apps(t)
	var cluster []string
	for i := range 3 {
		cluster = append(cluster, fmt.Sprintf("m%d=http://203.0.113.%d:2380", i, 31+i))
	}
	a := &app{s: s, pool: "etcd"}
	for i := range 3 {
		a.member(fmt.Sprintf("203.0.113.%d", 31+i), 2379, "etcd", "--name", fmt.Sprintf("m%d", i), "--data-dir", t.TempDir(),
			"--listen-client-urls", "http://ADDRESS:2379", "--advertise-client-urls", "http://ADDRESS:2379",
			"--listen-peer-urls", "http://ADDRESS:2380", "--initial-advertise-peer-urls", "http://ADDRESS:2380",
			"--initial-cluster", strings.Join(cluster, ","))
	}
	c := client(s, "client")
	q := clients.Watch(s.Net.LAN, clients.Server)
	s.Registrar.Has(clients.Server, "etcd", 3)
	for range 2 { // all members, and without one
		out, err := c.Try(filepath.Join(dir, "etcd"))
		if err != nil {
			t.Fatal(err)
		}
		t.Log(out)
		if !strings.Contains(out, "greeting=hello\n") || strings.Contains(out, "https://") || strings.Count(out, "http://") != len(a.list) {
			t.Errorf("want %d members and a greeting", len(a.list))
		}
		a.list[0].Signal(os.Kill)
		a.list = a.list[1:]
		s.Registrar.Has(clients.Server, "etcd", len(a.list))
	}
	wantAsked(t, q.Of(c), "SRV _etcd-client-ssl._tcp.etcd", "SRV _etcd-client._tcp.etcd")
}

// wantAsked: a client has asked for these names of the zone.
func wantAsked(t *testing.T, list []clients.Question, want ...string) {
	t.Helper()
	asked := map[string]bool{}
	for _, q := range list {
		asked[dns.TypeToString[q.Type]+" "+strings.TrimSuffix(q.Name, "."+network.Zone)] = true
	}
	for _, w := range want {
		if !asked[w] {
			t.Errorf("the client has not asked for %s, but for %v", w, slices.Sorted(maps.Keys(asked)))
		}
	}
}
