package registrar

import (
	"encoding/hex"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// newDiscoveryWorld has a registrar that looks for others by multicast, and serves
// ENRP.
func newDiscoveryWorld(t *testing.T, change ...func(*Config)) *world {
	t.Helper()
	w := newWorld(t, append(change, func(c *Config) { c.Discover = true })...)
	w.handle(Serving{Addrs: peers("10.0.0.1:3863"), ENRP: peers("10.0.0.1:9901")})
	return w
}

// presenceAt returns the presence of a registrar at some addresses, port 9901.
func presenceAt(server rserpool.ServerID, at ...string) *enrp.Presence {
	info := rserpool.ServerInformation{ID: server, Transport: rserpool.Transport{Type: rserpool.SCTP, Port: 9901}}
	for _, a := range at {
		info.Transport.Addrs = append(info.Transport.Addrs, netip.MustParseAddr(a))
	}
	return &enrp.Presence{Sender: server, HasChecksum: true, Checksum: 0xffff, Info: info}
}

// hears has a message come by multicast.
func (w *world) hears(from string, m enrp.Message) {
	w.t.Helper()
	b, err := m.Append(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	w.handle(Announced{ENRP: true, From: netip.AddrPortFrom(netip.MustParseAddr(from), 9901), Data: b})
}

// accepts has the peer accept a Connect.
func (w *world) accepts(ref uint64, id AssocID, at string) {
	w.t.Helper()
	w.handle(Connecting{Ref: ref, Assoc: id})
	w.handle(AssocUp{Assoc: id, Peer: peers(at + ":9901"), Via: rserpool.ViaKernel})
}

// connectCount counts the Connect actions so far, and drops the trace.
func (w *world) connectCount() int {
	n := 0
	for _, line := range w.trace {
		if strings.HasPrefix(line, "connect ") {
			n++
		}
	}
	w.skip("announce", "connect")
	return n
}

// heard counts the seeds of registrars that were heard.
func (w *world) heard() int {
	n := 0
	for _, c := range w.r.peers.seeds {
		if c.from.IsValid() {
			n++
		}
	}
	return n
}

// TestDiscovery: the registrar connects to another one that it hears by multicast,
// downloads the handlespace, and has it as a peer. It continues to send its own presence by
// multicast every PEER-HEARTBEAT-CYCLE.
func TestDiscovery(t *testing.T) {
	w := newDiscoveryWorld(t)
	acts := w.handle(Tick{})
	w.want("announce presence ffff")
	want := "0100002c" + "10000001" + "00000000" + "000f0006ffff0000" + // as in the reference's capture f1
		"000b0018" + "10000001" + "00040010" + "26ad0000" + "00010008" + "0a000001"
	if got := hex.EncodeToString(acts[0].(Announce).Data); got != want {
		t.Errorf("presence:\n got %s\nwant %s", got, want)
	}
	w.hears("10.0.0.2", presenceAt(greater, "10.0.0.3", "10.0.0.2"))
	w.want("connect #1 via 0 to [10.0.0.2:9901 10.0.0.3:9901]")
	w.hears("10.0.0.2", presenceAt(greater, "10.0.0.3", "10.0.0.2"))
	w.want()
	w.accepts(1, 2, "10.0.0.2")
	w.want("2 < presence R ffff")
	w.tell(2, presenceAt(greater, "10.0.0.3", "10.0.0.2"))
	w.want("2 < presence to 20000002 R ffff", "2 < list_request to 20000002")
	w.tell(2, &enrp.ListResponse{Sender: greater})
	w.want("2 < handle_table_request to 20000002")
	if w.r.Ready() {
		t.Error("ready without a handlespace")
	}
	w.tell(2, &enrp.HandleTableResponse{Sender: greater, Pools: []enrp.PoolEntry{
		{Handle: "a", Elements: []rserpool.PoolElement{peerElement(1, greater)}},
	}})
	if !w.r.Ready() || w.heard() != 0 {
		t.Errorf("ready %v, %d registrars called: want a peer", w.r.Ready(), w.heard())
	}
	w.wantHomes("a:1@20000002")
	w.pass(2 * time.Second)
	w.skip("announce")
	for range 600 {
		w.hears("10.0.0.2", presenceAt(greater, "10.0.0.3", "10.0.0.2"))
		w.tell(2, &enrp.Presence{Sender: greater})
		w.pass(time.Second)
	}
	byMulticast, toPeer, lists := 0, 0, 0
	for _, line := range w.trace {
		switch line {
		case "announce presence ffff":
			byMulticast++
		case "2 < presence ffff":
			toPeer++
		case "2 < list_request to 20000002":
			lists++
		default:
			t.Errorf("does %s", line)
		}
	}
	if byMulticast < 19 || byMulticast > 21 || toPeer < 19 || toPeer > 21 || lists != toPeer {
		t.Errorf("in 600 s: got %d presences by multicast, %d to the peer, and %d requests for its list, want 20 of each", byMulticast, toPeer, lists)
	}
	// Multicast counts as a sign of life only if there is a link to the peer at that
	// address.
	for _, step := range []struct {
		from  string
		alive bool
	}{{"10.0.0.2", true}, {"10.0.0.77", false}, {"10.0.0.2", false}} {
		if !step.alive && step.from == "10.0.0.2" {
			w.down(2)
		}
		for range 63 {
			w.hears(step.from, presenceAt(greater, "10.0.0.3", "10.0.0.2"))
			w.pass(time.Second)
		}
		p := w.r.peers.byID[greater]
		if alive := p != nil && p.state == PeerActive; alive != step.alive {
			t.Errorf("a peer that is heard by multicast from %s, %+v, is alive: %v", step.from, step, alive)
		}
	}
}

// TestAloneByMulticast: a registrar that hears no other one serves when the time of mentor
// discovery ends.
func TestAloneByMulticast(t *testing.T) {
	w := newDiscoveryWorld(t, func(c *Config) { c.Timers.MentorDiscovery = 7 * time.Second })
	w.pass(7*time.Second - 1)
	if w.r.Ready() {
		t.Fatal("ready while it looks for others")
	}
	if n := strings.Count(strings.Join(w.trace, "\n"), "announce presence ffff"); n < 7 || n > 8 {
		t.Errorf("%d presences in 7 s of mentor discovery, want one in a second", n)
	}
	w.up(1, rserpool.ViaKernel, "10.0.1.9")
	w.trace, w.logs = nil, false
	w.recv(1, reg("a", 1, "10.0.1.9"))
	w.want("1 < registration rejected a:1 cause 6")
	w.logs = true
	w.pass(1)
	if !w.r.Ready() {
		t.Error("not ready when nobody was heard")
	}
	w.want("log no other registrar was heard: starting with an empty handlespace",
		"log this registrar is ready: registrations that it has refused before: 1; elements try again")
	w.logs = false
	w.recv(1, reg("a", 1, "10.0.1.9"))
	w.want("1 < registration granted a:1")
}

// TestForgedPresences: thousands of presences in the name of registrars, with the
// addresses of victims, cause a bounded number of Connects, and leave nothing behind.
func TestForgedPresences(t *testing.T) {
	for _, tt := range []struct {
		name string
		from func(i int) string
		most int // called at a time
	}{
		{"from one address", func(int) string { return "10.0.0.66" }, maxFromOne},
		{"from many", func(i int) string { return fmt.Sprintf("10.7.%d.%d", i/250, i%250) }, 20},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newDiscoveryWorld(t, func(c *Config) { c.Limits.Servers = 20 })
			refuse := func() {
				for _, ref := range slices.Sorted(maps.Keys(w.r.peers.connecting)) {
					w.handle(Connecting{Ref: ref})
				}
			}
			forge := func(i int) {
				w.hears(tt.from(i), presenceAt(rserpool.ServerID(i+1), fmt.Sprintf("10.8.%d.%d", i/250%250, i%250)))
				refuse()
				if got := w.heard(); got > tt.most {
					t.Fatalf("%d are called, want at most %d", got, tt.most)
				}
			}
			n := 0
			for ; !w.r.Ready(); n++ { // 100 a second
				forge(n)
				w.pass(10 * time.Millisecond)
				if took := w.now.Sub(w.start); took > 11*time.Second {
					t.Fatalf("the start takes more than %v", took)
				}
			}
			if got := w.connectCount(); got > 11*tt.most {
				t.Errorf("%d calls while it starts, want at most %d", got, 11*tt.most)
			}
			w.pass(time.Minute)
			w.skip("announce")
			for end := w.now.Add(5 * time.Minute); w.now.Before(end); n++ {
				forge(n)
				w.pass(10 * time.Millisecond)
			}
			if got := w.connectCount(); got < tt.most || got > 11*tt.most {
				t.Errorf("%d calls in ten PEER-HEARTBEAT-CYCLEs, want at most %d", got, 11*tt.most)
			}
			s := w.r.Stats()
			if s.AnnouncesRefused == 0 || s.AnnouncesReceived.ENRP != uint64(n) {
				t.Errorf("of %d: %d are counted, %d refused", n, s.AnnouncesReceived.ENRP, s.AnnouncesRefused)
			}
			for range heardTries {
				w.pass(time.Minute)
				refuse()
			}
			w.pass(time.Minute)
			if got := len(w.r.peers.seeds) + len(w.r.peers.list) + len(w.r.peers.connecting); got != 0 {
				t.Errorf("%d are left", got)
			}
		})
	}
}
