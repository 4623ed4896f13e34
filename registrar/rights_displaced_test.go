package registrar

import (
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/internal/identity"
)

// answers are ways in which another one answers a call at the place of an element of web1 or web2.
var answers = []struct {
	name string
	do   func(w *world, id AssocID)
}{
	{"certificate for another pool", func(w *world, id AssocID) { w.trust(id, bank1, "10.0.0.9") }},
	{"no accepted certificate", func(w *world, id AssocID) { w.handle(AssocDown{Assoc: id, Reason: DownUntrusted}) }},
	{"denied certificate", func(w *world, id AssocID) {
		w.trust(id, "dns:denied", "10.0.0.9")
		w.down(id)
	}},
}

// displacedWorld has two elements of a pool that do not answer. Calls 1 and 2 go to them.
func displacedWorld(t *testing.T) *world {
	t.Helper()
	w := newTrustWorld(t, identity.Rules{Deny: []string{"dns:denied"}})
	w.trust(1, web1, "10.0.0.1")
	w.trust(2, web2, "10.0.0.2")
	w.recv(1, reg("web", 1, "10.0.0.1"))
	w.recv(2, reg("web", 2, "10.0.0.2"))
	w.down(1)
	w.down(2)
	w.handle(Connecting{Ref: 1, Assoc: 11})
	w.handle(Connecting{Ref: 2, Assoc: 12})
	w.trace = nil
	return w
}

// TestDisplaced: if another one answers at the place of an element, clients are not sent there
// as long as the pool has any other element, even a silent one. The element is not removed, and
// the pool is not emptied.
func TestDisplaced(t *testing.T) {
	for _, tt := range answers {
		t.Run(tt.name, func(t *testing.T) {
			w := displacedWorld(t)
			tt.do(w, 11)
			w.wantHomes("web:2@10000001") // a member
			w.down(12)                    // nobody answers
			w.wantSuspects("web:1", "web:2")
			w.wantHomes("web:2@10000001")
			w.trust(21, bank1, "10.0.0.2:40001") // at another port of that host: no reason
			w.wantHomes("web:2@10000001")
			s := w.r.Stats()
			if s.Suspected[SilentDisplaced] != 1 || s.RightsRefused.Elements != 1 || s.Removed != [removeReasons]uint64{} {
				t.Errorf("got %+v, suspected %v, removed %v", s.RightsRefused, s.Suspected, s.Removed)
			}
		})
		t.Run(tt.name+", both", func(t *testing.T) {
			w := displacedWorld(t)
			tt.do(w, 11)
			tt.do(w, 12)
			w.wantSuspects("web:1", "web:2")
			w.wantHomes("web:1@10000001", "web:2@10000001") // all that there is
			w.trace = nil
			w.trust(3, web1, "10.0.0.1")
			w.recv(3, reg("web", 1, "10.0.0.1"))
			w.wantHomes("web:1@10000001") // it is back, and the other one is not needed
			w.wantSuspects("web:2")
			w.trace = nil
		})
	}
}

// TestDisplacedLife: a guard keeps an element that is displaced only if there is no other one.
func TestDisplacedLife(t *testing.T) {
	for _, tt := range []struct {
		name string
		both bool
		most time.Duration
	}{{"beside a suspect", false, 11 * time.Minute}, {"alone", true, time.Hour + time.Minute}} {
		t.Run(tt.name, func(t *testing.T) {
			w := displacedWorld(t)
			answers[0].do(w, 11)
			w.down(11)
			if tt.both {
				answers[0].do(w, 12)
			}
			w.down(12)
			w.pass(tt.most - 2*time.Minute)
			if w.r.find("web", 1) == nil {
				t.Errorf("the element is removed before %v", tt.most-2*time.Minute)
			}
			w.pass(2 * time.Minute)
			if w.r.find("web", 1) != nil {
				t.Errorf("the element is still there after %v", tt.most)
			}
			if !tt.both && w.r.find("web", 2) == nil {
				t.Error("the one that is only silent is removed as well")
			}
			w.trace = nil
		})
	}
}

