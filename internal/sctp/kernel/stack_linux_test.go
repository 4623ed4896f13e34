package kernel_test

import (
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/kernel"
	"github.com/rserpool/coredns-rserpool/internal/sctp/localaddr"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
	"github.com/rserpool/coredns-rserpool/internal/sctp/stack"
)

// stackSide listens on a host with a Stack of its own.
func stackSide(t testing.TB, host string, cfg stack.Config, addr string) *sctptest.Site {
	t.Helper()
	s := sctptest.NewSite(t)
	var st *stack.Stack
	var err error
	cfg.Logf = func(format string, args ...any) { t.Logf(host+": "+format, args...) }
	kernel.OnHost(t, host, func() {
		cfg.Machine = localaddr.New(cfg.Logf)
		cfg.Machine.Inside = func(f func()) { kernel.OnHost(t, host, f) }
		if st, err = stack.New(cfg); err == nil {
			s.Endpoint, err = st.Listen(sctp.ListenConfig{Addrs: []netip.AddrPort{netip.MustParseAddrPort(addr)}}, s.Handle)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	return s
}

// TestKernelAndUserSpace: kernel SCTP in UDP on one side, user space on the
// other; each calls the other.
func TestKernelAndUserSpace(t *testing.T) {
	kernel.Hosts(t, map[string][]string{"ha": {"10.99.0.1/24,fd00:99::1/64"}, "hb": {"10.99.0.2/24,fd00:99::2/64"}})
	kernel.Encapsulate(t, "ha")
	for _, tc := range []struct {
		name, a, b string
		encap      uint16
	}{
		{"IPv4", "10.99.0.1:3863", "10.99.0.2:3863", sctp.EncapPort},
		{"IPv6", "[fd00:99::1]:3863", "[fd00:99::2]:3863", sctp.EncapPort},
		{"client's UDP port", "10.99.0.1:3864", "10.99.0.2:4000", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := stackSide(t, "ha", stack.Config{EncapPort: sctp.EncapPort}, tc.a)
			b := stackSide(t, "hb", stack.Config{Only: sctp.UDP, EncapPort: tc.encap}, tc.b)
			dest := func(addr string) sctp.Dest {
				return sctp.Dest{Addrs: []netip.AddrPort{netip.MustParseAddrPort(addr)}, Kind: sctp.UDP}
			}
			b.Connect(dest(tc.a))
			ours, theirs := b.Up(), a.Up()
			if ours.Kind != sctp.UDP || theirs.Kind != sctp.Kernel {
				t.Errorf("kinds %v and %v, want udp and kernel", ours.Kind, theirs.Kind)
			}
			kernel.Talk(b, ours.Assoc, a, theirs.Assoc)
			b.Shutdown(ours.Assoc)
			b.Down(sctp.LocalClose)
			a.Down(sctp.PeerShutdown)

			// Now the other way, to the UDP port that b was heard from.
			a.Connect(dest(tc.b))
			ours, theirs = a.Up(), b.Up()
			if ours.Kind != sctp.Kernel {
				t.Errorf("kind %v, want kernel: user space leaves the UDP port to it", ours.Kind)
			}
			kernel.Talk(a, ours.Assoc, b, theirs.Assoc)
			a.Abort(ours.Assoc)
			a.Down(sctp.LocalClose)
			b.Down(sctp.PeerAbort)
		})
	}
}

// TestKernelAndUserSpaceTogether: one Stack serves both kinds at one port.
func TestKernelAndUserSpaceTogether(t *testing.T) {
	kernel.Hosts(t, map[string][]string{"ha": {"10.99.0.1/24"}, "hb": {"10.99.0.2/24"}, "hc": {"10.99.0.3/24"}})
	a := stackSide(t, "ha", stack.Config{EncapPort: sctp.EncapPort}, "10.99.0.1:3863")
	for _, tc := range []struct {
		host, addr string
		cfg        stack.Config
		kind       sctp.Kind
	}{
		{"hb", "10.99.0.2:0", stack.Config{Only: sctp.Kernel}, sctp.Kernel},
		{"hb", "10.99.0.2:0", stack.Config{Only: sctp.UDP}, sctp.UDP},
		{"hc", "10.99.0.3:0", stack.Config{}, sctp.Kernel}, // the first kind that answers
	} {
		b := stackSide(t, tc.host, tc.cfg, tc.addr)
		b.Connect(sctp.Dest{Addrs: a.LocalAddrs()})
		ours, theirs := b.Up(), a.Up()
		if ours.Kind != tc.kind || theirs.Kind != tc.kind {
			t.Errorf("kinds %v and %v, want %v", ours.Kind, theirs.Kind, tc.kind)
		}
		kernel.Talk(b, ours.Assoc, a, theirs.Assoc)
	}
}

// The kernel's own SCTP in UDP is the other side of these tests.

// userSide is user-space SCTP on a host.
func userSide(t *testing.T, host string, encap uint16, addrs ...string) (*stack.Stack, *sctptest.Site) {
	t.Helper()
	st, err := stack.New(stack.Config{Only: sctp.UDP, EncapPort: encap, Logf: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	s := sctptest.NewSite(t)
	var cfg sctp.ListenConfig
	for _, a := range addrs {
		cfg.Addrs = append(cfg.Addrs, netip.MustParseAddrPort(a))
	}
	kernel.OnHost(t, host, func() { s.Endpoint, err = st.Listen(cfg, s.Handle) })
	if err != nil {
		t.Fatal(err)
	}
	return st, s
}

// exchange sends messages of many sizes both ways.
func exchange(t *testing.T, x *sctptest.Site, a sctp.AssocID, y *sctptest.Site, b sctp.AssocID) {
	t.Helper()
	for i, n := range []int{4, 5, 1000, 1500, 9000, 30000, 65535} {
		want := sctp.Message{Data: sctptest.Message(n, byte(i)), PPID: uint32(11 + i), Stream: uint16(i)}
		for _, way := range []struct {
			from, to *sctptest.Site
			assoc    sctp.AssocID
		}{{x, y, a}, {y, x, b}} {
			if err := way.from.Send(way.assoc, want); err != nil {
				t.Fatalf("Send of %d bytes: %v", n, err)
			}
			if got := way.to.Received().Message; !sctptest.Same(got, want) {
				t.Fatalf("Got %d bytes with PPID %d on stream %d, want %d, %d, %d",
					len(got.Data), got.PPID, got.Stream, n, want.PPID, want.Stream)
			}
		}
	}
}

// TestUDPAndKernel has user-space SCTP and the kernel's talk to each other in
// UDP, called by each, ended by each, over a network and over loopback, whose
// large packets user space has to take.
func TestUDPAndKernel(t *testing.T) {
	kernel.Hosts(t, map[string][]string{
		"k": {"10.9.0.1/24,fd09::1/64", "10.9.1.1/24,fd09:1::1/64"},
		"u": {"10.9.0.2/24,fd09::2/64", "10.9.1.2/24,fd09:1::2/64"},
	})
	kernel.Sysctl(t, "k", "net.sctp.udp_port=9899")
	for _, dev := range []string{"eth0", "eth1"} {
		// A veth hands large packets, meant for segmentation by the device,
		// over to the other host as they are, and no UDP socket takes them.
		kernel.Sh(t, "ip -n k link set dev "+dev+" gso_max_size 1500")
	}
	tests := []struct {
		name   string
		host   string // of user space
		encap  uint16
		kernel []string
		user   []string
	}{
		{"IPv4", "u", 9899, []string{"10.9.0.1:0"}, []string{"10.9.0.2:0"}},
		{"IPv6", "u", 9899, []string{"[fd09::1]:0"}, []string{"[fd09::2]:0"}},
		{"kernel multi-homed", "u", 9899, []string{"10.9.0.1:0", "10.9.1.1:0"}, []string{"10.9.0.2:0", "10.9.1.2:0"}},
		{"all addresses", "u", 9899, []string{"10.9.0.1:0"}, []string{"[::]:0"}},
		{"loopback", "k", 9900, []string{"127.0.0.1:0"}, []string{"127.0.0.1:0"}},
		{"loopback IPv6", "k", 9900, []string{"[::1]:0"}, []string{"[::1]:0"}},
	}
	for i, tt := range tests {
		for _, userCalls := range []bool{true, false} {
			ends := []string{"user shuts down", "kernel shuts down", "user aborts", "kernel aborts"}
			if i > 0 {
				ends = ends[:1]
			}
			for _, end := range ends {
				t.Run(fmt.Sprintf("%s/user calls %v/%s", tt.name, userCalls, end), func(t *testing.T) {
					k := kernel.Side(t, "k", sctp.Limits{}, tt.kernel...)
					_, u := userSide(t, tt.host, tt.encap, tt.user...)
					var ku, uu sctp.Event
					if userCalls {
						u.Connect(sctp.Dest{Addrs: k.LocalAddrs(), Kind: sctp.UDP})
					} else {
						k.Connect(sctp.Dest{Addrs: u.LocalAddrs(), Kind: sctp.UDP, EncapPort: tt.encap})
					}
					ku, uu = k.Up(), u.Up()
					uu, ku = u.Confirmed(uu, len(k.LocalAddrs())), k.Confirmed(ku, len(tt.user))
					for _, a := range k.LocalAddrs() {
						if !slices.Contains(uu.Peer, a) {
							t.Errorf("user space sees the peer at %v, want %v among them", uu.Peer, a)
						}
					}
					for _, a := range tt.user {
						ap := netip.MustParseAddrPort(a)
						if a := netip.AddrPortFrom(ap.Addr(), u.LocalAddrs()[0].Port()); !a.Addr().IsUnspecified() && !slices.Contains(ku.Peer, a) {
							t.Errorf("the kernel sees the peer at %v, want %v among them", ku.Peer, a)
						}
					}
					exchange(t, u, uu.Assoc, k, ku.Assoc)
					switch end {
					case "user shuts down":
						u.Shutdown(uu.Assoc)
						k.Down(sctp.PeerShutdown)
						u.Down(sctp.LocalClose)
					case "kernel shuts down":
						k.Shutdown(ku.Assoc)
						u.Down(sctp.PeerShutdown)
						k.Down(sctp.LocalClose)
					case "user aborts":
						u.Abort(uu.Assoc)
						k.Down(sctp.PeerAbort)
						u.Down(sctp.LocalClose)
					case "kernel aborts":
						k.Abort(ku.Assoc)
						u.Down(sctp.PeerAbort)
						k.Down(sctp.LocalClose)
					}
				})
			}
		}
	}
}

// TestUDPAndKernelPathLost takes the path in use away from a multi-homed
// kernel that sends to user space: it goes on by the other one.
func TestUDPAndKernelPathLost(t *testing.T) {
	kernel.Hosts(t, map[string][]string{
		"k": {"10.9.0.1/24", "10.9.1.1/24"},
		"u": {"10.9.0.2/24", "10.9.1.2/24"},
	})
	kernel.Sysctl(t, "k", "net.sctp.udp_port=9899", "net.sctp.path_max_retrans=1", "net.sctp.rto_min=200", "net.sctp.rto_initial=200", "net.sctp.rto_max=500")
	k := kernel.Side(t, "k", sctp.Limits{}, "10.9.0.1:0", "10.9.1.1:0")
	_, u := userSide(t, "u", 9899, "10.9.0.2:0", "10.9.1.2:0")
	u.Connect(sctp.Dest{Addrs: k.LocalAddrs()[:1], Kind: sctp.UDP})
	ku, uu := k.Up(), u.Up()
	k.Say(ku.Assoc, "first")
	u.Received()
	// Linux returns an association up with its only confirmed path.
	for deadline := time.Now().Add(20 * time.Second); !confirmed(t, "k", "10.9.1.2"); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the kernel has not confirmed the other path within 20s")
		}
	}
	kernel.Sh(t, "ip -n u link set eth0 down")
	for range 5 {
		k.Say(ku.Assoc, "by the other path")
	}
	for range 5 {
		if got := u.Received(); string(got.Message.Data) != "by the other path" {
			t.Errorf("Got %q", got.Message.Data)
		}
	}
	u.Say(uu.Assoc, "and back")
	k.Received()
}

// confirmed reports whether the kernel's SCTP on a host has a peer's address in
// use: one that has answered a HEARTBEAT (RFC 9260, Section 5.4).
func confirmed(t *testing.T, host, addr string) bool {
	t.Helper()
	out, err := exec.Command("ip", "netns", "exec", host, "cat", "/proc/net/sctp/remaddr").Output()
	if err != nil {
		t.Fatal(err)
	}
	const state, active = 7, "2" // SCTP_ACTIVE of the kernel's sctp_spinfo_state
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) > state && f[0] == addr {
			return f[state] == active
		}
	}
	return false
}
