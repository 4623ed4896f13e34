package registrar

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// benchScope has registrars in one goroutine, each with a link to each other one.
// Association n is the link to the n-th.
type benchScope struct {
	b     *testing.B
	now   time.Time
	nodes []*Registrar
	mail  []mail
	// longest is the longest time that one event has taken a registrar since
	// it was last set to 0.
	longest []time.Duration
}

type mail struct {
	from, to AssocID
	data     []byte
}

func newBenchScope(b *testing.B) *benchScope {
	return &benchScope{b: b, now: time.Unix(1000, 0)}
}

func benchID(n AssocID) rserpool.ServerID { return rserpool.ServerID(0x1000 + n) }

// add adds a registrar, which gets the handlespace from the first one.
func (s *benchScope) add() *Registrar {
	n := AssocID(len(s.nodes) + 1)
	cfg := Config{ServerID: benchID(n), Rand: rand.New(rand.NewPCG(1, uint64(n)))}
	l := &cfg.Limits
	l.Pools, l.Elements, l.ElementBytes, l.PeerMessages = 1<<20, 1<<21, 1<<30, 1<<30 // time stands still
	if n > 1 {
		cfg.Peers = peers("10.0.9.1:9901")
	}
	r, err := New(cfg)
	if err != nil {
		s.b.Fatal(err)
	}
	s.nodes, s.longest = append(s.nodes, r), append(s.longest, 0)
	s.handle(n, Serving{ENRP: peers(benchAddr(n))})
	for other := AssocID(1); other < n; other++ {
		if other == 1 {
			s.handle(n, Connecting{Ref: 1, Assoc: other})
		}
		s.handle(other, AssocUp{Assoc: n, Peer: peers(benchAddr(n)), Via: rserpool.ViaKernel, ENRP: true})
		s.handle(n, AssocUp{Assoc: other, Peer: peers(benchAddr(other)), Via: rserpool.ViaKernel, ENRP: true})
	}
	return r
}

func benchAddr(n AssocID) string { return fmt.Sprintf("10.0.9.%d:9901", n) }

// handle gives the n-th registrar an event. What it sends to peers is
// delivered by settle.
func (s *benchScope) handle(n AssocID, ev Event) {
	begin := time.Now()
	acts := s.nodes[n-1].Handle(s.now, ev)
	s.longest[n-1] = max(s.longest[n-1], time.Since(begin))
	for _, a := range acts {
		if m, ok := a.(*Send); ok && m.PPID == enrp.PPID {
			s.mail = append(s.mail, mail{n, m.Assoc, append([]byte(nil), m.Data...)})
		}
	}
}

// settle delivers messages until there are none.
func (s *benchScope) settle() {
	for len(s.mail) > 0 {
		m := s.mail[0]
		s.mail = s.mail[1:]
		s.handle(m.to, Received{Assoc: m.from, PPID: enrp.PPID, Data: m.data})
	}
}

// pass lets time pass for the n-th registrar alone.
func (s *benchScope) pass(n AssocID, d time.Duration) {
	for end := s.now.Add(d); ; {
		at, ok := s.nodes[n-1].NextDeadline()
		if !ok || at.After(end) {
			s.now = end
			return
		}
		if at.After(s.now) {
			s.now = at
		}
		s.handle(n, Tick{})
		s.settle()
	}
}

// fill registers elements with the n-th registrar, in pools of a thousand.
func (s *benchScope) fill(n AssocID, elements int) {
	r := s.nodes[n-1]
	const hosts = 16
	for h := range AssocID(hosts) {
		r.Handle(s.now, AssocUp{Assoc: 100 + h, Peer: peers(fmt.Sprintf("10.0.1.%d", h+1)), Via: rserpool.ViaKernel})
	}
	for i := range elements {
		h := AssocID(i % hosts)
		m := encode(s.b, reg(fmt.Sprintf("pool-%04d", i/1000), uint32(i+1), fmt.Sprintf("10.0.1.%d", h+1)))
		s.handle(n, Received{Assoc: 100 + h, PPID: asap.PPID, Data: m})
		s.settle()
	}
	if members(r.roster) != elements {
		s.b.Fatalf("%d elements are registered, want %d", members(r.roster), elements)
	}
}

