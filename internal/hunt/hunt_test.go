package hunt

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// hunter drives a Hunt in virtual time and writes down what it does. The
// association of the n-th Connect is named n.
type hunter struct {
	t     *testing.T
	h     *Hunt
	start time.Time
	now   time.Time
	log   []string
}

func newHunter(t *testing.T, cfg Config) *hunter {
	start := time.Unix(1_000_000, 0)
	return &hunter{t: t, h: New(cfg), start: start, now: start}
}

func registrars(list ...string) []rserpool.Registrar {
	var all []rserpool.Registrar
	for _, s := range list {
		r := rserpool.MustParseRegistrar(s)
		if r.Port == 0 {
			r.Port = asap.Port
		}
		all = append(all, r)
	}
	return all
}

// collect writes down the actions so far.
func (x *hunter) collect() {
	for {
		actions := x.h.Take()
		if len(actions) == 0 {
			return
		}
		for _, a := range actions {
			switch a := a.(type) {
			case Connect:
				x.note("connect %d %v", a.Ref, a.To)
				x.h.Connecting(x.now, a.Ref, sctp.AssocID(a.Ref), nil)
			case Lookup:
				x.note("lookup %d %v", a.Ref, a.Of)
			case Close:
				x.note("close %d", a.Assoc)
			}
		}
	}
}

func (x *hunter) note(format string, args ...any) {
	x.log = append(x.log, fmt.Sprintf("%v ", x.now.Sub(x.start))+fmt.Sprintf(format, args...))
}

// until lets the time pass, deadline by deadline.
func (x *hunter) until(at time.Duration) {
	x.t.Helper()
	end := x.start.Add(at)
	for range 1000 {
		x.collect()
		d, ok := x.h.NextDeadline()
		if !ok || d.After(end) {
			x.now = end
			return
		}
		if d.After(x.now) {
			x.now = d
		}
		x.h.Tick(x.now)
	}
	x.t.Fatal("the hunt spins")
}

func (x *hunter) down(a sctp.AssocID) {
	x.h.Down(x.now, a, errors.New("refused"))
	x.collect()
}

func (x *hunter) up(a sctp.AssocID) {
	r, ok := x.h.Up(a)
	x.note("up %v %v", r, ok)
	x.collect()
}

func (x *hunter) want(lines ...string) {
	x.t.Helper()
	if d := cmp.Diff(lines, x.log); d != "" {
		x.t.Errorf("log (-want +got):\n%s", d)
	}
	x.log = nil
}

func TestHuntHeadStart(t *testing.T) {
	x := newHunter(t, Config{Registrars: registrars("10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4")})
	x.h.Begin(x.now, rserpool.Registrar{}, nil)
	x.until(time.Second)
	// SH1: no more than three.
	x.h.Tick(x.now)
	x.collect()
	x.want("0s connect 1 10.0.0.1:3863", "300ms connect 2 10.0.0.2:3863", "600ms connect 3 10.0.0.3:3863")
	// SH4: one fails, another is tried.
	x.down(2)
	x.want("1s connect 4 10.0.0.4:3863")
	// SH6: one is picked, the others end.
	x.up(3)
	x.want("1s up 10.0.0.3:3863 true", "1s close 1", "1s close 4")
	if x.h.Hunting() {
		t.Error("the hunt goes on after success")
	}
}

func TestHuntFirstAnswers(t *testing.T) {
	x := newHunter(t, Config{Registrars: registrars("10.0.0.1", "10.0.0.2")})
	x.h.Begin(x.now, rserpool.Registrar{}, nil)
	x.until(10 * time.Millisecond)
	x.up(1)
	x.until(time.Minute)
	x.want("0s connect 1 10.0.0.1:3863", "10ms up 10.0.0.1:3863 true")
	x.up(1)
	x.want("1m0s up  false")
}

func TestHuntFailedOneIsLast(t *testing.T) {
	x := newHunter(t, Config{Registrars: registrars("10.0.0.1", "10.0.0.2", "10.0.0.3")})
	x.h.Begin(x.now, registrars("10.0.0.2")[0], errors.New("gone"))
	x.until(time.Second)
	x.want("0s connect 1 10.0.0.3:3863", "300ms connect 2 10.0.0.1:3863", "600ms connect 3 10.0.0.2:3863")
}

