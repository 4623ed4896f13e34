package sctptest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
)

// Site is an endpoint with the events that it has met.
type Site struct {
	sctp.Endpoint
	T      testing.TB
	Events chan sctp.Event
	// Patience is how long down waits: longer than WaitFor in virtual time, in
	// which a peer's loss may take minutes.
	Patience time.Duration
	hook     atomic.Pointer[func(sctp.Event)]
}

// NewSite makes a site, whose Endpoint is to be set to one that has handle as its
// Handler.
func NewSite(t testing.TB) *Site {
	return &Site{T: t, Events: make(chan sctp.Event, 10000), Patience: WaitFor}
}

// Handle keeps an event.
func (x *Site) Handle(ev sctp.Event) {
	if f := x.hook.Load(); f != nil {
		(*f)(ev)
	}
	if _, ok := x.T.(*testing.B); ok && ev.Type == sctp.Received && x.hook.Load() != nil {
		return // too many
	}
	x.Events <- ev
}

// Hooked has f called before each event from now on is kept. In a benchmark the
// messages then are not kept.
func (x *Site) Hooked(f func(sctp.Event)) { x.hook.Store(&f) }

// WaitFor is longer than any test takes that goes well.
const WaitFor = 20 * time.Second

// Next waits for the next event, which must be of a type. Unless that is
// PeerAddrs, it passes over those: one comes whenever an address is confirmed.
func (x *Site) Next(want sctp.EventType) sctp.Event {
	x.T.Helper()
	for {
		select {
		case ev := <-x.Events:
			if ev.Type == sctp.PeerAddrs && want != sctp.PeerAddrs {
				continue
			}
			if ev.Type != want {
				x.T.Fatalf("Got event %v, want type %d", ev, want)
			}
			return ev
		case <-time.After(WaitFor):
			x.T.Fatalf("Got no event in %v, want type %d", WaitFor, want)
		}
	}
}

// Confirmed waits until a number of the peer's addresses is confirmed.
func (x *Site) Confirmed(ev sctp.Event, n int) sctp.Event {
	x.T.Helper()
	if len(ev.Peer) >= n {
		return ev
	}
	return x.Wait(fmt.Sprint(n, " confirmed addresses"), func(later sctp.Event) bool {
		return later.Type == sctp.PeerAddrs && later.Assoc == ev.Assoc && len(later.Peer) >= n
	})
}

// None checks that there are no events now.
func (x *Site) None() {
	x.T.Helper()
	select {
	case ev := <-x.Events:
		x.T.Fatalf("Got event %v, want none", ev)
	default:
	}
}

// Wait waits for the first event that matches, and takes it and all before it.
func (x *Site) Wait(what string, match func(sctp.Event) bool) sctp.Event {
	x.T.Helper()
	timeout := time.After(x.Patience)
	var others []sctp.Event
	for {
		select {
		case ev := <-x.Events:
			if match(ev) {
				return ev
			}
			others = append(others, ev)
		case <-timeout:
			x.T.Fatalf("Got no %s in %v, only %v", what, x.Patience, others)
		}
	}
}

// Up, received and down wait for an event of a type, whatever comes before it.
func (x *Site) Up() sctp.Event {
	x.T.Helper()
	return x.Wait("Up", func(ev sctp.Event) bool { return ev.Type == sctp.Up })
}

func (x *Site) Received() sctp.Event {
	x.T.Helper()
	return x.Wait("message", func(ev sctp.Event) bool { return ev.Type == sctp.Received })
}

func (x *Site) Down(want sctp.Reason) sctp.Event {
	x.T.Helper()
	ev := x.Wait("Down", func(ev sctp.Event) bool { return ev.Type == sctp.Down })
	if ev.Reason != want {
		x.T.Fatalf("Got %v, want reason %d", ev, want)
	}
	return ev
}

// Drain returns the events that have come and not been waited for.
func (x *Site) Drain() (events []sctp.Event) {
	for {
		select {
		case ev := <-x.Events:
			events = append(events, ev)
		default:
			return events
		}
	}
}

// Say sends a text.
func (x *Site) Say(a sctp.AssocID, text string) {
	x.T.Helper()
	if err := x.Send(a, sctp.Message{Data: []byte(text), PPID: 11}); err != nil {
		x.T.Fatalf("Send: %v", err)
	}
}

// On is where to listen: an address and port.
func On(addr string) sctp.ListenConfig {
	return sctp.ListenConfig{Addrs: []netip.AddrPort{netip.MustParseAddrPort(addr)}}
}

// Framing is that of messages with their length in the third and fourth byte.
var Framing = sctp.Framing{HeadLen: 4, Len: func(head []byte) int { return int(binary.BigEndian.Uint16(head[2:])) }, Align: 4, PPID: 11}

// Message is a message of n bytes that TCP can delimit.
func Message(n int, fill byte) []byte {
	b := bytes.Repeat([]byte{fill}, n)
	b[2], b[3] = byte(n>>8), byte(n)
	return b
}

// Same compares messages.
func Same(a, b sctp.Message) bool {
	return a.PPID == b.PPID && a.Stream == b.Stream && bytes.Equal(a.Data, b.Data)
}
