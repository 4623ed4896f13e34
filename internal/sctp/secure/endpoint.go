package secure

import (
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
)

// Options are what an Endpoint needs beside its Config.
type Options struct {
	// Framing cuts the messages inside of TLS. PPID, if not 0, is that of all messages
	// in place of the Framing's.
	Framing sctp.Framing
	PPID    uint32
	// Sessions puts a head of 8 bytes before each message inside of TLS, with its PPID and
	// its length, in place of Framing: messages may be any bytes, and have any PPID. PPID is
	// then that of what the transport carries.
	Sessions bool
	// Renew says which associations this side renews.
	Renew sctp.Renewal
	// Limits are those of the transport.
	Limits sctp.Limits
	// Counters are those of TLS.
	Counters *sctp.Counters
}

// Endpoint is an endpoint of a transport with TLS on all its associations.
type Endpoint struct {
	cfg   *Config
	frame sctp.Framing
	// sessions: see Options.
	sessions bool
	lim      sctp.Limits
	n        *sctp.Counters
	h        sctp.Handler
	watch    *Watch
	turns    *turns

	below sctp.Endpoint // set when ready is closed
	ready chan struct{}
	wg    sync.WaitGroup // of handshakes, and of Resume

	// While Mu is held, no association is locked.
	sctp.Table[*assoc]
	half   []*assoc           // guarded by Mu: associations of peers in the handshake, oldest first
	byHost map[netip.Addr]int // guarded by Mu: how many of half each host has
}

var (
	_ sctp.Endpoint = (*Endpoint)(nil)
	_ rechecker     = (*Endpoint)(nil)
)

// Listen makes an Endpoint of the endpoint that listen makes with a Handler.
func Listen(cfg *Config, opt Options, h sctp.Handler, listen func(sctp.Handler) (sctp.Endpoint, error)) (*Endpoint, error) {
	e := &Endpoint{
		cfg: cfg, frame: opt.Framing, sessions: opt.Sessions, lim: opt.Limits.WithDefaults(), n: opt.Counters, h: h, watch: NewWatch(cfg, opt.Renew),
		// Half of the processors compute handshakes, so that a storm of them leaves the
		// other half to the associations that are up.
		turns: newTurns(max(1, runtime.GOMAXPROCS(0)/2)), ready: make(chan struct{}), byHost: map[netip.Addr]int{},
	}
	if e.sessions {
		e.frame = sessionFraming
	}
	if opt.PPID != 0 {
		e.frame.PPID = opt.PPID
	}
	below, err := listen(e.handle)
	if err != nil {
		return nil, err
	}
	e.below = below
	close(e.ready)
	return e, nil
}

// BelowLimits returns the limits of a transport below TLS, for limits that hold inside of
// it: each message becomes one record or more.
func BelowLimits(l sctp.Limits) sctp.Limits {
	const overhead = 22 + sessionHead
	l = l.WithDefaults()
	more := (l.SendQueueBytes+l.SendQueueMessages*sessionHead)/maxContent + 1 // records of messages that are longer than one
	l.SendQueueBytes += (l.SendQueueMessages + more) * overhead
	l.SendQueueMessages += more
	l.MessageSize = max(l.MessageSize, recordHeader+maxContent+256)
	return l
}

// handle is the Handler of the transport.
func (e *Endpoint) handle(ev sctp.Event) {
	<-e.ready
	e.Mu.RLock()
	a := e.All[ev.Assoc]
	e.Mu.RUnlock()
	if a == nil && ev.Type == sctp.Up {
		a = e.came(ev)
	}
	if a == nil {
		return // it was refused
	}
	switch ev.Type {
	case sctp.Up:
		a.begin(ev)
		e.makeRoom()
	case sctp.Received:
		a.received(ev.Message)
	case sctp.SendFailed:
		a.sendFailed()
	case sctp.PeerAddrs:
		a.peerAddrs(ev)
	case sctp.Writable:
		a.writable()
	case sctp.PeerDone: // only of TCP
	case sctp.Down:
		a.down(ev)
	}
}

// came makes the association that a peer has opened.
func (e *Endpoint) came(ev sctp.Event) *assoc {
	e.Mu.Lock()
	defer e.Mu.Unlock()
	a := e.newAssoc(ev.Assoc, false)
	a.host = sctp.HostOf(ev.Peer[0].Addr())
	e.half = append(e.half, a)
	e.byHost[a.host]++
	return a
}

