//go:build !linux

package udp

import (
	"errors"
	"net"
)

// setOptions sets nothing. Without ICMP errors, HEARTBEATs find out that a peer is gone.
func setOptions(*net.UDPConn, bool) error { return nil }

func readUnreachable(*net.UDPConn) ([]*unreachableError, bool) { return nil, false }

// transient reports whether an error concerns only one packet: any except that of a closed
// socket.
func transient(err error) bool { return !errors.Is(err, net.ErrClosed) }
