package sctp

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/rserpool/coredns-rserpool/test/here"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// site is an endpoint with its events.
type site struct {
	Endpoint
	t      testing.TB
	events chan Event
}

// waitFor is longer than any test takes that goes well.
const waitFor = 20 * time.Second

// listen makes a site of a stack.
func (s *Stack) site(t testing.TB, cfg ListenConfig) *site {
	t.Helper()
	x := &site{t: t, events: make(chan Event, 10000)}
	e, err := s.Listen(cfg, func(ev Event) { x.events <- ev })
	if err != nil {
		t.Fatalf("Listen(%v): %v", cfg, err)
	}
	t.Cleanup(func() { e.Close() })
	x.Endpoint = e
	return x
}

func newStack(t testing.TB, cfg StackConfig) *Stack {
	t.Helper()
	if cfg.Logf == nil {
		cfg.Logf = t.Logf
	}
	s, err := NewStack(cfg)
	if err != nil {
		t.Fatalf("NewStack: %v", err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// next waits for the next event, which must be of a type. Unless that is
// PeerAddrs, it passes over those: one comes whenever an address is confirmed.
func (x *site) next(want EventType) Event {
	x.t.Helper()
	for {
		select {
		case ev := <-x.events:
			if ev.Type == PeerAddrs && want != PeerAddrs {
				continue
			}
			if ev.Type != want {
				x.t.Fatalf("Got event %v, want type %d", ev, want)
			}
			return ev
		case <-time.After(waitFor):
			x.t.Fatalf("Got no event in %v, want type %d", waitFor, want)
		}
	}
}

// confirmed waits until a number of the peer's addresses is confirmed.
func (x *site) confirmed(ev Event, n int) Event {
	x.t.Helper()
	for len(ev.Peer) < n {
		ev = x.next(PeerAddrs)
	}
	return ev
}

// none checks that there are no events now.
func (x *site) none() {
	x.t.Helper()
	select {
	case ev := <-x.events:
		x.t.Fatalf("Got event %v, want none", ev)
	default:
	}
}

// dest is where to reach a site.
func (x *site) dest(s *Stack, kind Kind) Dest {
	return Dest{Addrs: x.LocalAddrs(), Kind: kind, EncapPort: s.EncapPort()}
}

func on(addr string) ListenConfig {
	return ListenConfig{Addrs: []netip.AddrPort{netip.MustParseAddrPort(addr)}}
}

// message is a message of n bytes that TCP can delimit.
func message(n int, fill byte) []byte {
	b := bytes.Repeat([]byte{fill}, n)
	b[2], b[3] = byte(n>>8), byte(n)
	return b
}

func TestUDPMessages(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		t.Run(addr, func(t *testing.T) {
			if netip.MustParseAddrPort(addr).Addr().Is6() {
				here.IPv6(t)
			}
			s1 := newStack(t, StackConfig{Mode: UDPOnly})
			s2 := newStack(t, StackConfig{Mode: UDPOnly})
			x, y := s1.site(t, on(addr)), s2.site(t, on(addr))
			a := x.Connect(y.dest(s2, UDP))
			up := x.next(Up)
			if up.Assoc != a || up.Kind != UDP || !cmp.Equal(up.Peer, y.LocalAddrs(), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })) {
				t.Errorf("Got %v, want Up of %d with peer %v", up, a, y.LocalAddrs())
			}
			b := y.next(Up).Assoc
			for i, n := range []int{1, 2, 3, 100, 1200, 5000, 60000, 65535} {
				want := Message{Data: message(max(n, 4), byte(i)), PPID: uint32(11 + i), Stream: uint16(i)}
				if err := x.Send(a, want); err != nil {
					t.Fatalf("Send of %d bytes: %v", n, err)
				}
				if got := y.next(Received); !same(got.Message, want) || got.Assoc != b {
					t.Fatalf("Got message of %d bytes %v, want %d", len(got.Message.Data), got.Message.PPID, n)
				}
				if err := y.Send(b, want); err != nil {
					t.Fatalf("Send of %d bytes back: %v", n, err)
				}
				if got := x.next(Received); !same(got.Message, want) {
					t.Fatalf("Got message of %d bytes back, want %d", len(got.Message.Data), n)
				}
			}
			x.Shutdown(a)
			if ev := x.next(Down); ev.Reason != LocalClose {
				t.Errorf("Got %v, want LocalClose", ev)
			}
			if ev := y.next(Down); ev.Reason != PeerShutdown {
				t.Errorf("Got %v, want PeerShutdown", ev)
			}
		})
	}
}

