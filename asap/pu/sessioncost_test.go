package pu

import (
	"bytes"
	"context"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/session/carrier"
	"github.com/rserpool/coredns-rserpool/rserpool"
	"github.com/rserpool/coredns-rserpool/test/here"
)

// instant is an SCTP endpoint without a network: each association comes up at once, and what
// is sent disappears. What the tests measure with it is the sessions' own part.
type instant struct {
	sctp.Endpoint // the methods that nobody calls
	ids           *sctp.IDs
	h             sctp.Handler
	up            sync.WaitGroup
}

func (e *instant) Connect(sctp.Dest) sctp.AssocID {
	id := e.ids.Next()
	e.up.Go(func() { e.h(sctp.Event{Type: sctp.Up, Assoc: id}) })
	return id
}

func (e *instant) Send(sctp.AssocID, sctp.Message) error { return nil }
func (e *instant) Full(sctp.AssocID) bool                { return false }
func (e *instant) Shutdown(id sctp.AssocID)              { e.Abort(id) }
func (e *instant) Close() error                          { e.up.Wait(); return nil }

func (e *instant) Abort(id sctp.AssocID) {
	e.up.Go(func() { e.h(sctp.Event{Type: sctp.Down, Assoc: id, Reason: sctp.LocalClose}) })
}

// instants is a world whose sessions have instant endpoints.
type instants struct {
	*world
	ids  sctp.IDs
	mu   sync.Mutex
	list []*instant
}

func newInstants(t testing.TB) *instants {
	t.Helper()
	x := &instants{world: newWorld(t, 1)}
	x.u.runner.cfg.listen = x.listen // after the user's own endpoint, toward the registrar
	return x
}

func (x *instants) listen(_ sctp.ListenConfig, h sctp.Handler) (sctp.Endpoint, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	e := &instant{ids: &x.ids, h: h}
	x.list = append(x.list, e)
	return e, nil
}

// turn is a message from each side: the other side's is given to deliver.
type turn struct {
	send    func(data []byte)
	deliver func(data []byte)
	receive func()
}

// session is the turn of a session.
func (x *instants) session(t testing.TB) turn {
	ctx := context.Background()
	s, err := x.u.DialSession(ctx, SessionConfig{Pool: testPool, AnswerTimeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	e, id := x.list[len(x.list)-1], x.ids.Next()-1
	return turn{
		send: func(data []byte) {
			if err := s.Send(ctx, data); err != nil {
				t.Fatal(err)
			}
		},
		deliver: func(data []byte) {
			e.h(sctp.Event{Type: sctp.Received, Assoc: id, Message: sctp.Message{Data: data}})
		},
		receive: func() {
			if _, err := s.Receive(ctx); err != nil {
				t.Fatal(err)
			}
		},
	}
}

// bare is the turn of an association: what a program without sessions does at least, which
// is to hand the message from the Handler to the goroutine that waits for it.
func (x *instants) bare() turn {
	got := make(chan sctp.Message, 1)
	e, _ := x.listen(sctp.ListenConfig{}, func(ev sctp.Event) {
		if ev.Type == sctp.Received {
			got <- ev.Message
		}
	})
	id := e.Connect(sctp.Dest{})
	return turn{
		send: func(data []byte) { _ = e.Send(id, sctp.Message{Data: data}) },
		deliver: func(data []byte) {
			e.(*instant).h(sctp.Event{Type: sctp.Received, Assoc: id, Message: sctp.Message{Data: data}})
		},
		receive: func() { <-got },
	}
}

func (tr turn) run(data []byte) {
	tr.send(data)
	tr.deliver(data)
	tr.receive()
}

func BenchmarkMessage(b *testing.B) {
	for _, session := range []bool{false, true} {
		b.Run(map[bool]string{false: "bare", true: "session"}[session], func(b *testing.B) {
			x := newInstants(b)
			defer x.close()
			tr := x.bare()
			if session {
				tr = x.session(b)
			}
			data := bytes.Repeat([]byte("x"), 100)
			b.ReportAllocs()
			for b.Loop() {
				tr.run(data)
			}
		})
	}
}

// TestMessageCost: a message of a session costs at most 2 us more than a message without one,
// and one allocation, which is the copy that Send makes.
func TestMessageCost(t *testing.T) {
	x := newInstants(t)
	defer x.close()
	session, data := x.session(t), bytes.Repeat([]byte("x"), 100)
	bare := x.bare()
	allocs := func(f func()) float64 { return testing.AllocsPerRun(1000, f) }
	sent := allocs(func() { session.send(data) }) - allocs(func() { bare.send(data) })
	received := allocs(func() { session.deliver(data); session.receive() }) - allocs(func() { bare.deliver(data); bare.receive() })
	if sent > 1 || received > 0 {
		t.Errorf("a session allocates %v times more to send a message and %v times to receive one, want 1 and 0", sent, received)
	}
	if here.Race() {
		t.Skip("LEFT OUT: times under the race detector mean nothing; run the test without -race")
	}
	const n = 20000
	took := func(tr turn) time.Duration {
		best := time.Hour
		for range 5 {
			began := time.Now()
			for range n {
				tr.run(data)
			}
			best = min(best, time.Since(began))
		}
		return best / (2 * n) // a message each way
	}
	b, s := took(bare), took(session)
	t.Logf("bare %v, session %v a message", b, s)
	if s-b > 2*time.Microsecond {
		t.Errorf("a message takes %v in a session and %v without one, want at most 2 us more", s, b)
	}
}

// TestSessionMemory: 10,000 sessions take at most 4 KiB each above their associations.
func TestSessionMemory(t *testing.T) {
	const n, want = 10000, 4 << 10
	x := newInstants(t)
	defer x.close()
	heap := func() int64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc + m.StackInuse)
	}
	// The associations alone.
	c, err := carrier.Open(carrier.Config{Listen: x.listen})
	if err != nil {
		t.Fatal(err)
	}
	e := x.elements[0].entry()
	to, _ := carrier.DestOf(&e, rserpool.ViaAuto)
	before := heap()
	assocs := make([]*carrier.Assoc, n)
	var up sync.WaitGroup
	up.Add(n)
	for i := range assocs {
		assocs[i] = c.Connect(to, func(_ *carrier.Assoc, ev sctp.Event) {
			if ev.Type == sctp.Up {
				up.Done()
			}
		})
	}
	up.Wait()
	alone := heap() - before
	runtime.KeepAlive(assocs)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	assocs, c = nil, nil
	x.mu.Lock()
	x.list = nil
	x.mu.Unlock()

	before = heap()
	sessions := make([]*Session, n)
	for i := range sessions {
		sessions[i] = dial(t, x.world, SessionConfig{AnswerTimeout: time.Minute, Notify: func(SessionEvent) {}})
		if err := sessions[i].Send(t.Context(), []byte("hello")); err != nil {
			t.Fatal(err)
		}
	}
	each := (heap() - before - alone) / n
	runtime.KeepAlive(sessions)
	t.Logf("%d bytes a session, above %d of its association", each, alone/n)
	if each > want {
		t.Errorf("a session takes %d bytes, want at most %d", each, want)
	}
}
