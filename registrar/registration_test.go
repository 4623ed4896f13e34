package registrar

import (
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/tlv"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// RFC 5352, Section 3.1, rules 1 to 3.
func TestRegistration(t *testing.T) {
	w := newWorld(t)
	w.up(1, rserpool.ViaKernel, "10.0.0.1", "2001:db8::1")
	w.recv(1, reg("p", 0x11, "10.0.0.1"))
	w.want("1 < registration granted p:11")
	w.recv(1, reg("p", 0x11, "2001:db8::1")) // again, with another address
	w.want("1 < registration granted p:11")
	w.recv(1, reg("p", 0x12, "10.0.0.1"))
	w.want("1 < registration granted p:12")
	w.recv(1, reg("q", 0x11, "10.0.0.1")) // the same identifier in another pool
	w.want("1 < registration granted q:11")
	w.wantElements("p:11", "p:12", "q:11")
	if s := w.r.Stats(); s.Registrations != 3 || s.Reregistrations != 1 || s.Elements != 3 || s.Pools != 2 {
		t.Errorf("stats: %+v", s)
	}
	if got := w.r.Space().Pool("p").Element(0x11).UserTransport.Addrs[0].String(); got != "2001:db8::1" {
		t.Errorf("address after the re-registration: got %v, want the new one", got)
	}
}

// RFC 5352, Section 3.1, rule 4: the home registrar fills in itself and the
// address that the registration came from.
func TestRegistrationFillsIn(t *testing.T) {
	w := newWorld(t)
	w.up(1, rserpool.ViaKernel, "10.0.0.1", "::ffff:10.0.0.2", "fe80::1%eth0")
	w.recv(1, reg("p", 1, "10.0.0.2", func(e *rserpool.PoolElement) {
		e.Home = 0x77
		e.Unknown = []rserpool.Parameter{{Type: 0x8123, Value: []byte("kept")}}
	}))
	w.want("1 < registration granted p:1")
	e := w.r.Space().Pool("p").Element(1)
	if e.Home != testServer {
		t.Errorf("home: got %v, want ours", e.Home)
	}
	if want := "sctp"; e.ASAPTransport.Type.String() != want || e.ASAPTransport.Port != 40000 || e.ASAPTransport.Use != rserpool.DataOnly {
		t.Errorf("ASAP transport: got %v", e.ASAPTransport)
	}
	var addrs []string
	for _, a := range e.ASAPTransport.Addrs {
		addrs = append(addrs, a.String())
	}
	if got, want := strings.Join(addrs, " "), "10.0.0.1 10.0.0.2 fe80::1"; got != want {
		t.Errorf("ASAP transport addresses: got %q, want %q", got, want)
	}
	if len(e.Unknown) != 1 || string(e.Unknown[0].Value) != "kept" {
		t.Errorf("unknown parameters: got %v", e.Unknown)
	}
	if want := w.now.Add(time.Hour); !e.Expires.Equal(want) {
		t.Errorf("expires: got %v, want %v", e.Expires, want)
	}
}

func userSCTP(use rserpool.TransportUse) func(*rserpool.PoolElement) {
	return func(e *rserpool.PoolElement) {
		e.UserTransport.Type, e.UserTransport.Use = rserpool.SCTP, use
	}
}

func policy(p rserpool.PolicyType) func(*rserpool.PoolElement) {
	return func(e *rserpool.PoolElement) { e.Policy.Type = p }
}

func life(s int32) func(*rserpool.PoolElement) {
	return func(e *rserpool.PoolElement) { e.Life = s }
}

func asapAt(port uint16, addrs ...string) func(*rserpool.PoolElement) {
	return func(e *rserpool.PoolElement) {
		e.ASAPTransport = rserpool.Transport{Type: rserpool.SCTP, Port: port}
		for _, a := range addrs {
			e.ASAPTransport.Addrs = append(e.ASAPTransport.Addrs, netip.MustParseAddr(a))
		}
	}
}

// RFC 5352, Section 3.1, rules 2, 3 and 5, and Section 2.2.1; the causes are
// those of RFC 5354, Section 3.12.
func TestRegistrationRejected(t *testing.T) {
	const element = "element"     // the cause carries the pool element
	const transport = "transport" // ... its user transport
	const asapT = "asap"          // ... its ASAP transport
	for _, c := range []struct {
		name  string
		via   rserpool.Via
		m     *asap.Registration
		cause string // and what it carries
	}{
		{"over TCP", rserpool.ViaTCP, reg("p", 1, "10.0.0.1"), "a"},
		{"identifier 0", rserpool.ViaKernel, reg("p", 0, "10.0.0.1"), "3 " + element},
		{"life 0", rserpool.ViaKernel, reg("p", 1, "10.0.0.1", life(0)), "3 " + element},
		{"port 0", rserpool.ViaKernel, reg("p", 1, "10.0.0.1", func(e *rserpool.PoolElement) { e.UserTransport.Port = 0 }), "3 " + transport},
		{"foreign address", rserpool.ViaKernel, reg("p", 1, "10.0.0.9"), "3 " + transport},
		{"foreign beside own", rserpool.ViaKernel, reg("p", 1, "10.0.0.1", userSCTP(1), func(e *rserpool.PoolElement) {
			e.UserTransport.Addrs = append(e.UserTransport.Addrs, netip.MustParseAddr("192.0.2.1"))
		}), "3 " + transport},
		{"own address twice", rserpool.ViaKernel, reg("p", 1, "10.0.0.1", userSCTP(1), func(e *rserpool.PoolElement) {
			e.UserTransport.Addrs = append(e.UserTransport.Addrs, netip.MustParseAddr("10.0.0.1"))
		}), "3 " + transport},
		{"unspecified", rserpool.ViaKernel, reg("p", 1, "0.0.0.0"), "3 " + transport},
		{"multicast", rserpool.ViaKernel, reg("p", 1, "224.0.0.1"), "3 " + transport},
		{"broadcast", rserpool.ViaKernel, reg("p", 1, "255.255.255.255"), "3 " + transport},
		{"loopback", rserpool.ViaKernel, reg("p", 1, "127.0.0.1"), "3 " + transport},
		{"ASAP transport elsewhere", rserpool.ViaKernel, reg("p", 1, "10.0.0.1", asapAt(1, "10.0.0.9")), "3 " + asapT},
		{"ASAP transport port 0", rserpool.ViaKernel, reg("p", 1, "10.0.0.1", asapAt(0, "10.0.0.1")), "3 " + asapT},
		{"too large", rserpool.ViaKernel, reg("p", 1, "10.0.0.1", func(e *rserpool.PoolElement) {
			e.Unknown = []rserpool.Parameter{{Type: 0x8123, Value: make([]byte, 5000)}}
		}), "6"},
		{"handle too long", rserpool.ViaKernel, reg(strings.Repeat("x", maxHandle+1), 1, "10.0.0.1"), "6"},
		{"another policy", rserpool.ViaKernel, reg("known", 1, "10.0.0.1", userSCTP(1), policy(rserpool.Random)), "5 0008000c0000000200000000"},
		{"another policy, re-registration", rserpool.ViaKernel, reg("known", 0x99, "10.0.0.1", userSCTP(1)), "5 0008000c0000000200000000"},
		{"another transport", rserpool.ViaKernel, reg("known", 1, "10.0.0.1", policy(rserpool.WeightedRoundRobin)), "7 00040010000000010001000800000000"},
		{"another use", rserpool.ViaKernel, reg("known", 1, "10.0.0.1", userSCTP(0), policy(rserpool.WeightedRoundRobin)), "8"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.up(1, rserpool.ViaKernel, "10.0.0.1", "10.0.0.2", "127.0.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255")
			w.recv(1, reg("known", 0x99, "10.0.0.1", userSCTP(1), policy(rserpool.WeightedRoundRobin)))
			w.want("1 < registration granted known:99")
			w.up(2, c.via, "10.0.0.1", "10.0.0.2", "127.0.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255")
			w.recv(2, c.m)
			code, info, _ := strings.Cut(c.cause, " ")
			switch info {
			case element:
				b, err := tlv.AppendPoolElement(nil, &c.m.Element)
				info = tlvText(t, b, err)
			case transport:
				b, err := tlv.AppendTransport(nil, &c.m.Element.UserTransport)
				info = tlvText(t, b, err)
			case asapT:
				b, err := tlv.AppendTransport(nil, &c.m.Element.ASAPTransport)
				info = tlvText(t, b, err)
			}
			want := "2 < registration rejected " + string(c.m.Handle) + ":" + hexID(c.m.Element.ID) + " cause " + code
			if info != "" {
				want += "(" + info + ")"
			}
			w.want(want)
			w.wantElements("known:99")
			rejected := uint64(0)
			for _, n := range w.r.Stats().Rejections {
				rejected += n
			}
			if rejected != 1 {
				t.Errorf("rejections counted: got %d, want 1", rejected)
			}
		})
	}
}