// TestHuntLone: the only registrar is slow to accept. The attempt goes on after T5-Serverhunt, until
// the transport ends it, or another registrar is heard.
func TestHuntLone(t *testing.T) {
	x := newHunter(t, Config{Registrars: registrars("10.0.0.1")})
	x.h.Begin(x.now, rserpool.Registrar{}, nil)
	x.until(29 * time.Second)
	x.want("0s connect 1 10.0.0.1:3863")
	x.h.Down(x.now, 1, errors.New("too slow"))
	if x.h.Rounds() != 1 {
		t.Errorf("%d rounds without success, want 1", x.h.Rounds())
	}
	x.until(31 * time.Second)
	x.want("29.5s connect 2 10.0.0.1:3863")
}

// TestHuntT5: SH5. Silent registrars: T5-Serverhunt doubles up to RETRAN-MAX after each
// round. The fourth registrar has half of it, in the place of the third.
func TestHuntT5(t *testing.T) {
	x := newHunter(t, Config{
		Registrars: registrars("10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"),
		ServerHunt: 10 * time.Second, RetranMax: 30 * time.Second, headStart: time.Second,
	})
	x.h.Begin(x.now, rserpool.Registrar{}, nil)
	x.until(76 * time.Second)
	x.want(
		"0s connect 1 10.0.0.1:3863", "1s connect 2 10.0.0.2:3863", "2s connect 3 10.0.0.3:3863",
		"5s close 3", "5s connect 4 10.0.0.4:3863",
		"10s close 1", "10s close 2", "10s close 4",
		"10s connect 5 10.0.0.1:3863", "11s connect 6 10.0.0.2:3863", "12s connect 7 10.0.0.3:3863",
		"20s close 7", "20s connect 8 10.0.0.4:3863",
		"30s close 5", "30s close 6", "30s close 8",
		"30s connect 9 10.0.0.1:3863", "31s connect 10 10.0.0.2:3863", "32s connect 11 10.0.0.3:3863",
		"45s close 11", "45s connect 12 10.0.0.4:3863",
		"1m0s close 9", "1m0s close 10", "1m0s close 12",
		"1m0s connect 13 10.0.0.1:3863", "1m1s connect 14 10.0.0.2:3863", "1m2s connect 15 10.0.0.3:3863",
		"1m15s close 15", "1m15s connect 16 10.0.0.4:3863",
	)
	if x.h.Rounds() != 3 {
		t.Errorf("%d rounds in vain, want 3", x.h.Rounds())
	}
	// SH3: T5 is at its initial value again.
	x.up(16)
	x.h.Settled()
	x.h.Begin(x.now, rserpool.Registrar{}, nil)
	x.until(82 * time.Second)
	if got := x.log[len(x.log)-1]; !strings.HasPrefix(got, "1m21s connect") {
		t.Errorf("after success the next set is tried at %q, want 1m21s", got)
	}
}

// TestHuntAllRefuse: registrars that refuse at once are tried again after
// pauses that grow, and the report says what happened.
func TestHuntAllRefuse(t *testing.T) {
	x := newHunter(t, Config{Registrars: registrars("10.0.0.1", "10.0.0.2"), RetranMax: 3 * time.Second})
	x.h.Begin(x.now, rserpool.Registrar{}, nil)
	var at []time.Duration
	for i := range 5 {
		for !slices.ContainsFunc(x.log, func(s string) bool { return strings.Contains(s, fmt.Sprintf("connect %d ", 2*i+1)) }) {
			d, _ := x.h.NextDeadline()
			if i > 0 {
				x.now = d
				x.h.Tick(x.now)
			}
			x.collect()
		}
		at = append(at, x.now.Sub(x.start))
		x.down(sctp.AssocID(2*i + 1))
		x.down(sctp.AssocID(2*i + 2))
	}
	want := []time.Duration{0, 500 * time.Millisecond, 1500 * time.Millisecond, 3500 * time.Millisecond, 6500 * time.Millisecond}
	if d := cmp.Diff(want, at); d != "" {
		t.Errorf("rounds began (-want +got):\n%s", d)
	}
	err := &rserpool.UnreachableError{Attempts: x.h.Report()}
	if want := "no registrar could be reached: 10.0.0.1:3863: refused; 10.0.0.2:3863: refused"; err.Error() != want {
		t.Errorf("report\n%v, want\n%v", err, want)
	}
	if x.h.Rounds() != 5 {
		t.Errorf("%d rounds in vain, want 5", x.h.Rounds())
	}
}

