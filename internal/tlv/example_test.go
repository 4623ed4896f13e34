package tlv_test

import (
	"fmt"
	"net/netip"

	"github.com/rserpool/coredns-rserpool/internal/tlv"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// The error cause that tells an element which policy its pool has (RFC 5354,
// Section 3.12.6).
func ExampleAppendPolicy() {
	info, err := tlv.AppendPolicy(nil, rserpool.Policy{Type: rserpool.WeightedRandom, Weight: 1})
	if err != nil {
		fmt.Println(err)
		return
	}
	cause := rserpool.Cause{Code: rserpool.CauseInconsistentPolicy, Info: info}
	fmt.Printf("%v: %x\n", cause, cause.Info)
	// Output: policy differs from the pool's: 0008000c0000000400000001
}

// A message written straight from where its parts are.
func ExampleBuilder() {
	elements := []*rserpool.PoolElement{{
		ID: 1,
		UserTransport: rserpool.Transport{
			Type: rserpool.TCP, Port: 80, Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")},
		},
	}}
	const handleResolutionResponse = 0x06
	w := tlv.BeginMessage(make([]byte, 0, 512), handleResolutionResponse, 0)
	w.PoolHandle("web")
	for _, e := range elements {
		w.PoolElement(e)
	}
	b, err := w.Finish()
	fmt.Printf("%d bytes, %v\n", len(b), err)
	// Output: 44 bytes, <nil>
}
