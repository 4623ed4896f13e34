package tlv

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rserpool/coredns-rserpool/internal/tlv/tlvtest"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// message puts parameters into a message.
func message(params []byte) []byte {
	b := binary.BigEndian.AppendUint16([]byte{0x01, 0x00}, uint16(4+len(params)))
	return append(b, params...)
}

var (
	v4  = netip.MustParseAddr("192.0.2.1")
	v4b = netip.MustParseAddr("192.0.2.2")
	v6  = netip.MustParseAddr("2001:db8::1")
)

// Types that tell the test which parameter a value is.
type (
	items    uint32
	checksum uint16
	cookie   string
)

// read reads the current parameter by its type.
func read(c *Cursor) any {
	switch t := c.Type(); {
	case t == TypePoolHandle:
		return c.PoolHandle()
	case t == TypePEIdentifier:
		return c.PEID()
	case t == TypePEChecksum:
		return checksum(c.PEChecksum())
	case t == TypeHandleResolutionItems:
		return items(c.Items())
	case t == TypeCookie:
		return cookie(c.Cookie())
	case t == TypePolicy:
		return c.Policy()
	case t == TypePoolElement:
		e := rserpool.PoolElement{ID: 99, Unknown: []rserpool.Parameter{{Type: 99}}} // to be overwritten
		c.PoolElement(&e)
		return e
	case t == TypeServerInformation:
		s := rserpool.ServerInformation{ID: 99, Unknown: []rserpool.Parameter{{Type: 99}}}
		c.ServerInformation(&s)
		return s
	case t == TypeOperationError:
		return c.Causes(nil)
	case IsTransport(t):
		return c.Transport()
	}
	return c.Unknown(nil)
}

// write writes a value that read gives.
func write(w *Builder, v any) {
	switch v := v.(type) {
	case rserpool.PoolHandle:
		w.PoolHandle(v)
	case rserpool.PEID:
		w.PEID(v)
	case checksum:
		w.PEChecksum(uint16(v))
	case items:
		w.Items(uint32(v))
	case cookie:
		w.Cookie([]byte(v))
	case rserpool.Policy:
		w.Policy(v)
	case rserpool.PoolElement:
		w.PoolElement(&v)
	case rserpool.ServerInformation:
		w.ServerInformation(&v)
	case []rserpool.Cause:
		w.Causes(v)
	case rserpool.Transport:
		w.Transport(&v)
	case []rserpool.Parameter:
		w.Unknown(v)
	default:
		panic("no such parameter")
	}
}

var sctp1 = rserpool.Transport{Type: rserpool.SCTP, Port: 5001, Addrs: []netip.Addr{v4}}

