package localaddr

import (
	"net/netip"
	"testing"
	"time"

	netns "github.com/rserpool/coredns-rserpool/test/network"
)

// TestFollow changes the addresses of a host: a follower learns of it at once.
func TestFollow(t *testing.T) {
	t.Parallel()
	h := netns.New(t).Host("h", "10.98.1.1/24")
	m := New(t.Logf)
	m.Inside = func(f func()) { _ = h.Do(func() error { f(); return nil }) }
	m.Read = func() (s State, err error) {
		err = h.Do(func() error { s, err = Read(); return err })
		return s, err
	}
	seen := make(chan State, 100)
	stop := m.Follow(func() { seen <- m.Now() })
	defer stop()
	wait := func(what string, ok func(s *State) bool) {
		t.Helper()
		start := time.Now()
		for {
			select {
			case s := <-seen:
				if ok(&s) {
					t.Logf("%s: seen %v later", what, time.Since(start))
					return
				}
			case <-time.After(2 * Life):
				t.Fatalf("%s: not seen in %v", what, 2*Life)
			}
		}
	}
	second, first := netip.MustParseAddr("10.98.2.1"), netip.MustParseAddr("10.98.1.1")
	h.IP("addr add 10.98.2.1/24 dev eth0")
	wait("new address", func(s *State) bool { return s.Usable(second) && s.Usable(first) })
	h.IP("addr del 10.98.2.1/24 dev eth0")
	wait("address removed", func(s *State) bool { return !s.Usable(second) && s.Usable(first) })
	h.IP("link set eth0 down")
	wait("link down", func(s *State) bool { return !s.Usable(first) && s.Own(first) })
}

// TestFollowEnds: nobody is called after stop, and others go on.
func TestFollowEnds(t *testing.T) {
	m := New(t.Logf)
	a, b := m.Follow(func() {}), m.Follow(func() {})
	a()
	a()
	c := m.Follow(func() {})
	b()
	c()
	m.Follow(func() {})()
}
