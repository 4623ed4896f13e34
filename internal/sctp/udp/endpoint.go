package udp

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/wire"
)

// endpoint is an SCTP port of user-space SCTP.
type endpoint struct {
	m     *Mux
	port  uint16
	bound []netip.Addr
	socks []*boundSocket
	ids   *sctp.IDs
	h     sctp.Handler
	wg    sync.WaitGroup // of the associations' goroutines
	// backlog counts the associations that peers have established and the Handler has not
	// been told of.
	backlog atomic.Int64
	// unfollow ends the following of the machine's addresses, if they are followed.
	unfollow func()

	sctp.Table[*assoc]
}

var _ sctp.Endpoint = (*endpoint)(nil)

// Listen makes an endpoint.
func (m *Mux) Listen(cfg sctp.ListenConfig, ids *sctp.IDs, h sctp.Handler) (*endpoint, error) {
	e, err := m.listen(cfg, ids, h)
	if err == nil && cfg.Mobile {
		e.unfollow = m.machine.Follow(e.follow) // it locks m.mu
	}
	return e, err
}

func (m *Mux) listen(cfg sctp.ListenConfig, ids *sctp.IDs, h sctp.Handler) (*endpoint, error) {
	addrs, port, both, err := cfg.BindAddrs()
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	socks, err := m.acquire(addrs)
	if both && sctp.NoFamily(err) {
		addrs, socks, err = m.acquireOne(addrs, err)
	}
	if err != nil {
		return nil, err
	}
	if port == 0 {
		port = m.freePort()
	}
	if port == 0 || m.ports[port] != nil {
		m.release(socks)
		return nil, fmt.Errorf("%w: %d", ErrPortInUse, port)
	}
	e := &endpoint{
		m: m, port: port, bound: addrs, socks: socks, ids: ids, h: h,
	}
	m.ports[port] = e
	return e, nil
}

// acquireOne is acquire on a machine that has only one of the address families; why says what the
// other one lacks. m.mu is held.
func (m *Mux) acquireOne(addrs []netip.Addr, why error) ([]netip.Addr, []*boundSocket, error) {
	failed := why
	for _, a := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		one := slices.DeleteFunc(slices.Clone(addrs), func(x netip.Addr) bool { return x == a })
		socks, err := m.acquire(one)
		if err == nil {
			m.logf("sctp: listening on %v only: %v", one, why)
			return one, socks, nil
		}
		if !sctp.NoFamily(err) {
			failed = err // of the family that there is
		}
	}
	return nil, nil, failed
}

// freePort returns a free SCTP port, 0 if there is none. It prefers the number of the UDP
// port, which no other process of this machine has, and then dynamic ports (RFC 6335,
// Section 6). m.mu is held.
func (m *Mux) freePort() uint16 {
	const dynamic, system = 49152, 1024
	free := func(p uint16) bool { return p >= system && p != sctp.EncapPort && m.ports[p] == nil }
	p := m.encapPort
	for range 16 {
		if free(p) {
			return p
		}
		p = dynamic + uint16(random32()%(1<<16-dynamic))
	}
	for range 1 << 16 { // most of them are in use
		if free(p) {
			return p
		}
		p--
	}
	return 0
}

// Connect implements Endpoint.
func (e *endpoint) Connect(to sctp.Dest) sctp.AssocID {
	e.Mu.Lock()
	defer e.Mu.Unlock()
	if e.Closed {
		return 0
	}
	a := e.newAssoc()
	a.connect(to)
	e.start(a)
	return a.id
}

// newAssoc makes an association that does not run yet. e.Mu is held.
func (e *endpoint) newAssoc() *assoc {
	return &assoc{
		id: e.ids.Next(), ep: e, m: e.m,
		wake: make(chan struct{}, 1), done: make(chan struct{}), queue: sctp.SendQueue{Total: &e.m.n.Queued},
	}
}

// start adds an association to the table and runs it. e.Mu is held.
func (e *endpoint) start(a *assoc) {
	e.Add(a.id, a)
	e.wg.Add(1)
	go a.run()
}

// LocalAddrs implements Endpoint.
func (e *endpoint) LocalAddrs() []netip.AddrPort {
	var out []netip.AddrPort
	for _, a := range e.addrs() {
		out = append(out, netip.AddrPortFrom(a, e.port))
	}
	return out
}

// addrs returns the addresses that the endpoint has now.
func (e *endpoint) addrs() []netip.Addr { return e.m.machine.Expand(e.bound) }

// listed returns the addresses to list in an INIT or INIT ACK that is sent from an address;
// none if that is the only one. The address itself is always listed, even if it is not
// offered otherwise: without it the peer would assume an address translation.
func (e *endpoint) listed(peer, from netip.Addr) []netip.Addr {
	var out []netip.Addr
	for _, a := range e.addrs() {
		if inScope(a, peer) && len(out) < wire.MaxPeerAddrs {
			out = append(out, a)
		}
	}
	if len(out) == 0 || len(out) == 1 && (!from.IsValid() || out[0] == from) {
		return nil
	}
	if from.IsValid() && !slices.Contains(out, from) {
		out = slices.Insert(out, 0, from)[:min(len(out)+1, wire.MaxPeerAddrs)]
	}
	return out
}

// inScope reports whether a host at the address far can use an address: loopback addresses
// are only for the same machine.
func inScope(a, far netip.Addr) bool { return !a.IsLoopback() || far.IsLoopback() }

// covers reports whether the endpoint is bound to the address that a packet was sent to, which
// has no zone.
func (e *endpoint) covers(to netip.Addr) bool {
	return !to.IsValid() || slices.ContainsFunc(e.bound, func(a netip.Addr) bool {
		return a.WithZone("") == to || a == unspecified(to)
	})
}

// source returns the address that packets to a peer are sent from.
func (e *endpoint) source(to netip.Addr) netip.Addr {
	sock, from := e.route(to)
	if sock != nil && !from.IsValid() {
		from, _ = e.m.machine.Source(to)
	}
	return from
}

// pathTo returns the path to a peer's address.
func (e *endpoint) pathTo(ip netip.Addr, port uint16) (path, bool) {
	sock, from := e.route(ip)
	return path{sock, from, netip.AddrPortFrom(ip, port)}, sock != nil
}

// route returns the socket and local address for packets to a peer. If the address is
// invalid, the system chooses.
func (e *endpoint) route(to netip.Addr) (*boundSocket, netip.Addr) {
	i := e.m.machine.Choose(e.bound, to)
	switch {
	case i < 0:
		return nil, netip.Addr{}
	case e.bound[i].IsUnspecified():
		return e.socks[i], netip.Addr{}
	}
	return e.socks[i], e.bound[i]
}

// Close implements Endpoint.
func (e *endpoint) Close() error {
	left, first := e.CloseTable()
	if !first {
		return nil
	}
	if e.unfollow != nil {
		e.unfollow()
	}
	for _, a := range left {
		a.Abort()
	}
	e.wg.Wait()
	e.m.mu.Lock()
	delete(e.m.ports, e.port)
	e.m.release(e.socks)
	e.m.mu.Unlock()
	return nil
}

// behind reports whether so many associations wait for the Handler that a peer's handshake has
// to wait as well. Each retry of a peer that is tired of waiting would be one more otherwise.
func (e *endpoint) behind() bool {
	if e.backlog.Load() < int64(e.m.lim.Backlog) {
		return false
	}
	e.m.n.Deferred.Add(1)
	return true
}

// full reports whether the limit of associations is reached. e.Mu is held.
func (e *endpoint) full() bool { return len(e.All) >= e.m.lim.Associations }