// parameters are parameters with their form on the wire, both ways.
var parameters = []struct {
	name  string
	value any
	hex   string
}{
	{"pool handle", rserpool.PoolHandle("EchoPool"), `
		0009 000c              # type, length
		4563686f506f6f6c       # "EchoPool"`},
	{"pool handle with padding", rserpool.PoolHandle("a\x00\xff"), `
		0009 0007              # length without padding
		6100ff 00              # any bytes, padding`},
	{"PE identifier", rserpool.PEID(0xfedcba98), "000e 0008 fedcba98"},
	{"PE checksum", checksum(0x20d3), `
		000f 0006 20d3
		0000                   # padding`},
	{"items", items(3), "803f 0008 00000003"},
	{"cookie", cookie("cookie"), "000d 000a 636f6f6b6965 0000"},
	{"empty cookie", cookie(""), "000d 0004"},
	{"unknown, skip", []rserpool.Parameter{{Type: 0x8123, Value: []byte("abcde")}}, "8123 0009 6162636465 000000"},
	{"unknown, skip and report", []rserpool.Parameter{{Type: 0xc123, Value: nil}}, "c123 0004"},
	{"reserved type", []rserpool.Parameter{{Type: 0xffff, Value: []byte{1}}}, "ffff 0005 01 000000"},

	{"SCTP", rserpool.Transport{Type: rserpool.SCTP, Port: 5001, Use: rserpool.DataPlusControl, Addrs: []netip.Addr{v4}}, `
		0004 0010
		1389 0001              # port, transport use
		0001 0008 c0000201     # IPv4 address`},
	{"SCTP, three addresses", rserpool.Transport{Type: rserpool.SCTP, Port: 1, Addrs: []netip.Addr{v6, v4, v4b}}, `
		0004 002c
		0001 0000
		0002 0014 20010db8 00000000 00000000 00000001 # IPv6 address
		0001 0008 c0000201
		0001 0008 c0000202`},
	{"IPv4-mapped address", rserpool.Transport{Type: rserpool.UDP, Port: 53, Addrs: []netip.Addr{netip.MustParseAddr("::ffff:192.0.2.1")}}, `
		0006 001c 0035 0000
		0002 0014 00000000 00000000 0000ffff c0000201`},
	{"TCP", rserpool.Transport{Type: rserpool.TCP, Port: 80, Addrs: []netip.Addr{v6}}, `
		0005 001c
		0050 0000              # port, reserved
		0002 0014 20010db8 00000000 00000000 00000001`},
	{"UDP", rserpool.Transport{Type: rserpool.UDP, Port: 53, Addrs: []netip.Addr{v4}}, "0006 0010 0035 0000 0001 0008 c0000201"},
	{"UDP-Lite", rserpool.Transport{Type: rserpool.UDPLite, Port: 53, Addrs: []netip.Addr{v4}}, "0007 0010 0035 0000 0001 0008 c0000201"},
	{"DCCP", rserpool.Transport{Type: rserpool.DCCP, Port: 4, ServiceCode: 0x64697363, Addrs: []netip.Addr{v4}}, `
		0003 0014
		0004 0000              # port, reserved
		64697363               # service code
		0001 0008 c0000201`},
	{"opaque", rserpool.Transport{Type: rserpool.Opaque, Opaque: []byte("xyz")}, "0010 0007 78797a 00"},
	{"opaque, empty", rserpool.Transport{Type: rserpool.Opaque}, "0010 0004"},

	{"pool element", rserpool.PoolElement{
		ID: 0x51, Home: 0x10000001, Life: 60000, UserTransport: sctp1,
		Policy:        rserpool.Policy{Type: rserpool.RoundRobin},
		ASAPTransport: rserpool.Transport{Type: rserpool.SCTP, Port: 5901, Addrs: []netip.Addr{v4b}},
	}, `
		000a 0038
		00000051               # PE identifier
		10000001               # home
		0000ea60               # registration life
		0004 0010 1389 0000 0001 0008 c0000201 # user transport
		0008 0008 00000001     # policy
		0004 0010 170d 0000 0001 0008 c0000202 # ASAP transport`},
	{"pool element in UDP", rserpool.PoolElement{
		ID: 1, EncapPort: 9899, UserTransport: sctp1, Policy: rserpool.Policy{Type: rserpool.RoundRobin}, Unknown: []rserpool.Parameter{{Type: 0x8001, Value: nil}},
	}, `
		000a 0034
		00000001 00000000 00000000
		0004 0010 1389 0000 0001 0008 c0000201
		0008 0008 00000001
		9b27 0008 26ab 0000    # UDP port, reserved
		8001 0004`},
	{"pool element with a UDP port for users", rserpool.PoolElement{
		ID: 1, EncapPort: 9899, UserTransport: sctp1, UserEncapPort: 9900, Policy: rserpool.Policy{Type: rserpool.RoundRobin},
	}, `
		000a 0038
		00000001 00000000 00000000
		0004 0010 1389 0000 0001 0008 c0000201
		0008 0008 00000001
		9b27 0008 26ab 0000    # UDP port of the ASAP transport, reserved
		9b28 0008 26ac 0000    # UDP port of the user transport, reserved`},
	{"pool element, bare", rserpool.PoolElement{ID: 1, Life: -1}, "000a 0010 00000001 00000000 ffffffff"},
	{"pool element with unknown parameters", rserpool.PoolElement{
		ID: 1, UserTransport: rserpool.Transport{Type: rserpool.Opaque, Opaque: []byte{7}},
		Policy:  rserpool.Policy{Type: 0x12345678, Extra: "\x01"},
		Unknown: []rserpool.Parameter{{Type: 0x8001, Value: nil}, {Type: 0xc002, Value: []byte("abcde")}},
	}, `
		000a 0031              # length with all paddings but the last
		00000001 00000000 00000000
		0010 0005 07 000000
		0008 0009 12345678 01 000000
		8001 0004
		c002 0009 6162636465
		000000                 # the last padding`},

	{"server information", rserpool.ServerInformation{
		ID: 0x70000007, Transport: rserpool.Transport{Type: rserpool.SCTP, Port: 9901, Addrs: []netip.Addr{v4}},
		Unknown: []rserpool.Parameter{{Type: 0x8123, Value: []byte("abcd")}},
	}, `
		000b 0020
		70000007               # server identifier
		0004 0010 26ad 0000 0001 0008 c0000201
		8123 0008 61626364`},

	{"operation error", []rserpool.Cause{{Code: rserpool.CauseUnknownPoolHandle, Info: nil}, {Code: 0xf008, Info: []byte{1, 2, 3}}}, `
		000c 000f              # length without the last padding
		0009 0004
		f008 0007 010203
		00`},

	{"RoundRobin", rserpool.Policy{Type: rserpool.RoundRobin}, "0008 0008 00000001"},
	{"WeightedRoundRobin", rserpool.Policy{Type: rserpool.WeightedRoundRobin, Weight: 7}, "0008 000c 00000002 00000007"},
	{"Random", rserpool.Policy{Type: rserpool.Random}, "0008 0008 00000003"},
	{"WeightedRandom", rserpool.Policy{Type: rserpool.WeightedRandom, Weight: 13}, "0008 000c 00000004 0000000d"},
	{"Priority", rserpool.Policy{Type: rserpool.Priority, Priority: 5}, "0008 000c 00000005 00000005"},
	{"LeastUsed", rserpool.Policy{Type: rserpool.LeastUsed, Load: 1}, "0008 000c 40000001 00000001"},
	{"LeastUsedDegradation", rserpool.Policy{Type: rserpool.LeastUsedDegradation, Load: 1, LoadDegradation: 2}, "0008 0010 40000002 00000001 00000002"},
	{"PriorityLeastUsed", rserpool.Policy{Type: rserpool.PriorityLeastUsed, Load: 1, LoadDegradation: 2}, "0008 0010 40000003 00000001 00000002"},
	{"RandomizedLeastUsed", rserpool.Policy{Type: rserpool.RandomizedLeastUsed, Load: 1}, "0008 000c 40000004 00000001"},
	{"RandomizedPriorityLeastUsed", rserpool.Policy{Type: rserpool.RandomizedPriorityLeastUsed, Load: 1, LoadDegradation: 2}, "0008 0010 b0001001 00000001 00000002"},
	{"RandomizedLeastUsedDegradation", rserpool.Policy{Type: rserpool.RandomizedLeastUsedDegradation, Load: 1, LoadDegradation: 2}, "0008 0010 b0001002 00000001 00000002"},
	{"PriorityLeastUsedDegradation", rserpool.Policy{Type: rserpool.PriorityLeastUsedDegradation, Load: 1, LoadDegradation: 2}, "0008 0010 b0001003 00000001 00000002"},
	{"RandomizedPriorityLeastUsedDegradation", rserpool.Policy{Type: rserpool.RandomizedPriorityLeastUsedDegradation, Load: 1, LoadDegradation: 2}, "0008 0010 b0001004 00000001 00000002"},
	{"WeightedRandomDPF", rserpool.Policy{Type: rserpool.WeightedRandomDPF, Weight: 1, DPF: 2, Distance: 3}, "0008 0014 b0002001 00000001 00000002 00000003"},
	{"LeastUsedDPF", rserpool.Policy{Type: rserpool.LeastUsedDPF, Load: 1, DPF: 2, Distance: 3}, "0008 0014 b0002002 00000001 00000002 00000003"},
	{"LeastUsedDegradationDPF", rserpool.Policy{Type: rserpool.LeastUsedDegradationDPF, Load: 1, LoadDegradation: 2, DPF: 3, Distance: 4}, "0008 0018 b0002003 00000001 00000002 00000003 00000004"},
	{"longer than known", rserpool.Policy{Type: rserpool.WeightedRandom, Weight: 1, Extra: "\x02\x03"}, "0008 000e 00000004 00000001 0203 0000"},
	{"unknown policy", rserpool.Policy{Type: 0x12345678, Extra: "\x00\x00\x00\x01"}, "0008 000c 12345678 00000001"},
	{"unknown policy without values", rserpool.Policy{Type: 0xb0002004}, "0008 0008 b0002004"},
}

