package registrar

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

func (w *world) raw(id AssocID, ppid uint32, hexText string) {
	w.t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(hexText, " ", ""))
	if err != nil {
		w.t.Fatal(err)
	}
	w.handle(Received{Assoc: id, PPID: ppid, Data: b})
}

// RFC 5352, Section 2.2.14, and RFC 5354, Sections 3 and 4. The association
// stays usable in each case.
func TestBadMessages(t *testing.T) {
	for _, c := range []struct {
		name, hex string
		want      []string
	}{
		{"nothing", "", []string{"error cause 3"}},
		{"three octets", "050000", []string{"error cause 3(050000)"}},
		{"no pool handle", "05000004", []string{"error cause 3(05000004)"}},
		{"registration without anything", "01000004", []string{"error cause 3(01000004)"}},
		{"length beyond the end", "05000010 00090005", []string{"error cause 3(0500001000090005)"}},
		{"empty pool handle", "05000008 00090004", []string{"error cause 3(00090004)"}},
		{"unknown type, 00", "0f000004", nil},
		{"unknown type, 01", "40000004", []string{"error cause 2(40000004)"}},
		{"unknown type, 10", "80000004", nil},
		{"unknown type, 11", "ff000004", nil},
		{"unknown parameter, 00", "05000010 0009000571000000 01230004", nil},
		{"unknown parameter, 01", "05000010 0009000571000000 41230004", []string{"error cause 1(41230004)"}},
		{"unknown parameter, 10", "05000010 0009000571000000 81230004", []string{"resolution q cause 9"}},
		{"unknown parameter, 11", "05000010 0009000571000000 c1230004", []string{"resolution q cause 9", "error cause 1(c1230004)"}},
		{"no policy", "0100002c 0009000570000000 000a0020 00000001 00000000 0000003c 0005001000500000000100080a000001", []string{"registration rejected p:1 cause 3(000a002000000001000000000000003c0005001000500000000100080a000001)"}},
		{"no policy, handle last", "0100002c 000a0020 00000001 00000000 0000003c 0005001000500000000100080a000001 0009000570000000", []string{"registration rejected p:1 cause 3(000a002000000001000000000000003c0005001000500000000100080a000001)"}},
		{"no policy, unknown parameter", "01000030 0009000570000000 c1230004 000a0020 00000001 00000000 0000003c 0005001000500000000100080a000001", []string{"registration rejected p:1 cause 3(000a002000000001000000000000003c0005001000500000000100080a000001)", "error cause 1(c1230004)"}},
		{"deregistration of a checksum", "0200001c 0009000570000000 000e000800000001 000f000600010000", []string{"deregistration p:1 cause 3(000f000600010000)"}},
		{"response", "03000014 0009000571000000 000e000800000001", []string{"error cause 2(030000140009000571000000000e000800000001)"}},
		{"resolution response", "06000014 0009000571000000 000c000800090004", []string{"error cause 2(060000140009000571000000000c000800090004)"}},
		{"keep-alive", "07000010 00000001 0009000571000000", []string{"error cause 2(07000010000000010009000571000000)"}},
		{"announce", "0a000008 00000001", []string{"error cause 2(0a00000800000001)"}},
		{"cookie", "0b00000c 000d000578000000", []string{"error cause 2(0b00000c000d000578000000)"}},
		{"cookie echo", "0c00000c 000d000578000000", []string{"error cause 2(0c00000c000d000578000000)"}},
		{"error", "0e00000c 000c000800000004", nil},
		{"bad error", "0e000004", nil},
		{"error with unknown parameter", "0e000010 000c000800000004 c1230004", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.up(1, rserpool.ViaTCP, "10.0.0.1")
			var want []string
			for _, l := range c.want {
				want = append(want, "1 < "+l)
			}
			w.raw(1, 0, c.hex)
			w.want(want...)
			w.recv(1, resolve("x"))
			w.want("1 < resolution x cause 9")
		})
	}
}

func TestMessageCounters(t *testing.T) {
	w := newWorld(t)
	w.up(1, rserpool.ViaKernel, "10.0.0.1")
	w.up(2, rserpool.ViaTCP, "10.0.0.1")
	w.raw(1, 11, "0500")                      // malformed
	w.raw(1, 11, "0b00000c 000d000578000000") // misplaced
	w.raw(1, 11, "0e00000c 000c000800000004") // an error
	w.raw(1, 12, "01000004")                  // ENRP
	w.raw(1, 47, "0500000c 0009000571000000") // something else
	w.raw(9, 11, "0500000c 0009000571000000") // from nowhere
	w.skip("error")
	w.raw(1, 0, "0500000c 0009000571000000")        // PPID not told
	w.raw(2, 4711, "0500000c 0009000571000000")     // TCP has none
	w.raw(1, 11, "0500000c 0009000571000000000000") // padding that is not counted
	w.want("1 < resolution q cause 9", "2 < resolution q cause 9", "1 < resolution q cause 9")
	s := w.r.Stats()
	if s.Malformed != 1 || s.Misplaced != 1 || s.ErrorsReceived != 1 || s.ErrorsSent != 2 || s.Ignored != (IgnoredMessages{ENRP: 1, PPID: 1, NoAssoc: 1}) {
		t.Errorf("stats: %+v", s)
	}
	if s.Associations != [vias]uint64{0, 1, 0, 1} || s.AssociationsTotal != s.Associations {
		t.Errorf("associations: got %v and %v, want one by the kernel, one by TCP", s.Associations, s.AssociationsTotal)
	}
}

