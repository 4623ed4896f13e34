package hostile

import (
	"bytes"
	"crypto/tls"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
)

// trustedSiege is a siege of a server with TLS, whose honest elements have certificates.
func trustedSiege(t *testing.T, options ...string) (*siege, *scope) {
	t.Helper()
	s := trustedScope(t, options...)
	s.server.tls = s.ca.valid(inPool(t, honestPool, "1")).files
	g := &siege{server: s.server, honest: s.beHonest(honestElements)}
	g.before = g.rest()
	g.max = g.before
	return g, s
}

// record is a record of TLS.
func record(typ byte, body []byte) []byte {
	return append([]byte{typ, 3, 3, byte(len(body) >> 8), byte(len(body))}, body...)
}

// The types of records that attackers send (RFC 8446, Section 5.1).
const (
	recordChangeCipherSpec = 20
	recordAlert            = 21
	recordHandshake        = 22
	recordData             = 23
)

// firstBytes are what attackers send in place of a ClientHello. The server ends all of their
// associations at once, and needs no time-out for that.
func firstBytes(hello []byte) map[string][][]byte {
	r := rand.New(rand.NewPCG(5, 6))
	noise := make([]byte, 1000)
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	long := bytes.Clone(hello)
	long[6], long[7], long[8] = 0xff, 0xff, 0xff // 16 MiB, in pieces that are records
	endless := [][]byte{long}
	for range 8 {
		endless = append(endless, record(recordHandshake, make([]byte, 16<<10)))
	}
	var useless [][]byte
	for range 100 {
		useless = append(useless, record(recordChangeCipherSpec, []byte{1}))
	}
	broken := bytes.Clone(hello)
	for i := 45; i < len(broken); i++ {
		broken[i] = 0xff
	}
	return map[string][][]byte{
		"plain ASAP":                     {append([]byte{byte(asap.TypeHandleResolution), 0, 0, 12, 0, 9, 0, 7}, "abc\x00"...)},
		"HTTP":                           {[]byte("GET / HTTP/1.1\r\nHost: example.org\r\n\r\n")},
		"noise":                          {append([]byte{0x80}, noise...)},
		"noise in a record":              {record(recordHandshake, noise)},
		"a broken hello":                 {broken},
		"a hello that begins twice":      {hello, hello},
		"a record over the limit":        {record(recordHandshake, make([]byte, 17<<10))},
		"a record of the largest length": {{recordHandshake, 3, 1, 0xff, 0xff}},
		"a hello without end":            endless,
		"records that mean nothing":      append([][]byte{hello}, useless...),
		"data before the handshake":      {record(recordData, noise)},
		"a fatal alert":                  {record(recordAlert, []byte{2, 40})},
		"close_notify":                   {record(recordAlert, []byte{1, 0})},
		"a broken alert":                 {record(recordAlert, noise)},
		"a hello and an alert":           {hello, record(recordAlert, []byte{2, 80})},
		"a hello and data":               {hello, record(recordData, noise)},
	}
}

// clientHello is a good one.
func clientHello(t *testing.T, c *tls.Config) []byte {
	t.Helper()
	var sent bytes.Buffer
	_ = tls.Client(readerWriter{bytes.NewReader(nil), &sent}, c).Handshake()
	if sent.Len() == 0 {
		t.Fatal("package tls has sent no ClientHello")
	}
	return sent.Bytes()
}

// readerWriter is a net.Conn of a Reader and a Writer.
type readerWriter struct {
	io.Reader
	io.Writer
}

func (readerWriter) Close() error                     { return nil }
func (readerWriter) LocalAddr() net.Addr              { return nil }
func (readerWriter) RemoteAddr() net.Addr             { return nil }
func (readerWriter) SetDeadline(time.Time) error      { return nil }
func (readerWriter) SetReadDeadline(time.Time) error  { return nil }
func (readerWriter) SetWriteDeadline(time.Time) error { return nil }

// over runs an attack over SCTP in UDP and over TCP.
func (s *scope) over(attack func(transport string, open func() net.Conn)) {
	attack("udp", func() net.Conn { return s.lane() })
	attack("tcp", func() net.Conn { return s.tcp(loopback) })
}

// cutSoon waits until the server ends an association, long before a time-out would.
func cutSoon(t *testing.T, what string, c net.Conn) {
	t.Helper()
	began := time.Now()
	if err := cutOff(c); err != nil {
		t.Errorf("%s: %v", what, err)
	} else if took := time.Since(began); took > 8*time.Second {
		t.Errorf("%s: the end took %v", what, took)
	}
	_ = c.Close()
}

