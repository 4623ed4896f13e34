package client

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/hunt"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
	"github.com/rserpool/coredns-rserpool/rserpool"
	"github.com/rserpool/coredns-rserpool/test/here"
)

// TestAnnounceGroup: announces sent to the group on loopback are heard; what
// is sent to the port itself is not.
func TestAnnounceGroup(t *testing.T) {
	group := netip.AddrPortFrom(netip.MustParseAddr("239.255.77.77"), here.FreePort(t))
	tr, err := Open(Config{Via: rserpool.ViaUDP, Local: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, AnnounceGroup: group})
	if err != nil {
		t.Skipf("LEFT OUT: no multicast here: %v", err)
	}
	defer tr.Close()
	other, err := Open(Config{Via: rserpool.ViaUDP, Local: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, AnnounceGroup: group})
	if err != nil {
		t.Fatalf("a second process cannot listen: %v", err)
	}
	defer other.Close()

	send := func(to netip.AddrPort, text string) netip.AddrPort {
		t.Helper()
		c, err := net.DialUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}, net.UDPAddrFromAddrPort(to))
		if err != nil {
			t.Skipf("LEFT OUT: no multicast here: %v", err)
		}
		defer c.Close()
		if _, err := c.Write([]byte(text)); err != nil {
			t.Skipf("LEFT OUT: no multicast here: %v", err)
		}
		return c.LocalAddr().(*net.UDPAddr).AddrPort()
	}
	send(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), group.Port()), "unicast")
	from := send(group, "announce")
	for _, tr := range []*Transport{tr, other} {
		select {
		case ev := <-tr.Events():
			if string(ev.announce) != "announce" || ev.from != from {
				t.Errorf("heard %q from %v, want the announce from %v", ev.announce, ev.from, from)
			}
		case <-time.After(5 * time.Second):
			t.Error("the announce is not heard within 5 s")
		}
	}
}

