package registrar

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

const victim = "203.0.113.7"

// upAs establishes an association from an address, with a list of others.
func (w *world) upAs(id AssocID, via rserpool.Via, from string, claimed ...string) {
	w.t.Helper()
	w.handle(AssocUp{Assoc: id, Via: via, Peer: peers(from), Claimed: peers(claimed...)})
}

// confirm confirms addresses of an association.
func (w *world) confirm(id AssocID, addrs ...string) {
	w.t.Helper()
	w.handle(AssocAddrs{Assoc: id, Peer: peers(addrs...)})
}

// wantAt compares the addresses of an element's user transport and ASAP transport.
func (w *world) wantAt(h string, id uint32, user, asap string) {
	w.t.Helper()
	e := w.r.Space().Pool(rserpool.PoolHandle(h)).Element(rserpool.PEID(id))
	if e == nil {
		w.t.Fatalf("at %v: no element %s:%x", w.now.Sub(w.start), h, id)
	}
	if got := addrsText(e.UserTransport.Addrs); got != user {
		w.t.Errorf("at %v: %s:%x is at %s, want %s", w.now.Sub(w.start), h, id, got, user)
	}
	if got := addrsText(e.ASAPTransport.Addrs); got != asap {
		w.t.Errorf("at %v: %s:%x takes keep-alives at %s, want %s", w.now.Sub(w.start), h, id, got, asap)
	}
}

// TestForgedAddress: an element lists and offers the address of another host. The element
// is registered without that address, and the registrar never connects to it.
func TestForgedAddress(t *testing.T) {
	for _, via := range []rserpool.Via{rserpool.ViaKernel, rserpool.ViaUDP} {
		w := newWorld(t)
		w.upAs(1, via, "10.0.0.2", victim)
		for range 5 {
			w.recv(1, reg("p", 1, "10.0.0.2", userSCTP(0), at("10.0.0.2", victim)))
			w.want("1 < registration granted p:1") // and the element is not told
			w.wantAt("p", 1, "10.0.0.2", "10.0.0.2")
			w.pass(400 * time.Millisecond)
		}
		w.down(1)
		w.want(fmt.Sprintf("connect #1 via %d to [10.0.0.2:40000]", via))
	}
}

// TestForgedOnly: an element offers only the address of another host, as its user
// transport or its ASAP transport. The registration is refused if the address is not
// confirmed within two seconds.
func TestForgedOnly(t *testing.T) {
	w := newWorld(t)
	w.upAs(1, rserpool.ViaKernel, "10.0.0.2", victim)
	user := reg("p", 1, victim)
	own := reg("p", 2, "10.0.0.2", asapAt(53, victim))
	w.recv(1, user)
	w.recv(1, own)
	w.pass(confirmTime - 1)
	w.want()
	w.pass(1)
	w.want("1 < registration rejected p:1 cause 3("+tlvOf(t, user.Element.UserTransport)+")",
		"1 < registration rejected p:2 cause 3("+tlvOf(t, own.Element.ASAPTransport)+")")
	w.wantElements()
}

// TestConfirmedLater: addresses are added when they are confirmed. Peers and
// subscribers get an update, the element gets nothing.
func TestConfirmedLater(t *testing.T) {
	w := newPeerWorld(t)
	w.meet(9, greater)
	w.upAs(1, rserpool.ViaKernel, "10.0.0.2", "10.1.0.2", "10.2.0.2")
	w.up(2, rserpool.ViaUDP, "10.0.0.8")
	w.recv(1, reg("p", 1, "10.0.0.2", userSCTP(0), at("10.1.0.2", "10.0.0.2", "10.2.0.2")))
	w.want("9 < handle_update ADD_PE p:1@10000001", "1 < registration granted p:1")
	w.wantAt("p", 1, "10.0.0.2", "10.0.0.2")
	w.recv(2, subscribe("p"))
	w.skip("resolution")
	w.pass(10 * time.Millisecond)
	w.confirm(1, "10.0.0.2", "10.1.0.2")
	w.wantAt("p", 1, "10.1.0.2, 10.0.0.2", "10.0.0.2, 10.1.0.2")
	w.confirm(1, "10.0.0.2", "10.1.0.2") // no news
	w.until(2 * time.Second)
	if len(w.trace) == 0 || w.trace[0] != "9 < handle_update ADD_PE p:1@10000001" {
		t.Errorf("after the first: %v, want one update to the peer", w.trace)
	}
	w.pass(2 * time.Second)
	told := 0
	for _, line := range w.trace {
		switch line {
		case "9 < handle_update ADD_PE p:1@10000001":
			told++
		case "2 < resolution p A policy 1 1":
			told += 10
		}
	}
	if told != 11 {
		t.Errorf("told %v, want one update to the peer and one to the subscriber", w.trace)
	}
	w.skip("resolution", "handle_update ADD_PE")
	w.confirm(1, "10.0.0.2", "10.1.0.2", "10.2.0.2")
	w.wantAt("p", 1, "10.1.0.2, 10.0.0.2, 10.2.0.2", "10.0.0.2, 10.1.0.2, 10.2.0.2")
	if w.r.find("p", 1).awaits != nil {
		t.Error("the element still waits for addresses")
	}
}

