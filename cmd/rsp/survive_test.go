package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/asap/pe"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/stack"
	"github.com/rserpool/coredns-rserpool/rserpool"
	"github.com/rserpool/coredns-rserpool/test/here"
)

// server is a command for rsp that notes each signal that ends it.
type server struct {
	t     *testing.T
	notes string
	args  []string // -- COMMAND...
}

func newServer(t *testing.T) *server {
	notes := filepath.Join(t.TempDir(), "notes")
	script := `trap 'echo ended >>"$1"; exit 9' TERM INT; echo started >>"$1"; while :; do sleep 0.05; done`
	return &server{t, notes, []string{"--", "/bin/sh", "-c", script, "sh", notes}}
}

// wrote waits for notes and returns them.
func (s *server) wrote() string {
	s.t.Helper()
	eventually(s.t, "the command has started", func() bool { return s.read() != "" })
	return s.read()
}

func (s *server) read() string {
	b, err := os.ReadFile(s.notes)
	if err != nil && !os.IsNotExist(err) {
		s.t.Error(err)
	}
	return string(b)
}

// lives fails the test if the command or rsp has ended.
func (s *server) lives(p *proc) {
	s.t.Helper()
	select {
	case <-p.end:
		s.t.Fatalf("rsp has ended")
	default:
	}
	if got := s.wrote(); got != "started\n" {
		s.t.Fatalf("the command wrote %q, want it to run", got)
	}
}

// end ends rsp and its command with SIGTERM.
func (s *server) end(p *proc) {
	s.t.Helper()
	s.lives(p)
	p.signal(syscall.SIGTERM)
	if status := p.wait(); status != 9 {
		s.t.Errorf("status %d, want the command's 9", status)
	}
	if got := s.wrote(); got != "started\nended\n" {
		s.t.Errorf("the command wrote %q", got)
	}
}

// TestSurvivesPolicyConflict: a registrar restarts, and an element with another policy
// registers first. The element that was in the pool before is refused, its server runs on,
// and it is registered when the other element has left.
func TestSurvivesPolicyConflict(t *testing.T) {
	t.Parallel()
	port := here.FreePort(t)
	r := registryAt(t, port, port)
	s := newServer(t)
	p := startRSP(t, register(r, s.args...)...)
	r.has(t, "web", 1)
	p.says("registered as")

	// The element is stopped, or it would register again first. It is stopped before the
	// registrar ends: if the registrar ended during a handshake, the element would wait
	// for T5.
	here.Stop(t, p.cmd.Process.Pid)
	r.close()
	r = registryAt(t, port, port)
	q := startRSP(t, register(r, "--policy", "WRR:1", "--id", "7")...)
	r.has(t, "web", 1)
	p.signal(syscall.SIGCONT)
	p.says("policy differs from the pool's")
	s.lives(p)

	q.signal(syscall.SIGTERM)
	q.wait()
	eventually(t, "the element is back", func() bool {
		list := r.elements(t, "web")
		return len(list) == 1 && list[0].ID != "00000007"
	})
	s.lives(p)
	s.end(p)
	r.has(t, "web", 0)
}

// TestSurvivesLateRefusal: a registrar comes up late, and an element with another policy
// registers first. A server that works by then is no mistake of its user's. rsp register and rsp
// serve log the same lines.
func TestSurvivesLateRefusal(t *testing.T) {
	t.Parallel()
	for name, run := range map[string]func(context.Context, *registry, *logger) error{"register": lateRegister, "serve": lateServe} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRegistry(t)
			q := startRSP(t, "register", "--pool", "web", "--serve", "sctp:1", "--policy", "WRR:1", "--id", "7", "--via", "udp", "--registrar", r.at)
			r.has(t, "web", 1)
			ctx, cancel := context.WithCancel(t.Context())
			out, end := newReader(), make(chan error, 1)
			go func() { end <- run(ctx, r, &logger{w: out, level: normal}) }()
			for _, step := range []struct {
				text string
				then func()
			}{
				{`rsp: pool "web": registrar ` + r.at + " refuses element ", func() {}},
				{"policy differs from the pool's", func() {}},
				{"; trying again\n", func() { q.signal(syscall.SIGTERM) }},
				{`rsp: pool "web": registered as `, cancel},
			} {
				eventually(t, fmt.Sprintf("the log has %q", step.text), func() bool { return strings.Contains(out.String(), step.text) })
				step.then()
			}
			if err := <-end; err != nil {
				t.Errorf("rsp ends: %v", err)
			}
			r.has(t, "web", 0)
		})
	}
}

