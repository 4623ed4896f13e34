package registrar

import "github.com/rserpool/coredns-rserpool/enrp"

// audit is a resynchronisation with a peer (RFC 5353, Section 3.6.3). Instead of
// marking what is to be swept, it numbers what the peer has named.
type audit struct {
	number uint64 // 0 if none is under way
	timer  timer
}

// beginAudit asks a peer for its own elements, since its checksum is not what
// it should be.
func (r *Registrar) beginAudit(p *peer) {
	if p.audit.number != 0 {
		return
	}
	r.stats.Audits++
	r.peers.audits++
	p.audit.number = r.peers.audits
	r.askAudit(p)
}

func (r *Registrar) askAudit(p *peer) {
	r.timers.arm(&p.audit.timer, p, r.now.Add(r.cfg.Timers.MaxTimeNoResponse))
	r.tell(p, &enrp.HandleTableRequest{Sender: r.id, Receiver: p.id, OwnChildrenOnly: true})
}

// onAudited takes what the peer has, and at the end removes what it has not.
func (r *Registrar) onAudited(p *peer, m *enrp.HandleTableResponse) {
	if m.Reject {
		r.endAudit(p) // the next presence brings another
		return
	}
	for i := range m.Pools {
		h := m.Pools[i].Handle
		for j := range m.Pools[i].Elements {
			r.offer(p, h, &m.Pools[i].Elements[j], inTable)
		}
	}
	if m.More {
		r.askAudit(p)
		return
	}
	swept := 0
	for e := p.roster.head; e != nil; {
		next := e.after
		if e.seen != p.audit.number {
			swept++
			r.removeForeign(e)
		}
		e = next
	}
	r.stats.Swept += uint64(swept)
	r.stats.Resyncs++
	r.endAudit(p)
	r.logf(false, "resynchronised with registrar %v: it has %d pool elements, %d were removed", p.id, p.roster.n, swept)
}

func (r *Registrar) endAudit(p *peer) {
	p.audit.number = 0
	r.timers.stop(&p.audit.timer)
}