// TestConfirmedKeepsLife: a confirmed address does not count as a keep-alive
// acknowledgement, nor as a registration.
func TestConfirmedKeepsLife(t *testing.T) {
	w := newWorld(t)
	w.upAs(1, rserpool.ViaKernel, "10.0.0.2", "10.1.0.2")
	w.recv(1, reg("p", 1, "10.0.0.2", userSCTP(0), at("10.0.0.2", "10.1.0.2"), life(3)))
	w.pass(2 * time.Second)
	w.confirm(1, "10.0.0.2", "10.1.0.2")
	if n := w.r.Stats().Reregistrations; n != 0 {
		t.Errorf("%d re-registrations", n)
	}
	w.wantAt("p", 1, "10.0.0.2, 10.1.0.2", "10.0.0.2, 10.1.0.2")
	w.skip("registration granted")
	w.pass(time.Second)
	w.want("1" + ka1)
	w.recv(1, ack("p", 1))
	w.want("1 < deregistration p:1")
	w.wantElements()
}

// TestHeldRegistration: an element that offers another address than the one it comes
// from gets the response when that address is confirmed.
func TestHeldRegistration(t *testing.T) {
	setup := func(t *testing.T) *world {
		w := newWorld(t)
		w.upAs(1, rserpool.ViaKernel, "10.0.0.2", "10.1.0.2")
		w.recv(1, reg("p", 1, "10.1.0.2"))
		w.pass(100 * time.Millisecond)
		w.want()
		return w
	}
	t.Run("confirmed", func(t *testing.T) {
		w := setup(t)
		w.confirm(1, "10.0.0.2", "10.1.0.2")
		w.want("1 < registration granted p:1")
		w.wantAt("p", 1, "10.1.0.2", "10.0.0.2, 10.1.0.2")
		w.pass(confirmTime)
		w.want()
	})
	t.Run("registered again", func(t *testing.T) {
		w := setup(t)
		w.recv(1, reg("p", 1, "10.0.0.2"))
		w.want("1 < registration granted p:1")
		w.confirm(1, "10.0.0.2", "10.1.0.2")
		w.pass(confirmTime)
		w.want()
		w.wantAt("p", 1, "10.0.0.2", "10.0.0.2, 10.1.0.2")
	})
	t.Run("deregistered", func(t *testing.T) {
		w := setup(t)
		w.recv(1, dereg("p", 1))
		w.want("1 < deregistration p:1")
		w.confirm(1, "10.0.0.2", "10.1.0.2")
		w.pass(confirmTime)
		w.want()
		w.wantElements()
	})
	t.Run("lost", func(t *testing.T) {
		w := setup(t)
		w.down(1)
		w.pass(confirmTime)
		w.want()
	})
	t.Run("too many, in the log", func(t *testing.T) {
		w := setup(t)
		w.logs = true
		for i := range uint32(maxHeldPerAssoc) {
			w.recv(1, reg("q", 1+i, "10.1.0.2"))
		}
		if want := "lack of resources: 8 registrations of this association, and 8 in all, wait until an address is confirmed"; len(w.trace) != 2 || !strings.HasSuffix(w.trace[0], want) {
			t.Errorf("got %q, want a log line that ends in %q", w.trace, want)
		}
	})
	t.Run("too many", func(t *testing.T) {
		w := setup(t)
		for i := range uint32(2 * maxHeldPerAssoc) {
			w.recv(1, reg("q", 1+i, "10.1.0.2"))
		}
		if n := len(w.trace); n != maxHeldPerAssoc+1 || w.trace[0] != fmt.Sprintf("1 < registration rejected q:%x cause 6", maxHeldPerAssoc) {
			t.Errorf("%d refused at once: %v, want %d", n, w.trace, maxHeldPerAssoc+1)
		}
		w.pass(confirmTime)
		w.skip("registration rejected")
		for i := range AssocID(100) {
			w.upAs(10+i, rserpool.ViaKernel, fmt.Sprintf("10.0.1.%d", i), "10.1.0.2")
			for j := range uint32(maxHeldPerAssoc) {
				w.recv(10+i, reg("q", 1+j, "10.1.0.2"))
			}
		}
		if want := (100*maxHeldPerAssoc - maxHeld); len(w.trace) != want {
			t.Errorf("%d refused at once, want %d", len(w.trace), want)
		}
	})
}

