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

// What TestRegistrationRejected has refused is granted with another policy, transport
// or use in another pool, and so are loopback addresses if the association comes over
// the loopback.
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

// RFC 5352, Section 3.2: the life ends, and the element gets a deregistration response.
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
	w.want("1" + ka1) // it may be silent
	w.recv(1, ack("p", 1))
	w.want("1 < deregistration p:1")
	w.wantElements("p:2", "p:3")
	if got := w.r.Stats().Removed[RemovedExpired]; got != 1 {
		t.Errorf("expired: got %d, want 1", got)
	}
	w.pass(5 * time.Hour)
	w.wantElements("p:2", "p:3")
}
