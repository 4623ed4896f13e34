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
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// childEnv makes the test binary a peer that is killed: see TestMain's user
// TestKernelPeerKilled.
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
	start := time.Now()
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

func TestKernelOverrun(t *testing.T) {
	a := kernelSide(t, "", Limits{MessageSize: 1000}, "127.0.0.1:0")
	b := kernelSide(t, "", Limits{}, "127.0.0.1:0")
	for _, size := range []int{1001, recvPart + 1, 1 << 20} {
		ours, _ := b.call(a)
		if err := b.Send(ours.Assoc, Message{Data: make([]byte, 1000)}); err != nil {
			t.Fatal(err)
		}
		a.received()
		if err := b.Send(ours.Assoc, Message{Data: make([]byte, size)}); err != nil {
			t.Fatal(err)
		}
		a.down(Overrun)
		b.down(PeerAbort)
	}
}

// TestKernelQueueFull: a peer that does not read fills its own queue and
// nobody else's.
func TestKernelQueueFull(t *testing.T) {
	a := kernelSide(t, "", Limits{}, "127.0.0.1:0")
	slow := kernelSide(t, "", Limits{}, "127.0.0.1:0")
	good := kernelSide(t, "", Limits{}, "127.0.0.1:0")
	toSlow, _ := a.call(slow)
	toGood, _ := a.call(good)
	release := make(chan struct{})
	slow.hooked(func(Event) { <-release })
	sent := 0
	for {
		err := a.Send(toSlow.Assoc, Message{Data: make([]byte, 10<<10), PPID: uint32(sent)})
		if errors.Is(err, ErrQueueFull) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if sent++; sent > 10000 {
			t.Fatal("100 MB were taken for a peer that does not read")
		}
	}
	t.Logf("%d messages of 10 KiB taken", sent)
	for i := range 100 {
		text := fmt.Sprint("message ", i)
		a.send(toGood.Assoc, text)
		if got := string(good.received().Message.Data); got != text {
			t.Fatalf("the other peer got %q, want %q", got, text)
		}
	}
	close(release)
	for i := range sent {
		if got := slow.received().Message; got.PPID != uint32(i) || len(got.Data) != 10<<10 {
			t.Fatalf("message %d came with PPID %d, %d bytes", i, got.PPID, len(got.Data))
		}
	}
}

// TestKernelHalfSent: a peer whose long message is still coming holds up nobody.
func TestKernelHalfSent(t *testing.T) {
	network(t, map[string][]string{"ha": {"10.99.0.1/24"}, "hb": {"10.99.0.2/24"}, "hc": {"10.99.0.3/24"}})
	sh(t, "ip netns exec hb tc qdisc add dev eth0 root netem rate 800kbit")
	sh(t, "ip netns exec hc tc qdisc add dev eth0 root netem delay 100ms")
	a := kernelSide(t, "ha", Limits{MessageSize: 1 << 20}, "10.99.0.1:3863")
	shrink(t, a, 32<<10)
	b := kernelSide(t, "hb", Limits{}, "10.99.0.2:0")
	c := kernelSide(t, "hc", Limits{}, "10.99.0.3:0")
	slow, _ := b.call(a)
	quick, _ := c.call(a)
	if err := b.Send(slow.Assoc, Message{Data: make([]byte, 300<<10), PPID: 1}); err != nil {
		t.Fatal(err)
	}
	for i := range 20 { // about 2 of the 3 seconds
		c.send(quick.Assoc, "short")
		got := a.received()
		if got.Message.PPID == 1 {
			t.Fatalf("the long message came whole before the short one %d", i)
		}
		a.send(got.Assoc, "answer")
		c.received()
	}
	if got := a.received().Message; got.PPID != 1 || len(got.Data) != 300<<10 {
		t.Errorf("%d bytes with PPID %d came, want %d with 1", len(got.Data), got.PPID, 300<<10)
	}
}

// TestKernelEarlySend: what is sent before Up, and before a Shutdown, arrives.
func TestKernelEarlySend(t *testing.T) {
	a := kernelSide(t, "", Limits{}, "127.0.0.1:0")
	b := kernelSide(t, "", Limits{}, "127.0.0.1:0")
	id := b.Connect(Dest{Addrs: a.LocalAddrs(), Kind: Kernel})
	const n = 50
	for i := range n {
		if err := b.Send(id, Message{Data: make([]byte, 5000), PPID: uint32(i)}); err != nil {
			t.Fatal(err)
		}
	}
	b.Shutdown(id)
	if err := b.Send(id, Message{Data: []byte("late")}); !errors.Is(err, ErrNoAssoc) {
		t.Errorf("Send after Shutdown: %v, want %v", err, ErrNoAssoc)
	}
	for i := range n {
		if got := a.received().Message; got.PPID != uint32(i) || len(got.Data) != 5000 {
			t.Fatalf("message %d came with PPID %d, %d bytes", i, got.PPID, len(got.Data))
		}
	}
	a.down(PeerShutdown)
	b.down(LocalClose)
}

