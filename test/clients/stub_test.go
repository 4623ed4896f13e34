package clients_test

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/rserpool/coredns-rserpool/test/clients"
	"github.com/rserpool/coredns-rserpool/test/clients/recipe"
	"github.com/rserpool/coredns-rserpool/test/network"
)

// TestStubZones: unbound, BIND and a cluster's CoreDNS, with the configurations of
// docs/clients.md, give the pool to their clients, and forget a dead element when its
// records have expired.
func TestStubZones(t *testing.T) {
	t.Parallel()
	s := clients.New(t, corefile("ttl 1"))
	s.Elements("web", pool(1, 2)...)
	dying := s.Elements("web", pool(100, 1)...)
	resolvers := map[string]string{
		"unbound":                 s.Unbound(recipe.Text(t, "unbound.conf", "server:\n", "")).Address,
		"BIND":                    s.BIND("validate-except { \"pool.example.org\"; };", recipe.Text(t, "named.conf")).Address,
		"Kubernetes":              cluster(t, s, "192.0.2.10", "kubernetes.corefile"),
		"Kubernetes with a cache": cluster(t, s, "192.0.2.11", "kubernetes-cache.corefile"),
	}
	c := s.Client("client")
	for _, server := range resolvers {
		c.Has(server, "web", 3)
		m, err := c.Query(server, "web."+network.Zone, dns.TypeA)
		if err != nil || len(m.Answer) != 1 || m.Answer[0].Header().Ttl > 1 {
			t.Errorf("%s: got %v, %v, want one address, for 1 s at most", server, m, err)
		}
	}
	dying.Kill()
	s.Registrar.Has(clients.Server, "web", 2)
	start := time.Now()
	for name, server := range resolvers {
		c.Has(server, "web", 2)
		t.Logf("%s has two elements after %v", name, time.Since(start))
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("that took %v, with a TTL of 1 s", took)
	}
}

// TestKubernetesRegistrars: a cluster asks another registrar while one does not know its handlespace yet.
func TestKubernetesRegistrars(t *testing.T) {
	t.Parallel()
	s := clients.New(t, corefile("ttl 0"))
	s.Elements("web", pool(1, 2)...)
	second := s.Host("second", "192.0.2.54")
	starting := second.CoreDNS("pool.example.org {\n rserpool {\n asap 192.0.2.54\n transport udp\n peer 192.0.2.99\n timer MAX-TIME-NO-RESPONSE 5m\n}\n}\n")
	starting.WaitFor("CoreDNS-") // it serves then
	address := cluster(t, s, "192.0.2.10", "kubernetes-registrars.corefile")
	c := s.Client("client")
	if m, err := c.Query("192.0.2.54", "web."+network.Zone, dns.TypeA); err != nil || m.Rcode != dns.RcodeServerFailure {
		t.Fatalf("the second registrar: got %v, %v, want SERVFAIL", m, err)
	}
	for range 40 {
		if m, err := c.Query(address, "web."+network.Zone, dns.TypeA); err != nil || len(m.Answer) != 1 {
			t.Fatalf("got %v, %v, want an address", m, err)
		}
	}
}

// cluster starts the CoreDNS of a Kubernetes cluster with a server block of the page, and
// returns its address. All other names do not exist there.
func cluster(t *testing.T, s *clients.Site, address, block string) string {
	t.Helper()
	h := s.Host("cluster", address)
	h.CoreDNS(recipe.Text(t, block) + ".:53 {\n    template ANY ANY {\n        rcode NXDOMAIN\n    }\n}\n")
	h.Serving(address)
	return address
}

