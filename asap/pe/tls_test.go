package pe_test

import (
	"context"
	"errors"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/asap/pe"
	"github.com/rserpool/coredns-rserpool/asap/pu"
	"github.com/rserpool/coredns-rserpool/internal/sctp/kernel"
	"github.com/rserpool/coredns-rserpool/internal/trust/trusttest"
	"github.com/rserpool/coredns-rserpool/registrar/host"
	"github.com/rserpool/coredns-rserpool/rserpool"
	"github.com/rserpool/coredns-rserpool/test/here"
)

// scope is a world in TLS.
type scope struct {
	*world
	ca *trusttest.CA
}

func (s *scope) issue(name string) rserpool.TLSFiles {
	now := time.Now()
	return rserpool.TLSFiles(s.ca.Issue(s.t, s.t.TempDir(), "spiffe://example.org/rserpool/"+name, now, now.Add(time.Hour)))
}

// loopback is a free port.
var loopback = netip.MustParseAddrPort("127.0.0.1:0")

// newScope makes a scope whose registrar lets pool/bank/x register in all pools.
func newScope(t *testing.T) *scope { return newScopeVia(t, rserpool.ViaUDP) }

func newScopeVia(t *testing.T, via rserpool.Via) *scope { return newScopeAt(t, via, loopback) }

// newScopeAt is newScopeVia with an address for ASAP.
func newScopeAt(t *testing.T, via rserpool.Via, at netip.AddrPort) *scope {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	s := &scope{&world{t: t, ctx: ctx, via: via}, trusttest.New(t, "example.org", time.Now())}
	cfg := host.Config{Via: s.via, EncapPort: here.FreePort(t), ASAP: []netip.AddrPort{at}, ENRP: []netip.AddrPort{loopback}}
	cfg.Trust.TLSFiles = s.issue("registrar/ns1")
	cfg.Trust.Allow = append(cfg.Trust.Allow, host.Allow{Pools: "*", Names: "spiffe://example.org/rserpool/pool/bank/x"})
	h, err := host.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.check(h.Close()) })
	s.registrars = []string{netip.AddrPortFrom(h.LocalAddrs()[0].Addr(), h.LocalAddrs()[0].Port()).String() + "/" + strconv.Itoa(int(cfg.EncapPort))}
	return s
}

func (s *scope) element(pool rserpool.PoolHandle, name string, change ...func(*pe.ListenConfig)) *pe.Listener {
	s.t.Helper()
	cfg := pe.ListenConfig{Config: pe.Config{
		Pool: pool, Registrars: s.registrars, Via: s.via, TLS: s.issue(name),
		Transport: rserpool.Transport{Addrs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}},
	}}
	for _, f := range change {
		f(&cfg)
	}
	l, err := pe.Listen(cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { s.check(l.Close()) })
	s.check(l.Element().Wait(s.ctx))
	return l
}

func (s *scope) member(files rserpool.TLSFiles) *pu.User {
	s.t.Helper()
	u, err := pu.Open(pu.Config{Registrars: s.registrars, Via: s.via, TLS: files})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { s.check(u.Close()) })
	return u
}

// TestTrustedFailover: sessions are in TLS. An element whose certificate is for another pool
// serves no session, and never gets the cookie at a failover.
func TestTrustedFailover(t *testing.T) {
	s := newScope(t)
	var mu sync.Mutex
	var rogue []pe.SessionEvent
	s.element("jobs", "pool/bank/x", func(c *pe.ListenConfig) {
		c.NotifySession = func(_ *pe.Session, ev pe.SessionEvent) {
			mu.Lock()
			defer mu.Unlock()
			rogue = append(rogue, ev)
		}
	})
	u := s.member(rserpool.TLSFiles{CA: s.issue("pool/jobs/u").CA})
	if _, err := u.Dial(s.ctx, "jobs"); err == nil || !strings.Contains(err.Error(), `spiffe://example.org/rserpool/pool/bank/x, which may not serve pool "jobs"`) {
		t.Errorf("dial of the wrong element: %v", err)
	}

	a := s.element("jobs", "pool/jobs/a")
	u = s.member(rserpool.TLSFiles{CA: s.issue("pool/jobs/u").CA})
	us, err := u.DialSession(s.ctx, pu.SessionConfig{Pool: "jobs"})
	if err != nil {
		t.Fatal(err)
	}
	as := s.accept(a)
	if as.Identity() != "" {
		t.Errorf("user without a certificate is %q", as.Identity())
	}
	for _, ppid := range []uint32{0, 0x20} {
		s.check(us.SendMessage(s.ctx, pu.Message{Data: []byte(strings.Repeat("x", 40000)), PPID: ppid}))
		if m, err := as.Receive(s.ctx); err != nil || m.PPID != ppid || len(m.Data) != 40000 {
			t.Errorf("received %d bytes, PPID %d, %v", len(m.Data), m.PPID, err)
		}
	}
	s.check(as.SetCookie([]byte("state")))
	s.check(as.Send(s.ctx, []byte("go")))
	s.want(us, "go")

	b := s.element("jobs", "pool/jobs/b")
	s.check(a.Close())
	bs := s.accept(b)
	select {
	case <-bs.CookieCame():
	case <-s.ctx.Done():
	}
	if state, ok := bs.Cookie(); !ok || string(state) != "state" {
		t.Errorf("the next element got the cookie %q, %v", state, ok)
	}

	member, err := s.member(s.issue("pool/jobs/c")).DialSession(s.ctx, pu.SessionConfig{Pool: "jobs"})
	s.check(err)
	if got := s.accept(b).Identity(); got != "spiffe://example.org/rserpool/pool/jobs/c" {
		t.Errorf("user with a certificate is %q", got)
	}
	s.check(member.Close())
	mu.Lock()
	defer mu.Unlock()
	for _, ev := range rogue {
		if ev != pe.SessionBegun && ev != pe.SessionEnded {
			t.Errorf("the wrong element: %v", ev)
		}
	}
}

