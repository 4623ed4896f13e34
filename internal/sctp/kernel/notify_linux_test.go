package kernel

import (
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/localaddr"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
)

// deafSocket is a socket whose every system call fails.
func deafSocket(t testing.TB) *socket {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = r.Close(), w.Close() })
	raw, err := r.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	return &socket{file: r, raw: raw}
}

// deafEndpoint has a socket that hears nothing.
func deafEndpoint(t testing.TB, h sctp.Handler) *endpoint {
	return &endpoint{
		sock: deafSocket(t), lim: sctp.Limits{}.WithDefaults(), ids: new(sctp.IDs), n: new(sctp.Counters), machine: noMachine(),
		byKernel: map[int32]*assoc{}, h: h,
	}
}

// note makes a notification of 32-bit words after its header.
func note(typ uint16, words ...uint32) []byte {
	b := ne.AppendUint16(nil, typ)
	b = ne.AppendUint16(b, 0)
	b = ne.AppendUint32(b, uint32(8+4*len(words)))
	for _, w := range words {
		b = ne.AppendUint32(b, w)
	}
	return b
}

// FuzzKernelNotified: whatever a notification holds, nothing panics, and the
// events of an association are in order.
func FuzzKernelNotified(f *testing.F) {
	f.Add(note(noteAssocChange, commUp, 0, 7))
	f.Add(note(noteAssocChange, commLost, 0, 7))
	f.Add(note(noteAssocChange, commLost|12<<24, 0, 7, 0x0c000400))
	f.Add(note(noteAssocChange, restart, 0, 7))
	f.Add(note(noteAssocChange, shutdownComp, 0, 7))
	f.Add(note(noteAssocChange, cantStartAssoc, 0, 7))
	f.Add(note(notePeerAddrChange, append(make([]uint32, 32), addrAdded, 0, 7)...))
	f.Add(note(notePartialDelivery, 0, 7, 0, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		downs := 0
		e := deafEndpoint(t, func(ev sctp.Event) {
			if downs > 0 {
				t.Errorf("%v after Down", ev)
			}
			if ev.Type == sctp.Down {
				downs++
			}
		})
		a := e.newAssoc()
		a.kid, a.state, a.begun = 7, stateUp, true
		e.Add(a.id, a)
		e.byKernel[7] = a
		for i := range len(b) {
			(&reader{e: e, sock: e.sock}).notified(b[i:])
		}
		e.received(&rcvInfo{assoc: 7}, b, false)
		e.received(&rcvInfo{assoc: 7}, b, true)
		if (e.byKernel[7] == nil) != (downs == 1) {
			t.Errorf("%d times Down, while the association is known: %v", downs, e.byKernel[7] != nil)
		}
	})
}

// TestKernelUnreported has an association end, or get aborted, before the
// kernel's word that it is up is taken, with messages of the peer behind it:
// only Down is reported.
func TestKernelUnreported(t *testing.T) {
	for name, before := range map[string]func(*assoc){
		"ended":   func(*assoc) {}, // the kernel no longer tells the peer's addresses
		"aborted": func(a *assoc) { a.abort(sctp.LocalClose, nil) },
	} {
		var got []sctp.Event
		e := deafEndpoint(t, func(ev sctp.Event) { got = append(got, ev) })
		a := e.newAssoc()
		a.kid = 7
		e.Add(a.id, a)
		e.byKernel[7] = a
		before(a)
		r := reader{e: e, sock: e.sock}
		r.notified(note(noteAssocChange, commUp, 0, 7))
		e.received(&rcvInfo{assoc: 7}, []byte("a message"), true)
		r.notified(note(noteAssocChange, commLost, 0, 7))
		if len(got) != 1 || got[0].Type != sctp.Down {
			t.Errorf("%s: got %v, want only Down", name, got)
		}
	}
}

