package registrar_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/registrar"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// A host hands over events and performs the actions.
func Example() {
	r, err := registrar.New(registrar.Config{Rand: rand.New(rand.NewPCG(1, 2))})
	if err != nil {
		fmt.Println(err)
		return
	}
	peer := netip.MustParseAddrPort("192.0.2.1:40000")
	message, err := (&asap.Registration{
		Handle: "compute",
		Element: rserpool.PoolElement{
			ID: 0x2a, Life: 600,
			UserTransport: rserpool.Transport{Type: rserpool.TCP, Port: 80, Addrs: []netip.Addr{peer.Addr()}},
			Policy:        rserpool.Policy{Type: rserpool.RoundRobin},
		},
	}).Append(nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	now := time.Unix(0, 0)
	for _, ev := range []registrar.Event{
		registrar.AssocUp{Assoc: 1, Peer: []netip.AddrPort{peer}, Via: rserpool.ViaUDP},
		registrar.Received{Assoc: 1, PPID: asap.PPID, Data: message},
	} {
		for _, act := range r.Handle(now, ev) {
			switch act := act.(type) {
			case *registrar.Send:
				m, _, _ := asap.Parse(act.Data)
				fmt.Printf("to association %d: %v\n", act.Assoc, m.Type())
			case registrar.Log:
				fmt.Println(act.Text)
			}
		}
	}
	fmt.Println("elements:", r.Space().Pool("compute").Len())
	// Output:
	// pool element 0000002a of pool "compute" is registered at tcp 192.0.2.1 port 80, policy RoundRobin
	// to association 1: ASAP_REGISTRATION_RESPONSE
	// elements: 1
}