// TestKubernetesSearch: in a pod, a name without a dot at the end is first looked up in
// the cluster's search domains.
func TestKubernetesSearch(t *testing.T) {
	t.Parallel()
	s := clients.New(t, corefile("ttl 0"))
	s.Elements("web", pool(1, 2)...)
	address := cluster(t, s, "192.0.2.10", "kubernetes.corefile")
	pod := s.Client("pod")
	pod.File("/etc/resolv.conf", "search default.svc.cluster.local svc.cluster.local cluster.local\nnameserver "+address+"\noptions ndots:5\n")
	q := clients.Watch(s.Net.LAN, address)
	for i, name := range []string{"web.pool.example.org.", "web.pool.example.org"} {
		before := len(q.Of(pod))
		pod.Run("getent", "ahosts", name)
		if got, want := len(q.Of(pod))-before, []int{2, 8}[i]; got != want {
			t.Errorf("%s: %d questions, want %d: %v", name, got, want, q.Of(pod)[before:])
		}
	}
}

// TestResolved: systemd-resolved asks the registrar's server for the zone, and its own
// clients get the pool. Its D-Bus and its files are the host's own here.
func TestResolved(t *testing.T) {
	t.Parallel()
	const daemon = "/lib/systemd/systemd-resolved"
	if !executable(daemon) || !executable("/usr/bin/dbus-daemon") {
		t.Skip("LEFT OUT: no systemd-resolved on this machine (Debian package systemd-resolved, which takes over /etc/resolv.conf)")
	}
	s := clients.New(t, corefile("ttl 5\npool web dnssd http\npool web txt path=/ a"))
	s.Elements("web", pool(1, 3)...)
	c := s.Client("client")
	c.File("/etc/resolv.conf", "nameserver 127.0.0.53\n")
	c.Run("sh", "-e", "-c", `
for dir in /run/systemd /run/dbus /etc/systemd; do mount -t tmpfs tmpfs $dir; done
mkdir -p /run/systemd/resolve
chown systemd-resolve:systemd-resolve /run/systemd/resolve`)
	c.Start("dbus-daemon", "--nofork", "--nopidfile", "--config-file", c.NewFile("dbus.conf", `<busconfig>
<type>session</type><listen>unix:path=/run/dbus/system_bus_socket</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/></policy>
</busconfig>`))
	network.Eventually(t, "D-Bus serves", func() error {
		_, err := c.Try("test", "-S", "/run/dbus/system_bus_socket")
		return err
	})
	c.Start(daemon)
	network.Eventually(t, "systemd-resolved serves", func() error {
		_, err := c.Try("resolvectl", "dns", "eth0")
		return err
	})
	for line := range strings.Lines(recipe.Text(t, "resolved.sh")) {
		c.Run("sh", "-c", line)
	}
	q := clients.Watch(s.Net.LAN, clients.Server)
	out := c.Run("resolvectl", "service", "_http._tcp.web.pool.example.org")
	for i := range 3 {
		if want := fmt.Sprintf("pe-%08x.web.pool.example.org:8080 [priority=0, weight=1]", i+1); !strings.Contains(out, want) {
			t.Errorf("got %s, want %s", out, want)
		}
	}
	out = c.Run("resolvectl", "service", "web", "_http._tcp", "pool.example.org") // DNS-SD
	for _, want := range []string{"web/_http._tcp/pool.example.org", "pe-00000003.web.pool.example.org:8080", "203.0.113.1", "path=/\n", "a\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("got %s, want %q", out, want)
		}
	}
	before := len(q.Of(c))
	first, second := c.Run("getent", "ahosts", "web.pool.example.org"), c.Run("getent", "ahosts", "web.pool.example.org")
	if first != second || !strings.Contains(first, "203.0.113.") {
		t.Errorf("got %s, and then %s", first, second)
	}
	list := q.Of(c)[before:]
	if len(list) != 2 || list[0].EDNS != 1472 || list[0].Client == list[1].Client {
		t.Errorf("got the questions %v, want A and AAAA from two ports with EDNS 1472, and the second time from the cache", list)
	}
}

// executable says whether a file is there to be run.
func executable(path string) bool {
	_, err := exec.LookPath(path)
	return err == nil
}
