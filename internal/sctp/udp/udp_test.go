package udp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/localaddr"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
	"github.com/rserpool/coredns-rserpool/test/here"
)

func TestUDPMessages(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		t.Run(addr, func(t *testing.T) {
			if netip.MustParseAddrPort(addr).Addr().Is6() {
				here.IPv6(t)
			}
			s1 := newMux(t, sctp.Limits{}, 0)
			s2 := newMux(t, sctp.Limits{}, 0)
			x, y := muxSite(t, s1, sctptest.On(addr)), muxSite(t, s2, sctptest.On(addr))
			a := x.Connect(destOfMux(y))
			up := x.Next(sctp.Up)
			if up.Assoc != a || up.Kind != sctp.UDP || !cmp.Equal(up.Peer, y.LocalAddrs(), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })) {
				t.Errorf("Got %v, want Up of %d with peer %v", up, a, y.LocalAddrs())
			}
			b := y.Next(sctp.Up).Assoc
			for i, n := range []int{1, 2, 3, 100, 1200, 5000, 60000, 65535} {
				want := sctp.Message{Data: sctptest.Message(max(n, 4), byte(i)), PPID: uint32(11 + i), Stream: uint16(i)}
				if err := x.Send(a, want); err != nil {
					t.Fatalf("Send of %d bytes: %v", n, err)
				}
				if got := y.Next(sctp.Received); !sctptest.Same(got.Message, want) || got.Assoc != b {
					t.Fatalf("Got message of %d bytes %v, want %d", len(got.Message.Data), got.Message.PPID, n)
				}
				if err := y.Send(b, want); err != nil {
					t.Fatalf("Send of %d bytes back: %v", n, err)
				}
				if got := x.Next(sctp.Received); !sctptest.Same(got.Message, want) {
					t.Fatalf("Got message of %d bytes back, want %d", len(got.Message.Data), n)
				}
			}
			x.Shutdown(a)
			if ev := x.Next(sctp.Down); ev.Reason != sctp.LocalClose {
				t.Errorf("Got %v, want LocalClose", ev)
			}
			if ev := y.Next(sctp.Down); ev.Reason != sctp.PeerShutdown {
				t.Errorf("Got %v, want PeerShutdown", ev)
			}
		})
	}
}

func TestUDPAbort(t *testing.T) {
	s1 := newMux(t, sctp.Limits{}, 0)
	s2 := newMux(t, sctp.Limits{}, 0)
	x, y := muxSite(t, s1, sctptest.On("127.0.0.1:0")), muxSite(t, s2, sctptest.On("127.0.0.1:0"))
	a := x.Connect(destOfMux(y))
	x.Next(sctp.Up)
	y.Next(sctp.Up)
	x.Abort(a)
	if ev := x.Next(sctp.Down); ev.Reason != sctp.LocalClose {
		t.Errorf("Got %v, want LocalClose", ev)
	}
	if ev := y.Next(sctp.Down); ev.Reason != sctp.PeerAbort || !errors.Is(ev.Err, sctp.ErrAborted) || !strings.Contains(fmt.Sprint(ev.Err), "user-initiated abort") {
		t.Errorf("Got %v, want PeerAbort with its cause in words", ev)
	}
	if err := x.Send(a, sctp.Message{Data: []byte("x")}); !errors.Is(err, sctp.ErrNoAssoc) {
		t.Errorf("Send after Down: got %v, want ErrNoAssoc", err)
	}
}

func TestUDPRefused(t *testing.T) {
	s1 := newMux(t, sctp.Limits{}, 0)
	s2 := newMux(t, sctp.Limits{}, 0)
	x, y := muxSite(t, s1, sctptest.On("127.0.0.1:0")), muxSite(t, s2, sctptest.On("127.0.0.1:0"))
	to := destOfMux(y)
	t.Run("no such SCTP port", func(t *testing.T) {
		to := to
		to.Addrs = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:1")}
		x.Connect(to)
		if ev := x.Next(sctp.Down); ev.Reason != sctp.ConnectFailed {
			t.Errorf("Got %v, want ConnectFailed", ev)
		}
	})
	t.Run("no such UDP port", func(t *testing.T) {
		y.Close()
		start := time.Now()
		x.Connect(to)
		if ev := x.Next(sctp.Down); ev.Reason != sctp.ConnectFailed || time.Since(start) > 5*time.Second {
			t.Errorf("Got %v after %v, want ConnectFailed at once", ev, time.Since(start))
		}
	})
}

// TestUDPPeerVanishes has the peer's process end without a word: the next
// heartbeat finds its port closed.
func TestUDPPeerVanishes(t *testing.T) {
	s1 := newMux(t, sctp.Limits{Heartbeat: 50 * time.Millisecond, Misses: 100}, 0)
	s2 := newMux(t, sctp.Limits{}, 0)
	x, y := muxSite(t, s1, sctptest.On("127.0.0.1:0")), muxSite(t, s2, sctptest.On("127.0.0.1:0"))
	x.Connect(destOfMux(y))
	x.Next(sctp.Up)
	y.Next(sctp.Up)
	s2.mu.Lock()
	for _, b := range s2.socks {
		b.close()
	}
	s2.mu.Unlock()
	if ev := x.Next(sctp.Down); ev.Reason != sctp.Lost {
		t.Errorf("Got %v, want Lost", ev)
	}
}

