package pe

import (
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// starting has all registrars lack resources until some time after the present one, as while they
// start. It returns when the element has sent a registration in that time, and how long after it the
// element is registered.
func (d *driver) starting(until time.Duration) (tries []time.Duration, late time.Duration) {
	d.t.Helper()
	begin, from := d.now, len(d.log)
	for d.k.phase != registered {
		d.step(func(sctp.AssocID) asap.Message {
			since := d.now.Sub(begin)
			if since >= until {
				late = since - until
				return &asap.RegistrationResponse{Handle: testPool, ID: d.k.element.ID}
			}
			return reject(rserpool.CauseLackOfResources)
		})
		d.lives()
		for ; from < len(d.log); from++ {
			if strings.Contains(d.log[from], " REG ") && d.k.phase != registered {
				tries = append(tries, d.now.Sub(begin))
			}
		}
		if d.now.Sub(begin) > until+time.Hour {
			d.t.Fatal("the element does not register")
		}
	}
	return tries, late
}

// TestStarting: a registrar that has just started refuses registrations for a while, such as 10 s. The
// element registers soon after that. If it is the only registrar, the association stays.
func TestStarting(t *testing.T) {
	for _, tt := range []struct {
		name       string
		registrars int
		proven     bool
	}{
		{"one", 1, false},
		{"two", 2, false},
		{"one, again", 1, true},
		{"two, again", 2, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, until := range []time.Duration{2 * time.Second, 10 * time.Second, 20 * time.Second} {
				d := newDriver(t, func(c *Config) { c.Registrars = c.Registrars[:tt.registrars] })
				d.register()
				d.up(1)
				if tt.proven {
					d.accept(1)
					d.until(30 * time.Second)
					d.down(1)
					d.up(2)
					d.receive(2, reject(rserpool.CauseLackOfResources))
				} else {
					d.receive(1, reject(rserpool.CauseLackOfResources))
				}
				d.log = nil
				tries, late := d.starting(until)
				if late > maxBusyPause+time.Second/2 {
					t.Errorf("%v: registered %v after the registrar was ready, want %v at most; tries at %v", until, late, maxBusyPause, tries)
				}
				if n := d.count("connect"); tt.registrars == 1 && n > 0 {
					t.Errorf("%v: %d connects, want none", until, n)
				}
				if most := int(until/maxBusyPause) + 3; len(tries) > tt.registrars*most {
					t.Errorf("%v: %d tries, want %d at most: %v", until, len(tries), tt.registrars*most, tries)
				}
			}
		})
	}
}

// TestStartingName: a name with one address of each family is that of one registrar, so that the
// association stays. The addresses of other names may be those of several.
func TestStartingName(t *testing.T) {
	for _, tt := range []struct {
		registrars []string
		addrs      []string
		moves      bool
	}{
		{[]string{"r.example.org"}, []string{"10.0.0.1", "2001:db8::1"}, false},
		{[]string{"r.example.org"}, []string{"2001:db8::1", "10.0.0.1"}, false},
		{[]string{"r.example.org"}, []string{"10.0.0.1"}, false},
		{[]string{"r.example.org"}, []string{"10.0.0.1", "10.0.0.2"}, true},
		{[]string{"r.example.org"}, []string{"10.0.0.1", "2001:db8::1", "2001:db8::2"}, true},
		{[]string{"r.example.org", "10.0.0.3"}, []string{"10.0.0.1", "2001:db8::1"}, true},
	} {
		d := newDriver(t, func(c *Config) { c.Registrars = tt.registrars })
		for _, a := range tt.addrs {
			d.addrs = append(d.addrs, netip.MustParseAddr(a))
		}
		d.register()
		d.up(2) // 1 is the lookup
		d.receive(2, reject(rserpool.CauseLackOfResources))
		before := d.count("connect")
		_, late := d.starting(10 * time.Second)
		if late > maxBusyPause+time.Second/2 {
			t.Errorf("%q at %q: registered %v after the registrar was ready, want %v at most", tt.registrars, tt.addrs, late, maxBusyPause)
		}
		if n := d.count("connect") - before; (n > 0) != tt.moves {
			t.Errorf("%q at %q: %d connects after the refusal, want some: %v", tt.registrars, tt.addrs, n, tt.moves)
		}
	}
}

// TestBusyPauses: the pauses grow from a second to 3 s, vary, and grow further if the registrar
// still has no resources after 30 s.
func TestBusyPauses(t *testing.T) {
	at := func(rnd *rand.Rand) []time.Duration {
		d := newDriver(t, func(c *Config) { c.Registrars = c.Registrars[:1] })
		d.k.rand = rnd
		d.register()
		d.up(1)
		d.receive(1, reject(rserpool.CauseLackOfResources))
		tries, _ := d.starting(time.Hour)
		return tries
	}
	tries := at(nil)
	for i, want := range []time.Duration{1, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30} {
		if tries[i] != want*time.Second {
			t.Fatalf("tries at %v, want one at %v", tries, want*time.Second)
		}
	}
	if n := len(tries); n > 75+15 {
		t.Errorf("%d tries in an hour, want about one a minute after the first 30 s", n)
	}
	one, two := at(rand.New(rand.NewPCG(1, 1))), at(rand.New(rand.NewPCG(2, 2)))
	if one[0] == two[0] || one[0] < 750*time.Millisecond || one[0] > 1250*time.Millisecond {
		t.Errorf("first tries at %v and %v, want two times within 1s ± 25 %%", one[0], two[0])
	}
}

// TestBusyThenOther: while the element waits for a registrar without resources, it finds another one,
// leaves, or is refused for another reason.
func TestBusyThenOther(t *testing.T) {
	waiting := func() *driver {
		d := newDriver(t, func(c *Config) { c.Registrars = c.Registrars[:1] })
		d.register()
		d.up(1)
		d.receive(1, reject(rserpool.CauseLackOfResources))
		d.want("0s connect 1 10.0.0.1:3863", "0s send 1 REG 11111111 home=00000000 load=0", "0s ! refused")
		return d
	}
	d := waiting()
	d.stop()
	d.down(1)
	d.ended("")
	d = waiting()
	d.down(1)
	d.until(time.Second)
	if d.count("connect 2") != 1 {
		t.Errorf("log %q, want the registrar called again", d.log)
	}
	d = waiting()
	d.until(time.Second)
	d.receive(1, reject(rserpool.CauseInconsistentPolicy))
	d.down(1)
	d.ended("policy differs")
}
