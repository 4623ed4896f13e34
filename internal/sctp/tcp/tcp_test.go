package tcp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/localaddr"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
	"github.com/rserpool/coredns-rserpool/internal/sctp/secure"
	"github.com/rserpool/coredns-rserpool/test/here"
)

// tcpSite is a site that listens for TCP, and its address.
func tcpSite(t *testing.T, lim sctp.Limits) (*endpoint, *sctptest.Site, string) {
	t.Helper()
	cfg := sctptest.On("127.0.0.1:0")
	cfg.TCP = true
	e, x := tcpEnd(t, lim, cfg)
	return e, x, x.LocalAddrs()[0].String()
}

// tcpEnd makes an endpoint.
func tcpEnd(t *testing.T, lim sctp.Limits, cfg sctp.ListenConfig) (*endpoint, *sctptest.Site) {
	t.Helper()
	return tcpEndTLS(t, lim, cfg, nil)
}

// tcpEndTLS makes an endpoint, with TLS if that is configured.
func tcpEndTLS(t *testing.T, lim sctp.Limits, cfg sctp.ListenConfig, sec *secure.Config) (*endpoint, *sctptest.Site) {
	t.Helper()
	x := sctptest.NewSite(t)
	e, err := Listen(cfg, sctptest.Framing, lim.WithDefaults(), new(sctp.IDs), new(sctp.Counters), localaddr.New(t.Logf), sec, x.Handle)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	x.Endpoint = e
	return e, x
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

func TestTCPMessages(t *testing.T) {
	_, x, _ := tcpSite(t, sctp.Limits{})
	_, y := tcpEnd(t, sctp.Limits{}, sctptest.On("127.0.0.1:0"))
	a := y.Connect(sctp.Dest{Addrs: x.LocalAddrs(), Kind: sctp.TCP})
	if up := y.Next(sctp.Up); up.Assoc != a || up.Kind != sctp.TCP || up.Peer[0] != x.LocalAddrs()[0] {
		t.Errorf("Got %v, want Up of TCP with %v", up, x.LocalAddrs())
	}
	b := x.Next(sctp.Up).Assoc
	for _, n := range []int{4, 5, 6, 7, 8, 60001, 65535} {
		want := sctp.Message{Data: sctptest.Message(n, 7), PPID: sctptest.Framing.PPID}
		if err := y.Send(a, want); err != nil {
			t.Fatalf("Send of %d bytes: %v", n, err)
		}
		if got := x.Next(sctp.Received); !sctptest.Same(got.Message, want) {
			t.Fatalf("Got message of %d bytes, want %d", len(got.Message.Data), n)
		}
		if err := x.Send(b, want); err != nil {
			t.Fatalf("Send of %d bytes back: %v", n, err)
		}
		if got := y.Next(sctp.Received); !sctptest.Same(got.Message, want) {
			t.Fatalf("Got message of %d bytes back, want %d", len(got.Message.Data), n)
		}
	}
	if err := y.Send(a, sctp.Message{Data: []byte{1, 0, 0, 99, 5}}); err == nil {
		t.Error("Send of a message whose header lies: got no error")
	}
	_ = y.Send(a, sctp.Message{Data: sctptest.Message(50000, 1)})
	y.Shutdown(a)
	x.Next(sctp.Received)
	x.Shutdown(x.Next(sctp.PeerDone).Assoc)
	if ev := x.Next(sctp.Down); ev.Reason != sctp.PeerShutdown {
		t.Errorf("Got %v, want PeerShutdown", ev)
	}
	if ev := y.Next(sctp.Down); ev.Reason != sctp.LocalClose {
		t.Errorf("Got %v, want LocalClose", ev)
	}
}

func TestTCPPeers(t *testing.T) {
	tests := []struct {
		name   string
		lim    sctp.Limits
		peer   func(t *testing.T, c *net.TCPConn)
		data   []byte
		reason sctp.Reason
	}{
		{"a byte at a time", sctp.Limits{}, func(t *testing.T, c *net.TCPConn) {
			_ = c.SetNoDelay(true)
			for _, b := range []byte{5, 0, 0, 6, 'h', 'i', 0, 0} {
				if _, err := c.Write([]byte{b}); err != nil {
					t.Error(err)
				}
			}
			c.Close()
		}, []byte{5, 0, 0, 6, 'h', 'i'}, sctp.PeerShutdown},
		{"length below 4", sctp.Limits{}, func(t *testing.T, c *net.TCPConn) {
			_, _ = c.Write([]byte{5, 0, 0, 3})
		}, nil, sctp.Overrun},
		{"too long", sctp.Limits{MessageSize: 1000}, func(t *testing.T, c *net.TCPConn) {
			_, _ = c.Write([]byte{5, 0, 4, 0})
		}, nil, sctp.Overrun},
		{"half a message", sctp.Limits{HandshakeTime: 500 * time.Millisecond}, func(t *testing.T, c *net.TCPConn) {
			_, _ = c.Write([]byte{5, 0, 0, 8, 1})
		}, nil, sctp.Overrun},
		{"no message at all", sctp.Limits{HandshakeTime: 500 * time.Millisecond}, func(*testing.T, *net.TCPConn) {}, nil, sctp.Overrun},
		{"idle", sctp.Limits{IdleTCP: 500 * time.Millisecond}, func(t *testing.T, c *net.TCPConn) {
			_, _ = c.Write([]byte{5, 0, 0, 4})
		}, []byte{5, 0, 0, 4}, sctp.Lost},
		{"end within a message", sctp.Limits{}, func(t *testing.T, c *net.TCPConn) {
			_, _ = c.Write([]byte{5, 0, 0, 8, 1})
			c.Close()
		}, nil, sctp.Lost},
		{"reset", sctp.Limits{}, func(t *testing.T, c *net.TCPConn) {
			_ = c.SetLinger(0)
			c.Close()
		}, nil, sctp.PeerAbort},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, x, addr := tcpSite(t, tt.lim)
			tt.peer(t, dialTCP(t, addr))
			x.Next(sctp.Up)
			if tt.data != nil {
				if got := x.Next(sctp.Received).Message.Data; !cmp.Equal(got, tt.data) {
					t.Errorf("Got message %x, want %x", got, tt.data)
				}
			}
			if tt.reason == sctp.PeerShutdown {
				x.Shutdown(x.Next(sctp.PeerDone).Assoc)
			}
			if ev := x.Next(sctp.Down); ev.Reason != tt.reason {
				t.Errorf("Got %v, want reason %d", ev, tt.reason)
			}
		})
	}
}

