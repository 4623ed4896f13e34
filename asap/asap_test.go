package asap

import (
	"encoding/hex"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rserpool/coredns-rserpool/asap/param"
)

// compareAddrs lets go-cmp compare addresses.
var compareAddrs = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

// unhex reads bytes in hexadecimal digits, with blanks between them anywhere
// and a comment behind # in each line.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	var digits strings.Builder
	for line := range strings.Lines(s) {
		line, _, _ = strings.Cut(line, "#")
		digits.WriteString(strings.Join(strings.Fields(line), ""))
	}
	b, err := hex.DecodeString(digits.String())
	if err != nil {
		t.Fatalf("bad hexadecimal digits in the test: %v", err)
	}
	return b
}

var (
	sctp1 = param.Transport{
		Type: param.TypeSCTPTransport, Port: 5001, Use: param.DataPlusControl,
		Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")},
	}
	sctp2 = param.Transport{
		Type: param.TypeSCTPTransport, Port: 5901,
		Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")},
	}
	tcp1 = param.Transport{
		Type: param.TypeTCPTransport, Port: 3863,
		Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")},
	}
	unknown = []param.Raw{{Type: 0x8123, Value: []byte("ab")}}
	element = param.PoolElement{
		ID: 0x51, Life: 60, UserTransport: sctp1, Policy: param.Policy{Type: param.WeightedRoundRobin, Weight: 7},
		ASAPTransport: sctp2,
	}
)

