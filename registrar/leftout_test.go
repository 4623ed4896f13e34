package registrar

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/internal/identity"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// sumOf is the checksum of the elements, as "POOL:ID", of a peer.
func sumOf(elements ...string) uint16 {
	var sum enrp.Checksum
	for _, e := range elements {
		h, id, _ := strings.Cut(e, ":")
		var n rserpool.PEID
		fmt.Sscanf(id, "%x", &n)
		sum.Add(rserpool.PoolHandle(h), n)
	}
	return sum.Value()
}

// agrees has a peer send a presence with the checksum of its elements. No audit follows.
func (w *world) agrees(elements ...string) {
	w.t.Helper()
	w.tell(2, &enrp.Presence{Sender: greater, HasChecksum: true, Checksum: sumOf(elements...)})
	w.want()
}

// audits has a peer send a presence with another checksum, and then its table.
func (w *world) audits(table ...rserpool.PoolElement) {
	w.t.Helper()
	w.tell(2, &enrp.Presence{Sender: greater, HasChecksum: true, Checksum: w.r.peers.byID[greater].roster.Checksum() ^ 0x5555})
	w.want("2 < handle_table_request to 20000002 W")
	m := &enrp.HandleTableResponse{Sender: greater}
	if len(table) > 0 {
		m.Pools = []enrp.PoolEntry{{Handle: "a", Elements: table}}
	}
	w.tell(2, m)
}

// large is an element that is too large for this registrar.
func large(id uint32) rserpool.PoolElement {
	e := peerElement(id, greater)
	e.Unknown = []rserpool.Parameter{{Type: 0xbffe, Value: make([]byte, maxElementSize)}}
	return e
}

// TestLeftOut: a peer counts all its elements in its checksum, also those that this registrar cannot
// use. If this registrar did not count them there, each presence would start another audit.
func TestLeftOut(t *testing.T) {
	for _, tt := range []struct {
		name string
		is   rserpool.PoolElement
		room int
	}{
		{"too large", large(1), 10},
		{"no room", peerElement(1, greater), 1},
	} {
		begin := func(t *testing.T) *world {
			w := newWorld(t, func(c *Config) { c.Limits.Elements = tt.room })
			w.handle(Serving{Addrs: peers("10.0.0.1:3863"), ENRP: peers("10.0.0.1:9901")})
			w.meet(2, greater)
			w.tell(2, update(greater, enrp.AddPE, "a", peerElement(2, greater)))
			return w
		}
		t.Run(tt.name+", in an update", func(t *testing.T) {
			w := begin(t)
			for range 2 {
				w.tell(2, update(greater, enrp.AddPE, "a", tt.is))
				w.wantHomes("a:2@20000002")
				w.agrees("a:1", "a:2")
			}
			w.tell(2, update(greater, enrp.DelPE, "a", tt.is))
			w.agrees("a:2")
		})
		t.Run(tt.name+", in a table", func(t *testing.T) {
			w := begin(t)
			w.audits(tt.is, peerElement(2, greater))
			w.agrees("a:1", "a:2")
			w.audits(tt.is, peerElement(2, greater))
			w.agrees("a:1", "a:2")
			w.audits(peerElement(2, greater))
			w.agrees("a:2")
		})
		t.Run(tt.name+", silent", func(t *testing.T) {
			w := begin(t)
			w.tell(2, update(greater, enrp.AddPE, "a", tt.is))
			m := update(greater, enrp.DelPE, "a", tt.is)
			m.Suspect, m.Silent = true, time.Second
			w.tell(2, m)
			w.agrees("a:2")
		})
		t.Run(tt.name+", given away", func(t *testing.T) {
			w := begin(t)
			w.meet(3, third)
			w.tell(2, update(greater, enrp.AddPE, "a", tt.is))
			given := tt.is
			given.Home = third
			w.tell(2, update(greater, enrp.AddPE, "a", given))
			w.agrees("a:2")
		})
		t.Run(tt.name+", and its home dies", func(t *testing.T) {
			w := begin(t)
			w.tell(2, update(greater, enrp.AddPE, "a", tt.is))
			w.tell(2, update(greater, enrp.DelPE, "a", peerElement(2, greater)))
			w.down(2)
			w.pass(10 * time.Second)
			if w.r.peers.byID[greater] != nil || w.r.peers.leftOut != 0 {
				t.Errorf("the peer is known: %v; %d bytes are left", w.r.peers.byID[greater] != nil, w.r.peers.leftOut)
			}
			w.trace = nil
		})
	}
}

