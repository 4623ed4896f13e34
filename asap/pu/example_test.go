package pu_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
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

// Use a protocol of one's own with elements of a pool: each selection takes the element
// that the policy picks, and asks a registrar only the first time.
func ExampleUser_Select() {
	u, err := pu.Open(pu.Config{Registrars: []string{"192.0.2.53"}})
	if err != nil {
		log.Fatal(err)
	}
	defer u.Close()
	for range 3 {
		e, err := u.Select(context.Background(), "time")
		if err != nil {
			log.Fatal(err)
		}
		t := e.UserTransport
		conn, err := net.Dial("udp", netip.AddrPortFrom(t.Addrs[0], t.Port).String())
		if err != nil {
			u.Failed("time", e.ID) // the next selection takes another one
			continue
		}
		defer conn.Close()
		fmt.Println("using", conn.RemoteAddr())
		return
	}
}

// Connect to a pool of TCP elements. When the element fails, go on with another one.
func ExampleUser_DialStream() {
	u, err := pu.Open(pu.Config{Registrars: []string{"192.0.2.53"}})
	if err != nil {
		log.Fatal(err)
	}
	defer u.Close()
	ctx := context.Background()
	s, err := u.DialStream(ctx, "lines")
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	for {
		fmt.Fprintln(s, "a question")
		answer, err := bufio.NewReader(s).ReadString('\n')
		if err == nil {
			fmt.Print(answer)
			return
		}
		if err := s.Failover(ctx); err != nil {
			log.Fatal(err)
		}
	}
}

// Let an HTTP client reach pools: http://web.pool/ is the pool web. Each new connection
// goes to the element that the policy of the pool picks.
func ExampleUser_DialContext() {
	u, err := pu.Open(pu.Config{Registrars: []string{"192.0.2.53"}})
	if err != nil {
		log.Fatal(err)
	}
	defer u.Close()
	client := &http.Client{Transport: &http.Transport{DialContext: u.DialContext}}
	res, err := client.Get("http://web.pool/")
	if err != nil {
		log.Fatal(err)
	}
	defer res.Body.Close()
	fmt.Println(res.Status)
}
