package tcp

import (
	"encoding/binary"
	"net"
	"syscall"
)

// The states of a TCP connection in which the peer may still send (tcp_states.h). A connection
// that has been handed out has no other one of these.
const (
	tcpEstablished = 1
	tcpFinWait1    = 4
	tcpFinWait2    = 5
)

// peerEnded reports whether the peer has ended its direction of a connection, or the whole one.
// What it has sent before may not have been read.
func peerEnded(c *net.TCPConn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return true
	}
	state := byte(tcpEstablished)
	err = raw.Control(func(fd uintptr) {
		// The state is the first byte of struct tcp_info.
		if v, err := syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_INFO); err == nil {
			state = binary.NativeEndian.AppendUint32(nil, uint32(v))[0]
		}
	})
	return err != nil || state != tcpEstablished && state != tcpFinWait1 && state != tcpFinWait2
}
