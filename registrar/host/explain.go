package host

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"
)

// explain adds to an error where the registrar could not be served, and what to do.
func (h *Host) explain(protocol string, at []netip.AddrPort, err error) error {
	hint := ""
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		hint = ": another program is using this address and port, perhaps another registrar; stop it, or choose another address or port"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		hint = ": this machine does not have such an address"
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		hint = ": the process has no privilege for that; choose a port above 1023"
	}
	return fmt.Errorf("registrar cannot serve %s at %v (UDP encapsulation port %d): %w%s", protocol, at, h.cfg.EncapPort, err, hint)
}
