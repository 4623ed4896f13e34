package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/miekg/dns"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// changing is a handlespace that changes while queries come.
type changing struct {
	*bench
	server *process
	host   *host
	load   *load
	rand   *rand.Rand
	pools  int
	// added are the elements that have come since the last tidy.
	added int
}

// changePoolSize is how many elements a pool of a changing handlespace has.
const changePoolSize = 100

func leastUsed(load uint32) rserpool.Policy {
	return rserpool.Policy{Type: rserpool.LeastUsed, Load: load}
}

// changesBesideQueries compares what queries cost, and how long they take,
// with and without changes of the handlespace beside them. What the changes
// cost by themselves is measured as well and subtracted.
func (b *bench) changesBesideQueries() error {
	var c cleanup
	defer c.run()
	server := c.process(b.startRegistrar())
	if c.err != nil {
		return c.err
	}
	h := c.host(newHost(server))
	if c.err != nil {
		return c.err
	}
	x := changing{bench: b, server: server, host: h, rand: rand.New(rand.NewPCG(1, 2)), pools: max(1, b.elements/changePoolSize)}
	for i := range x.elements {
		if err := h.register(poolName(i%x.pools), rserpool.PEID(i+1), leastUsed(x.rand.Uint32())); err != nil {
			return err
		}
	}
	if err := h.settle(); err != nil {
		return err
	}
	x.load = c.contestant("A", server, poolQuestions(x.pools, dns.TypeA, 1, 0)).load
	if c.err != nil {
		return c.err
	}

	var quietCost, busyCost, changeCost, quietP99, busyP99 []float64
	var sent, lost int
	for range x.changeRounds {
		var periods [5]period
		for i, ask := range []func() (tally, error){x.flood, x.pace, nil, x.flood, x.pace} {
			p, err := x.phase(ask, i >= 2)
			if err != nil {
				return err
			}
			periods[i] = p
			sent += p.tally.sent
			lost += p.tally.lost
		}
		quiet, quietPaced, alone, busy, busyPaced := &periods[0], &periods[1], &periods[2], &periods[3], &periods[4]
		busy.cpu -= alone.cpu * busy.took.Seconds() / alone.took.Seconds()
		quietCost = append(quietCost, quiet.cost())
		busyCost = append(busyCost, busy.cost())
		changeCost = append(changeCost, alone.cpu/alone.took.Seconds())
		quietP99 = append(quietP99, quietPaced.tally.p99().Seconds()*1e6)
		busyP99 = append(busyP99, busyPaced.tally.p99().Seconds()*1e6)
	}
	what := fmt.Sprintf("while %d elements have %d registrations and %d load updates a second", x.elements, x.changes, x.changes)
	b.table.add(row{
		name: "DNS, CPU s per million queries: A, " + what + " (their own subtracted), beside the quiet server",
		ours: number(median(busyCost)), neighbour: number(median(quietCost)),
		ratio: medianRatio(busyCost, quietCost), most: 1.1, target: "<= 1.10 x",
	})
	b.table.add(row{
		name: fmt.Sprintf("DNS, 99th percentile of latency at %d queries a second, us: the same", x.rate),
		ours: number(median(busyP99)), neighbour: number(median(quietP99)),
		ratio: medianRatio(busyP99, quietP99), most: 2, target: "<= 2 x",
	})
	b.table.info("a registration's own CPU in the server without queries, us", number(median(changeCost)*1e6/float64(2*x.changes)))
	b.table.info("queries without an answer, of these", fmt.Sprintf("%d of %d", lost, sent))
	return nil
}

// flood asks as much as it can for the time of a phase, pace at a fixed rate.
func (x *changing) flood() (tally, error) {
	var all tally
	for end := time.Now().Add(x.changeTime); time.Now().Before(end); {
		t, err := x.load.flood(1000)
		if err != nil {
			return all, err
		}
		all.sent += t.sent
		all.lost += t.lost
	}
	return all, nil
}

func (x *changing) pace() (tally, error) { return x.load.pace(x.rate, x.changeTime) }

// period is what happened in some seconds.
type period struct {
	took  time.Duration
	cpu   float64 // seconds, the server's
	tally tally
}

// cost is in microseconds a query.
func (p *period) cost() float64 { return p.cpu * 1e6 / float64(p.tally.sent) }

// phase has queries, changes or both for a while.
func (x *changing) phase(ask func() (tally, error), changes bool) (p period, err error) {
	begin, before := time.Now(), x.server.cpu()
	changed := make(chan error, 1)
	go func() {
		if changes {
			changed <- x.change()
		} else {
			changed <- nil
		}
	}()
	if ask != nil {
		p.tally, err = ask()
	}
	err = errors.Join(err, <-changed)
	p.took, p.cpu = time.Since(begin), (x.server.cpu() - before).Seconds()
	if err != nil {
		return p, err
	}
	return p, x.tidy()
}

// change registers new elements and gives others another load, evenly spread
// over the time of a phase.
func (x *changing) change() error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	begin := time.Now()
	for done, now := 0, begin; now.Sub(begin) < x.changeTime; now = <-tick.C {
		for ; done < int(now.Sub(begin).Seconds()*float64(x.changes)); done++ {
			x.added++
			id := x.elements + x.added
			if err := x.host.register(poolName(id%x.pools), rserpool.PEID(id+1), leastUsed(x.rand.Uint32())); err != nil {
				return err
			}
			old := x.rand.IntN(x.elements)
			if err := x.host.register(poolName(old%x.pools), rserpool.PEID(old+1), leastUsed(x.rand.Uint32())); err != nil {
				return err
			}
		}
	}
	return x.host.settle()
}

// tidy takes out what change has added, so that all phases begin alike.
func (x *changing) tidy() error {
	for ; x.added > 0; x.added-- {
		id := x.elements + x.added
		if err := x.host.deregister(poolName(id%x.pools), rserpool.PEID(id+1)); err != nil {
			return err
		}
	}
	return x.host.settle()
}
