// Package tcp carries messages over TCP connections, which count as associations for the
// requests of pool users (RFC 5352, Section 3.3). The caller says by a sctp.Framing where
// messages end.
package tcp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/localaddr"
	"github.com/rserpool/coredns-rserpool/internal/sctp/secure"
)

// endpoint is an endpoint whose associations are TCP connections. It can connect, and
// accepts connections if it listens.
type endpoint struct {
	frame  sctp.Framing
	lim    sctp.Limits
	ids    *sctp.IDs
	n      *sctp.Counters
	m      *localaddr.View
	h      sctp.Handler
	watch  *secure.Watch // nil without TLS
	lns    []net.Listener
	addrs  []netip.Addr
	port   uint16
	wg     sync.WaitGroup
	ctx    context.Context // done when the endpoint is closed
	cancel context.CancelFunc

	sctp.Table[*assoc]
	halfOpen int // guarded by Mu: accepted, and no whole message has arrived
}

var _ sctp.Endpoint = (*endpoint)(nil)

// Listen makes an endpoint. It listens if cfg.TCP is set. With sec, all connections have TLS.
func Listen(cfg sctp.ListenConfig, frame sctp.Framing, lim sctp.Limits, ids *sctp.IDs, n *sctp.Counters, m *localaddr.View, sec *secure.Config, h sctp.Handler) (*endpoint, error) {
	addrs, port, both, err := cfg.BindAddrs()
	if err != nil {
		return nil, err
	}
	lim.Associations = min(lim.Associations, sctp.Descriptors())
	e := &endpoint{frame: frame, lim: lim, ids: ids, n: n, m: m, h: h, addrs: addrs, port: port}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	if sec != nil {
		e.watch = secure.NewWatch(sec)
	}
	if !cfg.TCP {
		return e, nil
	}
	if err := e.bind(both); err != nil {
		_ = e.Close()
		return nil, err
	}
	for _, ln := range e.lns {
		e.wg.Add(1)
		go e.accept(ln)
	}
	return e, nil
}

// bind listens on all addresses, on one port. One of :: and 0.0.0.0 may fail.
func (e *endpoint) bind(both bool) error {
	var bound []netip.Addr
	var failed error
	for _, a := range e.addrs {
		network := "tcp6"
		if a.Is4() {
			network = "tcp4"
		}
		ln, err := net.Listen(network, netip.AddrPortFrom(a, e.port).String())
		if err != nil && both && a.IsUnspecified() {
			failed = err
			continue
		}
		if err != nil {
			return err
		}
		e.port = ln.Addr().(*net.TCPAddr).AddrPort().Port()
		e.lns = append(e.lns, ln)
		bound = append(bound, a)
	}
	if len(bound) == 0 {
		return failed
	}
	e.addrs = bound
	return nil
}

// accept accepts connections until the listener is closed.
func (e *endpoint) accept(ln net.Listener) {
	defer e.wg.Done()
	for {
		c, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			// Probably no descriptor is left, which passes.
			select {
			case <-time.After(100 * time.Millisecond):
				continue
			case <-e.ctx.Done():
				return
			}
		}
		if err := e.admit(c.(*net.TCPConn)); err != nil {
			e.n.Refuse(sctp.TCP, c.RemoteAddr().(*net.TCPAddr).AddrPort(), err)
			_ = c.(*net.TCPConn).SetLinger(0)
			_ = c.Close()
		}
	}
}

// admit makes an association of an accepted connection, unless a limit is reached.
func (e *endpoint) admit(c *net.TCPConn) error {
	e.Mu.Lock()
	defer e.Mu.Unlock()
	switch {
	case e.Closed:
		return sctp.ErrClosed
	case len(e.All) >= e.lim.Associations:
		return e.lim.ErrFull()
	case e.halfOpen >= e.lim.HalfOpen:
		return fmt.Errorf("%d TCP connections have not sent a message yet, which is the limit", e.lim.HalfOpen)
	}
	e.halfOpen++
	a := e.newAssoc()
	a.conn, a.accepted, a.incoming = c, true, true
	e.wg.Add(1)
	go a.run(sctp.Dest{})
	return nil
}

// newAssoc makes an association and adds it to the table. e.Mu is held.
func (e *endpoint) newAssoc() *assoc {
	a := &assoc{id: e.ids.Next(), e: e, wake: make(chan struct{}, 1), written: make(chan struct{}), queue: sctp.SendQueue{Total: &e.n.Queued}}
	a.ctx, a.cancel = context.WithCancel(e.ctx)
	e.Add(a.id, a)
	return a
}

// Connect implements Endpoint.
func (e *endpoint) Connect(to sctp.Dest) sctp.AssocID {
	e.Mu.Lock()
	defer e.Mu.Unlock()
	if e.Closed {
		return 0
	}
	a := e.newAssoc()
	e.wg.Add(1)
	go a.run(to)
	return a.id
}

// Recheck is for secure.Recheck.
func (e *endpoint) Recheck() {
	if e.watch != nil {
		e.watch.Recheck()
	}
}

// LocalAddrs implements Endpoint. It returns none if the endpoint does not listen.
func (e *endpoint) LocalAddrs() []netip.AddrPort {
	if len(e.lns) == 0 {
		return nil
	}
	var out []netip.AddrPort
	for _, a := range e.m.Expand(e.addrs) {
		out = append(out, netip.AddrPortFrom(a, e.port))
	}
	return out
}

// Close implements Endpoint.
func (e *endpoint) Close() error {
	left, _ := e.CloseTable()
	var errs []error
	for _, ln := range e.lns {
		if err := ln.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	for _, a := range left {
		a.Abort()
	}
	e.cancel()
	e.wg.Wait()
	if e.watch != nil {
		e.watch.Close()
	}
	return errors.Join(errs...)
}

// dial connects to the first address that answers.
func (e *endpoint) dial(ctx context.Context, to sctp.Dest) (*net.TCPConn, error) {
	ctx, cancel := context.WithTimeout(ctx, e.lim.HandshakeTime)
	defer cancel()
	errs := []error{}
	for i, ap := range to.Addrs {
		left, _ := ctx.Deadline()
		d := net.Dialer{Timeout: time.Until(left) / time.Duration(len(to.Addrs)-i)}
		c, err := d.DialContext(ctx, "tcp", netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()).String())
		if err == nil {
			return c.(*net.TCPConn), nil
		}
		if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOPROTOOPT) {
			err = fmt.Errorf("%w: %w", sctp.ErrRefused, err) // ICMP protocol unreachable
		}
		errs = append(errs, err)
	}
	if len(errs) == 0 {
		return nil, fmt.Errorf("no address to connect to")
	}
	return nil, sctp.JoinFailures(errs)
}