// messages are messages with their form on the wire, both ways.
var messages = []struct {
	name    string
	message Message
	hex     string
}{
	{"registration", &Registration{
		Handle:  "EchoPool",
		Element: param.PoolElement{ID: 0x51, Life: -1, UserTransport: sctp1, Policy: param.Policy{Type: param.RoundRobin}},
	}, `
		01 00 0038                   # type, flags, length
		0009 000c 4563686f506f6f6c   # pool handle
		000a 0028                    # pool element:
		  00000051 00000000 ffffffff # identifier, home, life
		  0004 0010 1389 0001 0001 0008 c0000201 # user transport
		  0008 0008 00000001         # policy`},
	{"registration with all there is", &Registration{Handle: "a", Element: element, Unknown: unknown}, `
		01 00 0064
		0009 0005 61 000000
		000a 0050
		  00000051 00000000 0000003c
		  0004 0010 1389 0001 0001 0008 c0000201
		  0008 000c 00000002 00000007
		  0004 0024 170d 0000        # ASAP transport
		    0001 0008 c0000201
		    0002 0014 20010db8 00000000 00000000 00000001
		8123 0006 6162 0000          # unknown`},
	{"registration with ASAP transport", &Registration{
		Handle: "EchoPool",
		Element: param.PoolElement{
			ID: 0x51, UserTransport: sctp1, Policy: param.Policy{Type: param.RoundRobin}, ASAPTransport: sctp1,
		},
	}, `
		01 00 0048
		0009 000c 4563686f506f6f6c
		000a 0038
		  00000051 00000000 00000000
		  0004 0010 1389 0001 0001 0008 c0000201
		  0008 0008 00000001
		  0004 0010 1389 0001 0001 0008 c0000201`},
	{"deregistration", &Deregistration{Handle: "a", ID: 0x51}, `
		02 00 0014
		0009 0005 61 000000
		000e 0008 00000051           # PE identifier`},
	{"registration response", &RegistrationResponse{Handle: "a", ID: 0x51}, `
		03 00 0014
		0009 0005 61 000000
		000e 0008 00000051`},
	{"registration rejected", &RegistrationResponse{
		Reject: true, Handle: "a", ID: 0x51,
		Causes: []param.Cause{{Code: param.CauseInconsistentPolicy, Info: []byte{0, 8, 0, 8, 0, 0, 0, 3}}, {Code: param.CauseUnspecified}},
	}, `
		03 01 0028                   # R
		0009 0005 61 000000
		000e 0008 00000051
		000c 0014                    # operation error:
		  0005 000c 0008 0008 00000003 # inconsistent policy, the pool's
		  0000 0004`},
	{"registration with a warning", &RegistrationResponse{
		Handle: "a", ID: 0x51, Causes: []param.Cause{{Code: param.CauseLackOfResources}}, Unknown: unknown,
	}, `
		03 00 0024
		0009 0005 61 000000
		000e 0008 00000051
		000c 0008 0006 0004
		8123 0006 6162 0000`},
	{"deregistration response", &DeregistrationResponse{Handle: "a", ID: 0x51}, `
		04 00 0014
		0009 0005 61 000000
		000e 0008 00000051`},
	{"deregistration response with an error", &DeregistrationResponse{
		Handle: "a", ID: 0x51, Causes: []param.Cause{{Code: param.CauseSecurity, Info: []byte("no")}},
	}, `
		04 00 0020
		0009 0005 61 000000
		000e 0008 00000051
		000c 000a 000a 0006 6e6f 0000`},
	{"handle resolution", &HandleResolution{Handle: "EchoPool"}, "05 00 0010 0009 000c 4563686f506f6f6c"},
	{"handle resolution with all there is", &HandleResolution{
		Subscribe: true, Handle: "a", Items: 3, HasItems: true, Unknown: unknown,
	}, `
		05 01 001c                   # S
		0009 0005 61 000000
		803f 0008 00000003           # items
		8123 0006 6162 0000`},
	{"handle resolution, items 0", &HandleResolution{Handle: "a", HasItems: true}, "05 00 0014 0009 0005 61 000000 803f 0008 00000000"},
	{"handle resolution response", &HandleResolutionResponse{
		Accept: true, Handle: "a", Policy: param.Policy{Type: param.Random},
		Elements: []param.PoolElement{
			{ID: 1, Home: 0x10000001, UserTransport: sctp1, Policy: param.Policy{Type: param.Random}},
			{ID: 2, Home: 0x10000001, UserTransport: tcp1},
		},
	}, `
		06 01 005c                   # A
		0009 0005 61 000000
		0008 0008 00000003           # policy
		000a 0028
		  00000001 10000001 00000000
		  0004 0010 1389 0001 0001 0008 c0000201
		  0008 0008 00000003
		000a 0020                    # without a policy
		  00000002 10000001 00000000
		  0005 0010 0f17 0000 0001 0008 c0000201`},
	{"handle resolution response without elements", &HandleResolutionResponse{Handle: "a", Policy: param.Policy{Type: param.RoundRobin}},
		"06 00 0014 0009 0005 61 000000 0008 0008 00000001"},
	{"negative handle resolution response", &HandleResolutionResponse{
		Handle: "a", Causes: []param.Cause{{Code: param.CauseUnknownPoolHandle}}, Unknown: unknown,
	}, "06 00 001c 0009 0005 61 000000 000c 0008 0009 0004 8123 0006 6162 0000"},
	{"keep-alive", &EndpointKeepAlive{Server: 0x10000001, Handle: "a"}, `
		07 00 0010
		10000001                     # server identifier
		0009 0005 61 000000`},
	{"keep-alive with all there is", &EndpointKeepAlive{Home: true, Server: 0x10000001, Handle: "a", ID: 0x51, HasID: true, Unknown: unknown}, `
		07 01 0020                   # H
		10000001
		0009 0005 61 000000
		000e 0008 00000051
		8123 0006 6162 0000`},
	{"keep-alive acknowledgement", &EndpointKeepAliveAck{Handle: "a", ID: 0x51}, "08 00 0014 0009 0005 61 000000 000e 0008 00000051"},
	{"endpoint unreachable", &EndpointUnreachable{Handle: "a", ID: 0x51, Unknown: unknown},
		"09 00 001c 0009 0005 61 000000 000e 0008 00000051 8123 0006 6162 0000"},
	{"server announce", &ServerAnnounce{Server: 0x10000001}, "0a 00 0008 10000001"},
	{"server announce with transports", &ServerAnnounce{Server: 0x10000001, Transports: []param.Transport{sctp2, tcp1}, Unknown: unknown}, `
		0a 00 0044
		10000001
		0004 0024 170d 0000
		  0001 0008 c0000201
		  0002 0014 20010db8 00000000 00000000 00000001
		0005 0010 0f17 0000 0001 0008 c0000201
		8123 0006 6162 0000`},
	{"cookie", &Cookie{Cookie: []byte("cookie")}, `
		0b 00 0010
		000d 000a 636f6f6b6965 0000`},
	{"cookie echo", &CookieEcho{Cookie: []byte("cookie"), Unknown: unknown}, "0c 00 0018 000d 000a 636f6f6b6965 0000 8123 0006 6162 0000"},
	{"empty cookie", &CookieEcho{}, "0c 00 0008 000d 0004"},
	{"business card", &BusinessCard{Handle: "a", Elements: []param.PoolElement{{ID: 1, UserTransport: tcp1}}, Unknown: unknown}, `
		0d 00 0034
		0009 0005 61 000000
		000a 0020 00000001 00000000 00000000
		  0005 0010 0f17 0000 0001 0008 c0000201
		8123 0006 6162 0000`},
	{"business card of nobody", &BusinessCard{Handle: "a"}, "0d 00 000c 0009 0005 61 000000"},
	{"error", &Error{Causes: []param.Cause{{Code: param.CauseUnrecognizedMessage, Info: []byte{0x7f, 0, 0, 4}}}, Unknown: unknown}, `
		0e 00 0018
		000c 000c
		  0002 0008 7f000004         # unrecognized message, which
		8123 0006 6162 0000`},
}

