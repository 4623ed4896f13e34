package sctp

import (
	"net/netip"
	"testing"
)

// TestUDPTranslated: a peer whose packets come from an address that it does not list
// is behind an address translation. One that lists none has the address that they
// come from.
func TestUDPTranslated(t *testing.T) {
	for _, tt := range []struct {
		name  string
		lists []netip.Addr
		want  bool
	}{
		{"lists none", nil, false},
		{"lists it", []netip.Addr{netip.MustParseAddr("192.168.0.2"), netip.MustParseAddr("10.0.0.3")}, false},
		{"lists others", []netip.Addr{netip.MustParseAddr("192.168.0.2"), netip.MustParseAddr("fd00::2")}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			onRaw(t, Limits{}, func(t *testing.T, _ *wire, y *site, p *rawPeer) {
				p.ours.addrs = tt.lists
				p.connect()
				if ev := y.next(Up); ev.Translated != tt.want || ev.Peer[0].Addr() != p.s.addr.Addr() {
					t.Errorf("Got %v, translated %v, want %v", ev.Peer, ev.Translated, tt.want)
				}
			})
		})
	}
}
