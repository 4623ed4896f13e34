package registrar

import (
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// inquiry sends a keep-alive to a foreign element that a client could not reach. RFC
// 5352, Section 3.5, asks that of any registrar, without the H flag.
//
// Only the home decides about the element, and it sends no result. Elements of the
// reference implementation acknowledge keep-alives of their home only, so a missing
// acknowledgement means nothing, and so does other silence. But if the element's host refuses
// the association, this registrar leaves the element out of its own answers for avoidTime, or
// until the home announces the element again.
//
//	asking --> resting --> over
//	   +-----> avoided ----> over
type inquiry struct {
	key   inquiryKey
	state inquiryState
	ref   uint64  // of the Connect that has no AssocID yet, or 0
	assoc *client // that is being opened, or carries the keep-alive
	timer timer
}

type inquiryKey struct {
	handle rserpool.PoolHandle
	id     rserpool.PEID
}

type inquiryState uint8

const (
	inquiryAsking  inquiryState = iota
	inquiryResting              // asked in the last second
	inquiryAvoided
)

// inquiries are all that are not over.
type inquiries struct {
	all        map[inquiryKey]*inquiry
	connecting map[uint64]*inquiry
}

const (
	// maxInquiries bounds the inquiries, those whose elements are left out included.
	// Reports of further elements are ignored.
	maxInquiries = 1024
	// maxInquiryConnects bounds the associations that are being opened for them.
	maxInquiryConnects = 64
	// avoidTime is how long an element is left out of answers. Its home finds out
	// whether it is alive within two keep-alive intervals and a timeout.
	avoidTime = 30 * time.Second
)

// inquire sends a keep-alive to a foreign element, at most once a second, and not while
// it is left out of answers.
func (r *Registrar) inquire(f *entry) {
	key := inquiryKey{f.Handle(), f.ID()}
	if r.inquiries.all[key] != nil || len(r.inquiries.all) >= maxInquiries || !f.PE().ASAPTransport.Present() {
		return
	}
	q := &inquiry{key: key}
	t := f.PE().ASAPTransport
	t.Addrs = r.ofHost(t.Addrs)
	to := addrPorts(&t)
	a := r.clientAt(anySCTP, to, f.PE().EncapPort)
	if a == nil && len(r.inquiries.connecting) >= maxInquiryConnects {
		return
	}
	r.inquiries.all[key] = q
	r.timers.Arm(&q.timer, q, r.now.Add(r.cfg.Timers.ProbeTimeout))
	if a != nil {
		q.askOver(r, a)
		return
	}
	r.refs++
	q.ref = r.refs
	r.inquiries.connecting[q.ref] = q
	via := rserpool.ViaAuto
	if f.PE().EncapPort != 0 {
		via = rserpool.ViaUDP
	}
	r.act(Connect{Ref: q.ref, PPID: asap.PPID, To: to, Via: via, EncapPort: f.PE().EncapPort})
}

// onConnecting: the host has named the association, or has none.
func (q *inquiry) onConnecting(r *Registrar, ev Connecting) {
	delete(r.inquiries.connecting, q.ref)
	q.ref = 0
	known := r.assocs[ev.Assoc] != nil
	switch {
	case ev.Assoc != 0 && !known:
		a := r.newClient(ev.Assoc)
		a.ours = true
		if q.state != inquiryAsking {
			r.act(Close{Assoc: a.id, Abort: true}) // too late
			return
		}
		q.assoc, a.inquiry = a, q
	case q.state == inquiryAsking && ev.Assoc == 0:
		q.rest(r)
	}
}

// askOver sends the keep-alive. Nothing waits for the acknowledgement.
func (q *inquiry) askOver(r *Registrar, a *client) {
	q.assoc, a.inquiry = a, nil
	r.stats.KeepAlivesSent++
	r.reply(a, &asap.EndpointKeepAlive{Server: r.id, Handle: q.key.handle, ID: q.key.id, HasID: true})
}

// ended: the association has ended before it was up. Only a refusal says something about the
// element.
func (q *inquiry) ended(r *Registrar, why DownReason) {
	q.assoc.inquiry = nil
	if why == DownSilent || why == DownUntimely {
		q.rest(r)
	} else {
		q.avoid(r)
	}
}

// inquiryOf returns the inquiry that has asked an element over an association.
func (r *Registrar) inquiryOf(a *client, h rserpool.PoolHandle, id rserpool.PEID) *inquiry {
	if q := r.inquiries.all[inquiryKey{h, id}]; q != nil && q.assoc == a && q.state == inquiryAsking {
		return q
	}
	return nil
}

// avoid leaves the element out of answers, if it is still a foreign one.
func (q *inquiry) avoid(r *Registrar) {
	f := r.findForeign(q.key.handle, q.key.id)
	if f == nil || f.Aside() {
		q.rest(r)
		return
	}
	q.state, q.assoc = inquiryAvoided, nil
	r.timers.Arm(&q.timer, q, r.now.Add(avoidTime))
	r.space.Avoid(q.key.handle, q.key.id, true)
	r.stats.Avoided++
	r.logf(false, "pool element %v of pool %s is reported as unreachable, and its host refuses associations: it is left out of answers for %v, or until registrar %v announces it",
		q.key.id, quote(q.key.handle), avoidTime, f.Roster().Home())
}

// homeTold: the home has announced the element, so it is no longer left out, and can be
// asked again.
func (r *Registrar) homeTold(h rserpool.PoolHandle, id rserpool.PEID) {
	key := inquiryKey{h, id}
	if q := r.inquiries.all[key]; q != nil && q.state == inquiryAvoided {
		r.timers.Stop(&q.timer)
		delete(r.inquiries.all, key)
	}
}

// rest ends the inquiry without a result. The next one may start in a second.
func (q *inquiry) rest(r *Registrar) {
	if a := q.assoc; a != nil && a.inquiry == q { // it is still being opened
		a.inquiry = nil
		r.act(Close{Assoc: a.id, Abort: true})
	}
	q.state, q.assoc = inquiryResting, nil
	r.timers.Arm(&q.timer, q, r.now.Add(minAskGap))
}

// Due ends an inquiry.
func (q *inquiry) Due(r *Registrar, _ *timer) {
	switch q.state {
	case inquiryAsking: // the home finds out about a host that does not respond
		q.rest(r)
		return
	case inquiryResting:
	case inquiryAvoided:
		if r.findForeign(q.key.handle, q.key.id) != nil {
			r.space.Avoid(q.key.handle, q.key.id, false)
		}
	}
	delete(r.inquiries.all, q.key)
}
