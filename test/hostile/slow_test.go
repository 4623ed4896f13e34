package hostile

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
)

// TestNeverReads has peers ask for the largest answers and acknowledge none:
// together they fill what the server queues for all its peers, and no more.
func TestNeverReads(t *testing.T) {
	peers, each := 60, 40
	if *long {
		peers, each = 1000, 200
	}
	// 32 MiB of queued messages, and beyond them one of 58 KiB for each peer,
	// are held a second time as packets.
	c := ceiling{heap: 120<<20 + peers*160<<10, goroutines: 4*peers + 8, files: 2, left: 4 << 20}
	g := beginSiege(t)
	g.crowd().makeBig()
	g.before = g.rest()
	ask := wire(t, askBig)
	var all []*rawPeer
	for i := range peers {
		p := g.rawPeer(loopback, uint16(1000+i))
		p.connect()
		all = append(all, p)
		for range each {
			p.send(ask)
		}
	}
	wait(t, "refusals", func() bool { return g.stat("messages_dropped_total", "") >= peers*each/3 })
	g.check(peers*each, c)
	for _, p := range all {
		p.abort()
	}
	g.end(c)
}

// TestHalfMessages has peers begin messages over SCTP that they never end: each
// fills the receive window, and no more.
func TestHalfMessages(t *testing.T) {
	peers := 50
	if *long {
		peers = 2000
	}
	// The window is 131 KiB, and packets wait for their association in 512 KiB.
	c := ceiling{heap: peers * 320 << 10, goroutines: 4*peers + 8, files: 2, left: 4 << 20}
	g := beginSiege(t)
	var all []*rawPeer
	for i := range peers {
		p := g.rawPeer(loopback, uint16(1000+i))
		p.connect()
		all = append(all, p)
		flags := byte(2)
		for range 125 {
			p.write(packet(p.src, p.dst, p.tag, p.data(flags, make([]byte, 1000))))
			flags = 0
		}
	}
	wait(t, "associations of the attackers", func() bool {
		return g.stat("associations_open", `transport="udp"`) == honestElements+peers
	})
	g.check(125*peers, c)
	for _, p := range all {
		p.abort()
	}
	g.end(c)
}

// TestSlowTCP has connections that say nothing, and others that send their
// messages a byte at a time.
func TestSlowTCP(t *testing.T) {
	const halfOpen = 400
	g := beginSiege(t, "limit half_open 400")
	t.Run("silence", func(t *testing.T) {
		c := ceiling{heap: halfOpen * 10 << 10, goroutines: 2*halfOpen + 8, files: halfOpen + 2}
		var conns []net.Conn
		for range 2 * halfOpen {
			if conn, err := g.dial(loopback); err == nil { // else it was refused at once
				conns = append(conns, conn)
			}
		}
		wait(t, "refusal", func() bool { return g.stat("transport_refused_total", "") >= halfOpen })
		g.check(2*halfOpen, c)
		hangUp(t, conns)
		g.end(c)
	})
	t.Run("large messages that never come", func(t *testing.T) {
		// Each has sent a whole message, so that it is not half open any more.
		n := 600
		c := ceiling{heap: n * 16 << 10, goroutines: 2*n + 8, files: n + 2}
		g.max = g.before
		hello := wire(t, &asap.HandleResolution{Handle: "none"})
		var conns []net.Conn
		for range n {
			conn := g.tcp(loopback)
			conns = append(conns, conn)
			_, _ = conn.Write(hello)
			if _, err := readMessage(conn); err != nil {
				t.Fatal(err)
			}
			_, _ = conn.Write([]byte{byte(asap.TypeRegistration), 0, 0xff, 0xf0, 0})
		}
		g.check(n, c)
		hangUp(t, conns)
		g.end(c)
	})
	t.Run("a byte at a time", func(t *testing.T) {
		const n = 100
		messages := 3
		if *long {
			messages = 100
		}
		c := ceiling{heap: n * 16 << 10, goroutines: 2*n + 8, files: n + 2, cpu: 40 * time.Microsecond}
		g.max = g.before
		g.before.CPU = g.now().CPU
		hello := wire(t, &asap.HandleResolution{Handle: honestPool})
		var conns []*net.TCPConn
		for i := range n {
			conn := g.tcp(netip.AddrFrom4([4]byte{127, 3, 0, byte(i + 1)}))
			_ = conn.SetNoDelay(true)
			conns = append(conns, conn)
		}
		for range messages {
			for i := range hello {
				for _, conn := range conns {
					if _, err := conn.Write(hello[i : i+1]); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		for i, conn := range conns {
			for range messages {
				if _, err := readMessage(conn); err != nil {
					t.Errorf("connection %d: %v", i, err)
				}
			}
		}
		g.check(n*messages*len(hello), c)
		for _, conn := range conns {
			_ = conn.Close()
		}
		g.end(c)
	})
}

// hangUp closes connections; in the long form the server has to cut them off
// first.
func hangUp(t *testing.T, conns []net.Conn) {
	t.Helper()
	if *long {
		for i, conn := range conns {
			if err := cutOff(conn); err != nil {
				t.Errorf("connection %d: %v", i, err)
			}
		}
	}
	for _, conn := range conns {
		_ = conn.Close()
	}
}
