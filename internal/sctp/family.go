package sctp

import (
	"errors"
	"syscall"
)

// noFamily are the errors of a socket whose address family the machine does not have, or does not
// have for the protocol. The numbers are those of Windows: WSAEAFNOSUPPORT and WSAEADDRNOTAVAIL.
var noFamily = []syscall.Errno{
	syscall.EAFNOSUPPORT, syscall.EADDRNOTAVAIL, syscall.EPROTONOSUPPORT, syscall.ESOCKTNOSUPPORT, syscall.ENOPROTOOPT,
	10047, 10049,
}

// NoFamily reports whether a socket could not be opened because the machine does not have its
// address family. An endpoint on :: then listens on the other family only. It must not do so for
// any other reason: where another program has the port of one family, clients would reach that
// program, or nobody.
func NoFamily(err error) bool {
	for _, errno := range noFamily {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}