// TestConflictLogged: the log names the element's policy and the pool's, and says
// what to do.
func TestConflictLogged(t *testing.T) {
	w := newWorld(t)
	w.logs = true
	w.up(1, rserpool.ViaKernel, "10.0.0.1")
	w.recv(1, reg("p", 1, "10.0.0.1", policy(rserpool.RoundRobin)))
	w.skip("registration granted", "log")
	w.recv(1, reg("p", 2, "10.0.0.1", policy(rserpool.Random)))
	const want = `log registration of pool element 00000002 in pool "p" by 10.0.0.1 is refused: policy differs from the pool's: ` +
		"the element has Random, the pool has RoundRobin: start the element with policy RoundRobin (rsp: --policy RoundRobin), or give it another pool"
	if !slices.Contains(w.trace, want) {
		t.Errorf("got %q, want %q", w.trace, want)
	}
}

func tlvText(t *testing.T, b []byte, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(b)
}

func hexID(id rserpool.PEID) string {
	s := strings.TrimLeft(id.String(), "0")
	if s == "" {
		return "0"
	}
	return s
}

// What is refused by TestRegistrationRejected is fine with another policy,
// transport or use in another pool, and so are addresses of the loopback if
// the association comes by it.
func TestRegistrationAccepted(t *testing.T) {
	for _, c := range []struct {
		name string
		peer []string
		m    *asap.Registration
	}{
		{"loopback", []string{"127.0.0.1"}, reg("p", 1, "127.0.0.1")},
		{"loopback, IPv6", []string{"::1"}, reg("p", 1, "::1")},
		{"second address", []string{"10.0.0.1", "10.0.0.2"}, reg("p", 1, "10.0.0.2")},
		{"own ASAP transport", []string{"10.0.0.1", "10.0.0.2"}, reg("p", 1, "10.0.0.2", asapAt(9, "10.0.0.2"))},
		{"infinite life", []string{"10.0.0.1"}, reg("p", 1, "10.0.0.1", life(-1))},
		{"longest life", []string{"10.0.0.1"}, reg("p", 1, "10.0.0.1", life(0x7fffffff))},
		{"unknown policy", []string{"10.0.0.1"}, reg("p", 1, "10.0.0.1", policy(0xb0009999))},
		{"opaque transport", []string{"10.0.0.1"}, reg("p", 1, "10.0.0.1", func(e *rserpool.PoolElement) {
			e.UserTransport = rserpool.Transport{Type: rserpool.Opaque, Opaque: []byte("x")}
		})},
		{"longest handle", []string{"10.0.0.1"}, reg(strings.Repeat("x", maxHandle), 1, "10.0.0.1")},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.up(1, rserpool.ViaUDP, c.peer...)
			w.recv(1, c.m)
			w.want("1 < registration granted " + string(c.m.Handle) + ":1")
			w.recv(1, resolve(string(c.m.Handle)))
			if len(w.trace) != 1 || !strings.HasSuffix(w.trace[0], " 1") {
				t.Errorf("resolution: got %.200q, want element 1", w.trace)
			}
		})
	}
}

