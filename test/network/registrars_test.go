package network_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/rserpool/coredns-rserpool/test/network"
)

// registrar is a host with CoreDNS.
type registrar struct {
	*network.Host
	addr string
	*network.Process
}

// corefile serves the tests' zone with options of the plugin.
func corefile(options string) string {
	return ".:53 {\n rserpool " + strings.TrimSuffix(network.Zone, ".") + " {\n" + options + "\n }\n log\n errors\n}\n"
}

// bridged makes three hosts, each with docker0 and its address 172.17.0.1, and
// starts a registrar on each.
func bridged(t *testing.T, options func(i int) string) []registrar {
	t.Parallel()
	n := network.New(t)
	var all []registrar
	for i := 1; i <= 3; i++ {
		addr := fmt.Sprintf("10.98.1.%d", i)
		h := n.Host(fmt.Sprintf("h%d", i), addr+"/24")
		h.Bridge("docker0", "172.17.0.1/16")
		all = append(all, registrar{Host: h, addr: addr})
	}
	for i := range all {
		all[i].Process = all[i].CoreDNS(corefile(options(i)))
	}
	return all
}

// share has one element register at each registrar, waits until each names all of
// them, and looks into the logs.
func share(t *testing.T, all []registrar) {
	t.Helper()
	for i, r := range all {
		r.Serving(r.addr)
		r.RSP("register", "--registrar", r.addr, "--pool", "web", "--local", r.addr, "--serve", fmt.Sprintf("tcp:%d", 80+i)).WaitFor("registered")
	}
	for _, r := range all {
		took := r.Has(r.addr, "web", len(all))
		t.Logf("%s names all after %v", r.Name, took.Round(time.Millisecond))
	}
	for _, r := range all {
		if out := r.Output(); strings.Contains(out, "no other registrar was heard") {
			t.Errorf("%s has not heard the others:\n%s", r.Name, out)
		}
	}
}

// TestSharedBridgeByMulticast: three hosts with docker0 find one another by
// enrp_announce.
func TestSharedBridgeByMulticast(t *testing.T) {
	share(t, bridged(t, func(int) string { return "enrp_announce" }))
}

// TestSharedBridgeNamed: the same where the bridge's address is offered, because the
// operator names it.
func TestSharedBridgeNamed(t *testing.T) {
	share(t, bridged(t, func(i int) string {
		return fmt.Sprintf("enrp_announce\ntransport udp\nasap 172.17.0.1 10.98.1.%d\nenrp 172.17.0.1 10.98.1.%[1]d", i+1)
	}))
}

// TestSharedBridgeByPeer: the second and the third one name the first one; they
// learn of each other from it.
func TestSharedBridgeByPeer(t *testing.T) {
	share(t, bridged(t, func(i int) string {
		if i == 0 {
			return "enrp 10.98.1.1 172.17.0.1\ntransport udp"
		}
		return fmt.Sprintf("enrp 10.98.1.%d 172.17.0.1\ntransport udp\npeer 10.98.1.1", i+1)
	}))
}

// TestRegistrarBeforeNetwork: a registrar is started before the machine has an
// address. It finds the other one some seconds after it has.
func TestRegistrarBeforeNetwork(t *testing.T) {
	t.Parallel()
	n := network.New(t)
	first := n.Host("first", "10.98.1.1/24")
	first.CoreDNS(corefile("enrp_announce"))
	late := n.Host("late")
	p := late.CoreDNS(corefile("enrp_announce"))
	late.Serving("127.0.0.1")
	first.RSP("register", "--registrar", "10.98.1.1", "--pool", "web", "--serve", "tcp:80").WaitFor("registered")
	late.Link("eth0", n.LAN, "10.98.1.2/24")
	start := time.Now()
	p.WaitFor("is a peer")
	late.Has("10.98.1.2", "web", 1)
	if took := time.Since(start); took > 15*time.Second {
		t.Errorf("the registrars share a handlespace %v after the network has come up, want 15 s at most", took)
	} else {
		t.Logf("%v", took)
	}
}

