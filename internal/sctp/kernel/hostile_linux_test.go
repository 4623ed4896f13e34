package kernel

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
	"github.com/rserpool/coredns-rserpool/internal/sctp/wire"
	"github.com/rserpool/coredns-rserpool/test/here"
)

// rawPeer is a peer of the kernel's SCTP, in UDP on the loopback, that sends
// what the test wants and acknowledges nothing.
type rawPeer struct {
	t    *testing.T
	conn *net.UDPConn
	h    wire.Header
	ours wire.InitParams
	tsn  uint32
}

// kernelTarget is an endpoint that raw peers can attack.
func kernelTarget(t *testing.T, lim sctp.Limits) *sctptest.Site {
	t.Helper()
	needKernel(t)
	Sh(t, "sysctl -qw net.sctp.udp_port=9899")
	t.Cleanup(func() { Sh(t, "sysctl -qw net.sctp.udp_port=0") })
	return Side(t, "", lim, "127.0.0.1:0")
}

// attack makes an association of a raw peer.
func attack(t *testing.T, target *sctptest.Site, window uint32) *rawPeer {
	t.Helper()
	conn, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9899})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	p := &rawPeer{
		t: t, conn: conn, tsn: 100,
		h:    wire.Header{Src: conn.LocalAddr().(*net.UDPAddr).AddrPort().Port(), Dst: target.LocalAddrs()[0].Port()},
		ours: wire.InitParams{Tag: 0x1234, RWND: window, Out: 10, In: 10, TSN: 100},
	}
	theirs, err := wire.ParseInit(p.exchange(wire.ChunkInitAck, wire.Chunk{Type: wire.ChunkInit, Body: p.ours.Body()}))
	if err != nil {
		t.Fatalf("INIT ACK: %v", err)
	}
	p.h.Tag = theirs.Tag
	p.exchange(wire.ChunkCookieAck, wire.Chunk{Type: wire.ChunkCookieEcho, Body: theirs.Cookie})
	return p
}

func (p *rawPeer) send(c ...wire.Chunk) { _, _ = p.conn.Write(wire.PacketOf(p.h, c...)) }

// exchange sends a chunk until one of a type comes, and gives its body.
func (p *rawPeer) exchange(typ wire.ChunkType, c wire.Chunk) []byte {
	p.t.Helper()
	buf := make([]byte, 65536)
	for range 10 {
		p.send(c)
		_ = p.conn.SetReadDeadline(time.Now().Add(time.Second))
		for {
			n, err := p.conn.Read(buf)
			if err != nil {
				break
			}
			_, b, err := wire.ParsePacket(buf[:n])
			if first, _, ok := wire.NextChunk(b); err == nil && ok && first.Type == typ {
				return first.Body
			}
		}
	}
	p.t.Fatalf("no chunk of type %d in answer to type %d", typ, c.Type)
	return nil
}

// hold sends n messages of a size with numbers after one that never comes, so
// that the kernel has to keep them.
func (p *rawPeer) hold(n, size int) {
	for i := range n {
		p.send(sctptest.Data(p.tsn, 0, uint16(i+1), 3, make([]byte, size)))
		p.tsn++
	}
}

// talkThrough has an honest peer send messages for some time. It gives the
// longest time that one took.
func talkThrough(t *testing.T, a *sctptest.Site, good *sctptest.Site, toA sctp.AssocID, n int) (worst time.Duration) {
	t.Helper()
	for i := range n {
		text := fmt.Sprint("message ", i)
		start := time.Now()
		good.Say(toA, text)
		for string(a.Received().Message.Data) != text {
		}
		worst = max(worst, time.Since(start))
	}
	return worst
}

// TestKernelHeldMessages: what peers send out of order, or in part, fills the
// socket's receive memory for nobody but themselves.
func TestKernelHeldMessages(t *testing.T) {
	for _, tt := range []struct {
		name               string
		peers, count, size int
	}{
		{"one association", 1, 8000, 100},
		{"forty associations", 40, 100, 1300},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := kernelTarget(t, sctp.Limits{})
			good := Side(t, "", sctp.Limits{}, "127.0.0.1:0")
			toA, _ := Call(good, a)
			for range tt.peers {
				attack(t, a, 100000).hold(tt.count, tt.size)
			}
			worst := talkThrough(t, a, good, toA.Assoc, 20)
			t.Logf("the longest of 20 messages took %v", worst)
			if most := here.Paced(t, time.Second); worst > most {
				t.Errorf("a message of an honest peer took %v, want less than %v", worst, most)
			}
		})
	}
}

// TestKernelNeverReads: peers that take nothing fill their own queues up to a
// limit for all, and are all cut off at the same time. Others do not notice.
func TestKernelNeverReads(t *testing.T) {
	const peers = 30
	lim := sctp.Limits{SendQueueTotal: 1 << 20, Stalled: 2 * time.Second}
	a := kernelTarget(t, lim)
	good := Side(t, "", sctp.Limits{}, "127.0.0.1:0")
	toA, _ := Call(good, a)
	taken := 0
	for range peers {
		attack(t, a, 1500)
		to := a.Up().Assoc
		for a.Send(to, sctp.Message{Data: make([]byte, 58<<10)}) == nil {
			taken++
		}
		if !a.Behind(to) {
			t.Error("got no queue behind which a message waits, want one that takes nothing more")
		}
	}
	n := a.Endpoint.(*endpoint).n
	lines := sctptest.KeepLog(n)
	queued := n.Queued.Load()
	start := time.Now()
	worst := talkThrough(t, a, good, toA.Assoc, 20)
	for range peers {
		a.Down(sctp.Overrun)
	}
	t.Logf("%d answers taken, %d KiB queued; a message took %v at most; all were cut off after %v",
		taken, queued>>10, worst, time.Since(start))
	if most := int64(lim.SendQueueTotal + peers*(58<<10+sctp.MessageCost)); queued > most {
		t.Errorf("%d KiB are queued, want at most %d", queued>>10, most>>10)
	}
	if most := here.Paced(t, time.Second); worst > most {
		t.Errorf("a message of an honest peer took %v, want less than %v", worst, most)
	}
	if took := time.Since(start); took > lim.Stalled+here.Paced(t, 3*time.Second) {
		t.Errorf("the last was cut off after %v, want about %v", took, lim.Stalled)
	}
	if got := n.Overruns.Load(); got != peers {
		t.Errorf("%d cuts are counted, want %d", got, peers)
	}
	if log := lines(); !strings.Contains(log, "aborted the association (kernel) with 127.0.0.1:") || strings.Count(log, "\n") != 1 {
		t.Errorf("Got log %q, want one line about the cuts", log)
	}
	if left := n.Queued.Load(); left != 0 {
		t.Errorf("%d bytes are queued when nobody is left", left)
	}
}
