package registrar

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// refusedDereg is the response to a deregistration that is refused.
const refusedDereg = " < deregistration p:1 cause a"

// TestDeregisterSuperseded: in a rolling restart with a fixed identifier, the new
// process registers, and then the old one deregisters. Nothing is removed, and the end
// of the old association changes nothing.
func TestDeregisterSuperseded(t *testing.T) {
	w := newWorld(t)
	w.up(1, rserpool.ViaKernel, "10.0.0.1:1001")
	w.recv(1, reg("p", 1, "10.0.0.1"))
	w.up(2, rserpool.ViaKernel, "10.0.0.1:1002")
	w.recv(2, reg("p", 1, "10.0.0.1"))
	w.want("1 < registration granted p:1", "2 < registration granted p:1")
	w.recv(1, dereg("p", 1))
	w.want("1 < deregistration p:1")
	w.wantElements("p:1")
	w.down(1)
	w.want()
	w.wantElements("p:1")
	w.recv(2, dereg("p", 1))
	w.want("2 < deregistration p:1")
	w.wantElements()
}

// TestDeregisterBackAndForth: two processes with one identifier re-register in turn. The later
// one stays registered. When one deregisters, the other one stays registered, or is notified and
// registers again at once.
func TestDeregisterBackAndForth(t *testing.T) {
	begin := func(t *testing.T) *world {
		w := newWorld(t)
		w.up(1, rserpool.ViaKernel, "10.0.0.1:1001")
		w.up(2, rserpool.ViaKernel, "10.0.0.1:1002")
		for range 3 {
			w.recv(1, reg("p", 1, "10.0.0.1"))
			w.recv(2, reg("p", 1, "10.0.0.1"))
		}
		w.recv(1, reg("p", 1, "10.0.0.1")) // the former process is the last one
		w.skip("registration granted")
		return w
	}
	t.Run("the owner leaves", func(t *testing.T) {
		w := begin(t)
		w.recv(2, dereg("p", 1))
		w.want("1 < deregistration p:1", "2 < deregistration p:1")
		w.recv(1, reg("p", 1, "10.0.0.1"))
		w.want("1 < registration granted p:1")
		w.recv(2, dereg("p", 1)) // again, since the answer was lost
		w.recv(1, ack("p", 1))
		w.want("1 < keep-alive p:1 from 10000001", "2"+refusedDereg)
		w.wantElements("p:1")
	})
	t.Run("the owner is killed", func(t *testing.T) {
		w := begin(t)
		w.down(2)
		w.want("connect #1 via 1 to [10.0.0.1:1002]")
		w.refused(1, 9)
		w.want("1 < deregistration p:1")
		w.wantElements()
	})
	t.Run("the owner is killed, and the other renews", func(t *testing.T) {
		w := begin(t)
		w.down(2)
		w.recv(1, reg("p", 1, "10.0.0.1"))
		w.want("connect #1 via 1 to [10.0.0.1:1002]", "1 < registration granted p:1")
		w.wantElements("p:1")
	})
	t.Run("the other leaves", func(t *testing.T) {
		w := begin(t)
		w.recv(1, dereg("p", 1))
		w.want("1 < deregistration p:1")
		w.wantElements("p:1")
		w.recv(2, dereg("p", 1)) // the last one, with nobody to be told
		w.want("2 < deregistration p:1")
	})
}

