package registrar

import (
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// presences returns the presences that were sent to an association.
func presences(t *testing.T, id AssocID, acts []Action) []*enrp.Presence {
	t.Helper()
	var list []*enrp.Presence
	for _, a := range acts {
		s, ok := a.(*Send)
		if !ok || s.Assoc != id {
			continue
		}
		m, _, err := enrp.Parse(s.Data)
		if err != nil {
			t.Fatal(err)
		}
		if p, ok := m.(*enrp.Presence); ok {
			list = append(list, p)
		}
	}
	return list
}

// TestPresence: RFC 5353, Sections 2.1, 3.4.2 and 3.6.1. Every presence has the
// checksum and the server information. A periodic one is for all peers and
// requires no reply, and an answer requires none either.
func TestPresence(t *testing.T) {
	w := newPeerWorld(t)
	w.meet(2, greater)
	check := func(list []*enrp.Presence, receiver rserpool.ServerID) {
		t.Helper()
		if len(list) != 1 {
			t.Fatalf("%d presences, want 1", len(list))
		}
		p := list[0]
		at := p.Info.Transport
		if p.ReplyRequired || p.Receiver != receiver || !p.HasChecksum || p.Info.ID != testServer ||
			at.Port != 9901 || len(at.Addrs) != 1 || at.Addrs[0].String() != "10.0.0.1" {
			t.Errorf("presence %+v, want one to %v, without the Reply-required flag, with checksum and address", p, receiver)
		}
	}
	b, err := (&enrp.Presence{Sender: greater, ReplyRequired: true}).Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	check(presences(t, 2, w.handle(Received{Assoc: 2, PPID: enrp.PPID, Data: b})), greater)
	for range 10 {
		began, list := w.now, []*enrp.Presence(nil)
		for len(list) == 0 {
			w.now, _ = w.r.NextDeadline()
			list = presences(t, 2, w.handle(Tick{}))
		}
		check(list, 0)
		if d := w.now.Sub(began); d < 28500*time.Millisecond || d > 31500*time.Millisecond {
			t.Errorf("presence after %v, want one in a PEER-HEARTBEAT-CYCLE (30 s) plus or minus 5 %%", d)
		}
		w.tell(2, &enrp.Presence{Sender: greater})
	}
}

// TestSilentPeer: RFC 5353, Section 3.4.3. A peer that is silent for
// MAX-TIME-LAST-HEARD is asked for a presence, and taken over if none comes within
// MAX-TIME-NO-RESPONSE.
func TestSilentPeer(t *testing.T) {
	w := newPeerWorld(t)
	w.meet(2, greater)
	w.tell(2, update(greater, enrp.AddPE, "a", peerElement(1, greater)))
	asked := func() bool {
		for _, line := range w.trace {
			if strings.HasPrefix(line, "2 < presence to 20000002 R") {
				return true
			}
		}
		return false
	}
	w.pass(61*time.Second - 1)
	if asked() {
		t.Error("asked before MAX-TIME-LAST-HEARD is over")
	}
	w.pass(1)
	if !asked() {
		t.Errorf("got %q, want a presence that requires a reply", w.trace)
	}
	w.skip("list_request", "presence")
	w.pass(5*time.Second - 1)
	w.wantHomes("a:1@20000002")
	w.pass(2 * time.Millisecond)
	w.wantHomes("a:1@10000001")
}

// TestUnreadIsHeard: messages of an unknown type, and malformed ones, count as heard
// from the peer of the link (RFC 5353, Section 3.4.3: "a message of any type").
func TestUnreadIsHeard(t *testing.T) {
	for name, data := range map[string]string{
		"unknown type": "\x7f\x00\x00\x0c\x20\x00\x00\x02\x00\x00\x00\x00",
		"malformed":    "\x01\x00\x00\x0d\x20\x00\x00\x02\x00\x00\x00\x00",
	} {
		t.Run(name, func(t *testing.T) {
			w := newPeerWorld(t)
			w.meet(2, greater)
			for range 3 {
				w.pass(50 * time.Second)
				w.handle(Received{Assoc: 2, PPID: enrp.PPID, Data: []byte(data)})
			}
			if p := w.r.peers.byID[greater]; p == nil || p.state != PeerActive {
				t.Errorf("the peer is %+v, want it active", p)
			}
		})
	}
}

// TestBadPeerMessages: RFC 5353, Section 3.7, and RFC 5354, Sections 3 and 4. The
// association stays usable in each case.
func TestBadPeerMessages(t *testing.T) {
	const ids = "20000002 00000000 "
	for _, c := range []struct {
		name, hex string
		want      []string // causes of an ENRP_ERROR, or another answer
	}{
		{"unknown type, 00", "0b00000c" + ids, nil},
		{"unknown type, 01", "4000000c" + ids, []string{"error cause 2(4000000c2000000200000000)"}},
		{"unknown type, 10", "8000000c" + ids, nil},
		{"unknown type, 11", "ff00000c" + ids, nil},
		{"unknown parameter, 00", "05000010" + ids + "01230004", nil},
		{"unknown parameter, 01", "05000010" + ids + "41230004", []string{"error cause 1(41230004)"}},
		{"unknown parameter, 10", "05000010" + ids + "81230004", []string{"list_response to 20000002"}},
		{"unknown parameter, 11", "05000010" + ids + "c1230004", []string{"list_response to 20000002", "error cause 1(c1230004)"}},
		{"no target", "0700000c" + ids, []string{"error cause 3(0700000c2000000200000000)"}},
		{"error", "0a000014" + ids + "000c000800000004", nil},
		{"bad error", "0a00000c" + ids, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newPeerWorld(t)
			w.meet(2, greater)
			var got []string
			for _, a := range w.handle(Received{Assoc: 2, PPID: enrp.PPID, Data: fromHex(t, c.hex)}) {
				if s, ok := a.(*Send); ok {
					m, _, err := enrp.Parse(s.Data)
					if e, ok := m.(*enrp.Error); ok {
						got = append(got, "error"+causesText(e.Causes))
						continue
					}
					if err != nil {
						t.Fatal(err)
					}
					got = append(got, w.enrpText(s.Data))
				}
			}
			if g, want := strings.Join(got, "; "), strings.Join(c.want, "; "); g != want {
				t.Errorf("got %q, want %q", g, want)
			}
			w.skip("error", "list_response")
			w.tell(2, &enrp.ListRequest{Sender: greater})
			w.want("2 < list_response to 20000002")
		})
	}
}