// TestBits: Once and Require tell all types that are known from one another.
func TestBits(t *testing.T) {
	of := make(map[uint32]Type)
	for typ := Type(1); typ != 0; typ++ {
		if !typ.Known() {
			continue
		}
		if other, ok := of[bit(typ)]; ok {
			t.Errorf("%v and %v have the same bit: give one of them a free one in bit", other, typ)
		}
		of[bit(typ)] = typ
	}
}

// TestPoliciesHaveRows: parameters has a row for each policy that is known.
func TestPoliciesHaveRows(t *testing.T) {
	seen := make(map[rserpool.PolicyType]bool)
	for _, tt := range parameters {
		if p, ok := tt.value.(rserpool.Policy); ok {
			seen[p.Type] = true
		}
	}
	for _, p := range rserpool.Policies() {
		if !seen[p] {
			t.Errorf("policy %v has no row in parameters", p)
		}
	}
}

func TestParameters(t *testing.T) {
	for _, tt := range parameters {
		t.Run(tt.name, func(t *testing.T) {
			data := tlvtest.Unhex(t, tt.hex)
			c := NewCursor(message(data))
			if !c.Next() {
				t.Fatal("Next() = false, want true")
			}
			got := read(&c)
			if c.Next() {
				t.Errorf("%v parameter after the only one", c.Type())
			}
			if _, err := c.Finish(); err != nil {
				t.Fatalf("Finish(): %v", err)
			}
			if diff := cmp.Diff(tt.value, got, tlvtest.CompareAddrs); diff != "" {
				t.Errorf("read (-want +got):\n%s", diff)
			}

			w := BeginMessage([]byte("before"), 1, 0)
			write(&w, tt.value)
			b, err := w.Finish()
			if err != nil {
				t.Fatalf("write: %v", err)
			}
			if diff := cmp.Diff(hex.EncodeToString(message(data)), hex.EncodeToString(b[len("before"):])); diff != "" {
				t.Errorf("write (-want +got):\n%s", diff)
			}
		})
	}
}

