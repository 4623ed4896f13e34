//go:build unix

package rserpool

import (
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// refuseUpgrade takes SIGUSR2 from caddy. There it starts the program anew and
// hands the listeners over, which cannot work here: the new process finds the
// ports of ASAP and ENRP in use and ends, and the old one is left with sockets
// that were made blocking on the way, on which it answers nothing and cannot be
// stopped.
var refuseUpgrade = sync.OnceFunc(func() {
	signal.Reset(syscall.SIGUSR2)
	refused := make(chan os.Signal, 1)
	signal.Notify(refused, syscall.SIGUSR2)
	go func() {
		for range refused {
			log.Warning("SIGUSR2 is refused: SCTP associations cannot be handed to a new process. To upgrade, start a second registrar as a peer, then restart this one")
		}
	}()
})
