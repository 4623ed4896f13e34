package carrier

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// TestSessions has a user with several sessions to each of two elements.
func TestSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := sctptest.NewNetwork()
		u, x, y := newSide(t, nw, "10.0.0.1"), newSide(t, nw, "10.0.0.2"), newSide(t, nw, "10.0.0.3")
		x.serve("10.0.0.2:5001")
		y.serve("10.0.0.3:5001")
		x.echo = true
		a := u.Connect(dest("10.0.0.2:5001"), u.handle)
		b := u.Connect(dest("10.0.0.2:5001"), u.handle)
		c := u.Connect(dest("10.0.0.3:5001"), u.handle)
		u.say(a, "early")
		u.saw("1 up", "1 early", "2 up", "3 up")
		x.saw("1 up", "1 early", "2 up")
		if a.LocalAddrs()[0] == b.LocalAddrs()[0] || a.LocalAddrs()[0] != c.LocalAddrs()[0] {
			t.Errorf("Got local addresses %v, %v, %v, want one only for different peers", a.LocalAddrs(), b.LocalAddrs(), c.LocalAddrs())
		}
		u.say(b, "late")
		u.saw("2 late")
		x.saw("2 late")
		if got := x.assocs[0].Peer(); !slices.Equal(got, a.LocalAddrs()) {
			t.Errorf("Got peer %v, want %v", got, a.LocalAddrs())
		}
		a.Shutdown()
		x.assocs[1].Abort()
		u.saw("1 down 5", "2 down 2")
		x.saw("1 down 1", "2 down 5")
		if err := a.Send(sctp.Message{Data: []byte("x")}); !errors.Is(err, sctp.ErrNoAssoc) {
			t.Errorf("Send after Down: got %v, want %v", err, sctp.ErrNoAssoc)
		}
		d := u.Connect(dest("10.0.0.2:5001"), u.handle)
		u.saw("4 up")
		if d.LocalAddrs()[0] != c.LocalAddrs()[0] {
			t.Errorf("Got local address %v, want the free %v", d.LocalAddrs(), c.LocalAddrs())
		}
		if err := u.Close(); err != nil {
			t.Error(err)
		}
		u.saw("3 down 5", "4 down 5")
		if err := u.Connect(dest("10.0.0.2:5001"), u.handle).Send(sctp.Message{Data: []byte("x")}); !errors.Is(err, sctp.ErrNoAssoc) {
			t.Errorf("Send after Close: got %v, want %v", err, sctp.ErrNoAssoc)
		}
		u.saw()
	})
}

// TestConnectFails: a Connect that fails is an event, also if no endpoint can be opened.
func TestConnectFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := sctptest.NewNetwork()
		u := newSide(t, nw, "10.0.0.1")
		u.Connect(dest("10.0.0.2:5001"), u.handle)
		u.saw("1 down 4")
		u.listen = func(sctp.ListenConfig, sctp.Handler) (sctp.Endpoint, error) {
			return nil, errors.New("no port is left")
		}
		u.slots[0].users = 1 // in use, so that another one is needed
		u.peers[netip.MustParseAddrPort("10.0.0.2:5001")] = &slotSet{[]uint64{1}}
		u.Connect(dest("10.0.0.2:5001"), u.handle).Abort()
		u.saw("2 down 4")
	})
}

// TestRefused: the other side's Listener takes no more associations, and endpoints that
// connect take none.
func TestRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := sctptest.NewNetwork()
		u, x := newSide(t, nw, "10.0.0.1"), newSide(t, nw, "10.0.0.2")
		l, err := x.Listen([]netip.AddrPort{netip.MustParseAddrPort("10.0.0.2:5001")}, func(*Assoc, sctp.Event) Handler { return nil })
		if err != nil {
			t.Fatal(err)
		}
		u.Connect(dest("10.0.0.2:5001"), u.handle)
		u.saw("1 up", "1 down 2")
		b := x.Connect(sctp.Dest{Addrs: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:49152")}}, x.handle)
		x.saw(fmt.Sprintf("%d up", b.id), fmt.Sprintf("%d down 2", b.id))
		u.saw()
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		c := u.Connect(dest("10.0.0.2:5001"), u.handle)
		u.saw(fmt.Sprintf("%d down 4", c.id))
	})
}

// TestUnknownAddress: a peer is called at an address that another association with it has
// not told yet. Another endpoint is tried, with what was sent.
func TestUnknownAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := sctptest.NewNetwork()
		u, x := newSide(t, nw, "10.0.0.1"), newSide(t, nw, "10.0.0.2")
		x.echo = true
		at := []netip.AddrPort{netip.MustParseAddrPort("10.0.0.2:5001"), netip.MustParseAddrPort("10.1.0.2:5001")}
		if _, err := x.Listen(at, func(*Assoc, sctp.Event) Handler { return x.handle }); err != nil {
			t.Fatal(err)
		}
		u.Connect(dest("10.0.0.2:5001"), u.handle)
		b := u.Connect(dest("10.1.0.2:5001"), u.handle)
		u.say(b, "early")
		u.saw("1 up", "2 up", "2 early")
		u.Connect(dest("10.1.0.2:5001"), u.handle)
		u.saw("3 up")
		if n := len(u.slots); n != 3 {
			t.Errorf("Got %d endpoints, want 3", n)
		}
	})
}

