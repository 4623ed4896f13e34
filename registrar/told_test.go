package registrar

import (
	"testing"

	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// TestTold: an acknowledgement for an element that is not registered is answered with a
// deregistration response, a bounded number of times a second.
func TestTold(t *testing.T) {
	w := newWorld(t)
	w.up(1, rserpool.ViaKernel, "10.0.0.1")
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