// TestUDPSharesPort has several endpoints behind one UDP port.
func TestUDPSharesPort(t *testing.T) {
	s := newMux(t, sctp.Limits{}, 0)
	asap, enrp := muxSite(t, s, sctptest.On("127.0.0.1:3863")), muxSite(t, s, sctptest.On("127.0.0.1:9901"))
	c := newMux(t, sctp.Limits{}, 0)
	x := muxSite(t, c, sctptest.On("127.0.0.1:0"))
	for i, y := range []*sctptest.Site{asap, enrp} {
		a := x.Connect(destOfMux(y))
		x.Next(sctp.Up)
		y.Next(sctp.Up)
		_ = x.Send(a, sctp.Message{Data: []byte{byte(i)}})
		if got := y.Next(sctp.Received); got.Message.Data[0] != byte(i) {
			t.Errorf("Got message for endpoint %d, want %d", got.Message.Data[0], i)
		}
	}
	if _, err := s.Listen(sctptest.On("127.0.0.1:9901"), new(sctp.IDs), func(sctp.Event) {}); !errors.Is(err, ErrPortInUse) {
		t.Errorf("Listen on a port in use: got %v, want %v", err, ErrPortInUse)
	}
	if _, err := newMux(t, sctp.Limits{}, s.EncapPort()).Listen(sctptest.On("127.0.0.1:1"), new(sctp.IDs), func(sctp.Event) {}); err == nil {
		t.Error("Listen on a UDP port in use: got no error")
	}
	enrp.Close()
	enrp = muxSite(t, s, sctptest.On("127.0.0.1:9901"))
	x.Down(sctp.PeerAbort)
	x.Connect(destOfMux(enrp))
	x.Next(sctp.Up)
	if n := len(s.socks); n != 1 {
		t.Errorf("Got %d sockets, want 1", n)
	}
}

// TestOneFamily listens on :: where one family is not available. A port that is in use, or not
// allowed, is no lack of a family.
func TestOneFamily(t *testing.T) {
	const v4, v6 = "0.0.0.0", "::"
	for _, c := range []struct {
		fails map[string]syscall.Errno
		want  error
	}{
		{map[string]syscall.Errno{v6: syscall.EAFNOSUPPORT}, nil},
		{map[string]syscall.Errno{v4: syscall.EAFNOSUPPORT}, nil},
		{map[string]syscall.Errno{v6: syscall.EADDRNOTAVAIL}, nil},
		{map[string]syscall.Errno{v4: syscall.EADDRINUSE}, syscall.EADDRINUSE},
		{map[string]syscall.Errno{v6: syscall.EADDRINUSE}, syscall.EADDRINUSE},
		{map[string]syscall.Errno{v6: syscall.EACCES}, syscall.EACCES},
		{map[string]syscall.Errno{v6: syscall.EAFNOSUPPORT, v4: syscall.EADDRINUSE}, syscall.EADDRINUSE},
		{map[string]syscall.Errno{v4: syscall.EAFNOSUPPORT, v6: syscall.EADDRINUSE}, syscall.EADDRINUSE},
	} {
		t.Run(fmt.Sprint(c.fails), func(t *testing.T) {
			w := newEther()
			lines := 0
			machine := localaddr.New(func(string, ...any) { lines++ })
			m := New(sctp.Limits{}.WithDefaults(), sctp.EncapPort, machine)
			m.bind = func(a netip.AddrPort) (datagrams, error) {
				if errno := c.fails[a.Addr().String()]; errno != 0 {
					return nil, &net.OpError{Op: "listen", Net: "udp", Err: os.NewSyscallError("bind", errno)}
				}
				return w.bind(a)
			}
			e, err := m.Listen(sctp.ListenConfig{}, new(sctp.IDs), func(sctp.Event) {})
			if !errors.Is(err, c.want) {
				t.Errorf("Got %v, want %v", err, c.want)
			}
			if err == nil {
				if lines != 1 || len(e.bound) != 1 {
					t.Errorf("Got %d lines logged and %v bound, want one each", lines, e.bound)
				}
				e.Close()
			}
			m.wg.Wait()
			if len(w.socks) != 0 {
				t.Errorf("Got %d sockets left", len(w.socks))
			}
		})
	}
}

// newMux is the SCTP in UDP of a process, at a UDP port or a free one.
func newMux(t testing.TB, lim sctp.Limits, encap uint16) *Mux {
	t.Helper()
	m := New(lim.WithDefaults(), encap, localaddr.New(t.Logf))
	t.Cleanup(m.Wait)
	return m
}

// muxSite listens with a mux.
func muxSite(t testing.TB, m *Mux, cfg sctp.ListenConfig) *sctptest.Site {
	t.Helper()
	x := sctptest.NewSite(t)
	e, err := m.Listen(cfg, new(sctp.IDs), x.Handle)
	if err != nil {
		t.Fatalf("listen on %v: %v", cfg.Addrs, err)
	}
	t.Cleanup(func() { e.Close() })
	x.Endpoint = e
	return x
}

// destOfMux is where to reach a site.
func destOfMux(x *sctptest.Site) sctp.Dest {
	return sctp.Dest{Addrs: x.LocalAddrs(), Kind: sctp.UDP, EncapPort: muxOf(x).EncapPort()}
}