// TestTLSMismatch: an element and a user without TLS at the TLS port, and with TLS at a port without
// it, learn what is wrong and what to do. At other ports than the usual ones, they learn what may be wrong.
func TestTLSMismatch(t *testing.T) {
	for _, via := range []rserpool.Via{rserpool.ViaUDP, rserpool.ViaKernel, rserpool.ViaTCP} {
		t.Run(via.String(), func(t *testing.T) {
			sctp := via
			switch {
			case via == rserpool.ViaTCP:
				sctp = rserpool.ViaUDP
			case via == rserpool.ViaKernel && !kernel.Supported():
				t.Skip("the kernel has no SCTP")
			}
			s := newScopeVia(t, sctp)
			at := s.plain(loopback)
			s.mismatch(s.registrars, via, rserpool.TLSFiles{}, false, "may be for TLS, which this side does not speak. If it is, use TLS, too, or the port without TLS (3863 by default)")
			s.mismatch(at, via, s.issue("pool/web/x"), false, "peer does not speak TLS here", "If it speaks none, connect to its TLS port (3864 by default), or do without TLS")
		})
	}
	t.Run("usual ports", func(t *testing.T) {
		s := newScopeAt(t, rserpool.ViaUDP, netip.AddrPortFrom(here.Loopback(), asap.TLSPort))
		at := s.plain(netip.AddrPortFrom(here.Loopback(), asap.Port))
		s.mismatch(s.registrars, rserpool.ViaUDP, rserpool.TLSFiles{}, true, "which this side does not speak: use TLS, too, or the port without TLS (3863 by default)")
		s.mismatch(at, rserpool.ViaUDP, s.issue("pool/web/x"), true, "peer does not speak TLS here", "connect to its TLS port (3864 by default), or do without TLS")
	})
}

// plain starts a registrar without TLS at an address for ASAP.
func (s *scope) plain(at netip.AddrPort) []string {
	s.t.Helper()
	cfg := host.Config{Via: s.via, EncapPort: here.FreePort(s.t), ASAP: []netip.AddrPort{at}, ENRP: []netip.AddrPort{loopback}}
	h, err := host.Open(cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { s.check(h.Close()) })
	return []string{h.LocalAddrs()[0].String() + "/" + strconv.Itoa(int(cfg.EncapPort))}
}

// mismatch has a user and an element fail at a registrar, whose port says for sure that only one
// side speaks TLS, or does not. Elements do not use TCP.
func (s *scope) mismatch(registrars []string, via rserpool.Via, files rserpool.TLSFiles, sure bool, want ...string) {
	s.t.Helper()
	check := func(who string, err error) {
		s.t.Helper()
		var unreachable *rserpool.UnreachableError
		if errors.Is(err, rserpool.ErrTLSMismatch) != sure || !errors.As(err, &unreachable) {
			s.t.Errorf("%s: got %v, want an UnreachableError, with ErrTLSMismatch: %v", who, err, sure)
		}
		for _, w := range want {
			if err != nil && !strings.Contains(err.Error(), w) {
				s.t.Errorf("%s: got %v, want %q", who, err, w)
			}
		}
	}
	u, err := pu.Open(pu.Config{Registrars: registrars, Via: via, TLS: files})
	if err != nil {
		s.t.Fatal(err)
	}
	defer u.Close()
	_, err = u.Resolve(s.ctx, "web", 1)
	check("user", err)
	if via == rserpool.ViaTCP {
		return
	}
	told := make(chan pe.Event, 100)
	e, err := pe.Open(pe.Config{
		Pool: "web", Registrars: registrars, Via: via, TLS: files, Policy: rserpool.Policy{Type: rserpool.RoundRobin},
		Transport: rserpool.Transport{Type: rserpool.TCP, Port: 80},
		Notify:    func(ev pe.Event) { told <- ev },
	})
	if err != nil {
		s.t.Fatal(err)
	}
	defer e.Close()
	for ev := range told {
		if ev.Type == pe.NoRegistrar {
			check("element", ev.Err)
			return
		}
	}
}
