package sctp

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// tcpSite is a site that listens for TCP, and its address.
func tcpSite(t *testing.T, lim Limits) (*Stack, *site, string) {
	t.Helper()
	s := newStack(t, StackConfig{Mode: UDPOnly, Limits: lim})
	cfg := on("127.0.0.1:0")
	cfg.TCP = true
	x := s.site(t, cfg)
	return s, x, x.LocalAddrs()[0].String()
}

func dialTCP(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
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
	cfg := on("127.0.0.1:0")
	cfg.TCP = true
	x := newStack(t, StackConfig{Mode: UDPOnly, EncapPort: addr.Port()}).site(t, cfg)
	dialTCP(t, x.LocalAddrs()[0].String())
}

func TestTCPMessages(t *testing.T) {
	_, x, _ := tcpSite(t, Limits{})
	y := newStack(t, StackConfig{Mode: UDPOnly}).site(t, on("127.0.0.1:0"))
	a := y.Connect(Dest{Addrs: x.LocalAddrs(), Kind: TCP})
	if up := y.next(Up); up.Assoc != a || up.Kind != TCP || up.Peer[0] != x.LocalAddrs()[0] {
		t.Errorf("Got %v, want Up of TCP with %v", up, x.LocalAddrs())
	}
	b := x.next(Up).Assoc
	for _, n := range []int{4, 5, 6, 7, 8, 60001, 65535} {
		want := Message{Data: message(n, 7), PPID: ppidASAP}
		if err := y.Send(a, want); err != nil {
			t.Fatalf("Send of %d bytes: %v", n, err)
		}
		if got := x.next(Received); !same(got.Message, want) {
			t.Fatalf("Got message of %d bytes, want %d", len(got.Message.Data), n)
		}
		if err := x.Send(b, want); err != nil {
			t.Fatalf("Send of %d bytes back: %v", n, err)
		}
		if got := y.next(Received); !same(got.Message, want) {
			t.Fatalf("Got message of %d bytes back, want %d", len(got.Message.Data), n)
		}
	}
	if err := y.Send(a, Message{Data: []byte{1, 0, 0, 99, 5}}); err == nil {
		t.Error("Send of a message whose header lies: got no error")
	}
	_ = y.Send(a, Message{Data: message(50000, 1)})
	y.Shutdown(a)
	x.next(Received)
	x.Shutdown(x.next(PeerDone).Assoc)
	if ev := x.next(Down); ev.Reason != PeerShutdown {
		t.Errorf("Got %v, want PeerShutdown", ev)
	}
	if ev := y.next(Down); ev.Reason != LocalClose {
		t.Errorf("Got %v, want LocalClose", ev)
	}
}

func TestTCPPeers(t *testing.T) {
	tests := []struct {
		name   string
		lim    Limits
		peer   func(t *testing.T, c *net.TCPConn)
		data   []byte
		reason Reason
	}{
		{"a byte at a time", Limits{}, func(t *testing.T, c *net.TCPConn) {
			_ = c.SetNoDelay(true)
			for _, b := range []byte{5, 0, 0, 6, 'h', 'i', 0, 0} {
				if _, err := c.Write([]byte{b}); err != nil {
					t.Error(err)
				}
			}
			c.Close()
		}, []byte{5, 0, 0, 6, 'h', 'i'}, PeerShutdown},
		{"length below 4", Limits{}, func(t *testing.T, c *net.TCPConn) {
			_, _ = c.Write([]byte{5, 0, 0, 3})
		}, nil, Overrun},
		{"too long", Limits{MessageSize: 1000}, func(t *testing.T, c *net.TCPConn) {
			_, _ = c.Write([]byte{5, 0, 4, 0})
		}, nil, Overrun},
		{"half a message", Limits{HandshakeTime: 50 * time.Millisecond}, func(t *testing.T, c *net.TCPConn) {
			_, _ = c.Write([]byte{5, 0, 0, 8, 1})
		}, nil, Overrun},
		{"no message at all", Limits{HandshakeTime: 50 * time.Millisecond}, func(*testing.T, *net.TCPConn) {}, nil, Overrun},
		{"idle", Limits{IdleTCP: 50 * time.Millisecond}, func(t *testing.T, c *net.TCPConn) {
			_, _ = c.Write([]byte{5, 0, 0, 4})
		}, []byte{5, 0, 0, 4}, Lost},
		{"end within a message", Limits{}, func(t *testing.T, c *net.TCPConn) {
			_, _ = c.Write([]byte{5, 0, 0, 8, 1})
			c.Close()
		}, nil, Lost},
		{"reset", Limits{}, func(t *testing.T, c *net.TCPConn) {
			_ = c.SetLinger(0)
			c.Close()
		}, nil, PeerAbort},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, x, addr := tcpSite(t, tt.lim)
			tt.peer(t, dialTCP(t, addr))
			x.next(Up)
			if tt.data != nil {
				if got := x.next(Received).Message.Data; !cmp.Equal(got, tt.data) {
					t.Errorf("Got message %x, want %x", got, tt.data)
				}
			}
			if tt.reason == PeerShutdown {
				x.Shutdown(x.next(PeerDone).Assoc)
			}
			if ev := x.next(Down); ev.Reason != tt.reason {
				t.Errorf("Got %v, want reason %d", ev, tt.reason)
			}
		})
	}
}

