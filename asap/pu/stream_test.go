package pu

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
	"github.com/rserpool/coredns-rserpool/rserpool"
	"golang.org/x/net/nettest"
)

// tcpPool is a pool of TCP elements on the loopback, with a user of it.
type tcpPool struct {
	t     testing.TB
	r     *registrar
	u     *User
	elems []*tcpElement
}

// tcpElement answers each byte with its identifier, until it is killed.
type tcpElement struct {
	id rserpool.PEID
	ln net.Listener
	wg sync.WaitGroup

	mu    sync.Mutex
	conns []net.Conn
}

func tcpTransport(ap netip.AddrPort) rserpool.Transport {
	return rserpool.Transport{Type: rserpool.TCP, Port: ap.Port(), Addrs: []netip.Addr{ap.Addr()}}
}

func newTCPPool(t testing.TB, n int) *tcpPool {
	t.Helper()
	nw := sctptest.NewNetwork()
	p := &tcpPool{t: t, r: newRegistrar(t, nw, "10.0.0.1:3863", 0)}
	t.Cleanup(func() { _ = p.r.ep.Close() })
	for i := range n {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		e := &tcpElement{id: rserpool.PEID(i + 1), ln: ln}
		e.wg.Go(e.accept)
		t.Cleanup(func() { e.kill(false); e.wg.Wait() })
		p.elems = append(p.elems, e)
		p.r.list = append(p.r.list, rserpool.PoolElement{
			ID: e.id, Policy: rserpool.Policy{Type: rserpool.RoundRobin},
			UserTransport: tcpTransport(ln.Addr().(*net.TCPAddr).AddrPort()),
		})
	}
	var err error
	p.u, err = Open(Config{
		Registrars: []string{"10.0.0.1"},
		Local:      []netip.AddrPort{netip.MustParseAddrPort("10.0.0.21:0")}, listen: nw.Listen,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.u.Close() })
	return p
}

func (e *tcpElement) accept() {
	for {
		c, err := e.ln.Accept()
		if err != nil {
			return
		}
		e.mu.Lock()
		e.conns = append(e.conns, c)
		e.mu.Unlock()
		e.wg.Go(func() {
			var b [1]byte
			for {
				if _, err := c.Read(b[:]); err != nil {
					return
				}
				if _, err := c.Write([]byte{byte(e.id)}); err != nil {
					return
				}
			}
		})
	}
}

// kill ends an element, with reset as a host that has restarted does it.
func (e *tcpElement) kill(reset bool) {
	_ = e.ln.Close()
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range e.conns {
		if reset {
			_ = c.(*net.TCPConn).SetLinger(0)
		}
		_ = c.Close()
	}
	e.conns = nil
}

// served returns which element serves a stream.
func served(s net.Conn) (rserpool.PEID, error) {
	b := []byte{0}
	if _, err := s.Write(b); err != nil {
		return 0, err
	}
	_, err := s.Read(b)
	return rserpool.PEID(b[0]), err
}

func (p *tcpPool) dial() *Stream {
	p.t.Helper()
	s, err := p.u.DialStream(context.Background(), testPool)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = s.Close() })
	return s
}

func (p *tcpPool) wantReports(want ...rserpool.PEID) {
	p.t.Helper()
	// A later request is answered after the reports were read.
	if err := p.u.Populate(context.Background(), testPool); err != nil {
		p.t.Error(err)
	}
	p.r.mu.Lock()
	defer p.r.mu.Unlock()
	if !slices.Equal(p.r.reports, want) {
		p.t.Errorf("reports %v, want %v", p.r.reports, want)
	}
}

