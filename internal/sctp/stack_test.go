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

	"github.com/google/go-cmp/cmp"

	"github.com/rserpool/coredns-rserpool/test/here"
)

// TestStackModes checks what is to be had where the kernel has SCTP and where
// not, and what the operator is told.
func TestStackModes(t *testing.T) {
	kernel := kernelSupported()
	for _, mode := range []Mode{Auto, KernelOnly, UDPOnly} {
		t.Run(fmt.Sprint(mode), func(t *testing.T) {
			var lines []string
			s, err := NewStack(StackConfig{Mode: mode, Logf: func(f string, a ...any) { lines = append(lines, fmt.Sprintf(f, a...)) }})
			var want []Kind
			if kernel && mode != UDPOnly {
				want = append(want, Kernel)
			}
			if mode != KernelOnly {
				want = append(want, UDP)
			}
			if mode == KernelOnly && !kernel {
				if err == nil || !strings.Contains(err.Error(), "modprobe sctp") {
					t.Errorf("Got error %v, want one that says what to do", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, s.Kinds()); diff != "" {
				t.Errorf("Kinds (-want +got):\n%s", diff)
			}
			if told := len(lines); (told == 1) != (mode == Auto && !kernel) || told > 1 {
				t.Errorf("Got log %q", lines)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			if _, err := s.Listen(ListenConfig{}, func(Event) {}); !errors.Is(err, ErrClosed) {
				t.Errorf("Listen after Close: got %v, want %v", err, ErrClosed)
			}
		})
	}
}

// TestStackSharesPort has several endpoints of a Stack behind one UDP port.
func TestStackSharesPort(t *testing.T) {
	s := newStack(t, StackConfig{Mode: UDPOnly})
	asap, enrp := s.site(t, on("127.0.0.1:3863")), s.site(t, on("127.0.0.1:9901"))
	c := newStack(t, StackConfig{Mode: UDPOnly})
	x := c.site(t, on("127.0.0.1:0"))
	for i, y := range []*site{asap, enrp} {
		a := x.Connect(y.dest(s, UDP))
		x.next(Up)
		y.next(Up)
		_ = x.Send(a, Message{Data: []byte{byte(i)}})
		if got := y.next(Received); got.Message.Data[0] != byte(i) {
			t.Errorf("Got message for endpoint %d, want %d", got.Message.Data[0], i)
		}
	}
	if _, err := s.Listen(on("127.0.0.1:9901"), func(Event) {}); !errors.Is(err, errInUse) {
		t.Errorf("Listen on a port in use: got %v, want %v", err, errInUse)
	}
	if _, err := newStack(t, StackConfig{Mode: UDPOnly, EncapPort: s.EncapPort()}).Listen(on("127.0.0.1:1"), func(Event) {}); err == nil {
		t.Error("Listen on a UDP port in use: got no error")
	}
	enrp.Close()
	enrp = s.site(t, on("127.0.0.1:9901"))
	x.down(PeerAbort)
	x.Connect(enrp.dest(s, UDP))
	x.next(Up)
	if n := len(s.udp.socks); n != 1 {
		t.Errorf("Got %d sockets, want 1", n)
	}
}

// TestStackWildcard listens on all addresses, and is called at several.
func TestStackWildcard(t *testing.T) {
	s := newStack(t, StackConfig{Mode: UDPOnly})
	y := s.site(t, on("[::]:0"))
	port := y.LocalAddrs()[0].Port()
	c := newStack(t, StackConfig{Mode: UDPOnly})
	for _, ip := range []string{"127.0.0.1", "127.0.0.2", "::1"} {
		t.Run(ip, func(t *testing.T) {
			if ip == "::1" {
				here.IPv6(t)
			}
			x := c.site(t, ListenConfig{})
			at := netip.AddrPortFrom(netip.MustParseAddr(ip), port)
			a := x.Connect(Dest{Addrs: []netip.AddrPort{at}, Kind: UDP, EncapPort: s.EncapPort()})
			if ev := x.next(Up); ev.Peer[0] != at {
				t.Errorf("Got peer %v, want %v first: it must answer from where it was called", ev.Peer, at)
			}
			y.next(Up)
			_ = x.Send(a, Message{Data: []byte("x")})
			y.next(Received)
			x.Close()
			y.next(Down)
		})
	}
	for _, a := range y.LocalAddrs() {
		if a.Addr().IsUnspecified() {
			t.Errorf("LocalAddrs has %v", a)
		}
	}
}

// TestOneFamily listens on :: where one family is not available.
func TestOneFamily(t *testing.T) {
	for _, without := range []string{"::", "0.0.0.0"} {
		t.Run(without, func(t *testing.T) {
			w := newWire()
			lines := 0
			machine := newMachine(func(string, ...any) { lines++ })
			m := newUDPMux(Limits{}.withDefaults(), EncapPort, nil, machine, func(a netip.AddrPort) (datagrams, error) {
				if a.Addr().String() == without {
					return nil, errors.New("no such family")
				}
				return w.bind(a)
			})
			e, err := m.listen(ListenConfig{}, new(idAllocator), func(Event) {})
			if err != nil {
				t.Fatal(err)
			}
			if lines != 1 || len(e.bound) != 1 {
				t.Errorf("Got %d lines logged and %v bound, want one each", lines, e.bound)
			}
			e.Close()
			m.wg.Wait()
			if len(w.socks) != 0 {
				t.Errorf("Got %d sockets left", len(w.socks))
			}
		})
	}
}

// TestStackLearnsPort calls a peer back without being told its UDP port.
func TestStackLearnsPort(t *testing.T) {
	s1, s2 := newStack(t, StackConfig{Mode: UDPOnly}), newStack(t, StackConfig{Mode: UDPOnly})
	x, y := s1.site(t, on("127.0.0.1:0")), s2.site(t, on("127.0.0.1:0"))
	a := x.Connect(y.dest(s2, UDP))
	x.next(Up)
	peer := y.next(Up).Peer
	x.Abort(a)
	x.next(Down)
	y.next(Down)
	y.Connect(Dest{Addrs: peer, Kind: Any})
	y.next(Up)
	x.next(Up)
}

// fakeKind is a kind of transport that does as the test says.
type fakeKind struct {
	Endpoint
	mu    sync.Mutex
	ids   *idAllocator
	calls []AssocID
	ends  []AssocID
	sent  []string
}

func (f *fakeKind) Connect(Dest) AssocID {
	f.mu.Lock()
	defer f.mu.Unlock()
	id := f.ids.next()
	f.calls = append(f.calls, id)
	return id
}

func (f *fakeKind) Send(a AssocID, m Message) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, id := range f.calls {
		if id == a {
			f.sent = append(f.sent, string(m.Data))
			return nil
		}
	}
	return ErrNoAssoc
}

func (f *fakeKind) Abort(a AssocID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ends = append(f.ends, a)
}

func (f *fakeKind) Shutdown(a AssocID) { f.Abort(a) }
func (f *fakeKind) Close() error       { return nil }

// TestAny races two kinds.
func TestAny(t *testing.T) {
	type world struct {
		*endpoint
		k, u *fakeKind
		id   AssocID
		log  []string
	}
	up := func(w *world, f *fakeKind) { w.handle(Event{Type: Up, Assoc: f.calls[0]}) }
	down := func(w *world, f *fakeKind, r Reason) {
		w.handle(Event{Type: Down, Assoc: f.calls[0], Reason: r, Err: errors.New("why")})
	}
	calls := func(t *testing.T, w *world, k, u int) {
		t.Helper()
		synctest.Wait()
		if len(w.k.calls) != k || len(w.u.calls) != u {
			t.Errorf("Got %d and %d calls, want %d and %d", len(w.k.calls), len(w.u.calls), k, u)
		}
	}
	later := func() {
		time.Sleep(time.Second)
		synctest.Wait()
	}
	tests := []struct {
		name string
		run  func(t *testing.T, w *world)
		want []string
	}{
		{"kernel at once", func(t *testing.T, w *world) {
			up(w, w.k)
			later()
			calls(t, w, 1, 0)
		}, []string{"up"}},
		{"UDP first", func(t *testing.T, w *world) {
			later()
			calls(t, w, 1, 1)
			_ = w.Send(w.id, Message{Data: []byte("early")})
			up(w, w.u)
			_ = w.Send(w.id, Message{Data: []byte("late")})
			down(w, w.k, LocalClose)
			w.handle(Event{Type: Received, Assoc: w.u.calls[0]})
			down(w, w.u, PeerShutdown)
			if diff := cmp.Diff([]string{"early", "late"}, w.u.sent); diff != "" {
				t.Errorf("Sent (-want +got):\n%s", diff)
			}
			if !cmp.Equal(w.k.ends, w.k.calls) {
				t.Errorf("Got kernel's %v ended, want %v", w.k.ends, w.k.calls)
			}
		}, []string{"up", "received", "down 1"}},
		{"both come up", func(t *testing.T, w *world) {
			later()
			up(w, w.k)
			up(w, w.u)
			down(w, w.u, LocalClose)
			if len(w.u.ends) == 0 {
				t.Error("The loser is not aborted")
			}
		}, []string{"up"}},
		{"kernel fails at once", func(t *testing.T, w *world) {
			down(w, w.k, ConnectFailed)
			calls(t, w, 1, 1)
			up(w, w.u)
		}, []string{"up"}},
		{"both fail", func(t *testing.T, w *world) {
			later()
			down(w, w.u, ConnectFailed)
			down(w, w.k, Lost)
			if err := w.Send(w.id, Message{Data: []byte("x")}); !errors.Is(err, ErrNoAssoc) {
				t.Errorf("Send: got %v, want %v", err, ErrNoAssoc)
			}
		}, []string{"down 4"}},
		{"aborted before", func(t *testing.T, w *world) {
			later()
			w.Abort(w.id)
			down(w, w.u, LocalClose)
			down(w, w.k, LocalClose)
		}, []string{"down 5"}},
		{"aborted when it is up", func(t *testing.T, w *world) {
			up(w, w.k)
			w.Shutdown(w.id)
			down(w, w.k, LocalClose)
			calls(t, w, 1, 0)
		}, []string{"up", "down 5"}},
		{"somebody else's", func(t *testing.T, w *world) {
			up(w, w.k)
			w.handle(Event{Type: Up, Assoc: 1000})
		}, []string{"up", "up of 1000"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &world{}
				s := &Stack{cfg: StackConfig{Limits: Limits{}.withDefaults()}, endpoints: map[*endpoint]struct{}{}}
				w.endpoint = newEndpoint(s, func(ev Event) {
					line := map[EventType]string{Up: "up", Received: "received", Down: fmt.Sprintf("down %d", ev.Reason)}[ev.Type]
					if ev.Assoc != w.id {
						line += fmt.Sprintf(" of %d", ev.Assoc)
					}
					w.log = append(w.log, line)
				})
				w.k, w.u = &fakeKind{ids: &s.ids}, &fakeKind{ids: &s.ids}
				w.kinds = []kindEndpoint{{w.k, Kernel}, {w.u, UDP}, {&fakeKind{}, TCP}}
				w.id = w.Connect(Dest{})
				tt.run(t, w)
				if diff := cmp.Diff(tt.want, w.log); diff != "" {
					t.Errorf("Events (-want +got):\n%s", diff)
				}
				if last := tt.want[len(tt.want)-1]; strings.HasPrefix(last, "down") && len(w.races)+len(w.inner) != 0 {
					t.Errorf("Got %d races and %d runners left", len(w.races), len(w.inner))
				}
				if err := w.Close(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestConnectUnknownKind asks for a kind that there is not.
func TestConnectUnknownKind(t *testing.T) {
	if kernelSupported() {
		t.Skip("the kernel has SCTP")
	}
	x := newStack(t, StackConfig{}).site(t, on("127.0.0.1:0"))
	a := x.Connect(Dest{Addrs: x.LocalAddrs(), Kind: Kernel})
	if ev := x.next(Down); ev.Assoc != a || ev.Reason != ConnectFailed || ev.Err == nil {
		t.Errorf("Got %v, want ConnectFailed of %d and why", ev, a)
	}
}
