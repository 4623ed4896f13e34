package pe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/asap/cookie"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// listening is a Listener on a network in memory.
type listening struct {
	*Listener
	t      *testing.T
	mu     sync.Mutex
	events []SessionEvent
}

func listen(t *testing.T, nw *sctptest.Network, change func(*ListenConfig)) *listening {
	t.Helper()
	l := &listening{t: t}
	cfg := ListenConfig{
		Config: Config{
			Pool:       testPool,
			ID:         1,
			Transport:  rserpool.Transport{Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.11")}},
			Registrars: []string{"10.0.0.1"},
			listen:     nw.Listen,
		},
		NotifySession: func(_ *Session, ev SessionEvent) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.events = append(l.events, ev)
		},
	}
	if change != nil {
		change(&cfg)
	}
	var err error
	if l.Listener, err = Listen(cfg); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
	return l
}

// saw checks the events of sessions since the last time.
func (l *listening) saw(want ...SessionEvent) {
	l.t.Helper()
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	if !slices.Equal(l.events, want) {
		l.t.Errorf("session events %v, want %v", l.events, want)
	}
	l.events = nil
}

func (l *listening) next() *Session {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), time.Second)
	defer cancel()
	s, err := l.Accept(ctx)
	if err != nil {
		l.t.Fatalf("Accept: %v", err)
	}
	return s
}

func (l *listening) close() {
	l.t.Helper()
	if err := l.Close(); err != nil {
		l.t.Errorf("Close: %v", err)
	}
}

// user is the other end of sessions, by hand.
type user struct {
	t  *testing.T
	ep sctp.Endpoint

	mu   sync.Mutex
	got  []string
	down map[sctp.AssocID]sctp.Reason
}

func newUser(t *testing.T, nw *sctptest.Network, addr string) *user {
	t.Helper()
	u := &user{t: t, down: map[sctp.AssocID]sctp.Reason{}}
	var err error
	if u.ep, err = nw.Listen(sctp.ListenConfig{Addrs: []netip.AddrPort{netip.MustParseAddrPort(addr)}}, u.handle); err != nil {
		t.Fatal(err)
	}
	return u
}

func (u *user) handle(ev sctp.Event) {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch ev.Type {
	case sctp.Received:
		u.got = append(u.got, describe(ev.Message))
	case sctp.Down:
		u.down[ev.Assoc] = ev.Reason
	case sctp.Up, sctp.SendFailed, sctp.PeerAddrs, sctp.PeerDone:
	}
}

func describe(m sctp.Message) string {
	if m.PPID != asap.PPID {
		return fmt.Sprintf("%s/%d", m.Data, m.PPID)
	}
	c, _, err := asap.Parse(m.Data)
	if err != nil {
		return err.Error()
	}
	switch c := c.(type) {
	case *asap.Cookie:
		return "cookie " + string(c.Cookie)
	case *asap.BusinessCard:
		text := fmt.Sprintf("card %s", c.Handle)
		for _, e := range c.Elements {
			text += fmt.Sprintf(" %d", e.ID)
		}
		return text
	}
	return c.Type().String()
}

func (u *user) dial(l *listening) sctp.AssocID {
	u.t.Helper()
	a := u.ep.Connect(sctp.Dest{Addrs: l.LocalAddrs()})
	synctest.Wait()
	return a
}

func (u *user) data(a sctp.AssocID, text string) {
	u.t.Helper()
	if err := u.ep.Send(a, sctp.Message{Data: []byte(text), PPID: 7}); err != nil {
		u.t.Errorf("user cannot send: %v", err)
	}
}

func (u *user) control(a sctp.AssocID, m asap.Message) {
	u.t.Helper()
	data, err := m.Append(nil)
	if err == nil {
		err = u.ep.Send(a, sctp.Message{Data: data, PPID: asap.PPID})
	}
	if err != nil {
		u.t.Errorf("user cannot send: %v", err)
	}
	synctest.Wait()
}