// TestReturnKeepsAddresses: an element that registers over a new association keeps its
// former addresses until they are confirmed again, for two seconds at most.
func TestReturnKeepsAddresses(t *testing.T) {
	again := func(w *world, id AssocID) {
		w.recv(id, reg("p", 1, "10.0.0.2", userSCTP(0), at("10.0.0.2", "10.1.0.2")))
	}
	const both, first = "10.0.0.2, 10.1.0.2", "10.0.0.2"
	t.Run("confirmed anew", func(t *testing.T) {
		w := newPeerWorld(t)
		w.meet(9, greater)
		w.up(1, rserpool.ViaKernel, "10.0.0.2", "10.1.0.2")
		again(w, 1)
		w.upAs(2, rserpool.ViaKernel, "10.0.0.2:7", "10.1.0.2:7")
		w.skip("registration granted", "handle_update ADD_PE")
		again(w, 2)
		w.wantAt("p", 1, both, both)
		w.handle(AssocAddrs{Assoc: 2, Peer: peers("10.0.0.2:7", "10.1.0.2:7")})
		w.pass(confirmTime)
		w.wantAt("p", 1, both, both)
		w.want("9 < handle_update ADD_PE p:1@10000001", "2 < registration granted p:1")
	})
	t.Run("not confirmed", func(t *testing.T) {
		w := newPeerWorld(t)
		w.meet(9, greater)
		w.up(1, rserpool.ViaKernel, "10.0.0.2", "10.1.0.2")
		again(w, 1)
		w.pass(time.Millisecond)
		for i := range AssocID(4) { // over and over, with a new association
			w.upAs(2+i, rserpool.ViaKernel, "10.0.0.2:7", "10.1.0.2:7")
			again(w, 2+i)
			w.wantAt("p", 1, both, both)
			w.pass(confirmTime/4 - 1)
		}
		w.skip("registration granted", "handle_update ADD_PE")
		w.pass(4)
		w.want("9 < handle_update ADD_PE p:1@10000001")
		w.wantAt("p", 1, first, first)
		w.upAs(8, rserpool.ViaKernel, "10.0.0.2:8", "10.1.0.2:8")
		again(w, 8)
		w.wantAt("p", 1, first, first)
	})
	t.Run("of another host", func(t *testing.T) {
		w := newWorld(t)
		w.up(1, rserpool.ViaKernel, "10.0.0.2", "10.1.0.2")
		again(w, 1)
		w.upAs(2, rserpool.ViaKernel, "10.0.0.3", "10.1.0.2") // claims an address of the element's
		w.recv(2, reg("p", 1, "10.0.0.2", userSCTP(0), at("10.0.0.3", "10.1.0.2")))
		w.recv(1, dereg("p", 1))
		w.wantAt("p", 1, "10.0.0.3", "10.0.0.3")
	})
}

