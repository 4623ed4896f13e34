package pe

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/session"
	"github.com/rserpool/coredns-rserpool/internal/session/carrier"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Listener is a registered element that accepts the sessions of pool users. [Listen] makes
// one; the zero value cannot be used. Its methods may be called from any goroutine.
type Listener struct {
	cfg     ListenConfig
	session *session.ElementConfig
	carrier *carrier.Carrier
	element *Element
	local   []netip.AddrPort
	// The service's, without addresses.
	transport rserpool.Transport
	encapPort uint16
	waiting   chan struct{} // has a token if there may be a session in backlog
	closing   chan struct{} // closed by Close
	leaving   chan struct{} // closed by Leave and Close
	once      sync.Once
	err       error // of Close

	mu       sync.Mutex
	sessions map[*Session]struct{}
	// taken is how many sessions take a place: those that have not ended, that wait in
	// backlog, and whose Handler runs; hosts has the same by the users' addresses.
	taken   int
	hosts   map[netip.Addr]int
	backlog []*Session // that wait for Accept, the oldest first
	refused uint64
	will    []rserpool.PoolElement // recommended; none: the card names this element
	willed  bool                   // by Recommend
	left    bool                   // leaving is closed
	empty   chan struct{}          // closed when there is no session; nil: nobody waits
}

func newListener(cfg ListenConfig, c *session.ElementConfig) *Listener {
	return &Listener{
		cfg: cfg, session: c,
		waiting:  make(chan struct{}, 1),
		closing:  make(chan struct{}),
		leaving:  make(chan struct{}),
		sessions: make(map[*Session]struct{}),
		hosts:    make(map[netip.Addr]int),
	}
}

// accept makes the session of a new association, or refuses it with nil.
func (l *Listener) accept(a *carrier.Assoc, up sctp.Event) carrier.Handler {
	host := up.Peer[0].Addr().Unmap()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.left || l.backlogFull(host) || l.taken >= l.cfg.MaxSessions || l.hosts[host] >= l.cfg.MaxSessionsPerHost {
		l.refused++
		return nil
	}
	card, err := l.encodeCard(l.will)
	if err != nil {
		card = nil // the element has no address yet
	}
	s := &Session{
		l: l, assoc: a, host: host, identity: up.Identity, notify: l.cfg.NotifySession,
		readable: make(chan struct{}, 1), writable: make(chan struct{}, 1), came: make(chan struct{}), done: make(chan struct{}),
		core: session.NewElement(l.session, card),
	}
	l.backlog = append(l.backlog, s)
	signal(l.waiting)
	l.sessions[s] = struct{}{}
	l.hold(s) // until it is taken from backlog
	l.hold(s) // until it has ended
	l.tellLoad()
	return s.handle
}

// backlogFull reports whether the next session of a host would wait behind too many, or
// behind too many of the same host. l.mu is held.
func (l *Listener) backlogFull(host netip.Addr) bool {
	if len(l.backlog) >= l.cfg.Backlog {
		return true
	}
	most := (l.cfg.Backlog + 1) / 2
	if len(l.backlog) < most {
		return false
	}
	n := 0
	for _, s := range l.backlog {
		if s.host == host {
			n++
		}
	}
	return n >= most
}

// remove forgets a session that has ended.
func (l *Listener) remove(s *Session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.sessions, s)
	if i := slices.Index(l.backlog, s); i >= 0 && !s.waits() { // otherwise the application gets what the user has left
		l.backlog = slices.Delete(l.backlog, i, i+1)
		l.release(s)
	}
	l.release(s)
	if l.empty != nil && len(l.sessions) == 0 {
		close(l.empty)
		l.empty = nil
	}
	l.tellLoad()
}

// hold has a session take a place until release. l.mu is held.
func (l *Listener) hold(s *Session) {
	if s.holds++; s.holds == 1 {
		l.taken++
		l.hosts[s.host]++
	}
}

// release undoes a hold. l.mu is held.
func (l *Listener) release(s *Session) {
	if s.holds--; s.holds > 0 {
		return
	}
	l.taken--
	if l.hosts[s.host]--; l.hosts[s.host] == 0 {
		delete(l.hosts, s.host)
	}
}

// tellLoad tells the pool how many sessions there are. l.mu is held.
func (l *Listener) tellLoad() {
	if l.cfg.Capacity == 0 || l.left {
		return
	}
	l.element.change(func() { l.element.policy.Load = load(len(l.sessions), l.cfg.Capacity) })
}