func TestOpenErrors(t *testing.T) {
	for name, c := range map[string]struct {
		cfg  Config
		want string
	}{
		"several ports": {Config{Via: rserpool.ViaUDP, Local: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:1"), netip.MustParseAddrPort("127.0.0.1:2")}}, "127.0.0.1"},
		"no multicast":  {Config{Via: rserpool.ViaUDP, AnnounceGroup: netip.MustParseAddrPort("192.0.2.1:1")}, "not a multicast address"},
	} {
		t.Run(name, func(t *testing.T) {
			tr, err := Open(c.cfg)
			if err == nil {
				tr.Close()
				t.Fatal("no error")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

// TestLocalNotThere: an address that the machine does not have yet is no error
// of Open, but the reason why no association can be started.
func TestLocalNotThere(t *testing.T) {
	tr, err := Open(Config{Via: rserpool.ViaUDP, Local: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:0")}})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	var why error
	tr.Perform([]hunt.Action{hunt.Connect{Ref: 1, To: rserpool.MustParseRegistrar("127.0.0.1:3863")}, hunt.Send{Assoc: 1}, hunt.Close{Assoc: 1}},
		func(_ uint64, a sctp.AssocID, err error) { why = err },
		func(sctp.AssocID, error) {})
	if !errors.Is(why, syscall.EADDRNOTAVAIL) || !strings.Contains(why.Error(), "192.0.2.1") {
		t.Errorf("Connect fails with %v, want EADDRNOTAVAIL of 192.0.2.1", why)
	}
}

// TestPortTaken: while a port of its own is taken, that is why no association can be started,
// not a registrar or a missing address.
func TestPortTaken(t *testing.T) {
	taken, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := taken.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	tr, err := Open(Config{Via: rserpool.ViaUDP, Unbound: true, EncapPort: port})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	connect := func() (why error) {
		tr.Perform([]hunt.Action{hunt.Connect{Ref: 1, To: rserpool.MustParseRegistrar("127.0.0.1:3863")}},
			func(_ uint64, _ sctp.AssocID, err error) { why = err }, nil)
		return why
	}
	if why := connect(); !errors.Is(why, errNoLocalAddr) {
		t.Errorf("before Bind, Connect fails with %v, want errNoLocalAddr", why)
	}
	bound := tr.Bind([]netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")})
	var listen *ListenError
	if why := connect(); !errors.As(why, &listen) || !errors.Is(why, syscall.EADDRINUSE) || why.Error() != bound.Error() {
		t.Errorf("Connect fails with %v, want %v", why, bound)
	}
	taken.Close()
	if err := tr.Bind([]netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}); err != nil {
		t.Fatal(err)
	}
	if why := connect(); why != nil {
		t.Errorf("when the port is free, Connect fails with %v", why)
	}
}

// TestBindAgain: associations from a former address live on until they end;
// then its sockets are closed.
func TestBindAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := sctptest.NewNetwork()
		far, err := nw.Listen(sctp.ListenConfig{Addrs: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.9:3863")}}, func(sctp.Event) {})
		if err != nil {
			t.Fatal(err)
		}
		defer far.Close()
		tr, err := Open(Config{Listen: nw.Listen, Unbound: true})
		if err != nil {
			t.Fatal(err)
		}
		defer tr.Close()
		connect := func(from string) (id sctp.AssocID) {
			t.Helper()
			if err := tr.Bind([]netip.AddrPort{netip.MustParseAddrPort(from)}); err != nil {
				t.Fatal(err)
			}
			tr.Perform([]hunt.Action{hunt.Connect{Ref: 1, To: rserpool.Registrar{Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.9")}, Port: 3863}}},
				func(_ uint64, a sctp.AssocID, _ error) { id = a }, nil)
			if ev := <-tr.Events(); ev.Type != sctp.Up || ev.Assoc != id {
				t.Fatalf("event %+v, want Up of %d", ev, id)
			}
			return id
		}
		first := connect("10.0.0.1:0")
		connect("10.0.0.2:0")
		tr.Perform([]hunt.Action{hunt.Send{Assoc: first, Data: []byte("x")}}, nil, func(_ sctp.AssocID, err error) { t.Errorf("over the former address: %v", err) })
		tr.Perform([]hunt.Action{hunt.Close{Assoc: first}}, nil, nil)
		if ev := <-tr.Events(); ev.Type != sctp.Down || ev.Assoc != first {
			t.Fatalf("event %+v, want Down of %d", ev, first)
		}
		synctest.Wait()
		again, err := nw.Listen(sctp.ListenConfig{Addrs: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:49152")}}, func(sctp.Event) {})
		if err != nil {
			t.Fatalf("the former address is still bound: %v", err)
		}
		_ = again.Close()
	})
}

// TestLookupShared: a name is looked up once at a time, and Close ends it.
func TestLookupShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := sctptest.NewNetwork()
		asked := 0
		tr, err := Open(Config{Listen: nw.Listen, Unbound: true, LookupHost: func(ctx context.Context, host string) ([]netip.Addr, error) {
			asked++
			<-ctx.Done()
			return nil, ctx.Err()
		}})
		if err != nil {
			t.Fatal(err)
		}
		for ref := range uint64(100) {
			tr.Perform([]hunt.Action{hunt.Lookup{Ref: ref, Of: rserpool.Registrar{Host: "registrar.example.org", Port: 3863}}}, nil, nil)
		}
		ev := <-tr.Events()
		if ev.found == nil || ev.found.Ref != 99 || !errors.Is(ev.found.Err, context.DeadlineExceeded) || asked != 1 {
			t.Errorf("%d lookups, event %+v, want one and the last one's end", asked, ev.found)
		}
		tr.Perform([]hunt.Action{hunt.Lookup{Ref: 100, Of: rserpool.Registrar{Host: "registrar.example.org", Port: 3863}}}, nil, nil)
		synctest.Wait()
		if err := tr.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestDownError(t *testing.T) {
	for want, ev := range map[string]sctp.Event{
		"the peer has aborted the association": {Reason: sctp.PeerAbort},
		"refused":                              {Reason: sctp.ConnectFailed, Err: errors.New("refused")},
		"the association has ended":            {},
		"x":                                    {Err: errors.New("x")},
	} {
		if got := DownError(ev).Error(); got != want {
			t.Errorf("%+v is %q, want %q", ev, got, want)
		}
	}
}