// heard checks what has come since the last time.
func (u *user) heard(want ...string) {
	u.t.Helper()
	synctest.Wait()
	u.mu.Lock()
	defer u.mu.Unlock()
	if !slices.Equal(u.got, want) {
		u.t.Errorf("the user got %q, want %q", u.got, want)
	}
	u.got = nil
}

func (u *user) ended(a sctp.AssocID) bool {
	synctest.Wait()
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.down[a] != 0
}

// sessions runs a test with a registrar, a Listener and a user.
func sessions(t *testing.T, change func(*ListenConfig), f func(t *testing.T, nw *sctptest.Network, r *registrar, l *listening, u *user)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		nw := sctptest.NewNetwork()
		r := newRegistrar(t, nw, "10.0.0.1:3863")
		u := newUser(t, nw, "10.0.0.21:1000")
		l := listen(t, nw, change)
		f(t, nw, r, l, u)
		l.close()
		if err := u.ep.Close(); err != nil {
			t.Error(err)
		}
		closed(t, r)
	})
}

func receive(t *testing.T, s *Session) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	m, err := s.Receive(ctx)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%s/%d", m.Data, m.PPID)
}

func TestSession(t *testing.T) {
	sessions(t, func(c *ListenConfig) { c.PPID = 33 }, func(t *testing.T, _ *sctptest.Network, r *registrar, l *listening, u *user) {
		ctx := t.Context()
		tr := r.registration().Element.UserTransport
		if tr.Type != rserpool.SCTP || tr.Use != rserpool.DataPlusControl || tr.Port == 0 || tr.Port != l.LocalAddrs()[0].Port() {
			t.Errorf("registered %v, want the service's port with a control channel", tr)
		}
		a := u.dial(l)
		u.heard("card web 1")
		u.data(a, "hello")
		s := l.next()
		l.saw(SessionBegun)
		if got := receive(t, s); got != "hello/7" {
			t.Errorf("received %s", got)
		}
		if _, ok := s.Cookie(); ok || s.CookieError() != nil {
			t.Error("a new user has brought a cookie")
		}
		data := []byte("one")
		for _, err := range []error{s.SetCookie([]byte("state 1")), s.Send(ctx, data), s.SendMessage(ctx, Message{Data: []byte("two"), PPID: 5, Stream: 1}), s.SetCookie([]byte("state 2"))} {
			if err != nil {
				t.Error(err)
			}
		}
		data[0] = 'X'
		u.heard("cookie state 1", "one/33", "two/5", "cookie state 2")
		if err := s.SetCookie(make([]byte, 16<<10+1)); !errors.Is(err, ErrCookieTooLong) {
			t.Errorf("SetCookie of a long state gives %v", err)
		}
		if err := s.SendMessage(ctx, Message{Data: []byte("x"), PPID: asap.PPID}); err == nil {
			t.Error("data may have the PPID of ASAP")
		}
		if len(s.RemoteAddrs()) != 1 || s.RemoteAddrs()[0].Port() != 1000 {
			t.Errorf("remote addresses %v", s.RemoteAddrs())
		}
		u.data(a, "bye")
		u.ep.Shutdown(a)
		synctest.Wait()
		<-s.Done()
		if got := receive(t, s); got != "bye/7" {
			t.Errorf("received %s", got)
		}
		for _, err := range []error{s.Err(), s.Send(ctx, []byte("x")), s.SetCookie(nil)} {
			if !errors.Is(err, io.EOF) {
				t.Errorf("error %v after the user's end, want EOF", err)
			}
		}
		l.saw(SessionEnded)
	})
}

