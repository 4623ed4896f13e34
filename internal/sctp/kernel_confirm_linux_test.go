package sctp

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"
)

// TestKernelForgedInitAck calls a peer that answers in the name of a victim: its
// INIT ACK has the victim's address as its source, and lists its own, by which the
// kernel finds the association. It knows both verification tags, so that it can
// complete the handshake without a packet that came to the victim.
func TestKernelForgedInitAck(t *testing.T) {
	for _, lists := range []bool{false, true} {
		t.Run(fmt.Sprintf("lists the victim %v", lists), func(t *testing.T) {
			a := kernelTarget(t, Limits{})
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
			a.Connect(Dest{Addrs: []netip.AddrPort{netip.AddrPortFrom(own, 4000)}, Kind: UDP, EncapPort: uint16(encap)})

			buf := make([]byte, 65536)
			_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
			n, from, err := conn.ReadFromUDP(buf)
			if err != nil {
				t.Fatal(err)
			}
			h, b, err := parsePacket(buf[:n])
			first, _, ok := nextChunk(b)
			if err != nil || !ok || first.typ != chunkInit {
				t.Fatalf("no INIT: %v", err)
			}
			theirs, err := parseInit(first.body)
			if err != nil {
				t.Fatal(err)
			}
			ours := initParams{tag: 0x1234, rwnd: 100000, out: 10, in: 10, tsn: 100, cookie: []byte("cookie"), addrs: []netip.Addr{own}}
			if lists {
				ours.addrs = append(ours.addrs, victim)
			}
			to := header{src: h.dst, dst: h.src, tag: theirs.tag}
			if _, err := forger.WriteToUDP(packetOf(to, chunk{typ: chunkInitAck, body: ours.body()}), from); err != nil {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond) // for the kernel
			_, _ = conn.WriteToUDP(packetOf(to, chunk{typ: chunkCookieAck}), from)
			ev := a.wait("an end", func(ev Event) bool { return ev.Type == Up || ev.Type == Down })
			if ev.Type == Up && fmt.Sprint(ev.Peer) != fmt.Sprint([]netip.AddrPort{netip.AddrPortFrom(own, 4000)}) {
				t.Errorf("peer %v, claiming %v, want only %v", ev.Peer, ev.Claimed, own)
			}
			t.Logf("%v, claiming %v", ev, ev.Claimed)
		})
	}
}
