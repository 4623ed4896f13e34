package registrar

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/enrp"
)

// TestHeardLate: a registrar that is heard at the end of mentor discovery has time to
// respond. One that is heard later does not delay the start.
func TestHeardLate(t *testing.T) {
	w := newDiscoveryWorld(t)
	w.pass(4900 * time.Millisecond)
	w.hears("10.0.0.2", presenceAt(greater, "10.0.0.2"))
	for i := range 45 {
		w.pass(100 * time.Millisecond)
		w.hears("10.0.0.9", presenceAt(third, fmt.Sprintf("10.0.1.%d", i)))
	}
	if w.r.Ready() {
		t.Fatal("ready while a registrar that was heard is called")
	}
	w.pass(time.Second)
	if !w.r.Ready() {
		t.Error("not ready 10 s after the start")
	}
}

// TestHeardNamed: the registrar connects to the configured peers first. A registrar
// that is heard may be the mentor as well.
func TestHeardNamed(t *testing.T) {
	w := newDiscoveryWorld(t, func(c *Config) { c.Peers = peers("10.0.0.9:9901") })
	w.want("connect #1 via 0 to [10.0.0.9:9901]")
	w.handle(Connecting{Ref: 1})
	w.hears("10.0.0.2", presenceAt(greater, "10.0.0.2"))
	w.want("connect #2 via 0 to [10.0.0.2:9901]")
	w.hears("10.0.0.9", presenceAt(third, "10.0.0.9")) // hastens the next call
	w.pass(time.Second)
	if got := w.connectCount(); got != 1 {
		t.Errorf("%d calls in a second, want 1", got)
	}
	w.accepts(2, 2, "10.0.0.2")
	w.tell(2, presenceAt(greater, "10.0.0.2"))
	w.tell(2, &enrp.ListResponse{Sender: greater})
	w.tell(2, &enrp.HandleTableResponse{Sender: greater})
	if !w.r.Ready() {
		t.Error("not ready with the handlespace of a registrar that was heard")
	}
}

// TestHeardHastens: when a registrar is heard at the place of a former peer, the
// registrar connects at once, but at most every PEER-CALL-GAP.
func TestHeardHastens(t *testing.T) {
	w := newDiscoveryWorld(t)
	w.pass(10 * time.Second)
	w.meet(2, greater)
	w.down(2)
	w.pass(20 * time.Second)
	if len(w.r.peers.list) != 0 || len(w.r.peers.seeds) != 1 {
		t.Fatalf("%d peers, %d seeds: want a former peer", len(w.r.peers.list), len(w.r.peers.seeds))
	}
	w.skip("connect")
	w.hears("10.0.9.2", presenceAt(third, "10.0.9.2"))
	w.handle(Tick{})
	ref := w.r.refs
	w.want(fmt.Sprintf("connect #%d via 0 to [10.0.9.2:9901]", ref))
	n := 0
	for range 100 {
		w.handle(Connecting{Ref: w.r.refs})
		w.hears("10.0.9.2", presenceAt(third, "10.0.9.2"))
		w.pass(100 * time.Millisecond)
		n += w.connectCount()
	}
	if n < 8 || n > 10 {
		t.Errorf("%d calls in 10 s, want one in a second", n)
	}
}

// TestHeardAnew: a registrar with another identifier at a peer's address may be that peer,
// restarted. The registrar requests a presence from the peer once.
func TestHeardAnew(t *testing.T) {
	w := newDiscoveryWorld(t)
	w.pass(10 * time.Second)
	w.meet(2, greater)
	w.hears("10.0.9.2", presenceAt(third, "10.0.9.2"))
	w.want("2 < presence to 20000002 R ffff")
	w.hears("10.0.9.2", presenceAt(third, "10.0.9.2"))
	w.want()
	w.down(2) // it was not
	ref := w.r.refs
	w.want(fmt.Sprintf("connect #%d via 1 to [10.0.9.2:9901]", ref))
	w.hears("10.0.9.2", presenceAt(third, "10.0.9.2"))
	w.want()
	w.accepts(ref, 3, "10.0.9.2")
	w.tell(3, presenceAt(third, "10.0.9.2"))
	if p := w.r.peers.byID[third]; p == nil || p.link == nil {
		t.Error("the registrar at the former address is not a peer")
	}
}