// TestSpare: endpoints that are no longer needed are closed, and the tables are empty then.
func TestSpare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := sctptest.NewNetwork()
		u, x := newSide(t, nw, "10.0.0.1"), newSide(t, nw, "10.0.0.2")
		x.serve("10.0.0.2:5001")
		rng := rand.New(rand.NewPCG(1, 1))
		var all []*Assoc
		for range 1000 {
			if len(all) == 0 || rng.IntN(10) < 6 {
				all = append(all, u.Connect(dest("10.0.0.2:5001"), u.handle))
			} else {
				i := rng.IntN(len(all))
				all[i].Abort()
				all = slices.Delete(all, i, i+1)
			}
			if rng.IntN(4) == 0 {
				synctest.Wait()
			}
		}
		synctest.Wait()
		for _, a := range all {
			if !a.isUp.Load() {
				t.Fatalf("association %d is not up", a.id)
			}
			a.Abort()
		}
		synctest.Wait()
		u.mu.Lock()
		open := 0
		for i, e := range u.slots {
			if e != nil {
				open++
				if e.users != 0 || len(e.assocs) != 0 || e.slot != i {
					t.Errorf("slot %d: endpoint of slot %d has %d users and %d associations", i, e.slot, e.users, len(e.assocs))
				}
			}
		}
		if open != maxSpare || u.spare != maxSpare || len(u.peers) != 0 {
			t.Errorf("%d endpoints are open, %d counted, %d peers; want %d, %[4]d, 0", open, u.spare, len(u.peers), maxSpare)
		}
		u.mu.Unlock()
	})
}

// TestPause: a paused association has no events, others do, and nothing is lost.
func TestPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := sctptest.NewNetwork()
		u, x := newSide(t, nw, "10.0.0.1"), newSide(t, nw, "10.0.0.2")
		x.serve("10.0.0.2:5001")
		a, b := u.Connect(dest("10.0.0.2:5001"), u.handle), u.Connect(dest("10.0.0.2:5001"), u.handle)
		u.saw("1 up", "2 up")
		x.saw("1 up", "2 up")
		x.pause = true
		u.say(a, "one")
		x.saw("1 one")
		x.pause = false
		u.say(a, "two")
		u.say(b, "three")
		x.saw("2 three")
		a.Shutdown()
		u.saw("1 down 5")
		x.saw("1 two", "1 down 1")
		x.assocs[1].Pause()
		u.say(b, "four")
		for range 10_000 {
			if err := b.Send(sctp.Message{Data: []byte("x")}); err != nil {
				if !errors.Is(err, sctp.ErrQueueFull) {
					t.Errorf("Send to an application that does not read: got %v, want %v", err, sctp.ErrQueueFull)
				}
				break
			}
		}
		x.pause = true
		x.assocs[1].Resume()
		x.saw("2 four")
		x.assocs[1].Resume()
		x.saw("2 x")
		b.Abort()
		x.assocs[1].Abort()
		synctest.Wait()
		if last := x.log[len(x.log)-1]; last != "2 down 2" && last != "2 down 5" {
			t.Errorf("Got %q last, want Down", last)
		}
	})
}

func TestOpenTCP(t *testing.T) {
	if _, err := Open(Config{Via: rserpool.ViaTCP}); err == nil {
		t.Error("a Carrier over TCP")
	}
}

func TestDestOf(t *testing.T) {
	e := &rserpool.PoolElement{UserEncapPort: 5002, UserTransport: rserpool.Transport{
		Type: rserpool.SCTP, Port: 5001, Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")},
	}}
	want := dest("192.0.2.1:5001", "[2001:db8::1]:5001")
	want.Kind, want.EncapPort = sctp.UDP, 5002
	if to, ok := DestOf(e, sctp.UDP); !ok || !cmp.Equal(to, want, cmpopts.EquateComparable(netip.AddrPort{})) {
		t.Errorf("Got %v, %v, want %v", to, ok, want)
	}
	e.UserTransport.Type = rserpool.TCP
	if _, ok := DestOf(e, sctp.UDP); ok {
		t.Error("An element with a TCP transport can carry a session")
	}
}

// TestTLSAtPlain: a peer that begins TLS where sessions have none is cut off. Other messages
// may begin with the same bytes.
func TestTLSAtPlain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := sctptest.NewNetwork()
		x, y := newSide(t, nw, "10.0.0.1"), newSide(t, nw, "10.0.0.2")
		y.serve("10.0.0.2:5001")
		a := x.Connect(dest("10.0.0.2:5001"), x.handle)
		x.saw("1 up")
		y.saw("1 up")
		hello := string([]byte{0x16, 3, 1, 0, 1})
		x.say(a, hello)
		y.saw("1 " + hello)
		if err := a.Send(sctp.Message{Data: []byte(hello), PPID: asap.PPID}); err != nil {
			t.Fatal(err)
		}
		y.saw(fmt.Sprintf("1 down %d", sctp.Overrun))
		x.saw(fmt.Sprintf("1 down %d", sctp.PeerAbort))
	})
}
