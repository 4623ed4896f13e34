package host_test

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os"

	"github.com/rserpool/coredns-rserpool/registrar"
	"github.com/rserpool/coredns-rserpool/registrar/host"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// A registrar on the loopback interface, over SCTP in UDP. Its pools can be read by any
// goroutine.
func Example() {
	h, err := host.Open(host.Config{
		Config:    registrar.Config{ServerID: 0x0a0b0c0d, Limits: registrar.Limits{Elements: 1000}},
		ASAP:      []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, // port 0 takes a free one
		Via:       rserpool.ViaUDP,
		EncapPort: 9897,
		Logger:    slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer h.Close()
	pools, elements := h.Space().Len()
	fmt.Printf("registrar %v is ready: %v; it has %d pools with %d elements\n", h.ID(), h.Ready(), pools, elements)
	// Output: registrar 0a0b0c0d is ready: true; it has 0 pools with 0 elements
}