// TestTruncatedParameters cuts every parameter at every byte, in a message that
// ends there.
func TestTruncatedParameters(t *testing.T) {
	for _, tt := range parameters {
		data := tlvtest.Unhex(t, tt.hex)
		length := int(binary.BigEndian.Uint16(data[2:]))
		for n := 1; n < length; n++ {
			c := NewCursor(message(data[:n]))
			for c.Next() {
				read(&c)
			}
			var pe *rserpool.ParseError
			if _, err := c.Finish(); !errors.As(err, &pe) {
				t.Errorf("%s cut to %d of %d bytes: error is %v, want a *ParseError", tt.name, n, length, err)
			}
		}
	}
}

// TestShortValues cuts the value of every parameter with fixed fields and
// makes its length fit, so that only the fields are too short.
func TestShortValues(t *testing.T) {
	for _, tt := range parameters {
		data := tlvtest.Unhex(t, tt.hex)
		length := int(binary.BigEndian.Uint16(data[2:]))
		for n := 4; n < length; n++ {
			b := append([]byte(nil), data[:n]...)
			binary.BigEndian.PutUint16(b[2:], uint16(n))
			c := NewCursor(message(b))
			for c.Next() {
				read(&c)
			}
			// It may be a good parameter all the same. Then it must be written
			// and read again.
			if _, err := c.Finish(); err != nil {
				continue
			}
			c = NewCursor(message(b))
			c.Next()
			v := read(&c)
			w := BeginMessage(nil, 1, 0)
			write(&w, v)
			out, err := w.Finish()
			if err != nil {
				t.Errorf("%s cut to %d of %d bytes: read %v, cannot be written: %v", tt.name, n, length, v, err)
				continue
			}
			c = NewCursor(out)
			c.Next()
			if diff := cmp.Diff(v, read(&c), tlvtest.CompareAddrs); diff != "" {
				t.Errorf("%s cut to %d of %d bytes, written and read again (-want +got):\n%s", tt.name, n, length, diff)
			}
		}
	}
}

