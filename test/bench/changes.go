package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/miekg/dns"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// changing is a registrar whose handlespace changes.
type changing struct {
	*bench
	server *process
	host   *host
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

// newChanging starts a registrar with many elements.
func (b *bench) newChanging(c *cleanup) (*changing, error) {
	server := c.process(b.startRegistrar(ofThree))
	if c.err != nil {
		return nil, c.err
	}
	h := c.host(newHost(server))
	if c.err != nil {
		return nil, c.err
	}
	x := &changing{bench: b, server: server, host: h, rand: rand.New(rand.NewPCG(1, 2)), pools: max(1, b.elements/changePoolSize)}
	for i := range x.elements {
		if err := h.register(poolName(i%x.pools), rserpool.PEID(i+1), leastUsed(x.rand.Uint32())); err != nil {
			return nil, err
		}
	}
	return x, h.settle()
}

// changesBesideQueries compares what queries cost with and without changes of the
// handlespace beside them. What the changes cost by themselves is measured as well and
// subtracted. It compares how long queries take with the same changes at another registrar
// on this machine: those take as much of the processors.
func (b *bench) changesBesideQueries() error {
	var c cleanup
	defer c.run()
	x, err := b.newChanging(&c)
	if err != nil {
		return err
	}
	elsewhere, err := b.newChanging(&c)
	if err != nil {
		return err
	}
	asked := &asked{server: x.server, load: newLoad("udp", x.server.addr, poolQuestions(x.pools, dns.TypeA, 1, 0)), time: b.changeTime, rate: b.rate}
	defer asked.load.close()

	var quietCost, busyCost, changeCost, elsewhereP99, hereP99 []float64
	var sent, lost int
	for range b.changeRounds {
		var periods [5]period
		for i, p := range []struct {
			ask     func() (tally, error)
			changes *changing
		}{{asked.flood, nil}, {asked.pace, elsewhere}, {nil, x}, {asked.flood, x}, {asked.pace, x}} {
			if periods[i], err = asked.phase(p.ask, p.changes); err != nil {
				return err
			}
			sent += periods[i].tally.sent
			lost += periods[i].tally.lost
		}
		quiet, paced, alone, busy, busyPaced := &periods[0], &periods[1], &periods[2], &periods[3], &periods[4]
		busy.cpu -= alone.cpu * busy.took.Seconds() / alone.took.Seconds()
		quietCost = append(quietCost, quiet.cost())
		busyCost = append(busyCost, busy.cost())
		changeCost = append(changeCost, alone.cpu/alone.took.Seconds())
		elsewhereP99 = append(elsewhereP99, paced.tally.p99().Seconds()*1e6)
		hereP99 = append(hereP99, busyPaced.tally.p99().Seconds()*1e6)
	}
	what := fmt.Sprintf("while %d elements have %d registrations and %d load updates a second", b.elements, b.changes, b.changes)
	b.table.add(row{
		name: "DNS, CPU s per million queries: A, " + what + " (their own subtracted), beside the quiet server",
		ours: number(median(busyCost)), neighbour: number(median(quietCost)),
		ratio: medianRatio(busyCost, quietCost), most: 1.1, target: "<= 1.10 x",
	})
	b.table.add(row{
		name: fmt.Sprintf("DNS, 99th percentile of latency at %d queries a second, us: the same, beside changes at another registrar", b.rate),
		ours: number(median(hereP99)), neighbour: number(median(elsewhereP99)),
		ratio: medianRatio(hereP99, elsewhereP99), most: 1.2, target: "<= 1.20 x",
	})
	b.table.info("a registration's own CPU in the server without queries, us", number(median(changeCost)*1e6/float64(2*b.changes)))
	b.table.info("queries without an answer, of these", fmt.Sprintf("%d of %d", lost, sent))
	return nil
}

// asked is a server that is asked for the time of a phase.
type asked struct {
	server *process
	load   *load
	time   time.Duration
	rate   int
}

// flood asks as much as it can, pace at a fixed rate.
func (a *asked) flood() (tally, error) {
	var all tally
	for end := time.Now().Add(a.time); time.Now().Before(end); {
		t, err := a.load.flood(1000)
		if err != nil {
			return all, err
		}
		all.sent += t.sent
		all.lost += t.lost
	}
	return all, nil
}

func (a *asked) pace() (tally, error) { return a.load.pace(a.rate, a.time) }

// period is what happened in some seconds.
type period struct {
	took  time.Duration
	cpu   float64 // seconds, the server's
	tally tally
}

// cost is in microseconds a query.
func (p *period) cost() float64 { return p.cpu * 1e6 / float64(p.tally.sent) }

// phase has queries, changes or both for a while.
func (a *asked) phase(ask func() (tally, error), changes *changing) (p period, err error) {
	begin, before := time.Now(), a.server.cpu()
	changed := make(chan error, 1)
	go func() {
		if changes != nil {
			changed <- changes.change()
		} else {
			changed <- nil
		}
	}()
	if ask != nil {
		p.tally, err = ask()
	}
	err = errors.Join(err, <-changed)
	p.took, p.cpu = time.Since(begin), (a.server.cpu() - before).Seconds()
	if err != nil || changes == nil {
		return p, err
	}
	return p, changes.tidy()
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
