package sim

import (
	"container/heap"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/rserpool/coredns-rserpool/registrar"
)

// The network's times.
const (
	maxDelay    = 20 * time.Millisecond
	connectTime = 3 * time.Second // until a call over a cut fails
	lostTime    = 4 * time.Second // until an association over a cut fails
)

// task is something to be done at a time.
type task struct {
	at  time.Time
	seq uint64
	do  func()
}

// tasks is a heap; of those at the same time the first comes first.
type tasks []task

func (q tasks) Len() int { return len(q) }
func (q tasks) Less(i, j int) bool {
	if c := q[i].at.Compare(q[j].at); c != 0 {
		return c < 0
	}
	return q[i].seq < q[j].seq
}
func (q tasks) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *tasks) Push(x any) {
	if t, ok := x.(task); ok {
		*q = append(*q, t)
	}
}

func (q *tasks) Pop() any {
	last := len(*q) - 1
	t := (*q)[last]
	(*q)[last] = task{}
	*q = (*q)[:last]
	return t
}

// process is what runs on a host: a registrar or an element.
type process interface {
	handle(registrar.Event)
}

// host is a machine with one process, nil while that has crashed.
type host struct {
	addr   netip.Addr
	group  int // hosts of different groups cannot reach one another
	proc   process
	paused time.Time // the process stands still until then
	nextID registrar.AssocID
	ends   map[registrar.AssocID]*end
}

// end is one side of an association.
type end struct {
	h    *host
	id   registrar.AssocID
	port uint16
	peer *end
	dead bool
	last time.Time // when the last message arrives
}

// network carries messages in virtual time.
type network struct {
	rand  *rand.Rand
	now   time.Time
	tasks tasks
	seq   uint64
	hosts map[netip.Addr]*host
	sum   uint64 // over all that was sent
	sent  map[string]int
	// mutate changes or drops (nil) what is sent; it is for tests of the tests.
	mutate func(ppid uint32, data []byte) []byte
}

func newNetwork(seed uint64) *network {
	return &network{
		rand: rand.New(rand.NewPCG(seed, 1)), now: time.Unix(1000, 0),
		hosts: make(map[netip.Addr]*host), sent: make(map[string]int),
	}
}

func (n *network) at(t time.Time, do func()) {
	n.seq++
	if t.Before(n.now) {
		t = n.now
	}
	heap.Push(&n.tasks, task{t, n.seq, do})
}

func (n *network) after(d time.Duration, do func()) { n.at(n.now.Add(d), do) }

func (n *network) chance(of int) bool { return n.rand.IntN(of) == 0 }

func (n *network) delay() time.Duration {
	return time.Millisecond + time.Duration(n.rand.Int64N(int64(maxDelay)))
}

// run lets time pass.
func (n *network) run(d time.Duration) {
	end := n.now.Add(d)
	for len(n.tasks) > 0 && !n.tasks[0].at.After(end) {
		t, ok := heap.Pop(&n.tasks).(task)
		if !ok {
			return
		}
		n.now = t.at
		t.do()
	}
	n.now = end
}

func (n *network) newHost(addr netip.Addr) *host {
	h := &host{addr: addr, ends: make(map[registrar.AssocID]*end)}
	n.hosts[addr] = h
	return h
}

// deliver gives an event to the process, once that does not stand still.
func (n *network) deliver(h *host, p process, ev registrar.Event) {
	if p == nil || h.proc != p {
		return
	}
	if h.paused.After(n.now) {
		n.at(h.paused, func() { n.deliver(h, p, ev) })
		return
	}
	p.handle(ev)
}

func (n *network) newEnd(h *host, port uint16) *end {
	h.nextID++
	e := &end{h: h, id: h.nextID, port: port}
	h.ends[e.id] = e
	return e
}

