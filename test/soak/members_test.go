package soak

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap/pe"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// member is one pool element, as products have it (asap/pe).
type member struct {
	id   uint32
	e    *pe.Element
	end  context.CancelFunc
	done chan error

	registered, homeLost, noRegistrar atomic.Int32
	mu                                sync.Mutex
	events                            []string
}

// member registers an element of a pool, at an address of its own, and
// waits for it.
func (p ports) member(t *testing.T, pool string, id uint32, addr string) *member {
	t.Helper()
	m := &member{id: id, done: make(chan error, 1)}
	up := make(chan struct{}, 1)
	at := netip.MustParseAddr(addr)
	e, err := pe.Open(pe.Config{
		Pool:       rserpool.PoolHandle(pool),
		ID:         rserpool.PEID(id),
		Transport:  rserpool.Transport{Type: rserpool.TCP, Port: 8080, Addrs: []netip.Addr{at}},
		Policy:     rserpool.Policy{Type: rserpool.RoundRobin},
		Registrars: []string{fmt.Sprintf("%s:%d/%d", p.host, p.asap, p.encap)},
		Via:        rserpool.ViaUDP,
		Timers:     pe.Timers{Reregistration: 2 * time.Second, Registration: 3 * time.Second, ServerHunt: time.Second, RetranMax: time.Second},
		Notify: func(ev pe.Event) {
			m.mu.Lock()
			m.events = append(m.events, time.Now().Format("15:04:05.000 ")+ev.String())
			m.mu.Unlock()
			switch ev.Type {
			case pe.Registered:
				m.registered.Add(1)
				select {
				case up <- struct{}{}:
				default:
				}
			case pe.HomeLost:
				m.homeLost.Add(1)
			case pe.NoRegistrar:
				m.noRegistrar.Add(1)
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	m.e = e
	ctx, cancel := context.WithCancel(context.Background())
	m.end = cancel
	go func() {
		select {
		case <-ctx.Done():
		case <-e.Done():
		}
		m.done <- e.Close()
	}()
	t.Cleanup(func() { cancel(); <-m.done })
	select {
	case <-up:
	case <-time.After(patience):
		t.Fatalf("element %08x is not registered", id)
	}
	return m
}

// leave deregisters.
func (m *member) leave(t *testing.T) {
	t.Helper()
	m.end()
	err := <-m.done
	if err != nil {
		t.Errorf("element %08x: %v", m.id, err)
	}
	m.done <- err // for the clean-up
}

// undisturbed checks that the element's home has never changed.
func (m *member) undisturbed(t *testing.T) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	if r, l, n := m.registered.Load(), m.homeLost.Load(), m.noRegistrar.Load(); r != 1 || l != 0 || n != 0 {
		t.Errorf("element %08x was registered %d times, lost its home %d times and found no registrar %d times, want 1, 0 and 0: %q", m.id, r, l, n, m.events)
	}
}
