package registrar

import (
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// TestTakeoverOfUnknown: a registrar that this one does not know has no elements here. It agrees to any
// takeover of such a one, and remembers nothing of it.
func TestTakeoverOfUnknown(t *testing.T) {
	w := newPeerWorld(t)
	w.meet(2, greater)
	for id := range rserpool.ServerID(1000) {
		w.tell(2, &enrp.InitTakeover{Sender: greater, Target: third + id})
		w.tell(2, &enrp.TakeoverServer{Sender: greater, Target: third + id})
	}
	w.skip("init_takeover_ack")
	if got := len(w.r.peers.list); got != 1 {
		t.Errorf("%d peers are known, want one", got)
	}
	w.meet(3, third)
	w.tell(3, update(third, enrp.AddPE, "a", peerElement(1, third)))
	w.tell(2, &enrp.TakeoverServer{Sender: greater, Target: third})
	w.wantHomes("a:1@30000003")
	if got := w.r.Stats().Peers[PeerActive]; got != 2 {
		t.Errorf("%d peers are active, want both", got)
	}
}

// TestTakeoverOfUnheard: a registrar that this one knows from others only, and has not heard yet, may
// live: it is asked before this registrar agrees to its takeover.
func TestTakeoverOfUnheard(t *testing.T) {
	begin := func(t *testing.T) *world {
		w := newPeerWorld(t, "10.0.9.2:9901")
		w.handle(Connecting{Ref: 1, Assoc: 2})
		w.meet(2, greater)
		w.tell(2, &enrp.ListResponse{Sender: greater, Servers: []rserpool.ServerInformation{{
			ID: third, Transport: rserpool.Transport{Type: rserpool.SCTP, Port: 9901, Addrs: addrsIn(peers("10.0.9.3:9901"))},
		}}})
		w.tell(2, &enrp.HandleTableResponse{Sender: greater, Pools: []enrp.PoolEntry{{Handle: "a", Elements: []rserpool.PoolElement{peerElement(1, third)}}}})
		w.skip("handle_table_request", "connect", "list_request", "presence")
		w.tell(2, &enrp.InitTakeover{Sender: greater, Target: third})
		w.tell(2, &enrp.TakeoverServer{Sender: greater, Target: third})
		w.wantHomes("a:1@30000003")
		w.want()
		return w
	}
	t.Run("comes", func(t *testing.T) {
		w := begin(t)
		w.meet(3, third)
		w.pass(5 * time.Second)
		w.tell(2, &enrp.TakeoverServer{Sender: greater, Target: third})
		w.wantHomes("a:1@30000003")
		w.want()
	})
	t.Run("does not come", func(t *testing.T) {
		w := begin(t)
		w.pass(2500 * time.Millisecond)
		w.want("2 < init_takeover_ack to 20000002 30000003")
		w.tell(2, &enrp.TakeoverServer{Sender: greater, Target: third})
		w.wantHomes("a:1@20000002")
	})
	t.Run("its address is not known", func(t *testing.T) {
		w := newPeerWorld(t, "10.0.9.2:9901")
		w.handle(Connecting{Ref: 1, Assoc: 2})
		w.meet(2, greater)
		w.tell(2, &enrp.ListResponse{Sender: greater})
		w.tell(2, &enrp.HandleTableResponse{Sender: greater, Pools: []enrp.PoolEntry{{Handle: "a", Elements: []rserpool.PoolElement{peerElement(1, third)}}}})
		w.skip("handle_table_request", "connect", "list_request", "presence")
		w.tell(2, &enrp.InitTakeover{Sender: greater, Target: third})
		w.pass(2500 * time.Millisecond)
		w.want("2 < init_takeover_ack to 20000002 30000003")
	})
}
