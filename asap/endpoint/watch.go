package endpoint

import (
	"fmt"
	"net"
	"time"
)

// watchInterval is how often the machine's interfaces are looked at: two
// questions to the system each time.
const watchInterval = 2 * time.Second

// watch tells of changes of the machine's interfaces and addresses until the
// Transport is closed, and joins the announce group on new interfaces.
func (t *Transport) watch() {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	last := network()
	for {
		select {
		case <-tick.C:
		case <-t.ctx.Done():
			return
		}
		now := network()
		if now == last {
			continue
		}
		last = now
		if t.hear != nil {
			t.hear.joinAll()
		}
		t.deliver(Event{Network: true})
	}
}

// network is a text that is another one when an interface or an address has
// come, gone, or changed its state.
func network() string {
	interfaces, err := net.Interfaces()
	if err != nil {
		return err.Error()
	}
	text := ""
	for _, i := range interfaces {
		text += fmt.Sprintln(i.Index, i.Name, i.Flags)
	}
	addrs, err := net.InterfaceAddrs()
	return text + fmt.Sprintln(addrs, err)
}
