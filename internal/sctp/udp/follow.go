package udp

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/localaddr"
)

// follow looks after all associations when the machine's addresses have changed.
func (e *endpoint) follow() {
	s := e.m.machine.Now()
	e.Mu.RLock()
	all := slices.Collect(maps.Values(e.All))
	e.Mu.RUnlock()
	for _, a := range all {
		a.follow(&s)
	}
}

// follow ends the association if it has no local address any more that the peer knows.
func (a *assoc) follow(s *localaddr.State) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch a.state {
	case stateCookieWait:
		a.dropTarget(func(p path) bool { return !leaves(s, p) }, sctp.ErrAddrGone)
	case stateCookieEchoed:
		if !leaves(s, *a.path.Load()) {
			a.end(sctp.ConnectFailed, sctp.ErrAddrGone)
		}
	case stateEstablished:
		a.followWays(s)
	case stateClosed:
	}
}

// leaves reports whether packets can be sent over a path.
func leaves(s *localaddr.State, p path) bool { return !p.from.IsValid() || s.Usable(p.from) }

// followWays has the ways begin at local addresses that the machine has. a.mu is held.
func (a *assoc) followWays(s *localaddr.State) {
	lost := false
	for _, w := range a.ways {
		p := *w.path.Load()
		if leaves(s, p) {
			continue
		}
		if !a.restart(&p, s) {
			w.refused.Store(true) // until a HEARTBEAT is answered
			lost = true
			continue
		}
		w.path.Store(&p)
		if w == a.primary {
			a.setPath(p)
		}
	}
	if lost {
		a.withoutRefused(sctp.ErrAddrGone)
	}
}

// restart has a path begin at another local address that the peer knows, and reports
// whether there is one. a.mu is held.
func (a *assoc) restart(p *path, s *localaddr.State) bool {
	usable := slices.DeleteFunc(slices.Clone(a.local.Addrs), func(from netip.Addr) bool {
		return !s.Usable(from) || a.ep.sockAt(from) == nil
	})
	i := a.m.machine.Choose(usable, p.to.Addr())
	if i < 0 {
		return false
	}
	p.from, p.sock = usable[i], a.ep.sockAt(usable[i])
	return true
}

// sockAt returns the socket that sends from an address; nil if there is none.
func (e *endpoint) sockAt(from netip.Addr) *boundSocket {
	i := slices.Index(e.bound, from)
	if i < 0 {
		i = slices.Index(e.bound, unspecified(from))
	}
	if i < 0 {
		return nil
	}
	return e.socks[i]
}
