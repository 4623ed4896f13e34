package carrier

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
)

// side is a Carrier in a network in memory, and what its Handlers are called with.
type side struct {
	*Carrier
	t      *testing.T
	mu     sync.Mutex
	log    []string
	assocs []*Assoc // accepted ones
	echo   bool
	pause  bool
}

func newSide(t *testing.T, nw *sctptest.Network, addr string) *side {
	t.Helper()
	c, err := Open(Config{Listen: nw.Listen, Local: []netip.Addr{netip.MustParseAddr(addr)}})
	if err != nil {
		t.Fatal(err)
	}
	s := &side{Carrier: c, t: t}
	t.Cleanup(func() { _ = c.Close() })
	return s
}

// handle notes an event under the association's number.
func (s *side) handle(a *Assoc, ev sctp.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if uint64(ev.Assoc) != a.id {
		s.t.Errorf("Event of association %d in that of %d", ev.Assoc, a.id)
	}
	line := fmt.Sprintf("%d ", a.id)
	switch ev.Type {
	case sctp.Up:
		line += "up"
	case sctp.Received:
		line += string(ev.Message.Data)
		if s.pause {
			a.Pause()
		}
		if s.echo {
			if err := a.Send(ev.Message); err != nil {
				s.t.Errorf("echo: %v", err)
			}
		}
	case sctp.Down:
		line += fmt.Sprintf("down %d", ev.Reason)
	case sctp.SendFailed:
		line += "failed " + string(ev.Message.Data)
	case sctp.PeerAddrs, sctp.PeerDone:
		return
	}
	s.log = append(s.log, line)
}

// serve accepts associations at a port.
func (s *side) serve(at string) *Listener {
	s.t.Helper()
	l, err := s.Listen([]netip.AddrPort{netip.MustParseAddrPort(at)}, func(a *Assoc, _ sctp.Event) Handler {
		s.assocs = append(s.assocs, a)
		return s.handle
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return l
}

// saw checks what was handled since the last time.
func (s *side) saw(want ...string) {
	s.t.Helper()
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	// The order is only that of one association.
	slices.SortStableFunc(s.log, func(a, b string) int {
		return strings.Compare(strings.Fields(a)[0], strings.Fields(b)[0])
	})
	if diff := cmp.Diff(want, s.log); diff != "" {
		s.t.Errorf("Events (-want +got):\n%s", diff)
	}
	s.log = nil
}

func (s *side) say(a *Assoc, text string) {
	s.t.Helper()
	if err := a.Send(sctp.Message{Data: []byte(text)}); err != nil {
		s.t.Errorf("Send %q: %v", text, err)
	}
}

func dest(addrs ...string) (d sctp.Dest) {
	for _, a := range addrs {
		d.Addrs = append(d.Addrs, netip.MustParseAddrPort(a))
	}
	return d
}
