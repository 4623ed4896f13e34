package registrar

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// newBridgedWorld has a registrar on a machine with docker0, whose address it offers or
// only has.
func newBridgedWorld(t *testing.T, offered bool, change ...func(*Config)) *world {
	t.Helper()
	w := newWorld(t, change...)
	ev := Serving{Addrs: peers("10.0.0.1:3863"), ENRP: peers("10.0.0.1:9901")}
	if offered {
		ev.ENRP = append(ev.ENRP, peers(bridge+":9901")...)
	} else {
		ev.Own = addrsOf("10.0.0.1", bridge, "127.0.0.1")
	}
	w.handle(ev)
	return w
}

// TestSharedAddressDiscovery: three machines each have docker0's address. The registrar
// connects to the others at their other addresses, and both become peers.
func TestSharedAddressDiscovery(t *testing.T) {
	for _, offered := range []bool{false, true} {
		t.Run(fmt.Sprintf("offered %v", offered), func(t *testing.T) {
			w := newBridgedWorld(t, offered, discovers)
			b, c := presenceAt(greater, bridge, "10.0.0.2"), presenceAt(third, "10.0.0.3", bridge)
			w.hears("10.0.0.2", b)
			w.wantConnects("[10.0.0.2:9901]")
			w.joins(2, b, "10.0.0.2")
			w.hears("10.0.0.3", c)
			w.wantConnects("[10.0.0.3:9901]")
			w.joins(3, c, "10.0.0.3")
			// Both are lost, forgotten, and tried at their own addresses.
			w.down(2)
			w.down(3)
			w.wantConnects("[10.0.0.2:9901]", "[10.0.0.3:9901]")
		})
	}
}

// TestSharedAddressOfOthers: two other machines share an address that this one does not
// have. It hides neither of them, whichever of them has proved to be there.
func TestSharedAddressOfOthers(t *testing.T) {
	for _, proved := range []string{"10.0.0.2", bridge} {
		t.Run("proved "+proved, func(t *testing.T) {
			w := newWorld(t, discovers)
			w.handle(Serving{Addrs: peers("10.0.0.1:3863"), ENRP: peers("10.0.0.1:9901")})
			b, c := presenceAt(greater, "10.0.0.2", bridge), presenceAt(third, bridge, "10.0.0.3")
			w.hears("10.0.0.2", b)
			w.wantConnects("[10.0.0.2:9901 172.17.0.1:9901]")
			w.joins(2, b, proved)
			w.hears("10.0.0.3", c)
			w.wantConnects("[10.0.0.3:9901]")
			w.joins(3, c, "10.0.0.3")
		})
	}
	t.Run("while the first is called again", func(t *testing.T) {
		w := newWorld(t, discovers)
		w.handle(Serving{Addrs: peers("10.0.0.1:3863"), ENRP: peers("10.0.0.1:9901")})
		w.meetAt(2, greater, "10.0.0.2", "10.0.0.2", bridge)
		w.down(2)
		w.wantConnects("[10.0.0.2:9901 172.17.0.1:9901]")
		w.hears("10.0.0.3", presenceAt(third, bridge, "10.0.0.3"))
		if got := w.connects(); len(got) != 1 || !strings.Contains(got[0], "10.0.0.3:9901") {
			t.Fatalf("calls to %q, want one to 10.0.0.3", got)
		}
	})
}

// TestSharedAddressPeers: with docker0 on three machines, the registrar connects to a
// registrar in a list at the address that only that one has.
func TestSharedAddressPeers(t *testing.T) {
	w := newBridgedWorld(t, true, func(c *Config) { c.Peers = peers("10.0.0.2:9901") })
	w.wantConnects("[10.0.0.2:9901]")
	w.joins(2, presenceAt(greater, "10.0.0.2", bridge), "10.0.0.2")
	w.tell(2, &enrp.ListResponse{Sender: greater, Servers: []rserpool.ServerInformation{presenceAt(third, bridge, "10.0.0.3").Info}})
	w.wantConnects("[10.0.0.3:9901]")
	w.joins(3, presenceAt(third, bridge, "10.0.0.3"), "10.0.0.3")
	w.down(3)
	w.wantConnects("[10.0.0.3:9901]")
}

