package kernel

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

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/localaddr"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
	"github.com/rserpool/coredns-rserpool/test/here"
	"golang.org/x/sys/unix"
)

// childEnv makes the test binary the peer that TestKernelPeerKilled kills.
const childEnv = "SCTP_TEST_CALL"

// TestKernelChild is the process that TestKernelPeerKilled kills.
func TestKernelChild(t *testing.T) {
	to := os.Getenv(childEnv)
	if to == "" {
		t.Skip("only run by TestKernelPeerKilled")
	}
	s := Side(t, "", sctp.Limits{}, "127.0.0.1:0")
	id := s.Connect(sctp.Dest{Addrs: []netip.AddrPort{netip.MustParseAddrPort(to)}, Kind: sctp.Kernel})
	s.Up()
	s.Say(id, "here I am")
	fmt.Println("connected")
	s.Down(sctp.PeerAbort)
}

func TestKernelPeerKilled(t *testing.T) {
	a := Side(t, "", sctp.Limits{}, "127.0.0.1:0")
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
	a.Up()
	a.Received()
	for r := bufio.NewScanner(out); r.Scan() && r.Text() != "connected"; {
	}
	start := time.Now()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	a.Down(sctp.PeerAbort)
	took := time.Since(start)
	t.Logf("Down %v after the kill", took)
	if most := here.Paced(t, 200*time.Millisecond); took > most {
		t.Errorf("Down came %v after the kill, want less than %v", took, most)
	}
}

