package sctptest

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
)

// logged is an endpoint of a Network with the log of its events.
type logged struct {
	sctp.Endpoint
	t   *testing.T
	mu  sync.Mutex
	log []string
	ids []sctp.AssocID // of Up
}

func listen(t *testing.T, nw *Network, addrs ...string) *logged {
	t.Helper()
	x := &logged{t: t}
	var cfg sctp.ListenConfig
	for _, a := range addrs {
		cfg.Addrs = append(cfg.Addrs, netip.MustParseAddrPort(a))
	}
	e, err := nw.Listen(cfg, func(ev sctp.Event) {
		x.mu.Lock()
		defer x.mu.Unlock()
		switch ev.Type {
		case sctp.Up:
			x.ids = append(x.ids, ev.Assoc)
			x.log = append(x.log, fmt.Sprintf("up %v", ev.Peer))
		case sctp.PeerAddrs:
			x.log = append(x.log, fmt.Sprintf("peer %v", ev.Peer))
		case sctp.Received:
			x.log = append(x.log, fmt.Sprintf("received %s/%d/%d", ev.Message.Data, ev.Message.PPID, ev.Message.Stream))
		case sctp.SendFailed:
			x.log = append(x.log, fmt.Sprintf("failed %s", ev.Message.Data))
		case sctp.Writable:
			x.log = append(x.log, "writable")
		case sctp.Down:
			x.log = append(x.log, fmt.Sprintf("down %d", ev.Reason))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	x.Endpoint = e
	return x
}

// saw checks what has been handled since the last time.
func (x *logged) saw(want ...string) {
	x.t.Helper()
	synctest.Wait()
	x.mu.Lock()
	defer x.mu.Unlock()
	if diff := cmp.Diff(want, x.log); diff != "" {
		x.t.Errorf("Events (-want +got):\n%s", diff)
	}
	x.log = nil
}

func dest(addrs ...string) (d sctp.Dest) {
	for _, a := range addrs {
		d.Addrs = append(d.Addrs, netip.MustParseAddrPort(a))
	}
	return d
}

func TestMemory(t *testing.T) {
	const a1, b1, b2 = "10.0.0.1:3863", "10.0.0.2:3863", "10.1.0.2:3863"
	ip := netip.MustParseAddr
	up := func(addrs string) string { return "up [" + addrs + "]" }
	peer := func(addrs string) string { return "peer [" + addrs + "]" }
	tests := []struct {
		name string
		run  func(nw *Network, x, y *logged)
	}{
		{"messages and shutdown", func(nw *Network, x, y *logged) {
			a := x.Connect(dest(b1))
			if err := x.Send(a, sctp.Message{Data: []byte("one"), PPID: 11, Stream: 3}); err != nil {
				t.Error(err)
			}
			x.saw(up(b1), peer(b1+" "+b2))
			y.saw(up(a1), "received one/11/3")
			_ = y.Send(y.ids[0], sctp.Message{Data: []byte("two")})
			y.Shutdown(y.ids[0])
			x.saw("received two/0/0", "down 1")
			y.saw("down 5")
			if err := x.Send(a, sctp.Message{Data: []byte("three")}); !errors.Is(err, sctp.ErrNoAssoc) {
				t.Errorf("Send after Down: got %v, want ErrNoAssoc", err)
			}
		}},
		{"abort", func(nw *Network, x, y *logged) {
			x.Abort(x.Connect(dest(b1)))
			x.saw(up(b1), peer(b1+" "+b2), "down 5")
			y.saw(up(a1), "down 2")
		}},
		{"second address first", func(nw *Network, x, y *logged) {
			x.Connect(dest(b2, b1))
			x.saw(up(b2), peer(b2+" "+b1))
		}},
		{"nobody there", func(nw *Network, x, y *logged) {
			x.Connect(dest("10.0.0.9:1"))
			x.saw("down 4")
		}},
		{"connected already", func(nw *Network, x, y *logged) {
			x.Connect(dest(b1))
			x.saw(up(b1), peer(b1+" "+b2))
			y.saw(up(a1))
			y.Connect(dest(a1))
			y.saw("down 4")
		}},
		{"killed", func(nw *Network, x, y *logged) {
			x.Connect(dest(b1))
			x.saw(up(b1), peer(b1+" "+b2))
			nw.Kill(y.Endpoint)
			x.saw("down 2")
			x.Connect(dest(b1))
			x.saw("down 4")
		}},
		{"frozen", func(nw *Network, x, y *logged) {
			a := x.Connect(dest(b1))
			x.saw(up(b1), peer(b1+" "+b2))
			y.saw(up(a1))
			nw.Freeze(y.Endpoint)
			_ = x.Send(a, sctp.Message{Data: []byte("lost")})
			time.Sleep(nw.lostTime - 1)
			x.saw()
			time.Sleep(time.Nanosecond)
			x.saw("failed lost", "down 3")
			x.Connect(dest(b1))
			time.Sleep(nw.handshakeTime - 1)
			x.saw()
			time.Sleep(time.Nanosecond)
			x.saw("down 4")
			y.saw()
		}},
		{"cut and healed", func(nw *Network, x, y *logged) {
			a := x.Connect(dest(b1))
			x.saw(up(b1), peer(b1+" "+b2))
			nw.Cut(ip("10.0.0.1"), ip("10.0.0.2"))
			_ = x.Send(a, sctp.Message{Data: []byte("around")})
			y.saw(up(a1), "received around/0/0")
			nw.Cut(ip("10.1.0.2"), ip("10.0.0.1"))
			_ = x.Send(a, sctp.Message{Data: []byte("held")})
			y.saw()
			nw.Heal(ip("10.0.0.1"), ip("10.0.0.2"))
			y.saw("received held/0/0")
			time.Sleep(2 * nw.lostTime)
			x.saw()
		}},
		{"an address that does not answer at first", func(nw *Network, x, y *logged) {
			nw.Cut(ip("10.0.0.1"), ip("10.1.0.2"))
			x.Connect(dest(b1))
			x.saw(up(b1))
			nw.Heal(ip("10.0.0.1"), ip("10.1.0.2"))
			x.saw(peer(b1 + " " + b2))
			nw.Cut(ip("10.0.0.1"), ip("10.1.0.2"))
			x.saw()
		}},
		{"call over a cut", func(nw *Network, x, y *logged) {
			nw.Cut(ip("10.0.0.1"), ip("10.0.0.2"))
			a := x.Connect(dest(b1))
			_ = x.Send(a, sctp.Message{Data: []byte("early")})
			time.Sleep(nw.handshakeTime - 1)
			nw.Heal(ip("10.0.0.2"), ip("10.0.0.1"))
			x.saw(up(b1), peer(b1+" "+b2))
			y.saw(up(a1), "received early/0/0")
		}},
		{"queue full", func(nw *Network, x, y *logged) {
			a := x.Connect(dest(b1))
			nw.Freeze(y.Endpoint)
			n := 0
			for x.Send(a, sctp.Message{Data: []byte("x")}) == nil {
				n++
			}
			if n != 4096 {
				t.Errorf("Got %d messages into the queue, want 4096", n)
			}
		}},
		{"paused", func(nw *Network, x, y *logged) {
			a := x.Connect(dest(b1))
			x.saw(up(b1), peer(b1+" "+b2))
			y.saw(up(a1))
			y.Pause(y.ids[0])
			for x.Send(a, sctp.Message{Data: []byte("x")}) == nil {
			}
			x.saw()
			y.saw()
			y.Resume(y.ids[0])
			x.saw("writable")
			y.log = nil
		}},
		{"vanished", func(nw *Network, x, y *logged) {
			x.Connect(dest(b1))
			x.saw(up(b1), peer(b1+" "+b2))
			nw.Vanish(y.Endpoint)
			x.Heartbeat(x.ids[0])
			x.saw("down 3")
			y2 := listen(x.t, nw, b1, b2)
			x.Connect(dest(b1))
			x.saw(up(b1), peer(b1+" "+b2))
			nw.Vanish(y2.Endpoint)
			y3 := listen(x.t, nw, b1, b2)
			_ = x.Send(x.ids[1], sctp.Message{Data: []byte("hello")})
			x.saw("failed hello", "down 2")
			x.Connect(dest(b1))
			x.saw(up(b1), peer(b1+" "+b2))
			nw.Vanish(y3.Endpoint)
			y4 := listen(x.t, nw, b1, b2)
			y4.Connect(dest(a1))
			x.saw("down 2", up(b1), peer(b1+" "+b2))
		}},
		{"closed", func(nw *Network, x, y *logged) {
			x.Connect(dest(b1))
			x.saw(up(b1), peer(b1+" "+b2))
			y.Close()
			y.saw(up(a1), "down 5")
			x.saw("down 2")
			if id := y.Connect(dest(a1)); id != 0 {
				t.Errorf("Connect after Close: got %d, want 0", id)
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				nw := NewNetwork()
				tt.run(nw, listen(t, nw, a1), listen(t, nw, b1, b2))
			})
		})
	}
}

// TestMemoryBothCall has both sides call before either is told of the other's.
func TestMemoryBothCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := NewNetwork()
		gate := make(chan struct{})
		var mu sync.Mutex
		var ups []sctp.AssocID
		listen := func(addr string) sctp.Endpoint {
			e, err := nw.Listen(On(addr), func(ev sctp.Event) {
				<-gate
				mu.Lock()
				defer mu.Unlock()
				if ev.Type == sctp.Up {
					ups = append(ups, ev.Assoc)
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			return e
		}
		z, x, y := listen("10.0.0.3:1"), listen("10.0.0.1:1"), listen("10.0.0.2:1")
		z.Connect(dest("10.0.0.1:1"))
		z.Connect(dest("10.0.0.2:1"))
		synctest.Wait() // both Handlers wait at the gate
		a, b := x.Connect(dest("10.0.0.2:1")), y.Connect(dest("10.0.0.1:1"))
		gate <- struct{}{}
		close(gate)
		synctest.Wait()
		if !slices.Contains(ups, a) || !slices.Contains(ups, b) || len(ups) != 6 {
			t.Errorf("Got Up of %v, want six with %d and %d", ups, a, b)
		}
		for _, e := range []sctp.Endpoint{x, y, z} {
			e.Close()
		}
	})
}