// BenchmarkDownload: a registrar gets its first handlespace, from core to core.
// codec-ns is the part of encoding and decoding.
func BenchmarkDownload(b *testing.B) {
	const n = 100000
	s := newBenchScope(b)
	s.add()
	s.fill(1, n)
	for b.Loop() {
		s.nodes = s.nodes[:1]
		r := s.add()
		s.settle()
		if s := r.Stats(); !r.Ready() || s.Foreign != n {
			b.Fatalf("got %d elements, want %d", s.Foreign, n)
		}
		s.handle(1, AssocDown{Assoc: 2})
		for _, p := range s.nodes[0].peers.list {
			s.nodes[0].forget(p)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/element")
	b.ReportMetric(float64(codecTime(b, s.nodes[0]).Nanoseconds())/n, "codec-ns/element")
}

// codecTime is the time to encode the registrar's elements in parts, as peers get them,
// and to decode them.
func codecTime(b *testing.B, r *Registrar) time.Duration {
	best := time.Hour
	for range 5 {
		begin := time.Now()
		s := &session{Cursor: r.ledger.Open(r.roster)}
		var buf []byte
		for s.Peek() != nil {
			var err error
			if buf, err = r.tableResponse(buf[:0], 1, s.part(), true); err != nil {
				b.Fatal(err)
			}
			if _, _, err = enrp.Parse(buf); err != nil {
				b.Fatal(err)
			}
		}
		r.ledger.Close(s.Cursor)
		best = min(best, time.Since(begin))
	}
	return best
}

// BenchmarkTakeover: a registrar with 100,000 elements dies. The metrics are the
// longest time, in ms, of one event: in the registrar that takes it over, in the other
// one, and in one that sweeps as many after an audit.
func BenchmarkTakeover(b *testing.B) {
	const n = 100000
	var taking, watching, sweeping time.Duration = 1 << 62, 1 << 62, 1 << 62
	for b.Loop() {
		b.StopTimer()
		s := newBenchScope(b)
		s.add()
		taker, watcher := s.add(), s.add()
		s.settle()
		s.fill(1, n)
		audited := s.longestSweep(n)
		b.StartTimer()
		clear(s.longest)
		s.handle(3, AssocDown{Assoc: 1})
		s.handle(2, AssocDown{Assoc: 1})
		watcher.setPeerState(watcher.peers.byID[benchID(1)], PeerYielded)
		s.pass(2, 7*time.Second) // until the first probes fail
		s.pass(3, time.Second)
		if members(taker.roster) != n {
			b.Fatalf("%d elements are taken over, want %d", members(taker.roster), n)
		}
		if p := watcher.peers.byID[benchID(2)]; members(p.roster) != members(taker.roster) {
			b.Fatalf("the other one knows of %d elements, want %d", members(p.roster), members(taker.roster))
		}
		taking, watching, sweeping = min(taking, s.longest[1]), min(watching, s.longest[2]), min(sweeping, audited)
	}
	const ms = float64(time.Millisecond)
	b.ReportMetric(float64(taking)/ms, "ms-taking")
	b.ReportMetric(float64(watching)/ms, "ms-watching")
	b.ReportMetric(float64(sweeping)/ms, "ms-sweeping")
}

// longestSweep is the longest event of another registrar, to which the first one names
// none of its n elements.
func (s *benchScope) longestSweep(n int) time.Duration {
	r := s.add()
	s.settle()
	id := AssocID(len(s.nodes))
	p := r.peers.byID[benchID(1)]
	if members(p.roster) != n {
		s.b.Fatalf("%d elements, want %d", members(p.roster), n)
	}
	s.longest[id-1] = 0
	r.beginAudit(p)
	r.Handle(s.now, Received{Assoc: 1, PPID: enrp.PPID, Data: mustAppend(s.b, &enrp.HandleTableResponse{Sender: benchID(1)})})
	// Then the other one tells of them again.
	for end := s.now.Add(time.Duration(n/sweepRate+1) * time.Second); members(p.roster) > 0; s.pass(id, time.Second) {
		if s.now.After(end) {
			s.b.Fatalf("%d elements are left", members(p.roster))
		}
	}
	for other := AssocID(1); other < id; other++ { // it is gone, and had nothing
		s.nodes[other-1].forget(s.nodes[other-1].peers.byID[benchID(id)])
	}
	s.nodes = s.nodes[:id-1]
	return s.longest[id-1]
}

func mustAppend(b *testing.B, m enrp.Message) []byte {
	data, err := m.Append(nil)
	if err != nil {
		b.Fatal(err)
	}
	return data
}
