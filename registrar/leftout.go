package registrar

import (
	"fmt"

	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// leftOut are the elements of a peer that this registrar leaves out: it cannot use them, or its
// limits have no room for them. The peer counts them in its checksum (RFC 5353, Section 3.6.2). If
// this registrar did not, each presence of the peer would start another audit. An element that is
// left out becomes known when its home announces it anew, as it does when the element registers
// again, in a way that is usable.
//
// The peer's word decides: an update says anew whether its element is left out, and a table names
// those that the peer still has.
type leftOut struct {
	// named has the last audit of the peer that has named the element.
	named map[leftOutKey]uint64
	sum   enrp.Checksum // of those
	// rest is the checksum of those in the last table for which maxLeftOut had no room.
	rest enrp.Checksum
	// short is how many elements there were when one was left out because the limits had no room; 0
	// if none was since the last audit began. Once there are less, it may have room.
	short int
}

type leftOutKey struct {
	handle rserpool.PoolHandle
	id     rserpool.PEID
}

// maxLeftOut bounds the bytes that elements which are left out take, those of all peers together:
// leftOutSize and the handle for each. Beyond it, a change of the others is followed by an audit.
const (
	maxLeftOut  = 4 << 20
	leftOutSize = 64
)

func (k leftOutKey) size() int { return leftOutSize + len(k.handle) }

// leaveOut notes an element of a peer as one that is left out.
func (r *Registrar) leaveOut(home *peer, h rserpool.PoolHandle, id rserpool.PEID, how offered) {
	l, k := &home.leftOut, leftOutKey{h, id}
	_, known := l.named[k]
	switch {
	case known:
	case r.peers.leftOut+k.size() > maxLeftOut:
		if how == inTable {
			home.audit.rest.Add(h, id)
		}
		return
	default:
		if l.named == nil {
			l.named = make(map[leftOutKey]uint64)
		}
		l.sum.Add(h, id)
		r.peers.leftOut += k.size()
	}
	l.named[k] = home.audit.number
}

// mayHaveRoom reports whether there may be room now for an element of a peer that was left out.
func (r *Registrar) mayHaveRoom(p *peer) bool { return r.ledger.Used().Elements < p.leftOut.short }

// letIn forgets that an element of a peer is left out.
func (r *Registrar) letIn(home *peer, h rserpool.PoolHandle, id rserpool.PEID) {
	l, k := &home.leftOut, leftOutKey{h, id}
	if _, known := l.named[k]; known {
		l.sum.Remove(h, id)
		r.peers.leftOut -= k.size()
		delete(l.named, k)
	}
}

// sweepLeftOut forgets the elements that the audit which ends has not named.
func (r *Registrar) sweepLeftOut(p *peer) {
	for k, number := range p.leftOut.named {
		if number != p.audit.number {
			r.letIn(p, k.handle, k.id)
		}
	}
	p.leftOut.rest = p.audit.rest
}

// dropLeftOut forgets all of a peer.
func (r *Registrar) dropLeftOut(p *peer) {
	for k := range p.leftOut.named {
		r.letIn(p, k.handle, k.id)
	}
}

// text says in the log how many elements are left out.
func (l *leftOut) text() string {
	if len(l.named) == 0 {
		return ""
	}
	return fmt.Sprintf(", and %d more that this registrar leaves out: it cannot use them, or its limits have no room", len(l.named))
}

// expected is the checksum that a peer has if this registrar knows all its elements, or leaves them
// out.
func (p *peer) expected() uint16 {
	return p.roster.Sum().Join(p.leftOut.sum).Join(p.leftOut.rest).Value()
}
