package registrar

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// twinPresence returns a presence of a registrar with this registrar's identifier at
// 10.0.9.2.
func twinPresence(reply bool) *enrp.Presence {
	p := presenceAt(testServer, "10.0.9.2")
	p.ReplyRequired = reply
	return p
}

// wantLog looks for a log line in the trace, and drops the trace.
func (w *world) wantLog(part string) {
	w.t.Helper()
	if !slices.ContainsFunc(w.trace, func(s string) bool { return strings.HasPrefix(s, "log ") && strings.Contains(s, part) }) {
		w.t.Errorf("got %q, want a log line with %q", w.trace, part)
	}
	w.skip("close", "connect", "log")
}

// startWithTwin has a registrar that has just connected to one with its own identifier.
func startWithTwin(t *testing.T) *world {
	w := newPeerWorld(t, "10.0.9.2:9901")
	w.logs = true
	w.want("connect #1 via 0 to [10.0.9.2:9901]")
	w.handle(Connecting{Ref: 1, Assoc: 2})
	w.handle(AssocUp{Assoc: 2, Peer: peers("10.0.9.2:9901"), Via: rserpool.ViaKernel})
	w.want("2 < presence R ffff")
	return w
}

// TestTwinServes: another registrar already serves with this registrar's identifier. This
// registrar is not ready while the other one responds, and both log it.
func TestTwinServes(t *testing.T) {
	w := startWithTwin(t)
	w.tell(2, twinPresence(false))
	w.wantLog("and serves: not ready until it stops")
	w.down(2)
	for i := range 60 { // it is called every second
		w.until(3 * time.Second)
		ref, id := uint64(i+2), AssocID(10+i)
		w.handle(Connecting{Ref: ref, Assoc: id})
		w.handle(AssocUp{Assoc: id, Peer: peers("10.0.9.2:9901"), Via: rserpool.ViaKernel})
		w.tell(id, twinPresence(false))
		w.down(id)
		w.skip("close", "connect", "presence")
		if w.r.Ready() {
			t.Fatalf("ready at %v, with a twin that serves", w.now.Sub(w.start))
		}
	}
	gone := w.now
	for !w.r.Ready() {
		w.pass(100 * time.Millisecond)
		for ref := range w.r.peers.connecting {
			w.handle(Connecting{Ref: ref})
		}
		if w.now.Sub(gone) > time.Minute {
			t.Fatal("not ready a minute after the twin has gone")
		}
	}
	if took := w.now.Sub(gone); took < 10*time.Second || took > 16*time.Second {
		t.Errorf("ready after %v, want 10 to 16 s", took)
	}
	w.wantLog("does not respond any more")
	if n := w.r.Stats().Twins; n != 61 {
		t.Errorf("%d messages of the twin are counted, want 61", n)
	}
}

// TestTwinStarts: two registrars with one identifier start. Each learns whether the other
// one serves already, whichever has connected. If neither serves, neither waits.
func TestTwinStarts(t *testing.T) {
	t.Run("we serve", func(t *testing.T) {
		w := newPeerWorld(t)
		w.logs = true
		w.handle(AssocUp{Assoc: 2, Peer: peers("10.0.9.2:9901"), Via: rserpool.ViaKernel, ENRP: true})
		w.tell(2, twinPresence(true))
		w.want("log a registrar at 10.0.9.2 has this registrar's server identifier 10000001: it cannot be a peer", "2 < presence ffff", "2 close")
		if !w.r.Ready() {
			t.Error("not ready any more")
		}
		if n := w.r.Stats().Twins; n != 1 {
			t.Errorf("%d messages about a twin are counted, want 1", n)
		}
	})
	t.Run("neither serves", func(t *testing.T) {
		w := startWithTwin(t)
		w.tell(2, twinPresence(true)) // it does not answer, but ask
		w.want("log a registrar at 10.0.9.2 has this registrar's server identifier 10000001: it cannot be a peer", "2 close")
		w.down(2)
		w.handle(AssocUp{Assoc: 3, Peer: peers("10.0.9.2:9901"), Via: rserpool.ViaKernel, ENRP: true})
		w.tell(3, twinPresence(true))
		w.want("3 < presence R ffff")
		w.down(3) // so does it
		w.pass(11 * time.Second)
		if !w.r.Ready() {
			t.Error("not ready after the time for a start")
		}
	})
	t.Run("it calls and serves", func(t *testing.T) {
		w := newPeerWorld(t, "10.0.9.3:9901")
		w.skip("connect")
		w.handle(AssocUp{Assoc: 3, Peer: peers("10.0.9.2:9901"), Via: rserpool.ViaKernel, ENRP: true})
		w.tell(3, twinPresence(true))
		w.want("3 < presence R ffff")
		w.tell(3, twinPresence(false))
		w.want("3 close")
		w.down(3)
		w.until(2 * time.Second)
		w.want("connect #2 via 0 to [10.0.9.2:9901]")
	})
	t.Run("ourselves", func(t *testing.T) {
		w := newPeerWorld(t, "10.0.9.2:9901")
		w.skip("connect")
		w.handle(AssocUp{Assoc: 3, Peer: peers("10.0.0.1:9901"), Via: rserpool.ViaKernel, ENRP: true})
		w.tell(3, presenceAt(testServer, "10.0.0.1"))
		w.want("3 close")
		w.pass(11 * time.Second)
		if !w.r.Ready() {
			t.Error("not ready after the time for a start")
		}
	})
}

