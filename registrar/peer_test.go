package registrar

import (
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// TestListInTurn: one peer after the other is asked for its list, again and again,
// since it may know registrars that this one has missed.
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

// TestErrorIsHeard: an ENRP_ERROR counts as heard, like any message (RFC 5353, Section
// 3.4.3).
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

// TestGuest: a client that only asks and sends no presence, such as rsp or RSPLIB's
// hsdump, gets responses, is not logged, and does not vote in takeovers.
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

// TestTwoAssociations: a peer with two links is heard on both, and gets each update
// once.
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

// TestPeerRate: only a bounded number of a peer's messages a second counts. Requested
// tables are not limited.
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
