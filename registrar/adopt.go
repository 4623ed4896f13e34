package registrar

import (
	"strconv"
	"time"

	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// adopt makes another registrar's element our own. A probe calls it, at its
// ASAP transport, and sends it a keep-alive with the H flag. An element without
// an ASAP transport cannot be called: it is gone, unless it registers anew.
func (r *Registrar) adopt(f *entry, probes probesAt) {
	if !f.PE().ASAPTransport.Present() {
		r.stats.Removed[RemovedUnreachable]++
		r.vacate(f, nil, ended)
		return
	}
	for c := f.Note.claim; c != nil; c = c.next {
		r.timers.Stop(&c.timer) // the former home is not asked again
	}
	e := r.becomeHome(r.ledger.Move(f, r.roster, r.adoptable(&f.PE().PoolElement)), probes)
	r.awaitFarewell(e)
}

// adoptable is another registrar's element as one of our own: its life begins anew.
func (r *Registrar) adoptable(taken *rserpool.PoolElement) *handlespace.Element {
	pe := &handlespace.Element{PoolElement: *taken}
	if pe.Life > 0 {
		pe.Expires = r.now.Add(time.Duration(pe.Life) * time.Second)
	}
	return pe
}

// becomeHome takes an element for our own that has not registered with us, and has
// it probed.
func (r *Registrar) becomeHome(c change, probes probesAt) *element {
	r.publish(c, adopted)
	e := newElement(c.Entry)
	e.ownASAP, e.adopt = true, true
	if pe := e.PE(); !pe.Expires.IsZero() {
		r.timers.Arm(&e.life, e, pe.Expires)
	}
	r.probeAdopted(e, probes)
	return e
}

// probeAdopted has an element that has no association called, together with
// those that take calls at the same place.
func (r *Registrar) probeAdopted(e *element, probes probesAt) {
	to := r.asapAddrs(e)
	key := addrsKey(to) + strconv.Itoa(int(e.PE().EncapPort))
	p := probes[key]
	if p == nil || p.state == probeOver {
		p = &probe{to: to, host: to, adopted: true, encap: e.PE().EncapPort}
		if p.encap != 0 {
			p.via = ViaUDP
		}
		probes[key] = p
		r.stats.Probes++
		r.probing++
		p.add(e)
		r.queueProbe(p)
		return
	}
	p.add(e)
	if p.state == probeAsking {
		p.fill(r)
	}
}
