package kernel

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
	"github.com/rserpool/coredns-rserpool/test/here"
)

func TestKernelOverrun(t *testing.T) {
	a := Side(t, "", sctp.Limits{MessageSize: 1000}, "127.0.0.1:0")
	b := Side(t, "", sctp.Limits{}, "127.0.0.1:0")
	for _, size := range []int{1001, recvPart + 1, 120 << 10} {
		ours, _ := Call(b, a)
		if err := b.Send(ours.Assoc, sctp.Message{Data: make([]byte, 1000)}); err != nil {
			t.Fatal(err)
		}
		a.Received()
		if err := b.Send(ours.Assoc, sctp.Message{Data: make([]byte, size)}); err != nil {
			t.Fatal(err)
		}
		a.Down(sctp.Overrun)
		b.Down(sctp.PeerAbort)
	}
}

// TestKernelQueueFull: a peer that does not read fills its own queue and
// nobody else's.
func TestKernelQueueFull(t *testing.T) {
	a := Side(t, "", sctp.Limits{}, "127.0.0.1:0")
	slow := Side(t, "", sctp.Limits{}, "127.0.0.1:0")
	good := Side(t, "", sctp.Limits{}, "127.0.0.1:0")
	toSlow, _ := Call(a, slow)
	toGood, _ := Call(a, good)
	release := make(chan struct{})
	slow.Hooked(func(sctp.Event) { <-release })
	sent := 0
	for {
		err := a.Send(toSlow.Assoc, sctp.Message{Data: make([]byte, 10<<10), PPID: uint32(sent)})
		if errors.Is(err, sctp.ErrQueueFull) {
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
		a.Say(toGood.Assoc, text)
		if got := string(good.Received().Message.Data); got != text {
			t.Fatalf("the other peer got %q, want %q", got, text)
		}
	}
	close(release)
	for i := range sent {
		if got := slow.Received().Message; got.PPID != uint32(i) || len(got.Data) != 10<<10 {
			t.Fatalf("message %d came with PPID %d, %d bytes", i, got.PPID, len(got.Data))
		}
	}
}

// TestKernelHalfSent: a peer whose long message is still coming holds up nobody.
func TestKernelHalfSent(t *testing.T) {
	Hosts(t, map[string][]string{"ha": {"10.99.0.1/24"}, "hb": {"10.99.0.2/24"}, "hc": {"10.99.0.3/24"}})
	Sh(t, "ip netns exec hb tc qdisc add dev eth0 root netem rate 800kbit")
	Sh(t, "ip netns exec hc tc qdisc add dev eth0 root netem delay 100ms")
	a := Side(t, "ha", sctp.Limits{MessageSize: 1 << 20}, "10.99.0.1:3863")
	shrink(t, a, 32<<10)
	b := Side(t, "hb", sctp.Limits{}, "10.99.0.2:0")
	shrink(t, b, 1<<20) // the long message in one piece
	c := Side(t, "hc", sctp.Limits{}, "10.99.0.3:0")
	slow, _ := Call(b, a)
	quick, _ := Call(c, a)
	if err := b.Send(slow.Assoc, sctp.Message{Data: make([]byte, 300<<10), PPID: 1}); err != nil {
		t.Fatal(err)
	}
	for i := range 20 { // about 2 of the 3 seconds
		c.Say(quick.Assoc, "short")
		got := a.Received()
		if got.Message.PPID == 1 {
			t.Fatalf("the long message came whole before the short one %d", i)
		}
		a.Say(got.Assoc, "answer")
		c.Received()
	}
	if got := a.Received().Message; got.PPID != 1 || len(got.Data) != 300<<10 {
		t.Errorf("%d bytes with PPID %d came, want %d with 1", len(got.Data), got.PPID, 300<<10)
	}
}

// TestKernelEarlySend: what is sent before Up, and before a Shutdown, arrives.
func TestKernelEarlySend(t *testing.T) {
	a := Side(t, "", sctp.Limits{}, "127.0.0.1:0")
	b := Side(t, "", sctp.Limits{}, "127.0.0.1:0")
	id := b.Connect(sctp.Dest{Addrs: a.LocalAddrs(), Kind: sctp.Kernel})
	const n = 50
	for i := range n {
		if err := b.Send(id, sctp.Message{Data: make([]byte, 5000), PPID: uint32(i)}); err != nil {
			t.Fatal(err)
		}
	}
	b.Shutdown(id)
	if err := b.Send(id, sctp.Message{Data: []byte("late")}); !errors.Is(err, sctp.ErrNoAssoc) {
		t.Errorf("Send after Shutdown: %v, want %v", err, sctp.ErrNoAssoc)
	}
	for i := range n {
		if got := a.Received().Message; got.PPID != uint32(i) || len(got.Data) != 5000 {
			t.Fatalf("message %d came with PPID %d, %d bytes", i, got.PPID, len(got.Data))
		}
	}
	a.Down(sctp.PeerShutdown)
	b.Down(sctp.LocalClose)
}

// TestKernelShutdownEnds: a peer that does not read cannot hold up a Shutdown.
func TestKernelShutdownEnds(t *testing.T) {
	a := Side(t, "", sctp.Limits{}, "127.0.0.1:0")
	b := Side(t, "", sctp.Limits{}, "127.0.0.1:0")
	shrink(t, b, 64<<10)
	ours, _ := Call(a, b)
	release := make(chan struct{})
	defer close(release)
	b.Hooked(func(sctp.Event) { <-release })
	for a.Send(ours.Assoc, sctp.Message{Data: make([]byte, 60<<10)}) == nil {
	}
	start := time.Now()
	a.Shutdown(ours.Assoc)
	a.Down(sctp.LocalClose)
	if took := time.Since(start); took < sctp.GraceTime-time.Second || took > sctp.GraceTime+here.Paced(t, 5*time.Second) {
		t.Errorf("Down %v after Shutdown, want about %v", took, sctp.GraceTime)
	}
}

// shrink returns an endpoint small buffers, as one without privilege has.
func shrink(t *testing.T, s *sctptest.Site, size int) {
	t.Helper()
	e := s.Endpoint.(*endpoint)
	err := e.sock.control(func(fd int) error {
		return errors.Join(
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, size),
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, size),
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BUF_LOCK, 0))
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestKernelManySlowPeers: so many peers do not read that their shares fill
// the socket's send buffer. One after the other is cut off until there is room.
func TestKernelManySlowPeers(t *testing.T) {
	a := Side(t, "", sctp.Limits{}, "127.0.0.1:0")
	shrink(t, a, 64<<10)
	good := Side(t, "", sctp.Limits{}, "127.0.0.1:0")
	toGood, _ := Call(a, good)
	release := make(chan struct{})
	defer close(release)
	for range 20 {
		slow := Side(t, "", sctp.Limits{}, "127.0.0.1:0")
		shrink(t, slow, 64<<10)
		toSlow, _ := Call(a, slow)
		slow.Hooked(func(sctp.Event) { <-release })
		for a.Send(toSlow.Assoc, sctp.Message{Data: make([]byte, 60<<10)}) == nil {
		}
	}
	start := time.Now()
	for i := range 20 {
		text := fmt.Sprint("message ", i)
		a.Say(toGood.Assoc, text)
		if got := string(good.Received().Message.Data); got != text {
			t.Fatalf("the good peer got %q, want %q", got, text)
		}
	}
	t.Logf("20 messages to the good peer took %v", time.Since(start))
}

// TestKernelMixedSizes: what is queued behind a full send buffer all arrives,
// in order.
func TestKernelMixedSizes(t *testing.T) {
	const peers, each = 8, 150
	a := Side(t, "", sctp.Limits{SendQueueBytes: 10 << 20}, "127.0.0.1:0")
	shrink(t, a, 48<<10)
	rng := rand.New(rand.NewPCG(1, 2))
	var to []*sctptest.Site
	for range peers {
		b := Side(t, "", sctp.Limits{}, "127.0.0.1:0")
		ours, _ := Call(a, b)
		to = append(to, b)
		for i := range each {
			size := 1 + rng.IntN(200)
			if rng.IntN(4) == 0 {
				size = 1 + rng.IntN(30<<10)
			}
			if err := a.Send(ours.Assoc, sctp.Message{Data: make([]byte, size), PPID: uint32(i)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for p, b := range to {
		for i := range each {
			if got := b.Received().Message.PPID; got != uint32(i) {
				t.Fatalf("peer %d: message %d came as number %d", p, got, i)
			}
		}
	}
}

// TestKernelManyRequests: 64 peers with 16 requests outstanding each.
func TestKernelManyRequests(t *testing.T) {
	for _, unprivileged := range []bool{false, true} {
		t.Run(fmt.Sprint("unprivileged=", unprivileged), func(t *testing.T) {
			const peers, outstanding, each = 64, 16, 32
			server := Side(t, "", sctp.Limits{}, "127.0.0.1:0")
			if unprivileged {
				shrink(t, server, 208<<10)
			}
			server.Hooked(func(ev sctp.Event) {
				if ev.Type == sctp.Received {
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
				c := Side(t, "", sctp.Limits{}, "127.0.0.1:0")
				id := c.Connect(sctp.Dest{Addrs: server.LocalAddrs(), Kind: sctp.Kernel})
				c.Up()
				var got atomic.Int64
				c.Hooked(func(ev sctp.Event) {
					if ev.Type != sctp.Received {
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
					if err := c.Send(id, sctp.Message{Data: make([]byte, 200), PPID: 11}); err != nil {
						t.Fatal(err)
					}
				}
			}
			select {
			case <-done:
			case <-time.After(2 * sctptest.WaitFor):
				t.Fatalf("stalled at %d of %d answers", answers.Load(), peers*each)
			}
			t.Logf("%d requests in %v, longest pause %v", peers*each, time.Since(start), time.Duration(worst.Load()))
		})
	}
}

func TestKernelTooManyAssociations(t *testing.T) {
	a := Side(t, "", sctp.Limits{Associations: 2}, "127.0.0.1:0")
	for i := range 3 {
		b := Side(t, "", sctp.Limits{}, "127.0.0.1:0")
		b.Connect(sctp.Dest{Addrs: a.LocalAddrs(), Kind: sctp.Kernel})
		if i < 2 {
			b.Up()
			a.Up()
			continue
		}
		b.Down(sctp.PeerAbort)
	}
}

// BenchmarkKernelEcho sends requests of 200 bytes and gets them back, several
// at a time. Each operation is four messages' work: two sent, two received.
func BenchmarkKernelEcho(b *testing.B) {
	for _, outstanding := range []int{1, 16} {
		b.Run(strconv.Itoa(outstanding), func(b *testing.B) {
			server := Side(b, "", sctp.Limits{}, "127.0.0.1:0")
			client := Side(b, "", sctp.Limits{}, "127.0.0.1:0")
			server.Hooked(func(ev sctp.Event) {
				if ev.Type == sctp.Received {
					_ = server.Send(ev.Assoc, ev.Message)
				}
			})
			answers := make(chan struct{}, outstanding)
			id := client.Connect(sctp.Dest{Addrs: server.LocalAddrs(), Kind: sctp.Kernel})
			client.Up()
			client.Hooked(func(ev sctp.Event) {
				if ev.Type == sctp.Received {
					answers <- struct{}{}
				}
			})
			data := make([]byte, 200)
			for range outstanding {
				answers <- struct{}{}
			}
			b.ReportAllocs()
			for b.Loop() {
				<-answers
				if err := client.Send(id, sctp.Message{Data: data, PPID: 11}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestKernelEchoes makes the number of echoes in SCTP_TEST_ECHOES, one after
// the other, for strace to count the system calls of.
func TestKernelEchoes(t *testing.T) {
	n, _ := strconv.Atoi(os.Getenv("SCTP_TEST_ECHOES"))
	if n == 0 {
		t.Skip("SCTP_TEST_ECHOES is not set")
	}
	server := Side(t, "", sctp.Limits{}, "127.0.0.1:0")
	client := Side(t, "", sctp.Limits{}, "127.0.0.1:0")
	server.Hooked(func(ev sctp.Event) {
		if ev.Type == sctp.Received {
			_ = server.Send(ev.Assoc, ev.Message)
		}
	})
	got := make(chan struct{})
	id := client.Connect(sctp.Dest{Addrs: server.LocalAddrs(), Kind: sctp.Kernel})
	client.Up()
	client.Hooked(func(ev sctp.Event) {
		if ev.Type == sctp.Received {
			got <- struct{}{}
		}
	})
	for range n {
		if err := client.Send(id, sctp.Message{Data: make([]byte, 200)}); err != nil {
			t.Fatal(err)
		}
		<-got
	}
}