// TestTCPPortInUse: where another program has the port of one family, the endpoint does not listen
// on the other one only.
func TestTCPPortInUse(t *testing.T) {
	here.IPv6(t)
	for network, addr := range map[string]string{"tcp4": "127.0.0.1:0", "tcp6": "[::1]:0"} {
		ln, err := net.Listen(network, addr)
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		cfg := sctptest.On(fmt.Sprintf("[::]:%d", ln.Addr().(*net.TCPAddr).Port))
		cfg.TCP = true
		e, err := Listen(cfg, sctptest.Framing, sctp.Limits{}.WithDefaults(), new(sctp.IDs), new(sctp.Counters), localaddr.New(t.Logf), nil, func(sctp.Event) {})
		if !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("the port of %s is in use: got %v, want %v", network, err, syscall.EADDRINUSE)
		}
		if err == nil {
			e.Close()
		}
	}
}

// TestTCPFlood has one host open more silent connections than may be half open. They are refused.
// Connections of other hosts get room.
func TestTCPFlood(t *testing.T) {
	s, x, addr := tcpSite(t, sctp.Limits{HalfOpen: 4})
	var flood []sctp.AssocID
	for range 4 {
		dialTCP(t, addr)
		flood = append(flood, x.Next(sctp.Up).Assoc)
	}
	from := func(ip string) (*net.TCPConn, error) {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
		c, err := d.Dial("tcp", addr)
		if err != nil {
			return nil, err
		}
		t.Cleanup(func() { c.Close() })
		return c.(*net.TCPConn), nil
	}
	refused := func(ip string) {
		t.Helper()
		c, err := from(ip)
		if err == nil { // the reset may come before the dial is over
			_, err = c.Read(make([]byte, 1))
		}
		if err == nil {
			t.Errorf("The connection of %s is served, want it refused", ip)
		}
	}
	refused("127.0.0.1")
	for i := range 3 {
		if _, err := from(fmt.Sprint("127.0.0.", 2+i)); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			ev := x.Wait("Up or Down", func(sctp.Event) bool { return true })
			if ev.Type == sctp.Down && (ev.Assoc != flood[i] || ev.Reason != sctp.Overrun || !errors.Is(ev.Err, errCrowded)) {
				t.Errorf("Got %v, want Down of %d", ev, flood[i])
			}
		}
	}
	refused("127.0.0.9") // each host has one
	if n := s.n.Stats().Refused; n != 5 {
		t.Errorf("Got %d refused, want 5", n)
	}
	s.Mu.Lock()
	defer s.Mu.Unlock()
	if n, hosts := len(s.half), len(s.byHost); n != 4 || hosts != 4 {
		t.Errorf("Got %d connections of %d hosts half open, want 4 of 4", n, hosts)
	}
}

