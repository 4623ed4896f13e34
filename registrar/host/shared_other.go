//go:build !unix

package host

import (
	"net"
	"net/netip"
)

// listenShared opens a UDP socket on the group's port.
func listenShared(group netip.AddrPort) (*net.UDPConn, error) {
	network := "udp4"
	if group.Addr().Is6() {
		network = "udp6"
	}
	return net.ListenUDP(network, &net.UDPAddr{Port: int(group.Port())})
}
