package main

import (
	"fmt"
	"strings"

	"github.com/miekg/dns"
)

// scale compares what a query costs with much in the handlespace and with next
// to nothing.
func (b *bench) scale() error {
	var c cleanup
	defer c.run()
	small := c.process(b.startRegistrar(ofThree))
	wide := c.process(b.startRegistrar(ofThree))
	tall := c.process(b.startRegistrar(ofThree))
	// What many names cost any server of this machine: hosts with one, and with as many as
	// there are pools.
	one, many := c.process(b.startHosts(1)), c.process(b.startHosts(b.pools))
	if c.err != nil {
		return c.err
	}
	c.host(fillSmall(small))
	for _, s := range []struct {
		server *process
		pools  int
		each   int
	}{{wide, b.pools, b.poolSize}, {tall, 1, b.onePool}} {
		h := c.host(newHost(s.server))
		if c.err != nil {
			return c.err
		}
		if err := h.fill(s.pools, s.each); err != nil {
			return err
		}
	}

	var all lineup
	const srv = dns.TypeSRV
	c.contestant(&all, "A", small, oneAddress)
	c.contestant(&all, "A, many pools", wide, poolQuestions(b.pools, dns.TypeA, 1, 0))
	c.contestant(&all, "A, large pool", tall, poolQuestions(1, dns.TypeA, 1, 0))
	c.contestant(&all, "hosts", one, poolQuestions(1, dns.TypeA, 1, 0))
	c.contestant(&all, "hosts, many names", many, poolQuestions(b.pools, dns.TypeA, 1, 0))
	c.contestant(&all, "SRV", small, threeServices)
	c.contestant(&all, "SRV, many pools", wide, poolQuestions(b.pools, srv, 3, 3))
	c.contestant(&all, "SRV, large pool", tall, poolQuestions(1, srv, 3, 3))
	if c.err != nil {
		return c.err
	}
	if err := all.heat(b.scaleRounds, b.scaleTurn); err != nil {
		return err
	}
	if err := b.profile("scale", all, b.scaleTurn); err != nil {
		return err
	}
	for _, k := range all {
		if k.server == small || k.server == one {
			continue // it collects so often that its turns have it all
		}
		if err := k.addCollections(b.scaleTurn); err != nil {
			return err
		}
	}
	wideName := fmt.Sprintf("%d pools of %d", b.pools, b.poolSize)
	tallName := fmt.Sprintf("one pool of %d", b.onePool)
	compare := func(what, ours, neighbour string, most float64) {
		b.table.compare("DNS, CPU s per million queries: "+what, all.of(ours), all.of(neighbour), most)
	}
	compare("A, "+wideName+", beside one pool of one", "A, many pools", "A", 1.15)
	compare("A, "+tallName+", beside one pool of one", "A, large pool", "A", 1.1)
	compare("A, "+wideName+", beside hosts with as many names", "A, many pools", "hosts, many names", 1)
	compare(fmt.Sprintf("hosts with %d names, beside hosts with one", b.pools), "hosts, many names", "hosts", 0)
	compare("SRV, "+wideName+", beside one pool of three", "SRV, many pools", "SRV", 1.15)
	compare("SRV, "+tallName+", beside one pool of three", "SRV, large pool", "SRV", 1.15)
	b.table.lost(all)
	return nil
}

// startHosts starts CoreDNS with the plugin hosts, which has an address for each of the names of
// so many pools.
func (b *bench) startHosts(pools int) (*process, error) {
	var text strings.Builder
	for i := range pools {
		fmt.Fprintf(&text, "10.%d.%d.%d %s.pool.example.org\n", i>>16&255, i>>8&255, i&255, poolName(i))
	}
	return b.startCoreDNS(`hosts "DIR/hosts"`, map[string]string{"hosts": text.String()})
}

// addCollections adds to what a query costs its share of the garbage
// collections. With much in the handlespace they are dear but rare, so that
// most turns have none.
func (c *contestant) addCollections(queries int) error {
	m, err := c.server.memory()
	if err != nil {
		return err
	}
	before := c.server.cpu()
	if _, err := c.server.memory(); err != nil {
		return err
	}
	collection := (c.server.cpu() - before).Seconds() * 1e6

	sent, err := c.load.flood(queries)
	if err != nil {
		return err
	}
	after, err := c.server.memory()
	if err != nil {
		return err
	}
	each := (after.allocated - m.allocated) / float64(sent.sent) // bytes a query
	share := collection * each / (after.next - after.heap)
	note("%s of %.0f MB: %.1f us a query and %.1f us for garbage collections, of %.0f ms every %.0f queries",
		c.name, after.heap/1e6, median(c.costs), share, collection/1e3, (after.next-after.heap)/each)
	for i := range c.costs {
		c.costs[i] += share
	}
	return nil
}
