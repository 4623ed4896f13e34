package registrar

import (
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/enrp"
)

// link is an association of the ENRP endpoint, with another registrar.
type link struct {
	assoc

	by     *connector // nil if the peer has opened it
	sender *peer      // that has sent the first message on it
	rate   bucket     // of messages
}

func (r *Registrar) newLink(id AssocID) *link {
	a := &link{}
	a.link = a
	r.newAssoc(&a.assoc, id)
	return a
}

// linkUp: a link is established. The registrar that has opened it sends a presence that
// asks for one.
func (r *Registrar) linkUp(a *link) {
	r.peers.links = append(r.peers.links, a)
	r.reached(a)
	if a.by == nil {
		return
	}
	a.by.barred = false
	if p := r.target(a.by); p != nil && p.link == nil {
		p.link = a
	}
	if c := a.by; c.from.IsValid() {
		r.timers.Arm(&c.timer, c, r.now.Add(r.cfg.Timers.MaxTimeNoResponse))
	}
	r.write(a, r.presence(0, true))
}

// linkDown: a link has ended, or was not established.
func (r *Registrar) linkDown(a *link, why DownReason) {
	r.peers.links = slices.DeleteFunc(r.peers.links, func(x *link) bool { return x == a })
	if c := a.by; c != nil {
		a.by, c.busy = nil, false
		r.connectLater(c)
		if p := r.target(c); p != nil && p.link == a {
			r.unlink(p, why)
		}
	}
	if p := a.sender; p != nil && p.link == a {
		r.unlink(p, why)
	}
}

// unlink uses another link of the peer. If there is none, it suspects the peer, or waits
// renewTime for a new link if the former one is being renewed.
func (r *Registrar) unlink(p *peer, why DownReason) {
	p.link, p.doubted, p.missed, p.checked = nil, time.Time{}, true, false
	for _, a := range r.peers.links {
		if a.sender == p && !a.barred {
			p.link = a
			return
		}
	}
	if p.state != PeerActive {
		return
	}
	if why != DownRenew && why != DownFarewell {
		r.suspect(p)
		return
	}
	at := r.now.Add(renewTime)
	if last := p.last.Add(r.cfg.Timers.MaxTimeLastHeard); last.Before(at) {
		at = last // links without a word do not keep it
	}
	r.timers.Arm(&p.watch, p, at)
	if why == DownRenew {
		r.connect(&p.conn)
	}
}

// tell sends a message to a peer, if there is a link to it.
func (r *Registrar) tell(p *peer, m enrp.Message) {
	if p.link != nil && p.link.up {
		r.write(p.link, m)
	}
}

// tellAll sends a message, whose receiver is 0, to all peers (RFC 5353, Section
// 3.1).
func (r *Registrar) tellAll(m enrp.Message) {
	if len(r.peers.list) == 0 {
		return
	}
	b, err := m.Append(r.buf[:0])
	if err != nil {
		r.logf(true, "cannot send an update to the peers: %v", err)
		return
	}
	r.buf = b
	for _, p := range r.peers.list {
		if p.link != nil && p.link.up {
			r.stats.ENRPSent[enrpIndex(m.Type())]++
			r.send(&p.link.assoc, b)
		}
	}
}

func (r *Registrar) write(a *link, m enrp.Message) {
	b, err := m.Append(r.buf[:0])
	if err != nil {
		r.logf(true, "cannot send a message to the registrar at %v: %v", a.primary(), err)
		return
	}
	r.buf = b
	r.stats.ENRPSent[enrpIndex(m.Type())]++
	r.send(&a.assoc, b)
}

// onENRP handles a message of another registrar.
func (r *Registrar) onENRP(a *link, b []byte) {
	if !a.rate.allowN(r.now, r.cfg.Limits.PeerMessages, r.weight(a, b)) {
		r.stats.Ignored.Rate++
		if a.sender != nil {
			a.sender.missed, a.sender.checked = true, false
		}
		return
	}
	msg, causes, err := enrp.Parse(b)
	if _, report := msg.(*enrp.Error); a.sender != nil && (err != nil || report) {
		// The link tells the sender: the identifier may not be readable, and RSPLIB
		// puts the receiver's identifier into its error reports.
		r.heardFrom(a.sender, a)
	}
	if err != nil {
		r.stats.Malformed++
		r.warnOf(&a.assoc, "ENRP message from %v is refused: %v", a.who(), err)
		if m, ok := enrp.ErrorReply(err, r.id, b); ok {
			r.writeError(a, m)
		}
		return
	}
	r.stats.ENRPReceived[enrpIndex(msg.Type())]++
	if m, ok := msg.(*enrp.Error); ok {
		r.stats.ErrorsReceived++
		r.onTwinTold(a, m)
		r.warnOf(&a.assoc, "registrar at %v reports an error: %v", a.primary(), m.Causes[0].Code)
		return
	}
	p := r.hear(a, msg)
	if p == nil {
		return
	}
	r.onPeerMessage(p, a, msg)
	if len(causes) > 0 {
		r.writeError(a, &enrp.Error{Sender: r.id, Receiver: p.id, Causes: causes})
	}
}

// weight is how many messages this one counts as for Limits.PeerMessages: roughly the
// work that it causes, or 1 if it is a requested table.
func (r *Registrar) weight(a *link, b []byte) int {
	const tableRequest = 16
	if len(b) > 0 {
		switch enrp.MessageType(b[0]) {
		case enrp.TypeHandleTableRequest:
			return tableRequest
		case enrp.TypeHandleTableResponse:
			if p := a.sender; p != nil && r.awaitsTable(p) {
				return 1
			}
		}
	}
	return 1 + len(b)/1024
}

func (r *Registrar) onPeerMessage(p *peer, a *link, msg enrp.Message) {
	switch m := msg.(type) {
	case *enrp.Presence:
		r.onPresence(p, a, m)
	case *enrp.ListRequest:
		r.onListRequest(p, a)
	case *enrp.ListResponse:
		r.onListResponse(p, m)
	case *enrp.HandleTableRequest:
		r.onTableRequest(p, a, m)
	case *enrp.HandleTableResponse:
		r.onTableResponse(p, m)
	case *enrp.HandleUpdate:
		r.onHandleUpdate(p, m)
	case *enrp.InitTakeover:
		r.onInitTakeover(p, a, m)
	case *enrp.InitTakeoverAck:
		r.onInitTakeoverAck(p, m)
	case *enrp.TakeoverServer:
		r.onTakeoverServer(p, m)
	}
}

// writeError sends an ENRP_ERROR, unless the peer has had ErrorsPerSecond of them.
func (r *Registrar) writeError(a *link, m *enrp.Error) {
	if !a.errors.allow(r.now, r.cfg.Limits.ErrorsPerSecond) {
		r.stats.ErrorsSuppressed++
		return
	}
	r.stats.ErrorsSent++
	r.write(a, m)
}