// The rejection's information is left out where it would make the response too
// long (the handle takes nearly all of it).
func TestRejectionOfHugeHandle(t *testing.T) {
	w := newWorld(t)
	w.up(1, rserpool.ViaKernel, "10.0.0.1")
	huge := strings.Repeat("x", 65484)
	w.recv(1, reg(huge, 0, "10.0.0.1"))
	w.want("1 < registration rejected " + huge + ":0 cause 3")
	huge = strings.Repeat("x", 65516)
	w.up(2, rserpool.ViaTCP, "10.0.0.1")
	w.recv(2, dereg(huge, 1)) // not even the bare cause fits
	w.want("2 < error cause a")
	huge = strings.Repeat("x", 65524)
	w.recv(1, resolve(huge))
	w.want("1 < error cause 9")
}

// RFC 5352, Section 3.2: the life ends, and the element is told.
func TestRegistrationLife(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Timers.KeepAliveInterval = 20 * time.Hour; c.Timers.Linger = time.Hour })
	w.up(1, rserpool.ViaKernel, "10.0.0.1")
	w.recv(1, reg("p", 1, "10.0.0.1", life(10)))
	w.recv(1, reg("p", 2, "10.0.0.1", life(-1)))
	w.recv(1, reg("p", 3, "10.0.0.1", life(0x7fffffff)))
	w.skip("registration granted")
	w.pass(9 * time.Second)
	w.want()
	w.recv(1, reg("p", 1, "10.0.0.1", life(5))) // which shortens and prolongs it
	w.want("1 < registration granted p:1")
	w.pass(5*time.Second - 1)
	w.want()
	w.pass(1)
	w.want("1 < deregistration p:1")
	w.wantElements("p:2", "p:3")
	if got := w.r.Stats().Removed[RemovedExpired]; got != 1 {
		t.Errorf("expired: got %d, want 1", got)
	}
	w.pass(5 * time.Hour)
	w.wantElements("p:2", "p:3")
}

