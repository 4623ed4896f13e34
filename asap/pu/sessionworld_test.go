package pu

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// world is a registrar with a pool of elements, and a user, on a network in memory.
type world struct {
	t        testing.TB
	nw       *sctptest.Network
	u        *User
	registry sctp.Endpoint

	mu          sync.Mutex
	elements    []*server // in the order of the registrar's answers
	resolutions int
	reports     []rserpool.PEID
	calls       int                    // associations of users with the registrar
	absent      map[rserpool.PEID]bool // not named by the registrar
	subscribers map[sctp.AssocID]bool
}

// server is an element. It answers a message with the same, and "count" with the number of
// messages since its state began: it sends the count as cookie after each answer.
type server struct {
	w  *world
	id rserpool.PEID
	at netip.AddrPort
	ep sctp.Endpoint

	mu     sync.Mutex
	counts map[sctp.AssocID]int
	assocs []sctp.AssocID
	ups    int      // associations that have come up
	log    []string // what it got
	silent bool
	freeze bool // as soon as a user has an association with it
	card   []rserpool.PEID
}

func newWorld(t testing.TB, n int) *world {
	t.Helper()
	w := &world{t: t, nw: sctptest.NewNetwork(), subscribers: map[sctp.AssocID]bool{}}
	w.mu.Lock()
	w.registry = w.listen("10.0.0.1:3863", w.handle)
	w.mu.Unlock()
	for i := range n {
		w.addElement(rserpool.PEID(i + 1))
	}
	w.u = w.open(Config{})
	return w
}

func (w *world) open(cfg Config) *User {
	w.t.Helper()
	cfg.Registrars = []string{"10.0.0.1"}
	if cfg.Local == nil {
		cfg.Local = []netip.AddrPort{netip.MustParseAddrPort("10.0.0.21:0")}
	}
	cfg.listen = func(lc sctp.ListenConfig, h sctp.Handler) (sctp.Endpoint, error) {
		return w.nw.Listen(lc, func(ev sctp.Event) {
			if ev.Type == sctp.Up {
				w.freezeAt(ev.Peer[0])
			}
			h(ev)
		})
	}
	u, err := Open(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	return u
}

// close closes everything.
func (w *world) close() {
	w.t.Helper()
	if err := w.u.Close(); err != nil {
		w.t.Error(err)
	}
	for _, e := range w.elements {
		e.ep.Close()
	}
	w.registry.Close()
}

func (w *world) listen(at string, h sctp.Handler) sctp.Endpoint {
	w.t.Helper()
	ep, err := w.nw.Listen(sctp.ListenConfig{Addrs: []netip.AddrPort{netip.MustParseAddrPort(at)}}, h)
	if err != nil {
		w.t.Fatal(err)
	}
	return ep
}

// freezeAt freezes the element at an address if it is to be frozen, before the user sends
// anything.
func (w *world) freezeAt(at netip.AddrPort) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.elements {
		if e.freeze && e.at == at {
			w.nw.Freeze(e.ep)
		}
	}
}

// handle is the registrar.
func (w *world) handle(ev sctp.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch ev.Type {
	case sctp.Up:
		w.calls++
	case sctp.Received:
		m, _, err := asap.Parse(ev.Message.Data)
		if err != nil {
			w.t.Errorf("the registrar gets an unfit message: %v", err)
			return
		}
		switch m := m.(type) {
		case *asap.HandleResolution:
			w.resolutions++
			if m.Subscribe {
				w.subscribers[ev.Assoc] = true
			}
			data, err := w.answer(m).Append(nil)
			if err != nil {
				w.t.Error(err)
			}
			_ = w.registry.Send(ev.Assoc, sctp.Message{Data: data, PPID: asap.PPID})
		case *asap.EndpointUnreachable:
			w.reports = append(w.reports, m.ID)
		}
	}
}

func (w *world) answer(m *asap.HandleResolution) asap.Message {
	r := &asap.HandleResolutionResponse{Handle: m.Handle, Accept: m.Subscribe}
	for _, e := range w.elements {
		if !w.absent[e.id] {
			r.Elements = append(r.Elements, e.entry())
		}
	}
	if m.Handle != testPool || len(r.Elements) == 0 {
		return negative(rserpool.CauseUnknownPoolHandle)
	}
	return r
}

