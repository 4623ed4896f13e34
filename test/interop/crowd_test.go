package interop

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap/pe"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// element is a pool element in the test's own process.
type element struct {
	*pe.Element
	id   string
	end  context.CancelFunc
	done chan error
}

// element starts an element at the test's address, over kernel SCTP, that knows
// these registrars.
func (l *lab) element(pool string, id uint32, registrars ...string) *element {
	l.t.Helper()
	at := netip.MustParseAddr("10.99.0.254")
	cfg := pe.Config{
		Pool:      rserpool.PoolHandle(pool),
		ID:        rserpool.PEID(id),
		Transport: rserpool.Transport{Type: rserpool.TCP, Port: 8080, Addrs: []netip.Addr{at}},
		Policy:    rserpool.Policy{Type: rserpool.RoundRobin},
		Via:       rserpool.ViaKernel,

		Registrars: registrars,
	}
	e, err := pe.Open(cfg)
	if err != nil {
		l.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	m := &element{Element: e, id: fmt.Sprintf("%08x", id), end: cancel, done: make(chan error, 1)}
	go func() {
		select {
		case <-ctx.Done():
		case <-e.Done():
		}
		m.done <- e.Close()
	}()
	l.t.Cleanup(cancel)
	return m
}

// leave deregisters the element and waits until that is confirmed.
func (e *element) leave(t *testing.T) {
	t.Helper()
	e.end()
	select {
	case err := <-e.done:
		if err != nil {
			t.Errorf("element %s: %v", e.id, err)
		}
	case <-time.After(patience):
		t.Errorf("element %s does not end", e.id)
	}
}

// TestScopeThousand: as many elements register with one registrar at once, which
// is then killed.
func TestScopeThousand(t *testing.T) {
	const pools, each = 10, 100
	s := newMixedScope(t)
	// All elements are in the test's process, and move at once. A keep-alive meanwhile would
	// only find out that they are slow.
	s.keepAlive = 2 * time.Minute
	s.startAll()
	home, rest := s.members[0], s.members[1:]
	start := time.Now()
	var crowd []*element
	for i := range pools * each {
		crowd = append(crowd, s.element(fmt.Sprintf("pool%d", i%pools), 0x0b000001+uint32(i), home.ip))
	}
	began := time.Since(start)
	all := func(m *member) func() error {
		return func() error {
			n, err := elements(m.ip)
			if err == nil && n != pools*each {
				err = fmt.Errorf("%s has %d elements", m.name, n)
			}
			return err
		}
	}
	eventually(t, "all are registered", all(home))
	here := time.Since(start)
	eventually(t, "the other one of ours knows all", all(rest[0]))
	there := time.Since(start)
	eventually(t, "RSPLIB knows all", s.resolvesAll(rest[1], pools, each))
	t.Logf("%d elements: begun within %v, registered after %v, known to the other one after %v, to RSPLIB after %v", pools*each, began, here, there, time.Since(start))

	start = time.Now()
	least := pools * each
	home.proc.kill(syscall.SIGKILL)
	eventually(t, "all have another home", func() error {
		n, err := elements(rest[0].ip)
		if err != nil {
			return err
		}
		least = min(least, n)
		moved := 0
		for _, e := range crowd {
			if h := fmt.Sprint(e.State().Home); h == rest[0].id || h == rest[1].id {
				moved++
			}
		}
		if moved != pools*each || n != pools*each {
			return fmt.Errorf("%d have, %d are there", moved, n)
		}
		return nil
	})
	t.Logf("home killed: all have another one after %v; %d were there all the time", time.Since(start), least)
	if least != pools*each {
		t.Errorf("%d of %d elements were missing", pools*each-least, pools*each)
	}
	eventually(t, "RSPLIB still knows all", s.resolvesAll(rest[1], pools, each))
}

// resolvesAll checks that the registrar hands out so many elements of so many
// pools.
func (s *scope) resolvesAll(m *member, pools, each int) func() error {
	return func() error {
		for i := range pools {
			got, err := m.resolve(fmt.Sprintf("pool%d", i), uint32(2*each))
			if err != nil {
				return err
			}
			if len(got) != each {
				return fmt.Errorf("%s has %d elements of pool %d", m.name, len(got), i)
			}
		}
		return nil
	}
}

// TestScopeDNS: three registrars of ours. While one is killed, the others answer
// every query, name each element that stays, and none that has deregistered.
func TestScopeDNS(t *testing.T) {
	s := newScope(t, "10000001", "20000002", "30000003")
	s.startAll()
	var stay []string
	for i, m := range s.members {
		for j := range 4 {
			e := s.element("web", 0x0c000000+uint32(16*i+j), m.ip)
			stay = append(stay, e.id)
		}
	}
	s.names = stay
	s.agree(s.members...)
	victim, rest := s.members[0], s.members[1:]
	var watches []*watch
	for _, m := range rest {
		watches = append(watches, s.watch(m.ip, "web", 2))
	}
	// Elements come and go all the time, at each registrar that lives.
	next, left := uint32(0x0d000000), 0
	churn := func(ms []*member) {
		for i, m := range ms {
			next++
			e := s.element("web", next, m.ip, ms[(i+1)%len(ms)].ip)
			for _, w := range watches {
				eventually(t, e.id+" is named", func() error {
					if _, found := w.missing(e.id); !found {
						return errors.New("not yet")
					}
					return nil
				})
			}
			e.leave(t)
			left++
			for _, w := range watches {
				w.leaves(e.id)
			}
		}
	}
	churn(s.members)
	victim.proc.kill(syscall.SIGKILL)
	start := time.Now()
	for moved := false; !moved; {
		churn(rest)
		homes, err := rest[0].homes()
		if err != nil {
			t.Fatal(err)
		}
		moved = true
		for _, home := range homes {
			moved = moved && home != victim.id
		}
		if time.Since(start) > patience {
			t.Fatalf("elements of the killed one after %v: %v", patience, homes)
		}
	}
	took := time.Since(start)
	victim.start(rest...)
	churn(s.members)
	for _, w := range watches {
		missing := w.judge(t, stay, 0)
		t.Logf("%s: %d questions, the slowest took %v; %d elements left, named for %v after that; %d stayed, missing for %v; new homes after %v",
			w.server, w.asked, w.slowest, left, w.late(), len(stay), missing, took)
		// On a busy machine an answer takes longer, and so does the news between registrars.
		if late := w.late(); late > max(100*time.Millisecond, w.slowest) {
			t.Errorf("%s has named an element %v after it had left", w.server, late)
		}
	}
}
