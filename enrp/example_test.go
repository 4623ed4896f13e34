package enrp_test

import (
	"fmt"

	"github.com/rserpool/coredns-rserpool/enrp"
)

// A registrar compares a peer's checksum with its own idea of it.
func Example() {
	var mine enrp.Checksum
	mine.Add("AlphaPool", 0x01000001)
	mine.Add("AlphaPool", 0x01000002)

	data, err := (&enrp.Presence{
		Sender: 0x10000001, Receiver: 0x20000002, Checksum: 0x20d3, HasChecksum: true,
	}).Append(nil)
	if err != nil {
		fmt.Println(err)
		return
	}

	m, _, err := enrp.Parse(data)
	if err != nil {
		fmt.Println(err)
		return
	}
	if p, ok := m.(*enrp.Presence); ok && p.HasChecksum {
		fmt.Printf("%v from %v: in step: %v\n", m.Type(), p.Sender, enrp.ChecksumsMatch(p.Checksum, mine.Value()))
	}
	mine.Remove("AlphaPool", 0x01000002)
	fmt.Printf("after a deregistration: %#04x\n", mine.Value())
	// Output:
	// ENRP_PRESENCE from 10000001: in step: true
	// after a deregistration: 0x106a
}