// Responses to nonsense are bounded in number and length.
func TestErrorRate(t *testing.T) {
	w := newWorld(t)
	w.up(1, rserpool.ViaKernel, "10.0.0.1")
	w.up(2, rserpool.ViaKernel, "10.0.0.2")
	for range 1000 {
		w.raw(1, 11, "0500")
	}
	if len(w.trace) != 20 {
		t.Errorf("errors at once: got %d, want 20", len(w.trace))
	}
	w.skip("error")
	w.raw(2, 11, "0500")
	w.want("2 < error cause 3(0500)")
	for range 1000 {
		w.pass(10 * time.Millisecond)
		w.raw(1, 11, "0500")
	}
	if n := len(w.trace); n < 95 || n > 105 {
		t.Errorf("errors in 10 s: got %d, want 100", n)
	}
	huge, _ := (&asap.Cookie{Cookie: make([]byte, 65000)}).Append(nil)
	acts := w.handle(Received{Assoc: 2, PPID: 11, Data: huge})
	if got := len(acts[0].(*Send).Data); got > maxCauseInfo+12 {
		t.Errorf("error for a huge message: %d bytes, want at most %d", got, maxCauseInfo+12)
	}
}

// Log lines are one line each, bounded in rate and in length.
func TestLogs(t *testing.T) {
	w := newWorld(t)
	w.logs = true
	w.up(1, rserpool.ViaKernel, "10.0.0.1")
	handle := strings.Repeat("a\nb", 1000)
	for id := uint32(1); id <= 200; id++ {
		w.recv(1, reg(handle, id, "10.0.0.1"))
	}
	lines := 0
	for _, l := range w.trace {
		if strings.HasPrefix(l, "log ") {
			lines++
			if strings.ContainsAny(l, "\n\r") || len(l) > 300 {
				t.Fatalf("log line of %d bytes: %.300q", len(l), l)
			}
		}
	}
	if lines != 100 {
		t.Errorf("log lines: got %d, want 100", lines)
	}
	w.skip("registration granted", "log")
	w.pass(time.Second)
	w.want()
	w.recv(1, reg("p", 0xabc, "10.0.0.9"))
	w.want("log 100 log lines dropped: more than the limit allows",
		`log registration of pool element 00000abc in pool "p" by 10.0.0.1 is refused: invalid values: it offers 10.0.0.9, and its packets come from 10.0.0.1`,
		"1 < registration rejected p:abc cause 3(000600100007000000010008"+"0a000009)")
}

// TestPeerLogs: a peer that sends only mistakes does not hide what another one does, and how many lines
// were dropped is told once a second.
func TestPeerLogs(t *testing.T) {
	w := newWorld(t)
	w.logs = true
	w.up(1, rserpool.ViaKernel, "10.0.0.1")
	w.up(2, rserpool.ViaKernel, "10.0.0.2")
	refusals, dropped := 0, 0
	for range 100 {
		for range 20 {
			w.raw(1, 11, "c8000004")
		}
		w.recv(2, reg("p", 1, "10.0.0.9"))
		w.pass(200 * time.Millisecond)
		for _, l := range w.trace {
			switch {
			case strings.Contains(l, "10.0.0.2 is refused"):
				refusals++
			case strings.Contains(l, "lines dropped"):
				dropped++
			case strings.HasPrefix(l, "log ") && !strings.Contains(l, "message from 10.0.0.1 is refused"):
				t.Error(l)
			}
		}
		w.trace = nil
	}
	if refusals != 100 {
		t.Errorf("%d of 100 refusals are logged", refusals)
	}
	if dropped < 19 || dropped > 21 {
		t.Errorf("told %d times in 20 s how many lines were dropped, want once a second", dropped)
	}
}