func TestUDPAbort(t *testing.T) {
	s1 := newStack(t, StackConfig{Mode: UDPOnly})
	s2 := newStack(t, StackConfig{Mode: UDPOnly})
	x, y := s1.site(t, on("127.0.0.1:0")), s2.site(t, on("127.0.0.1:0"))
	a := x.Connect(y.dest(s2, Any))
	x.next(Up)
	y.next(Up)
	x.Abort(a)
	if ev := x.next(Down); ev.Reason != LocalClose {
		t.Errorf("Got %v, want LocalClose", ev)
	}
	if ev := y.next(Down); ev.Reason != PeerAbort || !strings.Contains(fmt.Sprint(ev.Err), "user-initiated abort") {
		t.Errorf("Got %v, want PeerAbort with its cause in words", ev)
	}
	if err := x.Send(a, Message{Data: []byte("x")}); !errors.Is(err, ErrNoAssoc) {
		t.Errorf("Send after Down: got %v, want ErrNoAssoc", err)
	}
}

func TestUDPRefused(t *testing.T) {
	s1 := newStack(t, StackConfig{Mode: UDPOnly})
	s2 := newStack(t, StackConfig{Mode: UDPOnly})
	x, y := s1.site(t, on("127.0.0.1:0")), s2.site(t, on("127.0.0.1:0"))
	to := y.dest(s2, UDP)
	t.Run("no such SCTP port", func(t *testing.T) {
		to := to
		to.Addrs = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:1")}
		x.Connect(to)
		if ev := x.next(Down); ev.Reason != ConnectFailed {
			t.Errorf("Got %v, want ConnectFailed", ev)
		}
	})
	t.Run("no such UDP port", func(t *testing.T) {
		y.Close()
		start := time.Now()
		x.Connect(to)
		if ev := x.next(Down); ev.Reason != ConnectFailed || time.Since(start) > 5*time.Second {
			t.Errorf("Got %v after %v, want ConnectFailed at once", ev, time.Since(start))
		}
	})
}

// TestUDPPeerVanishes has the peer's process end without a word: the next
// heartbeat finds its port closed.
func TestUDPPeerVanishes(t *testing.T) {
	s1 := newStack(t, StackConfig{Mode: UDPOnly, Limits: Limits{Heartbeat: 50 * time.Millisecond, Misses: 100}})
	s2 := newStack(t, StackConfig{Mode: UDPOnly})
	x, y := s1.site(t, on("127.0.0.1:0")), s2.site(t, on("127.0.0.1:0"))
	x.Connect(y.dest(s2, UDP))
	x.next(Up)
	y.next(Up)
	s2.udp.mu.Lock()
	for _, b := range s2.udp.socks {
		b.close()
	}
	s2.udp.mu.Unlock()
	if ev := x.next(Down); ev.Reason != Lost {
		t.Errorf("Got %v, want Lost", ev)
	}
}

func (ev Event) String() string {
	return fmt.Sprintf("{type %d assoc %d %v peer %v message %d bytes reason %d err %v}",
		ev.Type, ev.Assoc, ev.Kind, ev.Peer, len(ev.Message.Data), ev.Reason, ev.Err)
}

// same compares messages.
func same(a, b Message) bool {
	return a.PPID == b.PPID && a.Stream == b.Stream && bytes.Equal(a.Data, b.Data)
}
