package hostile

import (
	"crypto/tls"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
	"github.com/rserpool/coredns-rserpool/internal/sctp/secure"
	"github.com/rserpool/coredns-rserpool/internal/sctp/stack"
	"github.com/rserpool/coredns-rserpool/rserpool"
	"github.com/rserpool/coredns-rserpool/test/here"
)

// place is an address at which an element was, and then somebody else is.
type place struct {
	t  *testing.T
	ep sctp.Endpoint

	mu    sync.Mutex
	who   *papers
	assoc sctp.AssocID // the last one
	up    chan sctp.AssocID
}

// occupy begins with an element that acknowledges keep-alives.
func (s *scope) occupy(p *papers) *place {
	s.t.Helper()
	l := &place{t: s.t, who: p, up: make(chan sctp.AssocID, 100)}
	shown := func() *tls.Config {
		l.mu.Lock()
		defer l.mu.Unlock()
		c := l.who.config()
		c.ClientAuth = tls.RequestClientCert
		return c
	}
	via, err := stack.New(stack.Config{
		Only: sctp.UDP, EncapPort: here.FreePort(s.t),
		Framing: sctp.Framing{HeadLen: asap.HeaderLen, Len: asap.MessageLen, Align: 4, PPID: asap.PPID},
		TLS: &secure.Config{Client: shown, Server: sctptest.ToAll(shown), Identify: func(tls.ConnectionState) (string, time.Time, error) {
			return "", time.Time{}, nil
		}},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = via.Close() })
	ready := make(chan struct{})
	at := netip.AddrPortFrom(loopback, uint16(10_000+lanes.Add(1)%50_000))
	l.ep, err = via.Listen(sctp.ListenConfig{Addrs: []netip.AddrPort{at}, PPID: asap.PPID}, func(ev sctp.Event) {
		<-ready
		l.handle(ev)
	})
	close(ready)
	if err != nil {
		s.t.Fatal(err)
	}
	return l
}

func (l *place) handle(ev sctp.Event) {
	switch ev.Type {
	case sctp.Up:
		l.mu.Lock()
		l.assoc = ev.Assoc
		l.mu.Unlock()
		l.up <- ev.Assoc
	case sctp.Received:
		m, _, err := asap.Parse(ev.Message.Data)
		if ask, ok := m.(*asap.EndpointKeepAlive); ok && err == nil {
			b, err := (&asap.EndpointKeepAliveAck{Handle: ask.Handle, ID: ask.ID}).Append(nil)
			if err != nil {
				l.t.Error(err)
				return
			}
			_ = l.ep.Send(ev.Assoc, sctp.Message{Data: b, PPID: asap.PPID})
		}
	case sctp.Down, sctp.SendFailed, sctp.PeerAddrs, sctp.Writable, sctp.PeerDone:
	}
}

// register has the element register.
func (l *place) register(s *scope, pool string, id uint32) {
	l.t.Helper()
	l.ep.Connect(sctp.Dest{Addrs: []netip.AddrPort{s.asap}, Kind: sctp.UDP, EncapPort: s.encap})
	select {
	case a := <-l.up:
		if err := l.ep.Send(a, sctp.Message{Data: wire(l.t, registration(pool, id, loopback)), PPID: asap.PPID}); err != nil {
			l.t.Fatal(err)
		}
	case <-time.After(patience):
		l.t.Fatal("no association within 30 s")
	}
}

// becomes has somebody else be there, and ends the association: the server calls.
func (l *place) becomes(p *papers) {
	l.mu.Lock()
	l.who = p
	a := l.assoc
	l.mu.Unlock()
	l.ep.Abort(a)
}

// TestDisplaced has somebody else answer where an element was: with the certificate of another
// pool, or with one of another authority. That does not remove the element, but clients are sent
// there only while the pool has nothing else.
func TestDisplaced(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	s := trustedScope(t)
	for _, tt := range []struct {
		name, pool string
		impostor   *papers
	}{
		{"another pool", "held-1", s.ca.valid(inPool(t, "other", "1"))},
		{"another authority", "held-2", newIssuer(t).valid(inPool(t, "held-2", "1"))},
	} {
		t.Run(tt.name, func(t *testing.T) { s.within(t).displace(tt.pool, tt.impostor) })
	}
}

func (s *scope) displace(pool string, impostor *papers) {
	t := s.t
	p := s.ca.valid(inPool(t, rserpool.PoolHandle(pool), "1"))
	l := s.occupy(p)
	l.register(s, pool, 1)
	wait(t, "element", func() bool { return len(s.elements(pool)) == 1 })
	count := func(reason string) int { return s.stat("suspected_total", `reason="`+reason+`"`) }
	before := count("displaced")
	l.becomes(impostor)
	wait(t, "displaced element", func() bool { return count("displaced") == before+1 })
	s.want(pool, 1) // there is no other one

	before = count("no_ack")
	if got := register(t, s.call(p), pool, 2); got != "granted" { // it acknowledges nothing
		t.Fatal(got)
	}
	only := func(id rserpool.PEID) bool {
		got := s.elements(pool)
		_, ok := got[id]
		return ok && len(got) == 1
	}
	if !only(2) {
		t.Errorf("got %v, want the other element", s.elements(pool))
	}
	wait(t, "silent element", func() bool { return count("no_ack") > before })
	if !only(2) {
		t.Errorf("got %v, want the one that is only silent", s.elements(pool))
	}
	if n := s.stat("elements_removed_total", `reason="untrusted"`); n != 0 {
		t.Errorf("%d elements are removed for their certificates", n)
	}
	l.becomes(p) // it answers the next call
	wait(t, "element that is back", func() bool { return only(1) })
}