func TestMessages(t *testing.T) {
	for _, tt := range messages {
		t.Run(tt.name, func(t *testing.T) {
			data := unhex(t, tt.hex)
			b, err := tt.message.Append([]byte("before"))
			if err != nil {
				t.Fatalf("Append: %v", err)
			}
			if diff := cmp.Diff(hex.EncodeToString(data), hex.EncodeToString(b[len("before"):])); diff != "" {
				t.Errorf("Append (-want +got):\n%s", diff)
			}
			m, reports, err := Parse(data)
			if err != nil || reports != nil {
				t.Fatalf("Parse: %v, reports %v", err, reports)
			}
			if diff := cmp.Diff(tt.message, m, compareAddrs); diff != "" {
				t.Errorf("Parse (-want +got):\n%s", diff)
			}
		})
	}
}

// TestEveryMessage: the tables leave no message out.
func TestEveryMessage(t *testing.T) {
	seen := make(map[MessageType]bool)
	for _, tt := range messages {
		seen[tt.message.Type()] = true
	}
	for typ := TypeRegistration; typ <= TypeError; typ++ {
		if !seen[typ] {
			t.Errorf("%v is not in the table", typ)
		}
	}
}

// TestRefused parses messages whose parameters are good each, but not together.
// What is wrong inside a parameter is asap/param's to test.
func TestRefused(t *testing.T) {
	const (
		handle = "0009 0005 61 000000 "
		id     = "000e 0008 00000051 "
		user   = "0004 0010 1389 0001 0001 0008 c0000201 "
		policy = "0008 0008 00000001 "
		pe     = "000a 0028 00000051 00000000 00000000 " + user + policy
		bare   = "000a 0020 00000051 00000000 00000000 " + user
		lost   = "000a 0018 00000051 00000000 00000000 " + policy
	)
	tests := []struct {
		name, hex string
		text      string     // in the error
		at        param.Type // 0 for the message
		info      string     // of the error cause; "" for all of the message
	}{
		{"registration without a handle", "01 00 002c " + pe, "ASAP_REGISTRATION: message: Pool Handle parameter is missing", 0, ""},
		{"registration without an element", "01 00 000c " + handle, "Pool Element parameter is missing", 0, ""},
		{"registration of two pools", "01 00 003c " + handle + handle + pe, "second one", param.TypePoolHandle, handle},
		{"registration of two elements", "01 00 005c " + handle + pe + pe, "second one", param.TypePoolElement, pe},
		{"registration without a policy", "01 00 002c " + handle + bare, "without a policy", param.TypePoolElement, bare},
		{"registration without a transport", "01 00 0024 " + handle + lost, "without a user transport", param.TypePoolElement, lost},
		{"registration with an identifier", "01 00 003c " + handle + pe + id, "not allowed", param.TypePEIdentifier, id},
		{"deregistration without an identifier", "02 00 000c " + handle, "PE Identifier parameter is missing", 0, ""},
		{"deregistration of two elements", "02 00 001c " + handle + id + id, "second one", param.TypePEIdentifier, id},
		{"deregistration with an error", "02 00 001c " + handle + id + "000c 0008 0000 0004", "not allowed", param.TypeOperationError, "000c 0008 0000 0004"},
		{"registration response without a handle", "03 00 000c " + id, "Pool Handle parameter is missing", 0, ""},
		{"handle resolution of two pools", "05 00 0014 " + handle + handle, "second one", param.TypePoolHandle, handle},
		{"handle resolution with two numbers of items", "05 00 001c " + handle + "803f 0008 00000001 803f 0008 00000002",
			"second one", param.TypeHandleResolutionItems, "803f 0008 00000002"},
		{"handle resolution response with two policies", "06 00 001c " + handle + policy + policy, "second one", param.TypePolicy, policy},
		{"handle resolution response with an unreachable element", "06 00 0024 " + handle + lost, "without a user transport", param.TypePoolElement, lost},
		{"keep-alive without a server", "07 00 0006 1000", "ends 2 bytes too early", 0, ""},
		{"keep-alive without a handle", "07 00 0008 10000001", "Pool Handle parameter is missing", 0, ""},
		{"keep-alive for two elements", "07 00 0020 10000001" + handle + id + id, "second one", param.TypePEIdentifier, id},
		{"server announce without a server", "0a 00 0004", "ends 4 bytes too early", 0, ""},
		{"server announce of UDP", "0a 00 0018 10000001 0006 0010 0f17 0000 0001 0008 c0000201", "only SCTP and TCP",
			param.TypeUDPTransport, "0006 0010 0f17 0000 0001 0008 c0000201"},
		{"cookie without a cookie", "0b 00 0004", "Cookie parameter is missing", 0, ""},
		{"two cookies", "0c 00 000c 000d 0004 000d 0004", "second one", param.TypeCookie, "000d 0004"},
		{"business card without a handle", "0d 00 0004", "Pool Handle parameter is missing", 0, ""},
		{"business card of an unreachable element", "0d 00 0024 " + handle + lost, "without a user transport", param.TypePoolElement, lost},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			data := unhex(t, tt.hex)
			m, reports, err := Parse(data)
			if m != nil || reports != nil {
				t.Errorf("Parse gives %v, %v beside an error", m, reports)
			}
			info := hex.EncodeToString(data)
			if tt.info != "" {
				info = hex.EncodeToString(unhex(t, tt.info))
			}
			checkError(t, err, param.CauseInvalidValues, true, tt.at, info)
			if !strings.Contains(err.Error(), tt.text) {
				t.Errorf("error is %q, want one with %q", err, tt.text)
			}
		})
	}
}

