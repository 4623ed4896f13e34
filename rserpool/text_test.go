package rserpool

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var (
	v4  = netip.MustParseAddr("192.0.2.1")
	v4b = netip.MustParseAddr("192.0.2.2")
	v6  = netip.MustParseAddr("2001:db8::1")
)

// compareAddrs lets go-cmp compare addresses.
var compareAddrs = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

func TestString(t *testing.T) {
	tests := []struct {
		value fmt.Stringer
		want  string
	}{
		{ParameterType(9), "Pool Handle"},
		{ParameterType(0x10), "Opaque Transport"},
		{ParameterType(0x803f), "Handle Resolution Items"},
		{ParameterType(0), "0x0000"},
		{ParameterType(0x11), "0x0011"},
		{ParameterType(0xc123), "0xc123"},
		{PEID(0x51), "00000051"},
		{ServerID(0x10000001), "10000001"},
		{CauseInvalidValues, "invalid values"},
		{CauseSecurity, "rejected for security reasons"},
		{CauseCode(0xf008), "error cause 0xf008"},
		{Cause{CauseInvalidValues, []byte{0, 9, 0, 4}}, "invalid values (Pool Handle parameter)"},
		{Cause{CauseInvalidValues, []byte{5, 0, 0, 4}}, "invalid values"},
		{Cause{CauseInvalidValues, []byte{0, 6, 0, 16, 0, 7, 0, 0, 0, 1, 0, 8, 172, 17, 0, 2}}, "invalid values (UDP Transport parameter)"},
		{Cause{CauseInvalidValues, []byte{0, 6, 0, 16, 0, 7, 0, 0, 0, 1, 0, 8, 172, 17, 0, 2, 0, 6, 0, 16, 0, 7}}, "invalid values (UDP Transport parameter)"},
		{Cause{CauseInvalidValues, []byte{5}}, "invalid values"},
		{Cause{CauseUnrecognizedParameter, []byte{0x41, 0x23, 0, 4}}, "unrecognized parameter (0x4123 parameter)"},
		{Cause{CauseUnrecognizedMessage, []byte{0x7f}}, "unrecognized message (type 0x7f)"},
		{Cause{CauseUnrecognizedMessage, nil}, "unrecognized message"},
		{DataOnly, "data only"},
		{DataPlusControl, "data plus control"},
		{TransportUse(2), "transport use 0x0002"},
		{Transport{}, "no transport"},
		{
			Transport{Type: SCTP, Port: 5001, Use: DataPlusControl, Addrs: []netip.Addr{v4, v6}},
			"sctp 192.0.2.1,2001:db8::1 port 5001 (data plus control)",
		},
		{Transport{Type: DCCP, Port: 4, ServiceCode: 7, Addrs: []netip.Addr{v4}}, "dccp 192.0.2.1 port 4 service code 7"},
		{Transport{Type: Opaque, Opaque: []byte{1, 0xff}}, "opaque 01ff"},
		{Policy{}, "no policy"},
		{Policy{Type: RoundRobin}, "RoundRobin"},
		{Policy{Type: WeightedRandom, Weight: 7, Extra: "\x01"}, "WeightedRandom weight 7 and 01"},
		{Policy{Type: Priority, Priority: 5}, "Priority priority 5"},
		{
			Policy{Type: LeastUsedDegradationDPF, Load: 0x80000000, LoadDegradation: 0xffffffff, DPF: 0, Distance: 50},
			"LeastUsedDegradationDPF load 50.0% degradation 100.0% dpf 0.0% distance 50",
		},
		{Policy{Type: 0x12345678}, "0x12345678"},
	}
	for _, tt := range tests {
		if got := tt.value.String(); got != tt.want {
			t.Errorf("String() of %#v = %q, want %q", tt.value, got, tt.want)
		}
	}
}