// TestTLSPeers has peers at the port of TLS that are no good ones. Each is cut off at once, and
// leaves nothing.
func TestTLSPeers(t *testing.T) {
	g, s := trustedSiege(t)
	hello := clientHello(t, (*papers)(nil).config())
	n := 0
	t.Run("first bytes", func(t *testing.T) {
		for what, messages := range firstBytes(hello) {
			s.over(func(transport string, open func() net.Conn) {
				n++
				c := open()
				for _, m := range messages {
					if _, err := c.Write(m); err != nil {
						break // cut off already
					}
				}
				cutSoon(t, what+" over "+transport, c)
			})
		}
	})
	t.Run("certificates", func(t *testing.T) {
		for what, p := range s.heavy(t) {
			s.over(func(transport string, open func() net.Conn) {
				n++
				c := tls.Client(open(), p.config())
				_, _ = c.Write(wire(t, registration(honestPool, 77, loopback)))
				cutSoon(t, what+" over "+transport, c)
			})
		}
	})
	t.Run("downgrade", func(t *testing.T) {
		old := s.member.config()
		old.MaxVersion = tls.VersionTLS12
		s.over(func(transport string, open func() net.Conn) {
			n++
			c := open()
			if err := tls.Client(c, old).Handshake(); err == nil {
				t.Errorf("TLS 1.2 is spoken over %s", transport)
			}
			cutSoon(t, "TLS 1.2 over "+transport, c)
		})
	})
	t.Run("after the handshake", func(t *testing.T) {
		p := s.ca.valid(inPool(t, honestPool, "2"))
		whole := wire(t, registration(honestPool, 77, loopback))
		for what, attack := range map[string]func(below net.Conn, c *tls.Conn){
			"plain message": func(below net.Conn, _ *tls.Conn) { _, _ = below.Write(whole) },
			"a forged record": func(below net.Conn, _ *tls.Conn) {
				_, _ = below.Write(record(recordData, append(whole, make([]byte, 17)...)))
			},
			"a record over the limit": func(below net.Conn, _ *tls.Conn) { _, _ = below.Write(record(recordData, make([]byte, 17<<10))) },
			"a plain alert":           func(below net.Conn, _ *tls.Conn) { _, _ = below.Write(record(recordAlert, []byte{1, 0})) },
			"another handshake":       func(below net.Conn, _ *tls.Conn) { _, _ = below.Write(hello) },
			"a message of length 0":   func(_ net.Conn, c *tls.Conn) { _, _ = c.Write(make([]byte, 8)) },
			"half a message": func(_ net.Conn, c *tls.Conn) {
				_, _ = c.Write(whole[:len(whole)-4])
				_ = c.CloseWrite()
			},
			"half a message, and the end below TLS": func(below net.Conn, c *tls.Conn) {
				_, _ = c.Write(whole[:len(whole)-4])
				_ = below.Close()
			},
		} {
			s.over(func(transport string, open func() net.Conn) {
				n++
				below := open()
				c := tls.Client(below, p.config())
				if got := outcome(ask(t, c, &asap.HandleResolution{Handle: honestPool})); got != "granted" {
					t.Fatal(got)
				}
				attack(below, c)
				cutSoon(t, what+" over "+transport, below)
			})
		}
	})
	wait(t, "only the honest elements", func() bool { return s.stat("elements", "") == honestElements })
	g.check(n, ceiling{heap: 4 << 20, goroutines: 32, files: 8})
	g.end(ceiling{})
}

// heavy are certificates that cost much, and none of which is good.
func (s *scope) heavy(t *testing.T) map[string]*papers {
	t.Helper()
	chain := func(n int) *papers {
		p := s.ca.valid(inPool(t, honestPool, "2"))
		for len(p.cert.Certificate) < n {
			p.cert.Certificate = append(p.cert.Certificate, p.cert.Certificate[0])
		}
		return p
	}
	huge := func(n int) *papers {
		p := newIssuer(t).valid(inPool(t, honestPool, "2"))
		p.cert.Certificate = append(p.cert.Certificate[:1:1], bytes.Repeat([]byte{0x30}, n))
		return p
	}
	return map[string]*papers{
		"a chain of 11":         chain(11),
		"a chain of 100":        chain(100),
		"a chain of 60 KB":      chain(130),
		"a chain without end":   chain(1000),
		"a chain of noise":      huge(10_000),
		"a certificate of 1 MB": huge(1 << 20),
	}
}

