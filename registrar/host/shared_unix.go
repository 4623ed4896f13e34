//go:build unix

package host

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
)

// listenShared opens a UDP socket on the group's port that others, such as
// clients on the same machine, can open as well.
func listenShared(group netip.AddrPort) (*net.UDPConn, error) {
	network, any := "udp4", netip.IPv4Unspecified()
	if group.Addr().Is6() {
		network, any = "udp6", netip.IPv6Unspecified()
	}
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var soErr error
		err := c.Control(func(fd uintptr) {
			soErr = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
		})
		return errors.Join(err, soErr)
	}}
	pc, err := lc.ListenPacket(context.Background(), network, netip.AddrPortFrom(any, group.Port()).String())
	if err != nil {
		return nil, err
	}
	conn, ok := pc.(*net.UDPConn)
	if !ok {
		_ = pc.Close()
		return nil, errors.New("not a UDP socket")
	}
	return conn, nil
}
