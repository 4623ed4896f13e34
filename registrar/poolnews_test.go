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

// newsWorld has a peer with assoc 2 and a client with assoc 9, and notes log lines.
func newsWorld(t *testing.T) *world {
	w := newPeerWorld(t)
	w.meet(2, greater)
	w.up(9, rserpool.ViaKernel, "10.0.1.9")
	w.skip()
	w.logs = true
	return w
}

// said counts the log lines with a text since the last call, which drops all.
func (w *world) said(text string) (n int) {
	for _, l := range w.trace {
		if strings.HasPrefix(l, "log") && strings.Contains(l, text) {
			n++
		}
	}
	w.trace = nil
	return n
}

// wantRefusalLogged: the log has a line of what another client does.
func (w *world) wantRefusalLogged() {
	w.t.Helper()
	w.trace = nil
	w.recv(9, reg("x", 1, "10.0.77.77"))
	if w.said("by 10.0.1.9 is refused") != 1 {
		w.t.Errorf("at %v: the refusal of another client's registration is not logged", w.now.Sub(w.start))
	}
}

// TestPoolNews: a pool that a peer has guarded and not guarded by turns takes a few lines of the log. In
// the end the log says what the pool is.
func TestPoolNews(t *testing.T) {
	for _, guarded := range []bool{true, false} {
		w := newsWorld(t)
		flip := func(times int) {
			for range times {
				w.tell(2, update(greater, enrp.AddPE, "a", peerElement(1, greater)))
				w.tell(2, silentFor(greater, "a", 1, time.Second))
				w.pass(time.Millisecond)
			}
		}
		flip(100)
		if !guarded {
			w.tell(2, update(greater, enrp.AddPE, "a", peerElement(1, greater)))
		}
		if n := w.said(`pool "a" is`); n > newsLines {
			t.Errorf("%d lines for 200 changes of one pool, want at most %d", n, newsLines)
		}
		w.wantRefusalLogged()
		w.pass(newsGap)
		begun, ended := 0, 0
		for _, l := range w.trace {
			switch {
			case strings.Contains(l, `pool "a" is guarded`):
				begun++
			case strings.Contains(l, `pool "a" is no longer guarded`):
				ended++
			}
		}
		w.trace = nil
		// The last of newsLines lines says that the guard has ended.
		if want := 0; guarded {
			want = 1
			if begun != want || ended != 0 {
				t.Errorf("guarded in the end: %d and %d lines afterwards, want that it is guarded", begun, ended)
			}
		} else if begun+ended != want {
			t.Errorf("not guarded in the end, as the log says: %d more lines", begun+ended)
		}
		w.pass(2 * newsGap)
		if n := w.said(`pool "a"`); n > 0 || len(w.r.poolNews.pools) > 0 {
			t.Errorf("%d more lines of a pool that does not change; %d pools are remembered", n, len(w.r.poolNews.pools))
		}
		flip(1)
		if n := w.said(`pool "a"`); n == 0 {
			t.Error("no line of a later change")
		}
	}
}

// TestNewsOfManyPools: so it is with an element that comes and goes, and with many pools, of which a
// bounded number is remembered.
func TestNewsOfManyPools(t *testing.T) {
	for name, pools := range map[string]int{"one": 1, "many": 1000} {
		t.Run(name, func(t *testing.T) {
			w := newsWorld(t)
			w.up(8, rserpool.ViaKernel, "10.0.1.8")
			lost, n := 0, 0
			for range 30 { // s
				for range 100 {
					h := fmt.Sprint(n % pools)
					n++
					w.recv(8, reg(h, 1, "10.0.1.8"))
					w.recv(8, dereg(h, 1))
				}
				lost += w.said("has lost its last element")
				w.wantRefusalLogged()
				if n := len(w.r.poolNews.pools); n > newsPools {
					t.Fatalf("%d pools are remembered", n)
				}
				w.pass(time.Second)
				lost += w.said("has lost its last element")
			}
			if most := map[string]int{"one": 3 * newsLines, "many": 31 * 50 / poolLogs}[name]; lost == 0 || lost > most {
				t.Errorf("%d lines of %d pools lost in 30 s, want at most %d", lost, 30*100, most)
			}
		})
	}
}

// TestNewsOfPeersElements: the same for elements that do not fit into their pool, which a peer names.
func TestNewsOfPeersElements(t *testing.T) {
	w := newsWorld(t)
	w.tell(2, update(greater, enrp.AddPE, "a", peerElement(1, greater)))
	for i := range 300 {
		pe := peerElement(uint32(i+2), greater)
		pe.Policy.Type = rserpool.Random
		w.tell(2, update(greater, enrp.AddPE, "a", pe))
	}
	w.wantRefusalLogged()
}

// TestNewsOfNames: the same for registrars at more and more places that have the identifier of this one.
func TestNewsOfNames(t *testing.T) {
	w := newsWorld(t)
	b, err := (&enrp.Presence{Sender: testServer, Info: rserpool.ServerInformation{
		ID: testServer, Transport: rserpool.Transport{Type: rserpool.SCTP, Port: 9901, Addrs: []netip.Addr{netip.MustParseAddr("10.0.66.66")}},
	}}).Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 300 {
		w.handle(Announced{ENRP: true, From: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 66, byte(1 + i%2)}), 9901), Data: b})
	}
	if n := w.said("change server_id"); n == 0 || n > 20 {
		t.Errorf("%d lines for 300 datagrams", n)
	}
	w.wantRefusalLogged()
	for i := range 300 {
		id := AssocID(1000 + i)
		w.handle(AssocUp{Assoc: id, Peer: peers(fmt.Sprintf("10.0.66.%d:9901", 1+i%2)), Via: rserpool.ViaKernel, ENRP: true})
		w.tell(id, &enrp.ListRequest{Sender: testServer})
		w.handle(AssocDown{Assoc: id})
	}
	w.wantRefusalLogged()
}
