package registrar

import (
	"hash/fnv"
	"net/netip"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/tlv"
	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	"github.com/rserpool/coredns-rserpool/registrar/internal/ledger"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Kept is an own element as the host keeps it for the next process: what it is, and what is
// needed to call it. An element for whose home the registrar stands in is not kept: after a restart,
// nothing would tell it from an own one.
type Kept struct {
	Handle rserpool.PoolHandle
	// PE is the element's description. It is immutable. Its Expires need not be kept:
	// otherwise each renewal would be a write. Restore has each life begin anew, since no
	// element could renew it while there was no registrar.
	PE *handlespace.Element
	// OwnASAP tells that the element has named its ASAP transport.
	OwnASAP bool
	// Host are the addresses of its association, or of the last one; Via is what has carried
	// that, ViaAuto if it is not known, and EncapPort the peer's UDP port.
	Host      []netip.AddrPort
	Via       rserpool.Via
	EncapPort uint16
	// Suspect is since when it is a suspect, zero if it is none.
	Suspect time.Time
}

// keep has the host keep an own element as it is at the end of the event, or forget it.
// Everything that changes an own element passes through publish, which calls keep.
func (r *Registrar) keep(x *entry) {
	if r.cfg.Keep && !x.Note.keeping {
		x.Note.keeping = true
		r.keeping = append(r.keeping, x)
	}
}

// keepNow gives the host what has changed in an event.
func (r *Registrar) keepNow() {
	for i, x := range r.keeping {
		r.keeping[i] = nil
		x.Note.keeping = false
		e := r.find(x.Handle(), x.ID()) // an entry of the same name may have followed
		if e == nil || e.standsIn() {   // its home keeps it
			r.act(Keep{Handle: x.Handle(), ID: x.ID()})
			continue
		}
		k := e.toKeep()
		if sum, round := r.sum(k), r.keepAll.round; e.keptSum != sum || e.keptRound != round {
			e.keptSum, e.keptRound = sum, round
			r.act(Keep{Handle: x.Handle(), ID: x.ID(), Element: k})
		}
	}
	r.keeping = r.keeping[:0]
	if cap(r.keeping) > maxKeepingKept {
		r.keeping = nil
	}
}

// maxKeepingKept is how much memory for changes is kept from event to event.
const maxKeepingKept = 4096

// toKeep describes an own element for the host.
func (e *element) toKeep() *Kept {
	k := &Kept{Handle: e.Handle(), PE: e.PE(), OwnASAP: e.ownASAP, Host: slices.Clone(e.host()), Suspect: e.Since()}
	if a := e.assoc; a != nil {
		k.Via, k.EncapPort = a.via, a.encap
	} else if p := e.probe; p != nil {
		k.Via, k.EncapPort = p.via, p.heard
		if p.adopted {
			k.Via = rserpool.ViaAuto
		}
	}
	return k
}

// sum is a checksum of all that is kept of an element but the end of its life.
func (r *Registrar) sum(k *Kept) uint64 {
	b := r.buf[:0]
	b = append(b, byte(k.Via), byte(k.EncapPort>>8), byte(k.EncapPort), 0)
	if k.OwnASAP {
		b[3] = 1
	}
	for _, a := range k.Host {
		b, _ = a.AppendBinary(b)
	}
	if !k.Suspect.IsZero() {
		b, _ = k.Suspect.AppendBinary(b)
	}
	if with, err := tlv.AppendPoolElement(b, &k.PE.PoolElement); err == nil {
		b = with
	}
	r.buf = b
	h := fnv.New64a()
	_, _ = h.Write(b)
	return h.Sum64()
}

// keepAll gives the host all own elements once more, some at a time. Those that change
// meanwhile are given as they change.
type keepAll struct {
	round  uint32
	cursor *ledger.Cursor[note]
}

// keepAllBatch is how many elements one KeepAll gives.
const keepAllBatch = 1024

func (r *Registrar) onKeepAll(ev KeepAll) {
	k := &r.keepAll
	if ev.First {
		r.ledger.Close(k.cursor)
		k.round, k.cursor = k.round+1, r.ledger.OpenEach(r.roster)
		r.peers.kept = nil
		r.keepPeers()
	}
	if k.cursor == nil {
		return
	}
	for range keepAllBatch {
		x := k.cursor.Next()
		if x == nil {
			r.ledger.Close(k.cursor)
			k.cursor = nil
			r.keepNow()
			r.act(KeptAll{})
			return
		}
		if own := x.Note.own; own == nil || own.keptRound != k.round && !own.standsIn() {
			r.keep(x)
		}
	}
}

// keepPeers gives the host the addresses of the peers, if they have changed.
func (r *Registrar) keepPeers() {
	if !r.cfg.Keep {
		return
	}
	var all [][]netip.AddrPort
	for _, p := range r.peers.list {
		if p.presented && len(p.conn.addrs) > 0 {
			all = append(all, slices.Clone(p.conn.addrs))
		}
	}
	if r.peers.kept == nil || !slices.EqualFunc(all, *r.peers.kept, slices.Equal) {
		r.peers.kept = &all
		r.act(KeepPeers{At: all})
	}
}
