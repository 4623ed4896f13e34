package pe_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/asap/cookie"
	"github.com/rserpool/coredns-rserpool/asap/pe"
	"github.com/rserpool/coredns-rserpool/asap/pu"
	"github.com/rserpool/coredns-rserpool/internal/sctp/kernel"
	"github.com/rserpool/coredns-rserpool/registrar/host"
	"github.com/rserpool/coredns-rserpool/rserpool"
	"github.com/rserpool/coredns-rserpool/test/here"
)

// world is a registrar on the loopback interface, with real transports.
type world struct {
	t          *testing.T
	ctx        context.Context
	via        rserpool.Via
	registrars []string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	w := &world{t: t, ctx: ctx, via: rserpool.ViaUDP}
	cfg := host.Config{Via: w.via, EncapPort: here.FreePort(t)}
	if kernel.Supported() {
		w.via = rserpool.ViaKernel
		cfg = host.Config{Via: w.via}
	}
	loopback := []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}
	cfg.ASAP, cfg.ENRP = loopback, loopback
	h, err := host.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.check(h.Close()) })
	at := h.LocalAddrs()[0].String()
	if cfg.EncapPort != 0 {
		at += fmt.Sprintf("/%d", cfg.EncapPort)
	}
	w.registrars = []string{at}
	return w
}

func (w *world) check(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Error(err)
	}
}

// listen starts an element, and waits until it is registered.
func (w *world) listen(pool rserpool.PoolHandle, cookies pe.Cookies) *pe.Listener {
	w.t.Helper()
	l, err := pe.Listen(pe.ListenConfig{Config: pe.Config{
		Pool: pool, Registrars: w.registrars, Via: w.via,
		Transport: rserpool.Transport{Addrs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}},
	}, Cookies: cookies})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { w.check(l.Close()) })
	w.check(l.Element().Wait(w.ctx))
	return l
}

func (w *world) user() *pu.User {
	w.t.Helper()
	u, err := pu.Open(pu.Config{Registrars: w.registrars, Via: w.via})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { w.check(u.Close()) })
	return u
}

func (w *world) accept(l *pe.Listener) *pe.Session {
	w.t.Helper()
	s, err := l.Accept(w.ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

type receiver interface {
	Receive(context.Context) (rserpool.Message, error)
}

func (w *world) want(s receiver, want string) {
	w.t.Helper()
	if m, err := s.Receive(w.ctx); err != nil || string(m.Data) != want {
		w.t.Fatalf("received %q, %v, want %q", m.Data, err, want)
	}
}

// element describes an element as its own business card would.
func (w *world) element(u *pu.User, pool rserpool.PoolHandle, l *pe.Listener) rserpool.PoolElement {
	w.t.Helper()
	r, err := u.Resolve(w.ctx, pool, 10)
	w.check(err)
	for _, e := range r.Elements {
		if e.ID == l.Element().State().ID {
			return e
		}
	}
	w.t.Fatalf("pool %s has no element %v", pool, l.Element().State().ID)
	return rserpool.PoolElement{}
}

// TestRendezvous: RFC 5352, Section 3.9, BC1 and BC2. An element of pool users has a session
// with an element of pool jobs. The element of jobs fails, and the session goes on at another
// one, with its state. Then the element of users fails, and that of jobs goes on with
// the element of users that the failed one has recommended.
func TestRendezvous(t *testing.T) {
	w := newWorld(t)
	sealer, err := cookie.New(cookie.Config{Pool: "jobs", Keys: []cookie.Key{cookie.GenerateKey()}})
	w.check(err)
	jobs := map[rserpool.PEID]*pe.Listener{}
	for range 3 {
		l := w.listen("jobs", sealer)
		jobs[l.Element().State().ID] = l
	}
	user := w.user()
	var users [3]*pe.Listener
	for i := range users {
		users[i] = w.listen("users", nil)
	}
	// The first element of users dials, and recommends the last one.
	s, err := user.DialSession(w.ctx, pu.SessionConfig{Pool: "jobs", Card: &asap.BusinessCard{
		Handle: "users", Elements: []rserpool.PoolElement{w.element(user, "users", users[2])},
	}})
	if err != nil {
		t.Fatal(err)
	}
	w.check(s.Send(w.ctx, []byte("tile 1")))
	e, _ := s.Element()
	first := jobs[e.ID]
	job := w.accept(first)
	w.want(job, "tile 1")
	w.check(job.SetCookie([]byte("1 done")))
	w.check(job.Send(w.ctx, []byte("done 1")))
	w.want(s, "done 1")

	// The element of jobs recommends one of its pool, and fails.
	var next *pe.Listener
	for _, l := range jobs {
		if l != first {
			next = l
		}
	}
	w.check(first.Recommend([]rserpool.PoolElement{w.element(user, "jobs", next)}))
	w.check(job.Send(w.ctx, []byte("the will is before this")))
	w.want(s, "the will is before this")
	job.Abort()
	job = w.accept(next)
	w.check(s.Send(w.ctx, []byte("tile 2")))
	w.want(job, "tile 2")
	if state, ok := job.Cookie(); string(state) != "1 done" || !ok {
		t.Errorf("state %q, %v, %v, want that of the first element", state, ok, job.CookieError())
	}

	// The element of users fails. That of jobs dials back.
	pool, recommended, ok := job.Card()
	if !ok || pool != "users" || len(recommended) != 1 {
		t.Fatalf("the user's card is of pool %q with %v", pool, recommended)
	}
	w.check(s.Close())
	if _, err := job.Receive(w.ctx); err == nil {
		t.Fatal("the element of jobs does not notice")
	}
	back, err := w.user().DialSession(w.ctx, pu.SessionConfig{Pool: pool, Element: recommended[0].ID})
	if err != nil {
		t.Fatal(err)
	}
	w.check(back.Send(w.ctx, []byte("done 2")))
	w.want(w.accept(users[2]), "done 2")
	w.check(back.Close())
}

// TestHTTP: a server and a client of package net/http over a session.
func TestHTTP(t *testing.T) {
	w := newWorld(t)
	l := w.listen("web", nil)
	server := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		w.check(err)
		_, err = rw.Write(body)
		w.check(err)
	})}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l.NetListener()) }()
	u := w.user()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		s, err := u.Dial(ctx, "web")
		if err != nil {
			return nil, err
		}
		return s.Conn(), nil
	}}
	body := strings.Repeat("a large body ", 10000)
	r, err := (&http.Client{Transport: transport, Timeout: 10 * time.Second}).Post("http://web/", "text/plain", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(r.Body)
	w.check(err)
	w.check(r.Body.Close())
	if string(got) != body {
		t.Errorf("the answer has %d bytes, want %d", len(got), len(body))
	}
	transport.CloseIdleConnections()
	w.check(server.Close())
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		t.Errorf("Serve gives %v", err)
	}
}

