package guest_test

import (
	"context"
	"fmt"
	"log"

	"github.com/rserpool/coredns-rserpool/enrp/guest"
)

// Print all pool elements that a registrar knows.
func Example() {
	g, err := guest.Open(guest.Config{Registrars: []string{"192.0.2.53"}})
	if err != nil {
		log.Fatal(err)
	}
	defer g.Close()
	for pool, err := range g.Pools(context.Background(), false) {
		if err != nil {
			log.Fatal(err)
		}
		for _, e := range pool.Elements {
			fmt.Println(pool.Handle, e.ID, e.UserTransport)
		}
	}
}

// Print the other registrars of the scope.
func ExampleGuest_Peers() {
	g, err := guest.Open(guest.Config{Registrars: []string{"192.0.2.53"}})
	if err != nil {
		log.Fatal(err)
	}
	defer g.Close()
	id, peers, err := g.Peers(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("registrar", id, "at", g.At())
	for _, p := range peers {
		fmt.Println(p.ID, p.Transport)
	}
}
