package registrar

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/internal/tlv"
	"github.com/rserpool/coredns-rserpool/registrar/internal/ledger"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// session is a download of the handlespace by a peer (RFC 5353, Section 3.2.3). The
// cursor is before the elements that are still to be sent. Changes during a session are
// sent as updates.
type session struct {
	peer *peer
	at   netip.Addr // its address
	own  bool
	// suspects tells that the peer understands suspects, and gets them.
	suspects bool
	*ledger.Cursor[note]
	timer timer
	transfer
}

// maxTable is about how many bytes of elements go into one response.
const maxTable = 32 << 10

// onTableRequest sends the next part of the handlespace, or of the own elements (RFC
// 5353, Sections 3.2.3 and 3.6.3).
func (r *Registrar) onTableRequest(p *peer, a *link, m *enrp.HandleTableRequest) {
	s := p.session
	if s != nil && (s.own != m.OwnChildrenOnly || s.suspects != m.Suspects) {
		r.endSession(s)
		s = nil
	}
	if s != nil && s.tooLong(r.now) {
		r.endSession(s)
		r.write(a, &enrp.HandleTableResponse{Sender: r.id, Receiver: p.id, Reject: true})
		return
	}
	if s == nil {
		if !r.Ready() || !r.sessionRoom(a) {
			r.write(a, &enrp.HandleTableResponse{Sender: r.id, Receiver: p.id, Reject: true})
			return
		}
		s = r.beginSession(p, m.OwnChildrenOnly, m.Suspects)
		s.at = a.primary()
	}
	part := s.part()
	s.elements += len(part)
	more := s.peek() != nil
	if more {
		r.timers.Arm(&s.timer, s, r.now.Add(r.cfg.Timers.MaxTimeNoResponse))
	} else {
		r.endSession(s)
	}
	b, err := r.tableResponse(r.buf[:0], p.id, part, more)
	if err != nil {
		r.logf(true, "cannot send the handlespace to registrar %v: %v", p.id, err)
		return
	}
	r.buf = b
	r.stats.ENRPSent[enrpIndex(enrp.TypeHandleTableResponse)]++
	r.send(&a.assoc, b)
}

func (r *Registrar) tableResponse(b []byte, to rserpool.ServerID, part []*entry, more bool) ([]byte, error) {
	var w tlv.Builder
	w.BeginHandleTableResponse(b, r.id, to, false, more)
	for i, e := range part {
		if i == 0 || part[i-1].Handle() != e.Handle() {
			w.PoolHandle(e.Handle())
		}
		pe := &e.PE().PoolElement
		if own := e.Note.own; own != nil && own.standsIn() {
			named := *pe
			named.Home = own.standIn
			pe = &named
		}
		if e.State() == ledger.Suspect {
			w.SuspectElement(pe, r.now.Sub(e.Since()))
		} else {
			w.PoolElement(pe)
		}
	}
	return w.Finish()
}

// maxFromAddress is how many downloads one address may have at the same time.
const maxFromAddress = 4

// sessionRoom reports whether there is room for a download to a. If there are too many,
// it ends one of an address that has more of them than a's address, or else the oldest
// one if that had some time. The peer of that one starts again, and gets some elements
// twice.
func (r *Registrar) sessionRoom(a *link) bool {
	all := r.peers.sessions // the oldest is the first
	from := make(map[netip.Addr]int)
	for _, s := range all {
		from[s.at]++
	}
	mine := from[a.primary()]
	switch {
	case mine >= maxFromAddress:
		return false
	case len(all) < r.cfg.Limits.Downloads:
		return true
	}
	i := slices.IndexFunc(all, func(s *session) bool { return from[s.at] > mine+1 })
	if i < 0 && r.now.Sub(all[0].began) < r.cfg.Timers.MaxTimeNoResponse {
		return false
	}
	r.endSession(all[max(i, 0)])
	return true
}

func (r *Registrar) beginSession(p *peer, own, suspects bool) *session {
	rosters := []*roster{r.roster}
	if !own {
		for _, q := range r.peers.list {
			rosters = append(rosters, q.roster)
		}
	}
	open := r.ledger.Open
	switch {
	case !own:
		open = r.ledger.OpenEach
	case suspects:
		open = r.ledger.OpenAll
	}
	s := &session{peer: p, own: own, suspects: suspects, Cursor: open(rosters...), transfer: transfer{began: r.now}}
	p.session = s
	r.peers.sessions = append(r.peers.sessions, s)
	return s
}

// peek returns the next element that the session names, nil at the end.
func (s *session) peek() *entry {
	for e := s.Peek(); e != nil; e = s.Peek() {
		if s.names(e) {
			return e
		}
		s.Next()
	}
	return nil
}

// names reports whether the session names an element. One for whose home this registrar stands in is
// no own one.
func (s *session) names(e *entry) bool {
	if e.State() == ledger.Suspect && !s.suspects {
		return false
	}
	if own := e.Note.own; own != nil && own.standsIn() {
		return !s.own
	}
	return e.State() != ledger.Unconfirmed
}

// part returns the elements of the next response: as many as fit, and at least one.
func (s *session) part() []*entry {
	var part []*entry
	size, named := 0, ""
	for e := s.peek(); e != nil; e = s.peek() {
		size += wireSize(&e.PE().PoolElement) - tlv.SharedIdentity(named, e.PE().Identity)
		named = cmp.Or(e.PE().Identity, named)
		if len(part) == 0 || part[len(part)-1].Handle() != e.Handle() {
			size += 8 + len(e.Handle())
		}
		if len(part) > 0 && size > maxTable {
			break
		}
		part = append(part, s.Next())
	}
	return part
}

func (r *Registrar) endSession(s *session) {
	r.timers.Stop(&s.timer)
	r.ledger.Close(s.Cursor)
	s.peer.session = nil
	r.peers.sessions = slices.DeleteFunc(r.peers.sessions, func(x *session) bool { return x == s })
}

// Due ends a download that the peer does not continue.
func (s *session) Due(r *Registrar, _ *timer) { r.endSession(s) }

// onTableResponse: the next part of what was requested.
func (r *Registrar) onTableResponse(p *peer, m *enrp.HandleTableResponse) {
	switch {
	case r.downloads(p):
		r.onDownload(p, m)
	case p.audits():
		r.onAudited(p, m)
	}
}

// awaitsTable reports whether the peer was asked for a part of the handlespace.
func (r *Registrar) awaitsTable(p *peer) bool { return r.downloads(p) || p.audits() }

func (r *Registrar) downloads(p *peer) bool { return r.start.mentor == p && r.start.downloading }

func (p *peer) audits() bool { return p.audit.number != 0 && p.audit.sweep == nil }
