package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
	"github.com/rserpool/coredns-rserpool/registrar"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// memory is a network in memory that several hosts can share.
type memory struct{ *sctptest.Network }

func (memory) Close() error { return nil }

// log collects log lines.
type log struct {
	mu    sync.Mutex
	lines []string
}

// logger has the lines collected.
func (l *log) logger() *slog.Logger {
	return logTo(func(_ bool, text string) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.lines = append(l.lines, text)
	})
}

// logTo calls f with each line.
func logTo(f func(warn bool, text string)) *slog.Logger { return slog.New(logFunc(f)) }

type logFunc func(warn bool, text string)

func (logFunc) Enabled(context.Context, slog.Level) bool { return true }
func (f logFunc) WithAttrs([]slog.Attr) slog.Handler     { return f }
func (f logFunc) WithGroup(string) slog.Handler          { return f }

func (f logFunc) Handle(_ context.Context, r slog.Record) error {
	f(r.Level >= slog.LevelWarn, r.Message)
	return nil
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "\n")
}

const hostAddr = "10.0.0.9:3863"

// memoryHost is a started Host in a network in memory.
func memoryHost(t *testing.T, nw *sctptest.Network) (*Host, *log) {
	t.Helper()
	l := new(log)
	h, err := Open(Config{
		Config:  registrar.Config{ServerID: 0x10000001, Rand: rand.New(rand.NewPCG(1, 2))},
		ASAP:    []netip.AddrPort{netip.MustParseAddrPort(hostAddr)},
		network: func() (network, error) { return memory{nw}, nil },
		Logger:  l.logger(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeNow(t, h) })
	return h, l
}

// closeNow closes without waiting for peers.
func closeNow(t *testing.T, h *Host) {
	h.cfg.CloseTimeout = time.Nanosecond
	if err := h.Close(); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

// peer is an element or a user: it notes what it receives, and acknowledges
// keep-alives unless it is deaf.
type peer struct {
	sctp.Endpoint
	t     *testing.T
	assoc sctp.AssocID
	deaf  bool

	mu   sync.Mutex
	got  []asap.Message
	cond *sync.Cond
}

func newPeer(t *testing.T, nw network, addr string) *peer {
	t.Helper()
	p := &peer{t: t}
	p.cond = sync.NewCond(&p.mu)
	ep, err := nw.Listen(sctp.ListenConfig{Addrs: []netip.AddrPort{netip.MustParseAddrPort(addr)}}, p.handle)
	if err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	p.Endpoint = ep
	p.mu.Unlock()
	t.Cleanup(func() { _ = ep.Close() })
	return p
}

// newElement is element 7 of pool "p", registered from 10.0.0.1.
func newElement(t *testing.T, nw *sctptest.Network, h *Host) *peer {
	t.Helper()
	pe := newPeer(t, memory{nw}, "10.0.0.1:5000")
	pe.connect(h.LocalAddrs()[0], sctp.Kernel)
	pe.send(pe.assoc, registration("p", 7, "10.0.0.1"))
	if m := last[*asap.RegistrationResponse](pe); m.Reject {
		t.Fatalf("registration is refused: %v", m.Causes)
	}
	return pe
}

func (p *peer) handle(ev sctp.Event) {
	if ev.Type != sctp.Received {
		return
	}
	m, _, err := asap.Parse(ev.Message.Data)
	if err != nil {
		p.t.Errorf("peer received what cannot be read: %v", err)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.got = append(p.got, m)
	p.cond.Broadcast()
	if ka, ok := m.(*asap.EndpointKeepAlive); ok && !p.deaf {
		p.send(ev.Assoc, &asap.EndpointKeepAliveAck{Handle: ka.Handle, ID: ka.ID})
	}
}

func (p *peer) send(a sctp.AssocID, m asap.Message) {
	b, err := m.Append(nil)
	if err != nil {
		p.t.Error(err)
	}
	if err := p.Send(a, sctp.Message{Data: b, PPID: asap.PPID}); err != nil {
		p.t.Logf("send %T: %v", m, err)
	}
}

func (p *peer) connect(to netip.AddrPort, k sctp.Kind) {
	p.assoc = p.Connect(sctp.Dest{Addrs: []netip.AddrPort{to}, Kind: k})
}

// last waits for a message of type M and forgets all that came before.
func last[M asap.Message](p *peer) M {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		for i, m := range p.got {
			if m, ok := m.(M); ok {
				p.got = p.got[i+1:]
				return m
			}
		}
		p.cond.Wait()
	}
}

func registration(h string, id uint32, addr string) *asap.Registration {
	return &asap.Registration{Handle: rserpool.PoolHandle(h), Element: rserpool.PoolElement{
		ID: rserpool.PEID(id), Life: 3600,
		UserTransport: rserpool.Transport{Type: rserpool.TCP, Port: 80, Addrs: []netip.Addr{netip.MustParseAddr(addr)}},
		Policy:        rserpool.Policy{Type: rserpool.RoundRobin},
	}}
}

// The whole way: register, resolve, be supervised, be killed.
func TestLifeOfAnElement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := sctptest.NewNetwork()
		h, _ := memoryHost(t, nw)
		if !h.Ready() || len(h.LocalAddrs()) != 1 || h.LocalAddrs()[0].String() != hostAddr {
			t.Errorf("ready %v, at %v; want true, %s", h.Ready(), h.LocalAddrs(), hostAddr)
		}
		pe, pu := newElement(t, nw, h), newPeer(t, memory{nw}, "10.0.0.2:5000")
		if h.Space().Pool("p").Element(7) == nil {
			t.Fatal("element is not in the handlespace when it gets its response")
		}
		pu.connect(h.LocalAddrs()[0], sctp.TCP)
		pu.send(pu.assoc, &asap.HandleResolution{Handle: "p"})
		if m := last[*asap.HandleResolutionResponse](pu); len(m.Elements) != 1 || m.Elements[0].ID != 7 {
			t.Errorf("resolution: got %+v, want element 7", m)
		}
		time.Sleep(time.Minute) // answers all keep-alives
		if h.Space().Pool("p") == nil {
			t.Fatal("element was removed though it answers")
		}
		killed := time.Now()
		nw.Kill(pe.Endpoint)
		for h.Space().Pool("p") != nil {
			time.Sleep(time.Millisecond)
		}
		if d := time.Since(killed); d > 10*time.Millisecond {
			t.Errorf("killed element was removed after %v, want at once", d)
		}
		time.Sleep(2 * publishEvery)
		s := h.Stats()
		if s.Registrations != 1 || s.Resolutions != 1 || s.Removed[registrar.RemovedUnreachable] != 1 || s.Probes != 1 ||
			s.KeepAlivesAcked < 8 || s.Associations[rserpool.ViaTCP] != 1 || s.Panics != 0 {
			t.Errorf("stats: %+v", s)
		}
	})
}

