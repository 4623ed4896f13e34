package udp

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
	"github.com/rserpool/coredns-rserpool/internal/sctp/wire"
)

// TestUDPUnordered loses the packet of one message. An unordered message that is sent after it
// arrives at once, an ordered one after it has been repeated. Messages of both kinds follow.
func TestUDPUnordered(t *testing.T) {
	onWire(t, sctp.Limits{}, func(t *testing.T, w *ether, x, y *sctptest.Site) {
		a := x.Connect(to(addrY))
		x.Next(sctp.Up)
		y.Next(sctp.Up)
		time.Sleep(time.Second) // HEARTBEATs
		lost := false
		w.set(func(_, _ netip.AddrPort, b []byte) (time.Duration, bool) {
			if c, _, ok := wire.NextChunk(b[wire.CommonHeaderLen:]); ok && c.Type == wire.ChunkData && !lost {
				lost = true
				return 0, false
			}
			return time.Millisecond, true
		})
		say := func(text string, unordered bool) {
			if err := x.Send(a, sctp.Message{Data: []byte(text), PPID: 11, Unordered: unordered}); err != nil {
				t.Fatal(err)
			}
		}
		say("lost", false)
		time.Sleep(100 * time.Millisecond)
		start := time.Now()
		say("ordered", false)
		say("unordered", true)
		for i, want := range []string{"unordered", "lost", "ordered"} {
			ev := y.Next(sctp.Received)
			if took := time.Since(start); string(ev.Message.Data) != want || i == 0 && took > 10*time.Millisecond {
				t.Fatalf("got %q after %v, want %q", ev.Message.Data, took, want)
			}
		}
		for i := range uint32(200) {
			b := binary.BigEndian.AppendUint32(nil, i)
			if err := x.Send(a, sctp.Message{Data: b, PPID: 11, Unordered: i%3 == 0}); err != nil {
				t.Fatal(err)
			}
		}
		last := uint32(0)
		for range 200 {
			n := binary.BigEndian.Uint32(y.Next(sctp.Received).Message.Data)
			if n%3 != 0 {
				if n < last {
					t.Errorf("ordered message %d came after %d", n, last)
				}
				last = n
			}
		}
	})
}

// TestUDPKeepAlives loses 5 % of all packets in each direction. Elements answer keep-alives,
// which are repeated every 200 ms, over all that the transport does about the losses. All
// answers come within the seven tries, unless messages are ordered.
func TestUDPKeepAlives(t *testing.T) {
	elements, d := 60, 10*time.Minute
	if testing.Short() {
		elements, d = 10, time.Minute
	}
	for _, unordered := range []bool{true, false} {
		t.Run(fmt.Sprint("unordered ", unordered), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { keepAlives(t, elements, d, unordered) })
		})
	}
}

func keepAlives(t *testing.T, elements int, d time.Duration, unordered bool) {
	const interval, try, allowed = 2 * time.Second, 200 * time.Millisecond, 1400 * time.Millisecond
	w := newEther()
	rng := rand.New(rand.NewPCG(5, 6))
	w.set(func(netip.AddrPort, netip.AddrPort, []byte) (time.Duration, bool) {
		return 10*time.Millisecond + time.Duration(rng.IntN(5000))*time.Microsecond, rng.Float64() >= 0.05
	})
	listen := func(at string, h sctp.Handler) *endpoint {
		e, err := w.mux(t, sctp.Limits{}, sctp.EncapPort).Listen(sctp.ListenConfig{Addrs: to(at).Addrs}, new(sctp.IDs), h)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	answers := make(map[sctp.AssocID]chan struct{})
	var mu sync.Mutex
	r := listen(addrY, func(ev sctp.Event) {
		mu.Lock()
		c := answers[ev.Assoc]
		mu.Unlock()
		if ev.Type == sctp.Received {
			select {
			case c <- struct{}{}:
			default:
			}
		}
	})
	all := []*endpoint{r}
	var took []time.Duration
	var done sync.WaitGroup
	for i := range elements {
		at := fmt.Sprintf("10.0.%d.%d:3863", 1+i/200, 1+i%200)
		var x *endpoint
		x = listen(at, func(ev sctp.Event) {
			if ev.Type == sctp.Received {
				_ = x.Send(ev.Assoc, sctp.Message{Data: ev.Message.Data, PPID: 11, Unordered: unordered})
			}
		})
		all = append(all, x)
		c := make(chan struct{}, 1)
		mu.Lock()
		a := r.Connect(to(at))
		answers[a] = c
		mu.Unlock()
		done.Go(func() {
			time.Sleep(20*time.Second + time.Duration(i)*interval/time.Duration(elements))
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(interval) {
				select { // a late answer
				case <-c:
				default:
				}
				start := time.Now()
				for answered := false; !answered; {
					_ = r.Send(a, sctp.Message{Data: make([]byte, 40), PPID: 11, Unordered: unordered})
					select {
					case <-c:
						answered = true
					case <-time.After(try):
					}
				}
				mu.Lock()
				took = append(took, time.Since(start))
				mu.Unlock()
			}
		})
	}
	done.Wait()
	slices.Sort(took)
	late := 0
	for _, x := range took {
		if x > allowed {
			late++
		}
	}
	t.Logf("%d keep-alives, answered after %v at the median, %v at 99.9 %%, %v at most; %d late", len(took), took[len(took)/2], took[len(took)*999/1000], took[len(took)-1], late)
	if unordered && late > 0 {
		t.Errorf("%d answers took more than %v", late, allowed)
	}
	for _, e := range all {
		e.Close()
		e.m.wg.Wait()
	}
}
