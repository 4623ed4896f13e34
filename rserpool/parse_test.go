package rserpool

import (
	"encoding"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// checkText checks that a value survives the way through text.
func checkText(t *testing.T, v encoding.TextMarshaler, want string) {
	t.Helper()
	text, err := v.MarshalText()
	if err != nil || string(text) != want {
		t.Errorf("MarshalText() of %#v = %q, %v, want %q", v, text, err, want)
		return
	}
	p := reflect.New(reflect.TypeOf(v))
	if err := p.Interface().(encoding.TextUnmarshaler).UnmarshalText(text); err != nil {
		t.Errorf("UnmarshalText(%q): %v", text, err)
		return
	}
	if diff := cmp.Diff(v, p.Elem().Interface(), compareAddrs); diff != "" {
		t.Errorf("%q read again (-want +got):\n%s", text, diff)
	}
}

func TestText(t *testing.T) {
	for want, v := range map[string]encoding.TextMarshaler{
		"0d000001":           PEID(0x0d000001),
		"00000000":           PEID(0),
		"10000001":           ServerID(0x10000001),
		"kernel":             ViaKernel,
		"auto":               ViaAuto,
		"WeightedRoundRobin": WeightedRoundRobin,
		"0x12345678":         PolicyType(0x12345678),
		"udplite":            UDPLite,
		"":                   TransportType(0),

		"RoundRobin":                             Policy{Type: RoundRobin},
		"WeightedRandom:weight=0":                Policy{Type: WeightedRandom},
		"Priority:priority=4294967295":           Policy{Type: Priority, Priority: 0xffffffff},
		"LeastUsed:load=1":                       Policy{Type: LeastUsed, Load: 0xffffffff},
		"RoundRobin:extra=01ff":                  Policy{Type: RoundRobin, Extra: "\x01\xff"},
		"0x12345678:extra=ff":                    Policy{Type: 0x12345678, Extra: "\xff"},
		"LeastUsedDPF:load=0.2,dpf=0,distance=7": Policy{Type: LeastUsedDPF, Load: 0x33333333, Distance: 7},

		"tcp:8080":         Transport{Type: TCP, Port: 8080},
		"udp:192.0.2.1:53": Transport{Type: UDP, Port: 53, Addrs: []netip.Addr{v4}},
		"sctp:192.0.2.1:1,[2001:db8::1]:1+control": Transport{Type: SCTP, Port: 1, Use: DataPlusControl, Addrs: []netip.Addr{v4, v6}},
		"sctp:7+control":                   Transport{Type: SCTP, Port: 7, Use: DataPlusControl},
		"dccp:192.0.2.1:4/42":              Transport{Type: DCCP, Port: 4, ServiceCode: 42, Addrs: []netip.Addr{v4}},
		"opaque:01ff":                      Transport{Type: Opaque, Opaque: []byte{1, 255}},
		"opaque:":                          Transport{Type: Opaque},
		"tcp:0":                            Transport{Type: TCP},
		"sctp:0+control":                   Transport{Type: SCTP, Use: DataPlusControl},
		"udp:192.0.2.1:0":                  Transport{Type: UDP, Addrs: []netip.Addr{v4}},
		"dccp:0/42":                        Transport{Type: DCCP, ServiceCode: 42},
		"sctp:192.0.2.1:0,[2001:db8::1]:0": Transport{Type: SCTP, Addrs: []netip.Addr{v4, v6}},

		"192.0.2.1":                         Registrar{Addrs: []netip.Addr{v4}},
		"2001:db8::1/9900":                  Registrar{Addrs: []netip.Addr{v6}, EncapPort: 9900},
		"192.0.2.1:4000,[2001:db8::1]:4000": Registrar{Addrs: []netip.Addr{v4, v6}, Port: 4000},
		"registrar.example.org":             Registrar{Host: "registrar.example.org"},
		"registrar.example.org:4000/tcp":    Registrar{Host: "registrar.example.org", Port: 4000, TCP: true},
	} {
		checkText(t, v, want)
	}
	for _, zero := range []encoding.TextMarshaler{Policy{}, PolicyType(0), Transport{}, Registrar{}} {
		checkText(t, zero, "")
	}
	for i := range policies { // each fraction survives
		p := Policy{Type: policies[i].typ}
		for n, f := range p.Type.Fields() {
			*p.Field(f) = 0x01234567 * uint32(3*n+1)
		}
		text, _ := p.MarshalText()
		if got, err := ParsePolicy(string(text)); got != p || err != nil {
			t.Errorf("%s: read %+v, %v, want %+v", text, got, err, p)
		}
	}
}

func TestParsePolicy(t *testing.T) {
	for in, want := range map[string]Policy{
		"WeightedRoundRobin":   {Type: WeightedRoundRobin, Weight: 1},
		"wrr:7":                {Type: WeightedRoundRobin, Weight: 7},
		"LU:25%":               {Type: LeastUsed, Load: 0x40000000},
		"LUD:degradation=0.25": {Type: LeastUsedDegradation, LoadDegradation: 0x40000000},
	} {
		if got, err := ParsePolicy(in); err != nil || got != want {
			t.Errorf("ParsePolicy(%q) = %+v, %v, want %+v", in, got, err, want)
		}
	}
	for in, want := range map[string]string{
		"":                      "unknown policy",
		"RoundRobin:1":          "no value allowed: RoundRobin has none",
		"WRR:x":                 "not a number",
		"LU:1.5":                "not a fraction",
		"LU:NaN":                "not a fraction",
		"LUD:0.5":               "want LeastUsedDegradation:load=...,degradation=...",
		"LUD:weight=1":          `no value "weight"`,
		"WRR:weight=1,weight=2": "weight is given twice",
		"0x12345678:7":          "no value allowed",
	} {
		if got, err := ParsePolicy(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParsePolicy(%q) = %+v, %v, want an error with %q", in, got, err, want)
		}
	}
}

func TestParseFraction(t *testing.T) {
	for in, want := range map[string]float64{"0": 0, "1": 1, "0.25": 0.25, ".5": 0.5, "25%": 0.25, "100%": 1, "0%": 0, "12.5%": 0.125} {
		if got, err := ParseFraction(in); err != nil || got != want {
			t.Errorf("ParseFraction(%q) = %v, %v, want %v", in, got, err, want)
		}
	}
	for _, bad := range []string{"", "x", "-0.1", "1.1", "101%", "%", "NaN", "Inf", "25 %"} {
		if got, err := ParseFraction(bad); err == nil {
			t.Errorf("ParseFraction(%q) = %v, want an error", bad, got)
		}
	}
}

func TestFraction(t *testing.T) {
	for f, want := range map[float64]uint32{-1: 0, 0: 0, 0.25: 0x40000000, 0.5: 0x80000000, 1: 0xffffffff, 2: 0xffffffff} {
		if got := FromFraction(f); got != want {
			t.Errorf("FromFraction(%v) = %#x, want %#x", f, got, want)
		}
	}
	if got := ToFraction(0xffffffff); got != 1 {
		t.Errorf("ToFraction(0xffffffff) = %v", got)
	}
}

func TestParseTransport(t *testing.T) {
	if got, err := ParseTransport("SCTP:[2001:db8::1]:7,192.0.2.1"); err != nil || !got.Equal(Transport{Type: SCTP, Port: 7, Addrs: []netip.Addr{v6, v4}}) {
		t.Errorf("got %v, %v", got, err)
	}
	for _, bad := range []string{
		"", "8080", "tcp", "tcp:", "tcp:0", "tcp:65536", "tcp:http", "quic:1", "tcp:1/2", "dccp:1/x", "tcp:192.0.2.1",
		"tcp:192.0.2.1:1,192.0.2.2:1", "tcp:1+control", "opaque:x", "tcp:192.0.2.1:0",
	} {
		if got, err := ParseTransport(bad); err == nil {
			t.Errorf("ParseTransport(%q) = %v, want an error", bad, got)
		}
	}
	for _, bad := range []string{"tcp:192.0.2.1", "tcp:65536", "sctp:192.0.2.1:0,192.0.2.2:1", "sctp:192.0.2.1,192.0.2.2:0"} {
		if err := new(Transport).UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("UnmarshalText(%q) gives no error", bad)
		}
	}
	for _, unfit := range []Transport{{Type: 99, Port: 1}, {Type: SCTP, Use: 7}} {
		if text, err := unfit.MarshalText(); err == nil {
			t.Errorf("MarshalText() of %v = %q", unfit, text)
		}
	}
}

