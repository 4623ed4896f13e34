package host

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"testing"
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
func memoryHost(t *testing.T, nw *sctptest.Network, change ...func(*Config)) (*Host, *log) {
	t.Helper()
	l := new(log)
	cfg := Config{
		Config:  registrar.Config{ServerID: 0x10000001, Rand: rand.New(rand.NewPCG(1, 2))},
		ASAP:    []netip.AddrPort{netip.MustParseAddrPort(hostAddr)},
		network: func() (network, error) { return memory{nw}, nil },
		Logger:  l.logger(),
	}
	for _, c := range change {
		c(&cfg)
	}
	h, err := Open(cfg)
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
