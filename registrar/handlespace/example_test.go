package handlespace_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"

	"github.com/rserpool/coredns-rserpool/registrar/handlespace"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// The writer puts and removes elements; readers look up a name and select.
func Example() {
	s := handlespace.New(rand.New(rand.NewPCG(1, 2)))
	for id, load := range []uint32{30, 10, 20} {
		_, err := s.Put("Compute Pool", &handlespace.Element{PoolElement: rserpool.PoolElement{
			ID: rserpool.PEID(id),
			UserTransport: rserpool.Transport{
				Type: rserpool.TCP, Port: 80,
				Addrs: []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, byte(id)})},
			},
			Policy: rserpool.Policy{Type: rserpool.LeastUsed, Load: load},
		}})
		if err != nil {
			fmt.Println(err)
		}
	}

	p, _ := s.Lookup([]byte("compute pool"))
	for _, e := range p.Select(nil, 2, handlespace.IPv4) {
		fmt.Println(e.UserTransport.Addrs[0], e.Value)
	}
	// Output:
	// 192.0.2.1 10
	// 192.0.2.2 20
}
