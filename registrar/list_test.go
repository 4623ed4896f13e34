package registrar

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// listed returns a list of n registrars with as many addresses each.
func listed(sender rserpool.ServerID, n, addrs int) *enrp.ListResponse {
	m := &enrp.ListResponse{Sender: sender}
	for i := range n {
		t := rserpool.Transport{Type: rserpool.SCTP, Port: 9901}
		for j := range addrs {
			t.Addrs = append(t.Addrs, netip.MustParseAddr(fmt.Sprintf("192.0.%d.%d", j, i)))
		}
		m.Servers = append(m.Servers, rserpool.ServerInformation{ID: rserpool.ServerID(0x700 + i), Transport: t})
	}
	return m
}

// connectsIn lets time pass and counts the addresses of the Connects in it. Each Connect
// fails at once.
func (w *world) connectsIn(d time.Duration) int {
	w.t.Helper()
	n := 0
	take := func() {
		for _, line := range w.trace {
			var ref uint64
			if _, err := fmt.Sscanf(line, "connect #%d", &ref); err == nil {
				n += strings.Count(line, ":9901")
				w.handle(Connecting{Ref: ref})
			}
		}
		w.skip("connect", "handle_table_request", "list_request", "presence")
	}
	take()
	for end := w.now.Add(d); w.now.Before(end); take() {
		w.pass(100 * time.Millisecond)
	}
	return n
}

// TestFalseList: a list of 250 invented registrars with 16 addresses each causes few
// Connects, and none for long.
func TestFalseList(t *testing.T) {
	w := newPeerWorld(t)
	w.meet(2, greater)
	w.tell(2, listed(greater, 250, 16))
	if got := len(w.r.peers.list); got > 1+w.r.cfg.Limits.Peers/4 {
		t.Errorf("%d peers, want a quarter of %d at most to be known from lists only", got, w.r.cfg.Limits.Peers)
	}
	const rate = unheardTries * maxListedAddrs
	if got := w.connectsIn(30 * time.Second); got > 32*rate {
		t.Errorf("%d addresses called in 30 s, want %d a second at most", got, rate)
	}
	w.connectsIn(2 * w.r.cfg.Timers.MaxTimeLastHeard)
	if got := w.connectsIn(time.Hour); got > 0 {
		t.Errorf("%d addresses called in the hour after", got)
	}
}

// TestListNotAsked: a list that was not requested does not count.
func TestListNotAsked(t *testing.T) {
	w := newPeerWorld(t)
	w.meet(2, greater)
	w.tell(2, listed(greater, 0, 0))
	w.want()
	w.tell(2, listed(greater, 1, 1))
	w.want()
	if s := w.r.Stats(); s.Ignored.Unasked != 1 || len(w.r.peers.list) != 1 {
		t.Errorf("%d messages ignored, %d peers, want 1 and 1", s.Ignored.Unasked, len(w.r.peers.list))
	}
}

// TestListScope: no list has a registrar connect to its own loopback, or to its
// neighbours by link-local addresses.
func TestListScope(t *testing.T) {
	w := newPeerWorld(t)
	w.meet(2, greater)
	m := listed(greater, 2, 1)
	m.Servers[0].Transport.Addrs = []netip.Addr{netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("::1"), netip.MustParseAddr("fe80::1"), netip.MustParseAddr("169.254.0.9")}
	w.tell(2, m)
	w.want("connect #1 via 0 to [192.0.0.1:9901]")
}

// TestListed: all registrars of a list are found, however long it is.
func TestListed(t *testing.T) {
	w := newPeerWorld(t)
	w.meet(2, greater)
	const n = 60
	w.tell(2, listed(greater, n, 1))
	up := map[string]bool{}
	for range 20 {
		for _, line := range w.trace {
			var ref uint64
			if _, err := fmt.Sscanf(line, "connect #%d", &ref); err == nil {
				at := line[strings.Index(line, "[")+1 : strings.Index(line, "]")]
				id := AssocID(100 + len(up))
				up[at] = true
				w.handle(Connecting{Ref: ref, Assoc: id})
				w.handle(AssocUp{Assoc: id, Peer: peers(at), Via: rserpool.ViaKernel})
			}
		}
		w.skip("connect", "presence")
		w.pass(time.Second)
	}
	if len(up) != n {
		t.Errorf("%d of %d registrars called within 20 s", len(up), n)
	}
}

// TestConfiguredPeerComesBack: the registrar tries to connect to a configured peer that is
// down every PEER-CALL-GAP. The peer may know no other registrar: when it is up again, it
// serves without the handlespace until the link is up.
func TestConfiguredPeerComesBack(t *testing.T) {
	w := newPeerWorld(t, "10.0.9.2:9901")
	w.handle(Connecting{Ref: 1, Assoc: 2})
	w.handle(AssocUp{Assoc: 2, Peer: peers("10.0.9.2:9901"), Via: rserpool.ViaKernel})
	w.tell(2, &enrp.Presence{Sender: greater})
	w.tell(2, &enrp.ListResponse{Sender: greater})
	w.tell(2, tablePart(greater, false))
	w.down(2)
	w.connectsIn(time.Minute) // it is dead, and forgotten
	if len(w.r.peers.list) != 0 {
		t.Fatalf("the dead peer is still known: %+v", w.r.peers.list)
	}
	if got := w.connectsIn(10 * time.Second); got < 9 || got > 11 {
		t.Errorf("%d calls in 10 s, want one a second", got)
	}
}
