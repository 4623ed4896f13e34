package sim

import (
	"net/netip"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/registrar"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// reference is a model of what the reference implementation is seen to do, where
// that is not what we do:
//
//   - of two that want to take a registrar over the one with the smaller
//     identifier wins, which waits for the other one's agreement for ever;
//   - it does not announce a takeover; its peers find the elements' new home
//     in audits;
//   - a registrar that gives way, or that has no other peer than the dead one,
//     forgets the dead one, and keeps and hands out its elements;
//   - a pool element whose association ends is gone at once;
//   - it takes elements from every peer that names them.
//
// It finds a registrar dead when we do, so that both often begin at once.
type reference struct {
	s     *Sim
	h     *host
	seeds []netip.AddrPort
	id    rserpool.ServerID

	ready    bool
	mentor   rserpool.ServerID
	peers    []*referencePeer
	elements []*referenceElement
	called   map[registrar.AssocID]netip.AddrPort // calls of registrars, and their associations
	adopting map[registrar.AssocID]*referenceElement
}

type referencePeer struct {
	id      rserpool.ServerID
	assoc   registrar.AssocID
	addr    netip.AddrPort
	last    time.Duration
	asked   time.Duration       // for a sign of life, 0 if not
	audited bool                // has been asked for its own elements
	waits   []rserpool.ServerID // those that have not agreed to its takeover
	begun   bool                // the takeover
}

type referenceElement struct {
	pool  rserpool.PoolHandle
	pe    rserpool.PoolElement
	assoc registrar.AssocID // of one of its own
	turn  int               // grows with each keep-alive, answer and registration
	named bool              // in an audit
}

func (s *Sim) newReferenceHost(addr netip.Addr, seeds []netip.AddrPort) *host {
	h := s.net.newHost(addr, nil, 0)
	h.start = func() {
		if h.proc == nil {
			s.bootReference(h, seeds)
		}
	}
	return h
}

func (s *Sim) bootReference(h *host, seeds []netip.AddrPort) {
	r := &reference{
		s: s, h: h, seeds: seeds, id: rserpool.ServerID(s.net.rand.Uint32() | 1),
		called: make(map[registrar.AssocID]netip.AddrPort), adopting: make(map[registrar.AssocID]*referenceElement),
	}
	h.begin(r)
	s.ids[r.id], s.references[r.id] = true, true
	s.trace("%v boots as %v, a reference", h, r.id)
	h.after(2*s.cfg.Timers.MaxTimeNoResponse, func() { r.ready = true })
	r.beat()
	r.look()
}

func (r *reference) serverID() rserpool.ServerID { return r.id }

// beat says that it is there, again and again.
func (r *reference) beat() {
	r.tellAll(r.presence(false))
	r.h.after(r.s.cfg.Timers.PeerHeartbeat, r.beat)
}

// look connects to the peers without an association, and looks for dead ones.
func (r *reference) look() {
	for _, addr := range r.seeds {
		r.call(addr)
	}
	for _, p := range slices.Clone(r.peers) {
		if p.assoc == 0 {
			r.call(p.addr)
		}
		if p.asked == 0 && r.s.net.now > p.last+r.s.cfg.Timers.MaxTimeLastHeard {
			p.asked = r.s.net.now
			r.say(p.assoc, r.presence(true))
		}
		r.check(p)
	}
	r.h.after(500*time.Millisecond, r.look)
}

// check takes over a peer that has not answered in time.
func (r *reference) check(p *referencePeer) {
	if p.asked != 0 && !p.begun && r.s.net.now >= p.asked+r.s.cfg.Timers.MaxTimeNoResponse && r.peer(p.id) == p {
		r.bury(p)
	}
}

func (r *reference) call(addr netip.AddrPort) {
	if !addr.IsValid() {
		return
	}
	for _, a := range r.called {
		if a == addr {
			return
		}
	}
	if slices.ContainsFunc(r.peers, func(p *referencePeer) bool { return p.assoc != 0 && p.addr == addr }) {
		return
	}
	r.called[r.h.connect(enrpPort, addr)] = addr
}

func (r *reference) handle(ev registrar.Event) {
	switch ev := ev.(type) {
	case registrar.AssocUp:
		if e := r.adopting[ev.Assoc]; e != nil {
			delete(r.adopting, ev.Assoc)
			if e.pe.Home == r.id && e.assoc == 0 {
				e.assoc = ev.Assoc
				r.ask(e, true)
			}
		} else if _, ours := r.called[ev.Assoc]; ours {
			r.say(ev.Assoc, r.presence(true))
		}
	case registrar.AssocDown:
		r.onDown(ev.Assoc)
	case registrar.Received:
		if ev.PPID == enrp.PPID {
			if m, _, err := enrp.Parse(ev.Data); err == nil {
				r.onENRP(ev.Assoc, m)
			}
		} else if m, _, err := asap.Parse(ev.Data); err == nil {
			r.onASAP(ev.Assoc, m)
		}
	}
}

func (r *reference) onDown(a registrar.AssocID) {
	delete(r.called, a)
	for _, p := range r.peers {
		if p.assoc == a {
			p.assoc, p.asked = 0, r.s.net.now
			r.h.after(r.s.cfg.Timers.MaxTimeNoResponse, func() { r.check(p) })
		}
	}
	for _, e := range slices.Clone(r.elements) {
		if e.pe.Home == r.id && (e.assoc == a || e.assoc == 0 && r.adopting[a] == e) {
			r.lose(e)
		}
	}
	delete(r.adopting, a)
}

// ask wants a sign of life from an element.
func (r *reference) ask(e *referenceElement, home bool) {
	r.sayASAP(e.assoc, &asap.EndpointKeepAlive{Home: home, Server: r.id, Handle: e.pool, ID: e.pe.ID, HasID: true})
	r.turn(e, r.s.cfg.Timers.KeepAliveTimeout, r.lose)
}

// turn does something about an element of its own some time later, unless it is
// heard of before.
func (r *reference) turn(e *referenceElement, after time.Duration, do func(*referenceElement)) {
	e.turn++
	n := e.turn
	r.h.after(after, func() {
		if e.turn == n && e.pe.Home == r.id {
			do(e)
		}
	})
}

func (r *reference) supervise(e *referenceElement) {
	r.turn(e, r.s.cfg.Timers.KeepAliveInterval, func(e *referenceElement) { r.ask(e, false) })
}

// lose removes an element of its own.
func (r *reference) lose(e *referenceElement) {
	r.remove(e)
	r.tellAll(&enrp.HandleUpdate{Sender: r.id, Action: enrp.DelPE, Handle: e.pool, Element: e.pe})
}

func (r *reference) remove(e *referenceElement) {
	e.turn++
	r.elements = slices.DeleteFunc(r.elements, func(x *referenceElement) bool { return x == e })
}

func (r *reference) find(h rserpool.PoolHandle, id rserpool.PEID) *referenceElement {
	i := slices.IndexFunc(r.elements, func(e *referenceElement) bool { return e.pool == h && e.pe.ID == id })
	if i < 0 {
		return nil
	}
	return r.elements[i]
}

func (r *reference) onASAP(a registrar.AssocID, m asap.Message) {
	switch m := m.(type) {
	case *asap.Registration:
		end := r.h.find(a)
		if end == nil {
			return
		}
		e := r.find(m.Handle, m.Element.ID)
		if e == nil {
			e = &referenceElement{pool: m.Handle}
			r.elements = append(r.elements, e)
		}
		e.pe, e.assoc = m.Element, a
		e.pe.Home = r.id
		e.pe.ASAPTransport = rserpool.Transport{Type: rserpool.SCTP, Port: end.peer.port, Addrs: []netip.Addr{end.peer.h.addr}}
		r.tellAll(&enrp.HandleUpdate{Sender: r.id, Handle: e.pool, Element: e.pe})
		r.sayASAP(a, &asap.RegistrationResponse{Handle: e.pool, ID: e.pe.ID})
		r.supervise(e)
	case *asap.Deregistration:
		if e := r.find(m.Handle, m.ID); e != nil {
			r.lose(e)
		}
		r.sayASAP(a, &asap.DeregistrationResponse{Handle: m.Handle, ID: m.ID})
	case *asap.EndpointKeepAliveAck:
		if e := r.find(m.Handle, m.ID); e != nil && e.assoc == a && e.pe.Home == r.id {
			r.supervise(e)
		}
	}
}

// adopt becomes an element's home.
func (r *reference) adopt(e *referenceElement) {
	e.pe.Home, e.assoc = r.id, 0
	t := &e.pe.ASAPTransport
	r.adopting[r.h.connect(asapPort, netip.AddrPortFrom(t.Addrs[0], t.Port))] = e
}

// put takes what a peer says of an element.
func (r *reference) put(h rserpool.PoolHandle, pe rserpool.PoolElement, home rserpool.ServerID) *referenceElement {
	e := r.find(h, pe.ID)
	if pe.Home != 0 {
		home = pe.Home
	}
	switch {
	case e == nil:
		e = &referenceElement{pool: h}
		r.elements = append(r.elements, e)
	case e.pe.Home == r.id && home == r.id:
		return e
	}
	e.turn++
	e.pe, e.assoc = pe, 0
	e.pe.Home = home
	if home == r.id {
		r.adopt(e)
	}
	return e
}

func (r *reference) presence(reply bool) *enrp.Presence {
	return &enrp.Presence{
		Sender: r.id, ReplyRequired: reply, Checksum: r.checksum(r.id), HasChecksum: true,
		Info: rserpool.ServerInformation{ID: r.id, Transport: rserpool.Transport{Type: rserpool.SCTP, Port: enrpPort, Addrs: []netip.Addr{r.h.addr}}},
	}
}

func (r *reference) checksum(home rserpool.ServerID) uint16 {
	var sum enrp.Checksum
	for _, e := range r.elements {
		if e.pe.Home == home {
			sum.Add(e.pool, e.pe.ID)
		}
	}
	return sum.Value()
}

func (r *reference) peer(id rserpool.ServerID) *referencePeer {
	i := slices.IndexFunc(r.peers, func(p *referencePeer) bool { return p.id == id })
	if i < 0 {
		return nil
	}
	return r.peers[i]
}

func (r *reference) onENRP(a registrar.AssocID, m enrp.Message) {
	id, _ := m.IDs()
	if id == 0 || id == r.id {
		return
	}
	p := r.peer(id)
	if p == nil {
		p = &referencePeer{id: id, assoc: a}
		r.peers = append(r.peers, p)
		r.say(a, r.presence(true))
		r.say(a, &enrp.ListRequest{Sender: r.id, Receiver: id})
		if r.mentor == 0 && !r.ready {
			r.mentor = id
			r.say(a, &enrp.HandleTableRequest{Sender: r.id, Receiver: id})
		}
	}
	if p.assoc == 0 {
		p.assoc = a
	}
	p.last, p.asked, p.begun, p.waits = r.s.net.now, 0, false, nil
	r.onMessage(p, a, m)
}

func (r *reference) onMessage(p *referencePeer, a registrar.AssocID, m enrp.Message) {
	switch m := m.(type) {
	case *enrp.Presence:
		if len(m.Info.Transport.Addrs) > 0 {
			p.addr = netip.AddrPortFrom(m.Info.Transport.Addrs[0], m.Info.Transport.Port)
		}
		if m.ReplyRequired {
			r.say(a, r.presence(false))
		}
		if r.ready && m.HasChecksum && !p.audited && !enrp.ChecksumsMatch(m.Checksum, r.checksum(p.id)) {
			p.audited = true
			r.h.after(r.s.cfg.Timers.MaxTimeNoResponse, func() { p.audited = false })
			r.say(a, &enrp.HandleTableRequest{Sender: r.id, Receiver: p.id, OwnChildrenOnly: true})
		}
	case *enrp.ListRequest:
		r.onListRequest(p, a)
	case *enrp.ListResponse:
		for _, s := range m.Servers {
			if s.ID != 0 && s.ID != r.id && r.peer(s.ID) == nil && len(s.Transport.Addrs) > 0 {
				r.call(netip.AddrPortFrom(s.Transport.Addrs[0], s.Transport.Port))
			}
		}
	case *enrp.HandleTableRequest:
		r.onTableRequest(p, a, m)
	case *enrp.HandleTableResponse:
		r.onTable(p, a, m)
	case *enrp.HandleUpdate:
		if m.Action == enrp.AddPE {
			r.put(m.Handle, m.Element, p.id)
		} else if e := r.find(m.Handle, m.Element.ID); e != nil && e.pe.Home != r.id {
			r.remove(e)
		}
	case *enrp.InitTakeover:
		r.onInitTakeover(p, a, m)
	case *enrp.InitTakeoverAck:
		if t := r.peer(m.Target); t != nil && t.begun {
			r.agreed(t, p.id)
		}
	}
}

func (r *reference) onListRequest(p *referencePeer, a registrar.AssocID) {
	m := &enrp.ListResponse{Sender: r.id, Receiver: p.id}
	for _, q := range r.peers {
		if q.addr.IsValid() {
			m.Servers = append(m.Servers, rserpool.ServerInformation{ID: q.id, Transport: rserpool.Transport{
				Type: rserpool.SCTP, Port: q.addr.Port(), Addrs: []netip.Addr{q.addr.Addr()},
			}})
		}
	}
	r.say(a, m)
}

func (r *reference) onTableRequest(p *referencePeer, a registrar.AssocID, m *enrp.HandleTableRequest) {
	t := &enrp.HandleTableResponse{Sender: r.id, Receiver: p.id, Reject: !r.ready}
	for _, e := range r.elements {
		if r.ready && (!m.OwnChildrenOnly || e.pe.Home == r.id) {
			t.Pools = append(t.Pools, enrp.PoolEntry{Handle: e.pool, Elements: []rserpool.PoolElement{e.pe}})
		}
	}
	r.say(a, t)
}

func (r *reference) onTable(p *referencePeer, a registrar.AssocID, m *enrp.HandleTableResponse) {
	for _, pool := range m.Pools {
		for _, pe := range pool.Elements {
			r.put(pool.Handle, pe, p.id).named = true
		}
	}
	switch {
	case m.More:
		r.say(a, &enrp.HandleTableRequest{Sender: r.id, Receiver: p.id, OwnChildrenOnly: p.audited})
		return
	case !m.Reject && p.audited:
		for _, e := range slices.Clone(r.elements) {
			if e.pe.Home == p.id && !e.named {
				r.remove(e)
			}
		}
	case !m.Reject:
		r.ready = true
	}
	p.audited = false
	for _, e := range r.elements {
		e.named = false
	}
}

func (r *reference) onInitTakeover(p *referencePeer, a registrar.AssocID, m *enrp.InitTakeover) {
	if m.Target == r.id {
		r.tellAll(r.presence(false))
		return
	}
	if t := r.peer(m.Target); t != nil {
		if t.begun && r.id < p.id {
			return
		}
		r.forget(t)
	}
	r.say(a, &enrp.InitTakeoverAck{Sender: r.id, Receiver: p.id, Target: m.Target})
}

// bury begins to take a dead registrar over.
func (r *reference) bury(p *referencePeer) {
	for _, q := range r.peers {
		if q != p && q.assoc != 0 && !q.begun {
			p.waits = append(p.waits, q.id)
		}
	}
	if len(p.waits) == 0 {
		r.forget(p)
		return
	}
	p.begun = true
	r.s.trace("%v, a reference, wants to take %v over", r.h, p.id)
	r.tellAll(&enrp.InitTakeover{Sender: r.id, Target: p.id})
}

func (r *reference) agreed(t *referencePeer, id rserpool.ServerID) {
	t.waits = slices.DeleteFunc(t.waits, func(x rserpool.ServerID) bool { return x == id })
	if len(t.waits) > 0 {
		return
	}
	r.s.trace("%v, a reference, takes %v over", r.h, t.id)
	r.forget(t)
	for _, e := range r.elements {
		if e.pe.Home == t.id {
			r.adopt(e)
		}
	}
}

// forget forgets a registrar, not its elements.
func (r *reference) forget(p *referencePeer) {
	r.peers = slices.DeleteFunc(r.peers, func(x *referencePeer) bool { return x == p })
	for _, t := range slices.Clone(r.peers) {
		if t.begun && slices.Contains(t.waits, p.id) {
			r.agreed(t, p.id)
		}
	}
}

func (r *reference) tellAll(m enrp.Message) {
	for _, p := range r.peers {
		r.say(p.assoc, m)
	}
}

func (r *reference) say(a registrar.AssocID, m enrp.Message) {
	b, err := m.Append(nil)
	if err != nil {
		r.s.fail("reference %v: %v", r.id, err)
		return
	}
	r.h.send(a, enrp.PPID, b, false)
}

func (r *reference) sayASAP(a registrar.AssocID, m asap.Message) {
	b, err := m.Append(nil)
	if err != nil {
		r.s.fail("reference %v: %v", r.id, err)
		return
	}
	r.h.send(a, asap.PPID, b, false)
}
