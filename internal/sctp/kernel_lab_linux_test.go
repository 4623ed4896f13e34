package sctp

import (
	"bufio"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// childEnv makes the test binary the peer that TestKernelPeerKilled kills.
const childEnv = "SCTP_TEST_CALL"

// TestKernelChild is the process that TestKernelPeerKilled kills.
func TestKernelChild(t *testing.T) {
	to := os.Getenv(childEnv)
	if to == "" {
		t.Skip("only run by TestKernelPeerKilled")
	}
	s := kernelSide(t, "", Limits{}, "127.0.0.1:0")
	id := s.Connect(Dest{Addrs: []netip.AddrPort{netip.MustParseAddrPort(to)}, Kind: Kernel})
	s.up()
	s.send(id, "here I am")
	fmt.Println("connected")
	s.down(PeerAbort)
}

func TestKernelPeerKilled(t *testing.T) {
	a := kernelSide(t, "", Limits{}, "127.0.0.1:0")
	cmd := exec.Command(os.Args[0], "-test.run=^TestKernelChild$")
	cmd.Env = append(os.Environ(), childEnv+"="+a.LocalAddrs()[0].String())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Wait() }()
	a.up()
	a.received()
	for r := bufio.NewScanner(out); r.Scan() && r.Text() != "connected"; {
	}
	start := time.Now()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	a.down(PeerAbort)
	took := time.Since(start)
	t.Logf("Down %v after the kill", took)
	if took > 200*time.Millisecond {
		t.Errorf("Down came %v after the kill, want less than 200ms", took)
	}
}

func TestKernelMultihomed(t *testing.T) {
	network(t, map[string][]string{
		"ha": {"10.99.0.1/24", "10.99.1.1/24,fd00:99::1/64"},
		"hb": {"10.99.0.2/24", "10.99.1.2/24,fd00:99::2/64"},
	})
	lim := Limits{Heartbeat: 300 * time.Millisecond}
	a := kernelSide(t, "ha", lim, "10.99.0.1:3863", "10.99.1.1:3863", "[fd00:99::1]:3863")
	b := kernelSide(t, "hb", lim, "10.99.0.2:0", "10.99.1.2:0", "[fd00:99::2]:0")
	id := b.Connect(Dest{Addrs: []netip.AddrPort{netip.MustParseAddrPort("10.99.0.1:3863")}, Kind: Kernel})
	ours, theirs := b.up(), a.up()
	for _, ev := range []Event{ours, theirs} {
		if len(ev.Peer) != 1 || len(ev.Claimed) != 2 {
			t.Errorf("peer %v, claiming %v, want one confirmed address of three", ev.Peer, ev.Claimed)
		}
	}
	start := time.Now()
	ours, theirs = b.confirmed(ours, 3), a.confirmed(theirs, 3)
	t.Logf("all addresses are confirmed after %v", time.Since(start))
	if took := time.Since(start); took > 300*time.Millisecond {
		t.Errorf("addresses were confirmed after %v, want 300 ms at most", took)
	}
	sorted := func(l []netip.AddrPort) []netip.AddrPort {
		l = slices.Clone(l)
		slices.SortFunc(l, netip.AddrPort.Compare)
		return l
	}
	if got, want := sorted(ours.Peer), sorted(a.LocalAddrs()); !slices.Equal(got, want) {
		t.Errorf("the called side has the addresses %v, want %v", got, want)
	}
	if got, want := sorted(theirs.Peer), sorted(b.LocalAddrs()); !slices.Equal(got, want) {
		t.Errorf("the calling side has the addresses %v, want %v", got, want)
	}
	if len(ours.Peer) != 3 || ours.Peer[0].Addr() != netip.MustParseAddr("10.99.0.1") {
		t.Errorf("peer %v, want the primary address 10.99.0.1 first, of three", ours.Peer)
	}
	sh(t, "ip -n ha link set eth0 down")
	for i := range 20 {
		text := fmt.Sprint("message ", i)
		b.send(id, text)
		if got := string(a.received().Message.Data); got != text {
			t.Fatalf("got %q over the other path, want %q", got, text)
		}
	}
	sh(t, "ip -n ha link set eth1 down")
	start = time.Now()
	a.down(Lost)
	t.Logf("both paths cut: Down after %v", time.Since(start))
}