// TestRegistrarChangesAddress: a registrar's address is replaced. Its peers learn
// the new one, and what registers there is seen everywhere.
func TestRegistrarChangesAddress(t *testing.T) {
	t.Parallel()
	n := network.New(t)
	a, b := n.Host("a", "10.98.1.1/24"), n.Host("b", "10.98.1.2/24")
	pa, pb := a.CoreDNS(corefile("enrp_announce")), b.CoreDNS(corefile("enrp_announce"))
	pa.Next("is a peer")
	pb.Next("is a peer")
	b.IP("addr add 10.98.1.7/24 dev eth0")
	b.IP("addr del 10.98.1.2/24 dev eth0")
	b.IP("addr add 10.98.1.7/24 dev eth0") // it was a further one, and gone with the first
	start := time.Now()
	b.RSP("register", "--registrar", "10.98.1.7", "--pool", "web", "--serve", "tcp:80").WaitFor("registered")
	a.Has("10.98.1.1", "web", 1)
	if took := time.Since(start); took > 15*time.Second {
		t.Errorf("the peer is reached %v after the change, want 15 s at most", took)
	} else {
		t.Logf("%v", took)
	}
}

// TestNATLogged: a container lists two addresses of its own, both private. The
// registrar takes neither of them for the element's, registers the address that it
// sees, and both sides say which is which.
func TestNATLogged(t *testing.T) {
	t.Parallel()
	n := network.New(t)
	r, h := n.Host("registrar", "10.98.1.1/24"), n.Host("host", "10.98.1.2/24")
	h.Bridge("docker0", "172.17.0.1/16", "fd17::1/64")
	c := h.Container("container", "docker0", "172.17.0.2/16", "fd17::2/64")
	h.Masquerade("eth0")
	p := r.CoreDNS(corefile("ttl 0"))
	r.Serving("10.98.1.1")
	e := c.RSP("register", "--registrar", "10.98.1.1", "--pool", "jobs", "--serve", "sctp:5001", "--via", "udp", "--address", "172.17.0.2", "--address", "fd17::2")
	e.WaitFor("registered is sctp 10.98.1.2 port 5001")
	p.WaitFor("is registered at the address that its packets come from: it offers 172.17.0.2, fd17::2, and its packets come from 10.98.1.2")
	got, err := r.Lookup("10.98.1.1", "jobs."+network.Zone, dns.TypeA)
	if err != nil || len(got) != 1 || got[0] != "10.98.1.2" {
		t.Errorf("DNS has %q, %v, want 10.98.1.2", got, err)
	}
	if got, err := r.Lookup("10.98.1.1", "jobs."+network.Zone, dns.TypeAAAA); err != nil || len(got) != 0 {
		t.Errorf("DNS has %q, %v, want no IPv6 address", got, err)
	}
}

// TestInterfaceComesBack: the interface of two registrars' hosts is down for longer
// than the registrars look for new interfaces. When it is up again they find each
// other by multicast: their membership of the group has outlived it.
func TestInterfaceComesBack(t *testing.T) {
	t.Parallel()
	n := network.New(t)
	var all []registrar
	for i := 1; i <= 2; i++ {
		addr := fmt.Sprintf("10.98.1.%d", i)
		h := n.Host(fmt.Sprintf("h%d", i), addr+"/24")
		p := h.CoreDNS(corefile("enrp_announce\ntimer PEER-HEARTBEAT-CYCLE 1s"))
		p.WaitFor("registrar serves")
		h.Eth0().Down()
		all = append(all, registrar{h, addr, p})
	}
	for _, r := range all {
		r.WaitFor("no other registrar was heard")
		r.WaitFor("the machine's addresses have changed")
	}
	for _, r := range all {
		r.Eth0().Up()
		r.IP("addr replace", r.addr+"/24", "dev eth0")
	}
	start := time.Now()
	for _, r := range all {
		r.WaitFor("is a peer")
	}
	t.Logf("peers after %v", time.Since(start).Round(time.Millisecond))
}
