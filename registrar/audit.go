package registrar

import (
	"fmt"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/registrar/internal/ledger"
)

// audit is a resynchronisation with a peer (RFC 5353, Section 3.6.3). The elements that
// the peer names get the number of the audit. Those without it are called in the end.
type audit struct {
	number uint64 // 0 if none is under way
	timer  timer  // for the peer's response, then for the next part of the sweep
	transfer
	// sweep is the next element to look at, nil until the peer has named all; swept is
	// how many it has not named.
	sweep *ledger.Cursor[note]
	swept int
	rest  enrp.Checksum // of elements that are left out; see leftOut
	held  time.Time     // until when the sweep may wait for the tables of others
}

// beginAudit requests the peer's own elements, because the roster may be out of date.
func (r *Registrar) beginAudit(p *peer) {
	if p.audit.number != 0 {
		return
	}
	r.stats.Audits++
	r.peers.audits++
	p.audit.number, p.missed, p.leftOut.short = r.peers.audits, false, 0
	p.audit.transfer = transfer{began: r.now}
	r.askAudit(p)
}

func (r *Registrar) askAudit(p *peer) {
	r.timers.Arm(&p.audit.timer, p, r.now.Add(r.cfg.Timers.MaxTimeNoResponse))
	r.tell(p, &enrp.HandleTableRequest{Sender: r.id, Receiver: p.id, OwnChildrenOnly: true, Suspects: true})
}

// onAudited enters the elements that the peer names, and then removes the others.
func (r *Registrar) onAudited(p *peer, m *enrp.HandleTableResponse) {
	if m.Reject {
		r.endAudit(p) // the next presence starts another
		return
	}
	r.offerAll(p, m.Pools, inTable)
	switch goesOn := p.audit.goesOn(r, m); {
	case m.More && goesOn:
		r.askAudit(p)
		return
	case m.More:
		r.giveUpTransfer(p, &p.audit.transfer)
		r.endAudit(p) // nothing is swept
		return
	}
	p.audit.sweep = r.ledger.OpenAll(p.roster)
	p.audit.held = r.now.Add(r.cfg.Timers.MaxTimeNoResponse)
	r.sweepSome(p)
}

// holdGap is how long a sweep waits for the tables of others, or until it may go on, before it looks
// again.
const holdGap = 50 * time.Millisecond

// holds reports whether the sweep has to wait. If the rosters of several peers are out of date,
// because this registrar was cut off from them, elements may have moved from one to another: the
// table of the latter, which names them, has to come first. Otherwise a pool could be empty in
// between. So a sweep also waits for a peer that does not respond: the cut may be over for one
// of them sooner than for the other.
func (r *Registrar) holds(p *peer) bool {
	return p.audit.held.After(r.now) && slices.ContainsFunc(r.peers.list, func(q *peer) bool {
		return q != p && (q.state == PeerSuspect || q.state == PeerActive && (q.missed || q.audits()))
	})
}

// sweepSome looks at some of the elements that the peer has not named; see disown.
func (r *Registrar) sweepSome(p *peer) {
	if r.holds(p) {
		r.timers.Arm(&p.audit.timer, p, r.now.Add(holdGap))
		return
	}
	probes, called := make(probesAt), 0
	defer r.runProbes()
	for range moveBatch {
		e := p.audit.sweep.Peek()
		if e != nil && e.Note.seen != p.audit.number && !r.maySweep(p, e) {
			r.timers.Arm(&p.audit.timer, p, r.now.Add(holdGap))
			return
		}
		if p.audit.sweep.Next(); e == nil {
			r.sweepLeftOut(p)
			r.stats.Resyncs++
			r.logf(false, "resynchronised with registrar %v: it has %s%s", p.id, elementsText(p.roster.LenAll()), p.leftOut.text()+p.audit.sweptText())
			r.endAudit(p)
			if !p.checked && p.roster.LenOf(ledger.Suspect) > 0 {
				p.missed, p.checked = true, true
			}
			return
		}
		if e.Note.seen != p.audit.number {
			p.audit.swept++
			r.stats.Swept++
			r.disown(e, probes)
			if called++; called >= takeBatch {
				break
			}
		}
	}
	r.timers.Arm(&p.audit.timer, p, r.now.Add(takeGap))
}

// disown: the home of an element does not name it any more. That does not say that the element is
// gone: it may have a new home, which this registrar does not know yet, or cannot reach. So the
// element is called. One that has an association to this registrar may hold it for its home, after the
// peer could not be reached: it is adopted. An association that is left from a call of this registrar
// does not show that. A suspect that its home has not
// passed on was removed there, and is removed.
func (r *Registrar) disown(f *entry, probes probesAt) {
	a := r.clientAt(anySCTP, addrPorts(&f.PE().ASAPTransport), f.PE().EncapPort)
	switch {
	case a != nil && (!a.ours || a.isHome):
		r.adoptDisowned(f, probes)
	case f.State() == ledger.Suspect && f.Note.passed == 0:
		r.removeForeign(f)
	default:
		r.standInFor(f, probes)
	}
}

// sweptText says in the log what became of the elements that the peer has not named.
func (a *audit) sweptText() string {
	if a.swept == 0 {
		return ""
	}
	return fmt.Sprintf("; %s that it does not name any more are called, and stay while they answer", elementsText(a.swept))
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
