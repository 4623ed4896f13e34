package secure

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
)

// renewed checks that x has ended its association for a new one, and that y has seen it end in
// good order.
func (w *world) renewed(x, y *site) {
	w.t.Helper()
	if ev := x.Down(sctp.LocalClose); !errors.Is(ev.Err, sctp.ErrRenew) {
		w.t.Errorf("Got %v, want %v", ev.Err, sctp.ErrRenew)
	}
	if ev := y.Down(sctp.PeerShutdown); !ev.Farewell || ev.Err != nil {
		w.t.Errorf("Got %v, farewell %v, want a farewell", ev, ev.Farewell)
	}
}

// TestRenewKeys ends an association when its keys have been used long enough. What has been
// sent arrives. Who renews the association does so before the peer must.
func TestRenewKeys(t *testing.T) {
	flood := func(t *testing.T, w *world, from, to *site, a sctp.AssocID) (sent int) {
		t.Helper()
		for ; from.Endpoint.Send(a, sctp.Message{Data: message(60, 1), PPID: 11}) == nil; sent++ {
			to.Next(sctp.Received)
			synctest.Wait()
		}
		return sent
	}
	for _, tt := range []struct {
		name  string
		renew sctp.Renewal
		reply bool // the server sends
		ours  bool // the client renews
	}{
		{"client sends", sctp.RenewOurs, false, true},
		{"server sends", sctp.RenewOurs, true, true},
		{"client may not", sctp.RenewNone, false, true},
		{"server must", sctp.RenewNone, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, sctp.Limits{}, func(w *world, x, y *Config) { w.renew, x.Records, y.Records = tt.renew, 80, 80 }, func(t *testing.T, w *world) {
				a, b := w.call()
				sent := 0
				if tt.reply {
					sent = flood(t, w, w.y, w.x, b)
				} else {
					sent = flood(t, w, w.x, w.y, a)
				}
				if early := sent < 72; early != (tt.renew == sctp.RenewOurs) {
					t.Errorf("ended after %d messages", sent)
				}
				if tt.ours {
					w.renewed(w.x, w.y)
				} else {
					w.renewed(w.y, w.x)
				}
			})
		})
	}
}

// TestRenewCertificate changes the certificates of both sides. Only who is to renew the
// association ends it, within a minute, and the new one has the new certificate.
func TestRenewCertificate(t *testing.T) {
	for _, renew := range []sctp.Renewal{sctp.RenewOurs, sctp.RenewAll, sctp.RenewNone} {
		var x, y atomic.Pointer[tls.Config]
		inWorld(t, sctp.Limits{}, func(w *world, cx, cy *Config) {
			w.renew = renew
			x.Store(cx.Client())
			y.Store(cy.Client())
			cx.Client, cx.Server = x.Load, sctptest.ToAll(x.Load)
			cy.Client, cy.Server = y.Load, sctptest.ToAll(y.Load)
		}, func(t *testing.T, w *world) {
			a, _ := w.call()
			began := time.Now()
			recheck := func() {
				w.x.Recheck()
				w.y.Recheck()
				time.Sleep(2 * time.Minute)
				synctest.Wait()
			}
			recheck() // nothing has changed
			w.x.None()
			w.y.None()
			y.Store(w.ca.Config(w.ca.Issue(nameY, life)))
			recheck()
			if renew == sctp.RenewAll {
				w.renewed(w.y, w.x)
				a, _ = w.call()
			}
			w.x.None()
			w.y.None()
			x.Store(w.ca.Config(w.ca.Issue(nameX, life)))
			w.x.say(a, 60, 1)
			recheck()
			w.y.Next(sctp.Received)
			if renew == sctp.RenewNone {
				w.x.None()
				w.y.None()
				return
			}
			w.renewed(w.x, w.y)
			w.call()
			recheck()
			w.x.None()
			if d := time.Since(began); d > 10*time.Minute {
				t.Errorf("the renewals have taken %v", d)
			}
		})
	}
}