// TestHeardInVain: a registrar is heard all the time, but accepts no association. This
// registrar tries to connect every PEER-HEARTBEAT-CYCLE, and logs it once.
func TestHeardInVain(t *testing.T) {
	w := newDiscoveryWorld(t)
	w.pass(10 * time.Second)
	w.trace, w.logs = nil, true
	calls := 0
	for range 300 {
		w.hears("10.0.0.2", presenceAt(greater, "10.0.0.2"))
		w.handle(Connecting{Ref: w.r.refs})
		w.pass(time.Second)
		for _, line := range w.trace {
			switch {
			case strings.HasPrefix(line, "connect "):
				calls++
			case strings.HasPrefix(line, "log ") && calls > 0:
				t.Errorf("says %s", line)
			}
		}
		w.skip("announce", "connect", "log")
	}
	if calls < 9 || calls > 11 {
		t.Errorf("called %d times in 300 s, want 10", calls)
	}
}

// TestHeardWhileCalled: a peer that has lost its link has a connector that tries
// already, whatever the peer's identifier is now.
func TestHeardWhileCalled(t *testing.T) {
	w := newDiscoveryWorld(t)
	w.pass(10 * time.Second)
	w.meet(2, greater)
	w.down(2)
	w.want("connect #1 via 1 to [10.0.9.2:9901]")
	w.hears("10.0.9.2", presenceAt(third, "10.0.9.2"))
	w.hears("10.0.9.2", presenceAt(greater, "10.0.9.2"))
	w.want()
}

// TestHeardSilent: the registrar gives up if the other side accepts the association and
// does not identify itself, or is no registrar.
func TestHeardSilent(t *testing.T) {
	w := newDiscoveryWorld(t)
	w.pass(10 * time.Second)
	w.skip("announce")
	w.hears("10.0.0.2", presenceAt(greater, "10.0.0.2"))
	w.want("connect #1 via 0 to [10.0.0.2:9901]")
	w.accepts(1, 2, "10.0.0.2")
	w.want("2 < presence R ffff")
	w.pass(5 * time.Second)
	w.want("2 abort")
	w.down(2)
	w.pass(2 * time.Minute)
	if got := w.connectCount(); got != 1 {
		t.Errorf("called %d times more, want 1", got)
	}
	w.handle(Connecting{Ref: 2})
	w.pass(2 * time.Minute)
	if w.connectCount() != 0 || len(w.r.peers.seeds)+len(w.r.peers.list) != 0 {
		t.Errorf("%d seeds, %d peers: want neither", len(w.r.peers.seeds), len(w.r.peers.list))
	}
}

