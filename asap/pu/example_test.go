package pu_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/netip"
	"time"

	"github.com/rserpool/coredns-rserpool/asap/pu"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Ask for one element of the pool web, by TCP.
func Example() {
	u, err := pu.Open(pu.Config{Registrars: []string{"192.0.2.53"}, Via: rserpool.ViaTCP})
	if err != nil {
		log.Fatal(err)
	}
	defer u.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	r, err := u.Resolve(ctx, "web", 1)
	switch {
	case errors.Is(err, pu.ErrUnknownPool):
		fmt.Println("no element is registered")
	case err != nil:
		log.Print(err)
	default:
		fmt.Println(r.Elements[0].UserTransport)
	}
}

// Print a pool, and print it again after each change.
func ExampleUser_Watch() {
	u, err := pu.Open(pu.Config{Registrars: []string{"192.0.2.53"}})
	if err != nil {
		log.Fatal(err)
	}
	defer u.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for r, err := range u.Watch(ctx, "web", 0) {
		if err != nil {
			log.Print(err) // the watch goes on until ctx ends
			continue
		}
		fmt.Println(len(r.Elements), "elements")
	}
}

// Connect to an element of the pool, and report each element that cannot be reached.
func ExampleUser_ReportUnreachable() {
	u, err := pu.Open(pu.Config{Registrars: []string{"192.0.2.53"}})
	if err != nil {
		log.Fatal(err)
	}
	defer u.Close()
	ctx := context.Background()
	r, err := u.Resolve(ctx, "web", 3)
	if err != nil {
		log.Fatal(err)
	}
	for _, e := range r.Elements {
		t := e.UserTransport
		conn, err := net.DialTimeout("tcp", netip.AddrPortFrom(t.Addrs[0], t.Port).String(), time.Second)
		if err != nil {
			_ = u.ReportUnreachable(ctx, "web", e.ID)
			continue
		}
		defer conn.Close()
		fmt.Println("connected to", conn.RemoteAddr())
		return
	}
}