// TestHuntDoesNotSpin: a registrar that takes associations and ends them at
// once is not called without end.
func TestHuntDoesNotSpin(t *testing.T) {
	x := newHunter(t, Config{Registrars: registrars("10.0.0.1")})
	connects := 0
	for x.now.Sub(x.start) < 10*time.Second {
		x.h.Begin(x.now, registrars("10.0.0.1")[0], errors.New("aborted"))
		if d, ok := x.h.NextDeadline(); ok && len(x.h.trying) == 0 {
			x.now = d
			x.h.Tick(x.now)
		}
		x.collect()
		for _, a := range x.h.trying {
			connects++
			x.up(a.assoc)
		}
	}
	if connects > 7 {
		t.Errorf("%d connects in 10 s, want pauses that double from 500 ms", connects)
	}
}

func announce(t *testing.T, m *asap.ServerAnnounce) []byte {
	t.Helper()
	b, err := m.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestAnnounced: the managed list of RFC 5352, Section 3.6.
func TestAnnounced(t *testing.T) {
	at := netip.MustParseAddrPort
	x := newHunter(t, Config{Outdate: 5 * time.Second, headStart: time.Second})
	x.h.Begin(x.now, rserpool.Registrar{}, nil)
	x.until(2 * time.Second)
	x.want()
	// Without transports: the source address and the registered port.
	if err := x.h.Announced(x.now, at("10.0.0.1:3863"), announce(t, &asap.ServerAnnounce{Server: 1})); err != nil {
		t.Fatal(err)
	}
	x.collect()
	x.want("2s connect 1 10.0.0.1:3863")
	// With transports; TCP is of no use to a pool element. Addresses of one
	// server are one registrar.
	x.until(2500 * time.Millisecond)
	err := x.h.Announced(x.now, at("10.0.0.9:1234"), announce(t, &asap.ServerAnnounce{Server: 2, Transports: []rserpool.Transport{
		{Type: rserpool.TCP, Port: 3863, Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.2")}},
		{Type: rserpool.SCTP, Port: 3870, Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.1.0.2")}},
	}}))
	if err != nil {
		t.Fatal(err)
	}
	x.until(3 * time.Second)
	x.want("3s connect 2 10.0.0.2:3870,10.1.0.2:3870")
	// Heard again and again, nothing new.
	for i := range 3 {
		x.until(time.Duration(4+i) * time.Second)
		_ = x.h.Announced(x.now, at("10.0.0.1:3863"), announce(t, &asap.ServerAnnounce{Server: 1}))
	}
	x.want()
	// T7-ENRPoutdate: server 2 has not been heard for 5 s.
	x.until(8 * time.Second)
	if d := cmp.Diff(registrars("10.0.0.1"), x.h.known.list(x.now), cmp.Comparer(rserpool.Registrar.Equal)); d != "" {
		t.Errorf("list after T7 (-want +got):\n%s", d)
	}
	x.until(12 * time.Second)
	if l := x.h.known.list(x.now); len(l) != 0 {
		t.Errorf("list is %v, want it empty after T7", l)
	}
}

// TestAnnouncedSharedAddress: two registrars name the address of docker0. It takes
// neither of them out of the list, nor comes before the address that they are at,
// and the list does not change from announce to announce.
func TestAnnouncedSharedAddress(t *testing.T) {
	x := newHunter(t, Config{})
	hear := func(server rserpool.ServerID, from string, addrs ...string) {
		tr := rserpool.Transport{Type: rserpool.SCTP, Port: 3863}
		for _, a := range addrs {
			tr.Addrs = append(tr.Addrs, netip.MustParseAddr(a))
		}
		m := &asap.ServerAnnounce{Server: server, Transports: []rserpool.Transport{tr}}
		if err := x.h.Announced(x.now, netip.MustParseAddrPort(from+":3863"), announce(t, m)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3 {
		hear(1, "10.0.0.1", "172.17.0.1", "10.0.0.1")
		hear(2, "10.0.0.2", "172.17.0.1", "10.0.0.2")
		if got, want := fmt.Sprint(x.h.known.list(x.now)), "[10.0.0.1:3863,172.17.0.1:3863 10.0.0.2:3863,172.17.0.1:3863]"; got != want {
			t.Errorf("%d: got %s, want %s", i, got, want)
		}
	}
	// A registrar of this machine is at docker0's address itself.
	hear(3, "172.17.0.1", "172.17.0.1")
	hear(1, "10.0.0.1", "172.17.0.1", "10.0.0.1")
	if got, want := fmt.Sprint(x.h.known.list(x.now)), "[10.0.0.1:3863 10.0.0.2:3863 172.17.0.1:3863]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestAnnouncedOtherPort: RSPLIB announces from the port of its ASAP, which
// need not be the registered one. Both are tried.
func TestAnnouncedOtherPort(t *testing.T) {
	x := newHunter(t, Config{headStart: time.Second})
	x.h.Begin(x.now, rserpool.Registrar{}, nil)
	_ = x.h.Announced(x.now, netip.MustParseAddrPort("10.0.0.1:40000"), announce(t, &asap.ServerAnnounce{Server: 1}))
	x.until(time.Second)
	x.want("0s connect 1 10.0.0.1:3863", "1s connect 2 10.0.0.1:40000")
}

func TestAnnouncedIsBounded(t *testing.T) {
	x := newHunter(t, Config{})
	for i := range 1000 {
		from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 3863)
		_ = x.h.Announced(x.now, from, announce(t, &asap.ServerAnnounce{Server: rserpool.ServerID(i)}))
	}
	if n := len(x.h.known.list(x.now)); n != maxAnnounced {
		t.Errorf("%d registrars known, want %d", n, maxAnnounced)
	}
}

func TestAnnouncedUnfit(t *testing.T) {
	x := newHunter(t, Config{})
	from := netip.MustParseAddrPort("10.0.0.1:3863")
	ka, _ := (&asap.EndpointKeepAlive{Handle: "x"}).Append(nil)
	for name, data := range map[string][]byte{"empty": {}, "garbage": {1, 2, 3}, "other message": ka} {
		if err := x.h.Announced(x.now, from, data); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if l := x.h.known.list(x.now); len(l) != 0 {
		t.Errorf("list is %v, want it empty", l)
	}
}

// TestHuntNoneKnown: without any registrar the hunt waits and counts rounds.
func TestHuntNoneKnown(t *testing.T) {
	x := newHunter(t, Config{})
	x.h.Begin(x.now, rserpool.Registrar{}, nil)
	x.until(29 * time.Second)
	if x.h.Rounds() != 1 {
		t.Errorf("%d rounds after 29 s, want 1", x.h.Rounds())
	}
	x.want()
	if got := (&rserpool.UnreachableError{Attempts: x.h.Report()}).Error(); !strings.Contains(got, "no registrar is known") {
		t.Errorf("error %q", got)
	}
}

func TestHuntStopWhileConnecting(t *testing.T) {
	x := newHunter(t, Config{Registrars: registrars("10.0.0.1")})
	x.h.Begin(x.now, rserpool.Registrar{}, nil)
	a := x.h.Take()[0].(Connect)
	x.h.Stop()
	x.h.Connecting(x.now, a.Ref, 7, nil)
	x.collect()
	x.want("0s close 7")
}

// TestReportOfTheCaller: the report goes to programs, which may change it. The hunt goes on with
// the addresses that it has.
func TestReportOfTheCaller(t *testing.T) {
	x := newHunter(t, Config{Registrars: registrars("10.0.0.1,10.0.0.2")})
	x.h.Begin(x.now, rserpool.Registrar{}, nil)
	want := fmt.Sprint(x.h.Known(x.now))
	x.h.Report()[0].Registrar.Addrs[0] = netip.MustParseAddr("192.0.2.1")
	if got := fmt.Sprint(x.h.Known(x.now)); got != want {
		t.Errorf("the hunt knows %s after a change of the report, want %s", got, want)
	}
}