// Accept waits for the next session. The error is that of ctx, [rserpool.ErrClosed] after
// Leave and Close, or a *RejectedError if a registrar refuses the element.
func (l *Listener) Accept(ctx context.Context) (*Session, error) {
	for {
		if s := l.take(); s != nil {
			return s, nil
		}
		select {
		case <-l.waiting:
		case <-l.leaving:
			return nil, rserpool.ErrClosed
		case <-l.element.Done():
			return nil, cmp.Or(l.element.Err(), rserpool.ErrClosed)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// take returns the oldest session that waits, nil if there is none.
func (l *Listener) take() *Session {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.backlog) == 0 {
		return nil
	}
	s := l.backlog[0]
	l.backlog[0] = nil
	l.backlog = l.backlog[1:]
	l.release(s)
	if len(l.backlog) > 0 {
		signal(l.waiting) // for another one that waits
	} else {
		l.backlog = nil
	}
	return s
}

// waits reports whether the session has messages that were not received yet.
func (s *Session) waits() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.core.Readable()
}

// Element returns the registered element.
func (l *Listener) Element() *Element { return l.element }

// LocalAddrs returns the addresses that the service listens on, with its SCTP port.
func (l *Listener) LocalAddrs() []netip.AddrPort { return slices.Clone(l.local) }

// Sessions returns how many sessions there are, and how many were refused because of a
// limit or because the element was leaving.
func (l *Listener) Sessions() (now int, refused uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.sessions), l.refused
}

// Recommend names the elements of the pool to which users shall fail over if this one
// fails, in order: its last will. All users get a new business card, as far as Cards
// allows. Only identifiers and user transports are sent. Without elements, the card names
// this element, and the pool's policy decides where to fail over. It is an error if the elements do not fit into a card.
func (l *Listener) Recommend(elements []rserpool.PoolElement) error {
	if err := l.setCard(elements); err != nil {
		return err
	}
	l.mu.Lock()
	l.willed = true
	l.mu.Unlock()
	return nil
}

// setCard replaces the business card.
func (l *Listener) setCard(elements []rserpool.PoolElement) error {
	elements = slices.Clone(elements)
	for i := range elements {
		elements[i] = elements[i].Clone()
	}
	card, err := l.encodeCard(elements)
	if err != nil {
		return err
	}
	l.mu.Lock()
	l.will = elements
	all := l.list()
	l.mu.Unlock()
	for _, s := range all {
		s.setCard(card)
	}
	return nil
}

// encodeCard makes the bytes of a business card, nil if none is ever sent.
func (l *Listener) encodeCard(elements []rserpool.PoolElement) ([]byte, error) {
	if l.cfg.Cards == CardsNever {
		return nil, nil
	}
	card := asap.BusinessCard{Handle: l.cfg.Pool}
	if len(elements) == 0 {
		elements = []rserpool.PoolElement{l.self()}
	}
	for i := range elements {
		e := &elements[i]
		card.Elements = append(card.Elements, rserpool.PoolElement{ID: e.ID, UserTransport: e.UserTransport, UserEncapPort: e.UserEncapPort})
	}
	return card.Append(nil)
}

// self is this element, as it is registered.
func (l *Listener) self() rserpool.PoolElement {
	s := l.element.State()
	e := rserpool.PoolElement{ID: s.ID, UserTransport: l.transport, UserEncapPort: l.encapPort}
	e.UserTransport.Addrs = s.Addrs
	return e
}

// list returns the sessions. l.mu is held.
func (l *Listener) list() []*Session {
	all := make([]*Session, 0, len(l.sessions))
	for s := range l.sessions {
		all = append(all, s)
	}
	return all
}

// Leaving is closed when Leave or Close is called: the application should end its sessions
// as soon as their work allows.
func (l *Listener) Leaving() <-chan struct{} { return l.leaving }

// begin begins the end: no session is accepted any more, and the element is deregistered.
func (l *Listener) begin() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.left {
		l.left = true
		close(l.leaving)
		l.element.leave()
	}
}

// Close deregisters the element, ends all sessions, for which it takes CloseTime and
// Timers.Stop at most, and closes the sockets. It returns what [Element.Close] returns. It
// may be called more than once.
func (l *Listener) Close() error {
	l.once.Do(func() {
		close(l.closing)
		l.begin()
		l.endSessions()
		l.err = errors.Join(l.element.Close(), l.carrier.Close())
	})
	return l.err
}

// endSessions ends all sessions in good order. They do so within CloseTime.
func (l *Listener) endSessions() {
	l.mu.Lock()
	all, ended := l.list(), l.whenEmpty()
	l.mu.Unlock()
	for _, s := range all {
		_ = s.Close()
	}
	<-ended
}

// whenEmpty returns a channel that is closed when there is no session. l.mu is held.
func (l *Listener) whenEmpty() <-chan struct{} {
	if l.empty == nil {
		l.empty = make(chan struct{})
	}
	c := l.empty
	if len(l.sessions) == 0 {
		close(c)
		l.empty = nil
	}
	return c
}