func TestKernelMultihomed(t *testing.T) {
	Hosts(t, map[string][]string{
		"ha": {"10.99.0.1/24", "10.99.1.1/24,fd00:99::1/64"},
		"hb": {"10.99.0.2/24", "10.99.1.2/24,fd00:99::2/64"},
	})
	lim := sctp.Limits{Heartbeat: 300 * time.Millisecond}
	a := Side(t, "ha", lim, "10.99.0.1:3863", "10.99.1.1:3863", "[fd00:99::1]:3863")
	b := Side(t, "hb", lim, "10.99.0.2:0", "10.99.1.2:0", "[fd00:99::2]:0")
	id := b.Connect(sctp.Dest{Addrs: []netip.AddrPort{netip.MustParseAddrPort("10.99.0.1:3863")}, Kind: sctp.Kernel})
	ours, theirs := b.Up(), a.Up()
	for _, ev := range []sctp.Event{ours, theirs} {
		if len(ev.Peer) != 1 || len(ev.Claimed) != 2 {
			t.Errorf("peer %v, claiming %v, want one confirmed address of three", ev.Peer, ev.Claimed)
		}
	}
	start := time.Now()
	ours, theirs = b.Confirmed(ours, 3), a.Confirmed(theirs, 3)
	took := time.Since(start)
	t.Logf("all addresses are confirmed after %v", took)
	if most := here.Paced(t, 300*time.Millisecond); took > most {
		t.Errorf("addresses were confirmed after %v, want %v at most", took, most)
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
	Sh(t, "ip -n ha link set eth0 down")
	for i := range 20 {
		text := fmt.Sprint("message ", i)
		b.Say(id, text)
		if got := string(a.Received().Message.Data); got != text {
			t.Fatalf("got %q over the other path, want %q", got, text)
		}
	}
	Sh(t, "ip -n ha link set eth1 down")
	start = time.Now()
	a.Down(sctp.Lost)
	t.Logf("both paths cut: Down after %v", time.Since(start))
}

func TestKernelWildcardAddrs(t *testing.T) {
	Hosts(t, map[string][]string{"ha": {"10.99.0.1/24,fd00:99::1/64"}})
	a := Side(t, "ha", sctp.Limits{}, "[::]:3863")
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

// TestKernelPortInUse: where another socket has the port at an IPv6 address, an endpoint on all
// addresses does not listen with IPv4 only.
func TestKernelPortInUse(t *testing.T) {
	needKernel(t)
	Side(t, "", sctp.Limits{}, "[::1]:3863")
	e, err := Listen(sctptest.On("[::]:3863"), sctp.Limits{}, new(sctp.IDs), new(sctp.Counters), machineOf(t, ""), func(sctp.Event) {})
	if !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("got %v, want %v", err, unix.EADDRINUSE)
	}
	if err == nil {
		_ = e.Close()
	}
}

// TestKernelRestart: the peer comes back at the same port, and its end of the
// old association was lost.
func TestKernelRestart(t *testing.T) {
	Hosts(t, map[string][]string{"ha": {"10.99.0.1/24"}, "hb": {"10.99.0.2/24"}})
	a := Side(t, "ha", sctp.Limits{}, "10.99.0.1:3863")
	b := Side(t, "hb", sctp.Limits{}, "10.99.0.2:4000")
	_, old := Call(b, a)
	Sh(t, "ip -n hb link set eth0 down")
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	Sh(t, "ip -n hb link set eth0 up")
	b = Side(t, "hb", sctp.Limits{}, "10.99.0.2:4000")
	_, renewed := Call(b, a) // waits for Up only
	if renewed.Assoc == old.Assoc {
		t.Error("the association has its old name after a restart")
	}
	if err := a.Send(old.Assoc, sctp.Message{Data: []byte("x")}); !errors.Is(err, sctp.ErrNoAssoc) {
		t.Errorf("Send by the old name: %v, want %v", err, sctp.ErrNoAssoc)
	}
	a.Say(renewed.Assoc, "hello")
	if got := string(b.Received().Message.Data); got != "hello" {
		t.Errorf("got %q, want hello", got)
	}
}

func TestKernelRestartIsDownFirst(t *testing.T) {
	Hosts(t, map[string][]string{"ha": {"10.99.0.1/24"}, "hb": {"10.99.0.2/24"}})
	a := Side(t, "ha", sctp.Limits{}, "10.99.0.1:3863")
	b := Side(t, "hb", sctp.Limits{}, "10.99.0.2:4000")
	_, old := Call(b, a)
	Sh(t, "ip -n hb link set eth0 down")
	_ = b.Close()
	Sh(t, "ip -n hb link set eth0 up")
	b = Side(t, "hb", sctp.Limits{}, "10.99.0.2:4000")
	b.Connect(sctp.Dest{Addrs: a.LocalAddrs(), Kind: sctp.Kernel})
	if ev := a.Down(sctp.PeerAbort); ev.Assoc != old.Assoc || !errors.Is(ev.Err, sctp.ErrRestarted) {
		t.Errorf("Down of %d: %v, want of %d: %v", ev.Assoc, ev.Err, old.Assoc, sctp.ErrRestarted)
	}
	a.Up()
}

// TestKernelHeartbeatFindsRestart: the peer's kernel, which has lost the association,
// answers a HEARTBEAT with an ABORT.
func TestKernelHeartbeatFindsRestart(t *testing.T) {
	Hosts(t, map[string][]string{"ha": {"10.99.0.1/24"}, "hb": {"10.99.0.2/24"}})
	a := Side(t, "ha", sctp.Limits{}, "10.99.0.1:3863")
	b := Side(t, "hb", sctp.Limits{}, "10.99.0.2:4000")
	called, _ := Call(b, a)
	b.Heartbeat(called.Assoc) // it lives
	Sh(t, "ip -n ha link set eth0 down")
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	Sh(t, "ip -n ha link set eth0 up")
	Side(t, "ha", sctp.Limits{}, "10.99.0.1:3863")
	b.Heartbeat(called.Assoc)
	restarted := time.Now()
	ev := b.Wait("Down", func(ev sctp.Event) bool { return ev.Type == sctp.Down })
	if d := time.Since(restarted); d > 5*time.Second { // the kernel's own HEARTBEAT follows after 10 s
		t.Errorf("Down after %v, want it at once: %v", d, ev)
	}
}

func TestKernelConnectFails(t *testing.T) {
	Hosts(t, map[string][]string{"ha": {"10.99.0.1/24"}, "hb": {"10.99.0.2/24"}})
	a := Side(t, "ha", sctp.Limits{HandshakeTime: time.Second}, "10.99.0.1:0")
	for _, tc := range []struct {
		name, to string
		max      time.Duration
		want     error
	}{
		{"nobody at the port", "10.99.0.2:9", 500 * time.Millisecond, sctp.ErrRefused},
		{"no such host", "10.99.0.3:9", 3 * time.Second, sctp.ErrTimeout},
		{"no route", "192.0.2.1:9", 3 * time.Second, sctp.ErrTimeout},
		{"family not bound", "[fd00::1]:9", 500 * time.Millisecond, nil},
		{"port 0", "10.99.0.2:0", 500 * time.Millisecond, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			start := time.Now()
			id := a.Connect(sctp.Dest{Addrs: []netip.AddrPort{netip.MustParseAddrPort(tc.to)}, Kind: sctp.Kernel})
			ev := a.Down(sctp.ConnectFailed)
			took := time.Since(start)
			if most := here.Paced(t, tc.max); took > most {
				t.Errorf("Down after %v, want within %v", took, most)
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
		Sh(t, "ip -n hb link set eth0 down")
		start := time.Now()
		a.Connect(sctp.Dest{Addrs: []netip.AddrPort{netip.MustParseAddrPort("10.99.0.2:9")}, Kind: sctp.Kernel})
		a.Down(sctp.ConnectFailed)
		took := time.Since(start)
		if took < 900*time.Millisecond || took > here.Paced(t, 3*time.Second) {
			t.Errorf("Down after %v, want about 1s", took)
		}
	})
}

// TestKernelSimultaneousOpen: both call at once and have one association.
func TestKernelSimultaneousOpen(t *testing.T) {
	Hosts(t, map[string][]string{"ha": {"10.99.0.1/24"}, "hb": {"10.99.0.2/24"}})
	Sh(t, "ip netns exec ha tc qdisc add dev eth0 root netem delay 20ms")
	Sh(t, "ip netns exec hb tc qdisc add dev eth0 root netem delay 20ms")
	a := Side(t, "ha", sctp.Limits{}, "10.99.0.1:9901")
	b := Side(t, "hb", sctp.Limits{}, "10.99.0.2:9901")
	fromA := a.Connect(sctp.Dest{Addrs: b.LocalAddrs(), Kind: sctp.Kernel})
	fromB := b.Connect(sctp.Dest{Addrs: a.LocalAddrs(), Kind: sctp.Kernel})
	if ev := a.Up(); ev.Assoc != fromA {
		t.Errorf("Up of %d, want %d", ev.Assoc, fromA)
	}
	if ev := b.Up(); ev.Assoc != fromB {
		t.Errorf("Up of %d, want %d", ev.Assoc, fromB)
	}
	a.Say(fromA, "from a")
	b.Say(fromB, "from b")
	if got := string(b.Received().Message.Data); got != "from a" {
		t.Errorf("got %q", got)
	}
	if got := string(a.Received().Message.Data); got != "from b" {
		t.Errorf("got %q", got)
	}
	again := a.Connect(sctp.Dest{Addrs: b.LocalAddrs(), Kind: sctp.Kernel})
	if ev := a.Down(sctp.ConnectFailed); ev.Assoc != again || !errors.Is(ev.Err, sctp.ErrConnected) {
		t.Errorf("a second call: Down of %d with %v, want of %d with %v", ev.Assoc, ev.Err, again, sctp.ErrConnected)
	}
}

// TestKernelSilentPeer: heartbeats find out that an idle peer is gone.
func TestKernelSilentPeer(t *testing.T) {
	Hosts(t, map[string][]string{"ha": {"10.99.0.1/24"}, "hb": {"10.99.0.2/24"}})
	a := Side(t, "ha", sctp.Limits{Heartbeat: 200 * time.Millisecond, Misses: 2}, "10.99.0.1:0")
	b := Side(t, "hb", sctp.Limits{}, "10.99.0.2:0")
	Call(a, b)
	start := time.Now()
	Sh(t, "ip -n hb link set eth0 down")
	a.Down(sctp.Lost)
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
	warm := Side(t, "", sctp.Limits{}, "127.0.0.1:0") // the poller's own descriptors
	_ = warm.Close()
	goroutines, files := runtime.NumGoroutine(), fds()
	a := Side(t, "", sctp.Limits{}, "127.0.0.1:0")
	b := Side(t, "", sctp.Limits{}, "127.0.0.1:0")
	for range 3 {
		b := Side(t, "", sctp.Limits{}, "127.0.0.1:0")
		Call(a, b)
		defer b.Close()
	}
	ours, _ := Call(a, b)
	a.Connect(sctp.Dest{Addrs: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:1")}, Kind: sctp.Kernel})
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	b.Down(sctp.PeerAbort)
	downs := 0
	for _, ev := range a.Drain() {
		if ev.Type == sctp.Down {
			downs++
		}
	}
	if downs != 5 {
		t.Errorf("%d associations are Down after Close, want 5", downs)
	}
	if err := a.Send(ours.Assoc, sctp.Message{Data: []byte("x")}); !errors.Is(err, sctp.ErrClosed) {
		t.Errorf("Send after Close: %v, want %v", err, sctp.ErrClosed)
	}
	if id := a.Connect(sctp.Dest{Addrs: b.LocalAddrs()}); id != 0 {
		t.Errorf("Connect after Close gives %d, want 0", id)
	}
	if err := a.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	_ = b.Close()
	if late := a.Drain(); len(late) > 0 {
		t.Errorf("events after Close: %v", late)
	}
	deadline := time.Now().Add(sctptest.WaitFor)
	for runtime.NumGoroutine() > goroutines+6 || fds() > files+3 { // no event tells of it
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines and %d files, want %d and %d", runtime.NumGoroutine(), fds(), goroutines, files)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestKernelMisuse(t *testing.T) {
	a := Side(t, "", sctp.Limits{}, "127.0.0.1:0")
	b := Side(t, "", sctp.Limits{}, "127.0.0.1:0")
	ours, _ := Call(a, b)
	if err := a.Send(ours.Assoc, sctp.Message{}); err == nil {
		t.Error("an empty message is taken")
	}
	if err := a.Send(ours.Assoc, sctp.Message{Data: []byte("x"), Stream: streams}); err == nil {
		t.Error("a message on a stream that there is not is taken")
	}
	if err := a.Send(12345, sctp.Message{Data: []byte("x")}); !errors.Is(err, sctp.ErrNoAssoc) {
		t.Errorf("unknown association: %v, want %v", err, sctp.ErrNoAssoc)
	}
	port := a.LocalAddrs()[0]
	if e, err := Listen(sctp.ListenConfig{Addrs: []netip.AddrPort{port}}, sctp.Limits{}, new(sctp.IDs), new(sctp.Counters), localaddr.New(t.Logf), a.Handle); err == nil {
		_ = e.Close()
		t.Errorf("%v is bound twice", port)
	} else {
		t.Log(err)
	}
}

// TestKernelPanic: a panic in the Handler ends one association.
func TestKernelPanic(t *testing.T) {
	a := Side(t, "", sctp.Limits{}, "127.0.0.1:0")
	b := Side(t, "", sctp.Limits{}, "127.0.0.1:0")
	c := Side(t, "", sctp.Limits{}, "127.0.0.1:0")
	toA, _ := Call(b, a)
	cToA, _ := Call(c, a)
	a.Hooked(func(ev sctp.Event) {
		if ev.Type == sctp.Received && string(ev.Message.Data) == "bomb" {
			panic("as the test wants")
		}
	})
	b.Say(toA.Assoc, "bomb")
	c.Say(cToA.Assoc, "fine")
	b.Down(sctp.PeerAbort)
	if got := string(a.Received().Message.Data); got != "fine" {
		t.Errorf("got %q, want fine", got)
	}
	if ev := a.Down(sctp.Overrun); !strings.Contains(ev.Err.Error(), "panic") {
		t.Errorf("Down with %v, want it to tell of the panic", ev.Err)
	}
}

// TestKernelForgedAddress has a peer list an address that is not its own, as far as
// we can see: nothing answers there. It is never confirmed.
func TestKernelForgedAddress(t *testing.T) {
	const victim = "203.0.113.7"
	Hosts(t, map[string][]string{"ha": {"10.99.0.1/24"}, "hb": {"10.99.0.2/24"}})
	Sh(t, "ip -n hb addr add "+victim+"/32 dev lo")
	a := Side(t, "ha", sctp.Limits{Heartbeat: 300 * time.Millisecond}, "10.99.0.1:3863")
	for _, route := range []string{"", "203.0.113.0/24 via 10.99.0.9"} {
		if route != "" {
			Sh(t, "ip -n ha route add "+route)
		}
		b := Side(t, "hb", sctp.Limits{}, "10.99.0.2:4000", victim+":4000")
		b.Connect(sctp.Dest{Addrs: []netip.AddrPort{netip.MustParseAddrPort("10.99.0.1:3863")}, Kind: sctp.Kernel})
		if ev := a.Up(); fmt.Sprint(ev.Peer, ev.Claimed) != "[10.99.0.2:4000] ["+victim+":4000]" {
			t.Errorf("peer %v, claiming %v", ev.Peer, ev.Claimed)
		}
		b.Say(b.Up().Assoc, "hello")
		a.Received()
		time.Sleep(4 * time.Second) // the kernel's clock
		b.Close()
		if ev := a.Wait("an end or a change", func(ev sctp.Event) bool { return ev.Type == sctp.PeerAddrs || ev.Type == sctp.Down }); ev.Type != sctp.Down {
			t.Errorf("the peer's address %v was confirmed", ev.Peer)
		}
	}
}
