package registrar

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// enrpText is an ENRP message in one line.
func (w *world) enrpText(b []byte) string {
	msg, _, err := enrp.Parse(b)
	if err != nil {
		w.t.Errorf("sent %v (%x)", err, b)
		return ""
	}
	sender, receiver := msg.IDs()
	if sender != testServer {
		w.t.Errorf("sent %v as %v", msg.Type(), sender)
	}
	text := strings.ToLower(strings.TrimPrefix(msg.Type().String(), "ENRP_"))
	if receiver != 0 {
		text += fmt.Sprintf(" to %x", uint32(receiver))
	}
	switch m := msg.(type) {
	case *enrp.Presence:
		if m.ReplyRequired {
			text += " R"
		}
		text += fmt.Sprintf(" %04x", m.Checksum)
	case *enrp.ListResponse:
		if m.Reject {
			text += " R"
		}
		for _, s := range m.Servers {
			text += fmt.Sprintf(" %x", uint32(s.ID))
		}
	case *enrp.HandleTableRequest:
		if m.OwnChildrenOnly {
			text += " W"
		}
		if !m.Suspects {
			text += " without suspects"
		}
	case *enrp.HandleTableResponse:
		if m.Reject {
			text += " R"
		}
		if m.More {
			text += " M"
		}
		for _, p := range m.Pools {
			for i, e := range p.Elements {
				text += fmt.Sprintf(" %s:%x@%x", p.Handle, uint32(e.ID), uint32(e.Home))
				if silent, suspect := p.Suspects[i]; suspect {
					text += fmt.Sprintf("?%v", silent)
				}
			}
		}
	case *enrp.HandleUpdate:
		text += fmt.Sprintf(" %v %s:%x@%x", m.Action, m.Handle, uint32(m.Element.ID), uint32(m.Element.Home))
		if m.Suspect {
			text += fmt.Sprintf("?%v", m.Silent)
		}
	case *enrp.InitTakeover:
		text += fmt.Sprintf(" %x", uint32(m.Target))
	case *enrp.InitTakeoverAck:
		text += fmt.Sprintf(" %x", uint32(m.Target))
	case *enrp.TakeoverServer:
		text += fmt.Sprintf(" %x", uint32(m.Target))
	}
	return text
}

// newPeerWorld has a registrar that serves ENRP, with these peers configured.
func newPeerWorld(t *testing.T, seeds ...string) *world {
	t.Helper()
	w := newWorld(t, func(c *Config) { c.Peers = peers(seeds...) })
	w.handle(Serving{Addrs: peers("10.0.0.1:3863"), ENRP: peers("10.0.0.1:9901")})
	return w
}

func (w *world) tell(id AssocID, m enrp.Message) {
	w.t.Helper()
	b, err := m.Append(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	w.handle(Received{Assoc: id, PPID: enrp.PPID, Data: b})
}

// meet has a peer connect, and skips what is sent.
func (w *world) meet(id AssocID, server rserpool.ServerID) {
	w.t.Helper()
	at := fmt.Sprintf("10.0.9.%d", id)
	w.meetAt(id, server, at, at)
}

// meetAt has a peer connect from an address, and name others.
func (w *world) meetAt(id AssocID, server rserpool.ServerID, from string, at ...string) {
	w.t.Helper()
	info := rserpool.ServerInformation{ID: server, Transport: rserpool.Transport{Type: rserpool.SCTP, Port: 9901}}
	for _, a := range at {
		info.Transport.Addrs = append(info.Transport.Addrs, netip.MustParseAddr(a))
	}
	w.handle(AssocUp{Assoc: id, Peer: peers(from + ":9901"), Via: rserpool.ViaKernel, ENRP: true})
	w.tell(id, &enrp.Presence{Sender: server, Info: info})
	w.skip("registration granted", "announce", "connect", "handle_table_response", "init_takeover", "list_request", "log", "presence")
}

// element is a pool element at 10.0.1.1 as ENRP has it.
func peerElement(id uint32, home rserpool.ServerID) rserpool.PoolElement {
	addrs := []netip.Addr{netip.MustParseAddr("10.0.1.1")}
	return rserpool.PoolElement{
		ID: rserpool.PEID(id), Home: home, Life: 3600, Policy: rserpool.Policy{Type: rserpool.RoundRobin},
		UserTransport: rserpool.Transport{Type: rserpool.UDP, Port: 7, Addrs: addrs},
		ASAPTransport: rserpool.Transport{Type: rserpool.SCTP, Port: 40000, Addrs: addrs},
	}
}

func update(sender rserpool.ServerID, act enrp.UpdateAction, h string, e rserpool.PoolElement) *enrp.HandleUpdate {
	return &enrp.HandleUpdate{Sender: sender, Action: act, Handle: rserpool.PoolHandle(h), Element: e}
}

// wantHomes compares the handlespace, as "POOL:ID@HOME ...".
func (w *world) wantHomes(want ...string) {
	w.t.Helper()
	var got []string
	for p := range w.r.Space().Pools() {
		for _, e := range p.Elements(nil) {
			got = append(got, fmt.Sprintf("%s:%x@%x", p.Handle(), uint32(e.ID), uint32(e.Home)))
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		w.t.Fatalf("at %v: got elements %q, want %q", w.now.Sub(w.start), got, want)
	}
}

// Peers of the tests, one with a smaller identifier than this registrar and two with a
// greater one.
const (
	smaller = 0x0fffffff
	greater = 0x20000002
	third   = 0x30000003
)
