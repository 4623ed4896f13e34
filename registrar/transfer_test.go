package registrar

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/internal/identity"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

func tablePart(sender rserpool.ServerID, more bool, ids ...uint32) *enrp.HandleTableResponse {
	m := &enrp.HandleTableResponse{Sender: sender, More: more}
	if len(ids) > 0 {
		m.Pools = []enrp.PoolEntry{{Handle: "a"}}
	}
	for _, id := range ids {
		m.Pools[0].Elements = append(m.Pools[0].Elements, peerElement(id, sender))
	}
	return m
}

// asked reports whether the last message to an association requests a part of a
// handlespace.
func (w *world) asked(start string) bool {
	defer w.skip("handle_table_request", "list_request", "presence")
	return slices.ContainsFunc(w.trace, func(s string) bool { return strings.HasPrefix(s, start) })
}

// TestMentorWithoutEnd: a mentor always has one part more. The parts are empty, always the
// same, or too slow. The registrar gives up and requests the handlespace from another peer.
func TestMentorWithoutEnd(t *testing.T) {
	for _, tt := range []struct {
		name  string
		ids   []uint32
		gap   time.Duration
		parts int // at most
	}{
		{"nothing", nil, 0, 1},
		{"the same", []uint32{1, 2, 3}, 0, 7}, // Limits.Elements is 10
		{"slowly", []uint32{1}, 3 * time.Second, 8},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, func(c *Config) { c.Peers, c.Limits.Elements = peers("10.0.9.2:9901"), 10 })
			w.handle(Serving{Addrs: peers("10.0.0.1:3863"), ENRP: peers("10.0.0.1:9901")})
			w.meet(2, greater)
			w.meet(3, third)
			w.tell(2, &enrp.ListResponse{Sender: greater})
			w.skip("handle_table_request")
			parts := 0
			for {
				parts++
				w.tell(2, tablePart(greater, true, tt.ids...))
				if !w.asked("2 < handle_table_request") {
					break
				}
				if parts > tt.parts {
					t.Fatalf("still asked after %d parts, want at most %d", parts, tt.parts)
				}
				w.pass(tt.gap)
				w.want()
			}
			if w.r.Ready() {
				t.Fatal("ready with what an endless table has brought")
			}
			if got := w.r.Stats().TransfersAbandoned; got != 1 {
				t.Errorf("%d transfers abandoned, want 1", got)
			}
			w.tell(3, &enrp.ListResponse{Sender: third})
			w.tell(3, tablePart(third, false, 7))
			if !w.r.Ready() {
				t.Error("not ready with the next mentor's table")
			}
		})
	}
}

// TestAuditWithoutEnd: the same in an audit, which then removes nothing.
func TestAuditWithoutEnd(t *testing.T) {
	w := newPeerWorld(t)
	w.meet(2, greater)
	w.tell(2, update(greater, enrp.AddPE, "a", peerElement(1, greater)))
	w.tell(2, &enrp.Presence{Sender: greater, HasChecksum: true, Checksum: 0x1234})
	for range 3 {
		w.skip("handle_table_request")
		w.tell(2, tablePart(greater, true, 2))
		if !w.asked("2 < handle_table_request") {
			t.Fatal("the audit does not go on")
		}
	}
	w.tell(2, tablePart(greater, true))
	w.want()
	w.wantHomes("a:1@20000002", "a:2@20000002")
	if s := w.r.Stats(); s.TransfersAbandoned != 1 || s.Resyncs != 0 {
		t.Errorf("%d transfers abandoned, %d brought to an end, want 1 and 0", s.TransfersAbandoned, s.Resyncs)
	}
}

// TestMentorRefuses: a registrar does not start to serve while another one has a
// handlespace and refuses to send it.
func TestMentorRefuses(t *testing.T) {
	w := newPeerWorld(t, "10.0.9.2:9901")
	w.meet(2, greater)
	refuse := func() {
		w.tell(2, &enrp.ListResponse{Sender: greater})
		w.tell(2, &enrp.HandleTableResponse{Sender: greater, Reject: true})
	}
	refuse()
	for range 60 {
		w.skip("handle_table_request")
		w.pass(time.Second)
		if w.asked("2 < list_request") {
			refuse()
		}
		if w.r.Ready() {
			t.Fatal("ready without the handlespace")
		}
	}
	for !w.asked("2 < list_request") {
		w.pass(time.Second)
	}
	w.tell(2, &enrp.ListResponse{Sender: greater})
	w.tell(2, tablePart(greater, false, 7))
	if !w.r.Ready() {
		t.Error("not ready with the handlespace")
	}
	w.wantHomes("a:7@20000002")
}

