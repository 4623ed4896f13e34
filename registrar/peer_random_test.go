package registrar

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// peerStorm makes random events of peers, most of which behave.
type peerStorm struct {
	storm
	users  []user                        // of ASAP, all up
	links  map[rserpool.ServerID]AssocID // the last one of each peer
	tables []rserpool.ServerID           // of whom tables were requested
}

type user struct {
	assoc AssocID
	at    netip.AddrPort
}

// event mostly has the peers do what they may: answer requests for tables, and send from where they
// are.
func (s *peerStorm) event() Event {
	if s.choose(4) == 0 {
		return s.storm.event()
	}
	server := rserpool.ServerID(1 + s.choose(5))
	if n := len(s.tables); n > 0 && s.choose(2) == 0 {
		server = s.tables[n-1]
		s.tables = s.tables[:n-1]
		b, _ := s.table(server).Append(nil)
		return Received{Assoc: s.links[server], PPID: enrp.PPID, Data: b}
	}
	switch k := s.choose(20); {
	case k < 2:
		s.next++
		s.assocs = append(s.assocs, s.next)
		s.links[server] = s.next
		return AssocUp{Assoc: s.next, Peer: addrPorts(s.place(server)), Via: rserpool.ViaKernel, ENRP: true}
	case k < 3 && len(s.assocs) > 0:
		return AssocDown{Assoc: s.assoc()}
	case k < 8:
		return s.userEvent()
	case k < 11:
		s.now = s.now.Add(time.Duration(s.choose(8000)>>s.choose(4)) * time.Millisecond)
		if s.choose(4) > 0 {
			return Tick{}
		}
		// A message comes before the timers run.
	}
	b, _ := s.peerMessage(server).Append(nil)
	if s.choose(8) == 0 {
		return Announced{ENRP: true, From: s.peer()[0], Data: b}
	}
	ev := s.received(enrp.PPID, b)
	if s.choose(8) > 0 {
		ev.Assoc = s.links[server]
	}
	return ev
}

// requested notes that a peer has to answer.
func (s *peerStorm) requested(m enrp.Message) {
	if m, ok := m.(*enrp.HandleTableRequest); ok {
		s.tables = append(s.tables, m.Receiver)
	}
}

// userEvent is one of the users of ASAP, which register what is at their place.
func (s *peerStorm) userEvent() Event {
	if len(s.users) < 8 {
		s.next++
		u := user{s.next, s.peer()[0]}
		s.users = append(s.users, u)
		return AssocUp{Assoc: u.assoc, Peer: []netip.AddrPort{u.at}, Via: rserpool.ViaKernel}
	}
	u, m := s.users[s.choose(len(s.users))], s.message()
	if m, ok := m.(*asap.Registration); ok {
		m.Element.UserTransport.Addrs = []netip.Addr{u.at.Addr()}
	}
	return Received{Assoc: u.assoc, PPID: asap.PPID, Data: encodeOrNil(m)}
}

// place is where a peer is, or says that it is.
func (s *peerStorm) place(server rserpool.ServerID) *rserpool.Transport {
	t := rserpool.Transport{Type: rserpool.SCTP, Port: 9901, Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 9, byte(server)})}}
	if s.choose(8) == 0 {
		t.Port, t.Addrs[0] = s.peer()[0].Port(), s.peer()[0].Addr()
	}
	return &t
}

// silentHome is a registrar that peers name and that is not heard, so this one may have to stand in
// for it.
const silentHome = 7

func (s *peerStorm) pool() rserpool.PoolHandle {
	return rserpool.PoolHandle([]string{"a", "b"}[s.choose(2)])
}

// element is one that a peer names.
func (s *peerStorm) element(server rserpool.ServerID) rserpool.PoolElement {
	e := peerElement(uint32(s.choose(4)), []rserpool.ServerID{0, server, rserpool.ServerID(s.choose(6)), silentHome}[s.choose(4)])
	switch s.choose(8) {
	case 0:
		e.ASAPTransport = rserpool.Transport{}
	case 1, 2, 3: // of a host that registers with us, too
		at := s.peer()[0]
		e.ASAPTransport = rserpool.Transport{Type: rserpool.SCTP, Port: at.Port(), Addrs: []netip.Addr{at.Addr()}}
	}
	return e
}

// table is a part of a handle table.
func (s *peerStorm) table(server rserpool.ServerID) *enrp.HandleTableResponse {
	m := &enrp.HandleTableResponse{Sender: server, More: s.choose(4) == 0}
	if n := s.choose(3); n > 0 {
		pool := enrp.PoolEntry{Handle: s.pool()}
		for range n {
			pool.Elements = append(pool.Elements, s.element(server))
		}
		if s.choose(2) == 0 {
			pool.Suspects = map[int]time.Duration{s.choose(n): s.silence()}
		}
		m.Pools = append(m.Pools, pool)
	}
	return m
}

