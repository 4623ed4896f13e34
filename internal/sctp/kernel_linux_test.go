package sctp

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// These tests need a kernel with SCTP: test/lab/gotest ./internal/sctp. Every
// host is a network namespace; a socket belongs to the one it was made in, so
// one test can be on several hosts.

// needKernel skips the test where the kernel has no SCTP.
func needKernel(t testing.TB) {
	t.Helper()
	if !kernelSupported() {
		t.Skip("the kernel has no SCTP: run test/lab/gotest ./internal/sctp")
	}
}

// patience is how long a test waits for what must happen.
const kernelPatience = 20 * time.Second

// side is an endpoint with the events that it has met.
type side struct {
	Endpoint
	t testing.TB

	mu     sync.Mutex
	events []Event
	change chan struct{} // closed at the next event
	hook   func(Event)   // called before an event is kept, if set
}

// hooked has f called before each event from now on is kept.
func (s *side) hooked(f func(Event)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hook = f
}

// handle keeps an event.
func (s *side) handle(ev Event) {
	s.mu.Lock()
	hook := s.hook
	s.mu.Unlock()
	if hook != nil {
		hook(ev)
	}
	if _, ok := s.t.(*testing.B); ok && ev.Type == Received {
		return // too many
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, ev)
	close(s.change)
	s.change = make(chan struct{})
}

