package kernel

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/localaddr"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
)

// These tests need a kernel with SCTP: test/lab/gotest ./internal/sctp/kernel. Every
// host is a network namespace; a socket belongs to the one it was made in, so
// one test can be on several hosts.

// needKernel skips the test where the kernel has no SCTP.
func needKernel(t testing.TB) {
	t.Helper()
	if !Supported() {
		t.Skip("the kernel has no SCTP: run test/lab/gotest ./internal/sctp/kernel")
	}
}

// Side listens on a host, or with host "" where the test is.
func Side(t testing.TB, host string, lim sctp.Limits, addrs ...string) *sctptest.Site {
	t.Helper()
	needKernel(t)
	var cfg sctp.ListenConfig
	for _, a := range addrs {
		cfg.Addrs = append(cfg.Addrs, netip.MustParseAddrPort(a))
	}
	s := sctptest.NewSite(t)
	var err error
	OnHost(t, host, func() {
		s.Endpoint, err = Listen(cfg, lim, new(sctp.IDs), new(sctp.Counters), machineOf(t, host), s.Handle)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

// Call connects to a peer's first addresses, and gives both Up events.
func Call(s, peer *sctptest.Site) (ours, theirs sctp.Event) {
	s.T.Helper()
	id := s.Connect(sctp.Dest{Addrs: peer.LocalAddrs(), Kind: sctp.Kernel})
	ours, theirs = s.Up(), peer.Up()
	if ours.Assoc != id {
		s.T.Fatalf("Up names %d, want %d, as Connect did", ours.Assoc, id)
	}
	return ours, theirs
}

// machineOf knows the addresses and routes of a host.
func machineOf(t testing.TB, host string) *localaddr.View {
	m := localaddr.New(t.Logf)
	m.Read = func() (s localaddr.State, err error) {
		OnHost(t, host, func() { s, err = localaddr.Read() })
		return s, err
	}
	if host != "" { // the kernel makes no sockets for other namespaces
		m.Inside = func(f func()) { OnHost(t, host, f) }
	}
	m.Source = func(to netip.Addr) (a netip.Addr, err error) {
		OnHost(t, host, func() { a, err = localaddr.Source(to) })
		return a, err
	}
	return m
}

// Hosts makes hosts on one bridge. Each is a list of interfaces, an
// interface a list of comma-separated addresses.
func Hosts(t testing.TB, hosts map[string][]string) {
	t.Helper()
	needKernel(t)
	if os.Getenv("IN_UML") == "" {
		t.Skip("makes network namespaces: run test/lab/gotest ./internal/sctp/kernel")
	}
	// The hosts' namespaces inherit this.
	for name, value := range map[string]string{"arp_ignore": "1", "arp_announce": "2"} {
		if err := os.WriteFile("/proc/sys/net/ipv4/conf/all/"+name, []byte(value), 0); err != nil {
			t.Fatal(err)
		}
	}
	outside := []string{"link add br0 type bridge forward_delay 0 mcast_snooping 0", "link set br0 up"}
	inside := make(map[string][]string)
	var end []string
	for name, links := range hosts {
		outside = append(outside, "netns add "+name)
		inside[name] = append(inside[name], "link set lo up")
		for i, addrs := range links {
			port := fmt.Sprintf("p%d", len(end)+1)
			end = append(end, "link del "+port) // the kernel may keep the namespace for associations that end slowly
			outside = append(outside, fmt.Sprintf("link add %s type veth peer name eth%d netns %s", port, i, name), "link set "+port+" master br0 up")
			for a := range strings.SplitSeq(addrs, ",") {
				if strings.Contains(a, ":") {
					a += " nodad"
				}
				inside[name] = append(inside[name], fmt.Sprintf("addr add dev eth%d %s", i, a))
			}
			inside[name] = append(inside[name], fmt.Sprintf("link set eth%d up", i))
		}
	}
	for name := range hosts {
		end = append(end, "netns del "+name)
	}
	t.Cleanup(func() { batch(t, "ip", append(end, "link del br0")) })
	batch(t, "ip", outside)
	for name, commands := range inside {
		batch(t, "ip -n "+name, commands)
	}
}

// batch has a program such as ip run several of its commands: each start of a program takes
// the lab's processor a tenth of a second.
func batch(t testing.TB, program string, commands []string) {
	t.Helper()
	f := strings.Fields(program + " -batch -")
	cmd := exec.Command(f[0], f[1:]...)
	cmd.Stdin = strings.NewReader(strings.Join(commands, "\n") + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s\n%s", program, err, strings.Join(commands, "\n"), out)
	}
}

func Sysctl(t testing.TB, host string, settings ...string) {
	t.Helper()
	Sh(t, "ip netns exec "+host+" sysctl -qw "+strings.Join(settings, " "))
}

// Sh runs a command line without quoting.
func Sh(t testing.TB, line string) {
	t.Helper()
	f := strings.Fields(line)
	if out, err := exec.Command(f[0], f[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", line, err, out)
	}
}

// OnHost runs f in a host's network namespace.
func OnHost(t testing.TB, host string, f func()) {
	t.Helper()
	if host == "" {
		f()
		return
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	enter := func(path string) *os.File {
		t.Helper()
		ns, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		return ns
	}
	home := enter("/proc/thread-self/ns/net")
	defer home.Close()
	ns := enter("/run/netns/" + host)
	defer ns.Close()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); err != nil {
			panic(err) // the thread is lost to the rest of the tests
		}
	}()
	f()
}

func TestKernelTalk(t *testing.T) {
	for _, tc := range []struct{ name, a, b string }{
		{"IPv4", "127.0.0.1:0", "127.0.0.1:0"},
		{"IPv6", "[::1]:0", "[::1]:0"},
		{"IPv4 on wildcard", "[::]:0", "127.0.0.1:0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := Side(t, "", sctp.Limits{}, tc.a)
			b := Side(t, "", sctp.Limits{}, tc.b)
			ours, theirs := Call(a, b)
			if ours.Kind != sctp.Kernel || theirs.Kind != sctp.Kernel {
				t.Errorf("kinds %v and %v, want Kernel", ours.Kind, theirs.Kind)
			}
			if want := b.LocalAddrs()[0]; ours.Peer[0] != want {
				t.Errorf("peer %v, want %v", ours.Peer[0], want)
			}
			if got, want := theirs.Peer[0].Port(), a.LocalAddrs()[0].Port(); got != want {
				t.Errorf("caller's port %d, want %d", got, want)
			}
			for i, m := range []sctp.Message{
				{Data: []byte("one"), PPID: 11},
				{Data: []byte("two"), PPID: 12, Stream: 3},
				{Data: make([]byte, 64<<10), PPID: 0xdeadbeef},
			} {
				m.Data[0] = byte(i)
				for _, way := range []struct {
					from, to *sctptest.Site
					assoc    sctp.AssocID
				}{{a, b, ours.Assoc}, {b, a, theirs.Assoc}} {
					if err := way.from.Send(way.assoc, m); err != nil {
						t.Fatal(err)
					}
					got := way.to.Received().Message
					if string(got.Data) != string(m.Data) || got.PPID != m.PPID || got.Stream != m.Stream {
						t.Errorf("message %d came with %d bytes, PPID %#x, stream %d", i, len(got.Data), got.PPID, got.Stream)
					}
				}
			}
			a.Say(ours.Assoc, "last")
			a.Shutdown(ours.Assoc)
			if got := string(b.Received().Message.Data); got != "last" {
				t.Errorf("got %q before the shutdown, want %q", got, "last")
			}
			b.Down(sctp.PeerShutdown)
			a.Down(sctp.LocalClose)
			if err := a.Send(ours.Assoc, sctp.Message{Data: []byte("x")}); !errors.Is(err, sctp.ErrNoAssoc) {
				t.Errorf("Send after Down: %v, want %v", err, sctp.ErrNoAssoc)
			}
		})
	}
}
