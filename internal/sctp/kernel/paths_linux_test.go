package kernel_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/kernel"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
	"github.com/rserpool/coredns-rserpool/test/here"
)

// TestKernelNetworkDies takes the first of two networks away from two hosts of
// which one or both have the kernel's SCTP.
func TestKernelNetworkDies(t *testing.T) {
	for _, tt := range []struct {
		name string
		user bool // x is user space
		line string
	}{
		{"kernel and kernel, their side", false, "ip -n y link set eth0 down"},
		{"user space and kernel, kernel's side", true, "ip -n y link set eth0 down"},
		{"user space and kernel, user space's side", true, "ip -n x link set eth0 down"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			kernel.Hosts(t, map[string][]string{
				"x": {"10.9.0.1/24", "10.9.1.1/24"},
				"y": {"10.9.0.2/24", "10.9.1.2/24"},
			})
			kernel.Sysctl(t, "y", "net.sctp.udp_port=9899")
			var x *sctptest.Site
			kind := sctp.Kernel
			if tt.user {
				kind = sctp.UDP
				_, x = userSide(t, "x", 9899, "10.9.0.1:0", "10.9.1.1:0")
			} else {
				x = kernel.Side(t, "x", sctp.Limits{}, "10.9.0.1:0", "10.9.1.1:0")
			}
			y := kernel.Side(t, "y", sctp.Limits{}, "10.9.0.2:3863", "10.9.1.2:3863")
			x.Connect(sctp.Dest{Addrs: []netip.AddrPort{netip.MustParseAddrPort("10.9.0.2:3863"), netip.MustParseAddrPort("10.9.1.2:3863")}, Kind: kind})
			a, b := x.Up().Assoc, y.Up().Assoc
			ask := func() time.Duration {
				start := time.Now()
				x.Say(a, "request")
				y.Received()
				y.Say(b, "response")
				x.Received()
				return time.Since(start)
			}
			ask()
			if !tt.user {
				waitConfirmed(t, "x", "10.9.1.2")
			}
			waitConfirmed(t, "y", "10.9.1.1")
			ask()
			kernel.Sh(t, tt.line)
			var worst time.Duration
			for end := time.Now().Add(5 * time.Second); time.Now().Before(end); {
				worst = max(worst, ask())
			}
			t.Logf("out for %v", worst.Round(time.Millisecond))
			if worst > 2*time.Second+here.Paced(t, 500*time.Millisecond) { // the lab has one slow processor
				t.Errorf("a request and its response took %v, want about 2 s at most", worst)
			}
		})
	}
}

// waitConfirmed waits until the kernel on a host has a peer's address in use.
func waitConfirmed(t *testing.T, host, addr string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !confirmed(t, host, addr); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the kernel on %s has not confirmed %s within 20s", host, addr)
		}
	}
}

// TestKernelNarrowPath has a router with a narrow way to one of two hosts, who
// never hear of it: what the router says is dropped.
func TestKernelNarrowPath(t *testing.T) {
	kernel.Hosts(t, map[string][]string{
		"x": {"10.99.0.1/24"},
		"r": {"10.99.0.254/24,10.99.0.253/24", "10.99.1.254/24,10.99.1.253/24"},
		"y": {"10.99.1.2/24"},
	})
	for host, gateway := range map[string]string{"x": "10.99.0.25", "y": "10.99.1.25"} {
		kernel.Sh(t, "ip -n "+host+" route add default via "+gateway+"3")
		// Packets from an address that there is no route to are dropped. The
		// router's own come from its first one.
		kernel.Sysctl(t, host, "net.ipv4.conf.all.rp_filter=1", "net.ipv4.conf.eth0.rp_filter=1")
		kernel.Sh(t, "ip -n "+host+" route add unreachable "+gateway+"4/32")
		kernel.Sh(t, "ip -n "+host+" link set eth0 address 02:00:00:00:00:0"+map[string]string{"x": "1", "y": "2"}[host])
	}
	kernel.Sysctl(t, "r", "net.ipv4.ip_forward=1")
	kernel.Sh(t, "ip -n r neigh replace 10.99.0.1 lladdr 02:00:00:00:00:01 dev eth0")
	kernel.Sh(t, "ip -n r neigh replace 10.99.1.2 lladdr 02:00:00:00:00:02 dev eth1")
	kernel.Sh(t, "ip -n r link set eth1 mtu 1000")
	x := kernel.Side(t, "x", sctp.Limits{}, "10.99.0.1:0")
	y := kernel.Side(t, "y", sctp.Limits{}, "10.99.1.2:3863")
	for _, h := range []string{"x", "y"} {
		// A router that takes a packet apart whose CRC32c is left to the device,
		// as a veth has it, writes another checksum in its place.
		kernel.OnHost(t, h, func() { noChecksumOffload(t, "eth0") })
	}
	ours, _ := kernel.Call(x, y)
	for _, n := range []int{900, 1400, 30000} {
		start := time.Now()
		if err := x.Send(ours.Assoc, sctp.Message{Data: sctptest.Message(n, 1)}); err != nil {
			t.Fatal(err)
		}
		y.Received()
		t.Logf("%d bytes took %v", n, time.Since(start).Round(time.Millisecond))
	}
}

// noChecksumOffload has the kernel compute checksums, not a device.
func noChecksumOffload(t *testing.T, dev string) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	value := struct{ cmd, data uint32 }{unix.ETHTOOL_STXCSUM, 0}
	req := struct {
		name  [unix.IFNAMSIZ]byte
		value unsafe.Pointer
		_     [16]byte
	}{value: unsafe.Pointer(&value)}
	copy(req.name[:], dev)
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req))); e != 0 {
		t.Fatalf("checksums of %s: %v", dev, e)
	}
}

// TestKernelOnePathLives cuts three of four networks at once. The kernel tries one
// after the other, and must not give the peer up before it reaches the last.
func TestKernelOnePathLives(t *testing.T) {
	var of [2][]string
	for i := range 4 {
		for j := range of {
			of[j] = append(of[j], fmt.Sprintf("10.99.%d.%d/24", i, j+1))
		}
	}
	kernel.Hosts(t, map[string][]string{"ha": of[0], "hb": of[1]})
	kernel.Sysctl(t, "ha", "net.sctp.rto_min=200")
	kernel.Sysctl(t, "hb", "net.sctp.rto_min=200")
	side := func(host, port string, addrs []string) *sctptest.Site {
		var list []string
		for _, a := range addrs {
			list = append(list, strings.TrimSuffix(a, "/24")+port)
		}
		return kernel.Side(t, host, sctp.Limits{Heartbeat: 200 * time.Millisecond}, list...)
	}
	a, b := side("ha", ":3863", of[0]), side("hb", ":0", of[1])
	b.Connect(sctp.Dest{Addrs: a.LocalAddrs(), Kind: sctp.Kernel})
	toA, toB := b.Up().Assoc, a.Up().Assoc
	for i := range 4 {
		waitConfirmed(t, "hb", fmt.Sprintf("10.99.%d.1", i))
		waitConfirmed(t, "ha", fmt.Sprintf("10.99.%d.2", i))
	}
	for i := range 3 {
		kernel.Sh(t, fmt.Sprintf("ip -n ha link set eth%d down", i))
	}
	start := time.Now()
	for i := range 5 {
		text := fmt.Sprint("message ", i)
		a.Say(toB, text)
		if got := string(b.Received().Message.Data); got != text {
			t.Errorf("got %q, want %q", got, text)
		}
		b.Say(toA, text)
		a.Received()
	}
	t.Logf("five requests and answers in %v", time.Since(start))
}
