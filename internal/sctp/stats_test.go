package sctp

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// keepLog keeps the lines that are logged from now on.
func (c *counters) keepLog() (lines func() string) {
	var mu sync.Mutex
	var b strings.Builder
	c.logf = func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(&b, format+"\n", args...)
	}
	return func() string {
		mu.Lock()
		defer mu.Unlock()
		return b.String()
	}
}

// TestCutsLogged: one line in ten seconds, which says how many there were before.
func TestCutsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n counters
		peer := netip.MustParseAddrPort("192.0.2.1:3863")
		n.cut(UDP, peer, errStalled) // nobody wants to know
		lines := n.keepLog()
		for range 1000 {
			n.cut(UDP, peer, errors.New("message is too long"))
			n.refuse(TCP, peer, errors.New("no room"))
			time.Sleep(10 * time.Millisecond)
		}
		n.refuse(TCP, peer, errors.New("no room"))
		want := "sctp: ended the association (udp) with 192.0.2.1:3863: message is too long\n" +
			"sctp: refused an association (tcp) to 192.0.2.1:3863: no room (1999 more peers were cut off or refused since the last line like this)\n"
		if got := lines(); got != want {
			t.Errorf("Got %q, want %q", got, want)
		}
		if s := n.stats(); s.Overruns != 1001 || s.Refused != 1001 {
			t.Errorf("Got %d cut off and %d refused, want 1001 each", s.Overruns, s.Refused)
		}
	})
}

// TestUDPCutLogged has a peer break the protocol, and another take nothing.
func TestUDPCutLogged(t *testing.T) {
	for _, tt := range []struct {
		name, want string
		do         func(y *site, a AssocID, p *rawPeer)
	}{
		{"violation", "SACK of a wrong length", func(_ *site, _ AssocID, p *rawPeer) { p.send(chunk{typ: chunkSack, body: make([]byte, 5)}) }},
		{"stalled", errStalled.Error(), func(y *site, a AssocID, p *rawPeer) {
			_ = y.Send(a, Message{Data: []byte("x")})
			for _, c := p.recv(); c.typ != chunkAbort; _, c = p.recv() {
				if c.typ == chunkHeartbeat {
					p.send(chunk{typ: chunkHeartbeatAck, body: c.body})
				}
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			onRaw(t, Limits{Stalled: time.Minute}, func(t *testing.T, _ *wire, y *site, p *rawPeer) {
				lines := y.mux().n.keepLog()
				p.connect()
				tt.do(y, y.next(Up).Assoc, p)
				for ev := range y.events {
					if ev.Type == Down {
						break
					}
				}
				if got, want := lines(), "sctp: ended the association (udp) with 10.0.0.3:7777: "+tt.want+"\n"; got != want {
					t.Errorf("Got %q, want %q", got, want)
				}
				if n := y.mux().n.overruns.Load(); n != 1 {
					t.Errorf("Got %d cuts counted, want 1", n)
				}
			})
		})
	}
}

// TestTCPCutLogged has a peer send an impossible length.
func TestTCPCutLogged(t *testing.T) {
	s, x, addr := tcpSite(t, Limits{})
	lines := s.tcp.keepLog()
	c := dialTCP(t, addr)
	x.next(Up)
	_, _ = c.Write([]byte{1, 0, 0, 2})
	x.next(Down)
	if got, want := lines(), fmt.Sprintf("sctp: ended the association (tcp) with %v: ", c.LocalAddr()); !strings.HasPrefix(got, want) {
		t.Errorf("Got %q, want %q first", got, want)
	}
}
