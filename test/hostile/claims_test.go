package hostile

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// TestFalseClaims has many hosts register and deregister the identifiers of honest
// elements, again and again. The elements are asked, and stay.
func TestFalseClaims(t *testing.T) {
	peers, rounds := 40, 5
	if *long {
		peers, rounds = 500, 100
	}
	c := ceiling{heap: peers*120<<10 + 4<<20, goroutines: 5*peers + 8, files: 2, cpu: 300 * time.Microsecond}
	g := beginSiege(t)
	crowd := g.crowd()
	var all []*peer
	for i := range peers {
		all = append(all, crowd.peer(netip.AddrFrom4([4]byte{127, 8, byte(i >> 8), byte(i)}), true))
	}
	asked := g.stat("keepalives_sent_total", "")
	began := time.Now()
	for range rounds {
		for i, p := range all {
			for id := range uint32(honestElements) {
				p.ask(registration(honestPool, id+1, netip.AddrFrom4([4]byte{127, 8, byte(i >> 8), byte(i)})))
				p.ask(&asap.Deregistration{Handle: honestPool, ID: rserpool.PEID(id + 1)})
			}
		}
		for _, p := range all {
			p.await(p.sent)
		}
	}
	took := time.Since(began)
	g.check(peers*rounds*2*honestElements, c)
	for _, p := range all {
		if n := p.causes[rserpool.CauseNonUniquePEIdentifier] + p.causes[rserpool.CauseSecurity]; n != p.sent {
			t.Fatalf("%d of %d claims are refused: %v", n, p.sent, p.causes)
		}
	}
	// A keep-alive for each claim that waits, and those that come anyway.
	asked = g.stat("keepalives_sent_total", "") - asked
	if most := honestElements * (peers*rounds + 3*int(took/time.Second) + 3); asked > most {
		t.Errorf("%d keep-alives in %v, want at most %d", asked, took, most)
	}
	t.Logf("%d keep-alives in %v", asked, took)
	for _, p := range all {
		p.close()
	}
	g.end(c)
}

// TestFalseInquiries has a peer name elements at the addresses of a victim, and a user
// report all of them as unreachable. The server connects to few of them at a time.
func TestFalseInquiries(t *testing.T) {
	elements := 3000
	if *long {
		elements = 60_000
	}
	c := ceiling{heap: elements*1500 + 4<<20, goroutines: 200, files: 3, cpu: 200 * time.Microsecond, left: elements*200 + 2<<20}
	g, at := beginScopeSiege(t)
	p := g.crowd().falsePeer(loopback, at, 66)
	for i := range elements {
		victim := netip.AddrFrom4([4]byte{127, 66, byte(i >> 8), byte(i)})
		pe := rserpool.PoolElement{
			ID: rserpool.PEID(i + 1), Home: 66, Life: 3600, Policy: rserpool.Policy{Type: rserpool.RoundRobin},
			UserTransport: rserpool.Transport{Type: rserpool.TCP, Port: 7, Addrs: []netip.Addr{victim}},
			ASAPTransport: rserpool.Transport{Type: rserpool.SCTP, Port: 7, Addrs: []netip.Addr{victim}},
		}
		p.tell(&enrp.HandleUpdate{Sender: 66, Action: enrp.AddPE, Handle: rserpool.PoolHandle(fmt.Sprintf("false-%d", i%10)), Element: pe})
	}
	g.elements(elements)
	user := g.tcp(netip.AddrFrom4([4]byte{127, 9, 0, 1}))
	for i := range elements {
		m := &asap.EndpointUnreachable{Handle: rserpool.PoolHandle(fmt.Sprintf("false-%d", i%10)), ID: rserpool.PEID(i + 1)}
		if _, err := user.Write(wire(t, m)); err != nil {
			t.Fatal(err)
		}
	}
	wait(t, "reports", func() bool { return g.stat("unreachable_reports_total", "") == elements })
	g.check(2*elements, c)
	_ = user.Close()
	_ = p.ep.Close()
	g.elements(0)
	g.end(c)
}