// TestRenewMissed: a certificate that changes within a handshake, which is not among the
// associations that are looked at then, is renewed as well.
func TestRenewMissed(t *testing.T) {
	var x atomic.Pointer[tls.Config]
	var change atomic.Pointer[func()]
	inWorld(t, sctp.Limits{}, func(w *world, cx, _ *Config) {
		cx.Spread = 10 * time.Second // a Site waits for 40 s
		x.Store(cx.Client())
		cx.Client, cx.Server = x.Load, sctptest.ToAll(x.Load)
		identify := cx.Identify
		cx.Identify = func(cs tls.ConnectionState) (string, time.Time, error) {
			if f := change.Swap(nil); f != nil {
				(*f)()
			}
			return identify(cs)
		}
	}, func(t *testing.T, w *world) {
		f := func() {
			x.Store(w.ca.Config(w.ca.Issue(nameX, life)))
			w.x.Recheck()
		}
		change.Store(&f)
		w.call()
		w.renewed(w.x, w.y)
		w.call()
		w.x.None()
	})
}

// TestRenewSpread: associations are not renewed in one moment after the certificate has changed.
func TestRenewSpread(t *testing.T) {
	const spread = 10 * time.Second
	var x atomic.Pointer[tls.Config]
	inWorld(t, sctp.Limits{}, func(w *world, cx, _ *Config) {
		cx.Spread = spread
		x.Store(cx.Client())
		cx.Client, cx.Server = x.Load, sctptest.ToAll(x.Load)
	}, func(t *testing.T, w *world) {
		const n = 30
		for i := range n {
			addr := fmt.Sprintf("10.0.1.%d:3864", i+1)
			z := w.site(w.config(nameY), sctp.Limits{}, addr)
			defer z.Endpoint.Close()
			w.x.Endpoint.Connect(dest(addr))
			w.x.Up()
			z.Up()
		}
		x.Store(w.ca.Config(w.ca.Issue(nameX, life)))
		w.x.Recheck()
		began := time.Now()
		var tenths [10]int
		for range n {
			w.x.Wait("Down", func(ev sctp.Event) bool { return ev.Type == sctp.Down && errors.Is(ev.Err, sctp.ErrRenew) })
			tenths[min(9, int(time.Since(began)*10/spread))]++
		}
		for i, k := range tenths {
			if k > n/2 {
				t.Errorf("%d of %d are renewed in tenth %d of the time: %v", k, n, i, tenths)
			}
		}
		if d := time.Since(began); d > spread+time.Second {
			t.Errorf("the last one is renewed after %v, want at most %v", d, spread)
		}
	})
}

// TestRenewInTime renews an association before a certificate ends, whose ever it is, and again.
func TestRenewInTime(t *testing.T) {
	for _, whose := range []string{nameX, nameY} {
		inWorld(t, sctp.Limits{}, func(w *world, x, y *Config) {
			short := w.as(w.ca.Config(w.ca.Issue(whose, 11*time.Hour))) // it began an hour ago
			if whose == nameX {
				*x = *short
			} else {
				*y = *short
			}
		}, func(t *testing.T, w *world) {
			began := time.Now()
			w.x.Patience, w.y.Patience = 12*time.Hour, 12*time.Hour
			w.call()
			w.renewed(w.x, w.y)
			if d := time.Since(began); d < 5*time.Hour || d > 7*time.Hour+time.Minute {
				t.Errorf("%s: renewed after %v, want 5h to 7h", whose, d)
			}
			again := time.Now()
			left := 11*time.Hour - time.Since(began)
			w.call()
			w.renewed(w.x, w.y)
			if d := time.Since(again); d < left/2 || d > left*2/3+time.Minute {
				t.Errorf("%s: renewed again after %v, want 1/2 to 2/3 of %v", whose, d, left)
			}
		})
	}
}

