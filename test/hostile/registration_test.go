package hostile

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/rserpool"
	"github.com/rserpool/coredns-rserpool/test/here"
)

// TestQuota has one association register far more elements than it may.
func TestQuota(t *testing.T) {
	quota, attempts := 5000, 15_000
	options := []string{"limit elements_per_association 5000"}
	if *long {
		quota, attempts, options = 65536, 1_000_000, nil // the default
	}
	c := ceiling{heap: quota*1500 + 4<<20, goroutines: 16, files: 2, cpu: 80 * time.Microsecond, left: quota * 200}
	g := beginSiege(t, options...)
	g.exceedQuota(quota, attempts, c)
	g.end(c)
}

// exceedQuota has one association register more elements than it may.
func (g *siege) exceedQuota(quota, attempts int, c ceiling) {
	t := g.t
	p := g.crowd().peer(loopback, false)
	for i := range attempts {
		p.ask(registration("quota", uint32(i+1), loopback))
		if i == attempts/2 {
			g.watch()
		}
	}
	p.await(attempts)
	g.check(attempts, c)
	if n := p.causes[rserpool.CauseLackOfResources]; n != attempts-quota || len(p.causes) != 1 {
		t.Errorf("causes of refusals: %v, want %d of cause %d", p.causes, attempts-quota, rserpool.CauseLackOfResources)
	}
	g.elements(quota)
	p.close()
	g.elements(0)
}

// TestFatElements has one association register elements that are as large as
// can be.
func TestFatElements(t *testing.T) {
	limit, attempts := 4<<20, 3000
	options := []string{fmt.Sprintf("limit element_bytes %d", limit)}
	if *long {
		limit, attempts, options = 256<<20, 200_000, []string{"limit elements_per_association 1000000"}
	}
	c := ceiling{heap: limit*5/4 + 8<<20, goroutines: 16, files: 2, cpu: 800 * time.Microsecond, left: 4<<20 + limit/64}
	g := beginSiege(t, options...)
	p := g.crowd().peer(loopback, false)
	for i := range attempts {
		m := registration("fat", uint32(i+1), loopback)
		// Many small parameters take more memory than a large one.
		for range 500 {
			m.Element.Unknown = append(m.Element.Unknown, rserpool.Parameter{Type: 0x8123, Value: []byte{1, 2, 3, 4}})
		}
		p.ask(m)
	}
	p.await(attempts)
	g.check(attempts, c)
	if n := p.causes[rserpool.CauseLackOfResources]; n == 0 || n == attempts || len(p.causes) != 1 {
		t.Errorf("causes of refusals: %v, want some of cause %d", p.causes, rserpool.CauseLackOfResources)
	}
	p.close()
	g.elements(0)
	g.end(c)
}

// unguarded are more options, with which elements that are silent for long are removed. The
// guards would keep so many.
func unguarded(t *testing.T, options ...string) []string {
	return append(options, "guard off", fmt.Sprintf("timer SUSPECT-LIFE %v", here.Paced(t, 5*time.Second)))
}

// TestKeepAlivesUnanswered has elements register that acknowledge no
// keep-alive, and register again when they are removed.
func TestKeepAlivesUnanswered(t *testing.T) {
	peers, each, rounds := 10, 100, 1
	if *long {
		peers, rounds = 100, 10
	}
	c := ceiling{heap: peers*each*2000 + 4<<20, goroutines: 4*peers + 8, files: 2, left: 4 << 20}
	const timeout = 2 * time.Second
	g := beginSiege(t, unguarded(t, fmt.Sprintf("timer KEEP-ALIVE-TIMEOUT %v", timeout))...)
	g.keepAlivesUnanswered(peers, each, rounds, timeout)
	g.check(peers*each*rounds, c)
	g.end(c)
}

