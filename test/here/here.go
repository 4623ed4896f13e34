// Package here evens out what a test's process inherits, and tells what the
// machine lacks, so that tests run anywhere (test/anywhere tries them).
package here

import (
	"net"
	"os"
	"os/signal"
	"sync"
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
