package udp

import (
	"net/netip"
	"sync"
	"time"
)

const (
	// blueEach is how many answers to packets out of the blue one address gets
	// in a second. A restart is news to all of a machine's associations at the
	// same time, and as many machines may be behind one NAT.
	blueEach = 2000
	// blueAll is how many answers all together get, which costs a tenth of a
	// processor.
	blueAll = 20000
	// blueAddrs bounds the addresses that are counted on their own in a second.
	// The others share the allowance of one.
	blueAddrs = 4096
)

// limiter lets a number of things happen in a second: so many to each address,
// and so many in all. An answer is never longer than the packet that it is to,
// so that forged packets make us no better a tool than the forger's own
// network; the limit for an address keeps it from being the target of all that
// we can send.
type limiter struct {
	each, all, addrs int

	mu    sync.Mutex
	begin time.Time // of the second
	n     int
	by    map[netip.Addr]int
}

// allow says whether one more may go to an address.
func (l *limiter) allow(to netip.Addr, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.by == nil || now.Sub(l.begin) >= time.Second {
		l.begin, l.n, l.by = now, 0, map[netip.Addr]int{}
	}
	to = limitKey(to)
	if _, ok := l.by[to]; !ok && len(l.by) >= l.addrs {
		to = netip.Addr{}
	}
	if l.n >= l.all || l.by[to] >= l.each {
		return false
	}
	l.n++
	l.by[to]++
	return true
}

// limitKey is what counts as one address: of IPv6 a network of 64 bits, in
// which one machine can have any number of addresses.
func limitKey(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if a.Is4() {
		return a
	}
	p, _ := a.Prefix(64)
	return p.Addr()
}