// kernelSide listens on a host, or with host "" where the test is.
func kernelSide(t testing.TB, host string, lim Limits, addrs ...string) *side {
	t.Helper()
	needKernel(t)
	var cfg ListenConfig
	for _, a := range addrs {
		cfg.Addrs = append(cfg.Addrs, netip.MustParseAddrPort(a))
	}
	s := &side{t: t, change: make(chan struct{})}
	var err error
	onHost(t, host, func() {
		s.Endpoint, err = listenKernel(cfg, lim, new(idAllocator), new(counters), machineOf(t, host), s.handle)
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

// confirmed waits until a number of the peer's addresses is confirmed.
func (s *side) confirmed(ev Event, n int) Event {
	s.t.Helper()
	if len(ev.Peer) >= n {
		return ev
	}
	return s.wait(fmt.Sprint(n, " confirmed addresses"), func(later Event) bool {
		return later.Type == PeerAddrs && later.Assoc == ev.Assoc && len(later.Peer) >= n
	})
}

// wait waits for the first event that matches, and takes it and all before it.
func (s *side) wait(what string, match func(Event) bool) Event {
	s.t.Helper()
	timeout := time.After(kernelPatience)
	for {
		s.mu.Lock()
		i := slices.IndexFunc(s.events, match)
		if i >= 0 {
			ev := s.events[i]
			s.events = s.events[i+1:]
			s.mu.Unlock()
			return ev
		}
		change := s.change
		s.mu.Unlock()
		select {
		case <-change:
		case <-timeout:
			s.mu.Lock()
			defer s.mu.Unlock()
			s.t.Fatalf("no %s within %v, only %v", what, kernelPatience, s.events)
		}
	}
}

func (s *side) up() Event {
	s.t.Helper()
	return s.wait("Up", func(ev Event) bool { return ev.Type == Up })
}

func (s *side) received() Event {
	s.t.Helper()
	return s.wait("message", func(ev Event) bool { return ev.Type == Received })
}

func (s *side) down(want Reason) Event {
	s.t.Helper()
	ev := s.wait("Down", func(ev Event) bool { return ev.Type == Down })
	if ev.Reason != want {
		s.t.Fatalf("Down has the reason %d (%v), want %d", ev.Reason, ev.Err, want)
	}
	return ev
}

// call connects to a peer's first addresses, and gives both Up events.
func (s *side) call(peer *side) (ours, theirs Event) {
	s.t.Helper()
	id := s.Connect(Dest{Addrs: peer.LocalAddrs(), Kind: Kernel})
	ours, theirs = s.up(), peer.up()
	if ours.Assoc != id {
		s.t.Fatalf("Up names %d, want %d, as Connect did", ours.Assoc, id)
	}
	return ours, theirs
}

func (s *side) send(a AssocID, text string) {
	s.t.Helper()
	if err := s.Send(a, Message{Data: []byte(text), PPID: 11}); err != nil {
		s.t.Fatalf("Send: %v", err)
	}
}

// machineOf knows the addresses and routes of a host.
func machineOf(t testing.TB, host string) *machine {
	m := newMachine(t.Logf)
	m.read = func() (s machineState, err error) {
		onHost(t, host, func() { s, err = readMachine() })
		return s, err
	}
	if host != "" { // the kernel makes no sockets for other namespaces
		m.inside = func(f func()) { onHost(t, host, f) }
	}
	m.source = func(to netip.Addr) (a netip.Addr, err error) {
		onHost(t, host, func() { a, err = SourceAddr(to) })
		return a, err
	}
	return m
}

// network makes hosts on one bridge. Each is a list of interfaces, an
// interface a list of comma-separated addresses.
func network(t testing.TB, hosts map[string][]string) {
	t.Helper()
	needKernel(t)
	if os.Getenv("IN_UML") == "" {
		t.Skip("makes network namespaces: run test/lab/gotest ./internal/sctp")
	}
	sh(t, "ip link add br0 type bridge forward_delay 0 mcast_snooping 0")
	t.Cleanup(func() { sh(t, "ip link del br0") })
	sh(t, "ip link set br0 up")
	port := 0
	for name, links := range hosts {
		sh(t, "ip netns add "+name)
		t.Cleanup(func() { sh(t, "ip netns del "+name) })
		sh(t, "ip -n "+name+" link set lo up")
		sysctl(t, name, "net.ipv4.conf.all.arp_ignore=1", "net.ipv4.conf.all.arp_announce=2")
		for i, addrs := range links {
			port++
			sh(t, fmt.Sprintf("ip link add p%d type veth peer name eth%d netns %s", port, i, name))
			for a := range strings.SplitSeq(addrs, ",") {
				if strings.Contains(a, ":") {
					a += " nodad"
				}
				sh(t, fmt.Sprintf("ip -n %s addr add dev eth%d %s", name, i, a))
			}
			sh(t, fmt.Sprintf("ip link set p%d master br0 up", port))
			sh(t, fmt.Sprintf("ip -n %s link set eth%d up", name, i))
		}
	}
}

func sysctl(t testing.TB, host string, settings ...string) {
	t.Helper()
	sh(t, "ip netns exec "+host+" sysctl -qw "+strings.Join(settings, " "))
}

// sh runs a command line without quoting.
func sh(t testing.TB, line string) {
	t.Helper()
	f := strings.Fields(line)
	if out, err := exec.Command(f[0], f[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", line, err, out)
	}
}

// onHost runs f in a host's network namespace.
func onHost(t testing.TB, host string, f func()) {
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
			a := kernelSide(t, "", Limits{}, tc.a)
			b := kernelSide(t, "", Limits{}, tc.b)
			ours, theirs := a.call(b)
			if ours.Kind != Kernel || theirs.Kind != Kernel {
				t.Errorf("kinds %v and %v, want Kernel", ours.Kind, theirs.Kind)
			}
			if want := b.LocalAddrs()[0]; ours.Peer[0] != want {
				t.Errorf("peer %v, want %v", ours.Peer[0], want)
			}
			if got, want := theirs.Peer[0].Port(), a.LocalAddrs()[0].Port(); got != want {
				t.Errorf("caller's port %d, want %d", got, want)
			}
			for i, m := range []Message{
				{Data: []byte("one"), PPID: 11},
				{Data: []byte("two"), PPID: 12, Stream: 3},
				{Data: make([]byte, 64<<10), PPID: 0xdeadbeef},
			} {
				m.Data[0] = byte(i)
				for _, way := range []struct {
					from, to *side
					assoc    AssocID
				}{{a, b, ours.Assoc}, {b, a, theirs.Assoc}} {
					if err := way.from.Send(way.assoc, m); err != nil {
						t.Fatal(err)
					}
					got := way.to.received().Message
					if string(got.Data) != string(m.Data) || got.PPID != m.PPID || got.Stream != m.Stream {
						t.Errorf("message %d came with %d bytes, PPID %#x, stream %d", i, len(got.Data), got.PPID, got.Stream)
					}
				}
			}
			a.send(ours.Assoc, "last")
			a.Shutdown(ours.Assoc)
			if got := string(b.received().Message.Data); got != "last" {
				t.Errorf("got %q before the shutdown, want %q", got, "last")
			}
			b.down(PeerShutdown)
			a.down(LocalClose)
			if err := a.Send(ours.Assoc, Message{Data: []byte("x")}); !errors.Is(err, ErrNoAssoc) {
				t.Errorf("Send after Down: %v, want %v", err, ErrNoAssoc)
			}
		})
	}
}
