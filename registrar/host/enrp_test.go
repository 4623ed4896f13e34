package host

import (
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/stack"
	"github.com/rserpool/coredns-rserpool/registrar"
	"github.com/rserpool/coredns-rserpool/test/here"
)

// enrpHost is a started Host that serves ENRP on the loopback, with a peer if
// there is one.
func enrpHost(t *testing.T, encap uint16, peer *Host) *Host {
	t.Helper()
	return loopbackHost(t, func(c *Config) {
		c.EncapPort = encap
		c.ENRP = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}
		c.Timers = registrar.Timers{
			PeerHeartbeat: 300 * time.Millisecond, KeepAliveInterval: 100 * time.Millisecond, MaxTimeLastHeard: time.Second, MaxTimeNoResponse: 500 * time.Millisecond,
		}
		if peer != nil {
			c.Peers, c.PeerEncapPort = peer.ENRPAddrs(), peer.cfg.EncapPort
		}
		c.Logger = logTo(func(_ bool, text string) { t.Log(text) })
	})
}

// eventually waits for something that others do.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

// TestPeers: two registrars share a handlespace over SCTP in UDP. The second one downloads
// the handlespace of the first before it serves. Each gets the other's updates. When one
// ends, the other takes over its living elements.
func TestPeers(t *testing.T) {
	first := enrpHost(t, here.FreePort(t), nil)
	if !first.Ready() {
		t.Fatal("the first registrar of a scope is not ready")
	}
	stack, err := stack.New(stack.Config{Only: sctp.UDP})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stack.Close() })
	register := func(h *Host, id uint32) *peer {
		pe := newPeer(t, stack, "127.0.0.1:0")
		pe.assoc = pe.Connect(sctp.Dest{Addrs: h.LocalAddrs(), Kind: sctp.UDP, EncapPort: h.cfg.EncapPort})
		pe.sendSoon(registration("p", id, "127.0.0.1"))
		if m := last[*asap.RegistrationResponse](pe); m.Reject {
			t.Fatalf("registration is refused: %v", m.Causes)
		}
		return pe
	}
	has := func(h *Host, n int) func() bool {
		return func() bool {
			_, elements := h.Space().Len()
			return elements == n
		}
	}
	register(first, 1)
	second := enrpHost(t, here.FreePort(t), first)
	eventually(t, "the second registrar is ready", second.Ready)
	if !has(second, 1)() {
		t.Error("the second registrar is ready without the handlespace of the first")
	}
	if e := second.Space().Pool("p").Element(1); e == nil || e.Home != first.ID() {
		t.Errorf("got %+v, want home %v", e, first.ID())
	}
	gone := register(second, 2)
	eventually(t, "the first registrar has the second one's element", has(first, 2))
	gone.Abort(gone.assoc)
	_ = gone.Close()
	eventually(t, "both registrars have removed the element", func() bool { return has(first, 1)() && has(second, 1)() })
	eventually(t, "a peer is counted", func() bool { return first.Stats().Peers[registrar.PeerActive] == 1 })
	_ = first.Close()
	eventually(t, "the second registrar is alone", func() bool {
		s := second.Stats()
		return s.Peers == [len(s.Peers)]uint64{} && s.Foreign == 0
	})
	acked := second.Stats().KeepAlivesAcked
	eventually(t, "the element answers its new home, which knows its UDP port", func() bool {
		return second.Stats().KeepAlivesAcked > acked+1
	})
	if e := second.Space().Pool("p").Element(1); e == nil || e.Home != second.ID() {
		t.Errorf("got %+v, want home %v", e, second.ID())
	}
}

// TestTwins: of two registrars with one identifier, the later one is not ready until the
// other one has ended. Both log it.
func TestTwins(t *testing.T) {
	var told [2]atomic.Int32
	start := func(i int, peer *Host) *Host {
		return loopbackHost(t, func(c *Config) {
			c.EncapPort, c.ServerID = here.FreePort(t), 7
			c.ENRP = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}
			c.Timers = registrar.Timers{PeerHeartbeat: 300 * time.Millisecond, PeerCallGap: 100 * time.Millisecond, MaxTimeNoResponse: 300 * time.Millisecond}
			if peer != nil {
				c.Peers, c.PeerEncapPort = peer.ENRPAddrs(), peer.cfg.EncapPort
			}
			c.Logger = logTo(func(_ bool, text string) {
				t.Log(text)
				if strings.Contains(text, "has this registrar's server identifier 00000007") {
					told[i].Add(1)
				}
			})
		})
	}
	first := start(0, nil)
	second := start(1, first)
	eventually(t, "both are told", func() bool { return told[0].Load() > 0 && told[1].Load() > 1 })
	const calls = 15 // one every 100 ms; a start takes 600 ms
	eventually(t, "the second one connects to the first again and again", func() bool {
		if second.Ready() {
			t.Fatal("the second registrar is ready beside the first")
		}
		s := first.Stats()
		return s.Ignored.Sender >= calls && s.Twins >= calls
	})
	_ = first.Close()
	eventually(t, "the second one is ready", second.Ready)
}

func TestENRPConfig(t *testing.T) {
	for _, tt := range []struct {
		name string
		cfg  Config
		want string
	}{
		{"peer alone", Config{ASAP: peerAddrs("127.0.0.1:3863"), Config: registrar.Config{Peers: peerAddrs("127.0.0.2:9901")}}, "127.0.0.1:9901"},
		{"own", Config{ENRP: peerAddrs("127.0.0.1:1")}, "127.0.0.1:1"},
		{"ports differ", Config{ENRP: peerAddrs("127.0.0.1:1", "127.0.0.2:2")}, ""},
		{"multicast peer", Config{Config: registrar.Config{Peers: peerAddrs("224.0.0.1:9901")}}, ""},
		{"peer without port", Config{Config: registrar.Config{Peers: peerAddrs("127.0.0.2:0")}}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h, err := newHost(tt.cfg)
			switch {
			case tt.want == "" && err == nil:
				t.Error("no error")
			case tt.want != "" && err != nil:
				t.Error(err)
			case tt.want != "" && h.cfg.ENRP[0].String() != tt.want:
				t.Errorf("got ENRP at %v, want %s", h.cfg.ENRP, tt.want)
			}
		})
	}
}

func peerAddrs(list ...string) []netip.AddrPort {
	addrs := make([]netip.AddrPort, len(list))
	for i, a := range list {
		addrs[i] = netip.MustParseAddrPort(a)
	}
	return addrs
}
