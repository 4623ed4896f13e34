package multicast

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/test/here"
	"go.uber.org/goleak"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type datagram struct {
	from netip.AddrPort
	data string
}

// join joins a group whose datagrams the channel gets, as many as it has room for.
func join(t *testing.T, addr netip.AddrPort) (*Group, chan datagram) {
	t.Helper()
	heard := make(chan datagram, 1000)
	g, err := Join(addr, func(from netip.AddrPort, data []byte) {
		select {
		case heard <- datagram{from, string(data)}:
		default:
		}
	}, func(_ bool, text string) { t.Log(text) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	return g, heard
}

// patience is longer than any datagram takes.
const patience = 10 * time.Second

// needMulticast leaves a test out if no interface of the machine carries the group's
// datagrams between two plain sockets.
func needMulticast(t *testing.T, addr netip.AddrPort) {
	t.Helper()
	ifs, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	var why []error
	for i := range ifs {
		if ifs[i].Flags&net.FlagUp == 0 {
			continue
		}
		err := carries(&ifs[i], addr)
		if err == nil {
			return
		}
		why = append(why, fmt.Errorf("%s: %w", ifs[i].Name, err))
	}
	t.Skipf("LEFT OUT: no interface carries multicast here: %v", why)
}

// carries sends a datagram to a group on an interface, and waits for it there.
func carries(ifi *net.Interface, addr netip.AddrPort) error {
	network, from := "udp4", "0.0.0.0:0"
	if addr.Addr().Is6() {
		network, from = "udp6", "[::]:0"
	}
	to := net.UDPAddrFromAddrPort(addr)
	r, err := net.ListenMulticastUDP(network, ifi, to)
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := net.ListenPacket(network, from)
	if err != nil {
		return err
	}
	defer w.Close()
	if addr.Addr().Is6() {
		_, err = ipv6.NewPacketConn(w).WriteTo([]byte("x"), &ipv6.ControlMessage{IfIndex: ifi.Index}, to)
	} else {
		_, err = ipv4.NewPacketConn(w).WriteTo([]byte("x"), &ipv4.ControlMessage{IfIndex: ifi.Index}, to)
	}
	if err != nil {
		return err
	}
	if err := r.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return err
	}
	_, _, err = r.ReadFrom(make([]byte, 1))
	return err
}

// TestGroup: two sockets in a group receive what one of them sends, from the group's
// port, cut off if it is long. What is sent to the port itself is not delivered.
func TestGroup(t *testing.T) {
	for _, tt := range []struct{ name, group, self string }{
		{"IPv4", "239.255.42.45", "127.0.0.1"},
		{"IPv6", "ff01::45", "::1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if strings.Contains(tt.group, ":") {
				here.IPv6(t)
			}
			addr := netip.AddrPortFrom(netip.MustParseAddr(tt.group), here.FreePort(t))
			needMulticast(t, addr)
			one, heardOne := join(t, addr)
			two, heardTwo := join(t, addr)
			direct, err := net.Dial("udp", netip.AddrPortFrom(netip.MustParseAddr(tt.self), addr.Port()).String())
			if err != nil {
				t.Fatal(err)
			}
			defer direct.Close()
			if _, err := direct.Write([]byte("direct")); err != nil {
				t.Fatal(err)
			}
			two.Changed()
			for _, text := range []string{"hello", strings.Repeat("x", maxDatagram+7)} {
				one.Send([]byte(text))
				for i, heard := range []chan datagram{heardOne, heardTwo} {
					want := text[:min(len(text), maxDatagram)]
					for got := ""; got != want; {
						select {
						case d := <-heard:
							if d.from.Port() != addr.Port() || d.from.Addr().Is4In6() || d.data == "direct" {
								t.Fatalf("socket %d got %.10q from %v, want one from port %d", i, d.data, d.from, addr.Port())
							}
							got = d.data
						case <-time.After(patience):
							t.Fatalf("socket %d got nothing in %v, want %.10q", i, patience, want)
						}
					}
				}
			}
		})
	}
}

func TestJoinRefuses(t *testing.T) {
	for _, addr := range []string{"192.0.2.1:1", "239.0.0.1:0"} {
		g, err := Join(netip.MustParseAddrPort(addr), nil, nil)
		if err == nil || !strings.Contains(err.Error(), addr+" is not a multicast address with a port") {
			t.Errorf("got %v and error %v", g, err)
		}
	}
}

// failing sends nothing on one interface for a while.
type failing struct {
	socket
	mu   sync.Mutex
	fail bool
	sent chan struct{}
}

func (f *failing) Close() error { return nil }

func (f *failing) send([]byte, int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer func() { f.sent <- struct{}{} }()
	if f.fail {
		return net.ErrClosed
	}
	return nil
}

// TestInterfaceFails: an interface that sends nothing is counted each time, and
// logged once, and so is that it works again.
func TestInterfaceFails(t *testing.T) {
	f := &failing{sent: make(chan struct{})}
	var mu sync.Mutex
	var said []string
	g := newGroup(netip.MustParseAddrPort("239.0.0.1:1"), f, func(warn bool, text string) {
		mu.Lock()
		defer mu.Unlock()
		said = append(said, fmt.Sprint(warn, " ", text))
	})
	g.joined[7], g.joinedAt = &membership{name: "eth7", outer: true}, time.Now()
	for i := range 6 {
		f.mu.Lock()
		f.fail = i < 3
		f.mu.Unlock()
		g.Send([]byte("x"))
		<-f.sent
	}
	if err := g.Close(); err != nil {
		t.Error(err)
	}
	if g.Failed() != 3 {
		t.Errorf("%d are counted, want 3", g.Failed())
	}
	if len(said) != 2 || !strings.Contains(said[0], "true interface eth7 cannot send multicast to 239.0.0.1:1") || !strings.Contains(said[1], "again") {
		t.Errorf("got %q", said)
	}
}