// RFC 5352, Section 3.2, and Section 2.2.2: only the element itself.
func TestDeregistration(t *testing.T) {
	w := newWorld(t)
	w.up(1, rserpool.ViaKernel, "10.0.0.1", "10.0.1.1")
	w.up(2, rserpool.ViaKernel, "10.0.0.2", "10.0.0.1") // names the first one's address
	w.up(3, rserpool.ViaKernel, "10.0.1.1")             // is the first one's host
	w.up(4, rserpool.ViaTCP, "10.0.0.1")
	for id := uint32(1); id <= 3; id++ {
		w.recv(1, reg("p", id, "10.0.0.1"))
	}
	w.skip("registration granted")
	w.recv(2, dereg("p", 1))
	w.want("2 < deregistration p:1 cause a")
	w.recv(4, dereg("p", 1))
	w.want("4 < deregistration p:1 cause a")
	w.wantElements("p:1", "p:2", "p:3")
	w.recv(1, dereg("p", 1))
	w.want("1 < deregistration p:1")
	w.recv(3, dereg("p", 2))
	w.want("3 < deregistration p:2")
	w.wantElements("p:3")
	w.recv(2, dereg("p", 1)) // gone already: granted
	w.want("2 < deregistration p:1")
	w.recv(2, dereg("nothing", 1))
	w.want("2 < deregistration nothing:1")
	w.recv(1, dereg("p", 3))
	w.want("1 < deregistration p:3")
	w.wantElements()
	if p, _ := w.r.Space().Len(); p != 0 {
		t.Errorf("pools: got %d, want none", p)
	}
	w.recv(1, reg("p", 1, "10.0.0.1", policy(rserpool.Random))) // a new pool is free to choose
	w.want("1 < registration granted p:1")
	w.down(3)
	w.down(1) // has registered again
	w.want("connect #1 via 1 to [10.0.0.1:40000 10.0.1.1:40000]")
}

