package host

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
	"github.com/rserpool/coredns-rserpool/registrar"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// TestRemove: the operator's removal is answered by the core, and by a host that has stopped.
func TestRemove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := sctptest.NewNetwork()
		h, _ := memoryHost(t, nw)
		newElement(t, nw, h)
		ctx := context.Background()
		for id, want := range map[rserpool.PEID]registrar.Removal{8: registrar.RemovalUnknown, 7: registrar.RemovalDone} {
			if got, err := h.Remove(ctx, "p", id); err != nil || got.Result != want {
				t.Errorf("element %d: got %v, %v; want result %d", id, got, err, want)
			}
		}
		if h.Space().Pool("p") != nil {
			t.Error("the element is still there")
		}
		closeNow(t, h)
		if got, err := h.Remove(ctx, "p", 7); !errors.Is(err, ErrClosed) || !errors.Is(err, rserpool.ErrClosed) {
			t.Errorf("after Close: got %v, %v; want ErrClosed", got, err)
		}
	})
}

// busy is in the core until the end.
type busy struct {
	core
	end chan struct{}
}

func (b busy) Handle(now time.Time, ev registrar.Event) []registrar.Action {
	<-b.end
	return b.core.Handle(now, ev)
}

// TestRemoveGivesUp: a removal does not wait longer than its caller for a registrar that is
// busy, whether or not there is room in the queue.
func TestRemoveGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, err := newHost(Config{
			ASAP:    []netip.AddrPort{netip.MustParseAddrPort(hostAddr)},
			network: func() (network, error) { return memory{sctptest.NewNetwork()}, nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		b := busy{h.core, make(chan struct{})}
		h.core = b
		if err := h.start(); err != nil {
			t.Fatal(err)
		}
		for range inboundQueue + 2 {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			if _, err := h.Remove(ctx, "p", 7); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("got error %v, want that of the context", err)
			}
			cancel()
		}
		close(b.end)
		closeNow(t, h)
	})
}
