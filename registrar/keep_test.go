package registrar

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// keptWorld is what a host keeps of a registrar.
type keptWorld struct {
	elements map[keptKey]*Kept
	peers    [][]netip.AddrPort
	writes   int // Keep actions
	all      int // KeptAll actions
}

type keptKey struct {
	handle rserpool.PoolHandle
	id     rserpool.PEID
}

func (w *keptWorld) note(acts []Action) {
	if w.elements == nil {
		w.elements = make(map[keptKey]*Kept)
	}
	for _, a := range acts {
		switch a := a.(type) {
		case Keep:
			w.writes++
			key := keptKey{a.Handle, a.ID}
			if a.Element == nil {
				delete(w.elements, key)
				continue
			}
			w.elements[key] = a.Element
		case KeepPeers:
			w.peers = a.At
		case KeptAll:
			w.all++
		}
	}
}

// check compares what is kept with the own elements.
func (w *keptWorld) check(r *Registrar) error {
	if !r.cfg.Keep || r.stopped {
		return nil
	}
	n := 0
	for _, x := range r.entries(r.roster) {
		n += count(!x.Note.own.standsIn())
	}
	if len(w.elements) != n {
		return fmt.Errorf("%d elements are kept, %d are own ones", len(w.elements), n)
	}
	for key, k := range w.elements {
		e := r.find(key.handle, key.id)
		if e == nil || e.standsIn() {
			return fmt.Errorf("%v is kept, and is no own element", key)
		}
		is, pe := e.toKeep(), e.PE()
		if k.Handle != key.handle || k.PE.ID != key.id || k.PE.Home != r.id || !k.PE.SameToUsers(pe) || !k.PE.ASAPTransport.Equal(pe.ASAPTransport) || k.PE.EncapPort != pe.EncapPort {
			return fmt.Errorf("%v is kept as %+v, want %+v", key, k.PE, pe)
		}
		if k.OwnASAP != is.OwnASAP || !k.Suspect.Equal(is.Suspect) {
			return fmt.Errorf("%v is kept as %+v, want %+v", key, k, is)
		}
	}
	return nil
}

// elements returns what is kept, for an event Restore.
func (w *keptWorld) sorted() (list []Kept) {
	for _, k := range w.elements {
		c := *k
		pe := *k.PE
		c.PE = &pe
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b Kept) int {
		return slices.Compare([]string{string(a.Handle), a.PE.ID.String()}, []string{string(b.Handle), b.PE.ID.String()})
	})
	return list
}

// TestKeep: each change of an own element is kept, and nothing of others.
func TestKeep(t *testing.T) {
	w := newPeerWorld(t, "10.0.9.9:9901")
	w.pass(20 * time.Second)
	w.meet(2, greater)
	n := w.kept.writes
	step := func(what string, want int) {
		t.Helper()
		if got := w.kept.writes - n; got != want {
			t.Errorf("%s: %d changes are kept, want %d", what, got, want)
		}
		n = w.kept.writes
	}
	w.up(1, rserpool.ViaUDP, "10.0.1.1")
	w.recv(1, reg("p", 1, "10.0.1.1"))
	step("registration", 1)
	k := w.kept.elements[keptKey{"p", 1}]
	if k == nil || k.Via != rserpool.ViaUDP || !slices.Equal(k.Host, peers("10.0.1.1")) || k.OwnASAP || !k.PE.Expires.Equal(w.now.Add(time.Hour)) {
		t.Errorf("kept: %+v", k)
	}
	w.recv(1, reg("p", 1, "10.0.1.1", func(e *rserpool.PoolElement) { e.Life = 60 }))
	step("another life", 1)
	w.recv(1, reg("p", 1, "10.0.1.1", func(e *rserpool.PoolElement) {
		e.Life, e.UserTransport.Port = 60, 8
	}))
	step("another port", 1)
	w.up(3, rserpool.ViaUDP, "10.0.1.1:5000")
	same := func(e *rserpool.PoolElement) { e.Life, e.UserTransport.Port = 60, 8 }
	w.recv(3, reg("p", 1, "10.0.1.1", same))
	step("another association", 1)
	e := peerElement(5, greater)
	w.tell(2, update(greater, 1, "p", e))
	step("foreign element", 0)
	w.recv(3, dereg("p", 1))
	step("deregistration", 1)
	w.recv(3, dereg("p", 1))
	step("nothing", 0)
}

