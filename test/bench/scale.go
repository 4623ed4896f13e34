package main

import (
	"fmt"

	"github.com/miekg/dns"
)

// scale compares what a query costs with much in the handlespace and with next
// to nothing.
func (b *bench) scale() error {
	var c cleanup
	defer c.run()
	small := c.process(b.startRegistrar())
	wide := c.process(b.startRegistrar())
	tall := c.process(b.startRegistrar())
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

	var all []*contestant
	add := func(name string, p *process, questions []question) *contestant {
		k := c.contestant(name, p, questions)
		all = append(all, k)
		return k
	}
	const srv = dns.TypeSRV
	smallA := add("A", small, oneAddress)
	wideA := add("A", wide, poolQuestions(b.pools, dns.TypeA, 1, 0))
	tallA := add("A", tall, poolQuestions(1, dns.TypeA, 1, 0))
	smallSRV := add("SRV", small, threeServices)
	wideSRV := add("SRV", wide, poolQuestions(b.pools, srv, 3, 3))
	tallSRV := add("SRV", tall, poolQuestions(1, srv, 3, 3))
	if c.err != nil {
		return c.err
	}
	if err := b.contest(all, b.scaleRounds, b.scaleTurn); err != nil {
		return err
	}
	for _, k := range all {
		if k.server == small {
			continue // it collects so often that its turns have it all
		}
		if err := k.addCollections(b.scaleTurn); err != nil {
			return err
		}
	}
	wideName := fmt.Sprintf("%d pools of %d", b.pools, b.poolSize)
	tallName := fmt.Sprintf("one pool of %d", b.onePool)
	const unit = "DNS, CPU s per million queries: "
	b.table.compare(unit+"A, "+wideName+", beside one pool of one", wideA, smallA, 1.15)
	b.table.compare(unit+"A, "+tallName+", beside one pool of one", tallA, smallA, 1.15)
	b.table.compare(unit+"SRV, "+wideName+", beside one pool of three", wideSRV, smallSRV, 1.15)
	b.table.compare(unit+"SRV, "+tallName+", beside one pool of three", tallSRV, smallSRV, 1.15)
	b.table.lost(all)
	return nil
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
