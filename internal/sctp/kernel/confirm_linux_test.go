package kernel

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/wire"
)

// TestKernelForgedInitAck calls a peer that answers in the name of a victim: its
// INIT ACK has the victim's address as its source, and lists its own, by which the
// kernel finds the association. It knows both verification tags, so that it can
// complete the handshake without a packet that came to the victim.
func TestKernelForgedInitAck(t *testing.T) {
	for _, lists := range []bool{false, true} {
		t.Run(fmt.Sprintf("lists the victim %v", lists), func(t *testing.T) {
			a := kernelTarget(t, sctp.Limits{})
			own, victim := netip.MustParseAddr("127.0.0.5"), netip.MustParseAddr("127.9.9.9")
			conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: own.AsSlice()})
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			encap := conn.LocalAddr().(*net.UDPAddr).Port
			forger, err := net.ListenUDP("udp4", &net.UDPAddr{IP: victim.AsSlice(), Port: encap})
			if err != nil {
				t.Fatal(err)
			}
			defer forger.Close()
			a.Connect(sctp.Dest{Addrs: []netip.AddrPort{netip.AddrPortFrom(own, 4000)}, Kind: sctp.UDP, EncapPort: uint16(encap)})

			buf := make([]byte, 65536)
			_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
			n, from, err := conn.ReadFromUDP(buf)
			if err != nil {
				t.Fatal(err)
			}
			h, b, err := wire.ParsePacket(buf[:n])
			first, _, ok := wire.NextChunk(b)
			if err != nil || !ok || first.Type != wire.ChunkInit {
				t.Fatalf("no INIT: %v", err)
			}
			theirs, err := wire.ParseInit(first.Body)
			if err != nil {
				t.Fatal(err)
			}
			ours := wire.InitParams{Tag: 0x1234, RWND: 100000, Out: 10, In: 10, TSN: 100, Cookie: []byte("cookie"), Addrs: []netip.Addr{own}}
			if lists {
				ours.Addrs = append(ours.Addrs, victim)
			}
			to := wire.Header{Src: h.Dst, Dst: h.Src, Tag: theirs.Tag}
			if _, err := forger.WriteToUDP(wire.PacketOf(to, wire.Chunk{Type: wire.ChunkInitAck, Body: ours.Body()}), from); err != nil {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond) // for the kernel
			_, _ = conn.WriteToUDP(wire.PacketOf(to, wire.Chunk{Type: wire.ChunkCookieAck}), from)
			ev := a.Wait("an end", func(ev sctp.Event) bool { return ev.Type == sctp.Up || ev.Type == sctp.Down })
			if ev.Type == sctp.Up && fmt.Sprint(ev.Peer) != fmt.Sprint([]netip.AddrPort{netip.AddrPortFrom(own, 4000)}) {
				t.Errorf("peer %v, claiming %v, want only %v", ev.Peer, ev.Claimed, own)
			}
			t.Logf("%v, claiming %v", ev, ev.Claimed)
		})
	}
}
