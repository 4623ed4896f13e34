package main

import (
	"syscall"
	"testing"
	"time"
)

// gap runs f, and tells for how long at a time a pool was empty at a registrar
// until a second after f has returned.
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
func TestRollingRestart(t *testing.T) {
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

// TestMoveToAnotherHost: an element is killed, and its --id registered from
// another host by another registrar. The former one is found dead, and the new one
// is registered.
func TestMoveToAnotherHost(t *testing.T) {
	one := newENRPRegistry(t, nil)
	two := newENRPRegistry(t, one)
	eventually(t, "the second has joined", two.Ready)
	former := startRSP(t, register(one, "--id", "7")...)
	two.has(t, "web", 1)
	former.signal(syscall.SIGSTOP) // it neither answers nor refuses
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