// TestLeftOutRoom: an element that was left out is known as soon as its home announces one that this
// registrar can use.
func TestLeftOutRoom(t *testing.T) {
	w := newPeerWorld(t)
	w.meet(2, greater)
	w.tell(2, update(greater, enrp.AddPE, "a", large(1)))
	w.agrees("a:1")
	w.tell(2, update(greater, enrp.AddPE, "a", peerElement(1, greater)))
	w.wantHomes("a:1@20000002")
	w.agrees("a:1")
	if w.r.peers.leftOut != 0 {
		t.Errorf("%d bytes are left", w.r.peers.leftOut)
	}
}

// TestLeftOutUntilRoom: an element for which the limits had no room comes in when another one has
// left, and until then no audit begins for it.
func TestLeftOutUntilRoom(t *testing.T) {
	w := newPeerWorld(t)
	w.r.ledger.Limits.Elements = 1
	w.meet(2, greater)
	w.tell(2, update(greater, enrp.AddPE, "a", peerElement(1, greater)))
	w.tell(2, update(greater, enrp.AddPE, "a", peerElement(2, greater)))
	w.agrees("a:1", "a:2")
	w.tell(2, update(greater, enrp.DelPE, "a", peerElement(1, greater)))
	w.tell(2, &enrp.Presence{Sender: greater, HasChecksum: true, Checksum: sumOf("a:2")})
	w.want("2 < handle_table_request to 20000002 W")
	w.tell(2, &enrp.HandleTableResponse{Sender: greater, Pools: []enrp.PoolEntry{{
		Handle: "a", Elements: []rserpool.PoolElement{peerElement(2, greater)},
	}}})
	w.wantHomes("a:2@20000002")
	w.agrees("a:2")
}

// TestLeftOutStays: an element that is known stays as it was when its home describes it in a way that
// this registrar cannot use.
func TestLeftOutStays(t *testing.T) {
	begin := func(t *testing.T) *world {
		w := newPeerWorld(t)
		w.meet(2, greater)
		w.tell(2, update(greater, enrp.AddPE, "a", peerElement(1, greater)))
		return w
	}
	t.Run("in an update", func(t *testing.T) {
		w := begin(t)
		w.tell(2, update(greater, enrp.AddPE, "a", large(1)))
		w.wantHomes("a:1@20000002")
		w.agrees("a:1")
	})
	t.Run("in a table", func(t *testing.T) {
		w := begin(t)
		w.audits(large(1))
		w.want() // it is not called
		w.wantHomes("a:1@20000002")
		w.agrees("a:1")
	})
	t.Run("silent", func(t *testing.T) {
		w := begin(t)
		m := update(greater, enrp.DelPE, "a", large(1))
		m.Suspect, m.Silent = true, time.Second
		w.tell(2, m)
		w.wantSuspect("a", 1, greater, time.Second)
		w.agrees()
		w.tell(2, update(greater, enrp.AddPE, "a", large(1)))
		w.wantHomes("a:1@20000002")
		w.agrees("a:1")
	})
	t.Run("at another home", func(t *testing.T) {
		w := begin(t)
		w.meet(3, third)
		e := large(1)
		e.Home = third
		w.tell(3, update(third, enrp.AddPE, "a", e))
		w.wantHomes("a:1@30000003")
		w.agrees()
		w.tell(3, &enrp.Presence{Sender: third, HasChecksum: true, Checksum: sumOf("a:1")})
		w.want()
	})
	t.Run("an own one", func(t *testing.T) {
		w := newPeerWorld(t)
		w.meet(2, greater)
		w.up(1, rserpool.ViaKernel, "10.0.1.1")
		w.recv(1, reg("a", 1, "10.0.1.1"))
		w.skip("registration granted", "handle_update ADD_PE")
		w.tell(2, update(greater, enrp.AddPE, "a", large(1)))
		w.wantHomes("a:1@10000001")
		w.agrees("a:1")
		w.tell(2, update(greater, enrp.DelPE, "a", large(1)))
		w.agrees()
	})
	t.Run("no room at another home", func(t *testing.T) {
		w := newWorld(t, func(c *Config) { c.Limits.ElementBytes = 100 })
		w.handle(Serving{Addrs: peers("10.0.0.1:3863"), ENRP: peers("10.0.0.1:9901")})
		w.meet(2, greater)
		w.meet(3, third)
		w.tell(2, update(greater, enrp.AddPE, "a", peerElement(1, greater)))
		e := peerElement(1, third)
		e.Unknown = []rserpool.Parameter{{Type: 0xbffe, Value: make([]byte, 100)}}
		w.tell(3, update(third, enrp.AddPE, "a", e))
		w.wantHomes("a:1@30000003")
		w.agrees()
	})
}

