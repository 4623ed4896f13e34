package main

import (
	"errors"
	"fmt"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/stack"
)

// memory adds what idle associations of SCTP in UDP take in the server.
func (b *bench) memory() error {
	var c cleanup
	defer c.run()
	server := c.process(b.startRegistrar(""))
	stack, err := stack.New(stack.Config{Only: sctp.UDP})
	if err = errors.Join(c.err, err); err != nil {
		return err
	}
	defer stack.Close()
	before, err := server.memory()
	if err != nil {
		return err
	}
	begin := server.cpu()
	for range b.associations {
		// Two endpoints have one association at most, so each has its own.
		came := make(chan sctp.EventType, 1)
		ep, err := stack.Listen(localEndpoint(), func(ev sctp.Event) {
			select {
			case came <- ev.Type:
			default:
			}
		})
		if err != nil {
			return err
		}
		ep.Connect(server.dest())
		if <-came != sctp.Up {
			return errors.New("an association did not come up")
		}
	}
	cpu := server.cpu() - begin
	if _, err := server.memory(); err != nil { // stacks shrink in one collection, and are free after the next
		return err
	}
	after, err := server.memory()
	if err != nil {
		return err
	}
	n := float64(b.associations)
	what := fmt.Sprintf(", each of %d idle associations of SCTP in UDP", b.associations)
	b.table.bound("heap and stacks"+what, (after.heap+after.stack-before.heap-before.stack)/n/1024, 45, " KiB")
	b.table.bound("goroutines"+what, (after.goroutines-before.goroutines)/n, 5, "")
	b.table.info("CPU to set one up, us", number(cpu.Seconds()*1e6/n))
	return nil
}