// TestHeardOdd: multicasts that lead to no Connect. None of them is answered.
func TestHeardOdd(t *testing.T) {
	long := presenceAt(greater)
	for i := range 60 {
		long.Info.Transport.Addrs = append(long.Info.Transport.Addrs, netip.AddrFrom4([4]byte{10, 9, 0, byte(i)}))
	}
	asks := presenceAt(greater, "10.0.0.2")
	asks.ReplyRequired = true
	bare := &enrp.Presence{Sender: greater}
	twoIDs := presenceAt(greater, "10.0.0.2")
	twoIDs.Info.ID = third
	noPort := presenceAt(greater, "10.0.0.2")
	noPort.Info.Transport.Port = 0
	changed := presenceAt(testServer, "10.0.0.1")
	changed.Checksum = 0x1234
	for _, tt := range []struct {
		name, from string
		m          enrp.Message
		does, says []string
		counted    string // of Stats.Announces...
	}{
		{"asks for an answer", "10.0.0.2", asks, []string{"connect #1 via 0 to [10.0.0.2:9901]"}, []string{"registrar 20000002 is heard from 10.0.0.2: connecting to 10.0.0.2:9901"}, "received"},
		{"many addresses", "10.9.0.50", long, []string{"connect #1 via 0 to [10.9.0.50:9901 10.9.0.1:9901 10.9.0.2:9901 10.9.0.3:9901 10.9.0.4:9901 10.9.0.5:9901 10.9.0.6:9901 10.9.0.7:9901]"}, []string{"registrar 20000002 is heard from 10.9.0.50: connecting to 10.9.0.50:9901"}, "received"},
		{"no server information", "10.0.0.2", bare, nil, nil, "received"},
		{"no identifier", "10.0.0.2", &enrp.Presence{}, nil, nil, "malformed"},
		{"two identifiers", "10.0.0.2", twoIDs, nil, nil, "malformed"},
		{"no port", "10.0.0.2", noPort, nil, nil, "received"},
		{"loopback", "127.0.0.1", presenceAt(greater, "127.0.0.2"), nil, nil, "received"},
		{"multicast", "10.0.0.2", presenceAt(greater, "224.0.0.1", "255.255.255.255", "0.0.0.0"), nil, nil, "received"},
		{"our own", "10.0.0.1", changed, nil, nil, ""},
		{"our own, of before", "10.0.0.1", presenceAt(greater, "10.0.0.1"), nil, nil, "received"},
		{"our identifier", "10.0.0.2", presenceAt(testServer, "10.0.0.2"), nil, []string{"another registrar, at 10.0.0.2:9901, has this registrar's server identifier 10000001: change server_id on one of the two"}, "duplicate"},
		{"another message", "10.0.0.2", &enrp.ListRequest{Sender: greater}, nil, nil, "malformed"},
		{"update", "10.0.0.2", update(greater, enrp.AddPE, "a", peerElement(1, greater)), nil, nil, "malformed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newDiscoveryWorld(t)
			w.pass(10 * time.Second)
			w.trace, w.logs = nil, true
			w.hears(tt.from, tt.m)
			w.want(append(slices.Clone(prefixed("log ", tt.says)), tt.does...)...)
			w.hears(tt.from, tt.m)
			w.want() // said once
			s := w.r.Stats()
			for name, got := range map[string]ByProtocol{
				"received": s.AnnouncesReceived, "duplicate": s.AnnouncesDuplicate, "malformed": s.AnnouncesMalformed,
			} {
				want := ByProtocol{}
				if name == tt.counted {
					want.ENRP = 2
				}
				if got != want {
					t.Errorf("announcements %s: got %+v, want %+v", name, got, want)
				}
			}
		})
	}
	w := newDiscoveryWorld(t)
	for _, bad := range []string{"", "01", "0100002c", "0100000e2000000200000000000f"} {
		b, _ := hex.DecodeString(bad)
		w.handle(Announced{ENRP: true, From: netip.MustParseAddrPort("10.0.0.2:9901"), Data: b})
	}
	if got := w.r.Stats().AnnouncesMalformed.ENRP; got != 4 {
		t.Errorf("%d malformed, want 4", got)
	}
}

func prefixed(prefix string, list []string) []string {
	var out []string
	for _, s := range list {
		out = append(out, prefix+s)
	}
	return out
}

// TestHeardOnLoopback: registrars that are only on the loopback find each other there.
func TestHeardOnLoopback(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Discover = true })
	w.handle(Serving{Addrs: peers("127.0.0.1:3863"), ENRP: peers("127.0.0.1:9901")})
	w.hears("10.0.0.1", presenceAt(greater, "127.0.0.2"))
	w.want("connect #1 via 0 to [127.0.0.2:9901]")
}