func TestLimits(t *testing.T) {
	limits := func(l Limits) func(*Config) { return func(c *Config) { c.Limits = l } }
	t.Run("elements", func(t *testing.T) {
		w := newWorld(t, limits(Limits{Elements: 2}))
		w.up(1, rserpool.ViaKernel, "10.0.0.1")
		w.recv(1, reg("p", 1, "10.0.0.1"))
		w.recv(1, reg("q", 1, "10.0.0.1"))
		w.recv(1, reg("q", 2, "10.0.0.1"))
		w.recv(1, reg("q", 1, "10.0.0.1"))
		w.want("1 < registration granted p:1", "1 < registration granted q:1",
			"1 < registration rejected q:2 cause 6", "1 < registration granted q:1")
	})
	t.Run("elements of an association", func(t *testing.T) {
		w := newWorld(t, limits(Limits{ElementsPerAssoc: 1}))
		w.up(1, rserpool.ViaKernel, "10.0.0.1")
		w.up(2, rserpool.ViaKernel, "10.0.0.1")
		w.recv(1, reg("p", 1, "10.0.0.1"))
		w.recv(1, reg("p", 2, "10.0.0.1"))
		w.recv(2, reg("p", 2, "10.0.0.1"))
		w.recv(2, reg("p", 1, "10.0.0.1"))
		w.want("1 < registration granted p:1", "1 < registration rejected p:2 cause 6",
			"2 < registration granted p:2", "2 < registration rejected p:1 cause 6")
	})
	t.Run("pools", func(t *testing.T) {
		w := newWorld(t, limits(Limits{Pools: 1}))
		w.up(1, rserpool.ViaKernel, "10.0.0.1")
		w.recv(1, reg("p", 1, "10.0.0.1"))
		w.recv(1, reg("q", 1, "10.0.0.1"))
		w.recv(1, reg("p", 2, "10.0.0.1"))
		w.want("1 < registration granted p:1", "1 < registration rejected q:1 cause 6", "1 < registration granted p:2")
	})
	t.Run("element bytes", func(t *testing.T) {
		w := newWorld(t, limits(Limits{ElementBytes: 300}))
		w.up(1, rserpool.ViaKernel, "10.0.0.1")
		fat := func(h string, id uint32, n int) *asap.Registration {
			m := reg(h, id, "10.0.0.1")
			m.Element.Unknown = []rserpool.Parameter{{Type: 0x8123, Value: make([]byte, n)}}
			return m
		}
		w.recv(1, fat("p", 1, 100)) // 148 and 48 for both addresses
		w.recv(1, fat("p", 2, 10))
		w.recv(1, fat("p", 1, 204))
		w.recv(1, fat("p", 1, 205))
		w.recv(1, fat("p", 1, 20))
		w.recv(1, fat("p", 2, 20))
		w.recv(1, dereg("p", 1))
		w.recv(1, fat("p", 3, 20))
		w.want("1 < registration granted p:1", "1 < registration rejected p:2 cause 6", "1 < registration granted p:1",
			"1 < registration rejected p:1 cause 6", "1 < registration granted p:1", "1 < registration granted p:2",
			"1 < deregistration p:1", "1 < registration granted p:3")
	})
	t.Run("handle bytes", func(t *testing.T) {
		w := newWorld(t, limits(Limits{HandleBytes: 5}))
		w.up(1, rserpool.ViaKernel, "10.0.0.1")
		w.recv(1, reg("abc", 1, "10.0.0.1"))
		w.recv(1, reg("def", 1, "10.0.0.1"))
		w.recv(1, reg("de", 1, "10.0.0.1"))
		w.want("1 < registration granted abc:1", "1 < registration rejected def:1 cause 6", "1 < registration granted de:1")
	})
	t.Run("handle bytes of many labels", func(t *testing.T) {
		w := newWorld(t, limits(Limits{HandleBytes: 140}))
		w.up(1, rserpool.ViaKernel, "10.0.0.1")
		w.recv(1, reg("a.b", 1, "10.0.0.1"))
		w.recv(1, reg("c.b", 1, "10.0.0.1"))
		w.recv(1, reg("c..b", 1, "10.0.0.1")) // fits no DNS name
		w.want("1 < registration granted a.b:1", "1 < registration rejected c.b:1 cause 6", "1 < registration granted c..b:1")
	})
	t.Run("handles alike", func(t *testing.T) {
		w := newWorld(t)
		w.up(1, rserpool.ViaKernel, "10.0.0.1")
		twin := func(i int) string {
			b := []byte("abcdefgh")
			for j := range b {
				b[j] -= byte(i>>j&1) * ('a' - 'A')
			}
			return string(b)
		}
		for i := range maxAlike {
			w.recv(1, reg(twin(i), 1, "10.0.0.1"))
		}
		w.skip("registration granted")
		w.recv(1, reg(twin(maxAlike), 1, "10.0.0.1"))
		w.recv(1, reg(twin(1), 2, "10.0.0.1"))
		w.recv(1, dereg(twin(2), 1))
		w.recv(1, reg(twin(maxAlike), 1, "10.0.0.1"))
		w.want("1 < registration rejected "+twin(maxAlike)+":1 cause 6", "1 < registration granted "+twin(1)+":2",
			"1 < deregistration "+twin(2)+":1", "1 < registration granted "+twin(maxAlike)+":1")
	})
	t.Run("element size", func(t *testing.T) {
		w := newWorld(t, limits(Limits{ElementSize: 50}))
		w.up(1, rserpool.ViaKernel, "10.0.0.1")
		w.recv(1, reg("p", 1, "10.0.0.1"))
		w.recv(1, reg("p", 1, "10.0.0.1", asapAt(9, "10.0.0.1")))
		w.want("1 < registration granted p:1", "1 < registration rejected p:1 cause 6")
	})
}