func (s *peerStorm) peerMessage(server rserpool.ServerID) enrp.Message {
	h, other, e := s.pool(), rserpool.ServerID(s.choose(6)), s.element(server)
	if s.choose(8) == 0 {
		e.Policy.Type = rserpool.Random
	}
	switch s.choose(16) {
	case 0:
		m := &enrp.Presence{Sender: server, ReplyRequired: s.choose(2) == 0, HasChecksum: true, Checksum: uint16(s.choose(3))}
		if s.choose(2) == 0 {
			m.Info = rserpool.ServerInformation{ID: server, Transport: *s.place(server)}
		}
		return m
	case 1:
		return &enrp.ListRequest{Sender: server}
	case 2:
		return &enrp.HandleTableRequest{Sender: server, OwnChildrenOnly: s.choose(2) == 0, Suspects: s.choose(2) == 0}
	case 3:
		return s.table(server)
	case 4:
		return &enrp.InitTakeover{Sender: server, Target: other}
	case 5:
		return &enrp.InitTakeoverAck{Sender: server, Target: other}
	case 6:
		return &enrp.TakeoverServer{Sender: server, Target: other}
	case 7:
		return &enrp.ListResponse{Sender: server, Servers: []rserpool.ServerInformation{{ID: other, Transport: peerElement(1, 1).ASAPTransport}}}
	}
	m := &enrp.HandleUpdate{Sender: server, Action: enrp.UpdateAction(s.choose(2)), Handle: h, Element: e}
	if m.Action == enrp.DelPE && s.choose(3) > 0 {
		m.Suspect, m.Silent = true, s.silence()
	}
	return m
}

// silence is for how long an element has been a suspect: often just about as long as one is
// remembered.
func (s *peerStorm) silence() time.Duration {
	return time.Duration(s.choose(2)*60+s.choose(70)) * time.Second
}

// runPeers runs a storm of peers while there is more, and returns what was done, and the counters.
func runPeers(choose func(n int) int, more func() bool) ([]byte, Stats, error) {
	s := &peerStorm{storm: storm{choose: choose, now: time.Unix(1000, 0)}, links: make(map[rserpool.ServerID]AssocID)}
	r, err := New(Config{ServerID: 3, Rand: rand.New(rand.NewPCG(1, 4)), Peers: s.peer(), Discover: choose(2) == 0, Limits: Limits{Downloads: 2, Servers: 2}, Timers: Timers{SuspectLife: 20 * time.Second, GuardLife: time.Minute}})
	if err != nil {
		return nil, Stats{}, err
	}
	var done bytes.Buffer
	var kept keptWorld
	r.cfg.Keep = true
	var ev Event = Serving{Addrs: s.peer(), ENRP: s.peer()}
	for i := 0; more(); i++ {
		acts := r.Handle(s.now, ev)
		for _, a := range acts {
			if send, ok := a.(*Send); ok {
				fmt.Fprintf(&done, "%d %d %x\n", send.Assoc, send.PPID, send.Data)
				if send.PPID == enrp.PPID {
					var m enrp.Message
					if m, _, err = enrp.Parse(send.Data); err == nil {
						s.requested(m)
					}
				} else {
					_, _, err = asap.Parse(send.Data)
				}
				if err != nil {
					return nil, Stats{}, fmt.Errorf("event %d, %#v: sent %w", i, ev, err)
				}
			}
		}
		if err := s.heed(acts); err != nil {
			return nil, Stats{}, err
		}
		if kept.note(acts); kept.check(r) != nil {
			return nil, Stats{}, fmt.Errorf("event %d, %#v: %w", i, ev, kept.check(r))
		}
		if err := r.checkInvariants(); err != nil {
			return nil, Stats{}, fmt.Errorf("event %d, %#v: %w", i, ev, err)
		}
		ev = s.event()
	}
	return done.Bytes(), r.Stats(), nil
}

// TestRandomPeers holds the invariants, among them each roster's checksum
// against a full computation, under random peers, and the same events give the
// same actions.
func TestRandomPeers(t *testing.T) {
	run := func(seed uint64) ([]byte, Stats, error) {
		left := 1500
		return runPeers(rand.New(rand.NewPCG(seed, 3)).IntN, func() bool { left--; return left >= 0 })
	}
	var claims, swept, won uint64
	for seed := range uint64(100) {
		first, st, err := run(seed)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if seed < 5 {
			if again, _, _ := run(seed); !bytes.Equal(first, again) {
				t.Fatalf("seed %d: another run does something else", seed)
			}
		}
		claims, swept, won = claims+st.Claims, swept+st.Swept, won+st.Takeovers.Won
	}
	if claims == 0 || swept == 0 || won == 0 { // the storm must reach everything
		t.Errorf("%d claims, %d elements that a peer has not named, %d takeovers: want some of each", claims, swept, won)
	}
}

// FuzzPeers has the fuzzer choose what the peers do.
func FuzzPeers(f *testing.F) {
	addChoices(f)
	f.Fuzz(func(t *testing.T, choices []byte) {
		if len(choices) > 4000 {
			return
		}
		if _, _, err := runPeers(chooser(&choices), func() bool { return len(choices) > 0 }); err != nil {
			t.Fatal(err)
		}
	})
}
