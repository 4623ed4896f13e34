package hunt

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// TestHuntRestartBesideSilent: one registrar restarts, and the machine of another
// one is off. The first is tried again after the same pauses as if it were alone.
func TestHuntRestartBesideSilent(t *testing.T) {
	x := newHunter(t, Config{Registrars: registrars("10.0.0.1", "10.0.0.2"), RetranMax: 2 * time.Second})
	x.begin()
	x.down(1)
	x.until(time.Second)
	x.down(3)
	x.until(3 * time.Second)
	x.down(4)
	x.until(4 * time.Second)
	x.want(
		"0s connect 1 10.0.0.1:3863", "0s connect 2 10.0.0.2:3863",
		"500ms connect 3 10.0.0.1:3863", "2s connect 4 10.0.0.1:3863",
	)
	if got, want := fmt.Sprint(&rserpool.UnreachableError{Attempts: x.h.Report()}), "no registrar could be reached: 10.0.0.1:3863: refused; 10.0.0.2:3863: no answer"; got != want {
		t.Errorf("report %q, want %q", got, want)
	}
	x.until(5 * time.Second)
	x.up(5)
	x.want("5s connect 5 10.0.0.1:3863", "5s up 10.0.0.1:3863 true", "5s close 2")
}

// TestHuntBesideAnnounced: somebody announces new registrars without end, which do
// not answer. The configured one is tried again as if it were alone, and what is
// remembered is bounded.
func TestHuntBesideAnnounced(t *testing.T) {
	for _, silent := range []bool{false, true} {
		x := newHunter(t, Config{Registrars: registrars("10.0.0.1")})
		x.begin()
		tried, last, worst := 0, x.now, time.Duration(0)
		for i := range 10 * 600 {
			for _, line := range x.log {
				var at, ref string
				if n, _ := fmt.Sscanf(line, "%s connect %s 10.0.0.1:3863", &at, &ref); n != 2 || !strings.HasSuffix(line, " 10.0.0.1:3863") {
					continue
				}
				tried++
				worst, last = max(worst, x.now.Sub(last)), x.now
				if !silent {
					for _, a := range slices.Clone(x.h.trying) {
						if a.to.Equal(x.h.cfg.Registrars[0]) {
							x.h.Down(x.now, a.assoc, fmt.Errorf("refused"))
						}
					}
				}
			}
			x.log = nil
			from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), 3863)
			_ = x.h.Announced(x.now, from, announce(t, &asap.ServerAnnounce{Server: rserpool.ServerID(i + 1)}))
			x.until(time.Duration(i) * 100 * time.Millisecond)
		}
		worst = max(worst, x.now.Sub(last))
		if worst > 80*time.Second {
			t.Errorf("silent %v: tried %d times in 10 min, with a pause of %v", silent, tried, worst)
		}
		if n := len(x.h.report) + len(x.h.queue); n > 2*maxAnnounced {
			t.Errorf("silent %v: %d registrars are remembered", silent, n)
		}
	}
}

// TestHuntAnnouncedTurns: each of those that are announced is tried in its turn,
// although the round ends with each set that does not answer.
func TestHuntAnnouncedTurns(t *testing.T) {
	x := newHunter(t, Config{Registrars: registrars("10.0.0.1"), Outdate: time.Hour})
	for i := range 20 {
		from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, 0, byte(i)}), 3863)
		_ = x.h.Announced(x.now, from, announce(t, &asap.ServerAnnounce{Server: rserpool.ServerID(i + 1)}))
	}
	x.begin()
	x.until(15 * time.Minute)
	for i := range 20 {
		if to := fmt.Sprintf(" 10.1.0.%d:3863", i); !slices.ContainsFunc(x.log, func(s string) bool { return strings.HasSuffix(s, to) }) {
			t.Errorf("%s is not tried within 15 min", to)
		}
	}
}

// TestAnnouncedFull: a sender that announces addresses of others does not
// keep out a registrar that announces itself.
func TestAnnouncedFull(t *testing.T) {
	x := newHunter(t, Config{})
	forged := &asap.ServerAnnounce{Server: 1, Transports: []rserpool.Transport{{Type: rserpool.SCTP, Port: 3863}}}
	for i := range 2 * maxAnnounced {
		forged.Transports[0].Addrs = []netip.Addr{netip.AddrFrom4([4]byte{10, 1, 0, byte(i)})}
		_ = x.h.Announced(x.now, netip.MustParseAddrPort("10.0.0.66:3863"), announce(t, forged))
	}
	_ = x.h.Announced(x.now, netip.MustParseAddrPort("10.0.0.1:3863"), announce(t, &asap.ServerAnnounce{Server: 2}))
	if list := x.h.known.list(x.now); !slices.ContainsFunc(list, registrars("10.0.0.1")[0].Equal) {
		t.Errorf("it is not among %d registrars", len(list))
	}
}
