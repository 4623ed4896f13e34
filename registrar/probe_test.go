package registrar

import (
	"fmt"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

const (
	ka1 = " < keep-alive p:1 from 10000001"
	ka2 = " < keep-alive p:2 from 10000001"
)

// probed is a world in which the association of two elements has just ended.
func probed(t *testing.T, change ...func(*Config)) *world {
	t.Helper()
	w := newWorld(t, change...)
	w.up(1, rserpool.ViaUDP, "10.0.0.1", "10.0.1.1")
	w.recv(1, reg("p", 1, "10.0.0.1"))
	w.recv(1, reg("p", 2, "10.0.0.1"))
	w.skip("registration granted")
	w.down(1)
	w.want("connect #1 via 2 to [10.0.0.1:40000 10.0.1.1:40000]") // one call for both
	w.wantElements("p:1", "p:2")
	return w
}

func TestProbe(t *testing.T) {
	t.Run("refused", func(t *testing.T) { // a killed process: its machine aborts the call
		w := probed(t)
		w.handle(Connecting{Ref: 1, Assoc: 7})
		w.wantElements("p:1", "p:2")
		w.down(7)
		w.want()
		w.wantElements()
		if s := w.r.Stats(); s.Removed[RemovedUnreachable] != 2 || s.Probes != 1 || s.Probing != 0 {
			t.Errorf("stats: %+v", s)
		}
	})
	t.Run("fails at once", func(t *testing.T) {
		w := probed(t)
		w.handle(Connecting{Ref: 1})
		w.want()
		w.wantElements()
	})
	t.Run("no answer to the call", func(t *testing.T) {
		w := probed(t)
		w.handle(Connecting{Ref: 1, Assoc: 7})
		w.pass(4*time.Second - 1)
		w.wantElements("p:1", "p:2")
		w.pass(1)
		w.want("7 abort")
		w.wantElements()
		w.down(7)
		w.want()
	})
	t.Run("no answer from the host", func(t *testing.T) {
		w := probed(t)
		w.pass(4 * time.Second)
		w.want()
		w.wantElements()
		w.handle(Connecting{Ref: 1, Assoc: 7}) // too late
		w.want("7 abort")
	})
	t.Run("one of two answers", func(t *testing.T) {
		w := probed(t)
		w.handle(Connecting{Ref: 1, Assoc: 7})
		w.up(7, rserpool.ViaUDP, "10.0.0.1")
		w.want("7"+ka1, "7"+ka2)
		w.pass(3 * time.Second)
		w.recv(7, ack("p", 2)) // which gives the other one its time again
		w.pass(3 * time.Second)
		if w.r.roster.Len() != 2 {
			t.Errorf("elements: got %d, want both yet", w.r.roster.Len())
		}
		w.recv(7, ack("p", 2))
		w.skip("keep-alive")
		w.pass(1100 * time.Millisecond)
		w.wantElements("p:2")
		w.skip("removed")
		w.recv(7, ack("p", 2))
		w.until(8 * time.Second) // supervised over the new association
		w.want("7" + ka2)
		w.recv(7, dereg("p", 2))
		w.want("7 < deregistration p:2")
		w.pass(30*time.Second - 1)
		w.want()
		w.pass(1) // nobody needs it any more
		w.want("7 close")
	})
	t.Run("no acknowledgement", func(t *testing.T) {
		w := probed(t)
		w.handle(Connecting{Ref: 1, Assoc: 7})
		w.up(7, rserpool.ViaUDP, "10.0.0.1")
		w.want("7"+ka1, "7"+ka2)
		w.pass(2*time.Second - 1)
		w.want()
		w.pass(1)
		w.want("7"+ka1+" H", "7"+ka2+" H")
		w.pass(2 * time.Second)
		w.want("7 abort")
		w.wantElements()
		if s := w.r.Stats(); s.Removed[RemovedNoAck] != 2 || s.KeepAlivesTimedOut != 2 {
			t.Errorf("stats: %+v", s)
		}
	})
	t.Run("acknowledges its home alone", func(t *testing.T) {
		w := probed(t)
		w.handle(Connecting{Ref: 1, Assoc: 7})
		w.up(7, rserpool.ViaUDP, "10.0.0.1")
		w.recv(7, ack("p", 2))
		w.skip("keep-alive")
		w.pass(2 * time.Second)
		w.want("7" + ka1 + " H")
		w.recv(7, ack("p", 1))
		w.wantElements("p:1", "p:2")
		// Not again so soon: another registrar may do the same.
		w.down(7)
		w.handle(Connecting{Ref: 2, Assoc: 8})
		w.up(8, rserpool.ViaUDP, "10.0.0.1")
		w.recv(8, ack("p", 2))
		w.skip("keep-alive", "connect")
		w.pass(2 * time.Second)
		w.want()
		w.pass(2 * time.Second)
		w.wantElements("p:2")
	})
	t.Run("keep-alive undeliverable", func(t *testing.T) {
		w := probed(t)
		w.handle(Connecting{Ref: 1, Assoc: 7})
		acts := w.r.Handle(w.now, AssocUp{Assoc: 7, Peer: peers("10.0.0.1"), Via: rserpool.ViaUDP})
		data := acts[0].(*Send).Data
		w.handle(SendFailed{Assoc: 7, Data: data})
		w.wantElements("p:2")
	})
	t.Run("forged acknowledgement", func(t *testing.T) {
		w := probed(t)
		w.handle(Connecting{Ref: 1, Assoc: 7})
		w.up(2, rserpool.ViaUDP, "10.0.0.1:9")
		w.recv(2, ack("p", 1))
		w.up(7, rserpool.ViaUDP, "10.0.0.1")
		w.want("7"+ka1, "7"+ka2)
		w.recv(2, ack("p", 2))
		w.pass(4 * time.Second)
		w.wantElements()
	})
	t.Run("lost while asking", func(t *testing.T) {
		w := probed(t)
		w.handle(Connecting{Ref: 1, Assoc: 7})
		w.up(7, rserpool.ViaUDP, "10.0.0.1")
		w.want("7"+ka1, "7"+ka2)
		w.recv(7, ack("p", 1))
		w.down(7)
		w.wantElements("p:1") // it has answered, so it is called again, but not in the same breath
		w.want()
		w.until(time.Second)
		w.want("connect #2 via 2 to [10.0.0.1:40000]")
	})
	t.Run("element leaves meanwhile", func(t *testing.T) {
		w := probed(t)
		w.handle(Connecting{Ref: 1, Assoc: 7})
		w.up(2, rserpool.ViaUDP, "10.0.1.1") // the element's endpoint
		w.recv(2, dereg("p", 1))
		w.recv(2, reg("p", 2, "10.0.1.1"))
		w.want("2 < deregistration p:1", "7 abort", "2 < registration granted p:2")
		w.down(7)
		w.wantElements("p:2")
	})
	t.Run("life ends meanwhile", func(t *testing.T) {
		w := newWorld(t)
		w.up(1, rserpool.ViaUDP, "10.0.0.1")
		w.recv(1, reg("p", 1, "10.0.0.1", life(1)))
		w.skip("registration granted")
		w.down(1)
		w.want("connect #1 via 2 to [10.0.0.1:40000]")
		w.handle(Connecting{Ref: 1, Assoc: 7})
		w.pass(time.Second)
		w.want("7 abort")
		w.wantElements()
	})
	t.Run("peer has called already", func(t *testing.T) {
		w := newWorld(t)
		w.up(1, rserpool.ViaUDP, "10.0.0.1")
		w.recv(1, reg("p", 1, "10.0.0.1"))
		w.skip("registration granted")
		w.up(2, rserpool.ViaUDP, "10.0.0.1")
		w.down(1)
		w.want("2" + ka1)
		w.down(2) // and is gone again: now the call is made
		w.want("connect #1 via 2 to [10.0.0.1:40000]")
		w.handle(Connecting{Ref: 1, Assoc: 7})
		w.up(3, rserpool.ViaUDP, "10.0.0.1")
		w.down(7) // our call has failed because of the peer's
		w.want("3" + ka1)
		w.recv(3, ack("p", 1))
		w.wantElements("p:1")
		w.recv(3, dereg("p", 1))
		w.skip("deregistration", "removed")
		w.pass(time.Hour) // the peer's association is the peer's to close
		w.want()
	})
	t.Run("peer's association is busy with another probe", func(t *testing.T) {
		w := newWorld(t)
		w.up(1, rserpool.ViaUDP, "10.0.0.1")
		w.up(2, rserpool.ViaUDP, "10.0.0.1:6", "10.0.0.2")
		w.recv(1, reg("p", 1, "10.0.0.1"))
		w.recv(2, reg("p", 2, "10.0.0.1", asapAt(40000, "10.0.0.1")))
		w.up(3, rserpool.ViaUDP, "10.0.0.1")
		w.skip("registration granted")
		w.down(1)
		w.want("3" + ka1)
		w.down(2)
		w.want("3" + ka2)
		w.recv(3, ack("p", 1))
		w.recv(3, ack("p", 2))
		w.down(3)
		w.want("connect #1 via 2 to [10.0.0.1:40000]")
		w.wantElements("p:1", "p:2")
	})
	t.Run("TCP has none", func(t *testing.T) {
		w := newWorld(t)
		w.up(1, rserpool.ViaTCP, "10.0.0.1")
		w.down(1)
		w.want()
	})
}

// Elements with other ASAP transports are probed there, within bounds.
func TestProbeASAPTransports(t *testing.T) {
	w := newWorld(t)
	w.up(1, rserpool.ViaKernel, "10.0.0.1", "10.0.1.1")
	for id := uint32(0); id < 20; id++ {
		w.recv(1, reg("p", 1+id, "10.0.0.1", asapAt(uint16(1+id/2), "10.0.1.1")))
	}
	w.skip("registration granted")
	w.down(1)
	var want []string
	for i := 1; i <= maxProbesPerAssoc; i++ {
		want = append(want, fmt.Sprintf("connect #%d via 1 to [10.0.1.1:%d]", i, i))
	}
	w.want(want...)
	if w.r.roster.Len() != 2*maxProbesPerAssoc {
		t.Errorf("elements: got %d, want %d: the others ask for too many calls", w.r.roster.Len(), 2*maxProbesPerAssoc)
	}
}

// Probes of many associations wait for each other. Those of an association with many
// elements ask a few at a time.
func TestProbeLimits(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Limits.Probes = 2 })
	for id := 1; id <= 4; id++ {
		w.up(AssocID(id), rserpool.ViaKernel, fmt.Sprintf("10.0.0.%d", id))
		w.recv(AssocID(id), reg("p", uint32(id), fmt.Sprintf("10.0.0.%d", id)))
	}
	w.skip("registration granted")
	for id := AssocID(1); id <= 4; id++ {
		w.down(id)
	}
	w.want("connect #1 via 1 to [10.0.0.1:40000]", "connect #2 via 1 to [10.0.0.2:40000]")
	if got := w.r.Stats().Probing; got != 4 {
		t.Errorf("probes: got %d, want 4", got)
	}
	w.up(9, rserpool.ViaKernel, "10.0.0.3:1")
	w.recv(9, reg("p", 3, "10.0.0.3")) // needs no probe any more
	w.want("9 < registration granted p:3")
	w.handle(Connecting{Ref: 1, Assoc: 11})
	w.down(11)
	w.want("connect #3 via 1 to [10.0.0.4:40000]")
	w.wantElements("p:2", "p:3", "p:4")
}

func TestProbeWindow(t *testing.T) {
	const n = 3*askWindow + 5
	w := newWorld(t)
	w.up(1, rserpool.ViaKernel, "10.0.0.1")
	for id := uint32(1); id <= n; id++ {
		w.recv(1, reg("p", id, "10.0.0.1"))
	}
	w.down(1)
	w.handle(Connecting{Ref: 1, Assoc: 7})
	w.skip("registration granted", "connect")
	w.up(7, rserpool.ViaKernel, "10.0.0.1")
	if len(w.trace) != askWindow {
		t.Fatalf("keep-alives at once: got %d, want %d", len(w.trace), askWindow)
	}
	for id := uint32(1); id <= n; id++ {
		w.pass(time.Millisecond)
		w.recv(7, ack("p", id))
	}
	if len(w.trace) != n || w.r.roster.Len() != n || w.r.probing != 0 {
		t.Errorf("got %d keep-alives, %d elements, %d probes; want %d, %d, none", len(w.trace), w.r.roster.Len(), w.r.probing, n, n)
	}
}
