package network

import (
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// LAN is a switched Ethernet.
type LAN struct {
	n     *Network
	mu    sync.Mutex
	ports []*Link
	at    map[mac]*Link
	rand  *rand.Rand
	cuts  []cut
	watch []func(frame []byte) bool
	pcap  *pcap
}

type mac [6]byte

// cut keeps two sets of hosts apart.
type cut struct{ these, those []*Host }

// NewLAN makes another LAN. It starts without hosts, see [Host.Link].
func (n *Network) NewLAN() *LAN {
	n.t.Helper()
	n.lans++
	l := &LAN{n: n, at: make(map[mac]*Link), rand: rand.New(rand.NewPCG(1, uint64(n.lans)))}
	l.pcap = newPcap(n.t, n.lans)
	return l
}

// Cut drops all frames between two sets of hosts from now on.
func (l *LAN) Cut(these, those []*Host) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cuts = append(l.cuts, cut{these, those})
}

// Mend ends all cuts.
func (l *LAN) Mend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cuts = nil
}

// Watch calls f with each frame that a host sends; f must be quick, keep nothing
// of the frame, and tell whether the frame is to travel on.
func (l *LAN) Watch(f func(frame []byte) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.watch = append(l.watch, f)
}

func (c cut) parts(a, b *Host) bool {
	return slices.Contains(c.these, a) && slices.Contains(c.those, b) ||
		slices.Contains(c.these, b) && slices.Contains(c.those, a)
}

// frame takes a frame that came from a link to the links that it is for.
func (l *LAN) frame(from *Link, f []byte) {
	if len(f) < 14 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pcap.write(f)
	for _, w := range l.watch {
		if !w(f) {
			return
		}
	}
	l.at[mac(f[6:12])] = from
	if !from.wire.passes(f, l.rand) {
		return
	}
	to := l.ports
	if known := l.at[mac(f[:6])]; known != nil {
		to = []*Link{known}
	}
	for _, p := range to {
		if p != from && p.wire.passes(f, l.rand) && !l.apart(from, p) {
			p.deliver(f, from.wire.Delay+p.wire.Delay)
		}
	}
}

func (l *LAN) apart(a, b *Link) bool {
	return slices.ContainsFunc(l.cuts, func(c cut) bool { return c.parts(a.host, b.host) })
}

// Wire is what becomes of the frames between a host and the LAN, in both
// directions. The zero value is a good one.
type Wire struct {
	Dead   bool          // no frame arrives, and the hosts do not notice
	Loss   float64       // the part of the frames that is lost, 0 to 1
	Delay  time.Duration // of each frame; a round trip takes twice as long
	MTU    int           // larger packets (bytes, from the IP header on) are lost; 0: any
	NoICMP bool          // errors of ICMP and ICMPv6 are lost
}

func (w Wire) passes(f []byte, r *rand.Rand) bool {
	switch {
	case w.Dead, w.MTU > 0 && len(f)-14 > w.MTU, w.NoICMP && isICMPError(f):
		return false
	}
	return w.Loss == 0 || r.Float64() >= w.Loss
}

// isICMPError tells ICMP's and ICMPv6's errors from other frames.
func isICMPError(f []byte) bool {
	p := f[14:]
	switch {
	case f[12] == 0x08 && f[13] == 0x00 && len(p) >= 20 && p[9] == 1:
		if icmp := p[int(p[0]&15)*4:]; len(icmp) > 0 {
			return icmp[0] == 3 || icmp[0] == 4 || icmp[0] == 11 || icmp[0] == 12
		}
	case f[12] == 0x86 && f[13] == 0xdd && len(p) > 40 && p[6] == 58:
		return p[40] < 128
	}
	return false
}