// An element stays if its association ends but it accepts a new one.
func TestElementStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := sctptest.NewNetwork()
		h, _ := memoryHost(t, nw)
		pe := newElement(t, nw, h)
		pe.Abort(pe.assoc)
		last[*asap.EndpointKeepAlive](pe)
		time.Sleep(time.Minute)
		if h.Space().Pool("p") == nil {
			t.Error("element was removed though it answers")
		}
		if s := h.Stats(); s.Probes != 1 || s.Associations[rserpool.ViaKernel] != 1 {
			t.Errorf("stats: %+v", s)
		}
	})
}

// A machine that vanishes without an abort.
func TestFrozenElement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := sctptest.NewNetwork()
		h, _ := memoryHost(t, nw)
		pe := newElement(t, nw, h)
		nw.Freeze(pe.Endpoint)
		time.Sleep(13 * time.Second) // at most 7.5 s to the keep-alive, and 5 s
		if h.Space().Pool("p") != nil {
			t.Error("element is there though it has not answered a keep-alive")
		}
	})
}

func TestCloseInGoodOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := sctptest.NewNetwork()
		h, _ := memoryHost(t, nw)
		newElement(t, nw, h)
		if err := h.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if h.Ready() {
			t.Error("ready after Close")
		}
		if h.Space().Pool("p") == nil {
			t.Error("the handlespace is empty after Close")
		}
		if err := h.Close(); err != nil {
			t.Errorf("second close: %v", err)
		}
	})
}

