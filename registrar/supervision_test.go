package registrar

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// RFC 5352, Section 3.5: every element gets keep-alives, at intervals varied by 10 %, and is
// a suspect if it does not acknowledge one.
func TestKeepAlive(t *testing.T) {
	w := newWorld(t)
	w.up(1, rserpool.ViaKernel, "10.0.0.1")
	w.recv(1, reg("p", 1, "10.0.0.1"))
	w.want("1 < registration granted p:1")
	least, most := time.Hour, time.Duration(0)
	for range 100 {
		last := w.now
		w.until(7500 * time.Millisecond)
		w.want("1 < keep-alive p:1 from 10000001")
		least, most = min(least, w.now.Sub(last)), max(most, w.now.Sub(last))
		w.recv(1, ack("p", 1))
		w.want()
	}
	if least < 4500*time.Millisecond || least > 4600*time.Millisecond || most < 5400*time.Millisecond || most > 5500*time.Millisecond {
		t.Errorf("intervals from %v to %v, want nearly 4.5s to 5.5s", least, most)
	}
	w.until(7500 * time.Millisecond)
	w.want("1 < keep-alive p:1 from 10000001")
	w.pass(5*time.Second - 1)
	w.wantElements("p:1")
	w.pass(1)
	w.wantElements()
	w.wantSuspects("p:1")
	w.want()
	if s := w.r.Stats(); s.KeepAlivesSent != 101 || s.KeepAlivesAcked != 100 || s.KeepAlivesTimedOut != 1 || s.Suspected[SilentNoAck] != 1 {
		t.Errorf("stats: %+v", s)
	}
}

// A re-registration, such as one for a load change, counts as an acknowledgement.
func TestReregistrationIsSignOfLife(t *testing.T) {
	w := newWorld(t)
	w.up(1, rserpool.ViaKernel, "10.0.0.1")
	w.recv(1, reg("p", 1, "10.0.0.1"))
	w.want("1 < registration granted p:1")
	w.until(8 * time.Second)
	w.want("1 < keep-alive p:1 from 10000001")
	w.pass(4 * time.Second)
	w.recv(1, reg("p", 1, "10.0.0.1"))
	w.want("1 < registration granted p:1")
	w.pass(2 * time.Second)
	w.want()
	w.wantElements("p:1")
	for range 20 { // and puts off the next keep-alive
		w.pass(2 * time.Second)
		w.recv(1, reg("p", 1, "10.0.0.1"))
		w.want("1 < registration granted p:1")
	}
}

// RFC 5352, Section 2.2.7: the H flag asks an element that names another home to change
// it. An element without a home has chosen this registrar by registering.
func TestKeepAliveHomeFlag(t *testing.T) {
	for _, c := range []struct {
		home rserpool.ServerID
		want string
	}{{0, ""}, {testServer, ""}, {0x22, " H"}} {
		w := newWorld(t)
		w.up(1, rserpool.ViaKernel, "10.0.0.1")
		w.recv(1, reg("p", 1, "10.0.0.1", func(e *rserpool.PoolElement) { e.Home = c.home }))
		w.want("1 < registration granted p:1")
		w.until(8 * time.Second)
		w.want("1 < keep-alive p:1 from 10000001" + c.want)
		w.recv(1, ack("p", 1))
		w.until(8 * time.Second)
		w.want("1 < keep-alive p:1 from 10000001")
	}
}

// RFC 5352, Section 3.5: the keep-alive that a report causes has no H flag. The element
// still gets it later.
func TestKeepAliveHomeFlagAndReport(t *testing.T) {
	w := newWorld(t)
	w.up(1, rserpool.ViaKernel, "10.0.0.1")
	w.recv(1, reg("p", 1, "10.0.0.1", func(e *rserpool.PoolElement) { e.Home = 0x22 }))
	w.recv(1, unreachable("p", 1))
	w.recv(1, ack("p", 1))
	w.want("1 < registration granted p:1", "1"+ka1)
	w.until(8 * time.Second)
	w.want("1" + ka1 + " H")
}

