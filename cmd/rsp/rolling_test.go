package main

import (
	"fmt"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/registrar"
	"github.com/rserpool/coredns-rserpool/registrar/host"
	"github.com/rserpool/coredns-rserpool/rserpool"
	"github.com/rserpool/coredns-rserpool/test/here"
)

// gap runs f, and returns the longest time that a pool was empty at a registrar until a
// second after f has returned.
func gap(t *testing.T, r *registry, pool string, f func()) time.Duration {
	t.Helper()
	stop, longest := make(chan struct{}), make(chan time.Duration)
	go func() {
		var most time.Duration
		for last := time.Now(); ; {
			if len(r.elements(t, pool)) > 0 {
				last = time.Now()
			}
			most = max(most, time.Since(last))
			select {
			case <-stop:
				longest <- most
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	}()
	f()
	select {
	case <-time.After(time.Second):
	case <-t.Context().Done():
	}
	close(stop)
	return <-longest
}

// TestRollingRestart: a new process with the same --id registers, then the old
// one gets SIGTERM. The pool is never empty, whichever registrars they use.
func TestRollingRestart(t *testing.T) { // not parallel: it measures
	slow(t)
	one := newENRPRegistry(t, nil)
	two := newENRPRegistry(t, one)
	eventually(t, "the second has joined", two.Ready)
	for _, tt := range []struct {
		name, id       string
		former, latter *registry
	}{
		{"one registrar", "1", one, one},
		{"from the first to the second", "2", one, two},
		{"from the second to the first", "3", two, one},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pool := "rolling" + tt.id
			args := func(r *registry) []string { return register(r, "--id", tt.id, "--pool", pool) }
			former := startRSP(t, args(tt.former)...)
			former.says("registered")
			for _, r := range []*registry{one, two} {
				r.has(t, pool, 1)
			}
			longest := gap(t, one, pool, func() {
				latter := startRSP(t, args(tt.latter)...)
				latter.says("registered")
				former.signal(syscall.SIGTERM)
				if status := former.wait(); status != exitOK {
					t.Errorf("the former process ends with status %d", status)
				}
			})
			t.Logf("the pool was empty for %v at most", longest)
			if longest > 500*time.Millisecond {
				t.Errorf("the pool was empty for %v, want 500 ms at most", longest)
			}
			for _, r := range []*registry{one, two} {
				r.has(t, pool, 1)
			}
		})
	}
}

// TestOneIDTwice: two live processes have one --id. The later one stays in the pool, whatever the
// former one re-registers. That one says so, and can leave without effect.
func TestOneIDTwice(t *testing.T) {
	slow(t)
	t.Parallel()
	r := newRegistry(t)
	args := func(port uint16) []string {
		return register(r, "--id", "dddd", "--reregister", "1s", "--serve", fmt.Sprintf("tcp:%d", port))
	}
	former := startRSP(t, args(8081)...)
	r.has(t, "web", 1)
	latter := startRSP(t, args(8082)...)
	latter.says("registered as")
	has := func() {
		t.Helper()
		if list := r.elements(t, "web"); len(list) != 1 || list[0].Port != 8082 {
			t.Errorf("the pool has %+v, want the later process", list)
		}
	}
	former.says("another process has registered 0000dddd at tcp 127.0.0.1 port 8082: ")
	has()
	former.signal(syscall.SIGTERM)
	if status := former.wait(); status != exitOK {
		t.Errorf("the former process ends with status %d", status)
	}
	has()
}

// TestRegisterWakes: an element that hangs for longer than a keep-alive is a suspect, and a
// member again at once when it continues.
func TestRegisterWakes(t *testing.T) {
	t.Parallel()
	port := here.FreePort(t)
	r := startRegistry(t, host.Config{
		Config: registrar.Config{Timers: registrar.Timers{KeepAliveInterval: 300 * time.Millisecond, KeepAliveTimeout: time.Second}},
		ASAP:   []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)},
		Via:    rserpool.ViaUDP, EncapPort: port,
	})
	p := startRSP(t, register(r, "--id", "8")...)
	startRSP(t, register(r, "--id", "9")...) // without it, the pool would be guarded
	r.has(t, "web", 2)
	here.Stop(t, p.cmd.Process.Pid)
	r.has(t, "web", 1)
	p.signal(syscall.SIGCONT)
	began := time.Now()
	r.has(t, "web", 2)
	back := time.Since(began)
	t.Logf("back after %v", back)
	if back > 5*time.Second {
		t.Errorf("the element is out for %v after it woke up, want no wait for its next registration after 30s", back)
	}
}

// TestMoveToAnotherHost: an element is killed, and its --id registered from
// another host with another registrar. The registrars find the former element dead, and
// register the new one.
func TestMoveToAnotherHost(t *testing.T) {
	slow(t)
	t.Parallel()
	one := newENRPRegistry(t, nil)
	two := newENRPRegistry(t, one)
	eventually(t, "the second has joined", two.Ready)
	former := startRSP(t, register(one, "--id", "7")...)
	two.has(t, "web", 1)
	here.Stop(t, former.cmd.Process.Pid) // it neither answers nor refuses
	began := time.Now()
	startRSP(t, register(two, "--id", "7", "--local", "127.0.0.2")...)
	eventually(t, "the element is registered at its new host", func() bool {
		list := one.elements(t, "web")
		return len(list) == 1 && list[0].Addresses[0] == "127.0.0.2"
	})
	t.Logf("it took %v", time.Since(began).Round(10*time.Millisecond))
	former.signal(syscall.SIGKILL)
	former.wait()
}
