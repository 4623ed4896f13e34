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

// Site is an endpoint and its events.
type Site struct {
	sctp.Endpoint
	T      testing.TB
	Events chan sctp.Event
	// Patience is how long Wait waits. In virtual time it is longer than WaitFor,
	// because the loss of a peer may take minutes.
	Patience time.Duration
	hook     atomic.Pointer[func(sctp.Event)]
}

// NewSite makes a Site. Its Endpoint must be set to one whose Handler is Handle.
func NewSite(t testing.TB) *Site {
	return &Site{T: t, Events: make(chan sctp.Event, 10000), Patience: WaitFor}
}

// Handle is the Handler of the endpoint. It keeps the event.
func (x *Site) Handle(ev sctp.Event) {
	if f := x.hook.Load(); f != nil {
		(*f)(ev)
	}
	if _, ok := x.T.(*testing.B); ok && ev.Type == sctp.Received && x.hook.Load() != nil {
		return // too many
	}
	x.Events <- ev
}

// Hooked has f called with each event before it is kept. In a benchmark, messages are not
// kept then.
func (x *Site) Hooked(f func(sctp.Event)) { x.hook.Store(&f) }

// WaitFor is longer than any wait of a test that passes.
const WaitFor = 40 * time.Second

// Next waits for the next event, which must have a type. It skips PeerAddrs, unless that is
// the type: there is one for each confirmed address.
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

// Confirmed waits until n of the peer's addresses are confirmed and returns the event that
// has them, which may be ev.
func (x *Site) Confirmed(ev sctp.Event, n int) sctp.Event {
	x.T.Helper()
	if len(ev.Peer) >= n {
		return ev
	}
	return x.Wait(fmt.Sprint(n, " confirmed addresses"), func(later sctp.Event) bool {
		return later.Type == sctp.PeerAddrs && later.Assoc == ev.Assoc && len(later.Peer) >= n
	})
}

// None checks that no event is waiting.
func (x *Site) None() {
	x.T.Helper()
	select {
	case ev := <-x.Events:
		x.T.Fatalf("Got event %v, want none", ev)
	default:
	}
}

// Wait waits for an event that matches. It drops the events before it.
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

// Drain returns all events that are waiting.
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