// lateRegister is rsp register after mistakeTime.
func lateRegister(ctx context.Context, r *registry, log *logger) error {
	s := &supervisor{log: log, teller: teller{log: log, pool: "web"}}
	var err error
	if s.registration, err = newRegistration(webConfig(r, s.notify), log); err != nil {
		return err
	}
	s.registration.since = time.Now().Add(-mistakeTime)
	return s.registration.run(ctx)
}

// lateServe is rsp serve after mistakeTime.
func lateServe(ctx context.Context, r *registry, log *logger) error {
	cfg := pe.ListenConfig{Config: webConfig(r, nil)}
	cfg.Transport, cfg.MistakeTime = rserpool.Transport{}, -1
	return new(serveFlags).run(ctx, cfg, log, nil)
}

// TestServeMistake: rsp serve and rsp register end if they are refused soon after the start, and not
// if that is late.
func TestServeMistake(t *testing.T) {
	t.Parallel()
	f := &serveFlags{maxSessions: 1}
	cmd := newService(serviceKinds()[0])
	f.elementFlags = elementFlags{pool: "echo", policy: "RR", life: "90s", lifeUnit: "ms", registrarFlags: registrarFlags{via: "udp"}}
	f.timers.Registration, f.timers.ServerHunt, f.timers.Stop, f.timers.MaxRegAttempt = time.Second, time.Second, time.Second, 1
	cfg, err := f.listenConfig(cmd)
	if err != nil || cfg.MistakeTime != mistakeTime {
		t.Errorf("rsp serve: MistakeTime is %v, %v, want %v", cfg.MistakeTime, err, mistakeTime)
	}
	reg := &registration{}
	if got := reg.mistakeTime(); got != mistakeTime {
		t.Errorf("rsp register, at the start: %v, want %v", got, mistakeTime)
	}
	reg.since = time.Now().Add(-mistakeTime / 2)
	if got := reg.mistakeTime(); got <= 0 || got > mistakeTime/2 {
		t.Errorf("rsp register, later: %v, want at most %v", got, mistakeTime/2)
	}
	reg.accepted = true
	if got := reg.mistakeTime(); got >= 0 {
		t.Errorf("rsp register, once accepted: %v, want a negative time", got)
	}
}

// TestSurvivesFailover: the registrar dies, and the next one has the pool with
// another policy.
func TestSurvivesFailover(t *testing.T) {
	t.Parallel()
	port := here.FreePort(t)
	r1, r2 := registryAt(t, port, port), newRegistry(t)
	q := startRSP(t, register(r2, "--policy", "WRR:1")...)
	r2.has(t, "web", 1)
	s := newServer(t)
	p := startRSP(t, register(r1, append([]string{"--registrar", r2.at}, s.args...)...)...)
	r1.has(t, "web", 1)
	r1.close()
	p.says("policy differs from the pool's")
	s.lives(p)
	r1 = registryAt(t, port, port)
	r1.has(t, "web", 1)
	s.lives(p)
	s.end(p)
	q.signal(syscall.SIGTERM)
	q.wait()
}

// TestSurvivesStranger: a program that can reach the element's port claims to be its home,
// and refuses its registration.
func TestSurvivesStranger(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	s := newServer(t)
	encap, port := here.FreePort(t), here.FreePort(t)
	p := startRSP(t, register(r, append([]string{
		"--local", fmt.Sprintf("127.0.0.1:%d", port), "--address", "127.0.0.1", "--encap", fmt.Sprint(encap), "--id", "5",
	}, s.args...)...)...)
	r.has(t, "web", 1)
	x := newStranger(t, port, encap)
	x.claim(t)
	eventually(t, "the stranger refuses the element", func() bool { return x.refused() > 0 })
	p.says("policy differs from the pool's")
	s.lives(p)
	// The element is registered at the home that has not refused it.
	before := r.Stats().KeepAlivesAcked
	eventually(t, "the home's keep-alives are acknowledged", func() bool { return r.Stats().KeepAlivesAcked >= before+2 })
	r.has(t, "web", 1)
	s.lives(p)
	s.end(p)
	r.has(t, "web", 0)
}

