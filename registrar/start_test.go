package registrar

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

func TestAloneInScope(t *testing.T) {
	w := newPeerWorld(t)
	if !w.r.Ready() {
		t.Error("not ready without peers")
	}
}

// TestMentor follows RFC 5353, Section 3.2.
func TestMentor(t *testing.T) {
	w := newPeerWorld(t, "10.0.9.2:9901")
	w.want("connect #1 via 0 to [10.0.9.2:9901]")
	if w.r.Ready() {
		t.Error("ready before there is a handlespace")
	}
	w.up(1, rserpool.ViaKernel, "10.0.1.9")
	w.recv(1, reg("a", 1, "10.0.1.9"))
	w.recv(1, resolve("a"))
	w.want("1 < registration rejected a:1 cause 6", "1 < resolution a cause 6")
	w.handle(Connecting{Ref: 1, Assoc: 2})
	w.handle(AssocUp{Assoc: 2, Peer: peers("10.0.9.2:9901"), Via: rserpool.ViaKernel})
	w.want("2 < presence R ffff")
	w.tell(2, &enrp.Presence{Sender: greater})
	w.want("2 < presence to 20000002 R ffff", "2 < list_request to 20000002")
	w.tell(2, &enrp.HandleTableRequest{Sender: greater})
	w.tell(2, &enrp.ListRequest{Sender: greater})
	w.want("2 < handle_table_response to 20000002 R", "2 < list_response to 20000002 R")
	w.tell(2, &enrp.ListResponse{Sender: greater})
	w.want("2 < handle_table_request to 20000002")
	part := func(id uint32, more bool) *enrp.HandleTableResponse {
		return &enrp.HandleTableResponse{Sender: greater, More: more, Pools: []enrp.PoolEntry{
			{Handle: "a", Elements: []rserpool.PoolElement{peerElement(id, greater), peerElement(id+1, third)}},
		}}
	}
	w.tell(2, part(1, true))
	w.want("2 < handle_table_request to 20000002")
	w.tell(2, part(3, false))
	w.wantHomes("a:1@20000002", "a:2@30000003", "a:3@20000002", "a:4@30000003")
	if !w.r.Ready() {
		t.Error("not ready with the handlespace")
	}
}

// TestNotReadyLogged: the log names the reason of refusals that are no limit, once, and how many
// there were.
func TestNotReadyLogged(t *testing.T) {
	w := newPeerWorld(t, "10.0.9.2:9901")
	w.logs = true
	w.up(1, rserpool.ViaKernel, "10.0.1.9")
	w.trace = nil
	for id := range 3 {
		w.recv(1, reg("a", uint32(id+1), "10.0.1.9"))
	}
	w.want(`log registration of pool element 00000001 in pool "a" by 10.0.1.9 is refused: lack of resources: this registrar is not ready, because it does not have the handlespace yet: it refuses all registrations until then, and logs how many when it is ready`,
		"1 < registration rejected a:1 cause 6", "1 < registration rejected a:2 cause 6", "1 < registration rejected a:3 cause 6")
	w.pass(time.Minute)
	w.recv(1, reg("a", 1, "10.0.1.9"))
	ready := slices.DeleteFunc(w.trace, func(line string) bool { return !strings.Contains(line, "log this registrar is ready") })
	if want := []string{"log this registrar is ready: registrations that it has refused before: 3; elements try again"}; !slices.Equal(ready, want) {
		t.Errorf("got %q, want %q", ready, want)
	}
}

// TestReturn: a registrar restarts with its identifier. It connects to the elements that its
// mentor still lists as the registrar's own. Elements that acknowledge a keep-alive stay.
func TestReturn(t *testing.T) {
	w := newPeerWorld(t, "10.0.9.2:9901")
	w.meet(2, greater)
	w.tell(2, &enrp.ListResponse{Sender: greater})
	lost := peerElement(4, testServer)
	lost.ASAPTransport = rserpool.Transport{}
	w.tell(2, &enrp.HandleTableResponse{Sender: greater, More: true, Pools: []enrp.PoolEntry{
		{Handle: "a", Elements: []rserpool.PoolElement{peerElement(1, testServer), peerElement(2, testServer), lost, peerElement(5, greater)}},
	}})
	w.tell(2, &enrp.HandleTableResponse{Sender: greater, Pools: []enrp.PoolEntry{{Handle: "b", Elements: []rserpool.PoolElement{peerElement(3, testServer)}}}})
	w.wantHomes("a:1@10000001", "a:2@10000001", "a:5@20000002", "b:3@10000001")
	w.trace = w.trace[slices.IndexFunc(w.trace, func(s string) bool { return strings.HasPrefix(s, "connect #2") }):]
	w.want("connect #2 via 0 to [10.0.1.1:40000]", "2 < handle_table_request to 20000002")
	w.handle(Connecting{Ref: 2, Assoc: 7})
	w.up(7, rserpool.ViaKernel, "10.0.1.1")
	w.want("7 < keep-alive a:1 from 10000001 H", "7 < keep-alive a:2 from 10000001 H", "7 < keep-alive b:3 from 10000001 H")
	w.recv(7, ack("a", 2))
	w.recv(7, ack("b", 3))
	w.want("2 < handle_update ADD_PE a:2@10000001", "2 < handle_update ADD_PE b:3@10000001")
	w.pass(w.r.cfg.Timers.ProbeTimeout)
	w.wantHomes("a:2@10000001", "a:5@20000002", "b:3@10000001")
}

// TestMentorFails: after refusals, silence and lost associations the registrar still
// starts to serve.
func TestMentorFails(t *testing.T) {
	for _, tt := range []struct {
		name string
		then func(*world)
	}{
		{"no answer", func(*world) {}},
		{"no association", func(w *world) { w.handle(Connecting{Ref: 1}) }},
		{"refused list", func(w *world) {
			w.meet(2, greater)
			w.tell(2, &enrp.ListResponse{Sender: greater, Reject: true})
		}},
		{"refused table, then lost", func(w *world) {
			w.meet(2, greater)
			w.tell(2, &enrp.ListResponse{Sender: greater})
			w.tell(2, &enrp.HandleTableResponse{Sender: greater, Reject: true})
			w.down(2)
		}},
		{"lost", func(w *world) {
			w.meet(2, greater)
			w.down(2)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newPeerWorld(t, "10.0.9.2:9901")
			tt.then(w)
			w.pass(9 * time.Second)
			if w.r.Ready() {
				t.Fatal("ready without a handlespace")
			}
			w.pass(7 * time.Second)
			if !w.r.Ready() {
				t.Error("still not ready")
			}
		})
	}
}
