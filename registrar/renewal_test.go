package registrar

import (
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/internal/identity"
)

// TestRenewalOfElement: an element that ends its association in good order inside of TLS is
// expected back. It stays in the answers, and is called only when it has not come.
func TestRenewalOfElement(t *testing.T) {
	farewell := func(t *testing.T) *world {
		w := newTrustWorld(t, identity.Rules{})
		w.trust(1, web1, "10.0.0.1")
		w.recv(1, reg("web", 1, "10.0.0.1"))
		w.skip("registration granted")
		w.logs = true
		w.handle(AssocDown{Assoc: 1, Reason: DownFarewell})
		w.want()
		w.wantElements("web:1")
		w.pass(renewTime - 1)
		w.want()
		return w
	}
	t.Run("back", func(t *testing.T) {
		w := farewell(t)
		w.trust(2, web1, "10.0.0.1")
		w.want()
		w.recv(2, reg("web", 1, "10.0.0.1"))
		w.want("2 < registration granted web:1")
		w.wantElements("web:1")
		w.pass(2 * renewTime)
		w.want() // nobody is called, and there is nothing for the log
		if s := w.r.Stats(); s.Registrations != 1 || s.Reregistrations != 1 || s.Probing != 0 {
			t.Errorf("%d registrations, %d re-registrations, %d probes; want 1, 1, 0", s.Registrations, s.Reregistrations, s.Probing)
		}
	})
	t.Run("gone", func(t *testing.T) {
		w := farewell(t)
		w.pass(1)
		w.want("connect #1 via 1 to [10.0.0.1:40000]")
		w.logs = false
		w.refused(1, 7)
		w.wantElements()
	})
	t.Run("back without a registration", func(t *testing.T) {
		w := farewell(t)
		w.trust(2, web1, "10.0.0.1")
		w.pass(1)
		w.want("2 < keep-alive web:1 from 10000001")
		w.recv(2, ack("web", 1))
		w.wantElements("web:1")
	})
}

// TestRenewalOfLink: a link to another registrar that one side renews makes nobody suspect.
func TestRenewalOfLink(t *testing.T) {
	ended := func(t *testing.T, why DownReason) *world {
		w := newPeerWorld(t)
		w.meet(2, greater)
		w.tell(2, update(greater, enrp.AddPE, "web", peerElement(1, greater)))
		w.logs = true
		w.handle(AssocDown{Assoc: 2, Reason: why})
		return w
	}
	active := func(w *world) {
		w.t.Helper()
		if s := w.r.Stats().Peers; s[PeerActive] != 1 {
			w.t.Errorf("peers by state: %v, want one that is active", s)
		}
	}
	t.Run("by us", func(t *testing.T) {
		w := ended(t, DownRenew)
		w.want("connect #1 via 1 to [10.0.9.2:9901]")
		active(w)
		w.handle(Connecting{Ref: 1, Assoc: 7})
		w.handle(AssocUp{Assoc: 7, Peer: peers("10.0.9.2:9901"), ENRP: true})
		w.want("7 < presence R ffff")
		w.tell(7, &enrp.Presence{Sender: greater})
		w.pass(3 * renewTime)
		active(w)
		for _, line := range w.trace {
			if strings.Contains(line, "log") {
				t.Errorf("logged: %s", line)
			}
		}
	})
	t.Run("by the peer", func(t *testing.T) {
		w := ended(t, DownFarewell)
		w.want()
		active(w)
		w.pass(renewTime - 1)
		w.want()
		w.handle(AssocUp{Assoc: 7, Peer: peers("10.0.9.2:9901"), ENRP: true})
		w.tell(7, &enrp.Presence{Sender: greater})
		w.pass(3 * renewTime)
		active(w)
		w.wantHomes("web:1@20000002")
	})
	t.Run("the peer stays away", func(t *testing.T) {
		w := ended(t, DownFarewell)
		w.logs = false
		w.pass(renewTime)
		w.want("connect #1 via 1 to [10.0.9.2:9901]")
		if s := w.r.Stats().Peers; s[PeerSuspect] != 1 {
			t.Errorf("peers by state: %v, want one that is suspect", s)
		}
	})
	t.Run("we do not reach the peer", func(t *testing.T) {
		w := ended(t, DownRenew)
		w.logs = false
		w.handle(Connecting{Ref: 1})
		w.pass(time.Minute)
		if s := w.r.Stats().Peers; s[PeerActive] != 0 {
			t.Errorf("peers by state: %v, want none that is active", s)
		}
	})
}