// TestStandBy: two processes of a host have one identifier, and both live. The later one has the
// place, whatever the former one re-registers; that one hears where the element is, and the
// log has a warning.
func TestStandBy(t *testing.T) {
	w := newWorld(t)
	w.logs = true
	at := func(port uint16) *asap.Registration {
		m := reg("p", 1, "10.0.0.1")
		m.Element.UserTransport.Port = port
		return m
	}
	w.up(1, rserpool.ViaKernel, "10.0.0.1:1001")
	w.up(2, rserpool.ViaKernel, "10.0.0.1:1002")
	w.up(3, rserpool.ViaKernel, "10.0.0.1:1002") // another association from the endpoint of 2
	w.recv(1, at(81))
	w.recv(2, at(82))
	w.trace = nil
	w.recv(1, at(81))
	w.recv(2, at(82))
	w.want(`log two processes register pool element 00000001 of pool "p": that at 10.0.0.1:1002 has it, and that at 10.0.0.1:1001 gets it only when the other one ends: use another identifier, or end one of them`,
		"1 < registration granted p:1 cause 4 cause 3(0006001000510000000100080a0000010006001000520000000100080a000001)",
		"2 < registration granted p:1")
	if t := w.r.find("p", 1).PE().UserTransport; t.Port != 82 {
		w.t.Errorf("the element is at %v, want the later process", &t)
	}
	w.recv(3, at(83))
	w.recv(2, at(84)) // the same process over its former association
	if t := w.r.find("p", 1).PE().UserTransport; t.Port != 84 {
		w.t.Errorf("the element is at %v, want the last word of the later process", &t)
	}
}

// TestDeregisterFormerBounded: of the processes that had an identifier, the registrar
// remembers the latest few as superseded. When an older one deregisters, the registrar
// sends the element a keep-alive.
func TestDeregisterFormerBounded(t *testing.T) {
	w := newWorld(t)
	const n = maxFormerOwners + 3
	for id := AssocID(1); id <= n; id++ {
		w.up(id, rserpool.ViaKernel, fmt.Sprintf("10.0.0.1:%d", 1000+id))
		w.recv(id, reg("p", 1, "10.0.0.1"))
	}
	w.skip("registration granted")
	w.recv(n-1, dereg("p", 1))
	w.want(fmt.Sprintf("%d < deregistration p:1", n-1))
	w.recv(1, dereg("p", 1))
	w.want(fmt.Sprintf("%d%s", n, ka1))
	w.recv(n, ack("p", 1))
	w.want("1" + refusedDereg)
	w.wantElements("p:1")
}

