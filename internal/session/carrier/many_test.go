package carrier

import (
	"errors"
	"flag"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/kernel"
)

var many = flag.Int("many", 200, "the number of sessions of TestMany")

// loopback makes a Carrier of the machine's transports on the loopback interface.
func loopback(t *testing.T, via sctp.Kind) *Carrier {
	t.Helper()
	c, err := Open(Config{Via: via, Local: []netip.Addr{netip.MustParseAddr("127.0.0.1")}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// TestMany has many sessions of one user with one element, over each transport that this
// machine has: each gets its own answer.
func TestMany(t *testing.T) {
	for _, via := range []sctp.Kind{sctp.UDP, sctp.Kernel} {
		t.Run(via.String(), func(t *testing.T) {
			if via == sctp.Kernel && !kernel.Supported() {
				t.Skip("the kernel has no SCTP: run test/lab/gotest ./internal/session/carrier")
			}
			x, u := loopback(t, via), loopback(t, via)
			l, err := x.Listen([]netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, func(*Assoc, sctp.Event) Handler {
				return func(a *Assoc, ev sctp.Event) {
					if ev.Type == sctp.Received {
						_ = a.Send(ev.Message)
					}
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			to := sctp.Dest{Addrs: l.LocalAddrs(), Kind: via, EncapPort: l.EncapPort()}
			start, before := time.Now(), memory()
			all := dialMany(t, u, to)
			t.Logf("%d sessions in %v, %d KiB for both sides of each, %d local endpoints", *many, time.Since(start), (memory()-before)/uint64(*many)>>10, len(u.slots))
			start = time.Now()
			for _, a := range all {
				a.Abort()
			}
			if err := errors.Join(u.Close(), x.Close()); err != nil {
				t.Error(err)
			}
			t.Logf("closed in %v", time.Since(start))
		})
	}
}

// dialMany starts sessions, at most 100 at a time, and waits for the answer of each.
func dialMany(t *testing.T, u *Carrier, to sctp.Dest) (all []*Assoc) {
	t.Helper()
	var done sync.WaitGroup
	var failed atomic.Pointer[sctp.Event]
	gate := make(chan struct{}, 100)
	for i := range *many {
		gate <- struct{}{}
		done.Add(1)
		var once sync.Once
		ready := func() { once.Do(func() { <-gate; done.Done() }) }
		a := u.Connect(to, func(a *Assoc, ev sctp.Event) {
			switch ev.Type {
			case sctp.Received:
				if got := ev.Message.PPID; got != uint32(i) {
					t.Errorf("session %d got the answer of %d", i, got)
				}
				ready()
			case sctp.Down:
				if ev.Reason != sctp.LocalClose {
					failed.Store(&ev)
				}
				ready()
			default:
			}
		})
		if err := a.Send(sctp.Message{Data: []byte("x"), PPID: uint32(i)}); err != nil {
			t.Fatalf("session %d: %v, %v", i, err, failed.Load())
		}
		all = append(all, a)
	}
	waited := make(chan struct{})
	go func() { done.Wait(); close(waited) }()
	select {
	case <-waited:
	case <-time.After(2 * time.Minute):
		t.Fatal("not all sessions have their answers")
	}
	if ev := failed.Load(); ev != nil {
		t.Fatalf("a session ended: %v", ev)
	}
	return all
}

// memory returns the memory that is in use, stacks included.
func memory() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}
