package registrar

import (
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// TestForeignZero: peers may have elements with the identifier 0 (RFC 5354, Section 3.14). If
// this registrar dropped them, each presence would start another audit.
func TestForeignZero(t *testing.T) {
	w := newPeerWorld(t)
	w.meet(2, greater)
	w.tell(2, update(greater, enrp.AddPE, "a", peerElement(0, greater)))
	w.tell(2, update(greater, enrp.AddPE, "a", peerElement(1, greater)))
	w.wantHomes("a:0@20000002", "a:1@20000002")
	var sum enrp.Checksum
	sum.Add("a", 0)
	sum.Add("a", 1)
	w.tell(2, &enrp.Presence{Sender: greater, HasChecksum: true, Checksum: sum.Value()})
	w.want() // no audit
	w.tell(2, update(greater, enrp.DelPE, "a", peerElement(0, greater)))
	w.wantHomes("a:1@20000002")
}

// TestMisfits: after a partition of the network, two registrars have elements of different
// policies in one pool. Each registrar continues to serve the elements of its own policy,
// and sets the others aside.
func TestMisfits(t *testing.T) {
	weighted := func(id uint32, home rserpool.ServerID) rserpool.PoolElement {
		e := peerElement(id, home)
		e.Policy = rserpool.Policy{Type: rserpool.WeightedRoundRobin, Weight: 2}
		return e
	}
	begin := func(t *testing.T) *world {
		w := newPeerWorld(t)
		w.meet(2, greater)
		w.meet(3, third)
		w.up(1, rserpool.ViaKernel, "10.0.1.9")
		w.recv(1, reg("a", 9, "10.0.1.9"))
		w.tell(2, update(greater, enrp.AddPE, "a", weighted(1, greater)))
		w.tell(2, update(greater, enrp.AddPE, "a", weighted(2, greater)))
		w.wantHomes("a:9@10000001")
		w.skip("registration granted", "handle_update ADD_PE")
		return w
	}
	t.Run("known", func(t *testing.T) {
		w := begin(t)
		var sum enrp.Checksum
		sum.Add("a", 1)
		sum.Add("a", 2)
		w.tell(2, &enrp.Presence{Sender: greater, HasChecksum: true, Checksum: sum.Value()})
		w.want() // no audit
		w.tell(3, &enrp.HandleTableRequest{Sender: third})
		w.want("3 < handle_table_response to 30000003 a:9@10000001 a:1@20000002 a:2@20000002")
		if s := w.r.Stats(); s.Misfits != 2 || s.Foreign != 2 || s.Elements != 1 {
			t.Errorf("got %d set aside, %d foreign, %d in the handlespace; want 2, 2, 1", s.Misfits, s.Foreign, s.Elements)
		}
	})
	t.Run("ours leave", func(t *testing.T) {
		w := begin(t)
		w.recv(1, dereg("a", 9))
		w.wantHomes("a:1@20000002", "a:2@20000002")
		w.recv(1, reg("a", 9, "10.0.1.9"))
		if last := w.trace[len(w.trace)-1]; !strings.HasPrefix(last, "1 < registration rejected a:9") {
			t.Errorf("got %q, want the pool to have the others' policy now", last)
		}
	})
	t.Run("they leave", func(t *testing.T) {
		w := begin(t)
		w.tell(2, update(greater, enrp.DelPE, "a", weighted(1, greater)))
		w.tell(2, update(greater, enrp.AddPE, "a", peerElement(2, greater)))
		w.wantHomes("a:2@20000002", "a:9@10000001")
	})
	t.Run("one of another registrar changes", func(t *testing.T) {
		w := begin(t)
		w.tell(3, update(third, enrp.AddPE, "b", peerElement(5, third)))
		w.tell(2, update(greater, enrp.AddPE, "b", weighted(6, greater)))
		w.wantHomes("a:9@10000001", "b:5@30000003")
		w.tell(3, update(third, enrp.AddPE, "b", weighted(5, third)))
		w.wantHomes("a:9@10000001", "b:5@30000003", "b:6@20000002")
	})
	t.Run("taken over", func(t *testing.T) {
		w := begin(t)
		w.down(2)
		w.pass(5 * time.Second)
		w.tell(3, &enrp.InitTakeoverAck{Sender: third, Target: greater})
		w.pass(time.Second)
		w.wantHomes("a:9@10000001")
		if members(w.r.roster) != 3 {
			t.Errorf("got %d elements of our own, want 3", members(w.r.roster))
		}
		w.recv(1, dereg("a", 9))
		w.wantHomes("a:1@10000001", "a:2@10000001")
	})
}