// TestStream: elements in turn, failover after a failure with a report, and after the end
// of a connection without.
func TestStream(t *testing.T) {
	p := newTCPPool(t, 3)
	a, b := p.dial(), p.dial()
	if a.Element().ID != 1 || b.Element().ID != 2 || a.RemoteAddr().String() != p.elems[0].ln.Addr().String() {
		t.Fatalf("elements %v and %v", a.Element().ID, b.Element().ID)
	}
	if id, err := served(a); id != 1 || err != nil {
		t.Errorf("element %v, %v", id, err)
	}
	p.elems[0].kill(true)
	_, err := served(a)
	for ; err == nil; _, err = served(a) {
	}
	if !errors.Is(err, ErrFailover) || !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		t.Errorf("got %v, want ErrFailover and the reason", err)
	}
	if _, err := served(a); !errors.Is(err, ErrFailover) {
		t.Errorf("got %v, want ErrFailover until Failover", err)
	}
	p.wantReports(1)
	if err := a.Failover(t.Context()); err != nil {
		t.Fatal(err)
	}
	if id, err := served(a); id != 3 || err != nil {
		t.Errorf("element %v, %v after the failover, want 3", id, err)
	}
	p.elems[2].kill(false)
	_, err = served(a)
	for ; err == nil; _, err = served(a) {
	}
	if errors.Is(err, io.EOF) {
		p.wantReports(1)
	}
	if err := a.Failover(t.Context()); err != nil {
		t.Fatal(err)
	}
	if id, err := served(a); id != 2 || err != nil {
		t.Errorf("element %v, %v after the failover, want 2, which accepts connections", id, err)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if err := a.Failover(t.Context()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v after Close", err)
	}
	if _, err := served(a); !errors.Is(err, net.ErrClosed) || errors.Is(err, ErrFailover) {
		t.Errorf("got %v after Close", err)
	}
	if err := a.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the second Close returns %v", err)
	}
}

// TestStreamOwnWord: the program says that an element does not serve. If there is no
// other, the stream connects to the same one.
func TestStreamOwnWord(t *testing.T) {
	p := newTCPPool(t, 2)
	s := p.dial()
	if err := s.SetReadDeadline(time.Now().Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, ErrFailover) {
		t.Errorf("got %v, want a deadline that is over", err)
	}
	if err := s.Failover(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.wantReports(1)
	if _, err := served(s); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v, want the deadline after the failover", err)
	}
	if err := s.SetDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(s, make([]byte, 1)); err != nil {
		t.Error(err)
	}
	if id, err := served(s); id != 2 || err != nil {
		t.Errorf("element %v, %v, want 2", id, err)
	}
	p.elems[0].kill(true)
	if err := s.Failover(t.Context()); err != nil {
		t.Fatal(err)
	}
	if id, err := served(s); id != 2 || err != nil {
		t.Errorf("element %v, %v, want 2 again", id, err)
	}
}

// TestStreamCloseWrite: writing after CloseWrite is no failure of the element.
func TestStreamCloseWrite(t *testing.T) {
	p := newTCPPool(t, 2)
	s := p.dial()
	if err := s.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := served(s); !errors.Is(err, io.ErrClosedPipe) || errors.Is(err, ErrFailover) {
		t.Errorf("got %v", err)
	}
	p.wantReports()
	if err := s.Failover(t.Context()); err != nil {
		t.Fatal(err)
	}
	if id, err := served(s); id != 2 || err != nil {
		t.Errorf("element %v, %v, want 2", id, err)
	}
}