func TestParseIdentifiers(t *testing.T) {
	for _, in := range []string{"0d000001", "0x0d000001", "0X0D000001", "pe-0d000001", "d000001"} {
		if got, err := ParsePEID(in); err != nil || got != 0x0d000001 {
			t.Errorf("ParsePEID(%q) = %v, %v", in, got, err)
		}
	}
	for _, bad := range []string{"", "0x", "pe-", "123456789", "xyz"} {
		if got, err := ParsePEID(bad); err == nil {
			t.Errorf("ParsePEID(%q) = %v", bad, got)
		}
		if got, err := ParseServerID(bad); err == nil {
			t.Errorf("ParseServerID(%q) = %v", bad, got)
		}
	}
	defer func() {
		if p := recover(); p == nil || !strings.Contains(fmt.Sprint(p), "not an element identifier") {
			t.Errorf("MustParsePEID panics with %v", p)
		}
	}()
	MustParsePEID("x")
}

// TestParseRegistrarZone: the zone of a link-local address ends at the bracket.
func TestParseRegistrarZone(t *testing.T) {
	r, err := ParseRegistrar("[fe80::1%eth0]:4000/9900")
	if want := netip.MustParseAddrPort("[fe80::1%eth0]:4000"); err != nil || len(r.Addrs) != 1 || r.AddrPorts()[0] != want || r.EncapPort != 9900 {
		t.Errorf("got %+v, %v, want %v", r, err, want)
	}
}

