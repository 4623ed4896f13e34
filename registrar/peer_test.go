package registrar

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/internal/tlv"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Peers of the tests, one with a smaller identifier than ours and two with a
// greater one.
const (
	smaller = 0x0fffffff
	greater = 0x20000002
	third   = 0x30000003
)

// enrpText is an ENRP message in one line.
func (w *world) enrpText(b []byte) string {
	msg, _, err := enrp.Parse(b)
	if err != nil {
		w.t.Errorf("sent %v (%x)", err, b)
		return ""
	}
	sender, receiver := msg.IDs()
	if sender != testServer {
		w.t.Errorf("sent %v as %v", msg.Type(), sender)
	}
	text := strings.ToLower(strings.TrimPrefix(msg.Type().String(), "ENRP_"))
	if receiver != 0 {
		text += fmt.Sprintf(" to %x", uint32(receiver))
	}
	switch m := msg.(type) {
	case *enrp.Presence:
		if m.ReplyRequired {
			text += " R"
		}
		text += fmt.Sprintf(" %04x", m.Checksum)
	case *enrp.ListResponse:
		if m.Reject {
			text += " R"
		}
		for _, s := range m.Servers {
			text += fmt.Sprintf(" %x", uint32(s.ID))
		}
	case *enrp.HandleTableRequest:
		if m.OwnChildrenOnly {
			text += " W"
		}
	case *enrp.HandleTableResponse:
		if m.Reject {
			text += " R"
		}
		if m.More {
			text += " M"
		}
		for _, p := range m.Pools {
			for _, e := range p.Elements {
				text += fmt.Sprintf(" %s:%x@%x", p.Handle, uint32(e.ID), uint32(e.Home))
			}
		}
	case *enrp.HandleUpdate:
		text += fmt.Sprintf(" %v %s:%x@%x", m.Action, m.Handle, uint32(m.Element.ID), uint32(m.Element.Home))
	case *enrp.InitTakeover:
		text += fmt.Sprintf(" %x", uint32(m.Target))
	case *enrp.InitTakeoverAck:
		text += fmt.Sprintf(" %x", uint32(m.Target))
	case *enrp.TakeoverServer:
		text += fmt.Sprintf(" %x", uint32(m.Target))
	}
	return text
}

// newPeerWorld is a registrar that serves ENRP, with these peers configured.
func newPeerWorld(t *testing.T, seeds ...string) *world {
	t.Helper()
	w := newWorld(t, func(c *Config) { c.Peers = peers(seeds...) })
	w.handle(Serving{Addrs: peers("10.0.0.1:3863"), ENRP: peers("10.0.0.1:9901")})
	return w
}