// TestUpdatesWithoutEffect: an update with a reserved action, and one that removes
// an element that is not known, change nothing and get no answer (RFC 5353,
// Sections 2.4 and 3.3.2).
func TestUpdatesWithoutEffect(t *testing.T) {
	w := newPeerWorld(t)
	w.meet(2, greater)
	w.tell(2, update(greater, enrp.AddPE, "a", peerElement(1, greater)))
	w.tell(2, update(greater, 2, "a", peerElement(1, greater)))
	w.tell(2, update(greater, 2, "a", peerElement(2, greater)))
	w.tell(2, update(greater, enrp.DelPE, "a", peerElement(3, greater)))
	w.tell(2, update(greater, enrp.DelPE, "b", peerElement(1, greater)))
	w.want()
	w.wantHomes("a:1@20000002")
}

// TestTakeoverServerOfActive: a TAKEOVER_SERVER for a registrar that still sends messages
// has no effect. If it is for this registrar, the sender gets a presence.
func TestTakeoverServerOfActive(t *testing.T) {
	w := newPeerWorld(t)
	w.meet(2, greater)
	w.meet(3, third)
	w.tell(3, update(third, enrp.AddPE, "a", peerElement(1, third)))
	w.tell(2, &enrp.TakeoverServer{Sender: greater, Target: third})
	w.want()
	w.wantHomes("a:1@30000003")
	w.tell(2, &enrp.TakeoverServer{Sender: greater, Target: testServer})
	w.want("2 < presence ffff", "3 < presence ffff")
}

// TestTakeoverUncallable: the registrar cannot connect to an element without an ASAP
// transport to become its home. Such an element is removed with its registrar.
func TestTakeoverUncallable(t *testing.T) {
	w := newPeerWorld(t)
	w.meet(2, greater)
	w.meet(3, third)
	e := peerElement(1, third)
	e.ASAPTransport = rserpool.Transport{}
	w.tell(3, update(third, enrp.AddPE, "a", e))
	w.down(3)
	w.handle(Connecting{Ref: 1})
	w.pass(5 * time.Second)
	w.tell(2, &enrp.InitTakeoverAck{Sender: greater, Target: third})
	w.skip("connect", "init_takeover", "takeover_server")
	w.pass(time.Millisecond)
	w.wantHomes()
	if len(w.trace) == 0 || w.trace[0] != "2 < handle_update DEL_PE a:1@30000003" {
		t.Errorf("got %q, want the peers told of the removal", w.trace)
	}
}