// TestTwinsMany: many registrars with this registrar's identifier connect during the start and say that
// they serve. It connects to so many of them as to registrars that are heard by multicast.
func TestTwinsMany(t *testing.T) {
	for _, tt := range []struct {
		at   string
		want int
	}{{"10.0.9.2", maxFromOne}, {"10.1.0.%d", 20}} {
		w := newWorld(t, func(c *Config) { c.Peers, c.Limits.Servers = peers("10.0.9.3:9901"), 20 })
		w.handle(Serving{Addrs: peers("10.0.0.1:3863"), ENRP: peers("10.0.0.1:9901")})
		for i := range 100 {
			at, id := strings.ReplaceAll(tt.at, "%d", strconv.Itoa(1+i)), AssocID(10+i)
			w.handle(AssocUp{Assoc: id, Peer: peers(at + ":9901"), Via: rserpool.ViaKernel, ENRP: true})
			w.tell(id, twinPresence(true))
			serves := presenceAt(testServer, fmt.Sprintf("10.2.0.%d", 1+i))
			w.tell(id, serves)
			w.down(id)
		}
		w.trace = nil
		if got := len(w.r.peers.seeds) - 1; got != tt.want {
			t.Errorf("of 100 at %s, %d are tried, want %d", tt.at, got, tt.want)
		}
	}
}

// TestTwinByThird: two registrars with one identifier know only a third registrar, which
// tells both of them when it knows that its peer is alive.
func TestTwinByThird(t *testing.T) {
	told := func(id rserpool.ServerID) *enrp.Error {
		return &enrp.Error{Sender: greater, Receiver: id, Causes: []rserpool.Cause{{
			Code: rserpool.CauseSecurity, Info: binary.BigEndian.AppendUint32(nil, uint32(id)),
		}}}
	}
	t.Run("we start", func(t *testing.T) {
		w := startWithTwin(t) // it is the third one this time
		w.tell(2, told(testServer))
		w.wantLog("has a peer with this registrar's server identifier 10000001 at another address")
		w.pass(19 * time.Second / 2)
		w.tell(2, told(testServer))
		w.pass(19 * time.Second / 2)
		if w.r.Ready() {
			t.Fatal("ready, though a peer has refused us for a twin")
		}
		w.tell(2, &enrp.Presence{Sender: greater}) // the twin is gone
		w.tell(2, &enrp.ListResponse{Sender: greater})
		w.tell(2, &enrp.HandleTableResponse{Sender: greater})
		if !w.r.Ready() {
			t.Error("not ready with the handlespace of a peer that takes us for the one")
		}
	})
	t.Run("we serve", func(t *testing.T) {
		w := newPeerWorld(t)
		w.logs = true
		w.meet(2, greater)
		w.tell(2, told(testServer))
		w.wantLog("has a peer with this registrar's server identifier 10000001 at another address")
		if !w.r.Ready() {
			t.Error("not ready any more")
		}
	})
	t.Run("others", func(t *testing.T) {
		w := startWithTwin(t)
		w.tell(2, told(third)) // not ours
		w.handle(AssocUp{Assoc: 3, Peer: peers("10.0.9.3:9901"), Via: rserpool.ViaKernel, ENRP: true})
		w.tell(3, told(testServer)) // not called by us
		w.pass(11 * time.Second)
		if !w.r.Ready() {
			t.Error("not ready after the time for a start")
		}
	})
}

// TestTwinHeard: a registrar with this registrar's identifier is heard by multicast
// during the start.
func TestTwinHeard(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Discover = true })
	w.handle(Serving{Addrs: peers("10.0.0.1:3863"), ENRP: peers("10.0.0.1:9901")})
	w.pass(time.Second)
	w.skip("announce")
	b := encodeENRP(t, twinPresence(false))
	w.handle(Announced{ENRP: true, From: peers("10.0.9.2:9901")[0], Data: b})
	w.want("connect #1 via 0 to [10.0.9.2:9901]")
	w.handle(Connecting{Ref: 1, Assoc: 2})
	w.handle(AssocUp{Assoc: 2, Peer: peers("10.0.9.2:9901"), Via: rserpool.ViaKernel})
	w.tell(2, twinPresence(false))
	w.down(2)
	w.pass(11 * time.Second)
	if w.r.Ready() {
		t.Error("ready, with a twin that serves")
	}
}

func encodeENRP(t testing.TB, m enrp.Message) []byte {
	t.Helper()
	b, err := m.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestPeerIsOurselves: at the place of a peer, the registrar finds itself, because it
// has got a virtual address. It continues to try the peer, which may come back.
func TestPeerIsOurselves(t *testing.T) {
	w := newPeerWorld(t)
	w.meet(1, greater)
	w.tell(1, update(greater, enrp.AddPE, "p", peerElement(1, greater)))
	w.down(1)
	w.want("connect #1 via 1 to [10.0.9.1:9901]")
	w.handle(Connecting{Ref: 1, Assoc: 2})
	w.handle(AssocUp{Assoc: 2, Peer: peers("10.0.9.1:9901"), Via: rserpool.ViaKernel})
	w.tell(2, presenceAt(testServer, "10.0.0.1"))
	w.want("2 < presence R ffff", "2 close")
	w.down(2)
	if p := w.r.peers.byID[greater]; p.link != nil {
		t.Error("the peer has an association that has ended")
	}
	w.until(2 * time.Second)
	w.want("connect #2 via 1 to [10.0.9.1:9901]")
	if n := w.r.Stats().Twins; n != 0 {
		t.Errorf("%d messages of a twin are counted, want none", n)
	}
}

// TestSameIdentifier: of two registrars with one identifier, the first one is the peer
// as long as it lives.
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

// TestNewIdentifier: a peer restarts with a new identifier. Its former elements are
// taken over.
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

// TestPeerElsewhere: a peer has restarted with another identifier at the same address. Only
// the new registrar gets updates, each update once.
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
