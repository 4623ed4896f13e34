package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// contestant is a name server with a load of its own.
type contestant struct {
	name   string
	server *process
	load   *load
	// costs are the server's CPU microseconds a query, turn by turn.
	costs []float64
	sent  int
	lost  int
	total time.Duration // CPU time of all turns
}

// turn asks n queries and notes what they cost.
func (c *contestant) turn(n int) error {
	before := c.server.cpu()
	t, err := c.load.flood(n)
	used := c.server.cpu() - before
	if err != nil {
		return fmt.Errorf("%s: %w", c.name, err)
	}
	if t.lost*10 > t.sent {
		return fmt.Errorf("%s: %d of %d queries are lost", c.name, t.lost, t.sent)
	}
	c.sent += t.sent
	c.lost += t.lost
	c.total += used
	c.costs = append(c.costs, used.Seconds()*1e6/float64(t.sent))
	return nil
}

// contest has all take turns, after one that does not count.
func (b *bench) contest(all []*contestant, rounds, queries int) error {
	for round := range rounds + 1 {
		for _, c := range all {
			if err := c.turn(queries); err != nil {
				return err
			}
		}
		if round == 0 {
			for _, c := range all {
				c.costs, c.sent, c.lost, c.total = nil, 0, 0, 0
			}
		}
	}
	if b.profiles != "" {
		for i, c := range all {
			if err := c.profile(fmt.Sprintf("%s/%d.pprof", b.profiles, i), queries); err != nil {
				return err
			}
		}
	}
	return nil
}

// profile writes a CPU profile of the server under load.
func (c *contestant) profile(file string, queries int) error {
	done := make(chan error, 1)
	go func() {
		profile, err := c.server.get("profile?seconds=5")
		done <- errors.Join(err, os.WriteFile(file, profile, 0o600))
	}()
	for {
		if _, err := c.load.flood(queries); err != nil {
			return err
		}
		select {
		case err := <-done:
			return err
		default:
		}
	}
}

// zoneFile has one address, and a service of three elements.
var zoneFile = strings.Join([]string{
	"@ 5 IN SOA ns.dns hostmaster 1 7200 1800 86400 5", "@ 5 IN NS ns.dns",
	"one 5 IN A 127.0.0.1",
	"three 5 IN SRV 0 1 2 pe-00000002.three", "three 5 IN SRV 0 1 3 pe-00000003.three", "three 5 IN SRV 0 1 4 pe-00000004.three",
	"pe-00000002.three 5 IN A 127.0.0.1", "pe-00000003.three 5 IN A 127.0.0.1", "pe-00000004.three 5 IN A 127.0.0.1",
}, "\n") + "\n"

// The questions of the contest.
var (
	oneAddress    = []question{newQuestion("one.pool.example.org.", dns.TypeA, 1, 0)}
	threeServices = []question{newQuestion("three.pool.example.org.", dns.TypeSRV, 3, 3)}
	noAnswer      = []question{newQuestion("one.pool.example.org.", dns.TypeA, 0, 0)}
)

// fillSmall registers what zoneFile has.
func fillSmall(server *process) (*host, error) {
	h, err := newHost(server)
	if err != nil {
		return nil, err
	}
	pools := [...]rserpool.PoolHandle{"one", "three", "three", "three"}
	for i, p := range pools {
		if err := h.register(p, rserpool.PEID(i+1), roundRobin); err != nil {
			h.close()
			return nil, err
		}
	}
	return h, h.settle()
}

// dns compares the cost of a query in the server and in others.
func (b *bench) dns() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	var c cleanup
	defer c.run()
	ours := c.process(b.startRegistrar())
	hosts := c.process(b.startCoreDNS(`hosts "DIR/hosts"`, map[string]string{"hosts": "127.0.0.1 one.pool.example.org\n"}))
	file := c.process(b.startCoreDNS(`file "DIR/zone"`, map[string]string{"zone": zoneFile}))
	cache := c.process(b.startCoreDNS("cache 3600\nfile \"DIR/zone\"", map[string]string{"zone": strings.ReplaceAll(zoneFile, " 5 IN", " 3600 IN")}))
	empty := c.process(startYardstick(self, "empty"))
	echo := c.process(startYardstick(self, "echo"))
	if c.err != nil {
		return c.err
	}
	h, err := fillSmall(ours)
	if err != nil {
		return err
	}
	defer h.close()

	var all []*contestant
	add := func(name string, p *process, questions []question) *contestant {
		k := c.contestant(name, p, questions)
		all = append(all, k)
		return k
	}
	ourA := add("A", ours, oneAddress)
	hostsA := add("hosts A", hosts, oneAddress)
	fileA := add("file A", file, oneAddress)
	ourSRV := add("SRV", ours, threeServices)
	fileSRV := add("file SRV", file, threeServices)
	cacheSRV := add("cache SRV", cache, threeServices)
	emptyA := add("empty miekg/dns server", empty, noAnswer)
	echoA := add("bare UDP echo", echo, noAnswer)
	if c.err != nil {
		return c.err
	}
	if err := b.contest(all, b.rounds, b.queries); err != nil {
		return err
	}

	const unit = "DNS, CPU s per million queries: "
	b.table.compare(unit+"A, beside hosts", ourA, hostsA, 1.05)
	b.table.compare(unit+"A, beside file", ourA, fileA, 0)
	b.table.compare(unit+"SRV with 3 elements, beside file", ourSRV, fileSRV, 0.9)
	b.table.compare(unit+"SRV with 3 elements, beside cache", ourSRV, cacheSRV, 0)
	b.table.compare(unit+"A, beside an empty miekg/dns server", ourA, emptyA, 0)
	b.table.compare(unit+"A, beside a bare UDP echo", ourA, echoA, 0)
	b.table.lost(all)
	return nil
}

// compare adds what a query costs two contestants, and the median of the
// ratios of their turns.
func (t *table) compare(name string, ours, neighbour *contestant, most float64) {
	r := row{
		name: name, ours: number(median(ours.costs)), neighbour: number(median(neighbour.costs)),
		ratio: medianRatio(ours.costs, neighbour.costs), most: most,
	}
	if most > 0 {
		r.target = fmt.Sprintf("<= %.2f x", most)
	}
	t.add(r)
}

// lost adds how many queries got no answer in time. A lost one is still paid
// for, and some are lost where a packet finds no room in a socket.
func (t *table) lost(all []*contestant) {
	var sent, lost int
	for _, c := range all {
		sent += c.sent
		lost += c.lost
	}
	t.info("queries without an answer", fmt.Sprintf("%d of %d", lost, sent))
}

// cleanup undoes what was begun, the last first, and keeps the first error.
type cleanup struct {
	undo []func()
	err  error
}

func (c *cleanup) run() {
	for i := range c.undo {
		c.undo[len(c.undo)-1-i]()
	}
}

func (c *cleanup) process(p *process, err error) *process {
	if err != nil {
		c.err = errors.Join(c.err, err)
		return nil
	}
	c.undo = append(c.undo, p.close)
	return p
}

func (c *cleanup) host(h *host, err error) *host {
	if err != nil {
		c.err = errors.Join(c.err, err)
		return nil
	}
	c.undo = append(c.undo, h.close)
	return h
}

func (c *cleanup) contestant(name string, p *process, questions []question) *contestant {
	l, err := newLoad(p.addr, questions)
	if err != nil {
		c.err = errors.Join(c.err, err)
		return nil
	}
	c.undo = append(c.undo, l.close)
	return &contestant{name: name, server: p, load: l}
}
