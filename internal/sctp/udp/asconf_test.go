package udp

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
	"github.com/rserpool/coredns-rserpool/internal/sctp/wire"
)

// TestUDPAddressChange has a peer add an address to an association, make it the primary one, and
// delete its own (ASCONF; RFC 5061). Nothing of that is done, since it is not authenticated (RFC
// 4895): the chunk is reported as unknown, and messages go where they went. So it is under TLS.
func TestUDPAddressChange(t *testing.T) {
	const (
		asconf             = wire.ChunkType(0xc1)
		add, del, primary  = 0xc001, 0xc002, 0xc004
		addressType, whole = 5, 8
	)
	address := func(ip string) []byte {
		a := netip.MustParseAddr(ip).As4()
		return append([]byte{0, addressType, 0, whole}, a[:]...)
	}
	body := append([]byte{0, 0, 0, 100}, address("10.0.0.3")...) // serial number, and where the association is
	for i, change := range []struct {
		typ uint16
		ip  string
	}{{add, victim}, {primary, victim}, {del, "10.0.0.3"}} {
		body = binary.BigEndian.AppendUint16(body, change.typ)
		body = append(body, 0, 16, 0, 0, 0, byte(i))
		body = append(body, address(change.ip)...)
	}
	onRaw(t, sctp.Limits{}, func(t *testing.T, w *ether, y *sctptest.Site, p *rawPeer) {
		p.connect()
		up := y.Next(sctp.Up)
		w.set(func(_, to netip.AddrPort, _ []byte) (time.Duration, bool) {
			if to.Addr() == netip.MustParseAddr(victim) {
				t.Errorf("a packet goes to %v", to)
			}
			return 0, true
		})
		p.send(wire.Chunk{Type: asconf, Body: body})
		if _, c := p.want(wire.ChunkError); binary.BigEndian.Uint16(c.Body) != wire.CauseUnrecognizedChunk {
			t.Errorf("Got ERROR %x, want that of an unknown chunk", c.Body)
		}
		y.Say(up.Assoc, "here")
		p.want(wire.ChunkData)
		y.None()
	})
}
