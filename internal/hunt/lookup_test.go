package hunt

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// found gives the hunt the result of a lookup.
func (x *hunter) found(ref uint64, list ...string) {
	var addrs []netip.Addr
	for _, s := range list {
		addrs = append(addrs, netip.MustParseAddr(s))
	}
	x.h.Found(x.now, ref, addrs, nil)
	x.collect()
}

func (x *hunter) begin() {
	x.h.Begin(x.now, rserpool.Registrar{}, nil)
	x.collect()
}

// TestHuntName: a name is looked up in its turn, and its addresses take its
// place, before those of the next registrar.
func TestHuntName(t *testing.T) {
	x := newHunter(t, Config{Registrars: registrars("r.example.org:4000/9900", "10.0.0.9")})
	x.begin()
	x.want("0s lookup 1 r.example.org:4000/9900")
	x.until(100 * time.Millisecond)
	x.found(1, "10.0.0.1", "2001:db8::1", "10.0.0.1")
	x.until(time.Second)
	x.want("100ms connect 2 10.0.0.1:4000/9900", "400ms connect 3 [2001:db8::1]:4000/9900", "700ms connect 4 10.0.0.9:3863")
	x.up(3)
	x.want("1s up [2001:db8::1]:4000/9900 true", "1s close 2", "1s close 4")
}

// TestHuntNameSlow: the other registrars do not wait for a lookup.
func TestHuntNameSlow(t *testing.T) {
	x := newHunter(t, Config{Registrars: registrars("r.example.org", "10.0.0.9")})
	x.begin()
	x.until(time.Second)
	x.up(2)
	x.want("0s lookup 1 r.example.org:3863", "300ms connect 2 10.0.0.9:3863", "1s up 10.0.0.9:3863 true")
	x.found(1, "10.0.0.1") // too late
	x.want()
}

// TestHuntNameReport: where no name server answers, the report says that the lookup has failed
// and not that the registrar is silent, before T5-Serverhunt expires and after that.
func TestHuntNameReport(t *testing.T) {
	x := newHunter(t, Config{Registrars: registrars("r.example.org", "10.0.0.9"), ServerHunt: 5 * time.Second})
	x.begin()
	wantReport := func(want string) {
		t.Helper()
		err := &rserpool.UnreachableError{Attempts: x.h.Report()}
		if want := "no registrar could be reached: " + want; err.Error() != want {
			t.Errorf("error %q, want %q", err, want)
		}
	}
	x.until(4 * time.Second)
	wantReport("r.example.org:3863: cannot look up its name: no answer; 10.0.0.9:3863: no answer")
	x.now = x.now.Add(time.Second)
	x.h.Tick(x.now)
	wantReport("r.example.org:3863: cannot look up its name: no answer within 5s; 10.0.0.9:3863: no answer within 5s")
}

// TestHuntNameFails: a lookup that fails is a registrar that does not answer,
// and is made anew in each round.
func TestHuntNameFails(t *testing.T) {
	x := newHunter(t, Config{Registrars: registrars("r.example.org")})
	x.begin()
	x.h.Found(x.now, 1, nil, errors.New("no such host"))
	x.until(500 * time.Millisecond)
	x.want("0s lookup 1 r.example.org:3863", "500ms lookup 2 r.example.org:3863")
	x.h.Found(x.now, 2, nil, nil)
	err := &rserpool.UnreachableError{Attempts: x.h.Report()}
	if want := "no registrar could be reached: r.example.org:3863: cannot look up its name: the name has no address"; err.Error() != want {
		t.Errorf("error %q, want %q", err, want)
	}
	if x.h.Rounds() != 2 {
		t.Errorf("%d rounds, want 2", x.h.Rounds())
	}
	// The addresses that fail are told with their name.
	x.until(1500 * time.Millisecond)
	x.found(3, "10.0.0.1")
	x.down(4)
	err = &rserpool.UnreachableError{Attempts: x.h.Report()}
	if want := "no registrar could be reached: r.example.org (10.0.0.1:3863): refused"; err.Error() != want {
		t.Errorf("error %q, want %q", err, want)
	}
}