func TestTCPQueueFull(t *testing.T) {
	_, x, addr := tcpSite(t, sctp.Limits{SendQueueBytes: 100000, SendQueueMessages: 10})
	c := dialTCP(t, addr)
	_ = c.SetReadBuffer(4096)
	_, _ = c.Write([]byte{5, 0, 0, 4})
	a := x.Next(sctp.Up).Assoc
	x.Next(sctp.Received)
	for n := 0; ; n++ {
		err := x.Send(a, sctp.Message{Data: sctptest.Message(50000, 1)})
		if errors.Is(err, sctp.ErrQueueFull) {
			break
		}
		if err != nil || n > 10000 {
			t.Fatalf("Send %d: got %v, want ErrQueueFull in the end", n, err)
		}
	}
	if !x.Behind(a) {
		t.Error("Got no queue behind which a message waits, want a full one")
	}
	x.Abort(a)
	if ev := x.Next(sctp.Down); ev.Reason != sctp.LocalClose {
		t.Errorf("Got %v, want LocalClose", ev)
	}
	if x.Behind(a) {
		t.Error("Got a queue of an association that has ended")
	}
}

// TestTCPLocal: an endpoint with named addresses connects from one of them, with any port.
func TestTCPLocal(t *testing.T) {
	_, x, _ := tcpSite(t, sctp.Limits{})
	cfg := sctptest.On("127.0.0.2:3863")
	cfg.Addrs = append(cfg.Addrs, netip.MustParseAddrPort("127.0.0.130:3863"))
	_, y := tcpEnd(t, sctp.Limits{}, cfg)
	for range 2 {
		y.Connect(sctp.Dest{Addrs: x.LocalAddrs(), Kind: sctp.TCP})
		y.Next(sctp.Up)
		if ev := x.Next(sctp.Up); ev.Peer[0].Addr() != cfg.Addrs[0].Addr() {
			t.Errorf("Got a connection from %v, want it from %v", ev.Peer, cfg.Addrs)
		}
	}
	y.Connect(sctp.Dest{Addrs: []netip.AddrPort{netip.MustParseAddrPort("[::1]:3863")}, Kind: sctp.TCP})
	if ev := y.Next(sctp.Down); ev.Err == nil || !strings.Contains(ev.Err.Error(), "[::1]:3863 cannot be reached from [127.0.0.2 127.0.0.130]") {
		t.Errorf("Got %v, want that there is no local address of the family", ev.Err)
	}
}