func TestSockaddr(t *testing.T) {
	for _, want := range []string{"10.1.2.3:3863", "0.0.0.0:0", "[fd00::1]:65535", "[::]:1", "[fe80::1%1]:9901"} {
		ap := netip.MustParseAddrPort(want)
		b := appendSockaddr(nil, ap)
		got, n := parseSockaddr(append(slices.Clone(b), 0xff))
		if n != len(b) {
			t.Errorf("%s takes %d bytes, want %d", want, n, len(b))
		}
		if ap.Addr().Zone() != "" {
			ap = netip.AddrPortFrom(ap.Addr().WithZone(localaddr.Zone(1)), ap.Port())
		}
		if got != ap {
			t.Errorf("got %v, want %v", got, ap)
		}
		for i := range b {
			if got, n := parseSockaddr(b[:i]); n != 0 {
				t.Errorf("%d bytes of %s give %v, want nothing", i, want, got)
			}
		}
	}
	mapped := netip.MustParseAddrPort("[::ffff:10.1.2.3]:1")
	if got, _ := parseSockaddr(appendSockaddr(nil, mapped)); got.String() != "10.1.2.3:1" {
		t.Errorf("got %v for %v, want the IPv4 address", got, mapped)
	}
}

// TestKernelChurn has endpoints call, send to and end each other at random.
// Every association's events must be Up, what comes, and Down, in that order.
func TestKernelChurn(t *testing.T) {
	const n = 6
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	var sides []*sctptest.Site
	for i := range n {
		s := Side(t, "", sctp.Limits{HandshakeTime: 2 * time.Second, SendQueueBytes: 100 << 10}, "127.0.0.1:0")
		if i%2 == 0 {
			shrink(t, s, 64<<10)
		}
		sides = append(sides, s)
	}
	addrs := make([][]netip.AddrPort, n)
	for i, s := range sides {
		addrs[i] = s.LocalAddrs()
	}
	called := make([][]sctp.AssocID, n)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i, s := range sides {
		for w := range 2 {
			wg.Go(func() {
				rng := rand.New(rand.NewPCG(seed, uint64(10*i+w)))
				var mine []sctp.AssocID
				for range 300 {
					a := sctp.AssocID(1 + rng.IntN(40))
					if len(mine) > 0 && rng.IntN(2) == 0 {
						a = mine[rng.IntN(len(mine))]
					}
					switch p := rng.IntN(100); {
					case p < 10:
						mine = append(mine, s.Connect(sctp.Dest{Addrs: addrs[rng.IntN(n)], Kind: sctp.Kernel}))
					case p < 94:
						_ = s.Send(a, sctp.Message{Data: make([]byte, 1+rng.IntN(20<<10))})
					case p < 97:
						s.Shutdown(a)
					default:
						s.Abort(a)
					}
				}
				mu.Lock()
				defer mu.Unlock()
				called[i] = append(called[i], mine...)
			})
		}
	}
	wg.Wait()
	for i, s := range sides {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		state := map[sctp.AssocID]string{}
		ups := 0
		events := s.Drain()
		for _, ev := range events {
			was := state[ev.Assoc]
			switch {
			case ev.Type == sctp.Up && was == "":
				state[ev.Assoc] = "up"
				ups++
			case ev.Type == sctp.Received && was == "up", ev.Type == sctp.SendFailed && was == "up", ev.Type == sctp.PeerAddrs && was == "up", ev.Type == sctp.Writable && was == "up":
			case ev.Type == sctp.Down && was != "down":
				state[ev.Assoc] = "down"
			default:
				t.Errorf("side %d: %v when the association was %q", i, ev, was)
			}
		}
		for _, a := range called[i] {
			if state[a] == "" {
				state[a] = "never reported"
			}
		}
		for a, was := range state {
			if was != "down" {
				t.Errorf("side %d: association %d is %s after Close", i, a, was)
			}
		}
		t.Logf("side %d: %d associations, %d up, %d events", i, len(state), ups, len(events))
	}
}

// noMachine is a machine without addresses.
func noMachine() *localaddr.View {
	m := localaddr.New(func(string, ...any) {})
	m.Read = func() (localaddr.State, error) { return localaddr.State{}, nil }
	return m
}
