package pe

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/session"
	"github.com/rserpool/coredns-rserpool/internal/session/carrier"
)

// TestSessionMemory: 10,000 sessions take at most 4 KiB each above their associations.
func TestSessionMemory(t *testing.T) {
	const n = 10000
	l := newListener(ListenConfig{MaxSessions: n, MaxSessionsPerHost: n, Backlog: n}, session.NewElementConfig(session.ElementConfig{}))
	handlers := make([]carrier.Handler, n)
	var assoc carrier.Assoc
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range handlers {
		up := sctp.Event{Type: sctp.Up, Peer: []netip.AddrPort{netip.MustParseAddrPort(fmt.Sprintf("10.%d.%d.1:1", i/250, i%250))}}
		handlers[i] = l.accept(&assoc, up)
	}
	for s := range l.sessions { // one that has sent and received
		if err := s.core.Send(Message{Data: []byte("x")}); err != nil {
			t.Fatal(err)
		}
		s.core.Received(Message{Data: []byte("x")})
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := int(after.HeapAlloc-before.HeapAlloc) / n
	t.Logf("%d bytes for a session", each)
	if each > 4<<10 {
		t.Errorf("%d bytes for a session, want at most 4096", each)
	}
	runtime.KeepAlive(handlers)
}

// TestSessionAllocs: a message costs no allocation on its way in, and one on its way out,
// for the copy.
func TestSessionAllocs(t *testing.T) {
	core := session.NewElement(session.NewElementConfig(session.ElementConfig{Cards: session.CardNever}), nil)
	m := Message{Data: make([]byte, 100), PPID: 7}
	if got := testing.AllocsPerRun(1000, func() {
		core.Received(m)
		core.Receive()
		_ = core.Send(m)
		core.Next()
		core.Sent()
		core.Take()
	}); got > 0 {
		t.Errorf("the core allocates %v times for a message each way", got)
	}
}

// BenchmarkSession is a message each way, through the session but not the transport.
func BenchmarkSession(b *testing.B) {
	core := session.NewElement(session.NewElementConfig(session.ElementConfig{Cards: session.CardNever}), nil)
	s := &Session{l: &Listener{}, core: core, assoc: new(carrier.Assoc), readable: make(chan struct{}, 1), writable: make(chan struct{}, 1), done: make(chan struct{})}
	ev := sctp.Event{Type: sctp.Received, Message: sctp.Message{Data: make([]byte, 100), PPID: 7}}
	b.ReportAllocs()
	for b.Loop() {
		s.handle(nil, ev)
		m, err := s.Receive(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		_ = m
	}
}