// fill registers elements, of which ten fill one part of a table.
func fill(w *world, n uint32) {
	w.t.Helper()
	for id := range n {
		w.recv(1, reg("a", id+1, "10.0.1.9", func(e *rserpool.PoolElement) {
			e.Unknown = []rserpool.Parameter{{Type: 0x8123, Value: make([]byte, maxTable/11)}}
		}))
	}
}

// TestHeldDownloads: peers begin downloads and do not continue them, from few addresses or
// from many. Other registrars can still download the handlespace.
func TestHeldDownloads(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	for _, addresses := range []int{2, 8} {
		t.Run(fmt.Sprintf("from %d addresses", addresses), func(t *testing.T) {
			w := newWorld(t, func(c *Config) { c.Limits.Downloads = 8 })
			w.handle(Serving{Addrs: peers("10.0.0.1:3863"), ENRP: peers("10.0.0.1:9901")})
			w.up(1, rserpool.ViaKernel, "10.0.1.9")
			fill(w, 150) // fifteen parts
			granted := func(id AssocID, server rserpool.ServerID) bool {
				w.skip("keep-alive")
				w.tell(id, &enrp.HandleTableRequest{Sender: server})
				got := w.trace[len(w.trace)-1]
				w.skip("handle_table_response")
				return strings.Contains(got, "handle_table_response") && !strings.HasSuffix(got, " R")
			}
			holders := func(tell func(id AssocID, server rserpool.ServerID, at string)) {
				for i := range 8 {
					tell(AssocID(10+i), rserpool.ServerID(0x500+i), fmt.Sprintf("10.0.8.%d", i%addresses))
				}
			}
			holders(func(id AssocID, server rserpool.ServerID, at string) {
				w.meetAt(id, server, at, at)
				if !granted(id, server) {
					t.Fatalf("download of %v is refused", server)
				}
			})
			w.meet(2, greater)
			waited := 0
			for ; !granted(2, greater); waited++ {
				if waited == 6 {
					t.Fatal("the honest download is refused after six seconds")
				}
				w.pass(time.Second)
				holders(func(id AssocID, server rserpool.ServerID, _ string) { granted(id, server) }) // they go on
			}
			if addresses == 2 && waited > 0 {
				t.Errorf("the honest download had to wait %d s, while others have four", waited)
			}
		})
	}
}

// TestDownloadsFromOneAddress: one address has at most four downloads.
func TestDownloadsFromOneAddress(t *testing.T) {
	w := newPeerWorld(t)
	w.up(1, rserpool.ViaKernel, "10.0.1.9")
	fill(w, 30)
	for i := range 6 {
		id, server := AssocID(10+i), rserpool.ServerID(0x500+i)
		w.meetAt(id, server, "10.0.8.1", "10.0.8.1")
		w.tell(id, &enrp.HandleTableRequest{Sender: server})
		refused := strings.HasSuffix(w.trace[len(w.trace)-1], " R")
		if want := i >= maxFromAddress; refused != want {
			t.Errorf("download %d refused: %v, want %v", i+1, refused, want)
		}
	}
}

// TestTableOfIdentities: a part of the handlespace has as many elements with identities that
// are alike as without, and they arrive.
func TestTableOfIdentities(t *testing.T) {
	parts := make(map[string]int)
	for _, name := range []string{"", web1} {
		w := newTrustWorld(t, identity.Rules{})
		if name == "" {
			w = newWorld(t)
		}
		w.trust(1, name, "10.0.1.9")
		for id := range uint32(400) {
			w.recv(1, reg("web", id+1, "10.0.1.9"))
		}
		s := &session{Cursor: w.r.ledger.Open(w.r.roster)}
		part := s.part()
		b, err := w.r.tableResponse(nil, 2, part, true)
		if err != nil || len(b) > maxTable || s.Peek() == nil {
			t.Fatalf("%d elements in %d bytes, %v, are there more: %v", len(part), len(b), err, s.Peek() != nil)
		}
		w.r.ledger.Close(s.Cursor)
		parts[name] = len(part)
		m, _, err := enrp.Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		got := m.(*enrp.HandleTableResponse).Pools[0].Elements
		if len(got) != len(part) || slices.ContainsFunc(got, func(e rserpool.PoolElement) bool { return e.Identity != name }) {
			t.Errorf("%d elements arrive as %v", len(part), got)
		}
	}
	if parts[web1] < parts[""]-1 {
		t.Errorf("%d elements in a part with identities, %d without", parts[web1], parts[""])
	}
}