// makeRoom ends one of the handshakes that peers have begun, if there are too many.
func (e *Endpoint) makeRoom() {
	e.Mu.Lock()
	a, why := e.excess()
	if a != nil {
		e.leaveHalf(a)
	}
	e.Mu.Unlock()
	if a != nil {
		a.end(sctp.ConnectFailed, why, sctp.Endpoint.Abort)
	}
}

const (
	// slowPeer is how long a handshake may wait for its peer while others have no room.
	slowPeer = time.Second
	// maxHalf is how many handshakes there may be for each one of Limits.HalfOpen, if they
	// wait for this side.
	maxHalf = 16
)

var (
	errSlowPeer = untrusted("peer was slow with its TLS handshake, and others wait")
	errFull     = untrusted("too many peers wait for their TLS handshake")
)

// idle reports whether a handshake waits for its peer, and not for this side.
func (a *assoc) idle() bool { return !a.heard.Load() || a.w.waited() > slowPeer }

// excess is the handshake that makes room, nil if there is enough. It is one of a host that has
// many, if there is such a host. More than Limits.HalfOpen may not wait for their peers. Then
// it is the oldest one of those: if the new one were refused instead, a flood of silent peers
// would shut out all others.
//
// Many more may wait for this side, since all elements come at the same time after a restart.
// If they are too many, it is the new one. Handshakes are computed in their order: if the
// oldest one made room, none would live to see its turn. e.Mu is held.
func (e *Endpoint) excess() (*assoc, error) {
	if len(e.half) <= e.lim.HalfOpen {
		return nil, nil
	}
	many := max(2, len(e.half)/16)
	flood := slices.ContainsFunc(e.half, func(a *assoc) bool { return e.byHost[a.host] >= many })
	var oldest, last *assoc
	idle := 0
	for _, a := range e.half {
		waits := a.idle()
		if waits {
			idle++
		}
		if flood && e.byHost[a.host] < many {
			continue
		}
		if waits && oldest == nil {
			oldest = a
		}
		last = a
	}
	switch {
	case idle > e.lim.HalfOpen && oldest != nil:
		return oldest, errSlowPeer
	case idle > e.lim.HalfOpen, len(e.half) > maxHalf*e.lim.HalfOpen:
		return last, errFull
	}
	return nil, nil
}

// leaveHalf takes an association out of half, if it is there. e.Mu is held.
func (e *Endpoint) leaveHalf(a *assoc) {
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
func (e *Endpoint) newAssoc(id sctp.AssocID, ours bool) *assoc {
	a := &assoc{id: id, e: e, ours: ours, queue: sctp.SendQueue{Total: &e.n.Queued}}
	a.w = newWire(ours, e.turns, func(record []byte) error {
		return e.below.Send(id, sctp.Message{Data: record, PPID: e.frame.PPID})
	})
	a.cut = cutter{frame: &e.frame, max: e.lim.MessageSize}
	if e.sessions {
		a.cut.max += sessionHead
	}
	e.Add(id, a)
	return a
}

// settled notes that the handshake of an association is over.
func (e *Endpoint) settled(a *assoc) {
	e.Mu.Lock()
	defer e.Mu.Unlock()
	e.leaveHalf(a)
}

// spawn runs f in a goroutine, unless the endpoint is closed.
func (e *Endpoint) spawn(f func()) {
	e.Mu.RLock()
	defer e.Mu.RUnlock()
	if !e.Closed {
		e.wg.Go(f)
	}
}

// Connect implements sctp.Endpoint.
func (e *Endpoint) Connect(to sctp.Dest) sctp.AssocID {
	// While Mu is held, events of the new association wait.
	e.Mu.Lock()
	defer e.Mu.Unlock()
	if e.Closed {
		return 0
	}
	id := e.below.Connect(to)
	if id != 0 && e.All[id] == nil {
		e.newAssoc(id, true)
	}
	return id
}

// Recheck implements rechecker.
func (e *Endpoint) Recheck() { e.watch.Recheck() }

// LocalAddrs implements sctp.Endpoint.
func (e *Endpoint) LocalAddrs() []netip.AddrPort { return e.below.LocalAddrs() }

// Close implements sctp.Endpoint.
func (e *Endpoint) Close() error {
	left, _ := e.CloseTable()
	for _, a := range left {
		a.Abort()
	}
	err := e.below.Close()
	e.wg.Wait()
	e.watch.Close()
	return err
}