func TestKernelWildcardAddrs(t *testing.T) {
	network(t, map[string][]string{"ha": {"10.99.0.1/24,fd00:99::1/64"}})
	a := kernelSide(t, "ha", Limits{}, "[::]:3863")
	want := []string{"10.99.0.1:3863", "[fd00:99::1]:3863", "127.0.0.1:3863", "[::1]:3863"}
	var got []string
	for _, ap := range a.LocalAddrs() {
		got = append(got, ap.String())
	}
	slices.Sort(got[:2])
	if len(got) != 4 || !slices.Equal(got[:2], want[:2]) || !strings.Contains(fmt.Sprint(got[2:]), "127.0.0.1") {
		t.Errorf("LocalAddrs %v, want %v", got, want)
	}
}

// TestKernelRestart: the peer comes back at the same port, and its end of the
// old association was lost.
func TestKernelRestart(t *testing.T) {
	network(t, map[string][]string{"ha": {"10.99.0.1/24"}, "hb": {"10.99.0.2/24"}})
	a := kernelSide(t, "ha", Limits{}, "10.99.0.1:3863")
	b := kernelSide(t, "hb", Limits{}, "10.99.0.2:4000")
	_, old := b.call(a)
	sh(t, "ip -n hb link set eth0 down")
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	sh(t, "ip -n hb link set eth0 up")
	b = kernelSide(t, "hb", Limits{}, "10.99.0.2:4000")
	_, renewed := b.call(a) // waits for Up only
	if renewed.Assoc == old.Assoc {
		t.Error("the association has its old name after a restart")
	}
	if err := a.Send(old.Assoc, Message{Data: []byte("x")}); !errors.Is(err, ErrNoAssoc) {
		t.Errorf("Send by the old name: %v, want %v", err, ErrNoAssoc)
	}
	a.send(renewed.Assoc, "hello")
	if got := string(b.received().Message.Data); got != "hello" {
		t.Errorf("got %q, want hello", got)
	}
}

func TestKernelRestartIsDownFirst(t *testing.T) {
	network(t, map[string][]string{"ha": {"10.99.0.1/24"}, "hb": {"10.99.0.2/24"}})
	a := kernelSide(t, "ha", Limits{}, "10.99.0.1:3863")
	b := kernelSide(t, "hb", Limits{}, "10.99.0.2:4000")
	_, old := b.call(a)
	sh(t, "ip -n hb link set eth0 down")
	_ = b.Close()
	sh(t, "ip -n hb link set eth0 up")
	b = kernelSide(t, "hb", Limits{}, "10.99.0.2:4000")
	b.Connect(Dest{Addrs: a.LocalAddrs(), Kind: Kernel})
	if ev := a.down(PeerAbort); ev.Assoc != old.Assoc || !errors.Is(ev.Err, errRestarted) {
		t.Errorf("Down of %d: %v, want of %d: %v", ev.Assoc, ev.Err, old.Assoc, errRestarted)
	}
	a.up()
}

func TestKernelConnectFails(t *testing.T) {
	network(t, map[string][]string{"ha": {"10.99.0.1/24"}, "hb": {"10.99.0.2/24"}})
	a := kernelSide(t, "ha", Limits{HandshakeTime: time.Second}, "10.99.0.1:0")
	for _, tc := range []struct {
		name, to string
		max      time.Duration
		want     error
	}{
		{"nobody at the port", "10.99.0.2:9", 500 * time.Millisecond, errRefused},
		{"no such host", "10.99.0.3:9", 3 * time.Second, errTimeout},
		{"no route", "192.0.2.1:9", 3 * time.Second, errTimeout},
		{"family not bound", "[fd00::1]:9", 500 * time.Millisecond, nil},
		{"port 0", "10.99.0.2:0", 500 * time.Millisecond, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			start := time.Now()
			id := a.Connect(Dest{Addrs: []netip.AddrPort{netip.MustParseAddrPort(tc.to)}, Kind: Kernel})
			ev := a.down(ConnectFailed)
			if took := time.Since(start); took > tc.max {
				t.Errorf("Down after %v, want within %v", took, tc.max)
			}
			if ev.Assoc != id || ev.Err == nil {
				t.Errorf("Down of %d with %v, want of %d with an error", ev.Assoc, ev.Err, id)
			}
			if tc.want != nil && !errors.Is(ev.Err, tc.want) {
				t.Errorf("error %v, want %v", ev.Err, tc.want)
			}
		})
	}
	t.Run("silent host", func(t *testing.T) {
		sh(t, "ip -n hb link set eth0 down")
		start := time.Now()
		a.Connect(Dest{Addrs: []netip.AddrPort{netip.MustParseAddrPort("10.99.0.2:9")}, Kind: Kernel})
		a.down(ConnectFailed)
		if took := time.Since(start); took < 900*time.Millisecond || took > 3*time.Second {
			t.Errorf("Down after %v, want about 1s", took)
		}
	})
}

