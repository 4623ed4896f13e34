package kernel

import (
	"errors"
	"net/netip"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/rserpool/coredns-rserpool/internal/sctp/localaddr"
)

// A socket that is bound to the unspecified address lists all of the machine's addresses to
// its peers, that of docker0 among them. A peer with a docker0 of its own then sends
// HEARTBEATs to itself, and its own kernel aborts the association. Therefore, if no
// addresses are given, the socket is bound to those that other machines can reach and to
// the loopback ones, and follows them when they change. Established associations keep the
// addresses that they have.

// binding says to which addresses a socket is bound.
type binding struct {
	named      []netip.Addr
	all4, all6 bool // also all of the machine's addresses of the family
}

func bindingOf(addrs []netip.Addr) binding {
	var b binding
	for _, a := range addrs {
		switch a {
		case netip.IPv4Unspecified():
			b.all4 = true
		case netip.IPv6Unspecified():
			b.all6 = true
		default:
			b.named = append(b.named, a)
		}
	}
	return b
}

// follows reports whether the machine's addresses are among them.
func (b *binding) follows() bool { return b.all4 || b.all6 }

// addrs returns the addresses to bind now; an unspecified one if the machine has none. Only
// if the machine's addresses are among them, machine logs which these are.
func (b *binding) addrs(machine *localaddr.View) []netip.Addr {
	out := slices.Clone(b.named)
	if b.follows() {
		for _, a := range machine.List() {
			if (a.Is4() && b.all4 || a.Is6() && b.all6) && !slices.Contains(out, a) {
				out = append(out, a)
			}
		}
	}
	switch {
	case len(out) > 0:
		return out
	case b.all6:
		return []netip.Addr{netip.IPv6Unspecified()}
	}
	return []netip.Addr{netip.IPv4Unspecified()}
}

// bindAll binds the socket and returns the port. An address of the machine that cannot be
// bound at the moment is tried again later.
func (e *endpoint) bindAll(port uint16) (uint16, error) {
	addrs := e.binding.addrs(e.machine)
	got, err := e.sock.bind(addrs[:1], port)
	if err != nil {
		return 0, err
	}
	e.bound = addrs[:1:1]
	for _, a := range addrs[1:] {
		switch err := e.sock.bindAlso(netip.AddrPortFrom(a, got)); {
		case err == nil:
			e.bound = append(e.bound, a)
		case !e.binding.follows() || errors.Is(err, unix.EADDRINUSE):
			return 0, err
		}
	}
	return got, nil
}

// follow keeps the socket bound to the machine's addresses, and so do the associations'
// sockets if the endpoint is mobile.
func (e *endpoint) follow() {
	var added, lost []netip.Addr
	if e.binding.follows() {
		added, lost = e.changes()
	}
	if e.mobile {
		e.followAssocs(added, lost)
	}
	for _, a := range added {
		switch err := e.sock.bindAlso(netip.AddrPortFrom(a, e.port)); {
		case err == nil:
			e.bound = append(e.bound, a)
		case errors.Is(err, unix.EADDRINUSE):
			e.machine.Logf("sctp: cannot listen on %v: port %d is in use at this address", a, e.port)
		}
	}
	// The kernel refuses to remove the last address.
	e.bound = slices.DeleteFunc(e.bound, func(a netip.Addr) bool {
		return slices.Contains(lost, a) && e.sock.unbind(netip.AddrPortFrom(a, e.port)) == nil
	})
}

// changes returns the addresses to bind, and those that are bound and that the machine no
// longer has.
func (e *endpoint) changes() (added, lost []netip.Addr) {
	want := e.binding.addrs(e.machine)
	if slices.ContainsFunc(append(want, e.bound...), netip.Addr.IsUnspecified) {
		return nil, nil
	}
	for _, a := range want {
		if !slices.Contains(e.bound, a) {
			added = append(added, a)
		}
	}
	for _, a := range e.bound {
		if !slices.Contains(want, a) {
			lost = append(lost, a)
		}
	}
	return added, lost
}

// listen opens the socket, binds it and listens.
func (e *endpoint) listen(v6 bool, port uint16) (err error) {
	if e.sock, err = openSocket(v6); err != nil {
		return err
	}
	if err = e.configure(); err == nil {
		e.port, err = e.bindAll(port)
	}
	if err == nil {
		err = e.sock.control(func(fd int) error { return os.NewSyscallError("listen", unix.Listen(fd, unix.SOMAXCONN)) })
	}
	if err != nil {
		_ = e.sock.close()
	}
	return err
}

// quietOwn stops the kernel's HEARTBEATs to addresses of a peer that this machine has too,
// although the peer is on another machine: this kernel would receive them itself and
// abort the association. A peer whose primary address is this machine's is on this
// machine, whatever else it lists: the kernel accepts no packet from elsewhere whose
// source is one of its own addresses.
func (e *endpoint) quietOwn(sock *socket, kid int32, peer []netip.AddrPort) (foreign []netip.AddrPort) {
	s := e.machine.Now()
	if len(peer) > 0 && s.Own(peer[0].Addr().Unmap()) {
		return peer
	}
	foreign = s.Foreign(peer)
	for _, ap := range peer {
		if !slices.Contains(foreign, ap) {
			p := pathParams(kid, ap, hbDisable)
			_ = setOption(sock, "SCTP_PEER_ADDR_PARAMS", optPeerAddrParams, p)
		}
	}
	return foreign
}

// nearFirst puts those of a peer's addresses first that the routes lead to from an
// address of the socket. The kernel sends its INITs to one after the other, with
// seconds in between, and the network of another address may be dead.
func (e *endpoint) nearFirst(peer []netip.AddrPort) []netip.AddrPort {
	if len(peer) < 2 || e.binding.follows() {
		return peer
	}
	var near, far []netip.AddrPort
	for _, ap := range peer {
		if from, err := e.machine.Source(ap.Addr()); err == nil && slices.Contains(e.binding.named, from) {
			near = append(near, ap)
		} else {
			far = append(far, ap)
		}
	}
	return append(near, far...)
}