// TestStolenAssociation has somebody who can send in the name of an element put a registration
// into its association.
func TestStolenAssociation(t *testing.T) {
	plain, trusted := plainScope(t), trustedScope(t)
	inject := func(s *scope, p *papers) string {
		l := s.lane()
		c := s.secure(l, p)
		if got := register(t, c, "web", 1); got != "granted" {
			t.Fatal(got)
		}
		if _, err := l.Write(wire(t, registration("web", 2, loopback))); err != nil {
			t.Fatal(err)
		}
		return outcome(answer(t, c))
	}
	if got := inject(plain, nil); got != "granted" {
		t.Errorf("without TLS: %s", got)
	}
	plain.want("web", 2)
	if got := inject(trusted, trusted.ca.valid(inPool(t, "web", "1"))); got != "cut off" {
		t.Errorf("with TLS: %s", got)
	}
	if _, there := trusted.elements("web")[2]; there {
		t.Error("with TLS, the element is registered")
	}
}

// TestTLSStorm has very many peers begin handshakes and go silent, and others end them, while
// elements and users are served. The silent ones are over SCTP and over TCP; half of them have sent
// a ClientHello.
func TestTLSStorm(t *testing.T) {
	silent, whole := 100, 100
	if *long {
		silent, whole = 900, 20_000
	}
	g, s := trustedSiege(t)
	hello := clientHello(t, (*papers)(nil).config())
	var conns []net.Conn
	s.over(func(_ string, open func() net.Conn) {
		for i := range silent {
			c := open()
			conns = append(conns, c)
			if i%2 == 0 {
				_, _ = c.Write(hello)
			}
		}
	})
	g.watch()
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for range whole / 4 {
				c, err := s.dial(netip.AddrFrom4([4]byte{127, 10, 0, byte(i + 1)}))
				if err != nil {
					t.Error(err)
					return
				}
				if err := tls.Client(c, (*papers)(nil).config()).Handshake(); err != nil {
					t.Error(err)
				}
				_ = c.Close()
			}
		})
	}
	// Meanwhile, an element of the scope comes.
	e := joined(t, s.ca.valid(inPool(t, "late", "1")), "late", netip.AddrPort{}, 0, s.good())
	wg.Wait()
	_ = e.Close()
	half := 2 * silent
	g.check(half+whole, ceiling{heap: half*48<<10 + 4<<20, goroutines: 4*half + 16, files: half + 8, cpu: 6 * time.Millisecond})
	hangUp(t, conns)
	g.end(ceiling{left: 4 << 20})
}

// TestTLSLockout has one host begin handshakes without end and say nothing, more than there is
// room for each second. An element of another host registers at once.
func TestTLSLockout(t *testing.T) {
	g, s := trustedSiege(t, "limit half_open 20")
	stop := make(chan struct{})
	var flood sync.WaitGroup
	var begun atomic.Int64
	for range 4 {
		via := carrier(t)
		flood.Go(func() {
			var open []sctp.Endpoint
			defer func() {
				for _, ep := range open {
					_ = ep.Close()
				}
			}()
			for {
				up := make(chan struct{}, 1)
				at := netip.AddrPortFrom(netip.MustParseAddr("127.11.0.1"), uint16(10_000+lanes.Add(1)%50_000))
				ep, err := via.Listen(sctp.ListenConfig{Addrs: []netip.AddrPort{at}, PPID: asap.PPID}, func(ev sctp.Event) {
					if ev.Type == sctp.Up {
						up <- struct{}{}
					}
				})
				if err != nil {
					t.Error(err)
					return
				}
				if open = append(open, ep); len(open) > 50 {
					_ = open[0].Close()
					open = open[1:]
				}
				ep.Connect(sctp.Dest{Addrs: []netip.AddrPort{s.asap}, Kind: sctp.UDP, EncapPort: s.encap})
				select {
				case <-stop:
					return
				case <-up:
					begun.Add(1)
				case <-time.After(time.Second): // refused
				}
			}
		})
	}
	end := sync.OnceFunc(func() {
		close(stop)
		flood.Wait()
	})
	defer end()
	wait(t, "flood", func() bool { return begun.Load() > 200 })
	e := joined(t, s.ca.valid(inPool(t, "late", "1")), "late", netip.AddrPort{}, 0, s.good())
	n := begun.Load()
	wait(t, "more of the flood", func() bool { return begun.Load() > n+100 })
	end()
	_ = e.Close()
	g.check(int(begun.Load()), ceiling{heap: 12 << 20, goroutines: 400, files: 8})
	g.end(ceiling{left: 4 << 20})
}
