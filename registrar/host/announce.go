package host

import (
	"net/netip"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/multicast"
	"github.com/rserpool/coredns-rserpool/registrar"
)

// maxHeard is how many datagrams of a group are read in a second.
const maxHeard = 200

// group is the multicast group of server announces (RFC 5352, Section 3.6), or that of
// registrars' presences.
type group struct {
	*multicast.Group
	enrp bool
}

// join joins a group, whose datagrams become events.
func (l *loop) join(addr netip.AddrPort, enrp bool) error {
	second, heard := time.Now(), 0
	g, err := multicast.Join(addr, func(from netip.AddrPort, datagram []byte) {
		if now := time.Now(); now.Sub(second) >= time.Second {
			second, heard = now, 0
		}
		if heard++; heard > maxHeard {
			return
		}
		select {
		case l.inbound <- registrar.Announced{From: from, Data: datagram, ENRP: enrp}:
		case <-l.quit:
		}
	}, l.h.log.add)
	if err != nil {
		return err
	}
	l.groups = append(l.groups, group{g, enrp})
	return nil
}