func TestProtocol(t *testing.T) {
	if got := TransportType(8); got.Known() || got.String() != "0x0008" {
		t.Errorf("type 8 is %v, known %v", got, got.Known())
	}
	for typ, want := range map[TransportType]string{
		0: "", DCCP: "dccp", SCTP: "sctp", TCP: "tcp",
		UDP: "udp", UDPLite: "udplite", Opaque: "opaque",
	} {
		tr := Transport{Type: typ}
		if got := tr.Type.String(); got != want {
			t.Errorf("String() of type %d = %q, want %q", typ, got, want)
		}
		if got := tr.Present(); got != (typ != 0) {
			t.Errorf("Present() of type %v = %v", typ, got)
		}
		if got := typ.Known(); got != (want != "") {
			t.Errorf("Known() of type %v = %v", typ, got)
		}
	}
}

func TestTransportEqual(t *testing.T) {
	a := Transport{Type: SCTP, Port: 1, Use: 1, Addrs: []netip.Addr{v4, v6}}
	if !a.Equal(a.Clone()) {
		t.Errorf("%v is not equal to its clone", a)
	}
	for name, change := range map[string]func(*Transport){
		"type":         func(u *Transport) { u.Type = TCP },
		"port":         func(u *Transport) { u.Port++ },
		"use":          func(u *Transport) { u.Use = 0 },
		"service code": func(u *Transport) { u.ServiceCode++ },
		"address":      func(u *Transport) { u.Addrs[0] = v4b },
		"order":        func(u *Transport) { u.Addrs[0], u.Addrs[1] = u.Addrs[1], u.Addrs[0] },
		"opaque":       func(u *Transport) { u.Opaque = []byte{1} },
	} {
		u := a.Clone()
		change(&u)
		if a.Equal(u) {
			t.Errorf("transports that differ in %s are equal: %v, %v", name, a, u)
		}
	}
}

func TestPoolElementClone(t *testing.T) {
	fill := func() PoolElement {
		return PoolElement{
			ID:            1,
			UserTransport: Transport{Type: Opaque, Opaque: []byte{1}},
			ASAPTransport: Transport{Type: SCTP, Addrs: []netip.Addr{v4}},
			Unknown:       []Parameter{{Type: 0x8123, Value: []byte{1}}},
		}
	}
	e := fill()
	c := e.Clone()
	e.UserTransport.Opaque[0] = 2
	e.ASAPTransport.Addrs[0] = v6
	e.Unknown[0].Value[0] = 2
	e.Unknown[0].Type = 0x8124
	if diff := cmp.Diff(fill(), c, compareAddrs); diff != "" {
		t.Errorf("clone shares memory with the element (-want +got):\n%s", diff)
	}
}

func TestParsePolicyType(t *testing.T) {
	for i := range policies {
		want := policies[i].typ
		for _, s := range []string{want.String(), strings.ToLower(want.String()), fmt.Sprintf("%#x", uint32(want)), fmt.Sprint(uint32(want))} {
			if got, err := ParsePolicyType(s); got != want || err != nil {
				t.Errorf("ParsePolicyType(%q) = %v, %v, want %v", s, got, err, want)
			}
		}
	}
	for _, tt := range []struct {
		s    string
		want PolicyType
		text string
	}{
		{"weighted-round-robin", WeightedRoundRobin, ""},
		{"least_used", LeastUsed, ""},
		{"0x12345678", 0x12345678, ""},
		{"0", 0, "reserved"},
		{"0x40000000", 0, "reserved"},
		{"", 0, "want one of RoundRobin, WeightedRoundRobin, Random,"},
		{"Best", 0, `unknown policy "Best": want one of RoundRobin,`},
		{"0x100000000", 0, "unknown policy"},
	} {
		got, err := ParsePolicyType(tt.s)
		if got != tt.want || (err == nil) != (tt.text == "") || err != nil && !strings.Contains(err.Error(), tt.text) {
			t.Errorf("ParsePolicyType(%q) = %v, %v, want %v, %q", tt.s, got, err, tt.want, tt.text)
		}
	}
}

func TestPolicyTypes(t *testing.T) {
	all := []PolicyType{0x40001234, 0xc0001234, 0x12345678, 0xb0002004}
	for i := range policies {
		all = append(all, policies[i].typ)
	}
	for i, p := range all {
		if got, want := p.Known(), i >= 4; got != want {
			t.Errorf("%v: Known() = %v, want %v", p, got, want)
		}
	}
}