// connect calls from a port of h, and returns the association's name.
func (n *network) connect(h *host, port uint16, to netip.AddrPort) registrar.AssocID {
	e := n.newEnd(h, port)
	p := h.proc
	n.after(n.delay(), func() {
		t := n.hosts[to.Addr()]
		switch {
		case e.dead:
		case t == nil || t.group != h.group || t.paused.After(n.now):
			n.after(connectTime, func() { n.drop(e) })
		case t.proc == nil:
			n.after(n.delay(), func() { n.drop(e) })
		default:
			e.peer = n.newEnd(t, to.Port())
			e.peer.peer = e
			n.deliver(t, t.proc, up(e.peer, h.addr, port))
			e.last = n.now.Add(n.delay())
			n.at(e.last, func() {
				if !e.dead {
					n.deliver(h, p, up(e, to.Addr(), to.Port()))
				}
			})
		}
	})
	return e.id
}

func up(e *end, peer netip.Addr, port uint16) registrar.AssocUp {
	return registrar.AssocUp{
		Assoc: e.id, Peer: []netip.AddrPort{netip.AddrPortFrom(peer, port)},
		Via: registrar.ViaKernel, ENRP: e.port == enrpPort,
	}
}

// send sends a message over an association.
func (n *network) send(h *host, id registrar.AssocID, ppid uint32, data []byte) {
	e := h.ends[id]
	if e == nil || e.dead || e.peer == nil {
		return
	}
	if n.mutate != nil {
		if data = n.mutate(ppid, data); data == nil {
			return
		}
	}
	n.count(ppid, data)
	if e.peer.h.group != h.group {
		n.after(lostTime, func() { n.drop(e) })
		return
	}
	at := n.now.Add(n.delay())
	if !at.After(e.peer.last) {
		at = e.peer.last.Add(time.Nanosecond)
	}
	e.peer.last = at
	to, p := e.peer, e.peer.h.proc
	n.at(at, func() {
		if !to.dead {
			n.deliver(to.h, p, registrar.Received{Assoc: to.id, PPID: ppid, Data: data})
		}
	})
}

// multicast sends a datagram to all hosts that can be reached, itself among
// them. Some do not get it.
func (n *network) multicast(hosts []*host, from *host, ev registrar.Announced) {
	n.count(0, ev.Data)
	for _, h := range hosts {
		if h.group != from.group || h.paused.After(n.now) || n.chance(5) {
			continue
		}
		p := h.proc
		n.after(n.delay(), func() { n.deliver(h, p, ev) })
	}
}

// count notes what is sent, so that two runs can be compared.
func (n *network) count(ppid uint32, data []byte) {
	for _, b := range data {
		n.sum = n.sum*1099511628211 + uint64(b)
	}
	n.sum = n.sum*31 + uint64(n.now.UnixNano())
	if ppid == enrpPPID && len(data) > 0 {
		n.sent[enrpType(data[0])]++
	}
}

// drop ends an association on both sides.
func (n *network) drop(e *end) {
	for _, x := range []*end{e, e.peer} {
		if x == nil || x.dead {
			continue
		}
		x.dead = true
		delete(x.h.ends, x.id)
		x, p := x, x.h.proc
		at := n.now.Add(n.delay())
		if at.Before(x.last) {
			at = x.last
		}
		n.at(at, func() { n.deliver(x.h, p, registrar.AssocDown{Assoc: x.id}) })
	}
}

// crash ends a process; its associations end sooner or later.
func (n *network) crash(h *host) {
	h.proc = nil
	silent := n.chance(2)
	for id := registrar.AssocID(1); id <= h.nextID; id++ {
		if e := h.ends[id]; e != nil {
			if silent {
				n.after(lostTime, func() { n.drop(e) })
			} else {
				n.drop(e)
			}
		}
	}
}

// split moves hosts into groups. Associations between them end after some time.
func (n *network) split(hosts []*host, group func(*host) int) {
	for _, h := range hosts {
		h.group = group(h)
	}
	for _, h := range hosts {
		for id := registrar.AssocID(1); id <= h.nextID; id++ {
			if e := h.ends[id]; e != nil && e.peer != nil && e.peer.h.group != h.group {
				n.after(lostTime, func() {
					if e.peer.h.group != e.h.group {
						n.drop(e)
					}
				})
			}
		}
	}
}
