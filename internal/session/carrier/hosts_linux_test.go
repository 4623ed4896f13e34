package carrier

import (
	"bytes"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/kernel"
	"github.com/rserpool/coredns-rserpool/internal/sctp/localaddr"
	"github.com/rserpool/coredns-rserpool/internal/sctp/stack"
	"github.com/rserpool/coredns-rserpool/rserpool"
	"github.com/rserpool/coredns-rserpool/test/here"
	"github.com/rserpool/coredns-rserpool/test/network"
)

// carrierOn is a Carrier on a host, in the place of Open.
func carrierOn(t *testing.T, h *network.Host, via sctp.Kind, encap uint16) *Carrier {
	t.Helper()
	m := localaddr.New(func(string, ...any) {})
	m.Inside = func(f func()) { _ = h.Do(func() error { f(); return nil }) }
	m.Read = func() (s localaddr.State, err error) {
		m.Inside(func() { s, err = localaddr.Read() })
		return s, err
	}
	m.Source = func(to netip.Addr) (a netip.Addr, err error) {
		m.Inside(func() { a, err = localaddr.Source(to) })
		return a, err
	}
	s, err := stack.New(stack.Config{Only: via, EncapPort: encap, Machine: m})
	if err != nil {
		t.Fatal(err)
	}
	c, err := Open(Config{Via: via, Listen: func(cfg sctp.ListenConfig, handler sctp.Handler) (ep sctp.Endpoint, err error) {
		m.Inside(func() { ep, err = s.Listen(cfg, handler) })
		return ep, err
	}})
	if err != nil {
		t.Fatal(err)
	}
	c.stack = s
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// echoOn is an element on a host that sends back what it gets, as registrars describe it.
func echoOn(t *testing.T, c *Carrier, addr string, encap uint16) *rserpool.PoolElement {
	t.Helper()
	at := netip.MustParseAddr(addr)
	l, err := c.Listen([]netip.AddrPort{netip.AddrPortFrom(at, 0)}, func(*Assoc, sctp.Event) Handler {
		return func(a *Assoc, ev sctp.Event) {
			if ev.Type == sctp.Received {
				if err := a.Send(ev.Message); err != nil {
					t.Errorf("echo: %v", err)
				}
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return &rserpool.PoolElement{UserEncapPort: encap, UserTransport: rserpool.Transport{
		Type: rserpool.SCTP, Port: l.LocalAddrs()[0].Port(), Addrs: []netip.Addr{at},
	}}
}

// session is an association with an element.
type session struct {
	*Assoc
	t      *testing.T
	events chan sctp.Event
}

func dial(t *testing.T, c *Carrier, e *rserpool.PoolElement, via sctp.Kind) *session {
	t.Helper()
	to, ok := DestOf(e, via)
	if !ok {
		t.Fatal("no destination")
	}
	s := &session{t: t, events: make(chan sctp.Event, 100)}
	s.Assoc = c.Connect(to, func(_ *Assoc, ev sctp.Event) { s.events <- ev })
	return s
}

// next waits for an event of a type.
func (s *session) next(typ sctp.EventType) sctp.Event {
	s.t.Helper()
	for {
		select {
		case ev := <-s.events:
			switch ev.Type {
			case typ:
				return ev
			case sctp.PeerAddrs, sctp.Up:
			default:
				s.t.Fatalf("Got %v, want type %d", ev, typ)
			}
		case <-time.After(20 * time.Second):
			s.t.Fatalf("Got no event, want type %d", typ)
		}
	}
}

// echoes sends messages and waits for them.
func (s *session) echoes() {
	s.t.Helper()
	for i, size := range []int{10, 60_000, 1} {
		m := sctp.Message{Data: bytes.Repeat([]byte{byte(i)}, size), PPID: uint32(33 + i)}
		if err := s.Send(m); err != nil {
			s.t.Fatal(err)
		}
		if got := s.next(sctp.Received).Message; got.PPID != m.PPID || !bytes.Equal(got.Data, m.Data) {
			s.t.Fatalf("Got %d bytes with PPID %d, want %d with %d", len(got.Data), got.PPID, size, m.PPID)
		}
	}
}

// TestEncapsulated has sessions between SCTP in UDP in user space and the kernel's own, in
// both directions.
func TestEncapsulated(t *testing.T) {
	if !kernel.Supported() {
		t.Skip("the kernel has no SCTP: run test/lab/gotest ./internal/session/carrier")
	}
	n := network.New(t)
	hk, hu := n.Host("kernel", "10.98.1.1/24"), n.Host("user", "10.98.1.2/24")
	hk.Sysctl("net.sctp.udp_port=9899")
	hk.IP("link set eth0 gso_max_size 1500") // a veth leaves the segmentation to the receiver
	const kernelPort, userPort = 9899, 9901
	for _, tt := range []struct {
		name           string
		element, user  *network.Host
		at             string
		port           uint16
		elementVia, by sctp.Kind
	}{
		{"element in the kernel", hk, hu, "10.98.1.1", kernelPort, sctp.Kernel, sctp.UDP},
		{"user in the kernel", hu, hk, "10.98.1.2", userPort, sctp.UDP, sctp.Kernel},
		{"both in user space", hu, hu, "10.98.1.2", userPort, sctp.UDP, sctp.UDP},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x := carrierOn(t, tt.element, tt.elementVia, map[bool]uint16{true: userPort}[tt.elementVia == sctp.UDP])
			u := carrierOn(t, tt.user, tt.by, 0)
			e := echoOn(t, x, tt.at, tt.port)
			var all []*session
			for range 3 {
				s := dial(t, u, e, sctp.UDP)
				s.echoes()
				all = append(all, s)
			}
			for _, s := range all {
				s.echoes()
				s.Shutdown()
				s.next(sctp.Down)
			}
		})
	}
}

// TestMoved moves a user to another address: its association ends at once, and the next
// one comes up from there.
func TestMoved(t *testing.T) {
	n := network.New(t)
	hu, he := n.Host("user", "10.98.1.1/24"), n.Host("element", "10.98.1.2/24")
	u, x := carrierOn(t, hu, sctp.UDP, 0), carrierOn(t, he, sctp.UDP, 9901)
	e := echoOn(t, x, "10.98.1.2", 9901)
	s := dial(t, u, e, sctp.UDP)
	s.echoes()
	hu.IP("addr flush dev eth0")
	hu.IP("addr add 10.98.1.9/24 dev eth0")
	start := time.Now()
	if ev := s.next(sctp.Down); ev.Reason != sctp.Lost || !errors.Is(ev.Err, sctp.ErrAddrGone) {
		t.Errorf("Got %v, want Lost and %v", ev, sctp.ErrAddrGone)
	}
	noticed := time.Since(start)
	s = dial(t, u, e, sctp.UDP)
	s.echoes()
	took := time.Since(start)
	t.Logf("lost after %v, echo from the new address after %v", noticed, took)
	if took > here.Paced(t, 2*time.Second) {
		t.Errorf("the echo from the new address came after %v", took)
	}
}
