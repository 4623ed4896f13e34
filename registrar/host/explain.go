package host

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"
)

// explain says where the registrar could not be served, and what to do.
func (h *Host) explain(protocol string, at []netip.AddrPort, err error) error {
	hint := ""
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		hint = ": something else is served there, such as another registrar; stop it, or choose another address or port"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		hint = ": this machine does not have such an address"
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		hint = ": this needs privileges that the process does not have; choose a port above 1023"
	}
	return fmt.Errorf("registrar cannot serve %s at %v (UDP encapsulation port %d): %w%s", protocol, at, h.cfg.EncapPort, err, hint)
}
