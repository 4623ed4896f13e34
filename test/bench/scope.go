package main

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// sharers are the addresses of two registrars that share a handlespace. Peers
// call one another at the UDP port of RFC 6951, so that they need addresses of
// their own.
var sharers = [2]netip.Addr{
	netip.AddrFrom4([4]byte{127, 99, 0, 1}),
	netip.AddrFrom4([4]byte{127, 99, 0, 2}),
}

const (
	enrpPort  = 9901
	encapPort = 9899
)

// startSharer starts a registrar that gets the handlespace from others.
func (b *bench) startSharer(at netip.Addr, options string, others ...netip.Addr) (*process, error) {
	for _, o := range others {
		options += fmt.Sprintf("\npeer %v:%d", o, enrpPort)
	}
	return b.startCoreDNS(strings.NewReplacer("ADDRESS", at.String(), "OPTIONS", options).Replace(`rserpool {
		asap ADDRESS:ASAP
		enrp ADDRESS:9901
		OPTIONS
		encap 9899
		transport udp
		timer KEEP-ALIVE-INTERVAL 24h
		timer LINGER 24h
		timer PEER-HEARTBEAT-CYCLE 1h
		timer MAX-TIME-LAST-HEARD 2h
		limit elements 3000000
		limit elements_per_association 3000000
	}`), nil)
}

// scope compares what it takes to get the handlespace from a peer, and what the
// elements of others take, with a registrar's own.
func (b *bench) scope() error {
	micro, err := goBench("registrar", "^Benchmark(Download|Takeover)$", b.scopeTime, b.largeCount)
	if err != nil {
		return err
	}
	var c cleanup
	defer c.run()
	home := c.process(b.startSharer(sharers[0], ""))
	if c.err != nil {
		return c.err
	}
	empty, err := home.memory()
	if err != nil {
		return err
	}
	h := c.host(newHostAt(sharerDest(sharers[0], home), nil))
	if c.err != nil {
		return c.err
	}
	each := max(b.sharedElements/1000, 1)
	if err := h.fill(b.sharedElements/each, each); err != nil {
		return err
	}
	own, err := home.memory()
	if err != nil {
		return err
	}
	before, begin := home.cpu(), time.Now()
	other := c.process(b.startSharer(sharers[1], "", sharers[0]))
	if c.err != nil {
		return c.err
	}
	if err := other.ready(string(poolName(0)) + ".pool.example.org."); err != nil {
		return err
	}
	took, cpu := time.Since(begin), other.cpu()+home.cpu()-before
	foreign, err := other.memory()
	if err != nil {
		return err
	}
	n := float64(b.sharedElements)
	codec := micro["BenchmarkDownload codec-ns/element"]
	perElement := float64(took.Nanoseconds()) / n
	what := fmt.Sprintf("download of the handlespace, %d elements, ", b.sharedElements)
	b.table.info(what+"elements a second", number(n/took.Seconds()))
	b.table.add(row{
		name: what + "us an element, beside encoding and decoding in one process", ours: number(perElement / 1e3), neighbour: number(codec / 1e3),
		ratio: perElement / codec, most: 2, target: "<= 2 x",
	})
	core := micro["BenchmarkDownload ns/element"]
	b.table.add(row{
		name: "the same from core to core, without the wire", ours: number(core / 1e3), neighbour: number(codec / 1e3), ratio: core / codec,
	})
	b.table.info("share of the wire in the download's time", number(100*(1-core/perElement))+" %")
	b.table.info(what+"CPU of both, us an element", number(float64(cpu.Microseconds())/n))
	ownHeap, foreignHeap := (own.heap-empty.heap)/n, (foreign.heap-empty.heap)/n
	b.table.add(row{
		name: "heap of another registrar's element in the whole server, beside an own one, B", ours: number(foreignHeap), neighbour: number(ownHeap),
		ratio: foreignHeap / ownHeap, most: 1, target: "<= 1 x",
	})
	for _, m := range []struct{ name, unit string }{
		{"taking over 100000 elements", "ms-taking"},
		{"another registrar's taking over 100000 elements", "ms-watching"},
		{"removing 100000 elements after an audit", "ms-sweeping"},
	} {
		b.table.bound("longest time that the registrar's loop is busy, "+m.name, micro["BenchmarkTakeover "+m.unit], 50, " ms")
	}
	return nil
}

// ready waits until the server answers for a name. It asks rarely, so that this
// takes next to nothing.
func (p *process) ready(name string) error {
	c := dns.Client{Timeout: time.Second}
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		m, _, err := c.Exchange(new(dns.Msg).SetQuestion(name, dns.TypeA), p.addr)
		if err == nil && m.Rcode == dns.RcodeSuccess && len(m.Answer) > 0 {
			return nil
		}
	}
	return fmt.Errorf("%s has no answer for %s", p.cmd.Path, name)
}
