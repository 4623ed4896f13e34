package hunt

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// crowd has registrars of which each refuses at once (r), never answers (s), or comes up after a
// time that is the same for all of them (w).
type crowd struct {
	*hunter
	kinds string
	slow  time.Duration
	seen  int // lines of the log
	comes map[sctp.AssocID]time.Time
}

func newCrowd(t *testing.T, kinds string, slow time.Duration) *crowd {
	c := &crowd{kinds: kinds, slow: slow, comes: make(map[sctp.AssocID]time.Time)}
	c.hunter = newHunter(t, Config{Registrars: registrars(c.names()...)})
	c.h.Begin(c.now, rserpool.Registrar{}, nil)
	c.answer()
	return c
}

func (c *crowd) names() []string {
	var all []string
	for i := range c.kinds {
		all = append(all, fmt.Sprintf("10.0.0.%d", i+1))
	}
	return all
}

// answer has the registrars refuse new attempts, or notes when they come up.
func (c *crowd) answer() {
	for c.collect(); c.seen < len(c.log); c.seen++ {
		var at string
		var assoc sctp.AssocID
		var n int
		if _, err := fmt.Sscanf(c.log[c.seen], "%s connect %d 10.0.0.%d:", &at, &assoc, &n); err != nil {
			continue
		}
		switch c.kinds[n-1] {
		case 'r':
			c.down(assoc)
		case 'w':
			c.comes[assoc] = c.now.Add(c.slow)
		}
	}
}

// upWithin returns when an association comes up, or limit if none does until then.
func (c *crowd) upWithin(limit time.Duration) time.Duration {
	for c.now.Sub(c.start) < limit {
		next, ok := c.h.NextDeadline()
		if !ok {
			c.t.Fatal("the hunt has ended")
		}
		for a, at := range c.comes {
			switch open := slices.ContainsFunc(c.h.trying, func(t attempt) bool { return t.assoc == a }); {
			case !open:
				delete(c.comes, a)
			case !at.After(c.now):
				return c.now.Sub(c.start)
			case at.Before(next):
				next = at
			}
		}
		c.now = next
		c.h.Tick(c.now)
		c.answer()
	}
	return limit
}

// mixes are all sequences of n of the kinds.
func mixes(n int, kinds string) []string {
	all := []string{""}
	for range n {
		var longer []string
		for _, m := range all {
			for _, k := range kinds {
				longer = append(longer, m+string(k))
			}
		}
		all = longer
	}
	return all
}

// TestHuntSlow: some of four or five registrars refuse, the others need up to 25 s to come up. No
// attempt of the first ones ends because of registrars that refuse, or that are tried already:
// one comes up as soon as T5-Serverhunt, which doubles, allows.
func TestHuntSlow(t *testing.T) {
	for _, tt := range []struct{ slow, want time.Duration }{
		{50 * time.Millisecond, 50 * time.Millisecond},
		{5500 * time.Millisecond, 5500 * time.Millisecond},
		{9 * time.Second, 9 * time.Second},
		{12 * time.Second, 22 * time.Second}, // T5-Serverhunt is 20 s
		{25 * time.Second, 55 * time.Second}, // 40 s
	} {
		for _, kinds := range slices.Concat(mixes(4, "rw"), mixes(5, "rw")) {
			if at := newCrowd(t, kinds, tt.slow).upWithin(time.Hour); strings.Contains(kinds, "w") && at > tt.want+tt.want/20 {
				t.Errorf("%s, slow ones need %v: up after %v, want %v", kinds, tt.slow, at, tt.want)
			}
		}
	}
}

// TestHuntMixed: registrars that refuse, that are silent, and that are slow. T5-Serverhunt doubles
// after each round in which it has ended attempts, also if the others of the round refuse. So a
// slow one is reached in the second round at the latest, in the third if its share is less than a
// third of T5-Serverhunt.
func TestHuntMixed(t *testing.T) {
	for n, last := range map[int]time.Duration{4: 30 * time.Second, 5: 30 * time.Second, 6: 30 * time.Second, 7: 70 * time.Second} {
		for _, kinds := range mixes(n, "rsw") {
			if at := newCrowd(t, kinds, 9*time.Second).upWithin(time.Hour); strings.Contains(kinds, "w") && at > last {
				t.Errorf("%s: up after %v, want %v", kinds, at, last)
			}
		}
	}
}

// TestHuntAllTried: all have their turn within T5-Serverhunt, also if one of them refuses.
func TestHuntAllTried(t *testing.T) {
	for n := 4; n <= maxHostAddrs; n++ {
		for i := range n {
			kinds := []byte(strings.Repeat("s", n))
			kinds[i] = 'r'
			c := newCrowd(t, string(kinds), 0)
			c.upWithin(9900 * time.Millisecond)
			for _, name := range c.names() {
				if !slices.ContainsFunc(c.log, func(s string) bool { return strings.HasSuffix(s, " "+name+":3863") }) {
					t.Errorf("%s: %s is not tried within 10 s: %q", kinds, name, c.log)
				}
			}
		}
	}
}