// TestHuntNameSilent: a lookup without a result ends with T5-Serverhunt.
func TestHuntNameSilent(t *testing.T) {
	x := newHunter(t, Config{Registrars: registrars("r.example.org")})
	x.begin()
	x.until(11 * time.Second)
	x.want("0s lookup 1 r.example.org:3863", "10s lookup 2 r.example.org:3863")
}

// TestHuntNameChanges: a name that stands for another address is called there
// in the next hunt.
func TestHuntNameChanges(t *testing.T) {
	x := newHunter(t, Config{Registrars: registrars("r.example.org")})
	x.begin()
	x.found(1, "10.0.0.1")
	x.up(2)
	x.h.Settled()
	news := x.h.News()
	x.log = nil
	at := rserpool.Registrar{Host: "r.example.org", Port: 3863, Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.1")}}
	x.h.Begin(x.now, at, errors.New("gone"))
	x.collect()
	x.found(3, "10.0.0.2", "10.0.0.1")
	x.until(time.Second)
	x.want("0s lookup 3 r.example.org:3863", "0s connect 4 10.0.0.2:3863", "300ms connect 5 10.0.0.1:3863")
	if x.h.News() == news {
		t.Error("other addresses are no news")
	}
}

// TestHuntNameFailedOne: of a name's addresses the one that has just failed is
// tried last, after the other registrars.
func TestHuntNameFailedOne(t *testing.T) {
	x := newHunter(t, Config{Registrars: registrars("10.0.0.9", "r.example.org")})
	at := rserpool.Registrar{Host: "r.example.org", Port: 3863, Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.1")}}
	x.h.Begin(x.now, at, errors.New("gone"))
	x.collect()
	x.found(1, "10.0.0.1", "10.0.0.2")
	x.until(time.Second)
	x.want("0s lookup 1 r.example.org:3863", "0s connect 2 10.0.0.2:3863", "300ms connect 3 10.0.0.9:3863", "600ms connect 4 10.0.0.1:3863")
}

// TestHuntNameTwice: what a name and others have in common is tried once.
func TestHuntNameTwice(t *testing.T) {
	x := newHunter(t, Config{Registrars: registrars("10.0.0.1", "r.example.org", "10.0.0.2")})
	x.begin()
	x.until(300 * time.Millisecond)
	x.found(2, "10.0.0.1", "10.0.0.2")
	x.down(1)
	x.down(3)
	x.until(500 * time.Millisecond)
	x.want("0s connect 1 10.0.0.1:3863", "300ms lookup 2 r.example.org:3863", "300ms connect 3 10.0.0.2:3863")
	if r := x.h.Report(); len(r) != 2 || r[0].Err == nil || r[1].Err == nil {
		t.Errorf("report %+v", r)
	}
}

// TestHuntNameAndAnnounce: an announce does not have a name looked up again.
func TestHuntNameAndAnnounce(t *testing.T) {
	x := newHunter(t, Config{Registrars: registrars("r.example.org")})
	x.begin()
	x.found(1, "10.0.0.1")
	m := &asap.ServerAnnounce{Server: 1, Transports: []rserpool.Transport{{Type: rserpool.SCTP, Port: 3863, Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.1")}}}}
	data, err := m.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := x.h.Announced(x.now, netip.MustParseAddrPort("10.0.0.1:1"), data); err != nil {
		t.Fatal(err)
	}
	x.until(time.Second)
	x.want("0s lookup 1 r.example.org:3863", "0s connect 2 10.0.0.1:3863")
}

// TestHuntAlternatives: the other addresses of a name are alternatives, the
// name itself is none.
func TestHuntAlternatives(t *testing.T) {
	x := newHunter(t, Config{Registrars: registrars("r.example.org")})
	x.begin()
	x.found(1, "10.0.0.1")
	at, _ := x.h.Up(2)
	x.h.Settled()
	if x.h.Alternatives(x.now, at) {
		t.Error("the registrar is an alternative to itself")
	}
	x.h.Begin(x.now, at, nil)
	x.collect()
	x.found(3, "10.0.0.1", "10.0.0.2")
	if !x.h.Alternatives(x.now, at) || !x.h.OtherHosts(x.now, at) {
		t.Error("another address of the name is no alternative")
	}
	x.h.Stop()
	x.h.Begin(x.now, at, nil)
	x.collect()
	x.found(5, "10.0.0.1", "2001:db8::1")
	if !x.h.Alternatives(x.now, at) || x.h.OtherHosts(x.now, at) {
		t.Error("the address of the other family is no alternative, or another host")
	}
}

// TestHuntBeginAt: the registrar named is tried first, known or not.
func TestHuntBeginAt(t *testing.T) {
	x := newHunter(t, Config{Registrars: registrars("10.0.0.1", "10.0.0.2", "10.0.0.3")})
	x.h.BeginAt(x.now, registrars("10.0.0.3")[0])
	x.until(500 * time.Millisecond)
	x.want("0s connect 1 10.0.0.3:3863", "300ms connect 2 10.0.0.1:3863")
	x.h.BeginAt(x.now, registrars("10.0.0.8")[0])
	x.until(time.Second)
	x.want("500ms close 1", "500ms close 2", "500ms connect 3 10.0.0.8:3863", "800ms connect 4 10.0.0.1:3863")
}

// TestHuntRestart: attempts from a former address are made anew; a lookup goes
// on; a pause ends.
func TestHuntRestart(t *testing.T) {
	x := newHunter(t, Config{Registrars: registrars("10.0.0.1", "r.example.org", "10.0.0.2")})
	x.begin()
	x.until(500 * time.Millisecond)
	x.h.Restart(x.now)
	x.until(time.Second)
	x.want("0s connect 1 10.0.0.1:3863", "300ms lookup 2 r.example.org:3863", "500ms close 1", "500ms connect 3 10.0.0.1:3863", "800ms connect 4 10.0.0.2:3863")
	for _, a := range []sctp.AssocID{3, 4} {
		x.down(a)
	}
	x.h.Found(x.now, 2, nil, errors.New("x"))
	x.until(1100 * time.Millisecond)
	x.want()
	x.h.Restart(x.now)
	x.collect()
	x.want("1.1s connect 5 10.0.0.1:3863")
}

// TestHuntReturnTo: a registrar that expects this side is waited for; when it fails, the next
// one is tried at once.
func TestHuntReturnTo(t *testing.T) {
	x := newHunter(t, Config{Registrars: registrars("10.0.0.1", "10.0.0.2")})
	x.h.ReturnTo(x.now, registrars("10.0.0.2")[0])
	x.until(time.Second)
	x.want("0s connect 1 10.0.0.2:3863")
	x.until(4 * time.Second)
	x.want("3s connect 2 10.0.0.1:3863")
	x.h.ReturnTo(x.now, registrars("10.0.0.2")[0])
	x.collect()
	x.down(3)
	x.want("4s close 1", "4s close 2", "4s connect 3 10.0.0.2:3863", "4s connect 4 10.0.0.1:3863")
}

// TestHuntNameOfMany: only the last of a name's addresses answers. It is tried within T5-Serverhunt,
// however many there are, and so is the registrar behind the name.
func TestHuntNameOfMany(t *testing.T) {
	for n := 1; n <= maxHostAddrs; n++ {
		x := newHunter(t, Config{Registrars: registrars("r.example.org", "10.0.1.1")})
		x.begin()
		var addrs []string
		for i := range n {
			addrs = append(addrs, fmt.Sprintf("10.0.0.%d", i+1))
		}
		x.found(1, addrs...)
		x.until(9900 * time.Millisecond)
		for _, last := range []string{addrs[n-1], "10.0.1.1"} {
			if !slices.ContainsFunc(x.log, func(s string) bool { return strings.HasSuffix(s, " "+last+":3863") }) {
				t.Errorf("%d addresses: %s is not tried within 10 s: %q", n, last, x.log)
			}
		}
		most := 0
		for open, i := 0, 0; i < len(x.log); i++ {
			if strings.Contains(x.log[i], " connect ") {
				open++
			} else if strings.Contains(x.log[i], " close ") {
				open--
			}
			most = max(most, open)
		}
		if most > maxAttempts {
			t.Errorf("%d addresses: %d attempts at a time", n, most)
		}
		if x.h.Rounds() > 0 {
			t.Errorf("%d addresses: %d rounds within T5-Serverhunt", n, x.h.Rounds())
		}
		x.until(10 * time.Second)
		if x.h.Rounds() != 1 {
			t.Errorf("%d addresses: %d rounds after T5-Serverhunt, want 1", n, x.h.Rounds())
		}
	}
}