// A peer that comes back as soon as its association ends does not hold up the
// end of the registrar, which still waits for another one.
func TestCloseWhilePeerReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := sctptest.NewNetwork()
		h, _ := memoryHost(t, nw)
		at := h.LocalAddrs()[0]
		frozen := newPeer(t, memory{nw}, "10.0.0.1:5000")
		frozen.connect(at, sctp.Kernel)
		nw.Freeze(frozen.Endpoint)
		var ep sctp.Endpoint
		ups := 0
		ep, err := nw.Listen(sctp.ListenConfig{Addrs: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.2:5000")}}, func(ev sctp.Event) {
			switch ev.Type {
			case sctp.Up:
				ups++
			case sctp.Down:
				if ev.Reason != sctp.LocalClose {
					ep.Connect(sctp.Dest{Addrs: []netip.AddrPort{at}})
				}
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		ep.Connect(sctp.Dest{Addrs: []netip.AddrPort{at}})
		synctest.Wait()
		go func() {
			time.Sleep(time.Second)
			nw.Kill(frozen.Endpoint)
		}()
		h.cfg.CloseTimeout = time.Minute
		if err := h.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if ups < 2 {
			t.Errorf("the peer was there %d times, want it to have returned", ups)
		}
		_ = ep.Close()
	})
}

// A peer that does not confirm costs no more than CloseTimeout.
func TestCloseWithFrozenPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := sctptest.NewNetwork()
		h, _ := memoryHost(t, nw)
		pe := newElement(t, nw, h)
		nw.Freeze(pe.Endpoint)
		h.cfg.CloseTimeout = time.Second
		start := time.Now()
		if err := h.Close(); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("close: got %v, want that time is up", err)
		}
		if d := time.Since(start); d != time.Second {
			t.Errorf("close took %v, want 1s", d)
		}
	})
}

// Open can be tried again, and says what was wrong.
func TestOpenAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := sctptest.NewNetwork()
		fail := error(syscall.EADDRINUSE)
		cfg := Config{
			ASAP: []netip.AddrPort{netip.MustParseAddrPort(hostAddr)},
			network: func() (network, error) {
				if fail != nil {
					return nil, fmt.Errorf("socket: %w", fail)
				}
				return memory{nw}, nil
			},
		}
		for _, c := range []struct {
			err  error
			want string
		}{
			{syscall.EADDRINUSE, "another program is using this address"},
			{syscall.EADDRNOTAVAIL, "does not have such an address"},
			{syscall.EACCES, "has no privilege"},
			{errors.New("odd"), "odd"},
		} {
			fail = c.err
			_, err := Open(cfg)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), hostAddr) || !errors.Is(err, c.err) {
				t.Errorf("open: got %v, want one that says %q and %s", err, c.want, hostAddr)
			}
		}
		fail = nil
		taken := newPeer(t, memory{nw}, hostAddr)
		if _, err := Open(cfg); err == nil {
			t.Error("open where something else listens: no error")
		}
		_ = taken.Close()
		h, err := Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestOpenRefuses(t *testing.T) {
	at := func(s ...string) (list []netip.AddrPort) {
		for _, a := range s {
			list = append(list, netip.MustParseAddrPort(a))
		}
		return list
	}
	for _, c := range []struct {
		cfg  Config
		want string
	}{
		{Config{ASAP: at("224.0.0.1:1")}, "use a unicast address"},
		{Config{ASAP: []netip.AddrPort{{}}}, "use a unicast address"},
		{Config{ASAP: at("10.0.0.1:1", "10.0.0.2:2")}, "use the same port"},
		{Config{AnnounceGroup: netip.MustParseAddrPort("10.0.0.1:3863")}, "use a multicast address"},
		{Config{AnnounceGroup: netip.MustParseAddrPort("224.0.1.185:0")}, "use a multicast address and a port"},
		{Config{ENRPAnnounceGroup: netip.MustParseAddrPort("10.0.0.1:9901")}, "use a multicast address"},
		{Config{AnnounceGroup: netip.MustParseAddrPort("239.0.0.1:1"), ENRPAnnounceGroup: netip.MustParseAddrPort("239.0.0.1:1")}, "use two groups"},
		{Config{Config: registrar.Config{Timers: registrar.Timers{Update: -1}}}, "timer Update"},
		{Config{Transports: TransportLimits{HalfOpen: -1}}, "limit HalfOpen"},
		{Config{Via: rserpool.ViaTCP}, "use auto, kernel or udp"},
	} {
		if _, err := Open(c.cfg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want an error with %q", err, c.want)
		}
	}
}

