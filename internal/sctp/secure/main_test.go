package secure

import (
	"crypto/tls"
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	nameX = "spiffe://example.org/rserpool/pool/web/x"
	nameY = "spiffe://example.org/rserpool/registrar/y"
	life  = 100 * time.Hour
)

// world is a network in memory with two sites under TLS, x and y.
type world struct {
	t   *testing.T
	nw  *sctptest.Network
	ca  *sctptest.Authority
	n   sctp.Counters
	log func() string
	// both has y take the associations that come for its own: after simultaneous INITs both
	// sides have opened the association.
	both bool
	// sessions has messages with heads inside of TLS.
	sessions bool
	// renew says which associations the sites renew.
	renew sctp.Renewal
	x     *site
	y     *site
}

// site is an endpoint under TLS.
type site struct {
	*sctptest.Site
	*Endpoint
	below sctp.Endpoint
	cfg   *Config
}

// inWorld runs a test in virtual time. tune may change the sites before they exist.
func inWorld(t *testing.T, lim sctp.Limits, tune func(w *world, x, y *Config), run func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, nw: sctptest.NewNetwork(), ca: sctptest.NewAuthority(t)}
		w.log = sctptest.KeepLog(&w.n)
		x, y := w.config(nameX), w.config(nameY)
		if tune != nil {
			tune(w, x, y)
		}
		w.x, w.y = w.site(x, lim, "10.0.0.1:3864"), w.site(y, lim, "10.0.0.2:3864")
		run(t, w)
		w.x.Endpoint.Close()
		w.y.Endpoint.Close()
		sctptest.CheckQueued(t, &w.n, true)
	})
}

// config is that of a site with a certificate.
func (w *world) config(name string) *Config {
	return w.as(w.ca.Config(w.ca.Issue(name, life)))
}

// as is the Config of a TLS configuration for both sides.
func (w *world) as(c *tls.Config) *Config {
	give := func() *tls.Config { return c }
	return &Config{Client: give, Server: sctptest.ToAll(give), Identify: sctptest.NameOf}
}

func (w *world) site(cfg *Config, lim sctp.Limits, addr string) *site {
	w.t.Helper()
	s := &site{Site: sctptest.NewSite(w.t), cfg: cfg}
	var err error
	s.Endpoint, err = Listen(cfg, w.options(lim), s.Handle,
		func(h sctp.Handler) (sctp.Endpoint, error) {
			var err error
			s.below, err = w.nw.Listen(sctptest.On(addr), func(ev sctp.Event) {
				if e := s.Endpoint; w.both && ev.Type == sctp.Up {
					e.Mu.Lock()
					if e.All[ev.Assoc] == nil {
						e.newAssoc(ev.Assoc, true)
					}
					e.Mu.Unlock()
				}
				h(ev)
			})
			return s.below, err
		})
	if err != nil {
		w.t.Fatal(err)
	}
	s.Site.Endpoint = s.Endpoint
	return s
}

func (w *world) options(lim sctp.Limits) Options {
	if w.sessions {
		return Options{Sessions: true, PPID: 11, Limits: lim, Counters: &w.n}
	}
	return Options{Framing: sctptest.Framing, Renew: w.renew, Limits: lim, Counters: &w.n}
}

// plain is a site without TLS.
func (w *world) plain(addr string) *sctptest.Site {
	w.t.Helper()
	s := sctptest.NewSite(w.t)
	var err error
	if s.Endpoint, err = w.nw.Listen(sctptest.On(addr), s.Handle); err != nil {
		w.t.Fatal(err)
	}
	return s
}

// dest is where y is.
func dest(addr string) sctp.Dest {
	return sctp.Dest{Addrs: []netip.AddrPort{netip.MustParseAddrPort(addr)}}
}

// call has x connect to y, and returns the names of the association for both.
func (w *world) call() (a, b sctp.AssocID) {
	w.t.Helper()
	w.x.Endpoint.Connect(dest("10.0.0.2:3864"))
	return w.x.Up().Assoc, w.y.Up().Assoc
}

// say sends a message of n bytes.
func (s *site) say(a sctp.AssocID, n int, fill byte) {
	s.T.Helper()
	if err := s.Endpoint.Send(a, sctp.Message{Data: message(n, fill), PPID: 11}); err != nil {
		s.T.Fatalf("Send of %d bytes: %v", n, err)
	}
}

func message(n int, fill byte) []byte { return sctptest.Message(n, fill) }

// mustSay checks the text of an error.
func mustSay(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("Got error %v, want one with %q", err, want)
	}
}

// numbered sends n numbered messages of a size.
func (s *site) numbered(a sctp.AssocID, from, n, size int) {
	s.T.Helper()
	for i := from; i < from+n; i++ {
		b := message(size, 0)
		binary.BigEndian.PutUint32(b[4:], uint32(i))
		if err := s.Endpoint.Send(a, sctp.Message{Data: b, PPID: 11}); err != nil {
			s.T.Fatalf("message %d: %v", i, err)
		}
	}
}

func number(ev sctp.Event) int { return int(binary.BigEndian.Uint32(ev.Message.Data[4:])) }
