package sim

import (
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/enrp"
)

// TestWatch: each thing that is watched can be found wrong.
func TestWatch(t *testing.T) {
	owned := func(n *node) *element {
		for _, e := range n.s.elements {
			if e.at == n.h {
				return e
			}
		}
		t.Fatalf("registrar %v has no element", n.r.ID())
		return nil
	}
	for _, tt := range []struct {
		want   string
		tamper func(*node)
	}{
		{"", func(*node) {}},
		{"which never was", func(n *node) { owned(n).pool = "another one" }},
		{"with home", func(n *node) { delete(n.s.ids, n.r.ID()) }},
		{"twice", func(n *node) {
			p := n.r.Space().Pool(owned(n).pool)
			n.s.scans++
			list := p.Elements(nil)
			n.scanPool(p.Handle(), append(list, list[0]))
		}},
		{"is not in the handlespace of its home", func(n *node) {
			e := owned(n)
			n.s.killElement(e)
			n.s.net.run(15 * time.Second)
			e.sure, e.at = true, n.h
		}},
		{"is dead, and still among the answers", func(n *node) {
			e := owned(n)
			e.gone()
			e.died = 0
		}},
		{"says checksum", func(n *node) { n.checksum++; n.checkPresence() }},
		{"updates, for", func(n *node) { n.look.broadcasts += 1000 }},
		{"in a second", func(n *node) { n.s.net.sent.enrp[enrp.TypePresence] += 1e6 }},
		{"takes", func(n *node) {
			owned(n).at = nil
			n.s.checkBeliefs()
		}},
		{"or others", func(n *node) {
			e := owned(n)
			n.r.Space().Remove(e.pool, e.id)
			n.s.checkAgreed()
		}},
		{"in no handlespace", func(n *node) {
			n.s.killElement(owned(n))
			n.s.net.run(15 * time.Second)
			for _, e := range n.s.elements {
				e.state = elementLives
			}
			n.s.checkAgreed()
		}},
		{"ENRP_HANDLE_TABLE_REQUEST at rest", func(n *node) {
			n.s.checkOnlyUpdates(counts{enrp: [11]int{enrp.TypeHandleTableRequest: 1}}, 0)
		}},
		{"1 updates at rest", func(n *node) {
			n.s.checkOnlyUpdates(counts{enrp: [11]int{enrp.TypeHandleUpdate: 1}}, 0)
		}},
	} {
		s := New(Config{Seed: 1, Registrars: 3, Elements: 30})
		s.net.run(40 * time.Second)
		if err := s.err(); err != nil {
			t.Fatal(err)
		}
		tt.tamper(s.nodes[0])
		s.net.run(2 * time.Second)
		switch err := s.err(); {
		case err == nil && tt.want != "":
			t.Errorf("%s: not found", tt.want)
		case err != nil && (tt.want == "" || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: found %v", tt.want, err)
		}
	}
}

// TestClock: what a clock shows, and when it does.
func TestClock(t *testing.T) {
	for _, ppm := range []int64{0, 1, maxDrift, -maxDrift, -7} {
		c := clock{epoch: time.Unix(1e9, 0), ppm: ppm}
		for now := time.Duration(0); now < 1000*time.Second; now += 777777777 {
			shown := c.at(now)
			if got := c.when(shown); c.at(got).Before(shown) || got > now || c.at(got-1) == shown && got-1 >= now {
				t.Fatalf("%d ppm: shows %v at %v, and is said to do so at %v", ppm, shown, now, got)
			}
			if c.at(now + 1).Before(shown) {
				t.Fatalf("%d ppm: runs backwards at %v", ppm, now)
			}
		}
	}
	fast := clock{ppm: maxDrift}
	if got := fast.real(102 * time.Second); got.Round(time.Millisecond) != 100*time.Second {
		t.Errorf("a clock that is 2%% fast shows 102 s after %v, want 100 s", got)
	}
}