// Acknowledgements count only over the association that has carried the keep-alive.
func TestKeepAliveAckForged(t *testing.T) {
	w := newWorld(t)
	w.up(1, rserpool.ViaKernel, "10.0.0.1")
	w.up(2, rserpool.ViaKernel, "10.0.0.2")
	w.up(3, rserpool.ViaTCP, "10.0.0.1")
	w.recv(1, reg("p", 1, "10.0.0.1"))
	w.recv(1, ack("p", 1)) // not asked for
	w.skip("registration granted")
	w.until(8 * time.Second)
	w.want("1 < keep-alive p:1 from 10000001")
	w.recv(2, ack("p", 1))
	w.recv(3, ack("p", 1))
	w.recv(1, ack("p", 2))
	w.recv(1, ack("q", 1))
	w.pass(5 * time.Second)
	w.wantElements()
	if got := w.r.Stats().KeepAlivesUnexpected; got != 5 {
		t.Errorf("unexpected acknowledgements: got %d, want 5", got)
	}
}

// RFC 5352, Section 3.5: a keep-alive that results in a SEND.FAILURE.
func TestKeepAliveSendFailed(t *testing.T) {
	w := newWorld(t)
	w.up(1, rserpool.ViaKernel, "10.0.0.1")
	w.recv(1, reg("p", 1, "10.0.0.1"))
	w.recv(1, reg("p", 2, "10.0.0.1"))
	w.skip("registration granted")
	failed := encode(t, &asap.EndpointKeepAlive{Server: testServer, Handle: "p", ID: 1, HasID: true})
	w.handle(SendFailed{Assoc: 1, Data: failed}) // none is out
	w.wantElements("p:1", "p:2")
	w.until(8 * time.Second)
	if strings.Contains(w.trace[0], "p:2") {
		failed = encode(t, &asap.EndpointKeepAlive{Server: testServer, Handle: "p", ID: 2, HasID: true})
	}
	w.skip("keep-alive")
	w.handle(SendFailed{Assoc: 1})
	w.handle(SendFailed{Assoc: 1, Data: failed[:7]})
	w.handle(SendFailed{Assoc: 9, Data: failed})
	if got := members(w.r.roster); got != 2 {
		t.Errorf("elements: got %d, want both", got)
	}
	w.handle(SendFailed{Assoc: 1, Data: failed})
	if s := w.r.Stats(); s.Suspected[SilentSendFailed] != 1 || s.SendsFailed != 4 {
		t.Errorf("stats: %+v", s)
	}
}

// After the registrar's host was suspended, the elements have the full time to acknowledge,
// and do not get keep-alives all at once.
func TestHeldUp(t *testing.T) {
	w := newWorld(t)
	w.up(1, rserpool.ViaKernel, "10.0.0.1")
	for id := uint32(1); id <= 100; id++ {
		w.recv(1, reg("p", id, "10.0.0.1"))
	}
	w.pass(4600 * time.Millisecond)
	asked := len(w.trace) - 100
	if asked < 1 || asked > 20 {
		t.Fatalf("%d elements asked within 4.6 s, want a few", asked)
	}
	w.skip("registration granted", "keep-alive")
	w.now = w.now.Add(time.Minute)
	w.handle(Tick{})
	if n := len(w.trace); n != 0 || members(w.r.roster) != 100 {
		t.Errorf("after the sleep: %d keep-alives at once, %d elements; want none and all", n, members(w.r.roster))
	}
	w.pass(4999 * time.Millisecond)
	if members(w.r.roster) != 100 {
		t.Errorf("elements: got %d, want all that had no time to answer", members(w.r.roster))
	}
	w.pass(5001 * time.Millisecond)
	if members(w.r.roster) != 0 {
		t.Errorf("elements: got %d, want none", members(w.r.roster))
	}
}

// The time for an acknowledgement begins when the keep-alive has left the send queue. There
// is an upper limit for a queue that does not become shorter.
func TestKeepAliveUnsent(t *testing.T) {
	for _, tt := range []struct {
		name    string
		unsent  time.Duration // how long the keep-alive waits in the queue
		removed time.Duration // after the keep-alive
	}{
		{"sent at once", 0, 5 * time.Second},
		{"sent late", 4 * time.Second, 9 * time.Second},
		{"never sent", time.Hour, 20*time.Second - 200*time.Millisecond},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.up(1, rserpool.ViaKernel, "10.0.0.1")
			w.recv(1, reg("p", 1, "10.0.0.1"))
			w.skip("registration granted")
			for len(w.trace) == 0 {
				w.pass(10 * time.Millisecond)
			}
			w.want("1" + ka1)
			asked := w.now
			for members(w.r.roster) > 0 {
				if w.now.Sub(asked) <= tt.unsent {
					w.handle(Unsent{Assoc: 1})
				}
				w.pass(200 * time.Millisecond)
			}
			if got := w.now.Sub(asked); got < tt.removed || got > tt.removed+400*time.Millisecond {
				t.Errorf("a suspect %v after the keep-alive, want %v", got, tt.removed)
			}
			w.wantSuspects("p:1")
			w.handle(Unsent{Assoc: 1}) // after it
			w.handle(Unsent{Assoc: 2}) // of nobody
		})
	}
}