// TestDeregisterByHost: if the deregistration comes over another association of the
// element's host, the registrar sends the element a keep-alive. The element stays if it
// acknowledges within a second.
func TestDeregisterByHost(t *testing.T) {
	begin := func(t *testing.T, change ...func(*Config)) *world {
		w := newWorld(t, change...)
		w.up(1, rserpool.ViaKernel, "10.0.0.1:1001")
		w.recv(1, reg("p", 1, "10.0.0.1"))
		w.up(2, rserpool.ViaKernel, "10.0.0.1:1002")
		w.want("1 < registration granted p:1")
		return w
	}
	asked := "1" + ka1
	t.Run("lives", func(t *testing.T) {
		w := begin(t)
		w.recv(2, dereg("p", 1))
		w.want(asked)
		w.recv(2, dereg("p", 1)) // once more
		w.recv(2, ack("p", 1))   // forged
		w.want()
		w.recv(1, ack("p", 1))
		w.want("2" + refusedDereg)
		w.wantElements("p:1")
		if s := w.r.Stats(); s.Rejections[rserpool.CauseSecurity] != 1 || s.Deregistrations != 0 {
			t.Errorf("stats: %+v", s)
		}
	})
	t.Run("dead", func(t *testing.T) {
		w := begin(t)
		w.recv(2, dereg("p", 1))
		w.want(asked)
		w.pass(time.Second - 1)
		w.wantElements("p:1")
		w.pass(1)
		w.want("1 < deregistration p:1", "2 < deregistration p:1") // the element is told, should it wake up
		w.wantElements()
	})
	t.Run("registers again", func(t *testing.T) {
		w := begin(t)
		w.recv(2, dereg("p", 1))
		w.recv(1, reg("p", 1, "10.0.0.1"))
		w.want(asked, "2"+refusedDereg, "1 < registration granted p:1")
	})
	t.Run("asked already", func(t *testing.T) {
		w := begin(t)
		w.until(8 * time.Second)
		w.want(asked)
		w.pass(100 * time.Millisecond)
		w.recv(2, dereg("p", 1))
		w.want()
		w.pass(time.Second)
		w.want("1 < deregistration p:1", "2 < deregistration p:1")
	})
	t.Run("asked and answered just now", func(t *testing.T) {
		w := begin(t)
		w.recv(2, unreachable("p", 1))
		w.recv(1, ack("p", 1))
		w.recv(2, dereg("p", 1))
		w.want(asked)
		w.until(time.Second)
		w.want(asked)
		w.recv(1, ack("p", 1))
		w.want("2" + refusedDereg)
	})
	t.Run("claimed as well", func(t *testing.T) {
		w := begin(t)
		w.up(3, rserpool.ViaKernel, "10.0.0.3")
		w.recv(3, reg("p", 1, "10.0.0.3"))
		w.recv(2, dereg("p", 1))
		w.want(asked)
		w.pass(time.Second)
		w.want("1 < deregistration p:1", "2 < deregistration p:1", "3 < registration granted p:1")
	})
	t.Run("the association is lost meanwhile", func(t *testing.T) {
		w := begin(t)
		w.recv(2, dereg("p", 1))
		w.down(1)
		w.want(asked, "connect #1 via 1 to [10.0.0.1:1001]")
		w.handle(Connecting{Ref: 1, Assoc: 9})
		w.up(9, rserpool.ViaKernel, "10.0.0.1:1001")
		w.recv(9, ack("p", 1))
		w.want("9"+ka1, "2"+refusedDereg)
	})
	t.Run("the association is lost before", func(t *testing.T) {
		w := begin(t)
		w.down(1)
		w.recv(2, dereg("p", 1))
		w.want("connect #1 via 1 to [10.0.0.1:1001]")
		w.handle(Connecting{Ref: 1, Assoc: 9})
		w.pass(time.Second)
		w.want("9 abort", "2 < deregistration p:1")
		w.wantElements()
	})
	t.Run("the association is lost before it is asked again", func(t *testing.T) {
		w := begin(t)
		w.recv(2, unreachable("p", 1))
		w.recv(1, ack("p", 1))
		w.recv(2, dereg("p", 1))
		w.down(1)
		w.want(asked, "connect #1 via 1 to [10.0.0.1:1001]")
		w.pass(time.Second)
		w.want("2 < deregistration p:1")
		w.wantElements()
	})
	t.Run("the sender is gone", func(t *testing.T) {
		w := begin(t)
		w.recv(2, dereg("p", 1))
		w.down(2)
		w.pass(2 * time.Second)
		w.want(asked)
		w.wantElements("p:1")
	})
	t.Run("by its endpoint", func(t *testing.T) {
		w := begin(t)
		w.down(1)
		w.want("connect #1 via 1 to [10.0.0.1:1001]")
		w.up(3, rserpool.ViaKernel, "10.0.0.1:1001") // a new association of the element itself
		w.recv(3, dereg("p", 1))
		w.want("3 < deregistration p:1")
		w.wantElements()
	})
	t.Run("too many", func(t *testing.T) {
		w := begin(t, func(c *Config) { c.Limits.ClaimsPerAssoc = 1 })
		w.recv(1, reg("q", 1, "10.0.0.1"))
		w.recv(2, dereg("p", 1))
		w.recv(2, dereg("q", 1))
		w.want("1 < registration granted q:1", asked, "2 < deregistration q:1 cause 6")
	})
}

// foreignAt is an element of a peer at 10.0.1.1, with an ASAP port.
func foreignAt(home rserpool.ServerID, port uint16) rserpool.PoolElement {
	e := peerElement(1, home)
	e.ASAPTransport = rserpool.Transport{Type: rserpool.SCTP, Port: port, Addrs: []netip.Addr{netip.MustParseAddr("10.0.1.1")}}
	return e
}