// TestSurvivesTakeover: the home dies, and the registrar that takes over has the pool with
// another policy. When the former home is back, the element registers there.
func TestSurvivesTakeover(t *testing.T) {
	slow(t)
	t.Parallel()
	at := here.FreePort(t)
	r := registryAt(t, at, at)
	s := newServer(t)
	encap, port := here.FreePort(t), here.FreePort(t)
	p := startRSP(t, register(r, append([]string{
		"--local", fmt.Sprintf("127.0.0.1:%d", port), "--address", "127.0.0.1", "--encap", fmt.Sprint(encap), "--id", "5",
	}, s.args...)...)...)
	r.has(t, "web", 1)
	r.close()
	x := newStranger(t, port, encap)
	x.claim(t)
	eventually(t, "the new home refuses the element", func() bool { return x.refused() > 0 })
	s.lives(p)
	r = registryAt(t, at, at)
	r.has(t, "web", 1)
	s.lives(p)
	s.end(p)
}

// TestSurvivesSockets: another process has the port that rsp should bind, such as the
// process that rsp replaces. rsp runs on, and binds the port when it is free.
func TestSurvivesSockets(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	s := newServer(t)
	held, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	encap := held.LocalAddr().(*net.UDPAddr).Port
	p := startRSP(t, register(r, append([]string{"--encap", fmt.Sprint(encap), "--address", "127.0.0.1"}, s.args...)...)...)
	p.says("address already in use")
	s.lives(p)
	held.Close()
	r.has(t, "web", 1)
	s.lives(p)
	s.end(p)
}

// stranger connects to an element, claims to be its home, and refuses its registrations.
type stranger struct {
	end   sctp.Endpoint
	to    sctp.Dest
	up    chan sctp.AssocID
	mu    sync.Mutex
	count int
}

func newStranger(t *testing.T, port, encap uint16) *stranger {
	t.Helper()
	stack, err := stack.New(stack.Config{Only: sctp.UDP})
	if err != nil {
		t.Fatal(err)
	}
	loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	x := &stranger{
		to: sctp.Dest{Addrs: []netip.AddrPort{netip.AddrPortFrom(loopback, port)}, Kind: sctp.UDP, EncapPort: encap},
		up: make(chan sctp.AssocID, 1),
	}
	ready := make(chan struct{})
	x.end, err = stack.Listen(sctp.ListenConfig{Addrs: []netip.AddrPort{netip.AddrPortFrom(loopback, 0)}}, func(ev sctp.Event) {
		<-ready
		x.handle(t, ev)
	})
	if err != nil {
		t.Fatal(err)
	}
	close(ready)
	t.Cleanup(func() { _ = stack.Close() })
	return x
}

func (x *stranger) handle(t *testing.T, ev sctp.Event) {
	switch ev.Type {
	case sctp.Up:
		x.up <- ev.Assoc
	case sctp.Down:
		if ev.Reason == sctp.ConnectFailed { // the element begins anew
			x.end.Connect(x.to)
		}
	case sctp.Received:
		m, _, err := asap.Parse(ev.Message.Data)
		if err != nil {
			t.Errorf("the element sends nonsense: %v", err)
			return
		}
		if reg, ok := m.(*asap.Registration); ok {
			x.send(t, ev.Assoc, &asap.RegistrationResponse{
				Handle: reg.Handle, ID: reg.Element.ID, Reject: true,
				Causes: []rserpool.Cause{{Code: rserpool.CauseInconsistentPolicy}},
			})
			x.mu.Lock()
			x.count++
			x.mu.Unlock()
		}
	}
}

// refused returns how many registrations the stranger has refused.
func (x *stranger) refused() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.count
}

// claim connects to the element and claims to be its home.
func (x *stranger) claim(t *testing.T) {
	t.Helper()
	x.end.Connect(x.to)
	select {
	case a := <-x.up:
		x.send(t, a, &asap.EndpointKeepAlive{Home: true, Server: 0xbad, Handle: "web"})
	case <-time.After(patience):
		t.Fatal("the element takes no association")
	}
}

func (x *stranger) send(t *testing.T, a sctp.AssocID, m asap.Message) {
	b, err := m.Append(nil)
	if err == nil {
		err = x.end.Send(a, sctp.Message{Data: b, PPID: asap.PPID})
	}
	if err != nil && !strings.Contains(err.Error(), "no such association") {
		t.Error(err)
	}
}
