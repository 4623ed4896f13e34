package registrar

import (
	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/registrar/internal/ledger"
)

// audit is a resynchronisation with a peer (RFC 5353, Section 3.6.3). The elements that
// the peer names get the number of the audit. Those without it are removed in the end.
type audit struct {
	number uint64 // 0 if none is under way
	timer  timer  // for the peer's response, then for the next part of the sweep
	transfer
	// sweep is the next element to look at, nil until the peer has named all; swept is
	// how many were removed.
	sweep *ledger.Cursor[note]
	swept int
}

// beginAudit requests the peer's own elements, because the roster may be out of date.
func (r *Registrar) beginAudit(p *peer) {
	if p.audit.number != 0 {
		return
	}
	r.stats.Audits++
	r.peers.audits++
	p.audit.number, p.missed = r.peers.audits, false
	p.audit.transfer = transfer{began: r.now}
	r.askAudit(p)
}

func (r *Registrar) askAudit(p *peer) {
	r.timers.Arm(&p.audit.timer, p, r.now.Add(r.cfg.Timers.MaxTimeNoResponse))
	r.tell(p, &enrp.HandleTableRequest{Sender: r.id, Receiver: p.id, OwnChildrenOnly: true})
}

// onAudited enters the elements that the peer names, and then removes the others.
func (r *Registrar) onAudited(p *peer, m *enrp.HandleTableResponse) {
	if m.Reject {
		r.endAudit(p) // the next presence starts another
		return
	}
	for i := range m.Pools {
		h := m.Pools[i].Handle
		for j := range m.Pools[i].Elements {
			r.offer(p, h, &m.Pools[i].Elements[j], inTable)
		}
	}
	switch goesOn := p.audit.goesOn(r, m); {
	case m.More && goesOn:
		r.askAudit(p)
		return
	case m.More:
		r.giveUpTransfer(p, &p.audit.transfer)
		r.endAudit(p) // nothing is swept
		return
	}
	p.audit.sweep = r.ledger.Open(p.roster)
	r.sweepSome(p)
}

// sweepSome removes some of the elements that the peer has not named. An element with
// an association to this registrar may hold this registrar for its home, after the peer
// could not be reached. It is adopted, and so asked, before it is removed.
func (r *Registrar) sweepSome(p *peer) {
	probes := make(probesAt)
	defer r.runProbes()
	for range moveBatch {
		e := p.audit.sweep.Next()
		if e == nil {
			r.stats.Resyncs++
			r.logf(false, "resynchronised with registrar %v: it has %d pool elements, %d were removed", p.id, p.roster.Len(), p.audit.swept)
			r.endAudit(p)
			return
		}
		if e.Note.seen != p.audit.number {
			p.audit.swept++
			r.stats.Swept++
			if r.clientAt(anySCTP, addrPorts(&e.PE().ASAPTransport), e.PE().EncapPort) != nil {
				r.adopt(e, probes)
			} else {
				r.removeForeign(e)
			}
		}
	}
	r.timers.Arm(&p.audit.timer, p, r.now.Add(takeGap))
}

// auditDue continues a sweep, or ends an audit to which the peer does not respond.
func (r *Registrar) auditDue(p *peer) {
	if p.audit.sweep != nil {
		r.sweepSome(p)
	} else {
		r.endAudit(p)
	}
}

func (r *Registrar) endAudit(p *peer) {
	r.timers.Stop(&p.audit.timer)
	p.missed = p.missed || p.audit.sweep == nil // not all was named
	r.ledger.Close(p.audit.sweep)
	p.audit = audit{}
}