// No mistake of a host, and no late event, breaks the registrar.
func TestHostMistakes(t *testing.T) {
	w := newWorld(t)
	w.up(0, rserpool.ViaKernel, "10.0.0.1")
	w.up(1, rserpool.ViaKernel, "10.0.0.1")
	w.recv(1, reg("p", 1, "10.0.0.1"))
	w.want("1 < registration granted p:1")
	w.up(1, rserpool.ViaUDP, "10.0.0.2") // twice
	w.down(5)
	w.handle(AssocAddrs{Assoc: 5, Peer: peers("10.0.0.1")})
	w.handle(Connecting{Ref: 9})
	w.handle(Connecting{Ref: 9, Assoc: 1})
	w.handle(SendFailed{Assoc: 5})
	w.handle(Announced{})
	w.handle(nil)
	w.want()
	w.handle(Connecting{Ref: 9, Assoc: 5}) // nobody has asked for it
	w.want("5 abort")
	w.handle(Received{Assoc: 5, PPID: 11, Data: encode(t, resolve("p"))}) // not up
	w.want()
	w.up(6, rserpool.ViaKernel) // a peer from nowhere
	w.recv(6, reg("p", 2, "10.0.0.1"))
	w.recv(6, reg("o", 2, "10.0.0.1", func(e *rserpool.PoolElement) {
		e.UserTransport = rserpool.Transport{Type: rserpool.Opaque}
	}))
	w.want("6 < registration rejected p:2 cause 3(00060010000700000001000"+"80a000001)", "6 < registration rejected o:2 cause 3(00100004)")
	w.recv(6, dereg("p", 1))
	w.want("6 < deregistration p:1 cause a")
	w.up(200, 77, "10.0.0.1") // something new
	w.down(200)
	w.now = w.now.Add(-time.Hour) // time stands still then
	w.recv(1, reg("p", 1, "10.0.0.1"))
	w.want("1 < registration granted p:1")
	if got, want := w.r.Space().Pool("p").Element(1).Expires, w.start.Add(time.Hour); !got.Equal(want) {
		t.Errorf("expires: got %v, want %v", got, want)
	}
	w.down(6)
	w.down(5)
	w.down(1)
	w.want("connect #1 via 1 to [10.0.0.1:40000]")
	w.handle(Connecting{Ref: 1, Assoc: 1}) // a number that was used before is as good as any
	w.up(1, rserpool.ViaKernel, "10.0.0.1")
	w.want("1" + ka1)
}

func TestAssocAddrs(t *testing.T) {
	w := newWorld(t)
	w.up(1, rserpool.ViaKernel, "10.0.0.1")
	w.recv(1, reg("p", 1, "10.0.0.2"))
	w.want("1 < registration rejected p:1 cause 3(0006001000070000000100080a000002)")
	w.handle(AssocAddrs{Assoc: 1, Peer: peers("10.0.0.1", "10.0.0.2")})
	w.recv(1, reg("p", 1, "10.0.0.2"))
	w.want("1 < registration granted p:1")
	w.handle(AssocAddrs{Assoc: 1, Peer: peers("10.0.0.2")})
	w.handle(AssocAddrs{Assoc: 1, Peer: peers("10.0.0.3", "10.0.0.2")}) // has not proved to be at the third
	w.up(3, rserpool.ViaKernel, "10.0.0.2:9")
	w.recv(3, reg("p", 2, "10.0.0.2", asapAt(40000, "10.0.0.2")))
	w.want("3 < registration granted p:2")
	w.down(3) // is called where the first one has proved to be
	w.want("1" + ka2)
	w.recv(1, ack("p", 2))
	w.down(1)
	w.want("connect #1 via 1 to [10.0.0.2:40000 10.0.0.3:40000]", "connect #2 via 1 to [10.0.0.2:40000]") // where they were last
	many := make([]netip.AddrPort, 1000)
	for i := range many {
		many[i] = netip.MustParseAddrPort(fmt.Sprintf("10.1.%d.%d:1", i/250, 1+i%250))
	}
	w.handle(AssocUp{Assoc: 2, Peer: many, Via: rserpool.ViaKernel})
	if got := len(w.r.assocs[2].peer); got != maxPeerAddrs {
		t.Errorf("addresses kept: got %d, want %d", got, maxPeerAddrs)
	}
}

func TestStop(t *testing.T) {
	w := newWorld(t)
	w.up(1, rserpool.ViaKernel, "10.0.0.1")
	w.up(2, rserpool.ViaTCP, "10.0.0.1")
	w.recv(1, reg("p", 1, "10.0.0.1"))
	w.want("1 < registration granted p:1")
	w.handle(Stop{})
	w.want("1 close", "2 close")
	if _, ok := w.r.NextDeadline(); ok {
		t.Error("there is a deadline after Stop")
	}
	w.handle(AssocDown{Assoc: 1})
	w.pass(time.Hour)
	w.recv(2, resolve("p"))
	w.want()
	w.wantElements("p:1")
}
