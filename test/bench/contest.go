package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// contestant is a name server with a load of its own.
type contestant struct {
	name   string
	server *process
	load   *load
	// part is how much less it is asked than others, because its answers are long.
	part int
	// costs are the server's CPU microseconds a query, turn by turn.
	costs []float64
	sent  int
	lost  int
}

// turn asks n queries and notes what they cost.
func (c *contestant) turn(n int) error {
	before := c.server.cpu()
	t, err := c.load.flood(n / c.part)
	used := c.server.cpu() - before
	if err != nil {
		return fmt.Errorf("%s: %w", c.name, err)
	}
	if t.lost*10 > t.sent {
		return fmt.Errorf("%s: %d of %d queries are lost", c.name, t.lost, t.sent)
	}
	c.sent += t.sent
	c.lost += t.lost
	c.costs = append(c.costs, used.Seconds()*1e6/float64(t.sent))
	return nil
}

// lineup is the contestants of a contest.
type lineup []*contestant

// of finds a contestant.
func (f lineup) of(name string) *contestant {
	i := slices.IndexFunc(f, func(c *contestant) bool { return c.name == name })
	return f[i]
}

// heat has all take turns, after one that does not count.
func (f lineup) heat(rounds, queries int) error {
	for round := range rounds + 1 {
		for _, c := range f {
			if err := c.turn(queries); err != nil {
				return err
			}
		}
		if round == 0 {
			for _, c := range f {
				c.costs, c.sent, c.lost = nil, 0, 0
			}
		}
	}
	return nil
}

// join adds the results of another heat with the same contestants.
func (f *lineup) join(heat lineup) {
	if *f == nil {
		*f = heat
		return
	}
	for i, c := range *f {
		c.costs = append(c.costs, heat[i].costs...)
		c.sent += heat[i].sent
		c.lost += heat[i].lost
	}
}

// profile writes a CPU profile of each CoreDNS of a part under load, if they are wanted.
func (b *bench) profile(part string, f lineup, queries int) error {
	for _, c := range f {
		if b.profiles == "" || c.server.pprof == "" {
			continue
		}
		file := fmt.Sprintf("%s/%s %s.pprof", b.profiles, part, c.name)
		if err := c.profile(strings.ReplaceAll(file, " ", "-"), queries); err != nil {
			return err
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
func (t *table) lost(all lineup) {
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

// contestant adds one to a lineup.
func (c *cleanup) contestant(f *lineup, name string, p *process, questions []question) {
	c.contestantBy("udp", 1, f, name, p, questions)
}

// contestantBy adds one that is asked by a network, and less than others.
func (c *cleanup) contestantBy(network string, part int, f *lineup, name string, p *process, questions []question) {
	if c.err != nil {
		return
	}
	l := newLoad(network, p.addr, questions)
	c.undo = append(c.undo, l.close)
	*f = append(*f, &contestant{name: name, server: p, load: l, part: part})
}