// TestSessionCookie: the state that a user brings is there before its first message.
func TestSessionCookie(t *testing.T) {
	sessions(t, nil, func(t *testing.T, _ *sctptest.Network, _ *registrar, l *listening, u *user) {
		a := u.dial(l)
		u.control(a, &asap.CookieEcho{Cookie: []byte("state")})
		u.data(a, "go on")
		s := l.next()
		if got := receive(t, s); got != "go on/7" {
			t.Errorf("received %s", got)
		}
		if state, ok := s.Cookie(); string(state) != "state" || !ok {
			t.Errorf("state %q, %v", state, ok)
		}
		l.saw(SessionBegun, SessionCookie)
		<-s.CookieCame()
		u.control(a, &asap.CookieEcho{Cookie: []byte("another")})
		if state, _ := s.Cookie(); string(state) != "state" {
			t.Errorf("state %q after a second echo", state)
		}
	})
}

// TestSealedCookies: the next element of the pool gets the state; forged cookies are
// refused, and the session goes on without.
func TestSealedCookies(t *testing.T) {
	sealer, err := cookie.New(cookie.Config{Pool: testPool, Keys: []cookie.Key{cookie.GenerateKey()}})
	if err != nil {
		t.Fatal(err)
	}
	sessions(t, func(c *ListenConfig) { c.Cookies, c.Cards = sealer, CardsNever }, func(t *testing.T, nw *sctptest.Network, _ *registrar, l *listening, u *user) {
		var sealed []byte
		u.ep.Connect(sctp.Dest{Addrs: l.LocalAddrs()})
		synctest.Wait()
		if err := l.next().SetCookie([]byte("secret state")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		u.mu.Lock()
		sealed = []byte(strings.TrimPrefix(u.got[0], "cookie "))
		u.mu.Unlock()
		if strings.Contains(string(sealed), "state") {
			t.Error("the user can read the state")
		}
		l.saw(SessionBegun)

		u2 := newUser(t, nw, "10.0.0.22:1000")
		u2.control(u2.dial(l), &asap.CookieEcho{Cookie: sealed})
		if state, ok := l.next().Cookie(); string(state) != "secret state" || !ok {
			t.Errorf("state %q, %v", state, ok)
		}
		l.saw(SessionBegun, SessionCookie)
		sealed[30] ^= 1
		u3 := newUser(t, nw, "10.0.0.23:1000")
		u3.control(u3.dial(l), &asap.CookieEcho{Cookie: sealed})
		s := l.next()
		if _, ok := s.Cookie(); ok || !errors.Is(s.CookieError(), cookie.ErrForged) {
			t.Errorf("a forged cookie is taken: %v", s.CookieError())
		}
		l.saw(SessionBegun, SessionCookieRefused)
		for _, u := range []*user{u2, u3} {
			if err := u.ep.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestSessionCard: users that are elements send the handle of their own pool.
func TestSessionCard(t *testing.T) {
	other := rserpool.PoolElement{ID: 5, UserTransport: rserpool.MustParseTransport("sctp:10.0.0.12:99"), Policy: rserpool.Policy{Type: rserpool.RoundRobin}}
	sessions(t, func(c *ListenConfig) { c.Cards = CardsAfterPeer }, func(t *testing.T, _ *sctptest.Network, _ *registrar, l *listening, u *user) {
		a := u.dial(l)
		s := l.next()
		if _, _, ok := s.Card(); ok {
			t.Error("a user that has sent no card has one")
		}
		if err := l.Recommend([]rserpool.PoolElement{other}); err != nil {
			t.Fatal(err)
		}
		u.heard()
		u.control(a, &asap.BusinessCard{Handle: "users", Elements: []rserpool.PoolElement{other}})
		u.heard("card web 5")
		if pool, list, ok := s.Card(); pool != "users" || len(list) != 1 || list[0].ID != 5 || !ok {
			t.Errorf("the user's card is of pool %q with %v", pool, list)
		}
		l.saw(SessionBegun, SessionCard)
		if err := s.Recommend(nil); err != nil {
			t.Error(err)
		}
		u.heard("card web 1")
		if err := l.Recommend([]rserpool.PoolElement{{ID: 5}}); err == nil {
			t.Error("an element without a transport can be recommended")
		}
	})
}

// TestSessionLimits: sessions beyond a limit are refused, and others go on.
func TestSessionLimits(t *testing.T) {
	sessions(t, func(c *ListenConfig) { c.MaxSessions, c.MaxSessionsPerHost, c.Cards = 3, 2, CardsNever }, func(t *testing.T, nw *sctptest.Network, _ *registrar, l *listening, u *user) {
		a := u.dial(l)
		var users []*user
		for i, want := range []bool{true, false} { // of the same host
			v := newUser(t, nw, fmt.Sprintf("10.0.0.21:%d", 2000+i))
			users = append(users, v)
			if got := !v.ended(v.dial(l)); got != want {
				t.Errorf("session %d of a host: %v, want %v", i+2, got, want)
			}
		}
		for i, want := range []bool{true, false} { // of others
			v := newUser(t, nw, fmt.Sprintf("10.0.0.%d:1000", 31+i))
			users = append(users, v)
			if got := !v.ended(v.dial(l)); got != want {
				t.Errorf("session of host %d: %v, want %v", i, got, want)
			}
		}
		if n, refused := l.Sessions(); n != 3 || refused != 2 {
			t.Errorf("%d sessions, %d refused, want 3 and 2", n, refused)
		}
		u.ep.Abort(a)
		synctest.Wait()
		n, _ := l.Sessions()
		if again := u.dial(l); n != 2 || u.ended(again) {
			t.Errorf("the end of a session makes no room: %d sessions, ended by %d", n, u.down[again])
		}
		for _, v := range users {
			if err := v.ep.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestBacklog: an application that accepts nothing holds a bounded number of sessions.
func TestBacklog(t *testing.T) {
	sessions(t, func(c *ListenConfig) { c.Backlog = 1 }, func(t *testing.T, nw *sctptest.Network, _ *registrar, l *listening, u *user) {
		a := u.dial(l)
		v := newUser(t, nw, "10.0.0.22:1000")
		if !v.ended(v.dial(l)) {
			t.Error("the backlog has no limit")
		}
		u.ep.Abort(a)
		if b := v.dial(l); v.ended(b) {
			t.Error("a session that has ended stays in the backlog")
		} else {
			v.data(b, "hello")
			v.ep.Shutdown(b)
		}
		// A user that left at once, and a message.
		if got := receive(t, l.next()); got != "hello/7" {
			t.Errorf("received %s", got)
		}
		if err := v.ep.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestSlowReader: an application that receives nothing has the user wait, and its messages
// are bounded.
func TestSlowReader(t *testing.T) {
	sessions(t, func(c *ListenConfig) { c.MaxReceive = 1000 }, func(t *testing.T, _ *sctptest.Network, _ *registrar, l *listening, u *user) {
		a := u.dial(l)
		s := l.next()
		for i := range 100 {
			u.data(a, fmt.Sprintf("message %02d of some length, so that there are many bytes", i))
		}
		synctest.Wait()
		s.mu.Lock()
		n := 0
		for s.core.Readable() {
			s.core.Receive()
			n++
		}
		s.mu.Unlock()
		if n > 30 {
			t.Errorf("%d messages were taken from the association, beyond MaxReceive", n)
		}
	})
}

// TestSlowUser: Send waits for a user that reads nothing, and goes on when it does.
func TestSlowUser(t *testing.T) {
	sessions(t, func(c *ListenConfig) { c.Cards = CardsNever }, func(t *testing.T, nw *sctptest.Network, _ *registrar, l *listening, u *user) {
		u.dial(l)
		s := l.next()
		here, there := netip.MustParseAddr("10.0.0.11"), netip.MustParseAddr("10.0.0.21")
		nw.Cut(here, there)
		const n = 5000
		sent := make(chan int, 3)
		for range cap(sent) {
			go func() {
				ok := 0
				for range n / cap(sent) {
					if s.Send(t.Context(), make([]byte, 1000)) == nil {
						ok++
					}
				}
				sent <- ok
			}()
		}
		synctest.Wait()
		if len(sent) > 0 {
			t.Error("Send does not wait")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := s.Send(ctx, make([]byte, 1000)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Send gives %v, want the error of its context", err)
		}
		if err := s.SetCookie([]byte("state")); err != nil {
			t.Errorf("SetCookie gives %v", err)
		}
		nw.Heal(here, there)
		for range cap(sent) {
			if ok := <-sent; ok != n/cap(sent) {
				t.Errorf("%d messages were sent, want %d", ok, n/cap(sent))
			}
		}
		synctest.Wait()
		u.mu.Lock()
		defer u.mu.Unlock()
		if len(u.got) != n/cap(sent)*cap(sent)+1 {
			t.Errorf("the user got %d messages, want %d and a cookie", len(u.got), n/cap(sent)*cap(sent))
		}
	})
}

// TestLoad: the load follows the number of sessions, at most one registration in MinUpdate.
func TestLoad(t *testing.T) {
	sessions(t, func(c *ListenConfig) {
		c.Policy, c.Capacity = rserpool.Policy{Type: rserpool.LeastUsedDegradation}, 4
	}, func(t *testing.T, nw *sctptest.Network, r *registrar, l *listening, u *user) {
		first := r.registration().Element.Policy
		if first.Load != 0 || rserpool.ToFraction(first.LoadDegradation) < 0.249 {
			t.Errorf("registered %v, want no load and a degradation of 25%%", first)
		}
		time.Sleep(2 * time.Second)
		r.heard()
		var users []*user
		a := u.dial(l)
		for i := range 2 {
			v := newUser(t, nw, fmt.Sprintf("10.0.0.%d:1000", 31+i))
			v.dial(l)
			users = append(users, v)
		}
		time.Sleep(2 * time.Second)
		if n := strings.Count(r.heard(), "REGISTRATION"); n == 0 || n > 2 {
			t.Errorf("%d registrations, want one or two", n)
		}
		if p := l.Element().State().Policy; rserpool.ToFraction(p.Load) < 0.749 || rserpool.ToFraction(p.Load) > 0.751 {
			t.Errorf("policy %v with 3 of 4 sessions, want 75%%", p)
		}
		u.ep.Shutdown(a)
		time.Sleep(2 * time.Second)
		if p := l.Element().State().Policy; rserpool.ToFraction(p.Load) > 0.501 {
			t.Errorf("policy %v with 2 of 4 sessions, want 50%%", p)
		}
		for _, v := range users {
			if err := v.ep.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestListenConfig(t *testing.T) {
	good := ListenConfig{Config: Config{Pool: "p", Registrars: []string{"10.0.0.1"}}}
	for name, change := range map[string]func(*ListenConfig){
		"TCP transport":         func(c *ListenConfig) { c.Transport.Type = rserpool.TCP },
		"over TCP":              func(c *ListenConfig) { c.Via = rserpool.ViaTCP },
		"PPID of ASAP":          func(c *ListenConfig) { c.PPID = 11 },
		"PPID of ENRP":          func(c *ListenConfig) { c.PPID = 12 },
		"no pool":               func(c *ListenConfig) { c.Pool = "" },
		"no pool, no cards":     func(c *ListenConfig) { c.Pool, c.Cards = "", CardsNever },
		"rule of cards":         func(c *ListenConfig) { c.Cards = CardsNever + 1 },
		"capacity without load": func(c *ListenConfig) { c.Capacity = 5 },
		"negative limit":        func(c *ListenConfig) { c.MaxSessions = -1 },
		"no registrar":          func(c *ListenConfig) { c.Registrars = nil },
	} {
		synctest.Test(t, func(t *testing.T) {
			c := good
			c.Transport.Addrs = []netip.Addr{netip.MustParseAddr("10.0.0.11")}
			c.listen = sctptest.NewNetwork().Listen
			change(&c)
			if _, err := Listen(c); err == nil {
				t.Errorf("%s: Listen accepts it", name)
			}
		})
	}
}

// TestListenConfigValidate: Validate and Listen agree.
func TestListenConfigValidate(t *testing.T) {
	for _, c := range []struct {
		want   string // "" for a valid configuration
		change func(*ListenConfig)
	}{
		{"", func(*ListenConfig) {}},
		{"", func(c *ListenConfig) { c.Transport.Port, c.MaxCookie = 5001, maxCookie }},
		{"no pool handle", func(c *ListenConfig) { c.Pool = "" }},
		{"must not be negative", func(c *ListenConfig) { c.Backlog = -1 }},
		{"sessions are over SCTP", func(c *ListenConfig) { c.Transport.Type = rserpool.TCP }},
		{"PPID is 11", func(c *ListenConfig) { c.PPID = 11 }},
		{"Capacity is set", func(c *ListenConfig) { c.Capacity = 1 }},
		{"MaxCookie is 1048576: at most 65527", func(c *ListenConfig) { c.MaxCookie = 1 << 20 }},
		{"one port", func(c *ListenConfig) {
			c.Local = []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:1"), netip.MustParseAddrPort("10.0.0.2:2")}
		}},
	} {
		synctest.Test(t, func(t *testing.T) {
			cfg := ListenConfig{Config: Config{Pool: testPool, Registrars: []string{"10.0.0.1"}, listen: sctptest.NewNetwork().Listen}}
			cfg.Transport.Addrs = []netip.Addr{netip.MustParseAddr("10.0.0.11")}
			c.change(&cfg)
			l, err := Listen(cfg)
			if err == nil {
				defer l.Close()
			}
			if v := cfg.Validate(); fmt.Sprint(v) != fmt.Sprint(err) || (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("Validate gives %v and Listen %v, want %q", v, err, c.want)
			}
		})
	}
}

// TestRecommendIsCopied: the program may change the elements that it has passed.
func TestRecommendIsCopied(t *testing.T) {
	sessions(t, nil, func(t *testing.T, _ *sctptest.Network, _ *registrar, l *listening, u *user) {
		list := []rserpool.PoolElement{{ID: 7, UserTransport: rserpool.MustParseTransport("sctp:10.0.0.7:5001+control")}}
		if err := l.Recommend(list); err != nil {
			t.Fatal(err)
		}
		list[0].ID, list[0].UserTransport.Addrs[0] = 99, netip.MustParseAddr("10.0.0.99")
		u.dial(l)
		u.heard("card web 7")
		if got := l.will[0].UserTransport.Addrs[0]; got != netip.MustParseAddr("10.0.0.7") {
			t.Errorf("recommended is %v", got)
		}
	})
}

// TestListenFails: the element cannot be opened while a user connects to the port that is open
// already. Listen ends, and the user is refused. A lock that waits is not for virtual time.
func TestListenFails(t *testing.T) {
	nw := sctptest.NewNetwork()
	u := newUser(t, nw, "10.0.0.21:1000")
	accepting := make(chan struct{})
	n := 0
	_, err := Listen(ListenConfig{Config: Config{
		Pool:       testPool,
		Transport:  rserpool.Transport{Port: 5001, Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.11")}},
		Registrars: []string{"10.0.0.1"},
		listen: func(c sctp.ListenConfig, h sctp.Handler) (sctp.Endpoint, error) {
			if n++; n == 1 {
				return nw.Listen(c, func(ev sctp.Event) {
					if ev.Type == sctp.Up {
						close(accepting)
					}
					h(ev)
				})
			}
			u.ep.Connect(sctp.Dest{Addrs: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.11:5001")}})
			<-accepting
			return nil, errors.New("address in use")
		},
	}})
	if err == nil || !strings.Contains(err.Error(), "address in use") {
		t.Errorf("Listen gives %v", err)
	}
	if err := u.ep.Close(); err != nil {
		t.Error(err)
	}
}