// brittle panics when a peer comes up.
type brittle struct{ core }

func (b brittle) Handle(now time.Time, ev registrar.Event) []registrar.Action {
	if _, ok := ev.(registrar.AssocUp); ok {
		panic("a mistake")
	}
	return b.core.Handle(now, ev)
}

func TestPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := sctptest.NewNetwork()
		l := new(log)
		h, err := newHost(Config{
			ASAP:    []netip.AddrPort{netip.MustParseAddrPort(hostAddr)},
			network: func() (network, error) { return memory{nw}, nil },
			Logger:  l.logger(),
		})
		if err != nil {
			t.Fatal(err)
		}
		h.core = brittle{h.core}
		if err := h.start(); err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			p := newPeer(t, memory{nw}, fmt.Sprintf("10.0.0.%d:1", 1+i))
			p.connect(h.LocalAddrs()[0], sctp.Kernel)
		}
		synctest.Wait()
		time.Sleep(2 * publishEvery)
		if got := h.Stats().Panics; got != 3 {
			t.Errorf("panics: got %d, want 3", got)
		}
		for _, line := range l.lines {
			if !strings.Contains(line, "a mistake") || !strings.Contains(line, "host_test.go") || strings.Contains(line, "\n") {
				t.Errorf("log line: got %q, want one line with the reason and the place", line)
			}
		}
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
}

// A peer that does not read its answers delays no other, and the answers that are not
// sent are counted.
func TestSlowPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nw := sctptest.NewNetwork()
		h, _ := memoryHost(t, nw)
		block := make(chan struct{})
		slow, err := nw.Listen(sctp.ListenConfig{Addrs: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:1")}}, func(sctp.Event) { <-block })
		if err != nil {
			t.Fatal(err)
		}
		ask, _ := (&asap.HandleResolution{Handle: "p"}).Append(nil)
		a := slow.Connect(sctp.Dest{Addrs: h.LocalAddrs()})
		for range 5000 {
			for slow.Send(a, sctp.Message{Data: slices.Clone(ask), PPID: asap.PPID}) != nil {
				synctest.Wait()
			}
		}
		pu := newPeer(t, memory{nw}, "10.0.0.2:1")
		pu.connect(h.LocalAddrs()[0], sctp.TCP)
		pu.send(pu.assoc, &asap.HandleResolution{Handle: "p"})
		last[*asap.HandleResolutionResponse](pu)
		time.Sleep(2 * publishEvery)
		s := h.Stats()
		if s.SendsRefused == 0 || s.SendsFailed != s.SendsRefused || s.Sent+s.SendsRefused != 5001 {
			t.Errorf("sent %d, refused %d, failed %d: want some refused, all counted", s.Sent, s.SendsRefused, s.SendsFailed)
		}
		close(block)
		_ = slow.Close()
	})
}

// tardy takes a second for each message, and notes up to when timers run.
type tardy struct {
	due  time.Time
	seen []string
}

func (c *tardy) Handle(now time.Time, ev registrar.Event) []registrar.Action {
	switch ev := ev.(type) {
	case registrar.Received:
		time.Sleep(time.Second)
		c.seen = append(c.seen, string(ev.Data))
	case registrar.Tick:
		if !ev.Until.Before(c.due) {
			c.seen = append(c.seen, "deadline")
			c.due = now.Add(time.Hour)
		}
	}
	return nil
}
func (c *tardy) NextDeadline() (time.Time, bool) { return c.due, true }
func (c *tardy) Ready() bool                     { return true }
func (c *tardy) Stats() registrar.Stats          { return registrar.Stats{} }

