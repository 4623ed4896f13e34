package registrar

import (
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	"github.com/rserpool/coredns-rserpool/registrar/internal/deadline"
	"github.com/rserpool/coredns-rserpool/registrar/internal/ledger"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

type timer = deadline.Timer[*Registrar]

// Registrar is the state machine. Its methods are for one goroutine at a time. The
// handlespace that Space returns is for any number of readers.
type Registrar struct {
	id    rserpool.ServerID
	cfg   Config
	rand  *rand.Rand
	space *handlespace.Space

	now     time.Time
	stopped bool
	timers  deadline.Queue[*Registrar]
	refs    uint64 // the last Ref of a Connect
	actions []Action
	sends   []Send // where the Send actions live
	sent    []byte // and their data

	assocs    map[AssocID]*assoc
	byPrimary map[peerKey]*assoc
	ledger    *ledger.Ledger[note]
	roster    *roster // the own elements
	watched   map[rserpool.PoolHandle]*watched
	subs      int
	updates   bucket // bytes of automatic updates
	probing   int    // probes that are not over
	held      int    // registrations that wait for an address: see held

	guard     guard
	intervals intervals // of own elements
	doubles   doubles
	rush      rush
	memory    memory
	asks      slots  // of keep-alives
	repeats   slots  // of their repeats
	wakes     bucket // of those that wake sends
	rally     rally
	settling  settling
	review    review
	probes    probes
	inquiries inquiries
	peers     peerList
	start     start
	restored  restored
	keeping   []*entry // that the host may have to keep
	keepAll   keepAll
	places    places
	announce  announcer
	discovery discovery
	log       logger
	poolNews  poolNews
	stats     Stats

	// Memory that all events use.
	buf        []byte
	selected   []handlespace.Selected
	element    rserpool.PoolElement
	resolution asap.HandleResolution
	known      func([]byte) rserpool.PoolHandle // ledger.Handle
}

// New returns a registrar with an empty handlespace.
func New(cfg Config) (*Registrar, error) {
	cfg, err := cfg.Complete()
	if err != nil {
		return nil, err
	}
	r := &Registrar{
		id:        cfg.ServerID,
		cfg:       cfg,
		rand:      cfg.Rand,
		assocs:    make(map[AssocID]*assoc),
		byPrimary: make(map[peerKey]*assoc),
		watched:   make(map[rserpool.PoolHandle]*watched),
	}
	for r.id == 0 { // 0 means "undetermined" (RFC 5353, Section 2.1)
		r.id = rserpool.ServerID(r.rand.Uint32())
	}
	r.probes.connecting, r.probes.resting = make(map[uint64]*probe), make(probesAt)
	r.inquiries = inquiries{make(map[inquiryKey]*inquiry), make(map[uint64]*inquiry)}
	r.settling.dark = make(map[rserpool.PoolHandle]bool)
	r.start.running = len(cfg.Peers) > 0 || cfg.Discover
	r.peers.byID = make(map[rserpool.ServerID]*peer)
	r.peers.connecting = make(map[uint64]*connector)
	r.space = handlespace.New(r.rand)
	l := &cfg.Limits
	r.ledger = ledger.New[note](r.space, ledger.Limits{Pools: l.Pools, Elements: l.Elements, HandleBytes: l.HandleBytes, ElementBytes: l.ElementBytes, Alike: maxAlike})
	r.ledger.Check = r.excluded
	r.ledger.Guard = func(h rserpool.PoolHandle) ledger.GuardRule {
		g := r.cfg.Rules.of(h).Guard
		return ledger.GuardRule{Off: g.Off, Share: g.Share}
	}
	r.roster, r.known = ledger.NewRoster[note](r.id), r.ledger.Handle
	r.ledger.New = func(of *roster) *entry { return r.memory.newEntry(of == r.roster) }
	return r, nil
}

// ID is the registrar's server identifier.
func (r *Registrar) ID() rserpool.ServerID { return r.id }

// Space is the handlespace. Only Handle changes it; any goroutine may read it.
func (r *Registrar) Space() *handlespace.Space { return r.space }

// Stats returns the counters so far.
func (r *Registrar) Stats() Stats {
	s := r.stats
	pools, elements := r.space.Len() // those that are set aside are not in it
	s.Pools, s.Elements = uint64(pools), uint64(elements)
	s.Subscriptions = uint64(r.subs)
	s.Probing = uint64(r.probing)
	s.ServersHeard = uint64(len(r.announce.heard))
	s.Misfits = uint64(r.ledger.Aside())
	s.Own = uint64(r.roster.LenAll())
	s.Suspects, s.PoolsGuarded = uint64(r.ledger.Suspects()), uint64(r.ledger.GuardedPools())
	s.Spared = uint64(r.guard.spares)
	if r.guard.on {
		s.Guarded = 1
	}
	s.Unconfirmed = uint64(r.roster.LenOf(ledger.Unconfirmed))
	for _, p := range r.peers.list {
		s.Peers[p.state]++
		s.Foreign += uint64(p.roster.LenAll())
	}
	return s
}

// maxSentKept is how much memory for messages is kept from event to event.
const maxSentKept = 256 << 10

// maxTimersPerTick bounds the work and the actions of one Tick.
const maxTimersPerTick = 256

// NextDeadline returns when the next Tick is due; false if none is. It may be in the
// past.
func (r *Registrar) NextDeadline() (time.Time, bool) {
	t := r.timers.First()
	if t == nil || r.stopped {
		return time.Time{}, false
	}
	return r.timers.At(t), true
}

// Handle handles an event that has happened at the time now, and returns what the host
// has to do. The actions are valid until the next call. If now is earlier than before,
// the time stands still.
func (r *Registrar) Handle(now time.Time, ev Event) []Action {
	if now.After(r.now) {
		r.now = now
	}
	clear(r.actions)
	clear(r.sends)
	r.actions, r.sends, r.sent = r.actions[:0], r.sends[:0], r.sent[:0]
	if cap(r.sent) > maxSentKept {
		r.sent = nil
	}
	if r.stopped {
		return nil
	}
	switch ev := ev.(type) {
	case AssocUp:
		r.onAssocUp(ev)
	case AssocAddrs:
		r.onAssocAddrs(ev)
	case Unsent:
		r.onUnsent(ev)
	case AssocDone:
		r.act(Close{Assoc: ev.Assoc}) // all requests have had their responses
	case AssocDown:
		r.onAssocDown(ev)
	case Received:
		r.onReceived(ev)
	case SendFailed:
		r.onSendFailed(ev)
	case Connecting:
		r.onConnecting(ev)
	case Announced:
		r.onAnnounced(ev)
	case Serving:
		r.onServing(ev)
	case Addresses:
		r.onAddresses(ev)
	case Tick:
		r.onTick(ev.Until)
	case Rules:
		r.onRules(ev)
	case Trust:
		r.onTrust(ev)
	case Restore:
		r.onRestore(ev)
	case KeepAll:
		r.onKeepAll(ev)
	case Remove:
		r.onRemove(ev)
	case Stop:
		r.onStop()
	}
	if r.guard.on {
		r.watchGuard()
	}
	r.keepNow()
	return r.actions
}

func (r *Registrar) onTick(until time.Time) {
	if until.IsZero() || until.After(r.now) {
		until = r.now
	}
	for range maxTimersPerTick {
		t, owner := r.timers.Next(until)
		if t == nil {
			return
		}
		owner.Due(r, t)
	}
}

func (r *Registrar) onStop() {
	for _, id := range slices.Sorted(maps.Keys(r.assocs)) {
		r.act(Close{Assoc: id})
	}
	r.stopped = true
}

func (r *Registrar) act(a Action) { r.actions = append(r.actions, a) }