// TestKernelShutdownEnds: a peer that does not read cannot hold up a Shutdown.
func TestKernelShutdownEnds(t *testing.T) {
	a := kernelSide(t, "", Limits{}, "127.0.0.1:0")
	b := kernelSide(t, "", Limits{}, "127.0.0.1:0")
	shrink(t, b, 64<<10)
	ours, _ := a.call(b)
	release := make(chan struct{})
	defer close(release)
	b.hooked(func(Event) { <-release })
	for a.Send(ours.Assoc, Message{Data: make([]byte, 60<<10)}) == nil {
	}
	start := time.Now()
	a.Shutdown(ours.Assoc)
	a.down(LocalClose)
	if took := time.Since(start); took < graceTime-time.Second || took > graceTime+5*time.Second {
		t.Errorf("Down %v after Shutdown, want about %v", took, graceTime)
	}
}

// shrink gives an endpoint small buffers, as one without privilege has.
func shrink(t *testing.T, s *side, size int) {
	t.Helper()
	e := s.Endpoint.(*kernelEndpoint)
	err := e.sock.control(func(fd int) error {
		return errors.Join(
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, size),
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, size),
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BUF_LOCK, 0))
	})
	if err != nil {
		t.Fatal(err)
	}
	e.share = kernelShare(2*size, true)
}

// TestKernelManySlowPeers: so many peers do not read that their shares fill
// the socket's send buffer. One after the other is cut off until there is room.
func TestKernelManySlowPeers(t *testing.T) {
	a := kernelSide(t, "", Limits{}, "127.0.0.1:0")
	shrink(t, a, 64<<10)
	good := kernelSide(t, "", Limits{}, "127.0.0.1:0")
	toGood, _ := a.call(good)
	release := make(chan struct{})
	defer close(release)
	for range 20 {
		slow := kernelSide(t, "", Limits{}, "127.0.0.1:0")
		shrink(t, slow, 64<<10)
		toSlow, _ := a.call(slow)
		slow.hooked(func(Event) { <-release })
		for a.Send(toSlow.Assoc, Message{Data: make([]byte, 60<<10)}) == nil {
		}
	}
	start := time.Now()
	for i := range 20 {
		text := fmt.Sprint("message ", i)
		a.send(toGood.Assoc, text)
		if got := string(good.received().Message.Data); got != text {
			t.Fatalf("the good peer got %q, want %q", got, text)
		}
	}
	t.Logf("20 messages to the good peer took %v", time.Since(start))
}

// TestKernelManyRequests: 64 peers with 16 requests outstanding each.
func TestKernelManyRequests(t *testing.T) {
	for _, unprivileged := range []bool{false, true} {
		t.Run(fmt.Sprint("unprivileged=", unprivileged), func(t *testing.T) {
			const peers, outstanding, each = 64, 16, 32
			server := kernelSide(t, "", Limits{}, "127.0.0.1:0")
			if unprivileged {
				shrink(t, server, 208<<10)
			}
			server.hooked(func(ev Event) {
				if ev.Type == Received {
					if err := server.Send(ev.Assoc, ev.Message); err != nil {
						t.Errorf("answer: %v", err)
					}
				}
			})
			var answers atomic.Int64
			done := make(chan struct{})
			var last, worst atomic.Int64
			start := time.Now()
			for range peers {
				c := kernelSide(t, "", Limits{}, "127.0.0.1:0")
				id := c.Connect(Dest{Addrs: server.LocalAddrs(), Kind: Kernel})
				c.up()
				var got atomic.Int64
				c.hooked(func(ev Event) {
					if ev.Type != Received {
						return
					}
					now := int64(time.Since(start))
					worst.Store(max(worst.Load(), now-last.Swap(now)))
					if answers.Add(1) == peers*each {
						close(done)
					}
					if n := got.Add(1); n+outstanding <= each {
						if err := c.Send(id, ev.Message); err != nil {
							t.Errorf("request: %v", err)
						}
					}
				})
				for range outstanding {
					if err := c.Send(id, Message{Data: make([]byte, 200), PPID: 11}); err != nil {
						t.Fatal(err)
					}
				}
			}
			select {
			case <-done:
			case <-time.After(2 * kernelPatience):
				t.Fatalf("stalled at %d of %d answers", answers.Load(), peers*each)
			}
			t.Logf("%d requests in %v, longest pause %v", peers*each, time.Since(start), time.Duration(worst.Load()))
		})
	}
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

func TestKernelTooManyAssociations(t *testing.T) {
	a := kernelSide(t, "", Limits{Associations: 2}, "127.0.0.1:0")
	for i := range 3 {
		b := kernelSide(t, "", Limits{}, "127.0.0.1:0")
		b.Connect(Dest{Addrs: a.LocalAddrs(), Kind: Kernel})
		if i < 2 {
			b.up()
			a.up()
			continue
		}
		b.down(PeerAbort)
	}
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
	for runtime.NumGoroutine() > goroutines+6 || fds() > files+3 {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines and %d files, want %d and %d", runtime.NumGoroutine(), fds(), goroutines, files)
		}
		runtime.Gosched()
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
	if e, err := listenKernel(ListenConfig{Addrs: []netip.AddrPort{port}}, Limits{}, new(idAllocator), a.handle); err == nil {
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