func (w *world) tell(id AssocID, m enrp.Message) {
	w.t.Helper()
	b, err := m.Append(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	w.handle(Received{Assoc: id, PPID: enrp.PPID, Data: b})
}

// meet has a peer call, without looking at what is said.
func (w *world) meet(id AssocID, server rserpool.ServerID) {
	w.t.Helper()
	at := fmt.Sprintf("10.0.9.%d", id)
	w.meetAt(id, server, at, at)
}

// meetAt has a peer call from an address, that says to be at some.
func (w *world) meetAt(id AssocID, server rserpool.ServerID, from string, at ...string) {
	w.t.Helper()
	info := rserpool.ServerInformation{ID: server, Transport: rserpool.Transport{Type: rserpool.SCTP, Port: 9901}}
	for _, a := range at {
		info.Transport.Addrs = append(info.Transport.Addrs, netip.MustParseAddr(a))
	}
	w.handle(AssocUp{Assoc: id, Peer: peers(from + ":9901"), Via: rserpool.ViaKernel, ENRP: true})
	w.tell(id, &enrp.Presence{Sender: server, Info: info})
	w.skip("registration granted", "announce", "connect", "handle_table_response", "init_takeover", "list_request", "log", "presence")
}

// element is a pool element at 10.0.1.1 as ENRP has it.
func peerElement(id uint32, home rserpool.ServerID) rserpool.PoolElement {
	addrs := []netip.Addr{netip.MustParseAddr("10.0.1.1")}
	return rserpool.PoolElement{
		ID: rserpool.PEID(id), Home: home, Life: 3600, Policy: rserpool.Policy{Type: rserpool.RoundRobin},
		UserTransport: rserpool.Transport{Type: rserpool.UDP, Port: 7, Addrs: addrs},
		ASAPTransport: rserpool.Transport{Type: rserpool.SCTP, Port: 40000, Addrs: addrs},
	}
}

func update(sender rserpool.ServerID, act enrp.UpdateAction, h string, e rserpool.PoolElement) *enrp.HandleUpdate {
	return &enrp.HandleUpdate{Sender: sender, Action: act, Handle: rserpool.PoolHandle(h), Element: e}
}

// wantHomes compares the handlespace, as "POOL:ID@HOME ...".
func (w *world) wantHomes(want ...string) {
	w.t.Helper()
	var got []string
	for p := range w.r.Space().Pools() {
		for _, e := range p.Elements(nil) {
			got = append(got, fmt.Sprintf("%s:%x@%x", p.Handle(), uint32(e.ID), uint32(e.Home)))
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		w.t.Fatalf("at %v: got elements %q, want %q", w.now.Sub(w.start), got, want)
	}
}

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

// TestReturn: a registrar that comes back under its identifier calls the elements
// that its mentor still holds for its own. Those that answer stay.
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

// TestMentorFails: refusals, silence and lost associations end in service all
// the same.
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

// TestUpdates: RFC 5353, Section 3.3, and who may change what.
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

// TestElementMoves: an element may change its home, a stranger may not take it.
func TestElementMoves(t *testing.T) {
	w := newPeerWorld(t)
	w.meet(2, greater)
	w.tell(2, update(greater, enrp.AddPE, "a", peerElement(1, greater)))
	w.up(1, rserpool.ViaKernel, "10.0.1.9")
	w.recv(1, reg("a", 1, "10.0.1.9"))
	w.want("2 < handle_update to 20000002 ADD_PE a:1@20000002")
	w.tell(2, update(greater, enrp.AddPE, "a", peerElement(1, greater)))
	w.want("1 < registration rejected a:1 cause 4")
	w.up(4, rserpool.ViaKernel, "10.0.1.1")
	w.recv(4, reg("a", 1, "10.0.1.1"))
	w.want("2 < handle_update ADD_PE a:1@10000001", "4 < registration granted a:1")
	w.wantHomes("a:1@10000001")
	w.tell(2, update(greater, enrp.AddPE, "b", peerElement(2, greater)))
	w.recv(4, dereg("b", 2))
	w.want("2 < handle_update ADD_PE b:2@10000001", "2 < handle_update DEL_PE b:2@10000001", "4 < deregistration b:2")
	w.wantHomes("a:1@10000001")
}

// TestAudit: RFC 5353, Section 3.6.3.
func TestAudit(t *testing.T) {
	w := newPeerWorld(t)
	w.meet(2, greater)
	for id := range uint32(3) {
		w.tell(2, update(greater, enrp.AddPE, "a", peerElement(id+1, greater)))
	}
	var sum enrp.Checksum
	for id := range rserpool.PEID(3) {
		sum.Add("a", id+1)
	}
	w.tell(2, &enrp.Presence{Sender: greater, HasChecksum: true, Checksum: sum.Value()})
	w.want()
	sum.Remove("a", 1)
	w.tell(2, &enrp.Presence{Sender: greater, HasChecksum: true, Checksum: sum.Value()})
	w.want("2 < handle_table_request to 20000002 W")
	w.tell(2, &enrp.HandleTableResponse{Sender: greater, More: true, Pools: []enrp.PoolEntry{{Handle: "a", Elements: []rserpool.PoolElement{peerElement(2, greater)}}}})
	w.want("2 < handle_table_request to 20000002 W")
	w.tell(2, update(greater, enrp.AddPE, "a", peerElement(7, greater)))
	w.tell(2, &enrp.HandleTableResponse{Sender: greater, Pools: []enrp.PoolEntry{{Handle: "a", Elements: []rserpool.PoolElement{peerElement(3, greater)}}}})
	w.wantHomes("a:2@20000002", "a:3@20000002", "a:7@20000002")
}

// TestSweepConnected: an element that its home does not name any more, but that
// has an association to us, may take us for its home. It is asked first.
func TestSweepConnected(t *testing.T) {
	sweep := func(t *testing.T) *world {
		w := newPeerWorld(t)
		w.meet(2, greater)
		w.up(1, rserpool.ViaKernel, "10.0.1.1:40000")
		w.tell(2, update(greater, enrp.AddPE, "a", peerElement(1, greater)))
		w.tell(2, &enrp.Presence{Sender: greater, HasChecksum: true})
		w.want("2 < handle_table_request to 20000002 W")
		w.tell(2, &enrp.HandleTableResponse{Sender: greater})
		w.want("1 < keep-alive a:1 from 10000001 H")
		return w
	}
	t.Run("answered", func(t *testing.T) {
		w := sweep(t)
		w.recv(1, ack("a", 1))
		w.want("2 < handle_update ADD_PE a:1@10000001")
		w.wantHomes("a:1@10000001")
	})
	t.Run("not answered", func(t *testing.T) {
		w := sweep(t)
		w.until(4 * time.Second)
		w.want("1 < deregistration a:1", "2 < handle_update DEL_PE a:1@10000001")
		w.wantHomes()
	})
}

// TestListInTurn: one peer after the other is asked for its list, again and
// again, since it may know of some that we have missed.
func TestListInTurn(t *testing.T) {
	w := newPeerWorld(t)
	w.meet(2, greater)
	w.meet(3, third)
	asked := ""
	for range 6 { // a cycle may take 31.5 s
		w.pass(30 * time.Second)
		for _, line := range w.trace {
			if i := strings.Index(line, "list_request to "); i >= 0 {
				asked += line[i+len("list_request to "):] + " "
			}
		}
		w.skip("list_request", "presence")
		w.tell(2, &enrp.Presence{Sender: greater})
		w.tell(3, &enrp.Presence{Sender: third})
	}
	if want := "30000003 20000002 30000003 20000002 "; !strings.HasPrefix(asked, want) {
		t.Errorf("asked %s, want %s first", asked, want)
	}
}

// TestTable: what peers are given, in parts, while it changes.
func TestTable(t *testing.T) {
	w := newPeerWorld(t)
	w.meet(2, greater)
	w.up(1, rserpool.ViaKernel, "10.0.1.1")
	const n = 1000
	for id := range uint32(n) {
		w.recv(1, reg("a", id+1, "10.0.1.1"))
	}
	w.tell(2, update(greater, enrp.AddPE, "a", peerElement(n+1, greater)))
	for _, own := range []bool{true, false} {
		w.skip("registration granted", "deregistration", "removed", "handle_table_response", "handle_update ADD_PE", "handle_update DEL_PE")
		parts, all := 0, ""
		for more := true; more; parts++ {
			w.tell(2, &enrp.HandleTableRequest{Sender: greater, OwnChildrenOnly: own})
			all += w.trace[len(w.trace)-1]
			more = strings.Contains(w.trace[len(w.trace)-1], " M")
			if parts == 0 {
				w.recv(1, dereg("a", n-1))
			}
		}
		if parts < 3 {
			t.Errorf("got %d parts, want several", parts)
		}
		want := n - 1
		if !own {
			want++
		}
		if got := strings.Count(all, " a:"); got != want {
			t.Errorf("own %v: got %d elements, want %d", own, got, want)
		}
	}
	w.tell(2, &enrp.HandleTableRequest{Sender: greater})
	w.pass(5 * time.Second) // it does not go on
	if len(w.r.peers.sessions) != 0 {
		t.Error("a download that stalls does not end")
	}
}

// TestTakeover: RFC 5353, Section 3.5.
func TestTakeover(t *testing.T) {
	begin := func(t *testing.T) *world {
		w := newPeerWorld(t)
		w.meet(2, greater)
		w.meet(3, third)
		w.tell(3, update(third, enrp.AddPE, "a", peerElement(1, third)))
		w.down(3)
		w.want("connect #1 via 1 to [10.0.9.3:9901]")
		w.handle(Connecting{Ref: 1})
		w.pass(4900 * time.Millisecond)
		w.skip("connect")
		w.tell(2, &enrp.ListRequest{Sender: greater})
		w.want("2 < list_response to 20000002")
		w.pass(100 * time.Millisecond)
		return w
	}
	init := "2 < init_takeover 30000003"
	t.Run("agreed", func(t *testing.T) {
		w := begin(t)
		w.want(init)
		w.tell(2, &enrp.InitTakeoverAck{Sender: greater, Target: third})
		w.want("2 < takeover_server 30000003")
		w.pass(time.Millisecond)
		w.want("connect #3 via 0 to [10.0.1.1:40000]")
		w.handle(Connecting{Ref: 3, Assoc: 7})
		w.up(7, rserpool.ViaUDP, "10.0.1.1")
		w.want("7 < keep-alive a:1 from 10000001 H")
		w.recv(7, ack("a", 1))
		w.want("2 < handle_update ADD_PE a:1@10000001")
	})
	t.Run("not answered", func(t *testing.T) {
		w := begin(t)
		w.want(init)
		w.pass(5 * time.Second)
		if w.trace[0] != "2 < takeover_server 30000003" {
			t.Errorf("got %q", w.trace)
		}
	})
	t.Run("stopped", func(t *testing.T) {
		w := begin(t)
		w.want(init)
		w.meet(8, third)
		w.pass(20 * time.Second)
		w.wantHomes("a:1@30000003")
		if got := w.r.Stats().Takeovers; got.Stopped != 1 || got.Won != 0 {
			t.Errorf("got %v", got)
		}
	})
	t.Run("greater wins", func(t *testing.T) {
		w := begin(t)
		w.want(init)
		w.tell(2, &enrp.InitTakeover{Sender: greater, Target: third})
		w.want("2 < init_takeover_ack to 20000002 30000003")
		w.tell(2, &enrp.InitTakeoverAck{Sender: greater, Target: third}) // too late
		w.want()
		w.tell(2, &enrp.TakeoverServer{Sender: greater, Target: third})
		w.wantHomes("a:1@20000002")
	})
	t.Run("winner vanishes", func(t *testing.T) {
		w := begin(t)
		w.tell(2, &enrp.InitTakeover{Sender: greater, Target: third})
		w.skip("init_takeover", "init_takeover_ack")
		w.pass(10 * time.Second)
		if !slices.Contains(w.trace, init) {
			t.Errorf("got %q, want another try", w.trace)
		}
	})
	t.Run("winner dies", func(t *testing.T) {
		w := begin(t)
		w.meet(4, smaller)
		w.tell(2, &enrp.InitTakeover{Sender: greater, Target: third})
		w.tell(4, &enrp.InitTakeover{Sender: smaller, Target: third}) // gives way as well
		w.down(2)
		w.pass(5100 * time.Millisecond) // it is found dead
		if want := "4 < init_takeover 30000003"; w.trace[len(w.trace)-1] != want {
			t.Errorf("got %q, want %q last", w.trace, want)
		}
	})
	t.Run("smaller loses", func(t *testing.T) {
		w := begin(t)
		w.meet(4, smaller)
		w.tell(4, &enrp.InitTakeover{Sender: smaller, Target: third})
		for _, line := range w.trace {
			if strings.Contains(line, "ack") {
				t.Errorf("got %q", line)
			}
		}
	})
	t.Run("of us", func(t *testing.T) {
		w := begin(t)
		w.skip("init_takeover")
		w.tell(2, &enrp.InitTakeover{Sender: greater, Target: testServer})
		w.want("2 < presence ffff")
	})
}

// TestErrorIsHeard: an ENRP_ERROR is a sign of life as any message (RFC 5353,
// Section 3.4.3).
func TestErrorIsHeard(t *testing.T) {
	w := newPeerWorld(t)
	w.meet(2, greater)
	for range 3 {
		w.pass(50 * time.Second)
		w.tell(2, &enrp.Error{Sender: testServer, Causes: []rserpool.Cause{{Code: rserpool.CauseUnrecognizedMessage}}}) // as RSPLIB does
	}
	if p := w.r.peers.byID[greater]; p == nil || p.state != PeerActive {
		t.Errorf("a peer that has sent nothing but errors is %+v, want it active", p)
	}
}

// TestNoPolicy: an element that a peer names without a policy is served in turn,
// which is the default (RFC 5356, Section 4.1).
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

// TestGuest: who asks and sends no presence, as rsp and RSPLIB's hsdump, is
// answered, is no news to the operator, and nobody waits for its agreement.
func TestGuest(t *testing.T) {
	w := newPeerWorld(t)
	w.meet(2, greater)
	w.tell(2, update(greater, enrp.AddPE, "a", peerElement(1, greater)))
	w.logs, w.trace = true, nil
	w.handle(AssocUp{Assoc: 3, Peer: peers("10.0.9.3:9901"), Via: rserpool.ViaKernel, ENRP: true})
	w.tell(3, &enrp.HandleTableRequest{Sender: third})
	w.want("3 < presence to 30000003 R ffff", "3 < list_request to 30000003", "3 < handle_table_response to 30000003 a:1@20000002")
	w.down(2)
	w.handle(Connecting{Ref: 1})
	w.pass(4900 * time.Millisecond)
	w.tell(3, &enrp.ListRequest{Sender: third}) // still there
	w.skip("connect", "list_response", "log")
	w.pass(100 * time.Millisecond)
	w.want("log registrar 20000002 is dead: asking the other registrars whether this one may take over its elements (dying)", "3 < init_takeover 20000002",
		"log registrar 20000002 is dead: this registrar takes over its elements (taken)", "3 < takeover_server 20000002",
		"log registrar 20000002 is removed from the peer list: its elements were taken over", "connect #3 via 0 to [10.0.1.1:40000]")
	w.down(3)
	w.want()
	w.pass(20 * time.Second)
	for _, line := range w.trace {
		if strings.HasPrefix(line, "log") && strings.Contains(line, "30000003") {
			t.Errorf("logged %q", line)
		}
	}
	if w.r.peers.byID[third] != nil {
		t.Error("the guest is not forgotten")
	}
}

// TestEncapPort: peers are told the UDP port of an element whose SCTP is in UDP,
// and the registrar that takes it over calls it there. Clients are not told, and an element
// cannot say that it is elsewhere.
func TestEncapPort(t *testing.T) {
	w := newPeerWorld(t)
	w.meet(2, greater)
	w.handle(AssocUp{Assoc: 1, Peer: peers("10.0.1.9"), Via: rserpool.ViaUDP, EncapPort: 40001})
	m := reg("b", 9, "10.0.1.9")
	m.Element.EncapPort = 53
	port := func(to AssocID, acts []Action) (port uint16, ok bool) {
		for _, a := range acts {
			if s, is := a.(*Send); is && s.Assoc == to && to == 2 {
				msg, _, _ := enrp.Parse(s.Data)
				return msg.(*enrp.HandleUpdate).Element.EncapPort, true
			} else if is && s.Assoc == to {
				msg, _, _ := asap.Parse(s.Data)
				return msg.(*asap.HandleResolutionResponse).Elements[0].EncapPort, true
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

// TestContest: two registrars have one element.
func TestContest(t *testing.T) {
	begin := func(t *testing.T, other rserpool.ServerID) *world {
		w := newPeerWorld(t)
		w.meet(2, other)
		w.up(1, rserpool.ViaKernel, "10.0.1.1")
		w.recv(1, reg("a", 1, "10.0.1.1"))
		w.skip("registration granted", "handle_update ADD_PE")
		return w
	}
	t.Run("smaller", func(t *testing.T) {
		w := begin(t, smaller)
		w.tell(2, update(smaller, enrp.AddPE, "a", peerElement(1, smaller)))
		w.want("2 < handle_update ADD_PE a:1@fffffff")
		w.wantHomes("a:1@fffffff")
	})
	t.Run("greater, alive here", func(t *testing.T) {
		w := begin(t, greater)
		w.tell(2, update(greater, enrp.AddPE, "a", peerElement(1, greater)))
		w.want("1 < keep-alive a:1 from 10000001 H")
		w.recv(1, ack("a", 1))
		w.want("2 < handle_update ADD_PE a:1@10000001")
		w.wantHomes("a:1@10000001")
	})
	t.Run("handed over", func(t *testing.T) {
		w := begin(t, greater)
		w.tell(2, update(greater, enrp.AddPE, "a", peerElement(1, testServer)))
		w.pass(8 * time.Second) // the next keep-alive
		if got := "1 < keep-alive a:1 from 10000001 H"; len(w.trace) == 0 || w.trace[0] != got {
			t.Errorf("got %q, want %q first", w.trace, got)
		}
	})
	t.Run("handed over while asked", func(t *testing.T) {
		w := begin(t, greater)
		w.tell(2, update(greater, enrp.AddPE, "a", peerElement(1, greater)))
		w.tell(2, update(greater, enrp.AddPE, "a", peerElement(1, testServer)))
		w.recv(1, ack("a", 1)) // to a keep-alive that the other's may have followed
		w.skip("keep-alive", "handle_update ADD_PE")
		w.until(time.Second)
		w.want("1 < keep-alive a:1 from 10000001 H")
	})
	t.Run("greater, dead here", func(t *testing.T) {
		w := begin(t, greater)
		w.tell(2, update(greater, enrp.AddPE, "a", peerElement(1, greater)))
		w.skip("keep-alive")
		w.pass(5 * time.Second)
		w.want("2 < handle_update ADD_PE a:1@20000002")
		w.wantHomes("a:1@20000002")
	})
}

// TestTwoAssociations: a peer that is reached by two associations at once is
// heard on both, and told everything once.
func TestTwoAssociations(t *testing.T) {
	for name, from := range map[string]string{"of one address": "10.0.9.2", "of two": "fd00::2"} {
		t.Run(name, func(t *testing.T) {
			w := newPeerWorld(t)
			w.meetAt(2, greater, "10.0.9.2", "10.0.9.2", "fd00::2")
			w.meetAt(3, greater, from, "10.0.9.2", "fd00::2")
			w.tell(2, update(greater, enrp.AddPE, "a", peerElement(1, greater)))
			w.tell(3, update(greater, enrp.AddPE, "a", peerElement(2, greater)))
			w.wantHomes("a:1@20000002", "a:2@20000002")
			w.up(1, rserpool.ViaKernel, "10.0.1.9")
			w.recv(1, reg("b", 9, "10.0.1.9"))
			w.want("2 < handle_update ADD_PE b:9@10000001", "1 < registration granted b:9")
			w.down(2)
			w.recv(1, dereg("b", 9))
			w.want("3 < handle_update DEL_PE b:9@10000001", "1 < deregistration b:9")
			w.down(3)
			w.want("connect #1 via 1 to [10.0.9.2:9901 [fd00::2]:9901]")
		})
	}
}

// TestSameIdentifier: of two registrars with one identifier the one that was
// there first is the peer, as long as it lives.
func TestSameIdentifier(t *testing.T) {
	w := newPeerWorld(t)
	w.meet(2, greater)
	w.tell(2, update(greater, enrp.AddPE, "a", peerElement(1, greater)))
	w.handle(AssocUp{Assoc: 3, Peer: peers("10.0.9.3:9901"), Via: rserpool.ViaKernel, ENRP: true})
	w.tell(3, update(greater, enrp.DelPE, "a", peerElement(1, greater)))
	w.want("2 < presence to 20000002 R ffff", "3 close")
	w.tell(2, &enrp.Presence{Sender: greater}) // it lives
	for range 20 {
		w.pass(time.Second)
		w.want()
		w.handle(AssocUp{Assoc: 5, Peer: peers("10.0.9.3:9901"), Via: rserpool.ViaKernel, ENRP: true})
		w.tell(5, &enrp.Presence{Sender: greater})
		w.want("2 < presence to 20000002 R ffff", "5 < error to 20000002", "2 < error to 20000002", "5 close")
		w.down(5)
		w.tell(2, &enrp.Presence{Sender: greater})
	}
	w.wantHomes("a:1@20000002")
	w.down(3)
	w.want()
	w.down(2)
	w.meet(4, greater) // it has moved
	w.tell(4, update(greater, enrp.AddPE, "a", peerElement(2, greater)))
	w.wantHomes("a:1@20000002", "a:2@20000002")
}

// TestNewIdentifier: a peer restarts under a new identifier. What it was before
// is taken over.
func TestNewIdentifier(t *testing.T) {
	w := newPeerWorld(t)
	w.meet(2, greater)
	w.tell(2, update(greater, enrp.AddPE, "a", peerElement(1, greater)))
	w.down(2)
	w.meetAt(3, third, "10.0.9.2", "10.0.9.2")
	w.pass(5 * time.Second)
	if !slices.Contains(w.trace, "3 < init_takeover 20000002") {
		t.Fatalf("got %q, want a takeover", w.trace)
	}
	w.tell(3, &enrp.InitTakeoverAck{Sender: third, Target: greater})
	w.pass(time.Second)
	w.wantHomes("a:1@10000001")
	if p := w.r.peers.byID[third]; p == nil || p.state != PeerActive || w.r.peers.byID[greater] != nil {
		t.Errorf("got peers %v, want the new one alone", w.r.peers.list)
	}
}

// TestPeerRate: a peer is heeded so many times a second, but what it was asked
// for is not counted against it.
func TestPeerRate(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Limits.PeerMessages = 100 })
	w.handle(Serving{Addrs: peers("10.0.0.1:3863"), ENRP: peers("10.0.0.1:9901")})
	w.meet(2, greater)
	ignored := func() uint64 { return w.r.Stats().Ignored.Rate }
	w.pass(time.Minute)
	for range 300 {
		w.tell(2, update(greater, enrp.AddPE, "a", peerElement(1, greater)))
	}
	if got := ignored(); got != 100 {
		t.Errorf("%d of 300 messages at once are ignored, want 100", got)
	}
	w.pass(time.Second)
	for range 10 {
		w.tell(2, &enrp.HandleTableRequest{Sender: greater})
	}
	if got := ignored(); got != 104 {
		t.Errorf("%d of 10 requests are ignored, want 4", got-100)
	}
	w.pass(time.Minute)
	big := &enrp.HandleTableResponse{Sender: greater, More: true, Pools: []enrp.PoolEntry{{Handle: "a"}}}
	for id := range uint32(400) {
		big.Pools[0].Elements = append(big.Pools[0].Elements, peerElement(id+1, greater))
	}
	for range 10 {
		w.tell(2, big)
	}
	if got := ignored(); got <= 104 {
		t.Error("large messages are never ignored")
	}
	before := ignored()
	w.pass(time.Minute)
	w.tell(2, &enrp.Presence{Sender: greater, HasChecksum: true, Checksum: 1})
	for range 10 {
		w.tell(2, big)
	}
	if got := ignored(); got != before {
		t.Errorf("%d of those that we have asked for are ignored, want none", got-before)
	}
}

// TestPassThrough: what we do not understand of an element goes on to clients
// and peers as it came, from clients or peers.
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

// TestPeerElsewhere: at the place where a peer is called there is another one,
// since it has started again. Only the other one is told what happens, once.
func TestPeerElsewhere(t *testing.T) {
	w := newPeerWorld(t)
	w.meet(1, greater)
	w.down(1)
	w.want("connect #1 via 1 to [10.0.9.1:9901]")
	w.handle(Connecting{Ref: 1, Assoc: 2})
	w.handle(AssocUp{Assoc: 2, Peer: peers("10.0.9.1:9901"), Via: rserpool.ViaKernel, ENRP: true})
	w.want("2 < presence R ffff")
	w.tell(2, &enrp.Presence{Sender: third})
	w.skip("list_request", "presence")
	w.up(3, rserpool.ViaKernel, "10.0.1.1")
	w.recv(3, reg("a", 1, "10.0.1.1"))
	w.want("2 < handle_update ADD_PE a:1@10000001", "3 < registration granted a:1")
}
