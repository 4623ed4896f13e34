package rserpool

import (
	"runtime/debug"
	"strings"
	"time"

	clog "github.com/coredns/coredns/plugin/pkg/log"
	"github.com/miekg/dns"
)

// Times of notifications (RFC 1996).
const (
	// notifyPoll is how often the serial number is read. A change has a new one in the next
	// second at the latest.
	notifyPoll = 250 * time.Millisecond
	// notifyPause is the least time between two notifications.
	notifyPause = time.Second
	// notifyShare is the least time between two notifications in durations of making the latest
	// copy: so the copies for one secondary take at most a tenth of the time. How long the client
	// reads does not count: a slow secondary would delay the notifications of all others.
	notifyShare = 10
	// maxNotifyPause bounds that time: a copy of 1,000,000 elements may take seconds.
	maxNotifyPause = 5 * time.Minute
	// notifySettle is how long a registrar that starts without elements waits for them: a
	// notification before they are back would empty the secondaries. Elements find a registrar
	// that was restarted within about 8 seconds.
	notifySettle = 10 * time.Second
)

// notifier notifies secondaries of changes.
type notifier struct {
	*Handler
	notify func(zone string) error
	stop   chan struct{}
	serial uint32    // the latest one that was notified, at this time
	at     time.Time // zero if none was
	from   time.Time // no notification before; zero until the registrar is ready
	// failing are the zones of which the latest notification has failed.
	failing map[string]bool
}

// notifySecondaries starts to notify secondaries: of the zone as it is now, and of each change. The
// returned function ends that.
func (h *Handler) notifySecondaries(notify func(zone string) error) (end func()) {
	stop := make(chan struct{})
	n := &notifier{Handler: h, notify: notify, stop: stop, failing: make(map[string]bool)}
	go n.run()
	return func() { close(stop) }
}

func (n *notifier) run() {
	tick := time.NewTicker(notifyPoll)
	defer tick.Stop()
	for {
		select {
		case <-n.stop:
			return
		case <-tick.C:
			n.look()
		}
	}
}

// look notifies secondaries if the zone has changed and it is time to.
func (n *notifier) look() {
	defer func() {
		if r := recover(); r != nil { // outside of ServeDNS, CoreDNS would end
			clog.NewWithPlugin(pluginName).Errorf("notification: panic: %v\n%s", r, debug.Stack())
		}
	}()
	if !n.registrar.Ready() || !n.settled() || time.Since(n.at) < n.pause() {
		return
	}
	serial := n.registrar.Space().Serial(n.now())
	if !n.at.IsZero() && serial == n.serial {
		return
	}
	n.serial, n.at = serial, time.Now()
	for _, z := range n.zones.own() {
		n.send(z.name)
	}
}

// settled reports whether the elements have had time to register, and the serial number to be
// one that lasts: the first one that is read includes no change, so that there is another one a second later.
func (n *notifier) settled() bool {
	if n.from.IsZero() {
		n.registrar.Space().Serial(n.now())
		pause := notifyPause
		if _, elements := n.registrar.Space().Len(); elements == 0 {
			pause = notifySettle
		}
		n.from = time.Now().Add(pause)
	}
	return time.Since(n.from) >= 0
}

// pause returns the time between two notifications.
func (n *notifier) pause() time.Duration {
	last := time.Duration(n.transfers.duration.Load())
	return max(notifyPause, min(notifyShare*last, maxNotifyPause))
}

// send sends the notification of a zone. If some fail in a row, it logs the first: a reload can have
// other secondaries, and begins anew.
func (n *notifier) send(zone string) {
	err := n.notify(zone)
	if err != nil && !n.failing[zone] {
		// The error names the zone, and has a line for each secondary.
		text := strings.ReplaceAll(err.Error(), "\n", "; ")
		if strings.Contains(text, dns.RcodeToString[dns.RcodeRefused]) { // transfer has no other word for it
			text += ". A secondary that refuses notifications may not know this server by the address that they come from: set it with the line 'source ADDRESS' in transfer"
		}
		clog.NewWithPlugin(pluginName).Warningf("%s. The secondary finds the change when it refreshes the zone: after the %d seconds of the SOA record, or later if its own minimum is longer (BIND 9: 300 seconds, min-refresh-time). "+
			"This line is not repeated until a notification has succeeded, or until a reload", text, soaRefresh)
	}
	n.failing[zone] = err != nil
}
