package hostile

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// chunkHeartbeat is the chunk type of HEARTBEAT.
const chunkHeartbeat = 4

// connectListing makes an association in which the peer lists addresses.
func (p *rawPeer) connectListing(addrs ...netip.Addr) {
	p.t.Helper()
	p.params = nil
	for _, a := range addrs {
		p.params = append(binary.BigEndian.AppendUint32(p.params, 5<<16|8), a.AsSlice()...)
	}
	p.connect()
}

// victimSocket counts what comes to a victim's address.
type victimSocket struct {
	conn              *net.UDPConn
	heartbeats, other atomic.Int32
}

func (v *victimSocket) read() {
	buf := make([]byte, 2048)
	for {
		n, err := v.conn.Read(buf)
		switch {
		case err != nil:
			return
		case n > 12 && buf[12] == chunkHeartbeat:
			v.heartbeats.Add(1)
		default:
			v.other.Add(1)
		}
	}
}

// TestForgedAddresses has peers list addresses in their INITs that are not their own,
// that of a victim and one that no host has, and register elements there.
func TestForgedAddresses(t *testing.T) {
	peers := 20
	if *long {
		peers = 200
	}
	c := ceiling{heap: peers*80<<10 + 4<<20, goroutines: 5*peers + 8, files: 2, left: 4 << 20}
	g := beginSiege(t)
	g.forgeAddresses(peers, c)
	g.end(c)
}

// forgeAddresses has raw peers list addresses in their INITs that are not their
// own.
func (g *siege) forgeAddresses(peers int, c ceiling) {
	t := g.t
	victim, nobody := netip.MustParseAddr("127.9.9.9"), netip.MustParseAddr("203.0.113.7")
	before := func(name, labels string) func() int {
		was := g.stat(name, labels)
		return func() int { return g.stat(name, labels) - was }
	}
	registrations := before("registrations_total", "")
	refusals := before("rejections_total", `cause="invalid_values"`)
	elements := before("elements", "")
	start := time.Now()
	var sockets []*victimSocket
	var all []*rawPeer
	for i := range peers {
		own := netip.AddrFrom4([4]byte{127, 6, byte(i >> 8), byte(i)})
		// The kernel refuses a peer that lists the address and port of another.
		p := g.rawPeer(own, 7000+uint16(i))
		all = append(all, p)
		conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: victim.AsSlice(), Port: p.conn.LocalAddr().(*net.UDPAddr).Port})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		v := &victimSocket{conn: conn}
		sockets = append(sockets, v)
		go v.read()
		p.connectListing(own, victim, nobody)
		both := registration(fmt.Sprintf("both-%d", i), 1, own)
		both.Element.UserTransport.Type = rserpool.SCTP
		both.Element.UserTransport.Addrs = []netip.Addr{victim, own, nobody}
		stolen := registration(fmt.Sprintf("stolen-%d", i), 1, victim)
		called := registration(fmt.Sprintf("called-%d", i), 1, own)
		called.Element.ASAPTransport = rserpool.Transport{Type: rserpool.SCTP, Port: 53, Addrs: []netip.Addr{nobody}}
		p.send(wire(t, both), wire(t, stolen), wire(t, called))
	}
	wait(t, "registrations", func() bool { return registrations() == peers })
	g.watch()
	began := time.Now()
	wait(t, "refusals", func() bool { return refusals() == 2*peers })
	if took := time.Since(began); took > 3*time.Second*min(slow, 3) {
		t.Errorf("refused after %v, want 2 s", took)
	}
	for i := range peers {
		own := netip.AddrFrom4([4]byte{127, 6, byte(i >> 8), byte(i)})
		if got := g.addresses(fmt.Sprintf("both-%d", i)); len(got) != 1 || got[0] != own {
			t.Errorf("an element is at %v, want %v", got, own)
		}
		for _, pool := range []string{"stolen", "called"} {
			if got := g.addresses(fmt.Sprintf("%s-%d", pool, i)); len(got) != 0 {
				t.Errorf("pool %s has %v, want nothing", pool, got)
			}
		}
	}
	g.check(3*peers, c)
	abortAll(all) // and the server calls the elements
	wait(t, "end of the elements", func() bool { return elements() == 0 })
	most := 8 + int32(time.Since(start)/(5*time.Second)) // HEARTBEATs go out ever more rarely
	for _, v := range sockets {
		if h, other := v.heartbeats.Load(), v.other.Load(); h == 0 || h > most || other > 0 {
			t.Errorf("the victim got %d HEARTBEATs and %d other packets of one peer, want 1 to %d and 0", h, other, most)
		}
	}
	t.Logf("the victim got %d HEARTBEATs of the first peer", sockets[0].heartbeats.Load())
}

// addresses asks DNS for a pool.
func (g *siege) addresses(pool string) (addrs []netip.Addr) {
	g.t.Helper()
	c := dns.Client{Timeout: 2 * time.Second}
	m, _, err := c.Exchange(new(dns.Msg).SetQuestion(pool+"."+zone, dns.TypeA), g.dns)
	if err != nil {
		g.t.Fatal(err)
	}
	for _, rr := range m.Answer {
		if a, ok := rr.(*dns.A); ok {
			addr, _ := netip.AddrFromSlice(a.A)
			addrs = append(addrs, addr.Unmap())
		}
	}
	return addrs
}