// TestStreamNobody: the error has the reason for each element.
func TestStreamNobody(t *testing.T) {
	p := newTCPPool(t, 3)
	s := p.dial()
	for _, e := range p.elems {
		e.kill(true)
	}
	err := s.Failover(t.Context())
	var failure *FailoverError
	if !errors.As(err, &failure) || len(failure.Attempts) != 3 || !errors.Is(err, syscall.ECONNREFUSED) {
		t.Fatalf("got %v, want three attempts", err)
	}
	if _, err := served(s); !errors.Is(err, ErrFailover) {
		t.Errorf("got %v, want ErrFailover", err)
	}
	if err := s.SetDeadline(time.Time{}); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	p.r.mu.Lock()
	p.r.list[0].UserTransport.Type = rserpool.SCTP
	p.r.list = p.r.list[:1]
	p.r.mu.Unlock()
	p.u.Purge(testPool)
	if _, err := p.u.DialStream(t.Context(), testPool); !errors.As(err, &failure) || failure.Selection == nil {
		t.Errorf("got %v, want that the pool has no TCP", err)
	}
	if _, err := p.u.DialStream(t.Context(), "other"); !errors.Is(err, ErrUnknownPool) {
		t.Errorf("got %v, want ErrUnknownPool", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.u.DialStream(ctx, testPool); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's error", err)
	}
}

// TestStreamCloseInFailover: Close ends a Failover.
func TestStreamCloseInFailover(t *testing.T) {
	p := newTCPPool(t, 1)
	dialing := make(chan struct{})
	var n int
	p.u.runner.cfg.dialTCP = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if n++; n == 1 {
			return new(net.Dialer).DialContext(ctx, network, addr)
		}
		close(dialing)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	s := p.dial()
	end := make(chan error)
	go func() { end <- s.Failover(context.Background()) }()
	<-dialing
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := <-end; err == nil {
		t.Error("Failover succeeds after Close")
	}
	p.wantReports(1) // its own word, but not that of the dial
}

// TestStreamConn: a Stream is a net.Conn.
func TestStreamConn(t *testing.T) {
	p := newTCPPool(t, 1)
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, nil, nil, err
		}
		defer ln.Close()
		p.r.mu.Lock()
		p.r.list[0].UserTransport = tcpTransport(ln.Addr().(*net.TCPAddr).AddrPort())
		p.r.mu.Unlock()
		p.u.Purge(testPool)
		s, err := p.u.DialStream(context.Background(), testPool)
		if err != nil {
			return nil, nil, nil, err
		}
		c, err := ln.Accept()
		return s, c, func() { _ = s.Close(); _ = c.Close() }, err
	})
}

// TestStreamSilent: an element that does not answer costs Timers.Connect, and is reported;
// one without an address of the network is neither tried nor reported.
func TestStreamSilent(t *testing.T) {
	p := newTCPPool(t, 3)
	silent := netip.MustParseAddr("192.0.2.1")
	p.r.list[0].UserTransport.Addrs = []netip.Addr{silent}
	p.r.list[1].UserTransport.Addrs = []netip.Addr{netip.MustParseAddr("2001:db8::1")}
	p.u.runner.cfg.Timers.Connect = 200 * time.Millisecond
	p.u.runner.cfg.dialTCP = func(ctx context.Context, network, addr string) (net.Conn, error) {
		switch netip.MustParseAddrPort(addr).Addr() {
		case silent:
			<-ctx.Done()
			return nil, ctx.Err()
		case p.r.list[2].UserTransport.Addrs[0]:
			return new(net.Dialer).DialContext(ctx, network, addr)
		}
		return nil, syscall.ECONNREFUSED
	}
	start := time.Now()
	c, err := p.u.DialContext(t.Context(), "tcp4", "web.pool:80")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if id := c.(*Stream).Element().ID; id != 3 || time.Since(start) < 200*time.Millisecond {
		t.Errorf("element %v serves after %v, want 3 after 200 ms", id, time.Since(start))
	}
	p.wantReports(1)
	_, err = p.u.DialContext(t.Context(), "tcp6", "web.pool:80")
	var failure *FailoverError
	if !errors.As(err, &failure) || len(failure.Attempts) != 1 || failure.Attempts[0].Element.ID != 2 {
		t.Errorf("got %v, want one attempt", err)
	}
	p.wantReports(1, 2)
}

// TestStreamOwnFault: an element is not reported because this machine has no network.
func TestStreamOwnFault(t *testing.T) {
	p := newTCPPool(t, 2)
	p.u.runner.cfg.dialTCP = func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ENETUNREACH)}
	}
	var failure *FailoverError
	if _, err := p.u.DialStream(t.Context(), testPool); !errors.As(err, &failure) || len(failure.Attempts) != 2 {
		t.Errorf("got %v, want two attempts", err)
	}
	p.wantReports()
}
