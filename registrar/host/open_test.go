package host

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
	"github.com/rserpool/coredns-rserpool/registrar"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

func TestCloseInGoodOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := sctptest.NewNetwork()
		h, _ := memoryHost(t, nw)
		newElement(t, nw, h)
		if err := h.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if h.Ready() {
			t.Error("ready after Close")
		}
		if h.Space().Pool("p") == nil {
			t.Error("the handlespace is empty after Close")
		}
		if err := h.Close(); err != nil {
			t.Errorf("second close: %v", err)
		}
	})
}

// A peer that comes back as soon as its association ends does not hold up the
// end of the registrar, which still waits for another one.
func TestCloseWhilePeerReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := sctptest.NewNetwork()
		h, _ := memoryHost(t, nw)
		at := h.LocalAddrs()[0]
		frozen := newPeer(t, memory{nw}, "10.0.0.1:5000")
		frozen.connect(at, sctp.Kernel)
		nw.Freeze(frozen.Endpoint)
		var ep sctp.Endpoint
		ups := 0
		ep, err := nw.Listen(sctp.ListenConfig{Addrs: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.2:5000")}}, func(ev sctp.Event) {
			switch ev.Type {
			case sctp.Up:
				ups++
			case sctp.Down:
				if ev.Reason != sctp.LocalClose {
					ep.Connect(sctp.Dest{Addrs: []netip.AddrPort{at}})
				}
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		ep.Connect(sctp.Dest{Addrs: []netip.AddrPort{at}})
		synctest.Wait()
		go func() {
			time.Sleep(time.Second)
			nw.Kill(frozen.Endpoint)
		}()
		h.cfg.CloseTimeout = time.Minute
		if err := h.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if ups < 2 {
			t.Errorf("the peer was there %d times, want it to have returned", ups)
		}
		_ = ep.Close()
	})
}

// A peer that does not confirm costs no more than CloseTimeout.
func TestCloseWithFrozenPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := sctptest.NewNetwork()
		h, _ := memoryHost(t, nw)
		pe := newElement(t, nw, h)
		nw.Freeze(pe.Endpoint)
		h.cfg.CloseTimeout = time.Second
		start := time.Now()
		if err := h.Close(); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("close: got %v, want that time is up", err)
		}
		if d := time.Since(start); d != time.Second {
			t.Errorf("close took %v, want 1s", d)
		}
	})
}

// Open can be tried again, and says what was wrong.
func TestOpenAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := sctptest.NewNetwork()
		fail := error(syscall.EADDRINUSE)
		cfg := Config{
			ASAP: []netip.AddrPort{netip.MustParseAddrPort(hostAddr)},
			network: func() (network, error) {
				if fail != nil {
					return nil, fmt.Errorf("socket: %w", fail)
				}
				return memory{nw}, nil
			},
		}
		for _, c := range []struct {
			err  error
			want string
		}{
			{syscall.EADDRINUSE, "another program is using this address"},
			{syscall.EADDRNOTAVAIL, "does not have such an address"},
			{syscall.EACCES, "has no privilege"},
			{errors.New("odd"), "odd"},
		} {
			fail = c.err
			_, err := Open(cfg)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), hostAddr) || !errors.Is(err, c.err) {
				t.Errorf("open: got %v, want one that says %q and %s", err, c.want, hostAddr)
			}
		}
		fail = nil
		taken := newPeer(t, memory{nw}, hostAddr)
		if _, err := Open(cfg); err == nil {
			t.Error("open where something else listens: no error")
		}
		_ = taken.Close()
		h, err := Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestOpenRefuses(t *testing.T) {
	at := func(s ...string) (list []netip.AddrPort) {
		for _, a := range s {
			list = append(list, netip.MustParseAddrPort(a))
		}
		return list
	}
	for _, c := range []struct {
		cfg  Config
		want string
	}{
		{Config{ASAP: at("224.0.0.1:1")}, "use a unicast address"},
		{Config{ASAP: []netip.AddrPort{{}}}, "use a unicast address"},
		{Config{ASAP: at("10.0.0.1:1", "10.0.0.2:2")}, "use the same port"},
		{Config{AnnounceGroup: netip.MustParseAddrPort("10.0.0.1:3863")}, "use a multicast address"},
		{Config{AnnounceGroup: netip.MustParseAddrPort("224.0.1.185:0")}, "use a multicast address and a port"},
		{Config{ENRPAnnounceGroup: netip.MustParseAddrPort("10.0.0.1:9901")}, "use a multicast address"},
		{Config{AnnounceGroup: netip.MustParseAddrPort("239.0.0.1:1"), ENRPAnnounceGroup: netip.MustParseAddrPort("239.0.0.1:1")}, "use two groups"},
		{Config{Config: registrar.Config{Timers: registrar.Timers{Update: -1}}}, "timer Update"},
		{Config{Transports: TransportLimits{HalfOpen: -1}}, "limit HalfOpen"},
		{Config{Via: rserpool.ViaTCP}, "use auto, kernel or udp"},
		{Config{CloseTimeout: -1}, "CloseTimeout is -1ns: it must not be negative"},
	} {
		if _, err := Open(c.cfg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want an error with %q", err, c.want)
		}
	}
}

// TestTransportLimits: the transports get each limit.
func TestTransportLimits(t *testing.T) {
	var l TransportLimits
	v := reflect.ValueOf(&l).Elem()
	for i := range v.NumField() {
		v.Field(i).SetInt(int64(1000 + i))
	}
	got := reflect.ValueOf(l.limits())
	for i := range v.NumField() {
		if f := got.FieldByName(v.Type().Field(i).Name); !f.IsValid() || f.Int() != v.Field(i).Int() {
			t.Errorf("limit %s does not reach the transports", v.Type().Field(i).Name)
		}
	}
}