// TestErrorsAreNotAnswered: or else two endpoints could go on for ever.
func TestErrorsAreNotAnswered(t *testing.T) {
	for name, s := range map[string]string{
		"good":                      "0e 00 000c 000c 0008 0000 0004",
		"no cause":                  "0e 00 0004",
		"two parameters":            "0e 00 0014 000c 0008 0000 0004 000c 0008 0000 0004",
		"wrong length":              "0e 00 0010 000c 0008 0000 0004",
		"parameter to be reported":  "0e 00 0010 000c 0008 0000 0004 c123 0004",
		"parameter that also stops": "0e 00 0010 000c 0008 0000 0004 4123 0004",
		"pool handle":               "0e 00 0014 000c 0008 0000 0004 0009 0005 61 000000",
	} {
		t.Run(name, func(t *testing.T) {
			_, reports, err := Parse(unhex(t, s))
			if (err == nil) != (name == "good" || name == "parameter to be reported") {
				t.Errorf("Parse: %v", err)
			}
			if reply, ok := ErrorReply(err); ok || reply != nil || reports != nil {
				t.Errorf("error %v is answered by %v, reports %v", err, reply, reports)
			}
		})
	}
}

// TestUnknownMessages: the two high bits of the type decide (RFC 5354, Section
// 4), before anything else.
func TestUnknownMessages(t *testing.T) {
	for _, tt := range []struct {
		hex    string
		report bool
	}{
		{"00 00 0004", false},
		{"0f 00 0004", false},
		{"3f 00 0004", false},
		{"40 00 0008 01020304", true},
		{"7f ff 0007 010203 00", true},
		{"7f 00 0100", true},
		{"80 00 0004", false},
		{"c0 00 0004", false},
		{"ff 00 0100", false},
	} {
		t.Run(tt.hex, func(t *testing.T) {
			data := unhex(t, tt.hex)
			m, reports, err := Parse(data)
			if m != nil || reports != nil {
				t.Errorf("Parse gives %v, %v", m, reports)
			}
			info := hex.EncodeToString(data)
			if tt.hex == "7f ff 0007 010203 00" {
				info = info[:14] // without padding
			}
			checkError(t, err, param.CauseUnrecognizedMessage, tt.report, 0, info)
		})
	}
}