// TestKernelSimultaneousOpen: both call at once and have one association.
func TestKernelSimultaneousOpen(t *testing.T) {
	network(t, map[string][]string{"ha": {"10.99.0.1/24"}, "hb": {"10.99.0.2/24"}})
	sh(t, "ip netns exec ha tc qdisc add dev eth0 root netem delay 20ms")
	sh(t, "ip netns exec hb tc qdisc add dev eth0 root netem delay 20ms")
	a := kernelSide(t, "ha", Limits{}, "10.99.0.1:9901")
	b := kernelSide(t, "hb", Limits{}, "10.99.0.2:9901")
	fromA := a.Connect(Dest{Addrs: b.LocalAddrs(), Kind: Kernel})
	fromB := b.Connect(Dest{Addrs: a.LocalAddrs(), Kind: Kernel})
	if ev := a.up(); ev.Assoc != fromA {
		t.Errorf("Up of %d, want %d", ev.Assoc, fromA)
	}
	if ev := b.up(); ev.Assoc != fromB {
		t.Errorf("Up of %d, want %d", ev.Assoc, fromB)
	}
	a.send(fromA, "from a")
	b.send(fromB, "from b")
	if got := string(b.received().Message.Data); got != "from a" {
		t.Errorf("got %q", got)
	}
	if got := string(a.received().Message.Data); got != "from b" {
		t.Errorf("got %q", got)
	}
	again := a.Connect(Dest{Addrs: b.LocalAddrs(), Kind: Kernel})
	if ev := a.down(ConnectFailed); ev.Assoc != again || !errors.Is(ev.Err, ErrConnected) {
		t.Errorf("a second call: Down of %d with %v, want of %d with %v", ev.Assoc, ev.Err, again, ErrConnected)
	}
}

// TestKernelSilentPeer: heartbeats find out that an idle peer is gone.
func TestKernelSilentPeer(t *testing.T) {
	network(t, map[string][]string{"ha": {"10.99.0.1/24"}, "hb": {"10.99.0.2/24"}})
	a := kernelSide(t, "ha", Limits{Heartbeat: 200 * time.Millisecond, Misses: 2}, "10.99.0.1:0")
	b := kernelSide(t, "hb", Limits{}, "10.99.0.2:0")
	a.call(b)
	start := time.Now()
	sh(t, "ip -n hb link set eth0 down")
	a.down(Lost)
	t.Logf("Down after %v", time.Since(start))
}

