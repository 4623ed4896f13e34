// Package here evens out what a test's process inherits, and tells what the
// machine lacks, so that tests run anywhere (test/anywhere tries them).
package here

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// Signals has the processes that a test starts begin with the default action of
// each signal. Under nohup they would inherit an ignored SIGHUP, which a shell
// cannot trap. TestMain calls it.
func Signals() {
	for _, s := range []os.Signal{syscall.SIGHUP, syscall.SIGINT} { // Go passes on no others
		if signal.Ignored(s) {
			// A signal that is caught here has its default action there.
			signal.Notify(make(chan os.Signal, 1), s)
		}
	}
}

// ShortDir is a directory with a short path, whatever the test's name and TMPDIR are: the path
// of a socket has 107 octets at most.
func ShortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "rsp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// IPv6 leaves a test out where the loopback interface has no IPv6 address.
func IPv6(t testing.TB) {
	t.Helper()
	if err := ipv6(); err != nil {
		t.Skipf("LEFT OUT: no IPv6 on this machine: %v", err)
	}
}

var ipv6 = sync.OnceValue(func() error {
	c, err := net.ListenPacket("udp6", "[::1]:0")
	if err != nil {
		return err
	}
	return c.Close()
})

// ports counts the ports that FreePort has tried.
var ports atomic.Uint32

// Loopback is an address of the loopback that no other test process uses, for registrars at their
// usual ports.
func Loopback() netip.Addr {
	pid := os.Getpid()
	return netip.AddrFrom4([4]byte{127, 128 | byte(pid>>16), byte(pid >> 8), byte(pid)})
}

// FreePort returns a port that is free for UDP and TCP at all addresses. No other test of
// this process gets the same port, and the kernel gives it to no socket without a fixed
// port: those are 32768 and more.
func FreePort(t testing.TB) uint16 {
	t.Helper()
	for range 1000 {
		port := 12000 + (307*uint32(os.Getpid())+ports.Add(1))%20000
		at := fmt.Sprintf(":%d", port)
		u, err := net.ListenPacket("udp", at)
		if err != nil {
			continue
		}
		l, err := net.Listen("tcp", at)
		u.Close()
		if err == nil {
			l.Close()
			return uint16(port)
		}
	}
	t.Fatal("no port is free for UDP and TCP")
	return 0
}

// Race reports whether the race detector is on: it multiplies times, and adds allocations.
func Race() bool { return race }