// TestDeregisterForeign: which deregistrations of a peer's element are granted.
func TestDeregisterForeign(t *testing.T) {
	begin := func(t *testing.T) *world {
		w := newPeerWorld(t)
		w.meet(2, greater)
		w.tell(2, update(greater, enrp.AddPE, "p", foreignAt(greater, 1001)))
		w.want()
		return w
	}
	t.Run("another host", func(t *testing.T) {
		w := begin(t)
		w.up(1, rserpool.ViaKernel, "10.0.0.9")
		w.recv(1, dereg("p", 1))
		w.want("1" + refusedDereg)
		w.wantHomes("p:1@20000002")
		if s := w.r.Stats(); s.Rejections[rserpool.CauseSecurity] != 1 || s.Deregistrations != 0 {
			t.Errorf("stats: %+v", s)
		}
	})
	t.Run("the element", func(t *testing.T) {
		w := begin(t)
		w.up(1, rserpool.ViaKernel, "10.0.1.1:1001")
		w.recv(1, dereg("p", 1))
		w.want("2 < handle_update ADD_PE p:1@10000001", "2 < handle_update DEL_PE p:1@10000001", "1 < deregistration p:1")
		w.wantHomes()
	})
	t.Run("another process of the host", func(t *testing.T) {
		w := begin(t)
		w.up(1, rserpool.ViaKernel, "10.0.1.1:1002")
		w.recv(1, dereg("p", 1))
		w.want("2 < handle_update to 20000002 ADD_PE p:1@20000002") // the home is to judge
		w.tell(2, update(greater, enrp.AddPE, "p", foreignAt(greater, 1001)))
		w.want("1" + refusedDereg)
		w.recv(1, dereg("p", 1))
		w.tell(2, update(greater, enrp.DelPE, "p", foreignAt(greater, 1001)))
		w.want("2 < handle_update to 20000002 ADD_PE p:1@20000002", "1 < deregistration p:1")
		w.wantHomes()
	})
}

// TestDeregisterAfterMove: the new process registers with another registrar,
// then the old one deregisters with its own.
func TestDeregisterAfterMove(t *testing.T) {
	begin := func(t *testing.T, other rserpool.ServerID) *world {
		w := newPeerWorld(t)
		w.meet(2, other)
		w.up(1, rserpool.ViaKernel, "10.0.1.1:1001")
		w.recv(1, reg("p", 1, "10.0.1.1"))
		w.skip("registration granted", "handle_update ADD_PE")
		w.tell(2, update(other, enrp.AddPE, "p", foreignAt(other, 1002)))
		return w
	}
	t.Run("we yield", func(t *testing.T) {
		w := begin(t, smaller)
		w.skip("handle_update ADD_PE")
		w.recv(1, dereg("p", 1))
		w.want("1 < deregistration p:1")
		w.wantHomes("p:1@fffffff")
		w.down(1)
		w.want()
		w.wantHomes("p:1@fffffff")
	})
	t.Run("we yield, and the old one takes it back", func(t *testing.T) {
		w := begin(t, smaller)
		w.skip("handle_update ADD_PE")
		w.logs = true
		w.recv(1, reg("p", 1, "10.0.1.1"))
		if len(w.trace) == 0 || !strings.HasPrefix(w.trace[0], `log pool element 00000001 of pool "p" is taken back from registrar 0fffffff, with which another process of its host has registered it, by that at 10.0.1.1:1001: `) {
			t.Errorf("got %q, want a warning first", w.trace)
		}
		w.wantHomes("p:1@10000001")
	})
	t.Run("they yield", func(t *testing.T) {
		w := begin(t, greater)
		w.recv(1, ack("p", 1)) // the old process lives, and stays
		w.skip("keep-alive", "handle_update ADD_PE")
		w.recv(1, dereg("p", 1))
		w.want("2 < handle_update DEL_PE p:1@10000001", "1 < deregistration p:1")
	})
	t.Run("while we still ask", func(t *testing.T) {
		w := begin(t, greater)
		w.skip("keep-alive")
		w.recv(1, dereg("p", 1)) // the other one has it, so it does not go
		w.want("2 < handle_update ADD_PE p:1@20000002", "1 < deregistration p:1")
		w.wantHomes("p:1@20000002")
	})
	t.Run("of the same process, while we still ask", func(t *testing.T) {
		w := newPeerWorld(t)
		w.meet(2, greater)
		w.up(1, rserpool.ViaKernel, "10.0.1.1:1001")
		w.recv(1, reg("p", 1, "10.0.1.1"))
		w.tell(2, update(greater, enrp.AddPE, "p", foreignAt(greater, 1001)))
		w.skip("registration granted", "keep-alive", "handle_update ADD_PE")
		w.recv(1, dereg("p", 1))
		w.want("2 < handle_update DEL_PE p:1@10000001", "1 < deregistration p:1")
	})
	t.Run("we yield and the other ends", func(t *testing.T) {
		w := begin(t, smaller)
		w.skip("handle_update ADD_PE")
		w.tell(2, update(smaller, enrp.DelPE, "p", foreignAt(smaller, 1002)))
		w.want("1 < deregistration p:1") // still there, so it registers anew
	})
	t.Run("of the same process", func(t *testing.T) {
		w := newPeerWorld(t)
		w.meet(2, smaller)
		w.up(1, rserpool.ViaKernel, "10.0.1.1:1001")
		w.recv(1, reg("p", 1, "10.0.1.1"))
		w.tell(2, update(smaller, enrp.AddPE, "p", foreignAt(smaller, 1001)))
		w.skip("registration granted", "handle_update ADD_PE")
		w.tell(2, update(smaller, enrp.DelPE, "p", foreignAt(smaller, 1001)))
		w.want() // it has left by itself
	})
}