// RFC 5352, Section 3.1, rules 3 and 4, against RFC 5355, threat 1: who may take
// over an identifier that is taken.
func TestClaim(t *testing.T) {
	setup := func(t *testing.T, change ...func(*Config)) *world {
		w := newWorld(t, change...)
		w.up(1, rserpool.ViaKernel, "10.0.0.1", "172.17.0.1")
		w.up(2, rserpool.ViaKernel, "10.0.0.2", "172.17.0.1", "10.0.0.1") // what a peer says of itself proves nothing
		w.recv(1, reg("p", 1, "10.0.0.1"))
		w.want("1 < registration granted p:1")
		return w
	}
	t.Run("by the same host", func(t *testing.T) {
		w := setup(t)
		w.up(3, rserpool.ViaKernel, "10.0.0.1:5", "10.0.0.3")
		w.recv(3, reg("p", 1, "10.0.0.3"))
		w.want("3 < registration granted p:1")
		w.down(1) // owns nothing any more
		w.want()
		w.wantElements("p:1")
	})
	t.Run("of a living element", func(t *testing.T) {
		w := setup(t)
		w.recv(2, reg("p", 1, "10.0.0.2"))
		w.want("1 < keep-alive p:1 from 10000001")
		w.recv(2, reg("p", 1, "10.0.0.2")) // once more
		w.want()
		w.up(3, rserpool.ViaKernel, "10.0.0.3")
		w.recv(3, reg("p", 1, "10.0.0.3")) // a third one
		w.want("3 < registration rejected p:1 cause 4")
		w.recv(2, ack("p", 1)) // forged
		w.want()
		w.recv(1, ack("p", 1))
		w.want("2 < registration rejected p:1 cause 4")
		w.recv(2, reg("p", 1, "10.0.0.2")) // at once again: asked a second later
		w.want()
		w.until(time.Second)
		w.want("1 < keep-alive p:1 from 10000001")
		w.recv(1, reg("p", 1, "10.0.0.1")) // a sign of life, too
		w.want("2 < registration rejected p:1 cause 4", "1 < registration granted p:1")
	})
	t.Run("of a dead element", func(t *testing.T) {
		w := setup(t)
		w.recv(2, reg("p", 1, "10.0.0.2"))
		w.want("1 < keep-alive p:1 from 10000001")
		w.until(5 * time.Second)
		w.want("1 < deregistration p:1", "2 < registration granted p:1")
		w.wantElements("p:1")
		if got := w.r.Space().Pool("p").Element(1).UserTransport.Addrs[0].String(); got != "10.0.0.2" {
			t.Errorf("element is at %v, want the new host", got)
		}
	})
	t.Run("of a dead element, and once more with what is refused", func(t *testing.T) {
		w := setup(t)
		w.recv(2, reg("p", 1, "10.0.0.2"))
		w.want("1 < keep-alive p:1 from 10000001")
		w.recv(2, reg("p", 1, "10.0.0.9")) // as a re-registration that is refused, it changes nothing
		w.want("2 < registration rejected p:1 cause 3(0006001000070000000100080a000009)")
		w.until(5 * time.Second)
		w.want("1 < deregistration p:1", "2 < registration granted p:1")
		w.wantElements("p:1")
	})
	t.Run("of an element that deregisters", func(t *testing.T) {
		w := setup(t)
		w.recv(2, reg("p", 1, "10.0.0.2"))
		w.want("1 < keep-alive p:1 from 10000001")
		w.recv(1, dereg("p", 1))
		w.want("2 < registration granted p:1", "1 < deregistration p:1")
		w.wantElements("p:1")
	})
	t.Run("of an element that too many report", func(t *testing.T) {
		w := setup(t, func(c *Config) { c.Timers.MaxBadPEReport = 1 })
		w.recv(2, reg("p", 1, "10.0.0.2"))
		w.want("1 < keep-alive p:1 from 10000001")
		w.recv(2, unreachable("p", 1))
		w.want()
		w.up(3, rserpool.ViaKernel, "10.0.0.3")
		w.recv(3, unreachable("p", 1))
		w.want("2 < registration granted p:1")
		w.wantElements("p:1")
	})
	t.Run("of a probed element", func(t *testing.T) {
		for _, alive := range []bool{false, true} {
			w := setup(t)
			w.down(1)
			w.want("connect #1 via 1 to [10.0.0.1:40000 172.17.0.1:40000]")
			w.handle(Connecting{Ref: 1, Assoc: 9})
			w.recv(2, reg("p", 1, "10.0.0.2"))
			w.want()
			if alive {
				w.up(9, rserpool.ViaKernel, "10.0.0.1", "172.17.0.1")
				w.want("9 < keep-alive p:1 from 10000001")
				w.recv(9, ack("p", 1))
				w.want("2 < registration rejected p:1 cause 4")
			} else {
				w.down(9)
				w.want("2 < registration granted p:1")
			}
			w.wantElements("p:1")
		}
	})
	t.Run("by the host of a probed element", func(t *testing.T) {
		w := setup(t)
		w.down(1)
		w.want("connect #1 via 1 to [10.0.0.1:40000 172.17.0.1:40000]")
		w.handle(Connecting{Ref: 1, Assoc: 9})
		w.up(3, rserpool.ViaKernel, "10.0.0.1:7")
		w.recv(3, reg("p", 1, "10.0.0.1"))
		w.want("9 abort", "3 < registration granted p:1")
		w.down(9)
		w.want()
	})
	t.Run("that is lost", func(t *testing.T) {
		w := setup(t)
		w.recv(2, reg("p", 1, "10.0.0.2"))
		w.want("1 < keep-alive p:1 from 10000001")
		w.down(2)
		w.recv(1, ack("p", 1))
		w.want()
	})
	t.Run("that does not fit any more", func(t *testing.T) {
		w := setup(t)
		w.recv(1, reg("p", 2, "10.0.0.1"))
		w.want("1 < registration granted p:2")
		w.recv(2, reg("p", 1, "10.0.0.2", policy(rserpool.Random)))
		w.want("1 < keep-alive p:1 from 10000001")
		w.recv(1, dereg("p", 1))
		w.want("2 < registration rejected p:1 cause 5(0008000800000001)", "1 < deregistration p:1")
		w.wantElements("p:2")
	})
	t.Run("by a peer that is of the element's host now", func(t *testing.T) {
		w := setup(t)
		w.up(3, rserpool.ViaKernel, "10.0.0.3")
		w.recv(3, reg("p", 1, "10.0.0.3"))
		w.want("1 < keep-alive p:1 from 10000001")
		w.handle(AssocAddrs{Assoc: 1, Peer: peers("10.0.0.1", "10.0.0.3")})
		w.recv(3, reg("p", 1, "10.0.0.3"))
		w.want("3 < registration granted p:1") // and nothing else
	})
	t.Run("too many", func(t *testing.T) {
		w := setup(t, func(c *Config) { c.Limits.ClaimsPerAssoc = 1 })
		w.recv(1, reg("q", 1, "10.0.0.1"))
		w.recv(2, reg("p", 1, "10.0.0.2"))
		w.recv(2, reg("q", 1, "10.0.0.2"))
		w.want("1 < registration granted q:1", "1 < keep-alive p:1 from 10000001", "2 < registration rejected q:1 cause 6")
	})
}
