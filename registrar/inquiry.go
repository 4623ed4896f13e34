package registrar

import (
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// inquiry asks another registrar's element for a sign of life, since a client could
// not reach it: RFC 5352, Section 3.5, has any registrar do so, without the H flag.
//
// The home is the judge of the element, and no one is told of what we find. Elements
// of the reference implementation acknowledge keep-alives of their home only, so
// that no acknowledgement says nothing. But an element whose host refuses our call, or
// to which the keep-alive cannot be delivered, is left out of our own answers for
// avoidTime, or until its home tells us something of it.
//
//	asking --> resting --> over
//	   +-----> avoided ----> over
type inquiry struct {
	key   inquiryKey
	state inquiryState
	ref   uint64  // of the call that has no AssocID yet, or 0
	assoc *client // that is called, or asked over
	timer timer
}

type inquiryKey struct {
	handle rserpool.PoolHandle
	id     rserpool.PEID
}

type inquiryState uint8

const (
	inquiryAsking  inquiryState = iota
	inquiryResting              // it was asked in the last second
	inquiryAvoided
)

// inquiries are all that are not over.
type inquiries struct {
	all        map[inquiryKey]*inquiry
	connecting map[uint64]*inquiry
}

const (
	// maxInquiries bounds the inquiries: those that ask, and those whose elements
	// are left out. Reports of further elements are ignored.
	maxInquiries = 1024
	// maxInquiryConnects bounds the calls that are under way for them.
	maxInquiryConnects = 64
	// avoidTime is how long an element is left out of answers. Its home finds out
	// within two keep-alive intervals, and a timeout, whether it lives.
	avoidTime = 30 * time.Second
)

// inquire asks an element of another registrar, at most once a second, and not while
// it is left out already.
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
	via := Via(0)
	if f.PE().EncapPort != 0 {
		via = ViaUDP
	}
	r.act(Connect{Ref: q.ref, PPID: asap.PPID, To: to, Via: via, EncapPort: f.PE().EncapPort})
}

// calling: the host has named the association of the call, or has none.
func (q *inquiry) calling(r *Registrar, ev Connecting) {
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
		q.avoid(r)
	}
}

// askOver sends the keep-alive. Nothing waits for the answer.
func (q *inquiry) askOver(r *Registrar, a *client) {
	q.assoc, a.inquiry = a, nil
	r.stats.KeepAlivesSent++
	r.reply(a, &asap.EndpointKeepAlive{Server: r.id, Handle: q.key.handle, ID: q.key.id, HasID: true})
}

// refused: the association of the call has ended before it was up.
func (q *inquiry) refused(r *Registrar) {
	q.assoc.inquiry = nil
	q.avoid(r)
}

// inquiryOf is the inquiry that has asked an element over an association.
func (r *Registrar) inquiryOf(a *client, h rserpool.PoolHandle, id rserpool.PEID) *inquiry {
	if q := r.inquiries.all[inquiryKey{h, id}]; q != nil && q.assoc == a && q.state == inquiryAsking {
		return q
	}
	return nil
}

// avoid leaves the element out of answers, if it is still another registrar's.
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
	r.logf(false, "pool element %v of pool %s is reported as unreachable and takes no calls: it is left out of answers for %v, or until registrar %v tells of it",
		q.key.id, quote(q.key.handle), avoidTime, f.Roster().Home())
}

// homeTold: the element's home has told us something of it, so that it is not left
// out any more, and can be asked again.
func (r *Registrar) homeTold(h rserpool.PoolHandle, id rserpool.PEID) {
	key := inquiryKey{h, id}
	if q := r.inquiries.all[key]; q != nil && q.state == inquiryAvoided {
		r.timers.Stop(&q.timer)
		delete(r.inquiries.all, key)
	}
}

// rest ends the inquiry without a result. The next one may be in a second.
func (q *inquiry) rest(r *Registrar) {
	if a := q.assoc; a != nil && a.inquiry == q { // it is still being called
		a.inquiry = nil
		r.act(Close{Assoc: a.id, Abort: true})
	}
	q.state, q.assoc = inquiryResting, nil
	r.timers.Arm(&q.timer, q, r.now.Add(minAskGap))
}

// Due ends an inquiry.
func (q *inquiry) Due(r *Registrar, _ *timer) {
	switch q.state {
	case inquiryAsking: // a host that does not answer our call is its home's business
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
