package network_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/test/binary"
	"github.com/rserpool/coredns-rserpool/test/network"
)

// kind is the SCTP of the test: in the kernel lab the kernel's, elsewhere that in UDP.
func kind() string {
	if os.Getenv("IN_UML") != "" {
		return "kernel"
	}
	return "udp"
}

// keys makes the directories of a registrar, ns1, and of an element of the pool jobs, host1. It returns
// their parent, and the option of the Corefile.
func keys(t *testing.T, h *network.Host) (dir, tls string) {
	t.Helper()
	dir = t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	rsp := binary.Path(t, "rsp")
	h.Run(rsp, "ca", "init", "example.org", "--dir", at("ca"))
	h.Run(rsp, "ca", "issue", "registrar/ns1", "--dir", at("ca"), "--out", at("ns1"))
	h.Run(rsp, "ca", "issue", "pool/jobs/host1", "--dir", at("ca"), "--out", at("host1"))
	return dir, strings.Join([]string{"tls", at("ns1/cert.pem"), at("ns1/key.pem"), at("ns1/ca.pem")}, " ")
}

// TestTrustedNetworkDies: in a trusted scope, registrar and element are on two networks. One of them
// dies in the middle of keep-alives, and then the other one in its place. The association goes on, and
// with it the keep-alives and the re-registrations. Another element registers meanwhile.
func TestTrustedNetworkDies(t *testing.T) {
	notShort(t)
	t.Parallel()
	n := network.New(t)
	second := n.NewLAN()
	r, e := machine(n, "registrar", "10.98.1.1"), machine(n, "element", "10.98.1.2")
	eth1 := r.Link("eth1", second, "10.98.2.1/24")
	e.Link("eth1", second, "10.98.2.2/24")
	dir, tls := keys(t, r)
	r.CoreDNS(counted("asap 10.98.1.1 10.98.2.1", "transport "+kind(), tls, quick))
	r.Serving("127.0.0.1")
	register := []string{"register", "--via", kind(), "--tls", filepath.Join(dir, "host1"), "-p", "jobs", "-s", "sctp:5001", "--life", "9s", "--reregister", "1s",
		"-r", "10.98.1.1,10.98.2.1", "--local", "10.98.1.2", "--local", "10.98.2.2", "--address", "10.98.1.2", "--address", "10.98.2.2"}
	p := e.RSP(register...)
	r.Has("127.0.0.1", "jobs", 1)
	count := func(metric string) int {
		text, err := metrics(r)
		if err != nil {
			t.Fatal(err)
		}
		return sum(text, "coredns_rserpool_"+metric+`\{[^}]*\}`)
	}
	// goesOn waits for more keep-alives and re-registrations.
	goesOn := func(when string) {
		t.Helper()
		acked, again := count("keepalives_acked_total")+3, count("reregistrations_total")+2
		took := network.Eventually(t, "keep-alives and re-registrations "+when, func() error {
			if a, b := count("keepalives_acked_total"), count("reregistrations_total"); a < acked || b < again {
				return fmt.Errorf("%d keep-alives, want %d, %d re-registrations, want %d", a, acked, b, again)
			}
			return nil
		})
		t.Logf("%s: 3 keep-alives and 2 re-registrations in %v, %d of them late so far", when, took.Round(time.Millisecond), count("keepalives_timed_out_total"))
	}
	goesOn("with both networks")
	r.Eth0().Wire(network.Wire{Dead: true})
	goesOn("without the first network")
	start := time.Now()
	other := e.RSP(append(register, "--id", "0000002a")...)
	r.Has("127.0.0.1", "jobs", 2)
	t.Logf("another element is in DNS %v after its start", time.Since(start).Round(time.Millisecond))
	other.Signal(syscall.SIGTERM)
	other.Wait()
	r.Has("127.0.0.1", "jobs", 1)
	r.Eth0().Wire(network.Wire{})
	goesOn("with both networks again")
	eth1.Wire(network.Wire{Dead: true})
	goesOn("without the second network")
	if got := count("associations_total"); got != 2 {
		t.Errorf("%d associations in all, want one of each element", got)
	}
	if got := count("elements_removed_total"); got != 1 {
		t.Errorf("%d elements removed, want only the one that has deregistered", got)
	}
	p.Signal(syscall.SIGTERM)
	p.Wait()
	r.Has("127.0.0.1", "jobs", 0)
	if strings.Contains(p.Output(), "no registrar") {
		t.Error("the registrar was lost")
	}
}