// TestKernelClose: Close aborts and reports what is left, and leaves nothing.
func TestKernelClose(t *testing.T) {
	needKernel(t)
	fds := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	warm := kernelSide(t, "", Limits{}, "127.0.0.1:0") // the poller's own descriptors
	_ = warm.Close()
	goroutines, files := runtime.NumGoroutine(), fds()
	a := kernelSide(t, "", Limits{}, "127.0.0.1:0")
	b := kernelSide(t, "", Limits{}, "127.0.0.1:0")
	for range 3 {
		b := kernelSide(t, "", Limits{}, "127.0.0.1:0")
		a.call(b)
		defer b.Close()
	}
	ours, _ := a.call(b)
	a.Connect(Dest{Addrs: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:1")}, Kind: Kernel})
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	b.down(PeerAbort)
	a.mu.Lock()
	downs := 0
	for _, ev := range a.events {
		if ev.Type == Down {
			downs++
		}
	}
	n := len(a.events)
	a.mu.Unlock()
	if downs != 5 {
		t.Errorf("%d associations are Down after Close, want 5", downs)
	}
	if err := a.Send(ours.Assoc, Message{Data: []byte("x")}); !errors.Is(err, ErrClosed) {
		t.Errorf("Send after Close: %v, want %v", err, ErrClosed)
	}
	if id := a.Connect(Dest{Addrs: b.LocalAddrs()}); id != 0 {
		t.Errorf("Connect after Close gives %d, want 0", id)
	}
	if err := a.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	_ = b.Close()
	a.mu.Lock()
	if len(a.events) != n {
		t.Errorf("events after Close: %v", a.events[n:])
	}
	a.mu.Unlock()
	deadline := time.Now().Add(kernelPatience)
	for runtime.NumGoroutine() > goroutines+6 || fds() > files+3 { // no event tells of it
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines and %d files, want %d and %d", runtime.NumGoroutine(), fds(), goroutines, files)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestKernelMisuse(t *testing.T) {
	a := kernelSide(t, "", Limits{}, "127.0.0.1:0")
	b := kernelSide(t, "", Limits{}, "127.0.0.1:0")
	ours, _ := a.call(b)
	if err := a.Send(ours.Assoc, Message{}); err == nil {
		t.Error("an empty message is taken")
	}
	if err := a.Send(ours.Assoc, Message{Data: []byte("x"), Stream: kernelStreams}); err == nil {
		t.Error("a message on a stream that there is not is taken")
	}
	if err := a.Send(12345, Message{Data: []byte("x")}); !errors.Is(err, ErrNoAssoc) {
		t.Errorf("unknown association: %v, want %v", err, ErrNoAssoc)
	}
	port := a.LocalAddrs()[0]
	if e, err := listenKernel(ListenConfig{Addrs: []netip.AddrPort{port}}, Limits{}, new(idAllocator), new(counters), newMachine(t.Logf), a.handle); err == nil {
		_ = e.Close()
		t.Errorf("%v is bound twice", port)
	} else {
		t.Log(err)
	}
}

// TestKernelPanic: a panic in the Handler ends one association.
func TestKernelPanic(t *testing.T) {
	a := kernelSide(t, "", Limits{}, "127.0.0.1:0")
	b := kernelSide(t, "", Limits{}, "127.0.0.1:0")
	c := kernelSide(t, "", Limits{}, "127.0.0.1:0")
	toA, _ := b.call(a)
	cToA, _ := c.call(a)
	a.hooked(func(ev Event) {
		if ev.Type == Received && string(ev.Message.Data) == "bomb" {
			panic("as the test wants")
		}
	})
	b.send(toA.Assoc, "bomb")
	c.send(cToA.Assoc, "fine")
	b.down(PeerAbort)
	if got := string(a.received().Message.Data); got != "fine" {
		t.Errorf("got %q, want fine", got)
	}
	if ev := a.down(Overrun); !strings.Contains(ev.Err.Error(), "panic") {
		t.Errorf("Down with %v, want it to tell of the panic", ev.Err)
	}
}

// TestKernelForgedAddress has a peer list an address that is not its own, as far as
// we can see: nothing answers there. It is never confirmed.
func TestKernelForgedAddress(t *testing.T) {
	network(t, map[string][]string{"ha": {"10.99.0.1/24"}, "hb": {"10.99.0.2/24"}})
	sh(t, "ip -n hb addr add "+victim+"/32 dev lo")
	a := kernelSide(t, "ha", Limits{Heartbeat: 300 * time.Millisecond}, "10.99.0.1:3863")
	for _, route := range []string{"", "203.0.113.0/24 via 10.99.0.9"} {
		if route != "" {
			sh(t, "ip -n ha route add "+route)
		}
		b := kernelSide(t, "hb", Limits{}, "10.99.0.2:4000", victim+":4000")
		b.Connect(Dest{Addrs: []netip.AddrPort{netip.MustParseAddrPort("10.99.0.1:3863")}, Kind: Kernel})
		if ev := a.up(); fmt.Sprint(ev.Peer, ev.Claimed) != "[10.99.0.2:4000] ["+victim+":4000]" {
			t.Errorf("peer %v, claiming %v", ev.Peer, ev.Claimed)
		}
		b.send(b.up().Assoc, "hello")
		a.received()
		time.Sleep(4 * time.Second) // the kernel's clock
		b.Close()
		if ev := a.wait("an end or a change", func(ev Event) bool { return ev.Type == PeerAddrs || ev.Type == Down }); ev.Type != Down {
			t.Errorf("the peer's address %v was confirmed", ev.Peer)
		}
	}
}
