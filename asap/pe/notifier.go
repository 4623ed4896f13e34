package pe

import (
	"slices"
	"sync"

	"github.com/rserpool/coredns-rserpool/internal/client"
)

// maxNews is how many events may wait for Notify. If it blocks for so long that there are
// more, some are dropped: the element cannot wait, since Notify may wait for the element.
const maxNews = 256

// notifier calls Notify in a goroutine of its own, while there are events: keep-alives must
// be acknowledged at once, whatever the application is doing.
type notifier struct {
	f func(Event)
	// failed is called with the error of client.Call before wait returns. There are no calls
	// after it.
	failed func(error)

	mu    sync.Mutex
	queue []Event
	busy  bool
	over  bool      // failed was called
	ended sync.Cond // busy has become false
}

func newNotifier(f func(Event), failed func(error)) *notifier {
	n := &notifier{f: f, failed: failed}
	n.ended.L = &n.mu
	return n
}

// tell has Notify called with an event. It does not wait.
func (n *notifier) tell(ev Event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.over {
		return
	}
	n.queue = append(n.queue, ev)
	if len(n.queue) > maxNews {
		i := outdated(n.queue)
		n.queue = slices.Delete(n.queue, i, i+1)
	}
	if !n.busy {
		n.busy = true
		go n.run()
	}
}

// outdated finds the oldest event that a later one of the same type follows: the last one of each
// type stays. There is one, since maxNews is as many as EventType has values.
func outdated(queue []Event) (oldest int) {
	var seen [maxNews]bool
	for i, ev := range slices.Backward(queue) {
		if seen[ev.Type] {
			oldest = i
		}
		seen[ev.Type] = true
	}
	return oldest
}

// run calls Notify until no event is left.
func (n *notifier) run() {
	for ev, ok := n.next(); ok; ev, ok = n.next() {
		if err := client.Call("Config.Notify", func() { n.f(ev) }); err != nil {
			n.failed(err)
			n.end()
			return
		}
	}
}

// next takes the oldest event. The goroutine ends if there is none.
func (n *notifier) next() (ev Event, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.busy = len(n.queue) > 0; n.busy {
		ev = n.queue[0]
		n.queue = n.queue[1:]
	} else {
		n.ended.Broadcast()
	}
	return ev, n.busy
}

func (n *notifier) end() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.busy, n.over = false, true
	n.ended.Broadcast()
}

// wait waits until Notify has been called with every event.
func (n *notifier) wait() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for n.busy {
		n.ended.Wait()
	}
}
