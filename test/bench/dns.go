package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/miekg/dns"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// sixty is the number of elements of a large pool that clients read as a set.
const sixty = 60

// zoneFile has what fillSmall registers: one address, and services of three and of sixty
// elements.
func zoneFile(ttl string) string {
	var b strings.Builder
	line := func(format string, args ...any) {
		fmt.Fprintf(&b, strings.Replace(format, "IN", ttl+" IN", 1)+"\n", args...)
	}
	line("@ IN SOA ns.dns hostmaster 1 7200 1800 86400 %s", ttl)
	line("@ IN NS ns.dns")
	for _, p := range smallPools {
		for id := p.first; id < p.first+p.n; id++ {
			target := fmt.Sprintf("pe-%08x.%s", id, p.name)
			line("%s IN A 127.0.0.1", target)
			line("%s IN SRV 0 1 %d %s", p.name, id, target)
		}
	}
	line("one IN A 127.0.0.1")
	return b.String()
}

// smallPools have elements with identifiers from the first on.
var smallPools = []struct {
	name     rserpool.PoolHandle
	first, n int
}{{"one", 1, 1}, {"three", 2, 3}, {"sixty", 100, sixty}}

// The questions of the contest.
var (
	oneAddress    = []question{newQuestion("one.pool.example.org.", dns.TypeA, 1, 0)}
	oneHTTPS      = []question{newQuestion("three.pool.example.org.", dns.TypeHTTPS, 1, 1)}
	oneService    = []question{newQuestion("one.pool.example.org.", dns.TypeSRV, 1, 1)}
	threeServices = []question{newQuestion("three.pool.example.org.", dns.TypeSRV, 3, 3)}
	sixtyServices = []question{newQuestion("sixty.pool.example.org.", dns.TypeSRV, sixty, sixty)}
	noAnswer      = []question{newQuestion("one.pool.example.org.", dns.TypeA, 0, 0)}
)

// fillSmall registers the small pools.
func fillSmall(server *process) (*host, error) {
	h, err := newHost(server)
	if err != nil {
		return nil, err
	}
	for _, p := range smallPools {
		for id := p.first; id < p.first+p.n; id++ {
			if err := h.register(p.name, rserpool.PEID(id), roundRobin); err != nil {
				h.close()
				return nil, err
			}
		}
	}
	return h, h.settle()
}

// dns compares the cost of a query in the server and in others. As two processes of one
// binary differ, each heat has new processes.
func (b *bench) dns() error {
	var all lineup
	for i := range b.heats {
		f, err := b.dnsHeat(i == b.heats-1)
		if err != nil {
			return err
		}
		all.join(f)
	}
	const unit = "DNS, CPU s per million queries: "
	compare := func(what, ours, neighbour string, most float64) {
		b.table.compare(unit+what, all.of(ours), all.of(neighbour), most)
	}
	compare("A, beside hosts", "A", "hosts A", 1)
	compare("A, beside file", "A", "file A", 0)
	compare("SRV with 3 elements, beside file", "SRV", "file SRV", 0.7)
	compare("SRV with 3 elements, beside cache", "SRV", "cache SRV", 1)
	compare("SRV with 60 elements, by TCP, beside file", "SRV of 60", "file SRV of 60", 0.7)
	compare("HTTPS of 3 elements, one record with alpn, port and hint, beside their SRV records", "HTTPS", "SRV", 1)
	compare("the same HTTPS, beside one SRV record", "HTTPS", "SRV of one", 0)
	compare("A, beside an empty miekg/dns server", "A", "empty miekg/dns server", 0)
	compare("A, beside a bare UDP echo", "A", "bare UDP echo", 0)
	if b.other != "" {
		compare("A, beside the other binary", "A", "other A", 0)
		compare("SRV with 3 elements, beside the other binary", "SRV", "other SRV", 0)
		compare("SRV with 60 elements, by TCP, beside the other binary", "SRV of 60", "other SRV of 60", 0)
	}
	b.table.lost(all)
	return nil
}

// dnsHeat is a heat of dns. The last one writes profiles.
func (b *bench) dnsHeat(last bool) (lineup, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	var c cleanup
	defer c.run()
	ours := c.process(b.startRegistrar("https alpn=h2,h3"))
	hosts := c.process(b.startCoreDNS(`hosts "DIR/hosts"`, map[string]string{"hosts": "127.0.0.1 one.pool.example.org\n"}))
	file := c.process(b.startCoreDNS(`file "DIR/zone"`, map[string]string{"zone": zoneFile("5")}))
	cache := c.process(b.startCoreDNS("cache 3600\nfile \"DIR/zone\"", map[string]string{"zone": zoneFile("3600")}))
	empty := c.process(startYardstick(self, "empty"))
	echo := c.process(startYardstick(self, "echo"))
	c.registered(ours)

	var f lineup
	const long = 10 // how many times as much an answer of sixty takes
	c.contestant(&f, "A", ours, oneAddress)
	c.contestant(&f, "hosts A", hosts, oneAddress)
	c.contestant(&f, "file A", file, oneAddress)
	c.contestant(&f, "SRV", ours, threeServices)
	c.contestant(&f, "file SRV", file, threeServices)
	c.contestant(&f, "cache SRV", cache, threeServices)
	c.contestant(&f, "HTTPS", ours, oneHTTPS)
	c.contestant(&f, "SRV of one", ours, oneService)
	c.contestantBy("tcp", long, &f, "SRV of 60", ours, sixtyServices)
	c.contestantBy("tcp", long, &f, "file SRV of 60", file, sixtyServices)
	c.contestant(&f, "empty miekg/dns server", empty, noAnswer)
	c.contestant(&f, "bare UDP echo", echo, noAnswer)
	if b.other != "" {
		o := *b
		o.coredns = b.other
		other := c.process(o.startRegistrar(""))
		c.registered(other)
		c.contestant(&f, "other A", other, oneAddress)
		c.contestant(&f, "other SRV", other, threeServices)
		c.contestantBy("tcp", long, &f, "other SRV of 60", other, sixtyServices)
	}
	if c.err != nil {
		return nil, c.err
	}
	if err := f.heat(b.rounds, b.queries); err != nil {
		return nil, err
	}
	if !last {
		return f, nil
	}
	return f, b.profile("dns", f, b.queries)
}

// registered registers the small pools at a server.
func (c *cleanup) registered(server *process) {
	if c.err == nil {
		c.host(fillSmall(server))
	}
}
