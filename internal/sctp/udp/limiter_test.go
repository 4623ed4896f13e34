package udp

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
	"github.com/rserpool/coredns-rserpool/internal/sctp/wire"
)

// TestUDPRestartOfMany restarts an endpoint that many peers have associations
// with: each must learn from the first packet that it sends.
func TestUDPRestartOfMany(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	const n = 1000
	for _, tt := range []struct {
		name  string
		hosts int
		addr  func(i int) string
	}{
		{"from as many addresses", n, func(i int) string { return fmt.Sprintf("10.1.%d.%d:5000", i/250, i%250+1) }},
		{"from one address", 1, func(i int) string { return fmt.Sprintf("10.1.0.1:%d", 5000+i) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newEther()
				y := w.mux(t, sctp.Limits{}, sctp.EncapPort).site(t, addrY)
				m := w.mux(t, sctp.Limits{}, 9000)
				var sites []*sctptest.Site
				var assocs []sctp.AssocID
				for i := range n {
					if tt.hosts > 1 {
						m = w.mux(t, sctp.Limits{}, 9000)
					}
					x := m.site(t, tt.addr(i))
					sites = append(sites, x)
					assocs = append(assocs, x.Connect(to(addrY)))
				}
				for _, x := range sites {
					x.Next(sctp.Up)
				}
				muxOf(y).crash(w)
				y2 := w.mux(t, sctp.Limits{}, sctp.EncapPort).site(t, addrY)
				start := time.Now()
				for i, x := range sites {
					_ = x.Send(assocs[i], sctp.Message{Data: []byte("are you there?")})
				}
				for _, x := range sites {
					x.Down(sctp.PeerAbort)
				}
				took := time.Since(start)
				t.Logf("all %d know after %v", n, took)
				if took > 3*time.Second {
					t.Errorf("all %d know after %v, want 3 s at most", n, took)
				}
				for _, x := range sites {
					x.Close()
				}
				end(append(sites, y, y2)...)
			})
		})
	}
}

// TestUDPAbortIsSmall checks that no packet out of the blue or INIT for nobody
// gets an answer longer than itself, so that nobody can use us to flood others.
func TestUDPAbortIsSmall(t *testing.T) {
	onWire(t, sctp.Limits{}, func(t *testing.T, w *ether, x, y *sctptest.Site) {
		var longest int
		w.set(func(_, _ netip.AddrPort, b []byte) (time.Duration, bool) {
			longest = max(longest, len(b))
			return 0, false
		})
		m := muxOf(y)
		sock := m.socks[netip.MustParseAddr("10.0.0.2")]
		p := wire.InitParams{Tag: 1, RWND: 100000, Out: 10, In: 10, TSN: 1}
		bare := p.AppendFixed(nil)
		for typ := range 256 {
			for _, body := range [][]byte{nil, bare, wire.AppendTLV(bare, wire.ParamHostName, []byte("a"))} {
				for _, dst := range []uint16{3863, 1} {
					h := wire.Header{Src: 7777, Dst: dst, Tag: 99}
					if wire.ChunkType(typ) == wire.ChunkInit {
						h.Tag = 0
					}
					pkt := wire.PacketOf(h, wire.Chunk{Type: wire.ChunkType(typ), Body: body})
					longest = 0
					m.receive(sock, pkt, netip.MustParseAddrPort("10.0.0.3:9899"), sock.local().Addr())
					if longest > len(pkt) && !(wire.ChunkType(typ) == wire.ChunkInit && dst == 3863) { // INIT ACK has the cookie
						t.Errorf("chunk type %d: got an answer of %d bytes to %d", typ, longest, len(pkt))
					}
				}
			}
		}
	})
}

// TestLimiter checks who gets how much of what there is.
func TestLimiter(t *testing.T) {
	now := time.Unix(100, 0)
	l := limiter{each: 3, all: 10, addrs: 2}
	a, b, c, d := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("10.0.0.3"), netip.MustParseAddr("10.0.0.4")
	count := func(addrs ...netip.Addr) (n int) {
		for range 100 {
			for _, a := range addrs {
				if l.allow(a, now) {
					n++
				}
			}
		}
		return n
	}
	for _, tt := range []struct {
		name  string
		addrs []netip.Addr
		want  int
	}{
		{"one address", []netip.Addr{a}, 3},
		{"a network of IPv6", []netip.Addr{b, netip.MustParseAddr("2001:db8::2")}, 3},
		{"more than are counted on their own", []netip.Addr{c, d}, 3},
		{"no more of the first", []netip.Addr{a}, 0},
	} {
		if got := count(tt.addrs...); got != tt.want {
			t.Errorf("%s: got %d, want %d", tt.name, got, tt.want)
		}
	}
	l.all = 9
	if now = now.Add(time.Second); count(a) != 3 || count(b) != 3 || count(c) != 3 || count(d) != 0 {
		t.Error("the next second is not as the first")
	}
	if len(l.by) > l.addrs+1 {
		t.Errorf("got %d addresses counted, want %d and one for the others", len(l.by), l.addrs)
	}
}
