package registrar

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/internal/tlv"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// TestUpdates: RFC 5353, Section 3.3, and which registrar may change what.
func TestUpdates(t *testing.T) {
	w := newPeerWorld(t)
	w.meet(2, greater)
	w.meet(3, third)
	w.up(1, rserpool.ViaKernel, "10.0.1.9")
	w.recv(1, reg("a", 9, "10.0.1.9"))
	w.want("2 < handle_update ADD_PE a:9@10000001", "3 < handle_update ADD_PE a:9@10000001", "1 < registration granted a:9")
	w.recv(1, dereg("a", 9))
	w.want("2 < handle_update DEL_PE a:9@10000001", "3 < handle_update DEL_PE a:9@10000001", "1 < deregistration a:9")

	w.tell(2, update(greater, enrp.AddPE, "a", peerElement(1, greater)))
	w.wantHomes("a:1@20000002")
	w.tell(3, update(third, enrp.DelPE, "a", peerElement(1, greater)))
	w.tell(3, update(third, enrp.AddPE, "a", peerElement(1, greater)))
	w.wantHomes("a:1@20000002")
	if got := w.r.Stats().UpdatesRefused; got != 2 {
		t.Errorf("got %d updates refused, want 2", got)
	}
	w.tell(2, update(greater, enrp.AddPE, "a", peerElement(1, third))) // handed over
	w.wantHomes("a:1@30000003")
	w.tell(2, update(greater, enrp.AddPE, "a", peerElement(1, greater))) // moved
	w.wantHomes("a:1@20000002")
	w.tell(2, update(greater, enrp.DelPE, "a", peerElement(1, greater)))
	w.wantHomes()
	w.want()
}

// TestNoPolicy: an element that a peer names without a policy is served as round robin,
// the default (RFC 5356, Section 4.1).
func TestNoPolicy(t *testing.T) {
	w := newPeerWorld(t)
	w.meet(2, greater)
	e := peerElement(1, greater)
	e.Policy = rserpool.Policy{}
	w.tell(2, update(greater, enrp.AddPE, "a", e))
	w.tell(2, update(greater, enrp.AddPE, "a", peerElement(2, greater)))
	w.wantHomes("a:1@20000002", "a:2@20000002")
	if got := w.r.Space().Pool("a").Policy(); got != rserpool.RoundRobin {
		t.Errorf("policy %v, want round robin", got)
	}
	w.up(1, rserpool.ViaKernel, "10.0.1.9")
	w.recv(1, reg("a", 3, "10.0.1.9"))
	w.want("2 < handle_update ADD_PE a:3@10000001", "1 < registration granted a:3")
}

// TestEncapPort: peers get the UDP port of an element whose SCTP is in UDP, and the
// registrar that takes it over connects to that port. Clients do not get it, and an
// element cannot set it. The UDP port for users is the element's own, and passed on.
func TestEncapPort(t *testing.T) {
	w := newPeerWorld(t)
	w.meet(2, greater)
	w.handle(AssocUp{Assoc: 1, Peer: peers("10.0.1.9"), Via: rserpool.ViaUDP, EncapPort: 40001})
	m := reg("b", 9, "10.0.1.9")
	m.Element.EncapPort, m.Element.UserEncapPort = 53, 5005
	user := func(e rserpool.PoolElement) uint16 {
		if e.UserEncapPort != 5005 {
			t.Errorf("UDP port %d for users, want 5005, as the element says", e.UserEncapPort)
		}
		return e.EncapPort
	}
	port := func(to AssocID, acts []Action) (port uint16, ok bool) {
		for _, a := range acts {
			if s, is := a.(*Send); is && s.Assoc == to && to == 2 {
				msg, _, _ := enrp.Parse(s.Data)
				return user(msg.(*enrp.HandleUpdate).Element), true
			} else if is && s.Assoc == to {
				msg, _, _ := asap.Parse(s.Data)
				return user(msg.(*asap.HandleResolutionResponse).Elements[0]), true
			}
		}
		return 0, false
	}
	if got, ok := port(2, w.handle(Received{Assoc: 1, PPID: asap.PPID, Data: encode(t, m)})); !ok || got != 40001 {
		t.Errorf("a peer is told UDP port %d, want 40001", got)
	}
	if got, ok := port(1, w.handle(Received{Assoc: 1, PPID: asap.PPID, Data: encode(t, resolve("b"))})); !ok || got != 0 {
		t.Errorf("a client is told UDP port %d, want none", got)
	}
	for id, at := range []uint16{40002, 40002, 40003, 0} {
		e := peerElement(uint32(id+1), greater)
		e.EncapPort = at
		w.tell(2, update(greater, enrp.AddPE, "a", e))
	}
	w.down(2)
	w.handle(Connecting{Ref: 1}) // the call of the peer
	w.pass(5 * time.Second)
	var calls []string
	for _, line := range w.trace {
		if strings.Contains(line, "10.0.1.1") {
			calls = append(calls, line[strings.Index(line, "via"):])
		}
	}
	want := []string{"via 2 to [10.0.1.1:40000] in UDP 40002", "via 2 to [10.0.1.1:40000] in UDP 40003", "via 0 to [10.0.1.1:40000]"}
	if !slices.Equal(calls, want) {
		t.Errorf("got calls %q, want %q", calls, want)
	}
}

// TestPassThrough: unknown parameters of an element are passed on unchanged, from and
// to clients and peers.
func TestPassThrough(t *testing.T) {
	private := peerElement(1, greater)
	private.Policy = rserpool.Policy{Type: 0xb0001234, Extra: "a policy of somebody's own"}
	private.Unknown = []rserpool.Parameter{{Type: 0x8123, Value: []byte("skip")}, {Type: 0xc123, Value: []byte("skip, and say so")}}
	wire := func(e *rserpool.PoolElement) string {
		b, err := tlv.AppendPoolElement(nil, e)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	sent := func(w *world, ev Event, to AssocID) string {
		for _, a := range w.handle(ev) {
			if s, ok := a.(*Send); ok && s.Assoc == to {
				return string(s.Data)
			}
		}
		t.Fatalf("nothing is sent to %d after %+v", to, ev)
		return ""
	}
	enrpEvent := func(id AssocID, m enrp.Message) Event {
		b, err := m.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		return Received{Assoc: id, PPID: enrp.PPID, Data: b}
	}
	w := newPeerWorld(t)
	w.meet(2, greater)
	w.meet(3, third)
	w.up(1, rserpool.ViaKernel, "10.0.1.1")
	w.tell(2, update(greater, enrp.AddPE, "a", private))
	table := sent(w, enrpEvent(3, &enrp.HandleTableRequest{Sender: third}), 3)
	if !strings.Contains(table, wire(&private)) {
		t.Errorf("a peer gets %q, which has not %q", table, wire(&private))
	}
	answer := sent(w, Received{Assoc: 1, PPID: asap.PPID, Data: encode(t, resolve("a"))}, 1)
	public := private
	public.ASAPTransport = rserpool.Transport{} // clients have no use for it
	if !strings.Contains(answer, wire(&public)) {
		t.Errorf("a client gets %q, which has not %q", answer, wire(&public))
	}
	private.ID, private.Home = 2, 0
	m := &asap.Registration{Handle: "a", Element: private}
	got := sent(w, Received{Assoc: 1, PPID: asap.PPID, Data: encode(t, m)}, 3)
	private.Home = testServer
	if !strings.Contains(got, wire(&private)) {
		t.Errorf("a peer gets %q, which has not %q", got, wire(&private))
	}
}
