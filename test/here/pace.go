package here

import (
	"net"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

// usual is how long a guest of the kernel lab takes for a part of Pace on an ordinary host.
// On hosts without hardware help for guests it was ten times as long.
const usual = 20 * time.Millisecond

// slowest is the greatest pace that was measured, in thousandths.
var slowest atomic.Int64

// Pace measures how many times as long as usual this guest of the kernel lab takes for what
// goes through its kernel, and returns the greatest value that it has measured in this
// process: 1 at least, and 1 outside of the lab. A test in the lab multiplies the times
// that it allows by it, since they are about our program and not about the host. It measures
// before it starts the program, which would slow the guest down itself.
func Pace(t testing.TB) float64 {
	t.Helper()
	if os.Getenv("IN_UML") == "" {
		return 1
	}
	var parts []time.Duration
	for range 7 {
		took, err := datagrams(200)
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, took)
	}
	slices.Sort(parts)
	took := parts[1] // without luck, and without what else the machine did
	now := max(1000, 1000*int64(took)/int64(usual))
	for was := slowest.Load(); now > was; was = slowest.Load() {
		if slowest.CompareAndSwap(was, now) && now > 1000 {
			t.Logf("this guest takes %v for what usually takes %v: tests allow for that", took.Round(time.Millisecond), usual)
		}
	}
	return float64(slowest.Load()) / 1000
}

// Paced is d at the guest's Pace, which it measures if nobody has.
func Paced(t testing.TB, d time.Duration) time.Duration {
	t.Helper()
	pace := float64(slowest.Load()) / 1000
	if pace == 0 {
		pace = Pace(t)
	}
	return time.Duration(float64(d) * pace)
}

// datagrams sends n datagrams to itself, one after the other, and returns how long that took.
func datagrams(n int) (time.Duration, error) {
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return 0, err
	}
	defer c.Close()
	to := c.LocalAddr().(*net.UDPAddr).AddrPort()
	buf := make([]byte, 64)
	begin := time.Now()
	for range n {
		if _, err := c.WriteToUDPAddrPort(buf, to); err != nil {
			return 0, err
		}
		if _, _, err := c.ReadFromUDPAddrPort(buf); err != nil {
			return 0, err
		}
	}
	return time.Since(begin), nil
}