// TestLeftOutUsurper: the same for an element whose identity may not register, while another home has
// one of its name.
func TestLeftOutUsurper(t *testing.T) {
	w := newTrustWorld(t, identity.Rules{})
	w.meetAs(2, greater, ns1)
	w.trust(1, web1, "10.0.0.1")
	w.recv(1, reg("web", 1, "10.0.0.1"))
	w.skip("registration granted", "handle_update ADD_PE")
	w.tell(2, update(greater, enrp.AddPE, "web", named(1, greater, bank1)))
	w.wantHomes("web:1@10000001")
	w.agrees("web:1")
	w.tell(2, update(greater, enrp.DelPE, "web", named(1, greater, bank1)))
	w.agrees()
}

// TestLeftOutDownload: the same for elements in the handlespace of a mentor, whose homes are others.
func TestLeftOutDownload(t *testing.T) {
	w := newPeerWorld(t, "10.0.9.3:9901")
	w.handle(Connecting{Ref: 1, Assoc: 3})
	w.meet(3, third)
	w.tell(3, &enrp.ListResponse{Sender: third})
	w.tell(3, &enrp.HandleTableResponse{Sender: third, Pools: []enrp.PoolEntry{{Handle: "a", Elements: []rserpool.PoolElement{large(1), peerElement(2, greater)}}}})
	w.skip("handle_table_request", "connect", "list_request", "presence")
	w.meet(2, greater)
	w.agrees("a:1", "a:2")
}

// TestLeftOutBounds: what a registrar remembers of the elements that it leaves out is bounded. Of more
// elements it remembers the sum, until the next audit.
func TestLeftOutBounds(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Limits.Pools = 1 })
	w.handle(Serving{Addrs: peers("10.0.0.1:3863"), ENRP: peers("10.0.0.1:9901")})
	w.meet(2, greater)
	const n = 2 * maxLeftOut / leftOutSize
	handle := func(i int) rserpool.PoolHandle { return rserpool.PoolHandle(fmt.Sprintf("pool %d", i)) }
	var all enrp.Checksum
	add := func(m enrp.Message) {
		w.r.Handle(w.now, Received{Assoc: 2, PPID: enrp.PPID, Data: encodeENRP(t, m)})
	}
	for i := range n {
		all.Add(handle(i), 1)
		add(update(greater, enrp.AddPE, string(handle(i)), peerElement(1, greater)))
		w.now = w.now.Add(time.Millisecond)
	}
	w.check()
	if got := w.r.peers.leftOut; got > maxLeftOut || got < maxLeftOut/2 {
		t.Errorf("%d bytes for %d elements, want up to %d", got, n, maxLeftOut)
	}
	presence := &enrp.Presence{Sender: greater, HasChecksum: true, Checksum: all.Value()}
	w.trace = nil
	w.tell(2, presence)
	w.want("2 < handle_table_request to 20000002 W")
	for i := 0; i < n; i += 500 {
		m := &enrp.HandleTableResponse{Sender: greater, More: i+500 < n}
		for j := i; j < min(i+500, n); j++ {
			m.Pools = append(m.Pools, enrp.PoolEntry{Handle: handle(j), Elements: []rserpool.PoolElement{peerElement(1, greater)}})
		}
		add(m)
	}
	w.check()
	w.tell(2, presence)
	w.want()
}

// checkLeftOut recounts what is left out. Nothing is that is a member of the same peer as well.
func (r *Registrar) checkLeftOut(fail failFunc) {
	size := 0
	for _, p := range r.peers.list {
		var sum enrp.Checksum
		for k := range p.leftOut.named {
			size += k.size()
			sum.Add(k.handle, k.id)
			if x := r.ledger.Find(k.handle, k.id); x != nil && x.Roster() == p.roster {
				fail("element %v of %q of peer %v is known and left out", k.id, k.handle, p.id)
			}
		}
		if sum != p.leftOut.sum {
			fail("peer %v has a wrong checksum of what is left out", p.id)
		}
	}
	if size != r.peers.leftOut || size > maxLeftOut {
		fail("%d bytes are left out, counted are %d", size, r.peers.leftOut)
	}
}