// TestTCPFlood has more silent connections than may be half open.
func TestTCPFlood(t *testing.T) {
	s, x, addr := tcpSite(t, Limits{HalfOpen: 4})
	for range 4 {
		dialTCP(t, addr)
		x.next(Up)
	}
	// The reset may come before the dial is over.
	c, err := net.Dial("tcp", addr)
	if err == nil {
		_, err = c.Read(make([]byte, 1))
		c.Close()
	}
	if err == nil {
		t.Error("The connection over the limit is served, want it closed")
	}
	if n := s.Stats().Refused; n != 1 {
		t.Errorf("Got %d refused, want 1", n)
	}
	x.none()
}

func TestTCPQueueFull(t *testing.T) {
	_, x, addr := tcpSite(t, Limits{SendQueueBytes: 100000, SendQueueMessages: 10})
	c := dialTCP(t, addr)
	_ = c.SetReadBuffer(4096)
	_, _ = c.Write([]byte{5, 0, 0, 4})
	a := x.next(Up).Assoc
	x.next(Received)
	for n := 0; ; n++ {
		err := x.Send(a, Message{Data: message(50000, 1)})
		if errors.Is(err, ErrQueueFull) {
			break
		}
		if err != nil || n > 10000 {
			t.Fatalf("Send %d: got %v, want ErrQueueFull in the end", n, err)
		}
	}
	x.Abort(a)
	if ev := x.next(Down); ev.Reason != LocalClose {
		t.Errorf("Got %v, want LocalClose", ev)
	}
}

func TestTCPConnectFails(t *testing.T) {
	_, x, _ := tcpSite(t, Limits{})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	x.Connect(Dest{Kind: TCP, Addrs: []netip.AddrPort{ln.Addr().(*net.TCPAddr).AddrPort()}})
	if ev := x.next(Down); ev.Reason != ConnectFailed || ev.Err == nil {
		t.Errorf("Got %v, want ConnectFailed and why", ev)
	}
}

// TestTCPHalfClose has a peer that ends its side of the connection when it has
// sent 50 messages; it gets what they are answered with.
func TestTCPHalfClose(t *testing.T) {
	_, x, addr := tcpSite(t, Limits{})
	c := dialTCP(t, addr)
	const n = 50
	for range n {
		if _, err := c.Write([]byte{5, 0, 0, 4}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	a := x.next(Up).Assoc
	for range n {
		x.next(Received)
	}
	x.next(PeerDone)
	for range n {
		if err := x.Send(a, Message{Data: message(1000, 1)}); err != nil {
			t.Fatal(err)
		}
	}
	x.Shutdown(a)
	b, err := io.ReadAll(c)
	if err != nil || len(b) != n*1000 {
		t.Errorf("Got %d bytes, %v, want %d", len(b), err, n*1000)
	}
	if ev := x.next(Down); ev.Reason != PeerShutdown {
		t.Errorf("Got %v, want PeerShutdown", ev)
	}
}

// TestTCPHalfCloseForgotten: an association that nobody shuts down ends.
func TestTCPHalfCloseForgotten(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	_, x, addr := tcpSite(t, Limits{})
	_ = dialTCP(t, addr).CloseWrite()
	x.next(Up)
	x.next(PeerDone)
	if ev := x.next(Down); ev.Reason != PeerShutdown {
		t.Errorf("Got %v, want PeerShutdown", ev)
	}
}