func TestParseRegistrar(t *testing.T) {
	for _, c := range []struct {
		in, want, err string
	}{
		{in: "192.0.2.1", want: "192.0.2.1"},
		{in: "192.0.2.1:4000", want: "192.0.2.1:4000"},
		{in: "2001:db8::1", want: "2001:db8::1"},
		{in: "fd98:1::53", want: "fd98:1::53"},
		{in: "abcd::", want: "abcd::"},
		{in: "[2001:db8::1]", want: "2001:db8::1"},
		{in: "[2001:db8::1]:4000", want: "[2001:db8::1]:4000"},
		{in: "::ffff:192.0.2.1", want: "192.0.2.1"},
		{in: "192.0.2.1:4000,2001:db8::1", want: "192.0.2.1:4000,[2001:db8::1]:4000"},
		{in: "192.0.2.1,2001:db8::1", want: "192.0.2.1,2001:db8::1"},
		{in: "192.0.2.1/9900", want: "192.0.2.1/9900"},
		{in: "192.0.2.1:4000/9899", want: "192.0.2.1:4000"},
		{in: "192.0.2.1:4000/tcp", want: "192.0.2.1:4000/tcp"},
		{in: "192.0.2.1/0", err: "UDP port"},
		{in: "192.0.2.1/x", err: "UDP port"},
		{in: "192.0.2.1:1/2,192.0.2.2:1", err: "give several registrars one by one"},
		{in: "a.example.org:1/2,b.example.org:1", err: "give several registrars one by one"},
		{in: "192.0.2.1/tcp,192.0.2.2", err: "give several registrars one by one"},
		{in: "a.example.org:1,b.example.org:1", err: "separates addresses"},
		{in: "192.0.2.1:4000,192.0.2.2:5000", err: "same port"},
		{in: "192.0.2.1:0", err: "is not ADDRESS"},
		{in: "[2001:db8::1]:0", err: "is not ADDRESS"},
		{in: "", err: "is not ADDRESS"},
		{in: "example.org", want: "example.org"},
		{in: "my_registrar.:4000/9900", want: "my_registrar.:4000/9900"},
		{in: "example.org:http", err: "not a port"},
		{in: "example.org:", err: "not a port"},
		{in: "192.0.2.300", err: "is not ADDRESS"},
		{in: "a b", err: "is not ADDRESS"},
		{in: "http://127.0.0.1", err: "is a URL"},
		{in: "example.org,192.0.2.1", err: "separates addresses"},
		{in: "192.0.2.1:99999", err: "is not ADDRESS"},
		{in: "0.0.0.0", err: "0.0.0.0 is not an address of a host"},
		{in: "[::]:3863", err: ":: is not an address of a host"},
		{in: "192.0.2.1,224.0.1.185", err: "224.0.1.185 is not an address of a host"},
	} {
		t.Run(c.in, func(t *testing.T) {
			r, err := ParseRegistrar(c.in)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("error %v, want one with %q", err, c.err)
				}
				return
			}
			if err != nil || r.String() != c.want {
				t.Errorf("got %v, %v, want %s", r, err, c.want)
			}
		})
	}
}