// TestLiberal reads what is not as Builder writes it, but good.
func TestLiberal(t *testing.T) {
	tests := []struct {
		name string
		hex  string
		want any
	}{
		{"padding is not zero", "0009 0005 61 ffffff", rserpool.PoolHandle("a")},
		{"padding is missing at the end", "0009 0005 61", rserpool.PoolHandle("a")},
		{
			"reserved field is not zero", "0005 0010 0050 ffff 0001 0008 c0000201",
			rserpool.Transport{Type: rserpool.TCP, Port: 80, Addrs: []netip.Addr{v4}},
		},
		{"last padding counts in the length", "000c 000c f008 0007 010203 00", []rserpool.Cause{{Code: 0xf008, Info: []byte{1, 2, 3}}}},
		{"unknown parameter in a transport", `
			0004 0018 1389 0000
			8123 0005 61 000000
			0001 0008 c0000201`, sctp1},
		{
			"policy first, ASAP transport next to the user transport", `
			000a 0038 00000001 00000000 00000000
			0008 0008 00000001
			0004 0010 1389 0000 0001 0008 c0000201
			0004 0010 1389 0000 0001 0008 c0000201`,
			rserpool.PoolElement{ID: 1, UserTransport: sctp1, Policy: rserpool.Policy{Type: rserpool.RoundRobin}, ASAPTransport: sctp1},
		},
		{
			"unknown parameter before the transport", `
			000b 0020 00000001
			8123 0006 6162 0000
			0004 0010 1389 0000 0001 0008 c0000201`,
			rserpool.ServerInformation{ID: 1, Transport: sctp1, Unknown: []rserpool.Parameter{{Type: 0x8123, Value: []byte("ab")}}},
		},
		{
			"private parameter out of place", `
			000b 0020 00000001
			0004 0010 1389 0000 0001 0008 c0000201
			803f 0008 00000001`,
			rserpool.ServerInformation{ID: 1, Transport: sctp1, Unknown: []rserpool.Parameter{{Type: TypeHandleResolutionItems, Value: []byte{0, 0, 0, 1}}}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := NewCursor(message(tlvtest.Unhex(t, tt.hex)))
			c.Next()
			got := read(&c)
			if _, err := c.Finish(); err != nil {
				t.Fatalf("Finish(): %v", err)
			}
			if diff := cmp.Diff(tt.want, got, tlvtest.CompareAddrs); diff != "" {
				t.Errorf("read (-want +got):\n%s", diff)
			}
		})
	}
}
