package pe

import (
	"context"
	"fmt"
	"net/netip"
	"runtime"
	"testing"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/session"
	"github.com/rserpool/coredns-rserpool/internal/session/carrier"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// TestSessionMemory: 10,000 sessions take at most 4 KiB each above their associations.
func TestSessionMemory(t *testing.T) {
	const n = 10000
	l := newListener(ListenConfig{Cards: CardsNever, MaxSessions: n, MaxSessionsPerHost: n, Backlog: n}, session.NewElementConfig(session.ElementConfig{}))
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

// BenchmarkEcho is a message to an element and back, over SCTP in UDP on the loopback: to a
// bare association that echoes, and to a session.
func BenchmarkEcho(b *testing.B) {
	loopback := netip.MustParseAddr("127.0.0.1")
	open := func() *carrier.Carrier {
		c, err := carrier.Open(carrier.Config{Via: rserpool.ViaUDP, Local: []netip.Addr{loopback}})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = c.Close() })
		return c
	}
	for _, with := range []bool{false, true} {
		b.Run(map[bool]string{false: "bare", true: "session"}[with], func(b *testing.B) {
			server, client := open(), open()
			l := newListener(ListenConfig{Cards: CardsNever, MaxSessions: 1, MaxSessionsPerHost: 1, Backlog: 1}, session.NewElementConfig(session.ElementConfig{Cards: session.CardNever}))
			accept := func(*carrier.Assoc, sctp.Event) carrier.Handler {
				return func(a *carrier.Assoc, ev sctp.Event) {
					if ev.Type == sctp.Received {
						_ = a.Send(ev.Message)
					}
				}
			}
			if with {
				accept = l.accept
				l.cfg.NotifySession = func(s *Session, ev SessionEvent) {
					if ev == SessionBegun {
						go func() {
							for {
								m, err := s.Receive(context.Background())
								if err != nil {
									return
								}
								_ = s.SendMessage(context.Background(), m)
							}
						}()
					}
				}
			}
			at, err := server.Listen([]netip.AddrPort{netip.AddrPortFrom(loopback, 0)}, accept)
			if err != nil {
				b.Fatal(err)
			}
			came := make(chan struct{}, 1)
			a := client.Connect(sctp.Dest{Addrs: at.LocalAddrs(), Kind: rserpool.ViaUDP, EncapPort: at.EncapPort()}, func(_ *carrier.Assoc, ev sctp.Event) {
				if ev.Type == sctp.Received {
					came <- struct{}{}
				}
			})
			data := make([]byte, 100)
			b.ReportAllocs()
			for b.Loop() {
				if err := a.Send(sctp.Message{Data: data, PPID: 7}); err != nil {
					b.Fatal(err)
				}
				<-came
			}
		})
	}
}
