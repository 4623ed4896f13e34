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
		w.handle(AssocDown{Assoc: 7, Reason: DownRefused})
		w.want()
		w.wantElements()
		if s := w.r.Stats(); s.Removed[RemovedUnreachable] != 2 || s.Probes != 1 || s.Probing != 0 {
			t.Errorf("stats: %+v", s)
		}
	})
	t.Run("fails at once", func(t *testing.T) {
		w := probed(t)
		w.handle(Connecting{Ref: 1}) // an error of this machine
		w.want()
		w.wantSuspects("p:1", "p:2")
		w.until(2200 * time.Millisecond)
		w.want("connect #2 via 2 to [10.0.0.1:40000 10.0.1.1:40000]")
	})
	t.Run("no answer to the call", func(t *testing.T) {
		w := probed(t)
		w.handle(Connecting{Ref: 1, Assoc: 7})
		w.pass(4*time.Second - 1)
		w.wantElements("p:1", "p:2")
		w.pass(1)
		w.want("7 abort")
		w.wantSuspects("p:1", "p:2")
		w.down(7)
		w.want()
	})
	t.Run("no answer to the call, after the peer has ended the association", func(t *testing.T) {
		w := newWorld(t)
		w.up(1, rserpool.ViaUDP, "10.0.0.1")
		w.recv(1, reg("p", 1, "10.0.0.1"))
		w.skip("registration granted")
		w.left(1)
		w.want("connect #1 via 2 to [10.0.0.1:40000]")
		w.handle(Connecting{Ref: 1, Assoc: 7})
		w.pass(4*time.Second - 1)
		w.wantElements("p:1")
		w.pass(1)
		w.want("7 abort")
		w.wantSuspects("p:1") // it may have given up a registrar that it did not hear
	})
	t.Run("no answer from the host", func(t *testing.T) {
		w := probed(t)
		w.pass(4 * time.Second)
		w.want()
		w.wantSuspects("p:1", "p:2")
		w.handle(Connecting{Ref: 1, Assoc: 7}) // too late
		w.want("7 abort")
	})
	t.Run("pauses between calls", func(t *testing.T) {
		w := probed(t)
		w.handle(Connecting{Ref: 1})
		pause, last := 2*time.Second, w.now
		for ref := range 20 {
			w.until(pause*11/10 + 1)
			w.want(fmt.Sprintf("connect #%d via 2 to [10.0.0.1:40000 10.0.1.1:40000]", ref+2))
			if took := w.now.Sub(last); took < pause*9/10 {
				t.Errorf("call %d is after a pause of %v, want about %v", ref+2, took, pause)
			}
			w.handle(Connecting{Ref: uint64(ref + 2)})
			pause, last = min(2*pause, time.Minute), w.now
		}
		w.handle(Connecting{Ref: 99})
		w.wantSuspects("p:1", "p:2")
	})
	t.Run("back by a call", func(t *testing.T) {
		w := probed(t)
		w.handle(Connecting{Ref: 1})
		w.until(3 * time.Second)
		w.handle(Connecting{Ref: 2, Assoc: 7})
		w.up(7, rserpool.ViaUDP, "10.0.0.1")
		w.skip("connect", "keep-alive")
		w.recv(7, ack("p", 2))
		w.wantElements("p:2")
		w.wantSuspects("p:1")
	})
	t.Run("one probe for one place", func(t *testing.T) {
		w := newWorld(t)
		w.up(1, rserpool.ViaUDP, "10.0.0.1")
		w.up(2, rserpool.ViaUDP, "10.0.0.1:6")
		w.recv(1, reg("p", 1, "10.0.0.1"))
		w.recv(2, reg("p", 2, "10.0.0.1", asapAt(40000, "10.0.0.1")))
		w.skip("registration granted")
		w.down(1)
		w.down(2)
		w.skip("connect")
		w.handle(Connecting{Ref: 1})
		w.handle(Connecting{Ref: 2})
		if n := w.r.Stats().Probing; n != 1 {
			t.Errorf("%d probes, want one", n)
		}
		w.until(3 * time.Second)
		w.want("connect #3 via 2 to [10.0.0.1:40000]")
		w.wantSuspects("p:1", "p:2")
	})
	t.Run("one of two answers", func(t *testing.T) {
		w := probed(t)
		w.handle(Connecting{Ref: 1, Assoc: 7})
		w.up(7, rserpool.ViaUDP, "10.0.0.1")
		w.want("7"+ka1, "7"+ka2)
		w.pass(3 * time.Second)
		w.recv(7, ack("p", 2)) // which gives the other one its time again
		w.pass(3 * time.Second)
		if members(w.r.roster) != 2 {
			t.Errorf("elements: got %d, want both yet", members(w.r.roster))
		}
		w.recv(7, ack("p", 2))
		w.skip("keep-alive")
		w.pass(1100 * time.Millisecond)
		w.wantElements("p:2")
		w.wantSuspects("p:1")
		w.trace = nil
		w.recv(7, ack("p", 1)) // they are supervised over the new association
		w.wantElements("p:1", "p:2")
		w.recv(7, dereg("p", 1))
		w.recv(7, dereg("p", 2))
		w.want("7 < deregistration p:1", "7 < deregistration p:2")
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
		w.want() // they may be slow, so the association stays
		w.wantSuspects("p:1", "p:2")
		if s := w.r.Stats(); s.Suspected[SilentNoAck] != 2 || s.KeepAlivesTimedOut != 2 {
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
		w.wantElements("p:1", "p:2") // until the end of the association, or of the time
		w.down(7)
		w.wantSuspects("p:1", "p:2")
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
		w.left(7)
		w.wantElements("p:1", "p:2") // both are called again, but not in the same breath
		w.want()
		w.until(time.Second)
		w.want("connect #2 via 2 to [10.0.0.1:40000 10.0.1.1:40000]")
	})
	for _, tt := range []struct {
		name     string
		second   func(w *world)
		suspects []string
	}{
		{"ended while asking, by a process that ends", func(w *world) { w.refused(2, 8) }, nil},
		{"ended while asking, for want of room", func(w *world) {
			w.handle(Connecting{Ref: 2, Assoc: 8})
			w.up(8, rserpool.ViaUDP, "10.0.0.1")
			w.left(8)
		}, []string{"p:1", "p:2"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := probed(t)
			w.handle(Connecting{Ref: 1, Assoc: 7})
			w.up(7, rserpool.ViaUDP, "10.0.0.1")
			w.want("7"+ka1, "7"+ka2)
			w.left(7)
			w.wantElements("p:1", "p:2")
			w.until(100 * time.Millisecond)
			w.want("connect #2 via 2 to [10.0.0.1:40000 10.0.1.1:40000]")
			tt.second(w)
			w.removals()
			w.skip("keep-alive")
			w.wantSuspects(tt.suspects...)
			w.pass(1600 * time.Millisecond)
			w.want() // it is left in peace for a while
		})
	}
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
		w.want()
		w.wantElements("p:1") // it may be silent
		w.up(7, rserpool.ViaUDP, "10.0.0.1")
		w.recv(7, ack("p", 1))
		w.want("7"+ka1, "7 < deregistration p:1")
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
	w.pass(time.Second) // the others ask for too many calls at once
	if len(w.trace) != 2 || members(w.r.roster) != 20 {
		t.Errorf("%d elements, and %q a second later; want 20 and two more calls", members(w.r.roster), w.trace)
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
	w.refused(1, 11)
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
	if len(w.trace) != n || members(w.r.roster) != n || w.r.probing != 0 {
		t.Errorf("got %d keep-alives, %d elements, %d probes; want %d, %d, none", len(w.trace), members(w.r.roster), w.r.probing, n, n)
	}
}
