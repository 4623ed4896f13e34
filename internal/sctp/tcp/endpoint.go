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
	"slices"
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
	half   []*assoc           // guarded by Mu: accepted, and no whole message has arrived; oldest first
	byHost map[netip.Addr]int // guarded by Mu: how many of half each host has
}

var _ sctp.Endpoint = (*endpoint)(nil)

// Listen makes an endpoint. It listens if cfg.TCP is set. With sec, all connections have TLS.
func Listen(cfg sctp.ListenConfig, frame sctp.Framing, lim sctp.Limits, ids *sctp.IDs, n *sctp.Counters, m *localaddr.View, sec *secure.Config, h sctp.Handler) (*endpoint, error) {
	addrs, port, both, err := cfg.BindAddrs()
	if err != nil {
		return nil, err
	}
	lim.Associations = min(lim.Associations, sctp.Descriptors())
	e := &endpoint{frame: frame, lim: lim, ids: ids, n: n, m: m, h: h, addrs: addrs, port: port, byHost: map[netip.Addr]int{}}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	if sec != nil {
		e.watch = secure.NewWatch(sec, cfg.Renew)
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

// bind listens on all addresses, on one port. If both is set, the machine may lack the family of ::
// or that of 0.0.0.0.
func (e *endpoint) bind(both bool) error {
	var bound []netip.Addr
	var failed error
	for _, a := range e.addrs {
		network := "tcp6"
		if a.Is4() {
			network = "tcp4"
		}
		ln, err := net.Listen(network, netip.AddrPortFrom(a, e.port).String())
		if both && a.IsUnspecified() && sctp.NoFamily(err) {
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

// acceptAgain is the time after which a connection is accepted that could not be: probably no
// descriptor was left, which passes.
const acceptAgain = 100 * time.Millisecond

// accept accepts connections until the listener is closed.
func (e *endpoint) accept(ln net.Listener) {
	defer e.wg.Done()
	for {
		c, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			e.n.NotAccepted(sctp.TCP, sctp.NoDescriptor(err))
			select {
			case <-time.After(acceptAgain):
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

// errCrowded is the error of a connection that makes room for another host's.
var errCrowded = errors.New("peer has not sent a message yet, and others wait")

// admit makes an association of an accepted connection, unless a limit is reached.
func (e *endpoint) admit(c *net.TCPConn) error {
	old, err := e.enter(c)
	if old != nil {
		old.stop(sctp.Overrun, errCrowded)
	}
	return err
}

// enter is admit. It returns a connection that is to end, because it has made room, or nil.
func (e *endpoint) enter(c *net.TCPConn) (old *assoc, err error) {
	e.Mu.Lock()
	defer e.Mu.Unlock()
	host := sctp.HostOf(c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr())
	switch {
	case e.Closed:
		return nil, sctp.ErrClosed
	case len(e.All) >= e.lim.Associations:
		return nil, e.lim.ErrFull()
	case len(e.half) >= e.lim.HalfOpen:
		if old = e.excess(host); old == nil {
			return nil, fmt.Errorf("%d TCP connections have not sent a message yet, which is the limit", e.lim.HalfOpen)
		}
		e.leaveHalf(old)
	}
	a := e.newAssoc()
	a.conn, a.host, a.accepted, a.incoming = c, host, true, true
	e.half = append(e.half, a)
	e.byHost[host]++
	e.wg.Add(1)
	go a.run(sctp.Dest{})
	return old, nil
}

// excess is the connection that makes room for one of a host: the oldest one of a host that has
// many. It is nil if there is none, or if the host itself has many: connections that end each
// other would all fail. e.Mu is held.
func (e *endpoint) excess(host netip.Addr) *assoc {
	many := max(2, len(e.half)/16)
	i := slices.IndexFunc(e.half, func(a *assoc) bool { return e.byHost[a.host] >= many })
	if i < 0 || e.byHost[host] >= many {
		return nil
	}
	return e.half[i]
}

// leaveHalf takes a connection out of half, if it is there. e.Mu is held.
func (e *endpoint) leaveHalf(a *assoc) {
	i := slices.Index(e.half, a)
	if i < 0 {
		return
	}
	e.half = slices.Delete(e.half, i, i+1)
	if e.byHost[a.host]--; e.byHost[a.host] == 0 {
		delete(e.byHost, a.host)
	}
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
	return sctp.Join(errs...)
}

// dial connects to the first address that answers.
func (e *endpoint) dial(ctx context.Context, to sctp.Dest) (*net.TCPConn, error) {
	ctx, cancel := context.WithTimeout(ctx, e.lim.HandshakeTime)
	defer cancel()
	errs := []error{}
	for i, ap := range to.Addrs {
		left, _ := ctx.Deadline()
		d := net.Dialer{Timeout: time.Until(left) / time.Duration(len(to.Addrs)-i)}
		c, err := e.dialOne(ctx, d, netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()))
		if err == nil {
			return c, nil
		}
		errs = append(errs, err)
	}
	if len(errs) == 0 {
		return nil, fmt.Errorf("no address to connect to")
	}
	return nil, sctp.JoinFailures(errs)
}

// dialOne connects to one address: from a bound address, with a port of its own, since one
// port could have only one connection with a peer.
func (e *endpoint) dialOne(ctx context.Context, d net.Dialer, to netip.AddrPort) (*net.TCPConn, error) {
	i := e.m.Choose(e.addrs, to.Addr())
	if i < 0 {
		return nil, fmt.Errorf("%v cannot be reached from %v", to, e.addrs)
	}
	if from := e.addrs[i]; !from.IsUnspecified() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
	}
	c, err := d.DialContext(ctx, "tcp", to.String())
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOPROTOOPT) {
		err = fmt.Errorf("%w: %w", sctp.ErrRefused, err) // ICMP protocol unreachable
	}
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}