// keepAlivesUnanswered has elements register that acknowledge no keep-alive.
// timeout is KEEP-ALIVE-TIMEOUT.
func (g *siege) keepAlivesUnanswered(peers, each, rounds int, timeout time.Duration) {
	t := g.t
	var all []*peer
	for i := range peers {
		all = append(all, g.crowd().peer(netip.AddrFrom4([4]byte{127, 4, 0, byte(i + 1)}), true))
	}
	for range rounds {
		for i, p := range all {
			for id := range each {
				p.ask(registration("deaf", uint32(i*each+id+1), netip.AddrFrom4([4]byte{127, 4, 0, byte(i + 1)})))
			}
		}
		for _, p := range all {
			p.await(p.sent)
		}
		registered := time.Now()
		g.elements(peers * each)
		g.watch()
		g.elements(0)
		// An interval of 1 s and a half, the timeout, and what the test takes to look. A server
		// that was late itself gives the elements as much time again.
		whole, want := here.Span{From: registered, Took: time.Since(registered)}, 1500*time.Millisecond+timeout
		took := whole.Without(g.honest.stood())
		if took < whole.Took {
			want += timeout
		}
		if took > want+time.Second*min(slow, 3) {
			t.Errorf("deaf elements were there for %v, want %v", took, want)
		}
	}
	for _, p := range all {
		p.close()
	}
}

// TestCallsHalfTaken has elements end their associations, so that the
// registrar calls them, and answer its calls half: an INIT ACK, and no more.
func TestCallsHalfTaken(t *testing.T) {
	peers := 100
	if *long {
		peers = 2000
	}
	c := ceiling{heap: peers*16<<10 + 2<<20, goroutines: 2*peers + 8, files: 2, left: 4 << 20}
	g := beginSiege(t, unguarded(t)...)
	g.callsHalfTaken(peers)
	g.check(peers, c)
	g.end(c)
}

// callsHalfTaken has elements end their associations, and answer the registrar's
// calls half.
func (g *siege) callsHalfTaken(peers int) {
	t := g.t
	registrations := g.stat("registrations_total", "")
	for i := range peers {
		p := g.rawPeer(netip.AddrFrom4([4]byte{127, 5, byte(i >> 8), byte(i)}), 7000)
		p.connect()
		at := p.conn.LocalAddr().(interface{ AddrPort() netip.AddrPort }).AddrPort().Addr()
		p.send(wire(t, registration("half", uint32(i+1), at)))
		defer p.abort()
		go p.halfAnswer()
	}
	wait(t, "registrations", func() bool { return g.stat("registrations_total", "") == registrations+peers })
	g.watch()
	registered := time.Now()
	g.elements(0)
	// PROBE-TIMEOUT is 2 s, and each 512 probes take turns.
	if took, most := time.Since(registered), time.Duration(1+peers/512)*2*time.Second+2*time.Second*min(slow, 2); took > most {
		t.Errorf("elements that take calls half were there for %v, want at most %v", took, most)
	}
}

// TestAddresses registers elements with addresses that are none of the
// sender's.
func TestAddresses(t *testing.T) {
	c := ceiling{heap: 4 << 20, goroutines: 16, files: 2, cpu: 300 * time.Microsecond}
	g := beginSiege(t)
	p := g.crowd().peer(loopback, false)
	addrs := []string{
		"192.0.2.1", "10.1.2.3", "2001:db8::1", // foreign
		"0.0.0.0", "::", // unspecified
		"127.0.0.2", "::1", // loopback, but another one
		"224.0.0.1", "239.255.0.1", "ff02::1", // multicast
		"255.255.255.255",             // broadcast
		"::ffff:192.0.2.1", "fe80::1", // mapped, link-local
	}
	each := 50
	if *long {
		each = 20_000
	}
	transports := []rserpool.TransportType{rserpool.TCP, rserpool.UDP, rserpool.SCTP}
	for i := range each {
		for j, a := range addrs {
			m := registration(fmt.Sprintf("foreign-%d", i), uint32(j+1), netip.MustParseAddr(a))
			m.Element.UserTransport.Type = transports[i%len(transports)]
			p.ask(m)
			// As the place where the registrar is to call the element.
			m = registration(fmt.Sprintf("foreign-%d", i), uint32(j+1), loopback)
			m.Element.ASAPTransport = rserpool.Transport{Type: rserpool.SCTP, Port: 53, Addrs: []netip.Addr{netip.MustParseAddr(a)}}
			p.ask(m)
		}
	}
	p.await(p.sent)
	g.check(p.sent, c)
	if n := p.causes[rserpool.CauseInvalidValues]; n != p.sent || len(p.causes) != 1 {
		t.Errorf("causes of refusals: %v, want %d of cause %d", p.causes, p.sent, rserpool.CauseInvalidValues)
	}
	wait(t, "refusals counted, and one pool", func() bool {
		return g.stat("rejections_total", `cause="invalid_values"`) == p.sent && g.stat("pools", "") == 1
	})
	p.close()
	g.end(c)
}

