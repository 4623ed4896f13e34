package registrar

import (
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// TestClaimForeign: an element registers from another host, with a registrar that is not
// its home. The registrar asks the home whether the present element is alive.
func TestClaimForeign(t *testing.T) {
	const ask = "2 < handle_update to 20000002 ADD_PE p:1@20000002"
	begin := func(t *testing.T) *world {
		w := newPeerWorld(t)
		w.meet(2, greater)
		w.tell(2, update(greater, enrp.AddPE, "p", peerElement(1, greater)))
		w.up(1, rserpool.ViaKernel, "10.0.0.9")
		w.recv(1, reg("p", 1, "10.0.0.9"))
		w.want(ask)
		return w
	}
	address := func(w *world) string { return w.r.Space().Pool("p").Element(1).UserTransport.Addrs[0].String() }
	t.Run("dead", func(t *testing.T) {
		w := begin(t)
		w.tell(2, update(greater, enrp.DelPE, "p", peerElement(1, greater)))
		w.want("2 < handle_update ADD_PE p:1@10000001", "1 < registration granted p:1")
		w.wantHomes("p:1@10000001")
		if got := address(w); got != "10.0.0.9" {
			t.Errorf("the element is at %v, want the new host", got)
		}
	})
	t.Run("lives", func(t *testing.T) {
		w := begin(t)
		w.recv(1, reg("p", 1, "10.0.0.9")) // sent again
		w.want()
		w.up(3, rserpool.ViaKernel, "10.0.0.8")
		w.recv(3, reg("p", 1, "10.0.0.8")) // a third one
		w.want("3 < registration rejected p:1 cause 4")
		w.tell(2, update(greater, enrp.AddPE, "p", peerElement(1, greater)))
		w.want("1 < registration rejected p:1 cause 4")
		if got := address(w); got != "10.0.1.1" {
			t.Errorf("the element is at %v, want the old host", got)
		}
	})
	t.Run("registers with us", func(t *testing.T) {
		w := begin(t)
		w.up(3, rserpool.ViaKernel, "10.0.1.1")
		w.recv(3, reg("p", 1, "10.0.1.1"))
		w.want("1 < registration rejected p:1 cause 4", "2 < handle_update ADD_PE p:1@10000001", "3 < registration granted p:1")
	})
	t.Run("deregisters with us", func(t *testing.T) {
		w := begin(t)
		w.up(3, rserpool.ViaKernel, "10.0.1.1")
		w.recv(3, dereg("p", 1))
		w.want("2 < handle_update ADD_PE p:1@10000001", "1 < registration granted p:1", "3 < deregistration p:1")
	})
	t.Run("only a table names it", func(t *testing.T) {
		w := begin(t)
		w.tell(2, &enrp.Presence{Sender: greater, HasChecksum: true})
		w.tell(2, &enrp.HandleTableResponse{Sender: greater, More: true, Pools: []enrp.PoolEntry{{Handle: "p", Elements: []rserpool.PoolElement{peerElement(1, greater)}}}})
		w.want("2 < handle_table_request to 20000002 W", "2 < handle_table_request to 20000002 W")
		w.tell(2, &enrp.HandleTableResponse{Sender: greater})
		w.want()
	})
	t.Run("swept by an audit", func(t *testing.T) {
		w := begin(t)
		w.tell(2, &enrp.Presence{Sender: greater, HasChecksum: true})
		w.tell(2, &enrp.HandleTableResponse{Sender: greater})
		w.want("2 < handle_table_request to 20000002 W", "connect #1 via 0 to [10.0.1.1:40000]")
		w.refused(1, 5)
		w.want("2 < handle_update ADD_PE p:1@10000001", "1 < registration granted p:1")
	})
	t.Run("swept by an audit, and alive", func(t *testing.T) {
		w := begin(t)
		w.tell(2, &enrp.Presence{Sender: greater, HasChecksum: true})
		w.tell(2, &enrp.HandleTableResponse{Sender: greater})
		w.want("2 < handle_table_request to 20000002 W", "connect #1 via 0 to [10.0.1.1:40000]")
		w.handle(Connecting{Ref: 1, Assoc: 5})
		w.up(5, rserpool.ViaUDP, "10.0.1.1:40000")
		w.recv(5, ack("p", 1))
		w.want("5 < keep-alive p:1 from 10000001", "1 < registration rejected p:1 cause 4")
	})
	t.Run("the home does not answer", func(t *testing.T) {
		w := begin(t)
		start := w.now
		w.until(7 * time.Second)
		w.want(ask)
		w.until(7 * time.Second)
		w.want(ask)
		w.until(7 * time.Second)
		w.want("1 < registration rejected p:1 cause 4")
		if took := w.now.Sub(start); took != 15*time.Second {
			t.Errorf("refused after %v, want 15s, before T2-registration is over", took)
		}
	})
	t.Run("the claimant is gone", func(t *testing.T) {
		w := begin(t)
		w.down(1)
		w.pass(20 * time.Second)
		w.want()
	})
	t.Run("too many", func(t *testing.T) {
		w := begin(t)
		w.r.cfg.Limits.ClaimsPerAssoc = 1
		w.tell(2, update(greater, enrp.AddPE, "q", peerElement(1, greater)))
		w.recv(1, reg("q", 1, "10.0.0.9"))
		w.want("1 < registration rejected q:1 cause 6")
	})
}

// TestClaimOrphan: the home of a claimed element is dead. The claim waits until another
// registrar has taken the element over and has sent it a keep-alive. A host cannot get the
// identifier of a living element by registering before that.
func TestClaimOrphan(t *testing.T) {
	begin := func(t *testing.T) *world {
		w := newPeerWorld(t)
		w.meet(2, greater)
		w.tell(2, update(greater, enrp.AddPE, "p", peerElement(1, greater)))
		w.down(2)
		w.handle(Connecting{Ref: 1})
		w.up(1, rserpool.ViaKernel, "10.0.0.9")
		w.recv(1, reg("p", 1, "10.0.0.9"))
		w.skip("connect")
		w.wantHomes("p:1@20000002")
		w.pass(5*time.Second + time.Millisecond) // it is found dead, and taken over, since nobody else is there
		if got, want := w.trace[len(w.trace)-1], "connect #3 via 0 to [10.0.1.1:40000]"; got != want {
			t.Fatalf("got %q, want %q last", w.trace, want)
		}
		w.skip("connect")
		return w
	}
	t.Run("dead", func(t *testing.T) {
		w := begin(t)
		w.handle(Connecting{Ref: 3})
		w.want("1 < registration granted p:1")
	})
	t.Run("lives", func(t *testing.T) {
		w := begin(t)
		w.handle(Connecting{Ref: 3, Assoc: 9})
		w.up(9, rserpool.ViaKernel, "10.0.1.1")
		w.want("9" + ka1 + " H")
		w.recv(9, ack("p", 1))
		w.want("1 < registration rejected p:1 cause 4")
	})
	t.Run("taken over by another", func(t *testing.T) {
		w := newPeerWorld(t)
		w.meet(2, greater)
		w.meet(3, third)
		w.tell(2, update(greater, enrp.AddPE, "p", peerElement(1, greater)))
		w.down(2)
		w.handle(Connecting{Ref: 1})
		w.up(1, rserpool.ViaKernel, "10.0.0.9")
		w.recv(1, reg("p", 1, "10.0.0.9"))
		w.pass(5 * time.Second)
		w.tell(3, &enrp.InitTakeover{Sender: third, Target: greater})
		w.tell(3, &enrp.TakeoverServer{Sender: third, Target: greater})
		w.wantHomes("p:1@30000003")
		w.skip("connect", "init_takeover", "init_takeover_ack")
		w.until(2 * time.Second)
		w.want("3 < handle_update to 30000003 ADD_PE p:1@30000003")
		w.tell(3, update(third, enrp.DelPE, "p", peerElement(1, third)))
		w.want("3 < handle_update ADD_PE p:1@10000001", "1 < registration granted p:1")
	})
}

// TestClaimAsked: how the home of a claimed element answers a peer that asks.
func TestClaimAsked(t *testing.T) {
	begin := func(t *testing.T) *world {
		w := newPeerWorld(t)
		w.meet(2, smaller)
		w.up(1, rserpool.ViaKernel, "10.0.1.1")
		w.recv(1, reg("p", 1, "10.0.1.1"))
		w.skip("registration granted", "handle_update ADD_PE")
		w.tell(2, update(smaller, enrp.AddPE, "p", peerElement(1, testServer)))
		w.until(time.Second)
		w.want("1" + ka1 + " H")
		return w
	}
	t.Run("lives", func(t *testing.T) {
		w := begin(t)
		w.recv(1, ack("p", 1))
		w.want("2 < handle_update ADD_PE p:1@10000001")
	})
	t.Run("dead", func(t *testing.T) {
		w := begin(t)
		w.until(5 * time.Second)
		w.want("2 < handle_update DEL_PE p:1@10000001?0s")
		w.wantSuspects("p:1")
		ask := update(smaller, enrp.AddPE, "p", peerElement(1, testServer))
		w.tell(2, ask) // it gives the element back, or has not learned yet that it is a suspect
		w.want()
		ask.Receiver = testServer
		w.tell(2, ask)
		w.pass(2 * time.Second)
		w.want("1"+ka1, "2 < handle_update DEL_PE p:1@10000001", "1 < deregistration p:1")
		w.wantHomes()
	})
}

// TestClaimCompeting: two registrars have each granted a claim. The one with the
// smaller identifier keeps its own.
func TestClaimCompeting(t *testing.T) {
	for _, tt := range []struct {
		other rserpool.ServerID
		want  string
	}{{smaller, "p:1@fffffff"}, {greater, "p:1@10000001"}} {
		w := newPeerWorld(t)
		w.meet(2, tt.other)
		w.meet(3, third)
		w.tell(3, update(third, enrp.AddPE, "p", peerElement(1, third)))
		w.up(1, rserpool.ViaKernel, "10.0.0.9")
		w.recv(1, reg("p", 1, "10.0.0.9"))
		w.tell(3, update(third, enrp.DelPE, "p", peerElement(1, third)))
		w.wantHomes("p:1@10000001")
		w.tell(2, update(tt.other, enrp.AddPE, "p", peerElement(1, tt.other)))
		w.recv(1, ack("p", 1))
		w.wantHomes(tt.want)
	}
}

// RFC 5352, Section 3.1, rules 3 and 4, and RFC 5355, threat 1: which registrations of
// an identifier in use are granted.
func TestClaim(t *testing.T) {
	setup := func(t *testing.T, change ...func(*Config)) *world {
		w := newWorld(t, change...)
		w.up(1, rserpool.ViaKernel, "10.0.0.1", "172.17.0.1")
		w.up(2, rserpool.ViaKernel, "10.0.0.2", "172.17.0.1", "10.0.0.1") // what a peer says of itself proves nothing
		w.recv(1, reg("p", 1, "10.0.0.1"))
		w.want("1 < registration granted p:1")
		return w
	}
	t.Run("by the same host", func(t *testing.T) {
		w := setup(t)
		w.up(3, rserpool.ViaKernel, "10.0.0.1:5", "10.0.0.3")
		w.recv(3, reg("p", 1, "10.0.0.3"))
		w.want("3 < registration granted p:1")
		w.down(1) // owns nothing any more
		w.want()
		w.wantElements("p:1")
	})
	t.Run("of a living element", func(t *testing.T) {
		w := setup(t)
		w.recv(2, reg("p", 1, "10.0.0.2"))
		w.want("1 < keep-alive p:1 from 10000001")
		w.recv(2, reg("p", 1, "10.0.0.2")) // once more
		w.want()
		w.up(3, rserpool.ViaKernel, "10.0.0.3")
		w.recv(3, reg("p", 1, "10.0.0.3")) // a third one
		w.want("3 < registration rejected p:1 cause 4")
		w.recv(2, ack("p", 1)) // forged
		w.want()
		w.recv(1, ack("p", 1))
		w.want("2 < registration rejected p:1 cause 4")
		w.recv(2, reg("p", 1, "10.0.0.2")) // at once again: asked a second later
		w.want()
		w.until(time.Second)
		w.want("1 < keep-alive p:1 from 10000001")
		w.recv(1, reg("p", 1, "10.0.0.1")) // a sign of life, too
		w.want("2 < registration rejected p:1 cause 4", "1 < registration granted p:1")
	})
	t.Run("of a living element, before a time in which the registrar's host was suspended", func(t *testing.T) {
		w := setup(t)
		w.recv(2, reg("p", 1, "10.0.0.2"))
		w.recv(1, ack("p", 1))
		w.want("1 < keep-alive p:1 from 10000001", "2 < registration rejected p:1 cause 4")
		w.recv(2, reg("p", 1, "10.0.0.2"))
		w.want()
		w.now = w.now.Add(10 * time.Minute)
		w.handle(Tick{})
		w.want("1 < keep-alive p:1 from 10000001")
	})
	t.Run("of a dead element", func(t *testing.T) {
		w := setup(t)
		w.recv(2, reg("p", 1, "10.0.0.2"))
		w.want("1 < keep-alive p:1 from 10000001")
		w.until(5 * time.Second)
		w.want("1 < deregistration p:1", "2 < registration granted p:1")
		w.wantElements("p:1")
		if got := w.r.Space().Pool("p").Element(1).UserTransport.Addrs[0].String(); got != "10.0.0.2" {
			t.Errorf("element is at %v, want the new host", got)
		}
	})
	t.Run("of a dead element, and once more with what is refused", func(t *testing.T) {
		w := setup(t)
		w.recv(2, reg("p", 1, "10.0.0.2"))
		w.want("1 < keep-alive p:1 from 10000001")
		w.recv(2, reg("p", 1, "10.0.0.9")) // as a re-registration that is refused, it changes nothing
		w.want("2 < registration rejected p:1 cause 3(0006001000070000000100080a000009)")
		w.until(5 * time.Second)
		w.want("1 < deregistration p:1", "2 < registration granted p:1")
		w.wantElements("p:1")
	})
	t.Run("of an element that deregisters", func(t *testing.T) {
		w := setup(t)
		w.recv(2, reg("p", 1, "10.0.0.2"))
		w.want("1 < keep-alive p:1 from 10000001")
		w.recv(1, dereg("p", 1))
		w.want("2 < registration granted p:1", "1 < deregistration p:1")
		w.wantElements("p:1")
	})
	t.Run("of an element that too many report", func(t *testing.T) {
		w := setup(t, func(c *Config) { c.Timers.MaxBadPEReport = 1 })
		w.recv(2, reg("p", 1, "10.0.0.2"))
		w.want("1 < keep-alive p:1 from 10000001")
		w.recv(2, unreachable("p", 1))
		w.want()
		w.up(3, rserpool.ViaKernel, "10.0.0.3")
		w.recv(3, unreachable("p", 1))
		w.want("2 < registration granted p:1")
		w.wantElements("p:1")
	})
	t.Run("of a probed element", func(t *testing.T) {
		for _, alive := range []bool{false, true} {
			w := setup(t)
			w.down(1)
			w.want("connect #1 via 1 to [10.0.0.1:40000 172.17.0.1:40000]")
			w.handle(Connecting{Ref: 1, Assoc: 9})
			w.recv(2, reg("p", 1, "10.0.0.2"))
			w.want()
			if alive {
				w.up(9, rserpool.ViaKernel, "10.0.0.1", "172.17.0.1")
				w.want("9 < keep-alive p:1 from 10000001")
				w.recv(9, ack("p", 1))
				w.want("2 < registration rejected p:1 cause 4")
			} else {
				w.down(9)
				w.want("2 < registration granted p:1")
			}
			w.wantElements("p:1")
		}
	})
	t.Run("by the host of a probed element", func(t *testing.T) {
		w := setup(t)
		w.down(1)
		w.want("connect #1 via 1 to [10.0.0.1:40000 172.17.0.1:40000]")
		w.handle(Connecting{Ref: 1, Assoc: 9})
		w.up(3, rserpool.ViaKernel, "10.0.0.1:7")
		w.recv(3, reg("p", 1, "10.0.0.1"))
		w.want("9 abort", "3 < registration granted p:1")
		w.down(9)
		w.want()
	})
	t.Run("that is lost", func(t *testing.T) {
		w := setup(t)
		w.recv(2, reg("p", 1, "10.0.0.2"))
		w.want("1 < keep-alive p:1 from 10000001")
		w.down(2)
		w.recv(1, ack("p", 1))
		w.want()
	})
	t.Run("that does not fit any more", func(t *testing.T) {
		w := setup(t)
		w.recv(1, reg("p", 2, "10.0.0.1"))
		w.want("1 < registration granted p:2")
		w.recv(2, reg("p", 1, "10.0.0.2", policy(rserpool.Random)))
		w.want("1 < keep-alive p:1 from 10000001")
		w.recv(1, dereg("p", 1))
		w.want("2 < registration rejected p:1 cause 5(0008000800000001)", "1 < deregistration p:1")
		w.wantElements("p:2")
	})
	t.Run("by a peer that is of the element's host now", func(t *testing.T) {
		w := setup(t)
		w.up(3, rserpool.ViaKernel, "10.0.0.3")
		w.recv(3, reg("p", 1, "10.0.0.3"))
		w.want("1 < keep-alive p:1 from 10000001")
		w.handle(AssocAddrs{Assoc: 1, Peer: peers("10.0.0.1", "10.0.0.3")})
		w.recv(3, reg("p", 1, "10.0.0.3"))
		w.want("3 < registration granted p:1") // and nothing else
	})
	t.Run("too many", func(t *testing.T) {
		w := setup(t, func(c *Config) { c.Limits.ClaimsPerAssoc = 1 })
		w.recv(1, reg("q", 1, "10.0.0.1"))
		w.recv(2, reg("p", 1, "10.0.0.2"))
		w.recv(2, reg("q", 1, "10.0.0.2"))
		w.want("1 < registration granted q:1", "1 < keep-alive p:1 from 10000001", "2 < registration rejected q:1 cause 6")
	})
}