// TestSharedAddressFormer: the registrar tries to connect to both of two former peers that
// have an address in common.
func TestSharedAddressFormer(t *testing.T) {
	w := newWorld(t)
	w.handle(Serving{Addrs: peers("10.0.0.1:3863"), ENRP: peers("10.0.0.1:9901")})
	w.meetAt(2, greater, "10.0.0.2", "10.0.0.2", bridge)
	w.meetAt(3, third, "10.0.0.3", "10.0.0.3", bridge)
	w.down(2)
	w.down(3)
	refuse := func(d time.Duration) {
		for end := w.now.Add(d); w.now.Before(end); w.pass(time.Second) {
			for ref := range w.r.peers.connecting {
				w.handle(Connecting{Ref: ref})
			}
		}
	}
	refuse(30 * time.Second)
	if len(w.r.peers.list) != 0 {
		t.Fatalf("%d peers are left", len(w.r.peers.list))
	}
	w.skip("connect")
	refuse(time.Minute)
	got := strings.Join(w.connects(), " ")
	if !strings.Contains(got, "10.0.0.2:9901") || !strings.Contains(got, "10.0.0.3:9901") {
		t.Errorf("calls to %s, want both", got)
	}
	w.meetAt(4, third, "10.0.0.3", "10.0.0.3", bridge) // one is back
	w.want()
	refuse(time.Minute)
	if got := w.connects(); len(got) == 0 || slices.ContainsFunc(got, func(s string) bool { return s != "[10.0.0.2:9901]" }) {
		t.Errorf("calls to %q, want the other one at its own address", got)
	}
}

// TestVirtualAddressMoves: a virtual address is configured as the peer. The registrar that
// had it also has another address. After the virtual address has moved, this registrar
// connects to the other address.
func TestVirtualAddressMoves(t *testing.T) {
	w := newWorld(t, discovers, func(c *Config) { c.Peers = peers("10.0.0.100:9901") })
	w.handle(Serving{Addrs: peers("10.0.0.1:3863"), ENRP: peers("10.0.0.1:9901")})
	w.wantConnects("[10.0.0.100:9901]")
	w.joins(2, presenceAt(greater, "10.0.0.2", "10.0.0.100"), "10.0.0.100")
	w.hears("10.0.0.3", presenceAt(third, "10.0.0.100", "10.0.0.3")) // the address is on its way
	w.wantConnects("[10.0.0.3:9901]")
}

// TestSharedAddressOnly: a registrar that names only addresses of this machine cannot
// be reached. The log says so, once, and not that no other registrar was heard.
func TestSharedAddressOnly(t *testing.T) {
	w := newBridgedWorld(t, false, discovers)
	w.logs = true
	w.hears("10.0.0.2", presenceAt(greater, bridge))
	w.want("log registrar 20000002 is heard from 10.0.0.2, but cannot be reached: this machine also has the addresses [172.17.0.1:9901] that it names; give it an address of its own (option enrp)")
	w.hears("10.0.0.2", presenceAt(greater, bridge))
	w.want()
	w.pass(time.Minute)
	if got := strings.Join(w.trace, "\n"); strings.Contains(got, "no other registrar") || !strings.Contains(got, "registrar 20000002 is heard from 10.0.0.2: check for a firewall") {
		t.Errorf("says %s", got)
	}
	if !w.r.Ready() {
		t.Error("not ready")
	}
}

// TestOneMachine: registrars on one machine find each other, at different addresses or
// ports.
func TestOneMachine(t *testing.T) {
	w := newWorld(t, discovers)
	w.handle(Serving{Addrs: peers("127.0.0.1:3863"), ENRP: peers("127.0.0.1:9901")})
	w.hears("10.0.0.1", presenceAt(greater, "127.0.0.2"))
	w.wantConnects("[127.0.0.2:9901]")
	port := presenceAt(third, "127.0.0.1")
	port.Info.Transport.Port = 9902
	w.hears("10.0.0.1", port)
	w.wantConnects("[127.0.0.1:9902]")
}