// RFC 5352, Sections 3.2 and 2.2.2: only the element itself may deregister.
func TestDeregistration(t *testing.T) {
	w := newWorld(t)
	w.up(1, rserpool.ViaKernel, "10.0.0.1", "10.0.1.1")
	w.up(2, rserpool.ViaKernel, "10.0.0.2", "10.0.0.1") // names the first one's address
	w.up(3, rserpool.ViaKernel, "10.0.1.1")             // is the first one's host
	w.up(4, rserpool.ViaTCP, "10.0.0.1")
	for id := uint32(1); id <= 3; id++ {
		w.recv(1, reg("p", id, "10.0.0.1"))
	}
	w.skip("registration granted")
	w.recv(2, dereg("p", 1))
	w.want("2 < deregistration p:1 cause a")
	w.recv(4, dereg("p", 1))
	w.want("4 < deregistration p:1 cause a")
	w.wantElements("p:1", "p:2", "p:3")
	w.recv(1, dereg("p", 1))
	w.want("1 < deregistration p:1")
	w.recv(3, dereg("p", 2))
	w.want("3 < deregistration p:2")
	w.wantElements("p:3")
	w.recv(2, dereg("p", 1)) // gone already: granted
	w.want("2 < deregistration p:1")
	w.recv(2, dereg("nothing", 1))
	w.want("2 < deregistration nothing:1")
	w.recv(1, dereg("p", 3))
	w.want("1 < deregistration p:3")
	w.wantElements()
	if p, _ := w.r.Space().Len(); p != 0 {
		t.Errorf("pools: got %d, want none", p)
	}
	w.recv(1, reg("p", 1, "10.0.0.1", policy(rserpool.Random))) // a new pool is free to choose
	w.want("1 < registration granted p:1")
	w.down(3)
	w.down(1) // has registered again
	w.want("connect #1 via 1 to [10.0.0.1:40000 10.0.1.1:40000]")
}

// TestPoolLostLogged: one line says that a pool has lost its last element.
func TestPoolLostLogged(t *testing.T) {
	w := newWorld(t)
	w.logs = true
	w.up(1, rserpool.ViaKernel, "10.0.0.1:1001")
	w.recv(1, reg("p", 1, "10.0.0.1"))
	w.recv(1, reg("p", 2, "10.0.0.1"))
	for id, want := range []int{1: 0, 2: 1} {
		if id == 0 {
			continue
		}
		w.trace = nil
		w.recv(1, dereg("p", uint32(id)))
		got := 0
		for _, line := range w.trace {
			if strings.Contains(line, `pool "p" has lost its last element`) {
				got++
			}
		}
		if got != want {
			t.Errorf("deregistration %d: got %d lines in %q, want %d", id, got, w.trace, want)
		}
	}
	w.trace = nil
}
