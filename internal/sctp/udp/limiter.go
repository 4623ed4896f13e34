package udp

import (
	"net/netip"
	"sync"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
)

const (
	// ootbEach is how many packets of no association are answered to one address in
	// a second. After a restart, all associations of a machine send such packets at
	// the same time, and many machines may be behind one NAT.
	ootbEach = 2000
	// ootbAll is how many are answered in all, at the cost of a tenth of a
	// processor.
	ootbAll = 20000
	// ootbAddrs is how many addresses are counted separately in a second. The
	// others share the allowance of one.
	ootbAddrs = 4096
)

// limiter bounds how often something is done in a second, for each address and in all. An
// answer is never longer than the packet that it answers, so that a sender of forged
// packets gains nothing over sending to its victim directly. The limit for each address
// protects the victim from all that this machine could send.
type limiter struct {
	each, all, addrs int

	mu    sync.Mutex
	begin time.Time // of the second
	n     int
	by    map[netip.Addr]int
}

// allow reports whether one more is allowed for an address.
func (l *limiter) allow(to netip.Addr, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.by == nil || now.Sub(l.begin) >= time.Second {
		l.begin, l.n, l.by = now, 0, map[netip.Addr]int{}
	}
	to = sctp.HostOf(to)
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
