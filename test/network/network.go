package network

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// Patience is how long a test waits for what must happen.
const Patience = 60 * time.Second

// Network is what a test has of hosts and LANs.
type Network struct {
	t     testing.TB
	LAN   *LAN // the first one
	lans  int
	macs  int
	hosts []*Host
}

// New makes an empty network, or leaves the test out where it cannot.
func New(t testing.TB) *Network {
	t.Helper()
	if err := Available(); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("no test may be left out in CI: %v", err)
		}
		t.Skipf("LEFT OUT: %v", err)
	}
	n := &Network{t: t}
	n.LAN = n.NewLAN()
	return n
}

// Available tells why hosts cannot be had here; nil if they can.
var Available = sync.OnceValue(func() error {
	if os.Geteuid() != 0 {
		return errors.New("hosts in network namespaces need root")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		return fmt.Errorf("hosts in network namespaces need iproute2: %w", err)
	}
	if _, err := os.Stat(tunDevice); err != nil && os.Getenv("IN_UML") != "" {
		out, err := exec.Command("modprobe", "-d", os.Getenv("UML_MODPROBE_DIR"), "tun").CombinedOutput()
		if err != nil {
			return fmt.Errorf("modprobe tun: %w\n%s", err, out)
		}
	}
	s, err := newSpace()
	if err != nil {
		return fmt.Errorf("no network namespaces here: %w", err)
	}
	defer s.close()
	return s.do(func() error {
		f, err := openTap("eth0")
		if err == nil {
			f.Close()
		}
		return err
	})
})

// Eventually tries f until it gives no error, and tells how long that took. It is
// for what cannot tell us: other processes.
func Eventually(t testing.TB, what string, f func() error) time.Duration {
	t.Helper()
	for start := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		err := f()
		if err == nil {
			return time.Since(start)
		}
		if time.Since(start) > Patience {
			t.Fatalf("waited %v in vain: %s: %v", Patience, what, err)
		}
	}
}

// patient is how long the rest of the test may wait for an event.
func patient() <-chan time.Time { return time.After(Patience) }

// fields splits a command line, which has no quoting.
func fields(line ...string) []string { return strings.Fields(strings.Join(line, " ")) }