// TestKeepRenewals: a renewal that only extends the life is not kept.
func TestKeepRenewals(t *testing.T) {
	w := newWorld(t)
	w.up(1, rserpool.ViaKernel, "10.0.0.1")
	life := func(e *rserpool.PoolElement) { e.Life = 100 }
	for range 1000 {
		w.recv(1, reg("p", 1, "10.0.0.1", life))
		w.now = w.now.Add(time.Second)
	}
	if n := w.kept.writes; n != 1 {
		t.Errorf("1000 renewals in 10 lives are kept %d times, want 1", n)
	}
}

// TestKeepOff: without Config.Keep there are no such actions.
func TestKeepOff(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Keep = false })
	w.up(1, rserpool.ViaKernel, "10.0.0.1")
	w.recv(1, reg("p", 1, "10.0.0.1"))
	w.recv(1, dereg("p", 1))
	w.handle(Stop{})
	if w.kept.writes > 0 || len(w.r.keeping) > 0 {
		t.Errorf("%d changes are kept", w.kept.writes)
	}
}

// TestKeepAll: a host that has lost what it kept gets all elements again, those included that
// change meanwhile.
func TestKeepAll(t *testing.T) {
	w := newWorld(t)
	w.up(1, rserpool.ViaKernel, "10.0.0.1")
	const n = 3*keepAllBatch + 7
	for i := range n { // the invariants are checked once, as each check looks at all
		m := reg(fmt.Sprintf("p%d", i%10), uint32(i+1), "10.0.0.1")
		w.kept.note(w.r.Handle(w.now, Received{Assoc: 1, PPID: asap.PPID, Data: encode(t, m)}))
	}
	w.check()
	before := w.kept.elements
	w.kept = keptWorld{}
	w.r.cfg.Keep, w.kept.elements = true, make(map[keptKey]*Kept)
	acts := w.r.Handle(w.now, KeepAll{First: true})
	w.kept.note(acts)
	if got := len(w.kept.elements); got != keepAllBatch {
		t.Errorf("a part has %d elements", got)
	}
	for _, m := range []*rserpool.PoolElement{&before[keptKey{"p1", 2}].PE.PoolElement, &before[keptKey{"p9", 3000}].PE.PoolElement} {
		w.kept.note(w.r.Handle(w.now, Received{Assoc: 1, PPID: asap.PPID, Data: encode(t, dereg("p1", uint32(m.ID)))}))
	}
	parts := 1
	for ; w.kept.all == 0 && parts < 10; parts++ {
		w.kept.note(w.r.Handle(w.now, KeepAll{}))
	}
	if parts != 4 {
		t.Errorf("%d parts, want 4", parts)
	}
	w.check()
	w.handle(KeepAll{})
	if w.kept.all != 1 {
		t.Errorf("%d ends", w.kept.all)
	}
}

// TestKeepPeers: the addresses of peers are kept when they change, and all are given again
// when the host asks for all.
func TestKeepPeers(t *testing.T) {
	w := newPeerWorld(t, "10.0.9.9:9901")
	w.pass(20 * time.Second)
	w.meet(2, greater)
	w.pass(40 * time.Second)
	if want := [][]netip.AddrPort{peers("10.0.9.2:9901")}; !slices.EqualFunc(w.kept.peers, want, slices.Equal) {
		t.Errorf("got %v, want %v", w.kept.peers, want)
	}
	w.kept.peers = nil
	w.tell(2, &enrp.Presence{Sender: greater})
	w.pass(40 * time.Second)
	if w.kept.peers != nil {
		t.Errorf("the same peers are kept again: %v", w.kept.peers)
	}
	w.handle(KeepAll{First: true})
	if w.kept.peers == nil {
		t.Error("the peers are not given with all elements")
	}
}
