package sim

import (
	"cmp"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/registrar"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// The network's times.
const (
	maxDelay    = 20 * time.Millisecond
	connectTime = 3 * time.Second // until a call over a cut fails
	lostTime    = 4 * time.Second // until an association over a cut fails
)

// process is what runs on a host: a registrar or an element.
type process interface {
	handle(registrar.Event)
}

// host is a machine that runs one process, or the part of a machine that a process
// with a port of its own has.
type host struct {
	net     *network
	addr    netip.Addr
	port    uint16        // 0 for all
	group   int           // hosts of different groups cannot reach one another
	start   func()        // starts the process, if none runs
	proc    process       // nil while there is none
	life    int           // grows when a process starts and when it ends
	stopped time.Duration // when it has come to stand still last
	paused  time.Duration // the process stands still until then
	lost    time.Duration // when associations were lost last
	// manner is how the registrar on it answers requests for tables, mannered
	// since when.
	manner   manner
	mannered time.Duration
	nextID   registrar.AssocID
	ends     []*end // those that live, in the order of their id
}

// end is one side of an association.
type end struct {
	h    *host
	id   registrar.AssocID
	port uint16
	peer *end
	dead bool
	// doomed tells that a message was lost: nothing more goes out from here, and
	// the association ends.
	doomed bool
	last   time.Duration // when the last message arrives
}

// network carries messages in virtual time.
type network struct {
	rand  *rand.Rand
	now   time.Duration
	tasks tasks
	seq   uint64
	hosts map[netip.Addr][]*host // those of one address have different ports
	sum   uint64                 // over all that was sent
	sent  counts
	// double counts calls of a registrar by one that has an association to it.
	double int
	// mutate changes what is sent from one end of an association: it returns what
	// goes out instead. It is for tests of the tests.
	mutate func(from *end, ppid uint32, data []byte) [][]byte
}

// counts are messages by what they are.
type counts struct {
	enrp  [enrp.TypeError + 1]int
	asap  int
	bytes int
}

// all is the number of ENRP messages.
func (c counts) all() int {
	n := 0
	for _, k := range c.enrp {
		n += k
	}
	return n
}

// since is what has been counted after o.
func (c counts) since(o counts) counts {
	for t := range c.enrp {
		c.enrp[t] -= o.enrp[t]
	}
	c.asap -= o.asap
	c.bytes -= o.bytes
	return c
}

func newNetwork(seed uint64) *network {
	return &network{rand: rand.New(rand.NewPCG(seed, 1)), hosts: make(map[netip.Addr][]*host)}
}

func (n *network) at(t time.Duration, do func()) {
	n.seq++
	n.tasks.push(task{max(t, n.now), n.seq, do})
}

func (n *network) after(d time.Duration, do func()) { n.at(n.now+d, do) }

func (n *network) chance(of int) bool { return n.rand.IntN(of) == 0 }

// upTo is some time below d.
func (n *network) upTo(d time.Duration) time.Duration { return time.Duration(n.rand.Int64N(int64(d))) }

func (n *network) delay() time.Duration { return time.Millisecond + n.upTo(maxDelay) }

// run lets time pass.
func (n *network) run(d time.Duration) {
	end := n.now + d
	for len(n.tasks) > 0 && n.tasks[0].at <= end {
		t := n.tasks.pop()
		n.now = t.at
		t.do()
	}
	n.now = end
}

// until lets time pass, for most at most, until something is so. That is looked
// at every so often.
func (n *network) until(most, every time.Duration, is func() bool) bool {
	for end := n.now + most; n.now < end; {
		if is() {
			return true
		}
		n.run(every)
	}
	return is()
}

func (n *network) newHost(addr netip.Addr, start func(), port uint16) *host {
	h := &host{net: n, addr: addr, start: start, port: port}
	n.hosts[addr] = append(n.hosts[addr], h)
	return h
}

// newProcess makes room for another process on a host, at another port. Where no
// process runs any more is forgotten.
func (n *network) newProcess(beside *host, start func(), port uint16) *host {
	n.hosts[beside.addr] = slices.DeleteFunc(n.hosts[beside.addr], func(h *host) bool { return h.proc == nil })
	h := n.newHost(beside.addr, start, port)
	h.group = beside.group
	return h
}

// at is the host that takes calls there, nil if there is none.
func (n *network) hostAt(to netip.AddrPort) *host {
	for _, h := range n.hosts[to.Addr()] {
		if h.port == 0 || h.port == to.Port() {
			return h
		}
	}
	return nil
}

// String is the host's address.
func (h *host) String() string {
	if h == nil {
		return "nobody"
	}
	return h.addr.String()
}

// begin has a process run on the host. Whatever is left of the last one's
// associations ends: no process answers for them any more.
func (h *host) begin(p process) {
	h.end()
	h.life++
	h.proc, h.paused = p, 0
}

// end ends the process. Its associations end at once.
func (h *host) end() {
	h.proc = nil
	h.life++
	for len(h.ends) > 0 {
		h.net.drop(h.ends[0])
	}
}

// crash ends the process. Its associations end sooner or later.
func (h *host) crash() {
	if h.net.chance(2) {
		h.end()
		return
	}
	h.proc = nil
	h.life++
	for _, e := range h.ends {
		h.net.doom(e)
	}
}

// stands reports whether the process stands still.
func (h *host) stands() bool { return h.paused > h.net.now }

// do does something for the process that is so far, once it does not stand
// still, unless it has ended.
func (h *host) do(life int, f func()) {
	switch {
	case h.life != life || h.proc == nil:
	case h.stands():
		h.net.at(h.paused, func() { h.do(life, f) })
	default:
		f()
	}
}

// after does something for the process that runs now.
func (h *host) after(d time.Duration, f func()) {
	life := h.life
	h.net.after(d, func() { h.do(life, f) })
}

// deliver gives an event to the process of that life.
func (h *host) deliver(life int, ev registrar.Event) {
	h.do(life, func() { h.proc.handle(ev) })
}

// find is the end of that name, nil if it is gone.
func (h *host) find(id registrar.AssocID) *end {
	if i, ok := h.search(id); ok {
		return h.ends[i]
	}
	return nil
}

func (h *host) search(id registrar.AssocID) (int, bool) {
	return slices.BinarySearchFunc(h.ends, id, func(e *end, id registrar.AssocID) int { return cmp.Compare(e.id, id) })
}

func (h *host) newEnd(port uint16) *end {
	h.nextID++
	e := &end{h: h, id: h.nextID, port: port}
	h.ends = append(h.ends, e)
	return e
}

// linked reports whether there is an association with the other host, from port
// to port.
func (h *host) linked(o *host, port uint16) bool {
	return slices.ContainsFunc(h.ends, func(e *end) bool {
		return e.port == port && e.peer != nil && e.peer.h == o && e.peer.port == port
	})
}

// connect calls from a port of h, and returns the association's name.
func (h *host) connect(port uint16, to netip.AddrPort) registrar.AssocID {
	n, e, life := h.net, h.newEnd(port), h.life
	n.after(n.delay(), func() {
		t := n.hostAt(to)
		some := t
		if t == nil && len(n.hosts[to.Addr()]) > 0 {
			some = n.hosts[to.Addr()][0] // refuses for ports that no process has
		}
		switch {
		case e.dead:
		case some == nil || some.group != h.group || some.stands():
			n.after(connectTime, func() { n.drop(e) })
		case t == nil || t.proc == nil:
			n.after(n.delay(), func() { n.drop(e) })
		default:
			if port == enrpPort && h.linked(t, port) {
				n.double++
			}
			e.peer = t.newEnd(to.Port())
			e.peer.peer = e
			t.deliver(t.life, up(e.peer, h.addr, port))
			e.last = n.now + n.delay()
			n.at(e.last, func() {
				if !e.dead {
					h.deliver(life, up(e, to.Addr(), to.Port()))
				}
			})
		}
	})
	return e.id
}

func up(e *end, peer netip.Addr, port uint16) registrar.AssocUp {
	return registrar.AssocUp{
		Assoc: e.id, Peer: []netip.AddrPort{netip.AddrPortFrom(peer, port)},
		Via: rserpool.ViaKernel, ENRP: e.port == enrpPort,
	}
}

// send sends a message over an association.
func (h *host) send(id registrar.AssocID, ppid uint32, data []byte) {
	e := h.find(id)
	if e == nil || e.peer == nil {
		return
	}
	if ppid == enrp.PPID {
		data = h.bend(e, data)
	}
	if h.net.mutate == nil {
		h.net.carry(e, ppid, data)
		return
	}
	for _, data := range h.net.mutate(e, ppid, data) {
		h.net.carry(e, ppid, data)
	}
}

func (n *network) carry(e *end, ppid uint32, data []byte) {
	n.count(ppid, data)
	to := e.peer
	if e.doomed || to.h.group != e.h.group {
		n.doom(e)
		return
	}
	at := max(n.now+n.delay(), to.last+1)
	to.last = at
	life := to.h.life
	n.at(at, func() {
		if !to.dead {
			to.h.deliver(life, registrar.Received{Assoc: to.id, PPID: ppid, Data: data})
		}
	})
}

// multicast sends a datagram to all registrars that can be reached, itself among
// them. Some do not get it.
func (s *Sim) multicast(from *host, ev registrar.Announced) {
	s.net.note(ev.Data)
	for _, h := range s.servers {
		if h.group != from.group || h.stands() || s.net.chance(5) {
			continue
		}
		life := h.life
		s.net.after(s.net.delay(), func() { h.deliver(life, ev) })
	}
}

// note notes what is sent, so that two runs can be compared.
func (n *network) note(data []byte) {
	for _, b := range data {
		n.sum = n.sum*1099511628211 + uint64(b)
	}
	n.sum = n.sum*31 + uint64(n.now)
}

// count counts what is sent over an association.
func (n *network) count(ppid uint32, data []byte) {
	n.note(data)
	n.sent.bytes += len(data)
	if ppid == asap.PPID {
		n.sent.asap++
	} else if t := int(data[0]); t < len(n.sent.enrp) {
		n.sent.enrp[t]++
	}
}

// doom has an association end after some time, in which nothing more goes out
// from this end.
func (n *network) doom(e *end) {
	if !e.doomed {
		e.doomed = true
		n.after(lostTime, func() { n.drop(e) })
	}
}

// drop ends an association on both sides.
func (n *network) drop(e *end) {
	for _, x := range [...]*end{e, e.peer} {
		if x == nil || x.dead {
			continue
		}
		x.dead = true
		if i, ok := x.h.search(x.id); ok {
			x.h.ends = slices.Delete(x.h.ends, i, i+1)
		}
		life := x.h.life
		n.at(max(n.now+n.delay(), x.last), func() {
			x.h.deliver(life, registrar.AssocDown{Assoc: x.id})
		})
	}
}

// split moves hosts into groups. Associations between them end after some time,
// those that nothing is sent over only if the cut lasts so long.
func (n *network) split(hosts []*host, group func(*host) int) {
	for _, h := range hosts {
		h.group = group(h)
	}
	for _, h := range hosts {
		for _, e := range h.ends {
			if e.peer == nil || e.peer.h.group == h.group {
				continue
			}
			n.after(lostTime, func() {
				if e.peer.h.group != e.h.group {
					n.drop(e)
				}
			})
		}
	}
}
