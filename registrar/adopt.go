package registrar

import (
	"strconv"
	"time"

	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	"github.com/rserpool/coredns-rserpool/registrar/internal/ledger"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// adopt makes a foreign element an own one. A probe connects to its ASAP transport and
// sends it a keep-alive with the H flag. An element without an ASAP transport cannot be
// reached: it is removed, and may register again. One that may not register is removed as well.
func (r *Registrar) adopt(f *entry, probes probesAt) {
	if r.isVoid(f) {
		r.stats.Removed[RemovedUnauthorized]++
		r.vacate(f, nil, ended)
		return
	}
	if !f.PE().ASAPTransport.Present() {
		r.stats.Removed[RemovedUnreachable]++
		r.vacate(f, nil, ended)
		return
	}
	r.restClaims(f)
	e := r.becomeHome(r.ledger.Move(f, r.roster, r.adoptable(&f.PE().PoolElement)), probes)
	r.awaitFarewell(e)
}

// adoptDisowned is adopt for an element that its home does not name any more.
func (r *Registrar) adoptDisowned(f *entry, probes probesAt) {
	if r.adopt(f, probes); f.Note.own != nil {
		f.Note.own.disowned = true
	}
}

// adoptable returns the description of a foreign element as an own one. Its life begins
// anew.
func (r *Registrar) adoptable(taken *rserpool.PoolElement) *handlespace.Element {
	pe := &handlespace.Element{PoolElement: *taken}
	if pe.Life > 0 {
		pe.Expires = r.now.Add(time.Duration(pe.Life) * time.Second)
	}
	return pe
}

// becomeHome makes an element that has not registered here an own one, and has it
// probed.
func (r *Registrar) becomeHome(c change, probes probesAt) *element {
	r.publish(c, adopted)
	e := r.newElement(c.Entry)
	e.ownASAP, e.adopt, e.mute = true, true, true
	r.beginLife(e)
	if e.State() == ledger.Suspect {
		r.adoptSuspect(e)
	}
	r.probeAdopted(e, probes)
	return e
}

// probeAdopted has an element without an association probed, together with the other
// ones at the same place.
func (r *Registrar) probeAdopted(e *element, probes probesAt) {
	to := r.asapAddrs(e)
	key := addrsKey(to) + strconv.Itoa(int(e.PE().EncapPort))
	p := probes[key]
	if p == nil || p.state == probeOver {
		p = &probe{to: to, host: to}
		p.adopt(e.PE().EncapPort)
		probes[key] = p
		r.countProbe()
		p.add(r, e)
		r.queueProbe(p)
		return
	}
	p.add(r, e)
	if p.state == probeAsking {
		p.fill(r)
	}
}
