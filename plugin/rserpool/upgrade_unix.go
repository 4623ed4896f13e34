//go:build unix

package rserpool

import (
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	clog "github.com/coredns/coredns/plugin/pkg/log"
)

// trapTime is the time that caddy gets to begin with its signals. It does so in a
// goroutine, which the scheduler may hold back until the start of CoreDNS waits for
// something. SIGUSR2 can be taken away only afterwards.
const trapTime = 50 * time.Millisecond

// refuseUpgrade takes SIGUSR2 away from caddy, which would start the program anew and
// hand its listeners over. That cannot work here: the new process ends because the ports
// of ASAP and ENRP are in use, and the handed-over sockets of the old process block, so
// that it neither answers nor stops.
var refuseUpgrade = sync.OnceFunc(func() {
	time.Sleep(trapTime)
	signal.Reset(syscall.SIGUSR2)
	refused := make(chan os.Signal, 1)
	signal.Notify(refused, syscall.SIGUSR2)
	go func() {
		for range refused {
			clog.NewWithPlugin(pluginName).Warning("SIGUSR2 is refused: SCTP associations cannot be handed to a new process. To upgrade, start a second registrar as a peer, then restart this one")
		}
	}()
})