// TestRenewalTime has the bounds of the time.
func TestRenewalTime(t *testing.T) {
	begin := time.Unix(0, 0)
	at := func(d time.Duration) time.Time { return begin.Add(d) }
	for _, tt := range []struct {
		end, now time.Duration
		share    float64
		want     time.Duration // 0: never
	}{
		{90 * time.Hour, 0, 0, 45 * time.Hour},
		{90 * time.Hour, 0, 1, 60 * time.Hour},
		{90 * time.Hour, 44 * time.Hour, 0, 45 * time.Hour},
		{90 * time.Hour, 50 * time.Hour, 0, 70 * time.Hour},
		{90 * time.Hour, 48 * time.Hour, 1, 76 * time.Hour},
		{90 * time.Hour, 60 * time.Hour, 1, 80 * time.Hour},
		{90 * time.Hour, 90*time.Hour - time.Minute, 1, 0},
		{90 * time.Hour, 91 * time.Hour, 1, 0},
		{10 * time.Second, 0, 1, 0},
	} {
		want := at(tt.want)
		if tt.want == 0 {
			want = time.Time{}
		}
		if got := renewal(begin, at(tt.end), at(tt.now), tt.share); got.Sub(want).Abs() > time.Second && !(got.IsZero() && want.IsZero()) {
			t.Errorf("life %v, now %v, share %v: got %v, want %v", tt.end, tt.now, tt.share, got.Sub(begin), tt.want)
		}
	}
}

// TestRefusedTells: Config.Refused is told once which certificate of this side a peer has refused. A
// server is told the host of the peer.
func TestRefusedTells(t *testing.T) {
	for _, server := range []bool{true, false} {
		var want []byte
		var told chan netip.Addr
		var by netip.Addr
		inWorld(t, sctp.Limits{}, func(_ *world, x, y *Config) {
			refuses, is := y, x
			if server {
				refuses, is = x, y
				by = netip.MustParseAddr("10.0.0.1")
			}
			refuses.Identify = func(tls.ConnectionState) (string, time.Time, error) {
				return "", time.Time{}, errors.New("denied")
			}
			want = ownOf(is.Client())
			told = make(chan netip.Addr, 9)
			is.Refused = func(own []byte, by netip.Addr) {
				if !bytes.Equal(own, want) {
					t.Error("another certificate is told")
				}
				told <- by
			}
		}, func(t *testing.T, w *world) {
			w.x.Endpoint.Connect(dest("10.0.0.2:3864"))
			if got := <-told; got != by {
				t.Errorf("server %v: told %v, want %v", server, got, by)
			}
			synctest.Wait()
			if n := len(told); n > 0 {
				t.Errorf("told %d times more", n)
			}
		})
	}
}

// TestRenewRefused: this side does not accept the certificate of the peer any more. It ends the
// association at once, and finds out whether the peer has another one if it is to renew it.
func TestRenewRefused(t *testing.T) {
	for _, client := range []bool{true, false} {
		var denied atomic.Bool
		deny := func(cfg *Config) {
			before := cfg.Identify
			cfg.Identify = func(cs tls.ConnectionState) (string, time.Time, error) {
				if denied.Load() {
					return "", time.Time{}, errors.New("denied")
				}
				return before(cs)
			}
		}
		inWorld(t, sctp.Limits{}, func(_ *world, x, y *Config) {
			if client {
				deny(x)
			} else {
				deny(y)
			}
		}, func(t *testing.T, w *world) {
			w.call()
			denied.Store(true)
			refuses := w.y
			if client {
				refuses = w.x
			}
			refuses.Recheck()
			ev := refuses.Down(sctp.LocalClose)
			mustSay(t, ev.Err, "not accepted any more: denied")
			if !errors.Is(ev.Err, ErrTheirs) || errors.Is(ev.Err, sctp.ErrRenew) != client {
				t.Errorf("client %v: got %v", client, ev.Err)
			}
		})
	}
}
