package asap_test

import (
	"fmt"
	"net/netip"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// What a registrar does with a message: take it, or answer what is wrong.
func Example() {
	registration := &asap.Registration{
		Handle: "EchoPool",
		Element: rserpool.PoolElement{
			ID:   0x11111111,
			Life: 60,
			UserTransport: rserpool.Transport{
				Type: rserpool.SCTP, Port: 5001, Use: rserpool.DataPlusControl,
				Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")},
			},
			Policy: rserpool.Policy{Type: rserpool.WeightedRoundRobin, Weight: 7},
		},
	}
	data, err := registration.Append(nil)
	if err != nil {
		fmt.Println(err)
		return
	}

	for _, data := range [][]byte{data, data[:8]} {
		m, reports, err := asap.Parse(data)
		if err != nil {
			fmt.Println(err)
			if reply, ok := asap.ErrorReply(err); ok {
				fmt.Printf("answer: %v with %v\n", reply.Type(), reply.(*asap.Error).Causes)
			}
			continue
		}
		if len(reports) > 0 {
			fmt.Println("answer, too:", asap.Error{Causes: reports})
		}
		switch m := m.(type) {
		case *asap.Registration:
			fmt.Printf("%s: %v at %v, %v\n", m.Handle, m.Element.ID, m.Element.UserTransport, m.Element.Policy)
		}
	}
	// Output:
	// EchoPool: 11111111 at sctp 192.0.2.1 port 5001 (data plus control), WeightedRoundRobin weight 7
	// ASAP_REGISTRATION: message: length field says 60, but the message has 8 bytes
	// answer: ASAP_ERROR with [invalid values]
}
