//go:build !linux

package udp

import (
	"errors"
	"net"
)

// setOptions sets nothing: what a peer's machine refuses is found out by
// heartbeats.
func setOptions(*net.UDPConn, bool) error { return nil }

func readUnreachable(*net.UDPConn) ([]*unreachableError, bool) { return nil, false }

// transient takes every error for one about a packet, but that of a closed
// socket.
func transient(err error) bool { return !errors.Is(err, net.ErrClosed) }
