package pe_test

import (
	"errors"
	"testing"

	"github.com/rserpool/coredns-rserpool/asap/cookie"
	"github.com/rserpool/coredns-rserpool/asap/pe"
	"github.com/rserpool/coredns-rserpool/asap/pu"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// TestCookieIdentity: in a trusted scope, a sealed cookie is of use only to a user with the
// identity of the one that got it, with the same certificate or a new one, and also at the
// next element.
func TestCookieIdentity(t *testing.T) {
	s := newScope(t)
	key := cookie.GenerateKey()
	sealed := func(c *pe.ListenConfig) {
		var err error
		if c.Cookies, err = cookie.New(cookie.Config{Pool: c.Pool, Keys: []cookie.Key{key}}); err != nil {
			t.Fatal(err)
		}
	}
	none := rserpool.TLSFiles{CA: s.issue("pool/jobs/u").CA}
	const owner = "pool/jobs/owner"
	a := s.element("jobs", "pool/jobs/a", sealed)
	own, err := s.member(s.issue(owner)).Dial(s.ctx, "jobs")
	s.check(err)
	s.hand(own, s.accept(a), "own")
	anonymous, err := s.member(none).Dial(s.ctx, "jobs")
	s.check(err)
	s.hand(anonymous, s.accept(a), "nobody's")

	for _, test := range []struct {
		whose  []byte
		user   rserpool.TLSFiles
		accept string // the state; "" if the cookie is refused
	}{
		{own.Cookie(), s.issue("pool/jobs/other"), ""},
		{own.Cookie(), none, ""},
		{own.Cookie(), s.issue(owner), "own"}, // a new certificate
		{anonymous.Cookie(), s.issue(owner), ""},
		{anonymous.Cookie(), none, "nobody's"},
	} {
		us, err := s.member(test.user).DialSession(s.ctx, pu.SessionConfig{Pool: "jobs", Cookie: test.whose})
		s.check(err)
		s.brought(s.accept(a), test.accept)
		s.check(us.Close())
	}

	b := s.element("jobs", "pool/jobs/b", sealed)
	s.check(a.Close())
	for range 2 {
		bs := s.accept(b)
		want := "nobody's"
		if bs.Identity() != "" {
			want = "own"
		}
		s.brought(bs, want)
	}
}

// hand hands a state out as a cookie, and waits until the user has it.
func (s *scope) hand(us *pu.Session, es *pe.Session, state string) {
	s.t.Helper()
	s.check(es.SetCookie([]byte(state)))
	s.check(es.Send(s.ctx, []byte("go")))
	s.want(us, "go")
}

// brought checks the state that a user brings; "" if its cookie is forged.
func (s *scope) brought(es *pe.Session, want string) {
	s.t.Helper()
	select {
	case <-es.CookieCame():
	case <-s.ctx.Done():
		s.t.Fatal("no cookie has come")
	}
	state, ok := es.Cookie()
	if want == "" && !ok && errors.Is(es.CookieError(), cookie.ErrForged) {
		return
	}
	if string(state) != want || ok == (want == "") {
		s.t.Errorf("user %q has brought state %q, %v; want %q", es.Identity(), state, es.CookieError(), want)
	}
}