// TestTakeoverSilent: an element that does not answer its new home is a suspect, for SUSPECT-LIFE, or
// up to GUARD-LIFE as long as it is in the answers because its pool has nothing else. One whose host
// refuses the call is removed.
func TestTakeoverSilent(t *testing.T) {
	w := newPeerWorld(t)
	w.meet(2, greater)
	w.meet(3, third)
	w.tell(2, update(greater, enrp.AddPE, "two", elementAt(9, greater, "10.0.1.9")))
	w.tell(3, update(third, enrp.AddPE, "two", elementAt(1, third, "10.0.1.1")))
	w.tell(3, update(third, enrp.AddPE, "one", elementAt(1, third, "10.0.1.1")))
	w.tell(3, update(third, enrp.AddPE, "gone", elementAt(1, third, "10.0.1.2")))
	w.down(3)
	w.handle(Connecting{Ref: 1})
	w.pass(5 * time.Second)
	w.tell(2, &enrp.InitTakeoverAck{Sender: greater, Target: third})
	w.skip("connect", "init_takeover", "takeover_server")
	w.pass(time.Millisecond)
	w.want("connect #3 via 0 to [10.0.1.1:40000]", "connect #4 via 0 to [10.0.1.2:40000]")
	w.refused(4, 7)
	w.want("2 < handle_update DEL_PE gone:1@10000001")
	w.wantHomes("one:1@10000001", "two:1@10000001", "two:9@20000002")
	probe, life, guarded := w.r.cfg.Timers.ProbeTimeout, w.r.cfg.Timers.SuspectLife, w.r.cfg.Timers.GuardLife
	w.pass(probe)
	w.wantSuspects("one:1", "two:1")
	w.wantHomes("one:1@10000001", "two:9@20000002") // one is guarded
	w.present(life - time.Second)
	w.wantSuspects("one:1", "two:1")
	w.present(time.Second)
	w.wantSuspects("one:1")
	w.present(guarded - life - time.Second)
	w.wantHomes("one:1@10000001", "two:9@20000002")
	w.present(time.Second)
	w.wantHomes("two:9@20000002")
}

func fromHex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestDeniedIsNotTold: peers get no update about a registration or a deregistration that is
// refused, nor about the deregistration of an element that is not registered (RFC 5352,
// Sections 3.1 and 3.2).
func TestDeniedIsNotTold(t *testing.T) {
	w := newPeerWorld(t)
	w.meet(2, greater)
	w.up(1, rserpool.ViaKernel, "10.0.1.9")
	w.up(3, rserpool.ViaTCP, "10.0.1.9")
	w.recv(1, reg("a", 1, "10.0.1.9"))
	w.skip("registration granted", "handle_update ADD_PE")
	w.recv(1, reg("a", 2, "10.0.1.9", policy(rserpool.Random)))
	w.recv(3, dereg("a", 1))
	w.recv(1, dereg("a", 3))
	w.recv(1, dereg("b", 1))
	w.want("1 < registration rejected a:2 cause 5(0008000800000001)", "3 < deregistration a:1 cause a",
		"1 < deregistration a:3", "1 < deregistration b:1")
}

// TestUpdateMissed: while there is no link to a peer, its updates are lost. The PE
// checksum (RFC 5353, Section 3.6.2) does not cover the attributes of an element, so it
// does not show a change. The peer is audited as soon as it is back.
func TestUpdateMissed(t *testing.T) {
	w := newPeerWorld(t)
	w.meet(2, greater)
	w.tell(2, update(greater, enrp.AddPE, "a", peerElement(1, greater)))
	w.down(2)
	w.handle(Connecting{Ref: 1})
	w.skip("connect")
	w.handle(AssocUp{Assoc: 3, Peer: peers("10.0.9.2:9901"), Via: rserpool.ViaKernel, ENRP: true})
	var sum enrp.Checksum
	sum.Add("a", 1)
	w.tell(3, &enrp.Presence{Sender: greater, HasChecksum: true, Checksum: sum.Value()})
	w.want("3 < handle_table_request to 20000002 W")
	moved := peerElement(1, greater)
	moved.UserTransport.Port = 8
	w.tell(3, &enrp.HandleTableResponse{Sender: greater, Pools: []enrp.PoolEntry{{Handle: "a", Elements: []rserpool.PoolElement{moved}}}})
	if e := w.r.Space().Pool("a").Element(1); e == nil || e.UserTransport.Port != 8 {
		t.Errorf("the element is %+v, want it at its new port", e)
	}
	w.tell(3, &enrp.Presence{Sender: greater, HasChecksum: true, Checksum: sum.Value()})
	w.want() // once
}