func (w *world) addElement(id rserpool.PEID) *server {
	w.t.Helper()
	e := &server{w: w, id: id, at: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 1, byte(id)}), 5001)}
	e.start()
	w.mu.Lock()
	w.elements = append(w.elements, e)
	w.mu.Unlock()
	return e
}

func (e *server) start() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.counts, e.assocs = make(map[sctp.AssocID]int), nil
	e.ep = e.w.listen(e.at.String(), e.handle)
}

func (e *server) entry() rserpool.PoolElement {
	return rserpool.PoolElement{
		ID: e.id, Policy: rserpool.Policy{Type: rserpool.RoundRobin},
		UserTransport: rserpool.Transport{Type: rserpool.SCTP, Use: rserpool.DataPlusControl, Port: e.at.Port(), Addrs: []netip.Addr{e.at.Addr()}},
	}
}

func (e *server) handle(ev sctp.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch ev.Type {
	case sctp.Up:
		e.assocs = append(e.assocs, ev.Assoc)
		e.ups++
		if e.card != nil {
			e.control(ev.Assoc, e.w.cardOf(e.card))
		}
	case sctp.Received:
		e.received(ev.Assoc, ev.Message)
	case sctp.Down:
		e.assocs = slices.DeleteFunc(e.assocs, func(a sctp.AssocID) bool { return a == ev.Assoc })
	}
}

// cardOf is the business card with these elements.
func (w *world) cardOf(ids []rserpool.PEID) *asap.BusinessCard {
	card := &asap.BusinessCard{Handle: testPool}
	for _, id := range ids {
		card.Elements = append(card.Elements, w.element(id).entry())
	}
	return card
}

func (w *world) element(id rserpool.PEID) *server {
	for _, e := range w.elements {
		if e.id == id {
			return e
		}
	}
	w.t.Fatalf("no element %v", id)
	return nil
}

func (e *server) received(a sctp.AssocID, m sctp.Message) {
	if m.PPID == asap.PPID {
		x, _, err := asap.Parse(m.Data)
		if err != nil {
			e.w.t.Error(err)
			return
		}
		switch x := x.(type) {
		case *asap.CookieEcho:
			e.log = append(e.log, "ECHO "+string(x.Cookie))
			_, _ = fmt.Sscan(strings.TrimPrefix(string(x.Cookie), "n="), ptr(e.counts, a))
		case *asap.BusinessCard:
			e.log = append(e.log, "CARD "+string(x.Handle))
		case *asap.Error:
			e.log = append(e.log, "ERROR")
		}
		return
	}
	e.log = append(e.log, string(m.Data))
	if e.silent {
		return
	}
	e.counts[a]++
	answer := m.Data
	if string(m.Data) == "count" {
		answer = fmt.Appendf(nil, "%d", e.counts[a])
	}
	_ = e.ep.Send(a, sctp.Message{Data: answer, PPID: m.PPID, Stream: m.Stream})
	e.control(a, &asap.Cookie{Cookie: fmt.Appendf(nil, "n=%d", e.counts[a])})
}

// ptr has Sscan write into a map.
func ptr(m map[sctp.AssocID]int, a sctp.AssocID) *intoMap { return &intoMap{m, a} }

type intoMap struct {
	m map[sctp.AssocID]int
	a sctp.AssocID
}

func (p *intoMap) Scan(s fmt.ScanState, _ rune) error {
	var n int
	_, err := fmt.Fscan(s, &n)
	p.m[p.a] = n
	return err
}

func (e *server) control(a sctp.AssocID, m asap.Message) {
	data, err := m.Append(nil)
	if err != nil {
		e.w.t.Error(err)
		return
	}
	_ = e.ep.Send(a, sctp.Message{Data: data, PPID: asap.PPID})
}

// got returns what the element got, and forgets it.
func (e *server) got() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := strings.Join(e.log, "; ")
	e.log = nil
	return s
}

// kill ends an element as kill -9 does.
func (w *world) kill(id rserpool.PEID) { w.nw.Kill(w.element(id).ep) }

// serving is the element that serves a session.
func (w *world) serving(s *Session) *server {
	w.t.Helper()
	e, ok := s.Element()
	if !ok {
		w.t.Fatal("no element serves the session")
	}
	return w.element(e.ID)
}