// TestHTTPShutdown: Shutdown of a server of package net/http deregisters the element, and a
// request that is being served gets its answer.
func TestHTTPShutdown(t *testing.T) {
	w := newWorld(t)
	l := w.listen("web", nil)
	begun, release := make(chan struct{}), make(chan struct{})
	server := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		close(begun)
		<-release
		_, err := io.WriteString(rw, "the answer")
		w.check(err)
	})}
	served, shut := make(chan error, 1), make(chan error, 1)
	go func() { served <- server.Serve(l.NetListener()) }()
	u := w.user()
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		s, err := u.DialSession(ctx, pu.SessionConfig{Pool: "web", EndOnShutdown: true}) // the server ends it
		if err != nil {
			return nil, err
		}
		return s.Conn(), nil
	}}
	answer := make(chan string, 1)
	go func() {
		r, err := (&http.Client{Transport: transport, Timeout: 10 * time.Second}).Get("http://web/")
		if err != nil {
			answer <- err.Error()
			return
		}
		text, err := io.ReadAll(r.Body)
		answer <- string(text)
		w.check(errors.Join(err, r.Body.Close()))
	}()
	<-begun
	go func() { shut <- server.Shutdown(w.ctx) }()
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		t.Errorf("Serve gives %v", err)
	}
	<-l.Leaving()
	s, err := w.user().DialSession(w.ctx, pu.SessionConfig{Pool: "web", NoFailover: true})
	if err == nil {
		if m, err := s.Receive(w.ctx); err == nil { // the association has come up before it was refused
			t.Errorf("a new session is accepted, and receives %q", m.Data)
		}
	}
	close(release)
	if text := <-answer; text != "the answer" {
		t.Errorf("the answer is %q", text)
	}
	w.check(<-shut)
	w.check(l.Close())
	if l.Element().State().Registered {
		t.Error("the element is registered")
	}
}

// TestServerAndUser: elements that count, and each ends the session after ten answers.
func TestServerAndUser(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancel(w.ctx)
	count := func(ctx context.Context, s *pe.Session) {
		n := 0
		for {
			if _, err := s.Receive(ctx); err != nil {
				return
			}
			if state, ok := s.Cookie(); ok && n == 0 {
				n, _ = strconv.Atoi(string(state))
			}
			n++
			w.check(s.SetCookie([]byte(strconv.Itoa(n))))
			w.check(s.Send(ctx, []byte(strconv.Itoa(n))))
			if n%10 == 0 {
				return // the user fails over
			}
		}
	}
	served := make(chan error, 2)
	for range cap(served) {
		l := w.listen("counters", nil)
		go func() { served <- l.Serve(ctx, count) }()
	}
	s, err := w.user().DialSession(w.ctx, pu.SessionConfig{Pool: "counters", Unacked: pu.Resend})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 25 {
		w.check(s.Send(w.ctx, []byte("count")))
		w.want(s, strconv.Itoa(i+1))
		s.Ack(1)
	}
	w.check(s.Close())
	cancel()
	for range cap(served) {
		w.check(<-served)
	}
	var f *rserpool.FailoverError
	if err := s.Send(w.ctx, []byte("x")); errors.As(err, &f) || err == nil || strings.Contains(err.Error(), "panic") {
		t.Errorf("Send after Close gives %v", err)
	}
}