// TestDisplacedRestored: a registrar that has started again, and whose guard is on, displaces an
// element all the same, and does not keep it for longer.
func TestDisplacedRestored(t *testing.T) {
	before := newTrustWorld(t, identity.Rules{})
	for i, name := range []string{web1, web2} {
		addr := []string{"10.0.0.1", "10.0.0.2"}[i]
		before.trust(AssocID(i+1), name, addr)
		before.recv(AssocID(i+1), reg("web", uint32(i+1), addr))
	}
	w := restarted(t, before, time.Second, func(c *Config) { c.Rights = rights(t, identity.Rules{}) })
	w.serve()
	w.wantStates("web:1 unconfirmed", "web:2 unconfirmed")
	w.handle(Connecting{Ref: 1, Assoc: 11})
	w.trust(11, bank1, "10.0.0.1")
	w.wantStates("web:1 suspect", "web:2 unconfirmed")
	w.wantHomes("web:2@10000001")
	w.pass(11 * time.Minute)
	w.trace = nil
	w.wantStates("web:2 unconfirmed")
	if w.r.Stats().Guarded != 1 {
		t.Error("the guard is not on")
	}
}

// TestDisplacedClaimed: the element has moved to another host, and somebody else is where it was.
func TestDisplacedClaimed(t *testing.T) {
	w := displacedWorld(t)
	w.trust(3, web1, "10.0.0.3")
	w.recv(3, reg("web", 1, "10.0.0.3"))
	w.want()
	answers[0].do(w, 11)
	w.want("3 < registration granted web:1")
	w.wantHomes("web:1@10000001", "web:2@10000001")
}

// TestUntrustedLater: an element whose certificate is not accepted any more is removed when a call
// finds that again, also if it was asked, or somebody else has answered meanwhile.
func TestUntrustedLater(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(w *world)
		want string
	}{
		{"asked", func(w *world) {
			w.trust(11, web1, "10.0.0.1")
			w.handle(AssocDown{Assoc: 11, Reason: DownUntrusted})
		}, "connect #3 via 1 to [10.0.0.1:40000]"},
		{"displaced", func(w *world) {
			w.handle(AssocDown{Assoc: 11})
			w.trust(1, web1, "10.0.0.1")
			w.recv(1, reg("web", 1, "10.0.0.1"))
			w.trace = nil
			w.handle(AssocDown{Assoc: 1, Reason: DownUntrusted})
			w.want("connect #3 via 1 to [10.0.0.1:40000]")
			w.handle(Connecting{Ref: 3, Assoc: 13})
			w.trust(13, bank1, "10.0.0.1")
			w.wantHomes("web:2@10000001")
			w.down(13)
		}, "connect #4 via 1 to [10.0.0.1:40000]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := displacedWorld(t)
			tt.do(w)
			w.handle(AssocDown{Assoc: 12}) // the other one is silent
			w.trace = nil
			for w.r.find("web", 1) != nil && len(w.trace) == 0 {
				w.until(time.Minute)
			}
			var call uint64
			for _, line := range w.trace {
				if line == tt.want {
					call = uint64(tt.want[len("connect #")] - '0')
				}
			}
			if call == 0 {
				t.Fatalf("got %q, want %q", w.trace, tt.want)
			}
			w.trace = nil
			w.handle(Connecting{Ref: call, Assoc: 14})
			w.handle(AssocDown{Assoc: 14, Reason: DownUntrusted})
			if n := w.r.Stats().Removed[RemovedUntrusted]; n != 1 || w.r.find("web", 1) != nil {
				t.Errorf("%d elements removed for their certificate, want 1", n)
			}
			w.trace = nil
		})
	}
}

// TestDisplacedContested: a peer that has the element keeps it.
func TestDisplacedContested(t *testing.T) {
	w := displacedWorld(t)
	w.meetAs(9, greater, ns1)
	w.tell(9, update(greater, enrp.AddPE, "web", named(1, greater, web1)))
	w.wantHomes("web:1@10000001", "web:2@10000001") // until the call has a result
	answers[0].do(w, 11)
	w.wantHomes("web:1@20000002", "web:2@10000001")
	w.trace = nil
}