// oddHandles are pool handles that are hard for something.
func oddHandles() []string {
	odd := []string{
		"\x00", "\x00\x00", ".", "..", ".a", "a.", "a..b", "\\", "\\000", "\"", " ", "*", "*.a",
		"\xff\xfe", "\xc3\x28", "\xed\xa0\x80", "_ph-", "_ph-zz", "_tcp", "_http._tcp.web", "pe-00000001.web", "pe-00000001",
		"ns.dns", strings.Repeat("a", 63), strings.Repeat("a", 64), strings.Repeat("b", 255),
		strings.Repeat("c", 255) + "." + strings.Repeat("c", 255), strings.Repeat(".", 255),
		strings.Repeat("x", 59_000),
	}
	for i := range 64 { // twins in all but case
		b := []byte("twinned")
		for j := range b[:6] {
			b[j] -= byte(i>>j&1) * ('a' - 'A')
		}
		odd = append(odd, string(b))
	}
	return odd
}

// TestOddHandles registers elements in pools of odd handles.
func TestOddHandles(t *testing.T) {
	c := ceiling{heap: 8 << 20, goroutines: 16, files: 2, cpu: 3 * time.Millisecond}
	g := beginSiege(t)
	p := g.crowd().peer(loopback, false)
	odd := oddHandles()
	for i, h := range odd {
		p.ask(registration(h, uint32(i+1), loopback))
		p.ask(&asap.HandleResolution{Handle: rserpool.PoolHandle(h)})
	}
	p.await(p.sent)
	g.check(p.sent, c)
	if len(p.causes) > 0 {
		t.Errorf("refusals: %v, want none", p.causes)
	}
	wait(t, "right number of pools", func() bool { return g.stat("pools", "") == 1+len(odd) })
	p.close()
	g.elements(0)
	g.end(c)
}

// TestDeepHandles registers elements in pools whose handles have as many
// labels as a DNS name can: each takes a name for each label.
func TestDeepHandles(t *testing.T) {
	pools, heap, options := 1000, 16<<20, []string{"limit handle_bytes 8388608"}
	if *long {
		pools, heap, options = 60_000, 80<<20, nil // the default
	}
	c := ceiling{heap: heap, goroutines: 16, files: 2, cpu: 600 * time.Microsecond, left: heap / 5}
	g := beginSiege(t, options...)
	p := g.crowd().peer(loopback, false)
	for i := range pools {
		// Each label is different from those of all other handles.
		p.ask(registration(strings.Repeat("a.", 122)+fmt.Sprintf("%06x", i), uint32(i+1), loopback))
	}
	p.await(p.sent)
	g.check(pools, c)
	if n := p.causes[rserpool.CauseLackOfResources]; n == 0 || len(p.causes) != 1 {
		t.Errorf("refusals: %v, want some for lack of resources", p.causes)
	}
	p.close()
	g.elements(0)
	g.end(c)
}

// TestTwinHandles registers elements in pools whose handles differ in case
// alone, and asks for them.
func TestTwinHandles(t *testing.T) {
	pools := 10_000
	if *long {
		pools = 65_000
	}
	const alike = 64
	c := ceiling{heap: 4 << 20, goroutines: 16, files: 2, cpu: 80 * time.Microsecond}
	g := beginSiege(t)
	p := g.crowd().peer(loopback, false)
	for i := range pools {
		h := []byte("abcdefghijklmnop")
		for j := range h {
			h[j] -= byte(i>>j&1) * ('a' - 'A')
		}
		p.ask(registration(string(h), uint32(i+1), loopback))
		p.ask(&asap.HandleResolution{Handle: rserpool.PoolHandle(h)})
	}
	p.await(p.sent)
	g.check(p.sent, c)
	// Those that are not there cannot be resolved either.
	if n := p.causes[rserpool.CauseLackOfResources]; n != pools-alike || p.causes[rserpool.CauseUnknownPoolHandle] != n {
		t.Errorf("causes of refusals: %v, want %d of cause %d", p.causes, pools-alike, rserpool.CauseLackOfResources)
	}
	p.close()
	g.elements(0)
	g.end(c)
}
