package stack

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/kernel"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
	"github.com/rserpool/coredns-rserpool/test/here"
)

// TestStackModes checks which transports a stack has with and without SCTP in the
// kernel, and what it logs.
func TestStackModes(t *testing.T) {
	kernel := kernel.Supported()
	for _, mode := range []sctp.Kind{sctp.Any, sctp.Kernel, sctp.UDP} {
		t.Run(fmt.Sprint(mode), func(t *testing.T) {
			var lines []string
			s, err := New(Config{Only: mode, Logf: func(f string, a ...any) { lines = append(lines, fmt.Sprintf(f, a...)) }})
			var want []sctp.Kind
			if kernel && mode != sctp.UDP {
				want = append(want, sctp.Kernel)
			}
			if mode != sctp.Kernel {
				want = append(want, sctp.UDP)
			}
			if mode == sctp.Kernel && !kernel {
				if err == nil || !strings.Contains(err.Error(), "modprobe sctp") {
					t.Errorf("Got error %v, want one that says what to do", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, kindsOf(s)); diff != "" {
				t.Errorf("Kinds (-want +got):\n%s", diff)
			}
			if told := len(lines); (told == 1) != (mode == sctp.Any && !kernel) || told > 1 {
				t.Errorf("Got log %q", lines)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			if _, err := s.Listen(sctp.ListenConfig{}, func(sctp.Event) {}); !errors.Is(err, sctp.ErrClosed) {
				t.Errorf("Listen after Close: got %v, want %v", err, sctp.ErrClosed)
			}
		})
	}
}

// TestStackOnlyTCP connects by TCP, and cannot by SCTP.
func TestStackOnlyTCP(t *testing.T) {
	cfg := sctptest.On("127.0.0.1:0")
	cfg.TCP = true
	y := stackSite(t, newStack(t, Config{Only: sctp.UDP}), cfg)
	x := stackSite(t, newStack(t, Config{Only: sctp.TCP}), sctptest.On("127.0.0.1:0"))
	x.Connect(sctp.Dest{Addrs: y.LocalAddrs(), Kind: sctp.TCP})
	x.Next(sctp.Up)
	a := x.Connect(sctp.Dest{Addrs: y.LocalAddrs()})
	if ev := x.Next(sctp.Down); ev.Assoc != a || ev.Reason != sctp.ConnectFailed || ev.Err == nil {
		t.Errorf("Got %v, want ConnectFailed of %d and why", ev, a)
	}
}

// TestStackWildcard listens on all addresses, and is called at several.
func TestStackWildcard(t *testing.T) {
	s := newStack(t, Config{Only: sctp.UDP})
	y := stackSite(t, s, sctptest.On("[::]:0"))
	port := y.LocalAddrs()[0].Port()
	c := newStack(t, Config{Only: sctp.UDP})
	for _, ip := range []string{"127.0.0.1", "127.0.0.2", "::1"} {
		t.Run(ip, func(t *testing.T) {
			if ip == "::1" {
				here.IPv6(t)
			}
			x := stackSite(t, c, sctp.ListenConfig{})
			at := netip.AddrPortFrom(netip.MustParseAddr(ip), port)
			a := x.Connect(sctp.Dest{Addrs: []netip.AddrPort{at}, Kind: sctp.UDP, EncapPort: s.EncapPort()})
			if ev := x.Next(sctp.Up); ev.Peer[0] != at {
				t.Errorf("Got peer %v, want %v first: it must answer from where it was called", ev.Peer, at)
			}
			y.Next(sctp.Up)
			_ = x.Send(a, sctp.Message{Data: []byte("x")})
			y.Next(sctp.Received)
			x.Close()
			y.Next(sctp.Down)
		})
	}
	for _, a := range y.LocalAddrs() {
		if a.Addr().IsUnspecified() {
			t.Errorf("LocalAddrs has %v", a)
		}
	}
}

// TestStackLearnsPort calls a peer back without being told its UDP port.
func TestStackLearnsPort(t *testing.T) {
	s1, s2 := newStack(t, Config{Only: sctp.UDP}), newStack(t, Config{Only: sctp.UDP})
	x, y := stackSite(t, s1, sctptest.On("127.0.0.1:0")), stackSite(t, s2, sctptest.On("127.0.0.1:0"))
	a := x.Connect(destOf(y, s2, sctp.UDP))
	x.Next(sctp.Up)
	peer := y.Next(sctp.Up).Peer
	x.Abort(a)
	x.Next(sctp.Down)
	y.Next(sctp.Down)
	y.Connect(sctp.Dest{Addrs: peer, Kind: sctp.Any})
	y.Next(sctp.Up)
	x.Next(sctp.Up)
}

// fakeKind is a kind of transport that does as the test says.
type fakeKind struct {
	sctp.Endpoint
	mu    sync.Mutex
	ids   *sctp.IDs
	calls []sctp.AssocID
	ends  []sctp.AssocID
	sent  []string
	full  bool
}

func (f *fakeKind) Connect(sctp.Dest) sctp.AssocID {
	f.mu.Lock()
	defer f.mu.Unlock()
	id := f.ids.Next()
	f.calls = append(f.calls, id)
	return id
}

func (f *fakeKind) Send(a sctp.AssocID, m sctp.Message) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, id := range f.calls {
		if id == a {
			f.sent = append(f.sent, string(m.Data))
			return nil
		}
	}
	return sctp.ErrNoAssoc
}

func (f *fakeKind) Full(a sctp.AssocID) bool   { return f.full && slices.Contains(f.calls, a) }
func (f *fakeKind) Behind(a sctp.AssocID) bool { return f.Full(a) }

func (f *fakeKind) Abort(a sctp.AssocID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ends = append(f.ends, a)
}

func (f *fakeKind) Shutdown(a sctp.AssocID) { f.Abort(a) }
func (f *fakeKind) Close() error            { return nil }

// TestAny eyeballs two kinds.
func TestAny(t *testing.T) {
	type world struct {
		*endpoint
		k, u *fakeKind
		id   sctp.AssocID
		log  []string
	}
	up := func(w *world, f *fakeKind) { w.handle(sctp.Event{Type: sctp.Up, Assoc: f.calls[0]}) }
	down := func(w *world, f *fakeKind, r sctp.Reason) {
		w.handle(sctp.Event{Type: sctp.Down, Assoc: f.calls[0], Reason: r, Err: errors.New("why")})
	}
	calls := func(t *testing.T, w *world, k, u int) {
		t.Helper()
		synctest.Wait()
		if len(w.k.calls) != k || len(w.u.calls) != u {
			t.Errorf("Got %d and %d calls, want %d and %d", len(w.k.calls), len(w.u.calls), k, u)
		}
	}
	later := func() {
		time.Sleep(time.Second)
		synctest.Wait()
	}
	tests := []struct {
		name string
		run  func(t *testing.T, w *world)
		want []string
	}{
		{"kernel at once", func(t *testing.T, w *world) {
			up(w, w.k)
			later()
			calls(t, w, 1, 0)
		}, []string{"up"}},
		{"UDP first", func(t *testing.T, w *world) {
			later()
			calls(t, w, 1, 1)
			_ = w.Send(w.id, sctp.Message{Data: []byte("early")})
			up(w, w.u)
			_ = w.Send(w.id, sctp.Message{Data: []byte("late")})
			down(w, w.k, sctp.LocalClose)
			w.handle(sctp.Event{Type: sctp.Received, Assoc: w.u.calls[0]})
			down(w, w.u, sctp.PeerShutdown)
			if diff := cmp.Diff([]string{"early", "late"}, w.u.sent); diff != "" {
				t.Errorf("Sent (-want +got):\n%s", diff)
			}
			if !cmp.Equal(w.k.ends, w.k.calls) {
				t.Errorf("Got kernel's %v ended, want %v", w.k.ends, w.k.calls)
			}
		}, []string{"up", "received", "down 1"}},
		{"full", func(t *testing.T, w *world) {
			full := func(when string, want bool) {
				t.Helper()
				if f, b := w.Full(w.id), w.Behind(w.id); f != want || b != want {
					t.Errorf("%s: full %t and behind %t, want %t", when, f, b, want)
				}
			}
			later()
			full("calling", false)
			for w.Send(w.id, sctp.Message{Data: make([]byte, sctp.QueueShare)}) == nil {
			}
			full("calling, with much to send", true)
			up(w, w.u)
			full("the winner has sent all", false)
			w.u.full = true
			full("the winner", true)
			down(w, w.k, sctp.LocalClose)
			down(w, w.u, sctp.PeerShutdown)
			full("the end", false)
		}, []string{"up", "down 1"}},
		{"both come up", func(t *testing.T, w *world) {
			later()
			up(w, w.k)
			up(w, w.u)
			down(w, w.u, sctp.LocalClose)
			if len(w.u.ends) == 0 {
				t.Error("The loser is not aborted")
			}
		}, []string{"up"}},
		{"kernel fails at once", func(t *testing.T, w *world) {
			down(w, w.k, sctp.ConnectFailed)
			calls(t, w, 1, 1)
			up(w, w.u)
		}, []string{"up"}},
		{"both fail", func(t *testing.T, w *world) {
			later()
			down(w, w.u, sctp.ConnectFailed)
			down(w, w.k, sctp.Lost)
			if err := w.Send(w.id, sctp.Message{Data: []byte("x")}); !errors.Is(err, sctp.ErrNoAssoc) {
				t.Errorf("Send: got %v, want %v", err, sctp.ErrNoAssoc)
			}
		}, []string{"down 4"}},
		{"one is not trusted", func(t *testing.T, w *world) {
			later()
			w.handle(sctp.Event{Type: sctp.Down, Assoc: w.k.calls[0], Reason: sctp.ConnectFailed, Err: fmt.Errorf("no: %w", sctp.ErrUntrusted)})
			if !cmp.Equal(w.u.ends, w.u.calls) {
				t.Errorf("Got UDP's %v ended, want %v", w.u.ends, w.u.calls)
			}
			down(w, w.u, sctp.LocalClose)
		}, []string{"down 4"}},
		{"the first one is not trusted", func(t *testing.T, w *world) {
			w.handle(sctp.Event{Type: sctp.Down, Assoc: w.k.calls[0], Reason: sctp.ConnectFailed, Err: sctp.ErrUntrusted})
			later()
			calls(t, w, 1, 0)
		}, []string{"down 4"}},
		{"aborted before", func(t *testing.T, w *world) {
			later()
			w.Abort(w.id)
			down(w, w.u, sctp.LocalClose)
			down(w, w.k, sctp.LocalClose)
		}, []string{"down 5"}},
		{"aborted when it is up", func(t *testing.T, w *world) {
			up(w, w.k)
			w.Shutdown(w.id)
			down(w, w.k, sctp.LocalClose)
			calls(t, w, 1, 0)
		}, []string{"up", "down 5"}},
		{"somebody else's", func(t *testing.T, w *world) {
			up(w, w.k)
			w.handle(sctp.Event{Type: sctp.Up, Assoc: 1000})
		}, []string{"up", "up of 1000"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &world{}
				s := &Stack{cfg: Config{Limits: sctp.Limits{}.WithDefaults()}, endpoints: map[*endpoint]struct{}{}}
				w.endpoint = newEndpoint(s, func(ev sctp.Event) {
					line := map[sctp.EventType]string{sctp.Up: "up", sctp.Received: "received", sctp.Down: fmt.Sprintf("down %d", ev.Reason)}[ev.Type]
					if ev.Assoc != w.id {
						line += fmt.Sprintf(" of %d", ev.Assoc)
					}
					w.log = append(w.log, line)
				})
				w.k, w.u = &fakeKind{ids: &s.ids}, &fakeKind{ids: &s.ids}
				w.kinds = []kindEndpoint{{w.k, sctp.Kernel}, {w.u, sctp.UDP}, {&fakeKind{}, sctp.TCP}}
				w.id = w.Connect(sctp.Dest{})
				tt.run(t, w)
				if diff := cmp.Diff(tt.want, w.log); diff != "" {
					t.Errorf("Events (-want +got):\n%s", diff)
				}
				if last := tt.want[len(tt.want)-1]; strings.HasPrefix(last, "down") && len(w.eyeballs)+len(w.attempts) != 0 {
					t.Errorf("Got %d eyeballs and %d attempts left", len(w.eyeballs), len(w.attempts))
				}
				if err := w.Close(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestConnectUnknownKind asks for a kind that there is not.
func TestConnectUnknownKind(t *testing.T) {
	if kernel.Supported() {
		t.Skip("the kernel has SCTP")
	}
	x := stackSite(t, newStack(t, Config{}), sctptest.On("127.0.0.1:0"))
	a := x.Connect(sctp.Dest{Addrs: x.LocalAddrs(), Kind: sctp.Kernel})
	if ev := x.Next(sctp.Down); ev.Assoc != a || ev.Reason != sctp.ConnectFailed || ev.Err == nil {
		t.Errorf("Got %v, want ConnectFailed of %d and why", ev, a)
	}
}

// TestTCPPortInUse has the port that SCTP in UDP would take be in use for TCP.
func TestTCPPortInUse(t *testing.T) {
	u, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := u.LocalAddr().(*net.UDPAddr).AddrPort()
	u.Close()
	taken, err := net.Listen("tcp", addr.String())
	if err != nil {
		t.Skipf("no port to take: %v", err)
	}
	defer taken.Close()
	cfg := sctptest.On("127.0.0.1:0")
	cfg.TCP = true
	x := stackSite(t, newStack(t, Config{Only: sctp.UDP, EncapPort: addr.Port()}), cfg)
	c, err := net.Dial("tcp", x.LocalAddrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

// stackSite makes a site of a stack.
func stackSite(t testing.TB, s *Stack, cfg sctp.ListenConfig) *sctptest.Site {
	t.Helper()
	x := sctptest.NewSite(t)
	e, err := s.Listen(cfg, x.Handle)
	if err != nil {
		t.Fatalf("Listen(%v): %v", cfg, err)
	}
	t.Cleanup(func() { e.Close() })
	x.Endpoint = e
	return x
}

func newStack(t testing.TB, cfg Config) *Stack {
	t.Helper()
	cfg.Framing = sctptest.Framing
	if cfg.Logf == nil {
		cfg.Logf = t.Logf
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatalf("NewStack: %v", err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// dest is where to reach a site.
func destOf(x *sctptest.Site, s *Stack, kind sctp.Kind) sctp.Dest {
	return sctp.Dest{Addrs: x.LocalAddrs(), Kind: kind, EncapPort: s.EncapPort()}
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// kindsOf are the kinds of SCTP that a stack has.
func kindsOf(s *Stack) (kinds []sctp.Kind) {
	if s.kernel {
		kinds = append(kinds, sctp.Kernel)
	}
	if s.udp != nil {
		kinds = append(kinds, sctp.UDP)
	}
	return kinds
}
