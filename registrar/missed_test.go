package registrar

import (
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// TestTold: an element that is removed for a missing acknowledgement gets a deregistration
// response, and is registered again if it acknowledges late. An acknowledgement for an
// element that is not registered gets the same response, a bounded number of times a
// second.
func TestTold(t *testing.T) {
	w := newWorld(t)
	w.up(1, rserpool.ViaKernel, "10.0.0.1")
	w.recv(1, reg("p", 1, "10.0.0.1"))
	w.want("1 < registration granted p:1")
	w.until(8 * time.Second)
	w.want("1" + ka1)
	w.until(5 * time.Second)
	w.want("1 < deregistration p:1")
	w.wantElements()
	expires := w.start.Add(time.Hour)
	w.recv(1, ack("p", 1))
	w.want()
	w.wantElements("p:1")
	if got := w.r.Space().Pool("p").Element(1).Expires; !got.Equal(expires) {
		t.Errorf("expires %v, want %v as before", got, expires)
	}
	w.until(8 * time.Second)
	w.want("1" + ka1) // it is supervised
	w.recv(1, dereg("p", 1))
	w.want("1 < deregistration p:1")
	for range 100 {
		w.recv(1, ack("p", 1))
	}
	if got := len(w.trace); got != 2*10 {
		t.Errorf("%d answers to 100 acknowledgements, want 20", got)
	}
	w.skip("deregistration")
	w.recv(1, reg("p", 1, "10.0.0.1"))
	w.want("1 < registration granted p:1")
	w.recv(1, ack("p", 1)) // out of time, but it is registered
	w.up(2, rserpool.ViaTCP, "10.0.0.2")
	w.recv(2, ack("p", 9))
	w.want()
}

// TestReinstate: when a missed element is not registered again.
func TestReinstate(t *testing.T) {
	begin := func(t *testing.T, n uint32, change ...func(*rserpool.PoolElement)) *world {
		w := newWorld(t)
		w.up(1, rserpool.ViaKernel, "10.0.0.1")
		for id := range n {
			w.recv(1, reg("p", 1+id, "10.0.0.1", change...))
		}
		w.pass(15 * time.Second)
		w.wantElements()
		w.skip("registration granted", "deregistration", "keep-alive", "removed")
		return w
	}
	const told = "1 < deregistration p:1"
	t.Run("another one has come", func(t *testing.T) {
		w := begin(t, 1)
		w.up(2, rserpool.ViaKernel, "10.0.0.2")
		w.recv(2, reg("p", 1, "10.0.0.2"))
		w.recv(1, ack("p", 1))
		w.recv(2, dereg("p", 1))
		w.recv(1, ack("p", 1))
		w.want("2 < registration granted p:1", "2 < deregistration p:1", told)
	})
	t.Run("its life is over", func(t *testing.T) {
		w := begin(t, 1, life(20))
		w.pass(4 * time.Second)
		w.recv(1, ack("p", 1))
		w.want(told)
		w.wantElements()
	})
	t.Run("it does not fit any more", func(t *testing.T) {
		w := begin(t, 1)
		w.recv(1, reg("p", 2, "10.0.0.1", policy(rserpool.Random)))
		w.recv(1, ack("p", 1))
		w.want("1 < registration granted p:2", told)
	})
	t.Run("too many", func(t *testing.T) {
		w := begin(t, maxMissedPerAssoc+1)
		for id := range uint32(maxMissedPerAssoc + 1) {
			w.recv(1, ack("p", 1+id))
		}
		if got := len(w.r.sortedElements()); got != maxMissedPerAssoc {
			t.Errorf("%d elements, want %d", got, maxMissedPerAssoc)
		}
	})
	t.Run("its association has ended", func(t *testing.T) {
		w := begin(t, 1)
		w.down(1)
		w.up(2, rserpool.ViaKernel, "10.0.0.1")
		w.recv(2, ack("p", 1))
		w.want("2 < deregistration p:1")
	})
	t.Run("its own ASAP transport", func(t *testing.T) {
		w := begin(t, 1, asapAt(99, "10.0.0.1"))
		w.recv(1, ack("p", 1))
		w.down(1)
		w.want("connect #1 via 1 to [10.0.0.1:99]")
	})
}

// TestToldForeign: an acknowledgement of a foreign element gets no response.
func TestToldForeign(t *testing.T) {
	w := newPeerWorld(t)
	w.meet(2, greater)
	w.tell(2, update(greater, enrp.AddPE, "p", foreignAt(greater, 1001)))
	w.up(1, rserpool.ViaKernel, "10.0.1.1:1001")
	w.recv(1, ack("p", 1))
	w.want()
	w.recv(1, ack("p", 2))
	w.want("1 < deregistration p:2")
}
