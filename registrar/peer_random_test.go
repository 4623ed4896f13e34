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
	users []AssocID // of ASAP, all up
}

func (s *peerStorm) event() Event {
	if s.choose(4) == 0 {
		return s.storm.event()
	}
	server := rserpool.ServerID(1 + s.choose(5))
	switch k := s.choose(20); {
	case k < 2:
		s.next++
		s.assocs = append(s.assocs, s.next)
		return AssocUp{Assoc: s.next, Peer: s.peer(), Via: rserpool.ViaKernel, ENRP: true}
	case k < 3 && len(s.assocs) > 0:
		return AssocDown{Assoc: s.assoc()}
	case k < 4:
		if len(s.users) < 8 {
			s.next++
			s.users = append(s.users, s.next)
			return AssocUp{Assoc: s.next, Peer: s.peer()[:1], Via: rserpool.ViaKernel}
		}
		user := s.users[s.choose(len(s.users))]
		return Received{Assoc: user, PPID: asap.PPID, Data: encodeOrNil(s.message())}
	case k < 8:
		s.now = s.now.Add(time.Duration(s.choose(8000)) * time.Millisecond)
		return Tick{}
	}
	b, _ := s.peerMessage(server).Append(nil)
	if s.choose(8) == 0 {
		return Announced{ENRP: true, From: s.peer()[0], Data: b}
	}
	return s.received(enrp.PPID, b)
}

func (s *peerStorm) peerMessage(server rserpool.ServerID) enrp.Message {
	h := rserpool.PoolHandle([]string{"a", "b", "c"}[s.choose(3)])
	other := rserpool.ServerID(s.choose(6))
	e := peerElement(uint32(s.choose(6)), []rserpool.ServerID{0, server, other}[s.choose(3)])
	switch s.choose(8) {
	case 0:
		e.ASAPTransport = rserpool.Transport{}
	case 1, 2, 3: // of a host that registers with us, too
		at := s.peer()[0]
		e.ASAPTransport = rserpool.Transport{Type: rserpool.SCTP, Port: at.Port(), Addrs: []netip.Addr{at.Addr()}}
	}
	if s.choose(8) == 0 {
		e.Policy.Type = rserpool.Random
	}
	switch s.choose(10) {
	case 0:
		m := &enrp.Presence{Sender: server, ReplyRequired: s.choose(2) == 0, HasChecksum: true, Checksum: uint16(s.choose(3))}
		if s.choose(2) == 0 {
			m.Info = rserpool.ServerInformation{ID: server, Transport: e.ASAPTransport}
			if !e.ASAPTransport.Present() {
				m.Info = rserpool.ServerInformation{}
			}
		}
		return m
	case 1:
		return &enrp.ListRequest{Sender: server}
	case 2:
		return &enrp.HandleTableRequest{Sender: server, OwnChildrenOnly: s.choose(2) == 0, Suspects: s.choose(2) == 0}
	case 3:
		m := &enrp.HandleTableResponse{Sender: server, More: s.choose(3) == 0, Pools: []enrp.PoolEntry{{Handle: h, Elements: []rserpool.PoolElement{e}}}}
		if s.choose(2) == 0 {
			m.Pools[0].Suspects = map[int]time.Duration{0: s.silence()}
		}
		return m
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

// runPeers runs a storm of peers while there is more, and returns what was done.
func runPeers(choose func(n int) int, more func() bool) ([]byte, error) {
	s := &peerStorm{storm: storm{choose: choose, now: time.Unix(1000, 0)}}
	r, err := New(Config{ServerID: 3, Rand: rand.New(rand.NewPCG(1, 4)), Peers: s.peer(), Discover: choose(2) == 0, Limits: Limits{Downloads: 2, Servers: 2}, Timers: Timers{SuspectLife: 20 * time.Second, GuardLife: time.Minute}})
	if err != nil {
		return nil, err
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
					_, _, err = enrp.Parse(send.Data)
				} else {
					_, _, err = asap.Parse(send.Data)
				}
				if err != nil {
					return nil, fmt.Errorf("event %d, %#v: sent %w", i, ev, err)
				}
			}
		}
		if err := s.heed(acts); err != nil {
			return nil, err
		}
		if kept.note(acts); kept.check(r) != nil {
			return nil, fmt.Errorf("event %d, %#v: %w", i, ev, kept.check(r))
		}
		if err := r.checkInvariants(); err != nil {
			return nil, fmt.Errorf("event %d, %#v: %w", i, ev, err)
		}
		ev = s.event()
	}
	return done.Bytes(), nil
}

// TestRandomPeers holds the invariants, among them each roster's checksum
// against a full computation, under random peers, and the same events give the
// same actions.
func TestRandomPeers(t *testing.T) {
	run := func(seed uint64) ([]byte, error) {
		left := 1500
		return runPeers(rand.New(rand.NewPCG(seed, 3)).IntN, func() bool { left--; return left >= 0 })
	}
	for seed := range uint64(40) {
		first, err := run(seed)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if again, _ := run(seed); seed < 5 && !bytes.Equal(first, again) {
			t.Fatalf("seed %d: another run does something else", seed)
		}
	}
}

// FuzzPeers has the fuzzer choose what the peers do.
func FuzzPeers(f *testing.F) {
	addChoices(f)
	f.Fuzz(func(t *testing.T, choices []byte) {
		if len(choices) > 4000 {
			return
		}
		if _, err := runPeers(chooser(&choices), func() bool { return len(choices) > 0 }); err != nil {
			t.Fatal(err)
		}
	})
}
