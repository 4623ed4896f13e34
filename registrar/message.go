package registrar

import (
	"bytes"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/internal/tlv"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// onReceived: PPID 0 means "not told" (RFC 9260, Section 3.3.1) and stands for the
// protocol of the endpoint. TCP has no PPID, and carries ASAP.
func (r *Registrar) onReceived(ev Received) {
	a := r.assocs[ev.Assoc]
	switch {
	case a == nil || !a.up || a.barred:
		r.stats.Ignored.NoAssoc++
	case a.link != nil && (ev.PPID == enrp.PPID || ev.PPID == 0):
		r.onENRP(a.link, ev.Data)
	case a.link != nil:
		r.stats.Ignored.PPID++
	case ev.PPID == asap.PPID || ev.PPID == 0 || a.via == rserpool.ViaTCP:
		r.lineHeard(&a.client.line)
		r.onASAP(a.client, ev.Data)
		if a.client.silent.Len() > 0 {
			r.wake(a.client)
		}
	case ev.PPID == enrp.PPID:
		r.stats.Ignored.ENRP++
	default:
		r.stats.Ignored.PPID++
	}
}

func (r *Registrar) onASAP(a *client, b []byte) {
	// The most frequent message is read without an allocation.
	if len(b) > 0 && asap.MessageType(b[0]) == asap.TypeHandleResolution {
		causes, err := r.resolution.Parse(b, r.known)
		if err != nil {
			r.onMalformed(a, err)
			return
		}
		r.onHandleResolution(a, &r.resolution)
		r.report(a, causes)
		return
	}
	m, causes, err := asap.Parse(b)
	if err != nil {
		r.onMalformed(a, err)
		return
	}
	switch m := m.(type) {
	case *asap.Registration:
		r.onRegistration(a, m)
	case *asap.Deregistration:
		r.onDeregistration(a, m)
	case *asap.EndpointKeepAliveAck:
		r.onKeepAliveAck(a, m)
	case *asap.EndpointUnreachable:
		r.onUnreachable(a, m)
	case *asap.Error:
		r.onError(a, m)
	default:
		r.onMisplaced(a, b)
	}
	r.report(a, causes)
}

// onMalformed responds to a message that cannot be read, if the RFC asks for a response
// (RFC 5352, Section 2.2.14). The association stays.
func (r *Registrar) onMalformed(a *client, err error) {
	r.stats.Malformed++
	r.warnOf(&a.assoc, "message from %v is refused: %v", a.who(), err)
	switch m, _ := asap.ErrorReply(err); m := m.(type) {
	case *asap.RegistrationResponse:
		r.refuseMalformed(a, m, &m.Causes)
	case *asap.DeregistrationResponse:
		r.refuseMalformed(a, m, &m.Causes)
	case *asap.Error:
		r.sendError(a, m)
	}
}

// refuseMalformed responds to a request with invalid values by m. The unknown parameters before
// them are reported as those of a good request are.
func (r *Registrar) refuseMalformed(a *client, m asap.Message, causes *[]rserpool.Cause) {
	r.stats.Rejections[causeIndex(rserpool.CauseInvalidValues)]++
	last := len(*causes) - 1
	earlier := (*causes)[:last]
	r.replyWithCause(a, (*causes)[last], func(list []rserpool.Cause) asap.Message {
		*causes = list
		return m
	})
	r.report(a, earlier)
}

// onMisplaced: a message of a type that registrars do not accept, such as a response, a
// cookie or a business card, is answered like an unrecognized one.
func (r *Registrar) onMisplaced(a *client, b []byte) {
	r.stats.Misplaced++
	info := bytes.Clone(b[:min(len(b), maxCauseInfo)])
	r.sendError(a, &asap.Error{Causes: []rserpool.Cause{{Code: rserpool.CauseUnrecognizedMessage, Info: info}}})
}

// onError: an error message is never answered, so that two sides cannot send errors for
// ever.
func (r *Registrar) onError(a *client, m *asap.Error) {
	r.stats.ErrorsReceived++
	if len(m.Causes) > 0 {
		r.warnOf(&a.assoc, "%v reports an error: %v", a.who(), m.Causes[0].Code)
	}
}

// report sends the unknown parameters that were skipped and are to be reported (RFC
// 5354, Section 3).
func (r *Registrar) report(a *client, causes []rserpool.Cause) {
	if len(causes) > 0 {
		r.sendError(a, &asap.Error{Causes: causes})
	}
}

// sendError sends an ASAP_ERROR, unless the peer has had ErrorsPerSecond of them.
func (r *Registrar) sendError(a *client, m *asap.Error) {
	if !a.errors.allow(r.now, r.cfg.Limits.ErrorsPerSecond) {
		r.stats.ErrorsSuppressed++
		return
	}
	if r.reply(a, m) {
		r.stats.ErrorsSent++
	}
}

// reply sends a message, and reports whether it could be encoded.
func (r *Registrar) reply(a *client, m asap.Message) bool {
	b, err := m.Append(r.buf[:0])
	if err != nil {
		r.logf(true, "cannot answer %v: %v", a.primary(), err)
		return false
	}
	r.buf = b
	r.send(&a.assoc, b)
	// A keep-alive does not wait for a lost message before it.
	r.sends[len(r.sends)-1].Unordered = m.Type() == asap.TypeEndpointKeepAlive
	return true
}

// send sends a copy of b, with the PPID of the association's endpoint.
func (r *Registrar) send(a *assoc, b []byte) {
	ppid := uint32(asap.PPID)
	if a.link != nil {
		ppid = enrp.PPID
	}
	from := len(r.sent)
	r.sent = append(r.sent, b...) // if it moves, former messages stay where they were
	r.sends = append(r.sends, Send{Assoc: a.id, PPID: ppid, Data: r.sent[from:len(r.sent):len(r.sent)]})
	r.act(&r.sends[len(r.sends)-1])
}

// replyWithCause sends a negative response. If that is too long with the cause's
// information, the information is left out. If the pool handle is so long that it still
// does not fit, an ASAP_ERROR is sent instead.
func (r *Registrar) replyWithCause(a *client, c rserpool.Cause, m func([]rserpool.Cause) asap.Message) {
	bare := []rserpool.Cause{{Code: c.Code}}
	for _, causes := range [][]rserpool.Cause{{c}, bare} {
		if b, err := m(causes).Append(r.buf[:0]); err == nil {
			r.buf = b
			r.send(&a.assoc, b)
			return
		}
	}
	r.sendError(a, &asap.Error{Causes: bare})
}

// wireSize is how many bytes an element takes in a message, or a few more.
func wireSize(e *rserpool.PoolElement) int {
	n := 64 + len(e.Policy.Extra) + len(e.Identity)
	for _, t := range []*rserpool.Transport{&e.UserTransport, &e.ASAPTransport} {
		n += 16 + 20*len(t.Addrs) + len(t.Opaque)
	}
	for _, u := range e.Unknown {
		n += 8 + len(u.Value)
	}
	return n
}

// oversize reports whether the Pool Element parameter is longer than
// Limits.ElementSize, or cannot be encoded. It is encoded only if wireSize does not
// decide it.
func (r *Registrar) oversize(e *rserpool.PoolElement) bool {
	limit := r.cfg.Limits.ElementSize
	if wireSize(e) <= limit {
		return false
	}
	b, err := tlv.AppendPoolElement(r.buf[:0], e)
	if err != nil {
		return true
	}
	r.buf = b
	return len(b) > limit
}