// A host that is always late still notices dead elements.
func TestHeldUpAlways(t *testing.T) {
	w := newWorld(t)
	w.up(1, rserpool.ViaKernel, "10.0.0.1")
	w.recv(1, reg("p", 1, "10.0.0.1"))
	w.skip("registration granted")
	w.until(8 * time.Second)
	w.want("1" + ka1)
	for range 2 * maxTries {
		w.now = w.now.Add(8 * time.Second)
		w.handle(Tick{})
	}
	w.skip("keep-alive")
	w.wantSuspects("p:1")
}

// RFC 5352, Section 3.5: "pay attention not to flood the network with bursts".
func TestKeepAliveSpread(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	const n = 100_000
	w := newWorld(t, func(c *Config) { c.Limits.ElementsPerAssoc = n })
	w.kept.note(w.r.Handle(w.now, AssocUp{Assoc: 1, Peer: peers("10.0.0.1"), Via: rserpool.ViaKernel}))
	for id := uint32(1); id <= uint32(n); id++ {
		w.kept.note(w.r.Handle(w.now, Received{Assoc: 1, PPID: asap.PPID, Data: encode(t, reg(fmt.Sprint("p", id%1000), id, "10.0.0.1"))}))
	}
	w.check()
	perTenth := make(map[int64]int)
	for w.now.Sub(w.start) < 17*time.Second {
		at, ok := w.r.NextDeadline()
		if !ok {
			t.Fatal("no deadline")
		}
		if at.After(w.now) {
			w.now = at
		}
		var answers [][]byte
		for _, a := range w.r.Handle(w.now, Tick{}) {
			if s, ok := a.(*Send); ok {
				perTenth[int64(w.now.Sub(w.start)/(100*time.Millisecond))]++
				// Without the server identifier it is an acknowledgement.
				b := append([]byte{byte(asap.TypeEndpointKeepAliveAck), 0, 0, byte(len(s.Data) - 4)}, s.Data[8:]...)
				answers = append(answers, b)
			}
		}
		for _, b := range answers {
			w.kept.note(w.r.Handle(w.now, Received{Assoc: 1, PPID: asap.PPID, Data: b}))
		}
	}
	w.check()
	if members(w.r.roster) != n {
		t.Errorf("elements: got %d, want %d", members(w.r.roster), n)
	}
	// KEEP-ALIVE-RATE has 5000 a second, and a second's worth at once in the beginning, after two
	// intervals, since so many have come at once. The first do not know that: until their
	// keep-alives are many, there is no rush.
	const first = 5000 / busyShare * 10 // with intervals of 10 s
	total := 0
	for at := int64(0); at < 170; at++ {
		got := perTenth[at]
		if total += got; at >= 115 && (got < 490 || got > 510) || at >= 89 && got > 0 && total > 500*int(at-89)+5000+first {
			t.Errorf("keep-alives in the tenth %d: got %d, and %d so far, want 500, and 5000 more in the beginning", at, got, total)
		}
	}
}

// An element is not removed while one of its messages may still be unread.
func TestKeepAliveAckUnread(t *testing.T) {
	w := newWorld(t)
	w.up(1, rserpool.ViaKernel, "10.0.0.1")
	w.recv(1, reg("p", 1, "10.0.0.1"))
	w.skip("registration granted")
	w.until(8 * time.Second)
	w.want("1 < keep-alive p:1 from 10000001")
	asked := w.now
	w.now = asked.Add(6 * time.Second) // a second late
	w.handle(Tick{Until: asked.Add(5*time.Second - 1)})
	w.wantElements("p:1")
	w.recv(1, ack("p", 1)) // it came in time
	w.handle(Tick{Until: w.now})
	w.wantElements("p:1")
	if s := w.r.Stats(); s.KeepAlivesAcked != 1 || s.KeepAlivesTimedOut != 0 {
		t.Errorf("%d acknowledged, %d timed out, want 1 and 0", s.KeepAlivesAcked, s.KeepAlivesTimedOut)
	}
}
