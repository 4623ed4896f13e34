package client

import (
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp/localaddr"
)

// watchInterval is the time between two looks at the machine's interfaces where the system
// does not report changes: two queries to the system each time, for all Transports
// together. Linux reports them.
const watchInterval = 2 * time.Second

// watch reports changes of the machine's interfaces and addresses until the Transport is
// closed, and joins the announce group on new interfaces.
func (t *Transport) watch() {
	changed := machine.subscribe()
	defer machine.unsubscribe(changed)
	for {
		select {
		case <-changed:
		case <-t.ctx.Done():
			return
		}
		if t.hear != nil {
			t.hear.Changed()
		}
		t.deliver(Event{Network: true})
	}
}

// machine watches this machine for all Transports.
var machine = watcher{look: network, changes: localaddr.Changes, subscribers: make(map[chan struct{}]struct{})}

// watcher tells subscribers when what it looks at has changed. It has a
// goroutine while there are any.
type watcher struct {
	look func() string
	// changes returns a channel that is filled when something may have changed, and a
	// function that ends that.
	changes func() (<-chan struct{}, func())

	mu          sync.Mutex
	subscribers map[chan struct{}]struct{}
	stop        chan struct{}
}

func (w *watcher) subscribe() chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.subscribers) == 0 {
		w.stop = make(chan struct{})
		go w.run(w.look(), w.stop)
	}
	c := make(chan struct{}, 1)
	w.subscribers[c] = struct{}{}
	return c
}

func (w *watcher) unsubscribe(c chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.subscribers, c)
	if len(w.subscribers) == 0 {
		close(w.stop)
	}
}

func (w *watcher) run(last string, stop chan struct{}) {
	changes, end := w.changes()
	defer end()
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for {
		select {
		case <-changes:
		case <-tick.C:
		case <-stop:
			return
		}
		if now := w.look(); now != last {
			last = now
			w.tell()
		}
	}
}

// tell notifies all subscribers.
func (w *watcher) tell() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.subscribers {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// network is a text that changes when an interface or an address is added, removed, or
// changes its state.
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
