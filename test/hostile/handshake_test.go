package hostile

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/net/ipv4"
)

// forger sends UDP packets from any address of 127.0.0.0/8.
type forger struct {
	t     *testing.T
	conns []*net.UDPConn
	to    *net.UDPAddr
	rand  *rand.Rand
}

// forger has so many UDP ports.
func (s *server) forger(ports int) *forger {
	s.t.Helper()
	f := &forger{t: s.t, to: net.UDPAddrFromAddrPort(s.encapAddr()), rand: rand.New(rand.NewPCG(1, 2))}
	for range ports {
		c, err := net.ListenUDP("udp4", nil)
		if err != nil {
			s.t.Fatal(err)
		}
		f.conns = append(f.conns, c)
	}
	s.t.Cleanup(f.close)
	return f
}

// send sends a packet from somewhere. What the server cannot take is lost.
func (f *forger) send(b []byte) {
	f.t.Helper()
	f.sendFrom(f.rand.IntN(len(f.conns)), b)
}

// sendFrom sends a packet from one of the ports.
func (f *forger) sendFrom(conn int, b []byte) {
	f.t.Helper()
	n := f.rand.Uint32()
	from := netip.AddrFrom4([4]byte{127, byte(n >> 16), byte(n >> 8), byte(n) | 1})
	oob := (&ipv4.ControlMessage{Src: from.AsSlice()}).Marshal()
	if _, _, err := f.conns[conn].WriteMsgUDP(b, oob, f.to); err != nil {
		f.t.Fatal(err)
	}
}

// close closes the ports: what the server sends there is refused.
func (f *forger) close() {
	for _, c := range f.conns {
		_ = c.Close()
	}
	f.conns = nil
}

// floods are attacks with single packets, which no association is behind.
var floods = []struct {
	name string
	make func(r *rand.Rand, port uint16) []byte
}{
	{"INIT", func(r *rand.Rand, port uint16) []byte {
		return packet(1+uint16(r.Uint32N(65535)), port, 0, chunk(chunkInit, 0, initBody(1+r.Uint32N(1<<31))))
	}},
	{"COOKIE ECHO", func(r *rand.Rand, port uint16) []byte {
		b := make([]byte, 4*(1+r.IntN(300)))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return packet(1+uint16(r.Uint32N(65535)), port, 1+r.Uint32N(1<<31), chunk(chunkCookieEcho, 0, b))
	}},
	{"DATA out of the blue", func(r *rand.Rand, port uint16) []byte {
		return packet(1+uint16(r.Uint32N(65535)), port, 1+r.Uint32N(1<<31), chunk(chunkData, 3, make([]byte, 100)))
	}},
	{"garbage", func(r *rand.Rand, port uint16) []byte {
		b := packet(1, port, r.Uint32(), make([]byte, 4*r.IntN(300)))
		b[8] ^= byte(r.IntN(2)) // half of them with a wrong checksum
		return b
	}},
}

// flood sends single packets from forged addresses as fast as it can.
func (g *siege) flood(packets int, f func(r *rand.Rand, port uint16) []byte) {
	g.t.Helper()
	r := rand.New(rand.NewPCG(3, 4))
	attacker := g.forger(8)
	for i := range packets {
		attacker.send(f(r, g.asap.Port()))
		if i == packets/2 {
			// From here on the answers are refused.
			attacker.close()
			attacker = g.forger(8)
		}
		if i%(packets/10) == 0 {
			g.watch()
		}
	}
	attacker.close()
}

// halfOpen sends good INITs, whose cookies never come back.
func (g *siege) halfOpen(n int) {
	g.t.Helper()
	for i := range n {
		p := g.rawPeer(netip.AddrFrom4([4]byte{127, 1, byte(i >> 8), byte(i)}), 1+uint16(i))
		p.cookie()
		_ = p.conn.Close()
	}
}

// onlyHonest checks that no associations are left but those of honest elements.
func (g *siege) onlyHonest() {
	g.t.Helper()
	if n := g.stat("associations_open", ""); n != g.honest.elements {
		g.t.Errorf("%d associations, want only the %d of honest elements", n, g.honest.elements)
	}
}

// TestFlood sends single packets from forged addresses. The server keeps nothing
// of them.
func TestFlood(t *testing.T) {
	c := ceiling{heap: 3 << 20, goroutines: 8, files: 2, cpu: 60 * time.Microsecond}
	g := beginSiege(t)
	packets := 20_000
	if *long {
		packets = 5_000_000
	}
	for _, f := range floods {
		t.Run(f.name, func(t *testing.T) {
			g.before.CPU = g.now().CPU
			g.flood(packets, f.make)
			g.check(packets, c)
		})
	}
	g.onlyHonest()
	g.end(c)
}

// TestHalfOpen begins handshakes and does not end them.
func TestHalfOpen(t *testing.T) {
	c := ceiling{heap: 2 << 20, goroutines: 8, files: 2}
	g := beginSiege(t)
	n := 1000
	if *long {
		n = 20_000
	}
	g.halfOpen(n)
	g.check(n, c)
	g.onlyHonest()
	g.end(c)
}
