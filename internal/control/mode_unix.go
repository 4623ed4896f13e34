//go:build unix

package control

import "syscall"

// ownerOnly sets the mode of the socket before there is a file that others could connect to.
// Linux makes the file with this mode.
func ownerOnly(_, _ string, c syscall.RawConn) error {
	var err error
	if e := c.Control(func(fd uintptr) { err = syscall.Fchmod(int(fd), 0o600) }); e != nil {
		return e
	}
	if err == syscall.EINVAL { // other systems have no mode there
		err = nil
	}
	return err
}
