package udp

import (
	"net/netip"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
	"github.com/rserpool/coredns-rserpool/internal/sctp/wire"
)

// setBack returns the time that is read after the wall clock was set back. The
// monotonic clock goes on as before. A time.Time begins with 33 bits of seconds of
// the wall clock, between a flag and 30 bits of nanoseconds.
func setBack(t time.Time, by time.Duration) time.Time {
	*(*uint64)(unsafe.Pointer(&t)) -= uint64(by/time.Second) << 30
	return t
}

// TestUDPWallClock sets the wall clock back by an hour while a cookie is on its way,
// and by another hour before the network fails: the association comes up, and its
// end is noticed in time.
func TestUDPWallClock(t *testing.T) {
	now := time.Now()
	if back := setBack(now, time.Hour); back.Unix() != now.Unix()-3600 || back.Sub(now) != 0 {
		t.Fatalf("Got %v, want %v an hour earlier with the same monotonic reading", back, now)
	}
	var hours atomic.Int64
	w := newEther()
	mux := func() *Mux {
		m := w.mux(t, sctp.Limits{Heartbeat: 20 * time.Millisecond, Misses: 1}, sctp.EncapPort)
		m.clock = newClock(func() time.Time { return setBack(time.Now(), time.Duration(hours.Load())*time.Hour) })
		return m
	}
	x, y := mux().site(t, addrX), mux().site(t, addrY)
	defer end(x, y)
	w.set(func(_, _ netip.AddrPort, b []byte) (time.Duration, bool) {
		if wire.ChunkType(b[wire.CommonHeaderLen]) == wire.ChunkCookieEcho {
			hours.Store(1)
		}
		return time.Millisecond, true
	})
	x.Connect(to(addrY))
	x.Next(sctp.Up)
	y.Next(sctp.Up)
	if hours.Load() != 1 {
		t.Error("The clock was not set while the cookie was on its way")
	}
	hours.Store(2)
	w.set(func(netip.AddrPort, netip.AddrPort, []byte) (time.Duration, bool) { return 0, false })
	for _, s := range []*sctptest.Site{x, y} {
		if ev := s.Next(sctp.Down); ev.Reason != sctp.Lost {
			t.Errorf("Got %v, want the association to be lost", ev)
		}
	}
}
