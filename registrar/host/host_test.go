package host

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
	"github.com/rserpool/coredns-rserpool/registrar"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// The whole way: register, resolve, be supervised, be killed.
func TestLifeOfAnElement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := sctptest.NewNetwork()
		h, _ := memoryHost(t, nw)
		if !h.Ready() || len(h.LocalAddrs()) != 1 || h.LocalAddrs()[0].String() != hostAddr {
			t.Errorf("ready %v, at %v; want true, %s", h.Ready(), h.LocalAddrs(), hostAddr)
		}
		pe, pu := newElement(t, nw, h), newPeer(t, memory{nw}, "10.0.0.2:5000")
		if h.Space().Pool("p").Element(7) == nil {
			t.Fatal("element is not in the handlespace when it gets its response")
		}
		pu.connect(h.LocalAddrs()[0], sctp.TCP)
		pu.send(pu.assoc, &asap.HandleResolution{Handle: "p"})
		if m := last[*asap.HandleResolutionResponse](pu); len(m.Elements) != 1 || m.Elements[0].ID != 7 {
			t.Errorf("resolution: got %+v, want element 7", m)
		}
		time.Sleep(time.Minute) // answers all keep-alives
		if h.Space().Pool("p") == nil {
			t.Fatal("element was removed though it answers")
		}
		killed := time.Now()
		nw.Kill(pe.Endpoint)
		for h.Space().Pool("p") != nil {
			time.Sleep(time.Millisecond)
		}
		if d := time.Since(killed); d > 10*time.Millisecond {
			t.Errorf("killed element was removed after %v, want at once", d)
		}
		time.Sleep(2 * publishEvery)
		s := h.Stats()
		if s.Registrations != 1 || s.Resolutions != 1 || s.Removed[registrar.RemovedUnreachable] != 1 || s.Probes != 1 ||
			s.KeepAlivesAcked < 8 || s.Associations[rserpool.ViaTCP] != 1 || s.Panics != 0 {
			t.Errorf("stats: %+v", s)
		}
	})
}

// An element stays if its association ends but it accepts a new one.
func TestElementStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := sctptest.NewNetwork()
		h, _ := memoryHost(t, nw)
		pe := newElement(t, nw, h)
		pe.Abort(pe.assoc)
		last[*asap.EndpointKeepAlive](pe)
		time.Sleep(time.Minute)
		if h.Space().Pool("p") == nil {
			t.Error("element was removed though it answers")
		}
		if s := h.Stats(); s.Probes != 1 || s.Associations[rserpool.ViaKernel] != 1 {
			t.Errorf("stats: %+v", s)
		}
	})
}

// A machine that vanishes without an abort.
func TestFrozenElement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := sctptest.NewNetwork()
		h, _ := memoryHost(t, nw)
		pe := newElement(t, nw, h)
		nw.Freeze(pe.Endpoint)
		time.Sleep(13 * time.Second) // at most 7.5 s to the keep-alive, and 5 s
		if suspects, _ := h.Space().Pool("p").Doubt(); suspects != 1 {
			t.Errorf("%d suspects, want the element that has not answered a keep-alive", suspects)
		}
	})
}

// brittle panics when a peer comes up.
type brittle struct{ core }

func (b brittle) Handle(now time.Time, ev registrar.Event) []registrar.Action {
	if _, ok := ev.(registrar.AssocUp); ok {
		panic("a mistake")
	}
	return b.core.Handle(now, ev)
}

func TestPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := sctptest.NewNetwork()
		l := new(log)
		h, err := newHost(Config{
			ASAP:    []netip.AddrPort{netip.MustParseAddrPort(hostAddr)},
			network: func() (network, error) { return memory{nw}, nil },
			Logger:  l.logger(),
		})
		if err != nil {
			t.Fatal(err)
		}
		h.core = brittle{h.core}
		if err := h.start(); err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			p := newPeer(t, memory{nw}, fmt.Sprintf("10.0.0.%d:1", 1+i))
			p.connect(h.LocalAddrs()[0], sctp.Kernel)
		}
		synctest.Wait()
		time.Sleep(2 * publishEvery)
		if got := h.Stats().Panics; got != 3 {
			t.Errorf("panics: got %d, want 3", got)
		}
		for _, line := range l.lines {
			if !strings.Contains(line, "a mistake") || !strings.Contains(line, "host_test.go") || strings.Contains(line, "\n") {
				t.Errorf("log line: got %q, want one line with the reason and the place", line)
			}
		}
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
}

// A peer that does not read its answers delays no other, and the answers that are not
// sent are counted.
func TestSlowPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := sctptest.NewNetwork()
		h, _ := memoryHost(t, nw)
		block := make(chan struct{})
		slow, err := nw.Listen(sctp.ListenConfig{Addrs: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:1")}}, func(sctp.Event) { <-block })
		if err != nil {
			t.Fatal(err)
		}
		ask, _ := (&asap.HandleResolution{Handle: "p"}).Append(nil)
		a := slow.Connect(sctp.Dest{Addrs: h.LocalAddrs()})
		for range 5000 {
			for slow.Send(a, sctp.Message{Data: slices.Clone(ask), PPID: asap.PPID}) != nil {
				synctest.Wait()
			}
		}
		pu := newPeer(t, memory{nw}, "10.0.0.2:1")
		pu.connect(h.LocalAddrs()[0], sctp.TCP)
		pu.send(pu.assoc, &asap.HandleResolution{Handle: "p"})
		last[*asap.HandleResolutionResponse](pu)
		time.Sleep(2 * publishEvery)
		s := h.Stats()
		if s.SendsRefused == 0 || s.SendsFailed != s.SendsRefused || s.Sent+s.SendsRefused != 5001 {
			t.Errorf("sent %d, refused %d, failed %d: want some refused, all counted", s.Sent, s.SendsRefused, s.SendsFailed)
		}
		close(block)
		_ = slow.Close()
	})
}