// What has come before a deadline is handled before it, however much comes, and
// what comes later does not put it off for ever.
func TestDeadlineAfterInput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, err := newHost(Config{})
		if err != nil {
			t.Fatal(err)
		}
		c := &tardy{due: time.Now().Add(10 * time.Second)}
		h.core = c
		l := newLoop(h)
		if l.ep, err = sctptest.NewNetwork().Listen(sctp.ListenConfig{Addrs: []netip.AddrPort{netip.MustParseAddrPort(hostAddr)}}, l.onEvent); err != nil {
			t.Fatal(err)
		}
		defer l.ep.Close()
		go l.run(registrar.Serving{})
		for i := range 40 { // two for each that is handled
			go l.enqueue(registrar.Received{Data: []byte(fmt.Sprint(i))})
			synctest.Wait()
			time.Sleep(500 * time.Millisecond)
		}
		time.Sleep(time.Minute)
		close(l.quit)
		<-l.ended
		at := slices.Index(c.seen, "deadline")
		if at < 20 || at > 39 {
			t.Errorf("deadline after %d messages, want it after the 20 that came before it, and before the last: %v", at, c.seen)
		}
	})
}

// slow is an endpoint with a long send queue until some time after the first keep-alive.
type slow struct {
	sctp.Endpoint
	queued time.Duration
	asked  time.Time
}

func (s *slow) Send(_ sctp.AssocID, m sctp.Message) error {
	if asap.MessageType(m.Data[0]) == asap.TypeEndpointKeepAlive && s.asked.IsZero() {
		s.asked = time.Now()
	}
	return nil
}

func (s *slow) Behind(sctp.AssocID) bool { return time.Since(s.asked) < s.queued }
func (s *slow) LocalAddrs() []netip.AddrPort {
	return []netip.AddrPort{netip.MustParseAddrPort(hostAddr)}
}
func (s *slow) Shutdown(sctp.AssocID) {}
func (s *slow) Close() error          { return nil }

// TestKeepAliveBehindQueue: the time for the acknowledgement begins when the keep-alive
// has left the send queue.
func TestKeepAliveBehindQueue(t *testing.T) {
	for _, tt := range []struct{ queued, removed time.Duration }{
		{0, 5 * time.Second}, {8 * time.Second, 13 * time.Second}, {time.Hour, 20 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			h, err := newHost(Config{})
			if err != nil {
				t.Fatal(err)
			}
			l := newLoop(h)
			ep := &slow{queued: tt.queued}
			l.ep = ep
			go l.run(registrar.Serving{})
			l.enqueue(registrar.AssocUp{Assoc: 1, Via: rserpool.ViaKernel, Peer: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:1")}})
			b, err := registration("p", 1, "10.0.0.1").Append(nil)
			if err != nil {
				t.Fatal(err)
			}
			l.enqueue(registrar.Received{Assoc: 1, PPID: asap.PPID, Data: b})
			synctest.Wait()
			for h.Space().Pool("p") != nil {
				time.Sleep(100 * time.Millisecond)
				synctest.Wait()
			}
			if got := time.Since(ep.asked); got < tt.removed || got > tt.removed+time.Second {
				t.Errorf("queued for %v: removed %v after the keep-alive, want %v", tt.queued, got, tt.removed)
			}
			close(l.quit)
			<-l.ended
		})
	}
}

// stuffed is an endpoint whose peers read nothing.
type stuffed struct{ sctp.Endpoint }

func (stuffed) Full(sctp.AssocID) bool { return true }

// No answer is built while the send queue to a user is full. The other messages of
// that user count.
func TestNoAnswerWithoutRoom(t *testing.T) {
	h, err := newHost(Config{})
	if err != nil {
		t.Fatal(err)
	}
	l := newLoop(h)
	l.ep = stuffed{}
	l.step(registrar.AssocUp{Assoc: 1, Via: rserpool.ViaKernel, Peer: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:1")}})
	for _, m := range []asap.Message{&asap.HandleResolution{Handle: "p"}, &asap.EndpointKeepAliveAck{Handle: "p", ID: 1}} {
		b, _ := m.Append(nil)
		l.step(registrar.Received{Assoc: 1, PPID: asap.PPID, Data: b})
	}
	s := h.core.Stats()
	if n := s.ResolutionsFailed; n != [len(n)]uint64{} {
		t.Errorf("got failed resolutions %v, want none looked at", n)
	}
	if l.stats.SendsRefused != 1 || s.SendsFailed != 1 || s.KeepAlivesUnexpected != 1 {
		t.Errorf("%d refused, %d failed, %d acknowledgements; want 1 each", l.stats.SendsRefused, s.SendsFailed, s.KeepAlivesUnexpected)
	}
}
