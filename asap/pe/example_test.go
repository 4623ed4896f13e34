package pe_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os/signal"
	"syscall"
	"time"

	"github.com/rserpool/coredns-rserpool/asap/pe"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// A TCP server on port 8080 joins the pool web, until SIGTERM.
func Example() {
	e, err := pe.Open(pe.Config{
		Pool:       "web",
		Transport:  rserpool.MustParseTransport("tcp:8080"),
		Policy:     rserpool.MustParsePolicy("WeightedRoundRobin:3"),
		Registrars: []string{"192.0.2.53"},
		Notify:     func(ev pe.Event) { fmt.Println(ev) },
	})
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	select {
	case <-ctx.Done():
	case <-e.Done(): // a registrar refuses the element
	}
	if err := e.Close(); err != nil {
		log.Fatal(err)
	}
}

// A program that must be in the pool before it goes on.
func ExampleElement_Wait() {
	e, err := pe.Open(pe.Config{
		Pool:       "web",
		Transport:  rserpool.MustParseTransport("tcp:8080"),
		Policy:     rserpool.Policy{Type: rserpool.RoundRobin},
		Registrars: []string{"192.0.2.53", "registrar.example.org"},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer e.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	switch err := e.Wait(ctx); {
	case errors.Is(err, rserpool.CauseInconsistentPolicy):
		log.Fatal("the pool has another policy: ", err)
	case err != nil:
		log.Print(err) // the element goes on trying
	}
}

// A server tells how busy it is.
func ExampleElement_Update() {
	e, err := pe.Open(pe.Config{
		Pool:       "web",
		Transport:  rserpool.MustParseTransport("tcp:8080"),
		Policy:     rserpool.Policy{Type: rserpool.LeastUsed},
		Registrars: []string{"192.0.2.53"},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer e.Close()
	busy := 0.25
	err = e.Update(rserpool.Policy{Type: rserpool.LeastUsed, Load: rserpool.FromFraction(busy)})
	if err != nil {
		log.Print(err)
	}
}
