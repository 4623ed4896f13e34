package registrar

import (
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// TestYieldAtLimit: an element that changes its home needs no room. If there is none
// for its new description, it keeps the present one.
func TestYieldAtLimit(t *testing.T) {
	begin := func(t *testing.T) *world {
		w := newPeerWorld(t)
		w.meet(2, smaller)
		w.up(1, rserpool.ViaKernel, "10.0.1.1")
		w.recv(1, reg("p", 1, "10.0.1.1"))
		w.skip("registration granted", "handle_update ADD_PE")
		return w
	}
	raw := []rserpool.Parameter{{Type: 0xbffe, Value: make([]byte, 64)}}
	t.Run("elements", func(t *testing.T) {
		w := begin(t)
		w.r.ledger.Limits.Elements, w.r.ledger.Limits.Pools = 1, 1
		w.tell(2, update(smaller, enrp.AddPE, "p", peerElement(1, smaller)))
		w.wantHomes("p:1@fffffff")
		w.want("2 < handle_update ADD_PE p:1@fffffff")
		w.recv(1, reg("p", 1, "10.0.1.1")) // and back again
		w.wantHomes("p:1@10000001")
	})
	t.Run("bytes", func(t *testing.T) {
		w := begin(t)
		w.r.ledger.Limits.ElementBytes = w.r.ledger.Used().ElementBytes
		pe := peerElement(1, smaller)
		pe.Unknown = raw
		w.tell(2, update(smaller, enrp.AddPE, "p", pe))
		w.wantHomes("p:1@fffffff")
		if got, most := w.r.ledger.Used().ElementBytes, w.r.ledger.Limits.ElementBytes; got > most {
			t.Errorf("elements take %d bytes, want %d at most", got, most)
		}
	})
	t.Run("what is no element", func(t *testing.T) {
		w := begin(t)
		w.r.cfg.Limits.ElementSize = 100
		w.meet(3, greater)
		w.tell(3, update(greater, enrp.AddPE, "q", peerElement(1, greater)))
		mine, theirs := peerElement(1, smaller), peerElement(1, greater)
		mine.Unknown, theirs.Unknown = raw, raw
		w.tell(2, update(smaller, enrp.AddPE, "p", mine)) // we would yield to that one
		w.tell(3, update(greater, enrp.AddPE, "q", theirs))
		w.wantHomes("p:1@10000001", "q:1@20000002")
		for p := range w.r.Space().Pools() {
			if e := p.Element(1); len(e.Unknown) > 0 {
				t.Errorf("%s has an element of more than 100 bytes", p.Handle())
			}
		}
	})
}

// TestClaimInOneStep: when an element replaces a dead one, the identifier is never
// missing, neither here nor with a peer.
func TestClaimInOneStep(t *testing.T) {
	own := func(w *world) {
		w.up(1, rserpool.ViaKernel, "10.0.1.1")
		w.recv(1, reg("p", 1, "10.0.1.1"))
	}
	foreign := func(w *world) { w.tell(2, update(greater, enrp.AddPE, "p", peerElement(1, greater))) }
	for name, tt := range map[string]struct {
		begin, end func(w *world)
	}{
		"no acknowledgement": {own, func(w *world) { w.pass(6 * time.Second) }},
		"deregistered":       {own, func(w *world) { w.recv(1, dereg("p", 1)) }},
		"unreachable":        {own, func(w *world) { w.down(1); w.handle(Connecting{Ref: 1}) }},
		"send failed": {own, func(w *world) {
			w.handle(SendFailed{Assoc: 1, Data: encode(w.t, &asap.EndpointKeepAlive{Server: testServer, Handle: "p", ID: 1, HasID: true})})
		}},
		"removed by its home": {foreign, func(w *world) {
			w.tell(2, update(greater, enrp.DelPE, "p", peerElement(1, greater)))
		}},
		"deregistered with us": {foreign, func(w *world) {
			w.up(4, rserpool.ViaKernel, "10.0.1.1")
			w.recv(4, dereg("p", 1))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newPeerWorld(t)
			w.meet(2, greater)
			tt.begin(w)
			w.up(3, rserpool.ViaKernel, "10.0.0.9")
			w.recv(3, reg("p", 1, "10.0.0.9"))
			before := w.r.Space().Pool("p") // a pool that was empty for a moment is another one
			w.skip("registration granted", "keep-alive", "handle_update ADD_PE")
			tt.end(w)
			var e *handlespace.Element
			if p := w.r.Space().Pool("p"); p != nil && p == before {
				e = p.Element(1)
			}
			if e == nil || e.UserTransport.Addrs[0].String() != "10.0.0.9" {
				t.Errorf("got element %+v in the pool that was there, want the new one", e)
			}
			for _, line := range w.trace {
				if line == "2 < handle_update DEL_PE p:1@10000001" {
					t.Errorf("got %q, want no DEL_PE", w.trace)
				}
			}
		})
	}
}

// TestClaimOtherPolicy: an element with another policy replaces the only element of its
// pool. No message says that the pool has no elements in between.
func TestClaimOtherPolicy(t *testing.T) {
	w := newPeerWorld(t)
	w.meet(2, greater)
	w.up(1, rserpool.ViaKernel, "10.0.1.1")
	w.recv(1, reg("p", 1, "10.0.1.1"))
	w.up(3, rserpool.ViaKernel, "10.0.0.9")
	w.recv(3, reg("p", 1, "10.0.0.9", func(e *rserpool.PoolElement) { e.Policy.Type = rserpool.LeastUsed }))
	w.skip("registration granted", "keep-alive", "handle_update ADD_PE")
	w.down(1)
	w.handle(Connecting{Ref: 1})
	w.want("connect #1 via 1 to [10.0.1.1:40000]", "2 < handle_update ADD_PE p:1@10000001", "3 < registration granted p:1")
	if got := w.r.Space().Pool("p").Policy(); got != rserpool.LeastUsed {
		t.Errorf("policy %v", got)
	}
}