func TestTCPConnectFails(t *testing.T) {
	_, x, _ := tcpSite(t, sctp.Limits{})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	x.Connect(sctp.Dest{Kind: sctp.TCP, Addrs: []netip.AddrPort{ln.Addr().(*net.TCPAddr).AddrPort()}})
	if ev := x.Next(sctp.Down); ev.Reason != sctp.ConnectFailed || !errors.Is(ev.Err, sctp.ErrRefused) {
		t.Errorf("Got %v, want ConnectFailed: %v", ev, sctp.ErrRefused)
	}
	// Another address, to which this machine has no route.
	x.Connect(sctp.Dest{Kind: sctp.TCP, Addrs: []netip.AddrPort{ln.Addr().(*net.TCPAddr).AddrPort(), netip.MustParseAddrPort("255.255.255.255:1")}})
	if ev := x.Next(sctp.Down); ev.Reason != sctp.ConnectFailed || ev.Err == nil || errors.Is(ev.Err, sctp.ErrRefused) {
		t.Errorf("Got %v, want ConnectFailed, and no refusal", ev)
	}
}

// TestTCPHalfClose has a peer that ends its side of the connection when it has
// sent 50 messages; it gets what they are answered with.
func TestTCPHalfClose(t *testing.T) {
	_, x, addr := tcpSite(t, sctp.Limits{})
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
	a := x.Next(sctp.Up).Assoc
	for range n {
		x.Next(sctp.Received)
	}
	x.Next(sctp.PeerDone)
	for range n {
		if err := x.Send(a, sctp.Message{Data: sctptest.Message(1000, 1)}); err != nil {
			t.Fatal(err)
		}
	}
	x.Shutdown(a)
	b, err := io.ReadAll(c)
	if err != nil || len(b) != n*1000 {
		t.Errorf("Got %d bytes, %v, want %d", len(b), err, n*1000)
	}
	if ev := x.Next(sctp.Down); ev.Reason != sctp.PeerShutdown {
		t.Errorf("Got %v, want PeerShutdown", ev)
	}
}

// TestTCPHalfCloseForgotten: an association that nobody shuts down ends.
func TestTCPHalfCloseForgotten(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	_, x, addr := tcpSite(t, sctp.Limits{})
	_ = dialTCP(t, addr).CloseWrite()
	x.Next(sctp.Up)
	x.Next(sctp.PeerDone)
	if ev := x.Next(sctp.Down); ev.Reason != sctp.PeerShutdown {
		t.Errorf("Got %v, want PeerShutdown", ev)
	}
}