// TestHandedOverAddresses: a peer's element moves to this registrar with all its
// addresses.
func TestHandedOverAddresses(t *testing.T) {
	w := newPeerWorld(t)
	w.meet(9, greater)
	e := peerElement(1, greater)
	e.UserTransport.Type, e.UserTransport.Addrs = rserpool.SCTP, addrsOf("10.1.0.2", "10.0.0.2")
	e.ASAPTransport.Addrs = addrsOf("10.0.0.2", "10.1.0.2")
	w.tell(9, update(greater, enrp.AddPE, "p", e))
	w.wantAt("p", 1, "10.1.0.2, 10.0.0.2", "10.0.0.2, 10.1.0.2") // its home answers for it
	w.upAs(1, rserpool.ViaKernel, "10.0.0.2", "10.1.0.2")
	w.recv(1, reg("p", 1, "10.0.0.2", userSCTP(0), at("10.1.0.2", "10.0.0.2")))
	w.wantAt("p", 1, "10.1.0.2, 10.0.0.2", "10.0.0.2, 10.1.0.2")
	w.confirm(1, "10.0.0.2", "10.1.0.2")
	w.pass(confirmTime)
	w.wantAt("p", 1, "10.1.0.2, 10.0.0.2", "10.0.0.2, 10.1.0.2")
}

// TestHeldAfterClaim: an association with a claim registers again, with an address that
// is not confirmed. It gets one response, to the later registration.
func TestHeldAfterClaim(t *testing.T) {
	begin := func(t *testing.T) *world {
		w := newWorld(t)
		w.up(1, rserpool.ViaKernel, "10.0.1.1")
		w.recv(1, reg("p", 1, "10.0.1.1"))
		w.upAs(2, rserpool.ViaKernel, "10.0.0.2", "10.0.0.3")
		w.recv(2, reg("p", 1, "10.0.0.2"))
		w.skip("registration granted", "keep-alive")
		w.recv(2, reg("p", 1, "10.0.0.3"))
		w.want()
		return w
	}
	t.Run("not confirmed", func(t *testing.T) {
		w := begin(t)
		w.recv(1, dereg("p", 1)) // the claim would be granted
		w.want("1 < deregistration p:1")
		w.until(3 * time.Second)
		w.want("2 < registration rejected p:1 cause 3(" + tlvOf(t, reg("p", 1, "10.0.0.3").Element.UserTransport) + ")")
	})
	t.Run("confirmed", func(t *testing.T) {
		w := begin(t)
		w.confirm(2, "10.0.0.2", "10.0.0.3")
		w.want()
		w.recv(1, dereg("p", 1))
		w.want("2 < registration granted p:1", "1 < deregistration p:1")
		w.wantAt("p", 1, "10.0.0.3", "10.0.0.2, 10.0.0.3")
	})
}

// TestSuspectAwaits: a suspect that answers again waits for its
// addresses as before.
func TestSuspectAwaits(t *testing.T) {
	w := newWorld(t)
	w.upAs(1, rserpool.ViaKernel, "10.0.0.2", "10.1.0.2")
	w.recv(1, reg("p", 1, "10.0.0.2", userSCTP(0), at("10.0.0.2", "10.1.0.2"), asapAt(40000, "10.0.0.2", "10.1.0.2")))
	for members(w.r.roster) > 0 {
		w.pass(time.Second)
	}
	w.recv(1, ack("p", 1))
	w.wantElements("p:1")
	w.wantAt("p", 1, "10.0.0.2", "10.0.0.2")
	w.confirm(1, "10.0.0.2", "10.1.0.2")
	w.wantAt("p", 1, "10.0.0.2, 10.1.0.2", "10.0.0.2, 10.1.0.2")
}

// TestAwaitedBytes: addresses that an element waits for count against the limit.
func TestAwaitedBytes(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Limits.ElementBytes = 64 << 10 })
	var claimed []string
	for i := range 63 {
		claimed = append(claimed, fmt.Sprintf("203.0.113.%d", i))
	}
	w.upAs(1, rserpool.ViaKernel, "10.0.0.2", claimed...)
	const n = 100
	for id := range uint32(n) {
		w.recv(1, reg("p", 1+id, "10.0.0.2", userSCTP(0), at(append(claimed, "10.0.0.2")...)))
	}
	if got := w.r.ledger.Used().ElementBytes; got > 64<<10+4<<10 || members(w.r.roster) == n || members(w.r.roster) == 0 {
		t.Errorf("%d elements take %d bytes, want 64 KiB and one element more at most", members(w.r.roster), got)
	}
	w.down(1)
	w.refused(1, 9)
	if w.r.ledger.Used().ElementBytes != 0 || members(w.r.roster) != 0 {
		t.Errorf("%d elements and %d bytes are left", members(w.r.roster), w.r.ledger.Used().ElementBytes)
	}
}
