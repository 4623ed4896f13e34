package sim

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/registrar"
)

// The network's times.
const (
	maxDelay    = 20 * time.Millisecond
	connectTime = 3 * time.Second // until a call over a cut fails
	lostTime    = 4 * time.Second // until an association over a cut fails
	beatTime    = 5 * time.Second // until an idle association finds that its other end is gone
	rto         = time.Second     // until a lost packet is sent again (RFC 9260, Section 16: RTO.Min)
)

// process is what runs on a host: a registrar or an element.
type process interface {
	handle(registrar.Event)
}

// machine is what the processes of one address share.
type machine struct {
	group int // machines of different groups cannot reach one another
	// deaf, mute: nothing comes in, nothing goes out. down: neither, and the machine
	// knows it, so that calls fail at once.
	deaf, mute, down bool
	dark             time.Duration // nothing answers until then: it has no power
	changed          time.Duration // when any of that has changed last
}

// host is a machine that runs one process, or the part of a machine that a process
// with a port of its own has.
type host struct {
	*machine
	net  *network
	addr netip.Addr
	port uint16 // 0 for all
	// identity is what the peers of associations are told of the process; "" if nothing.
	identity string
	start    func()        // starts the process, if none runs
	proc     process       // nil while there is none
	life     int           // grows when a process starts and when it ends
	stopped  time.Duration // when it has come to stand still last
	paused   time.Duration // the process stands still until then
	woke     time.Duration // when it has gone on before it has come to stand still last
	// frozen tells that what carries the process's associations stands still with it.
	// Otherwise messages to it are acknowledged, and wait.
	frozen bool
	lost   time.Duration // when associations were lost last
	// manner is how the registrar on it answers requests for tables, mannered
	// since when.
	manner   manner
	mannered time.Duration
	nextID   registrar.AssocID
	ends     []*end // those that live, in the order of their id
}

// network carries messages in virtual time.
type network struct {
	rand  *rand.Rand
	now   time.Duration
	tasks tasks
	seq   uint64
	hosts map[netip.Addr][]*host // those of one address have different ports
	ways  map[way]bool           // that are cut
	loss  int                    // of a thousand packets, so many are lost
	calm  time.Duration          // when what was lost has been sent again
	sum   uint64                 // over all that was sent
	sent  counts
	// double counts calls of a registrar by one that has an association to it.
	double int
	// mutate changes what is sent from one end of an association: it returns what
	// goes out instead. It is for tests of the tests.
	mutate func(from *end, ppid uint32, data []byte) [][]byte
	// reason is what processes are told of an end; also for tests of the tests.
	reason func(ending) ending
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
	return &network{rand: rand.New(rand.NewPCG(seed, 1)), hosts: make(map[netip.Addr][]*host), ways: make(map[way]bool), reason: func(why ending) ending { return why }}
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
	h := &host{machine: new(machine), net: n, addr: addr, start: start, port: port}
	n.hosts[addr] = append(n.hosts[addr], h)
	return h
}

// newProcess makes room for another process on a host, at another port. Where no
// process runs any more is forgotten.
func (n *network) newProcess(beside *host, start func(), port uint16) *host {
	n.hosts[beside.addr] = slices.DeleteFunc(n.hosts[beside.addr], func(h *host) bool { return h.proc == nil })
	h := n.newHost(beside.addr, start, port)
	h.machine, h.identity = beside.machine, beside.identity
	return h
}

// hostAt is the host that takes calls there, one with a process if there is one; nil if there is
// none.
func (n *network) hostAt(to netip.AddrPort) (found *host) {
	for _, h := range n.hosts[to.Addr()] {
		if (h.port == 0 || h.port == to.Port()) && (found == nil || found.proc == nil) {
			found = h
		}
	}
	return found
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
	h.proc, h.paused, h.dark = p, 0, 0
}

// end ends the process. It says so on its associations.
func (h *host) end() { h.finish(true) }

// finish ends the process, with a word to those at the other ends or without.
func (h *host) finish(word bool) {
	h.proc = nil
	h.life++
	for len(h.ends) > 0 {
		h.net.hangUp(h.ends[0], word)
	}
}

// crash ends the process, in some way: its associations are aborted, or nobody is
// told, or the machine does not answer for a while either.
func (h *host) crash() {
	switch h.net.rand.IntN(4) {
	case 0, 1:
		h.finish(true)
	case 2:
		h.finish(false)
	case 3:
		h.powerOff(h.net.upTo(2 * lostTime))
	}
}

// powerOff ends the process together with its machine, which answers nothing for a
// while.
func (h *host) powerOff(d time.Duration) {
	h.dark = h.net.now + d
	h.finish(false)
	h.net.cutOff(h)
}

// answers reports whether the machine acknowledges and refuses what comes in.
func (h *host) answers() bool {
	return h.net.now >= h.dark && !(h.frozen && h.stands())
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

// multicast sends a datagram to all registrars that can be reached, itself among
// them. Some do not get it.
func (s *Sim) multicast(from *host, ev registrar.Announced) {
	s.net.note(ev.Data)
	for _, h := range s.servers {
		if !s.net.open(from, h) || h.stands() || s.net.chance(5) || s.net.loses() {
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