// TestTCPTakesMemoryLate has peers announce large messages that do not come.
func TestTCPTakesMemoryLate(t *testing.T) {
	const n, most = 50, 20 << 10
	_, x, addr := tcpSite(t, sctp.Limits{})
	conns := make([]interface{ Close() error }, 0, n)
	heap := func() int {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	before := heap()
	for range n {
		c := dialTCP(t, addr)
		conns = append(conns, c)
		_, _ = c.Write([]byte{5, 0, 0, 4, 1, 0, 0xff, 0xf0, 1, 2, 3})
		x.Next(sctp.Up)
		x.Next(sctp.Received)
	}
	if got := (heap() - before) / n; got > most {
		t.Errorf("Got %d bytes for a message that has not come, want at most %d", got, most)
	}
	for _, c := range conns {
		_ = c.Close()
	}
}

// TestTCPLargeMessages: they arrive as they were, in whatever pieces.
func TestTCPLargeMessages(t *testing.T) {
	_, x, addr := tcpSite(t, sctp.Limits{})
	c := dialTCP(t, addr)
	for _, n := range []int{4, readStep - 4, readStep, readStep + 1, 2 * readStep, 3*readStep + 2, 65535} {
		b := make([]byte, sctptest.Framing.Padded(n))
		for i := range b[:n] {
			b[i] = byte(i * 7)
		}
		binary.BigEndian.PutUint16(b[2:], uint16(n))
		for i := 0; i < len(b); i += 1001 {
			if _, err := c.Write(b[i:min(len(b), i+1001)]); err != nil {
				t.Fatal(err)
			}
		}
		if n == 4 {
			x.Next(sctp.Up)
		}
		if got := x.Next(sctp.Received).Message.Data; string(got) != string(b[:n]) {
			t.Errorf("Got a message of %d bytes that is not the one of %d bytes that was sent", len(got), n)
		}
	}
	_ = c.Close()
	x.Shutdown(x.Next(sctp.PeerDone).Assoc)
	if ev := x.Next(sctp.Down); ev.Reason != sctp.PeerShutdown || ev.Err != nil {
		t.Errorf("Got %v, want PeerShutdown", ev)
	}
}

// TestTCPCutLogged has a peer send an impossible length.
func TestTCPCutLogged(t *testing.T) {
	s, x, addr := tcpSite(t, sctp.Limits{})
	lines := sctptest.KeepLog(s.n)
	c := dialTCP(t, addr)
	x.Next(sctp.Up)
	_, _ = c.Write([]byte{1, 0, 0, 2})
	x.Next(sctp.Down)
	if got, want := lines(), fmt.Sprintf("sctp: aborted the association (tcp) with %v: ", c.LocalAddr()); !strings.HasPrefix(got, want) {
		t.Errorf("Got %q, want %q first", got, want)
	}
}

// fullListener has no descriptor for the first connections.
type fullListener struct {
	net.Listener
	left int
}

func (l *fullListener) Accept() (net.Conn, error) {
	if l.left--; l.left >= 0 {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	}
	return nil, net.ErrClosed
}

// TestTCPNoDescriptor: connections that cannot be accepted are counted, and the operator is told
// what to do.
func TestTCPNoDescriptor(t *testing.T) {
	e, _ := tcpEnd(t, sctp.Limits{}, sctptest.On("127.0.0.1:0"))
	lines := sctptest.KeepLog(e.n)
	e.wg.Add(1)
	e.accept(&fullListener{left: 3})
	if n := e.n.Stats().Refused; n != 3 {
		t.Errorf("Got %d refused, want 3", n)
	}
	want := "sctp: cannot accept an association (tcp): no file descriptor is left: accept tcp: accept4: too many open files; raise the limit of open files (ulimit -n)\n"
	if got := lines(); got != want {
		t.Errorf("Got %q, want %q", got, want)
	}
}

// TestTCPPausedEnd: the end of a paused association is reported, behind the messages that came
// before it.
func TestTCPPausedEnd(t *testing.T) {
	const more = 3
	for _, tt := range []struct {
		name string
		end  func(x *sctptest.Site, a sctp.AssocID, c *net.TCPConn)
		want sctp.Reason
	}{
		{"the peer sends no more", func(_ *sctptest.Site, _ sctp.AssocID, c *net.TCPConn) { _ = c.CloseWrite() }, sctp.PeerShutdown},
		{"the peer resets", func(_ *sctptest.Site, _ sctp.AssocID, c *net.TCPConn) {
			_ = c.SetLinger(0)
			_ = c.Close()
		}, sctp.PeerAbort},
		{"the peer does not read", func(x *sctptest.Site, a sctp.AssocID, _ *net.TCPConn) {
			for x.Send(a, sctp.Message{Data: sctptest.Message(50000, 1)}) == nil {
			}
		}, sctp.Lost},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, x, addr := tcpSite(t, sctp.Limits{IdleTCP: 500 * time.Millisecond, SendQueueBytes: 8 << 20})
			c := dialTCP(t, addr)
			_, _ = c.Write(sctptest.Message(8, 1))
			a := x.Next(sctp.Up).Assoc
			x.Next(sctp.Received)
			x.Pause(a)
			for range more {
				_, _ = c.Write(sctptest.Message(8, 1))
			}
			tt.end(x, a, c)
			got := 0
			ev := x.Wait("PeerDone or Down", func(ev sctp.Event) bool {
				if ev.Type == sctp.Received {
					got++
				}
				return ev.Type == sctp.PeerDone || ev.Type == sctp.Down
			})
			if ev.Type == sctp.PeerDone {
				if got != more {
					t.Errorf("Got %d messages before the end, want %d", got, more)
				}
				x.Shutdown(a)
				ev = x.Next(sctp.Down)
			}
			if ev.Reason != tt.want {
				t.Errorf("Got %v, want reason %d", ev, tt.want)
			}
		})
	}
}
