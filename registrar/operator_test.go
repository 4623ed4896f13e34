package registrar

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// remove has the operator remove an element, and returns the answer, of which there is one.
func (w *world) remove(h string, id uint32) string {
	w.t.Helper()
	var answers []string
	for _, a := range w.handle(Remove{Handle: rserpool.PoolHandle(h), ID: rserpool.PEID(id)}) {
		if a, ok := a.(Removed); ok {
			answers = append(answers, fmt.Sprintf("%d home %x at %v", a.Result, uint32(a.Home), a.At))
		}
	}
	if len(answers) != 1 {
		w.t.Fatalf("got answers %q, want one", answers)
	}
	return answers[0]
}

// TestOperatorRemoves: the operator removes elements of this registrar, and is told who has
// the others.
func TestOperatorRemoves(t *testing.T) {
	w := newPeerWorld(t)
	w.meet(2, greater)
	w.up(1, rserpool.ViaKernel, "10.0.0.1")
	w.recv(1, reg("p", 1, "10.0.0.1"))
	w.recv(1, reg("p", 2, "10.0.0.1"))
	w.tell(2, update(greater, enrp.AddPE, "a", peerElement(1, greater)))
	w.skip("registration granted", "handle_update ADD_PE")
	for _, tt := range []struct {
		h    string
		id   uint32
		want string
	}{
		{"p", 3, "2 home 0 at []"},
		{"none", 1, "2 home 0 at []"},
		{"a", 1, "3 home 20000002 at [10.0.9.2:9901]"},
		{"p", 1, "0 home 0 at []"},
		{"p", 1, "2 home 0 at []"},
	} {
		if got := w.remove(tt.h, tt.id); got != tt.want {
			t.Errorf("remove %s:%x: got %q, want %q", tt.h, tt.id, got, tt.want)
		}
	}
	// The peer is told, the element is not: it would register again.
	w.want("registrar.Removed", "registrar.Removed", "registrar.Removed", "2 < handle_update DEL_PE p:1@10000001", "registrar.Removed", "registrar.Removed")
	w.wantHomes("a:1@20000002", "p:2@10000001")
	if got := w.r.Stats().Removed[RemovedByOperator]; got != 1 {
		t.Errorf("got %d elements removed by the operator, want 1", got)
	}
	w.recv(1, reg("p", 1, "10.0.0.1"))
	w.wantHomes("a:1@20000002", "p:1@10000001", "p:2@10000001")
}

// TestOperatorRemovesClaimed: an element that another one waits for is removed, and the answer
// says that its identifier is in use.
func TestOperatorRemovesClaimed(t *testing.T) {
	w := newWorld(t)
	w.up(1, rserpool.ViaKernel, "10.0.0.1")
	w.recv(1, reg("p", 1, "10.0.0.1"))
	w.up(2, rserpool.ViaKernel, "10.0.0.2")
	w.recv(2, reg("p", 1, "10.0.0.2"))
	if diff := cmp.Diff("1 home 0 at []", w.remove("p", 1)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := w.r.Space().Pool("p").Element(1).UserTransport.Addrs[0].String(); got != "10.0.0.2" {
		t.Errorf("the element is at %s, want that of the registration that has waited", got)
	}
}