// TestReports: unknown parameters that are skipped come with the message, and
// are reported if their type says so, wherever they are.
func TestReports(t *testing.T) {
	m, reports, err := Parse(unhex(t, `
		01 00 004c
		c001 0004
		0009 0005 61 000000
		000a 0038 00000051 00000000 00000000
		  c002 0004
		  0004 0014 1389 0001 c003 0004 0001 0008 c0000201
		  0008 0008 00000001
		  8004 0008 00000004
		8005 0004`))
	if err != nil {
		t.Fatal(err)
	}
	want := &Registration{
		Handle: "a",
		Element: param.PoolElement{
			ID: 0x51, UserTransport: sctp1, Policy: param.Policy{Type: param.RoundRobin},
			Unknown: []param.Raw{{Type: 0xc002}, {Type: 0x8004, Value: []byte{0, 0, 0, 4}}},
		},
		Unknown: []param.Raw{{Type: 0xc001}, {Type: 0x8005}},
	}
	if diff := cmp.Diff(Message(want), m, compareAddrs); diff != "" {
		t.Errorf("message (-want +got):\n%s", diff)
	}
	wantReports := []param.Cause{
		{Code: param.CauseUnrecognizedParameter, Info: []byte{0xc0, 1, 0, 4}},
		{Code: param.CauseUnrecognizedParameter, Info: []byte{0xc0, 2, 0, 4}},
		{Code: param.CauseUnrecognizedParameter, Info: []byte{0xc0, 3, 0, 4}},
	}
	if diff := cmp.Diff(wantReports, reports); diff != "" {
		t.Errorf("reports (-want +got):\n%s", diff)
	}
}

// TestUnwritable: Append refuses what Parse refuses.
func TestUnwritable(t *testing.T) {
	noTransport := param.PoolElement{Policy: param.Policy{Type: param.RoundRobin}}
	tests := []struct {
		name    string
		message Message
		text    string
	}{
		{"registration without a handle", &Registration{Element: element}, "empty pool handle"},
		{"registration without a transport", &Registration{Handle: "a", Element: noTransport}, "without a user transport"},
		{"registration without a policy", &Registration{Handle: "a", Element: param.PoolElement{UserTransport: sctp1}}, "without a policy"},
		{"deregistration without a handle", &Deregistration{}, "empty pool handle"},
		{"response with an unreachable element", &HandleResolutionResponse{Handle: "a", Elements: []param.PoolElement{noTransport}}, "without a user transport"},
		{"business card with an unreachable element", &BusinessCard{Handle: "a", Elements: []param.PoolElement{noTransport}}, "without a user transport"},
		{"announce of UDP", &ServerAnnounce{Transports: []param.Transport{{Type: param.TypeUDPTransport, Addrs: sctp1.Addrs}}}, "only SCTP and TCP"},
		{"error without a cause", &Error{}, "without a cause"},
		{"too many elements", &HandleResolutionResponse{Handle: "a", Elements: make([]param.PoolElement, 2048)}, "without a user transport"},
		{"message too long", &Cookie{Cookie: make([]byte, 65528)}, "message of 65536 bytes"},
		{"unknown parameter to stop at", &Cookie{Unknown: []param.Raw{{Type: 0x4123}}}, "could not skip"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b, err := tt.message.Append([]byte("before"))
			if err == nil || !strings.Contains(err.Error(), tt.text) || string(b) != "before" {
				t.Errorf("Append gives %.80q, %v, want the buffer as it was and an error with %q", b, err, tt.text)
			}
		})
	}
}

func TestErrorReplyToOtherErrors(t *testing.T) {
	for _, err := range []error{nil, errors.New("no ParseError")} {
		if reply, ok := ErrorReply(err); reply != nil || ok {
			t.Errorf("ErrorReply(%v) = %v, %v, want none", err, reply, ok)
		}
	}
}

// TestHandleResolutionParse reuses one struct for many messages.
func TestHandleResolutionParse(t *testing.T) {
	m := HandleResolution{Subscribe: true, Handle: "b", Items: 1, HasItems: true, Unknown: unknown}
	for _, tt := range messages {
		want, ok := tt.message.(*HandleResolution)
		if !ok {
			if _, err := m.Parse(unhex(t, tt.hex)); err == nil {
				t.Errorf("%s: no error", tt.name)
			}
			continue
		}
		if _, err := m.Parse(unhex(t, tt.hex)); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		} else if diff := cmp.Diff(*want, m); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

func TestMessageTypeString(t *testing.T) {
	for typ, want := range map[MessageType]string{
		0: "ASAP message 0x00", TypeRegistration: "ASAP_REGISTRATION", TypeError: "ASAP_ERROR", 0xff: "ASAP message 0xff",
	} {
		if got := typ.String(); got != want {
			t.Errorf("String() = %q, want %q", got, want)
		}
	}
}
