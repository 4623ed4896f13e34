package enrp

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rserpool/coredns-rserpool/internal/tlv"
	"github.com/rserpool/coredns-rserpool/internal/tlv/tlvtest"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

var (
	sctp1 = rserpool.Transport{
		Type: rserpool.SCTP, Port: 9901,
		Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")},
	}
	server1 = rserpool.ServerInformation{ID: 0x10000001, Transport: sctp1}
	server2 = rserpool.ServerInformation{ID: 0x20000002, Transport: sctp1, Unknown: unknown}
	element = rserpool.PoolElement{
		ID: 0x51, Home: 0x10000001, Life: 60, UserTransport: sctp1,
		Policy: rserpool.Policy{Type: rserpool.RoundRobin}, ASAPTransport: sctp1,
	}
	bare    = rserpool.PoolElement{ID: 0x52, UserTransport: sctp1}
	named   = rserpool.PoolElement{ID: 0x52, UserTransport: sctp1, Identity: "dns:web.example"}
	unknown = []rserpool.Parameter{{Type: 0x8123, Value: []byte("ab")}}
)

// The wire form of the above, and where the messages go.
const (
	ids        = "10000001 20000002 "
	hexSCTP    = "0004 0010 26ad 0000 0001 0008 c0000201 "
	hexServer1 = "000b 0018 10000001 " + hexSCTP
	hexServer2 = "000b 001e 20000002 " + hexSCTP + "8123 0006 6162 0000 "
	hexElement = "000a 0038 00000051 10000001 0000003c " + hexSCTP + "0008 0008 00000001 " + hexSCTP
	hexBare    = "000a 0020 00000052 00000000 00000000 " + hexSCTP
	hexSilent  = "000a 0028 00000052 00000000 00000000 " + hexSCTP + "94e9 0008 "
	hexName    = "94eb 0013 646e733a7765622e6578616d706c65 00 "
	hexNamed   = "000a 0033 00000052 00000000 00000000 " + hexSCTP + hexName
	hexTailSu  = "000a 0030 00000052 00000000 00000000 " + hexSCTP + "94ec 0005 0f 000000 94e9 0008 "
	hexLost    = "000a 0018 00000053 00000000 00000000 0008 0008 00000001 "
	hexUnknown = "8123 0006 6162 0000 "
	hexA       = "0009 0005 61 000000 " // pool handle "a"
	hexB       = "0009 0005 62 000000 "
)

// messages are messages with their form on the wire, both ways.
var messages = []tlvtest.Row[Message]{
	{"presence, bare", &Presence{Sender: 0x10000001}, `
		01 00 000c             # type, flags, length
		10000001 00000000      # sender, receiver`},
	{"presence with checksum", &Presence{Sender: 0x10000001, Receiver: 0x20000002, HasChecksum: true}, `
		01 00 0014 ` + ids + `
		000f 0006 0000 0000    # PE checksum with padding`},
	{"presence with all there is", &Presence{
		Sender: 0x10000001, Receiver: 0x20000002, ReplyRequired: true,
		Checksum: 0x20d3, HasChecksum: true, Info: server1, Unknown: unknown,
	}, `
		01 01 0034 ` + ids + ` # reply required
		000f 0006 20d3 0000
		` + hexServer1 + hexUnknown},
	{"handle table request", &HandleTableRequest{Sender: 0x10000001, Receiver: 0x20000002}, "02 00 000c" + ids},
	{"handle table request for own children", &HandleTableRequest{
		Sender: 0x10000001, Receiver: 0x20000002, OwnChildrenOnly: true, Unknown: unknown,
	}, "02 01 0014" + ids + hexUnknown},
	{"handle table request with suspects", &HandleTableRequest{
		Sender: 0x10000001, Receiver: 0x20000002, Suspects: true, Unknown: unknown,
	}, "02 80 0014" + ids + hexUnknown},
	{"handle table response with suspects", &HandleTableResponse{
		Sender: 0x10000001, Receiver: 0x20000002,
		Pools: []PoolEntry{
			{Handle: "a", Elements: []rserpool.PoolElement{bare, bare}, Suspects: map[int]time.Duration{1: 258 * time.Second}},
			{Handle: "b", Elements: []rserpool.PoolElement{bare}, Suspects: map[int]time.Duration{0: 0}},
		},
	}, `
		03 00 008c ` + ids + `
		` + hexA + hexBare + hexSilent + ` 0000 0102    # seconds
		` + hexB + hexSilent + ` 0000 0000`},
	{"handle table response", &HandleTableResponse{
		Sender: 0x10000001, Receiver: 0x20000002, More: true,
		Pools: []PoolEntry{
			{Handle: "a", Elements: []rserpool.PoolElement{element, bare}},
			{Handle: "b", Elements: []rserpool.PoolElement{bare}},
			{Handle: "a", Elements: []rserpool.PoolElement{bare}},
		},
		Unknown: unknown,
	}, `
		03 02 00c4 ` + ids + ` # M
		` + hexA + hexElement + hexBare + hexB + hexBare + hexA + hexBare + hexUnknown},
	{"handle table response with identities", &HandleTableResponse{
		Sender: 0x10000001, Receiver: 0x20000002,
		Pools: []PoolEntry{{Handle: "a", Elements: []rserpool.PoolElement{named, bare, named}, Suspects: map[int]time.Duration{2: 258 * time.Second}}},
	}, `
		03 00 0098 ` + ids + `
		` + hexA + hexNamed + hexBare + hexTailSu + ` 0000 0102    # seconds`},
	{"handle table response, empty", &HandleTableResponse{Sender: 0x10000001, Receiver: 0x20000002}, "03 00 000c" + ids},
	{"handle table response, rejection", &HandleTableResponse{Sender: 0x10000001, Receiver: 0x20000002, Reject: true}, "03 01 000c" + ids},
	{"handle update", &HandleUpdate{Sender: 0x10000001, Receiver: 0x20000002, Handle: "a", Element: element}, `
		04 00 0050 ` + ids + `
		0000 0000              # action, reserved
		` + hexA + hexElement},
	{
		"handle update without a policy", &HandleUpdate{Sender: 0x10000001, Receiver: 0x20000002, Handle: "a", Element: bare},
		"04 00 0038" + ids + "0000 0000" + hexA + hexBare,
	},
	{"handle update, delete, suggestion", &HandleUpdate{
		Sender: 0x10000001, Receiver: 0x20000002, SuggestTakeover: true, Action: DelPE, Handle: "a",
		Element: rserpool.PoolElement{ID: 0x53, Policy: rserpool.Policy{Type: rserpool.RoundRobin}}, Unknown: unknown,
	}, "04 01 0038" + ids + "0001 0000" + hexA + hexLost + hexUnknown},
	{"handle update, suspect", &HandleUpdate{
		Sender: 0x10000001, Receiver: 0x20000002, Action: DelPE, Handle: "a", Element: bare, Suspect: true, Silent: 3 * time.Second,
	}, "04 00 0040" + ids + "0001 0000" + hexA + hexSilent + ` 0000 0003    # seconds`},
	{
		"handle update with an identity", &HandleUpdate{Sender: 0x10000001, Receiver: 0x20000002, Handle: "a", Element: named},
		"04 00 004c" + ids + "0000 0000" + hexA + hexNamed,
	},
	{
		"handle update, reserved action", &HandleUpdate{Sender: 0x10000001, Receiver: 0x20000002, Action: 7, Handle: "a", Element: bare},
		"04 00 0038" + ids + "0007 0000" + hexA + hexBare,
	},
	{"list request", &ListRequest{Sender: 0x10000001, Receiver: 0x20000002, Unknown: unknown}, "05 00 0014" + ids + hexUnknown},
	{"list response", &ListResponse{
		Sender: 0x10000001, Receiver: 0x20000002,
		Servers: []rserpool.ServerInformation{server1, server2}, Unknown: unknown,
	}, "06 00 004c" + ids + hexServer1 + hexServer2 + hexUnknown},
	{"list response, rejection", &ListResponse{Sender: 0x10000001, Receiver: 0x20000002, Reject: true}, "06 01 000c" + ids},
	{
		"init takeover", &InitTakeover{Sender: 0x10000001, Receiver: 0x20000002, Target: 0x30000003, Unknown: unknown},
		"07 00 0018" + ids + "30000003" + hexUnknown,
	},
	{
		"init takeover acknowledgement", &InitTakeoverAck{Sender: 0x10000001, Receiver: 0x20000002, Target: 0x30000003},
		"08 00 0010" + ids + "30000003",
	},
	{
		"takeover server", &TakeoverServer{Sender: 0x10000001, Receiver: 0x20000002, Target: 0x30000003},
		"09 00 0010" + ids + "30000003",
	},
	{"error", &Error{
		Sender: 0x10000001, Receiver: 0x20000002,
		Causes: []rserpool.Cause{{Code: 0xf006}, {Code: rserpool.CauseUnrecognizedMessage, Info: []byte{0x7f, 0, 0, 5, 1}}}, Unknown: unknown,
	}, `
		0a 00 0028 ` + ids + `
		000c 0011              # length without the last padding
		  f006 0004
		  0002 0009 7f00000501 000000
		` + hexUnknown},
}

// self is the registrar that answers.
const self = 0x10000009

// codec is this package under test.
var codec = tlvtest.Codec[MessageType, Message]{
	Parse: Parse,
	Reply: func(err error, b []byte) (Message, bool) {
		if m, ok := ErrorReply(err, self, b); m != nil || ok {
			return m, ok
		}
		return nil, false
	},
	WantReply: func(_ error, peer rserpool.ServerID, causes []rserpool.Cause) Message {
		return &Error{Sender: self, Receiver: peer, Causes: causes}
	},
	Report:   func(causes []rserpool.Cause) Message { return &Error{Causes: causes} },
	Error:    TypeError,
	Messages: messages,
}

func TestMessages(t *testing.T) { codec.BothWays(t) }

func TestEveryMessage(t *testing.T) { codec.Complete(t, TypePresence, TypeError) }

func TestIDs(t *testing.T) {
	for _, tt := range messages {
		sender, receiver := tt.Message.IDs()
		if s, r := IDs(tlvtest.Unhex(t, tt.Hex)); s != sender || r != receiver || s != 0x10000001 {
			t.Errorf("%s: IDs() of the message are %v, %v, of its bytes %v, %v", tt.Name, sender, receiver, s, r)
		}
	}
}

// TestRefused parses messages whose parameters are good each, but not together.
func TestRefused(t *testing.T) {
	codec.Refused(t, []tlvtest.RefusedRow{
		{"presence without a receiver", "01 00 0008 10000001", "ENRP_PRESENCE: message: ends 4 bytes too early", 0, ""},
		{"presence with two checksums", "01 00 001c" + ids + "000f 0006 1234 0000 000f 0006 1234 0000", "second one", tlv.TypePEChecksum, "000f 0006 1234 0000"},
		{"presence of two servers", "01 00 003c" + ids + hexServer1 + hexServer1, "second one", tlv.TypeServerInformation, hexServer1},
		{"presence with a pool", "01 00 0014" + ids + hexA, "not allowed", tlv.TypePoolHandle, hexA},
		{"list request with a pool", "05 00 0014" + ids + hexA, "not allowed", tlv.TypePoolHandle, hexA},
		{"table that begins with an element", "03 00 002c" + ids + hexBare, "before the first pool handle", tlv.TypePoolElement, hexBare},
		{"table with an empty entry", "03 00 003c" + ids + hexA + hexB + hexBare, "without a pool element", tlv.TypePoolHandle, hexB},
		{"table that ends in an empty entry", "03 00 0014" + ids + hexA, "without a pool element", tlv.TypePoolHandle, hexA},
		{"table with an unreachable element", "03 00 002c" + ids + hexA + hexLost, "without a user transport", tlv.TypePoolElement, hexLost},
		{"rejected table with an entry", "03 01 0034" + ids + hexA + hexBare, "rejection", tlv.TypePoolHandle, hexA},
		{"rejected list with an entry", "06 01 0024" + ids + hexServer1, "rejection", tlv.TypeServerInformation, hexServer1},
		{"update without an action", "04 00 000e" + ids + "0000", "ends 2 bytes too early", 0, ""},
		{"update without a handle", "04 00 0030" + ids + "00000000" + hexBare, "Pool Handle parameter is missing", 0, ""},
		{"update without an element", "04 00 0018" + ids + "00000000" + hexA, "Pool Element parameter is missing", 0, ""},
		{"update of two pools", "04 00 0040" + ids + "00000000" + hexA + hexA + hexBare, "second one", tlv.TypePoolHandle, hexA},
		{"update of two elements", "04 00 0058" + ids + "00000000" + hexA + hexBare + hexBare, "second one", tlv.TypePoolElement, hexBare},
		{"update that adds an unreachable element", "04 00 0030" + ids + "00000000" + hexA + hexLost, "without a user transport", tlv.TypePoolElement, hexLost},
		{"takeover of nobody", "07 00 000c" + ids, "ends 4 bytes too early", 0, ""},
	})
}

// TestErrorsAreNotAnswered: two peers could otherwise answer each other without end.
func TestErrorsAreNotAnswered(t *testing.T) {
	codec.NotAnswered(t, map[string]string{
		"no cause":                  "0a 00 000c" + ids,
		"no ids":                    "0a 00 0004",
		"two parameters":            "0a 00 001c" + ids + "000c 0008 0000 0004 000c 0008 0000 0004",
		"wrong length":              "0a 00 0010" + ids,
		"parameter to be reported":  "0a 00 0018" + ids + "000c 0008 0000 0004 c123 0004",
		"parameter that also stops": "0a 00 0018" + ids + "000c 0008 0000 0004 4123 0004",
	}, "parameter to be reported")
}

// TestUnknownMessages: the two high bits of the type decide (RFC 5354, Section
// 4), before anything else.
func TestUnknownMessages(t *testing.T) {
	codec.UnknownTypes(t, map[string]bool{
		"00 00 0004":       false,
		"0b 00 000c" + ids: false,
		"7f 00 000c" + ids: true,
		"40 00 0004":       true,
		"80 00 0004":       false,
		"ff 00 0100":       false,
	})
}

// TestReports: unknown parameters that are skipped come with the message, and
// are reported if their type says so.
func TestReports(t *testing.T) {
	m, reports, err := Parse(tlvtest.Unhex(t, "02 00 0014"+ids+"c001 0004 8002 0004"))
	if err != nil {
		t.Fatal(err)
	}
	want := &HandleTableRequest{Sender: 0x10000001, Receiver: 0x20000002, Unknown: []rserpool.Parameter{{Type: 0xc001}, {Type: 0x8002}}}
	if diff := cmp.Diff(Message(want), m); diff != "" {
		t.Errorf("message (-want +got):\n%s", diff)
	}
	wantReports := []rserpool.Cause{{Code: rserpool.CauseUnrecognizedParameter, Info: []byte{0xc0, 1, 0, 4}}}
	if diff := cmp.Diff(wantReports, reports); diff != "" {
		t.Errorf("reports (-want +got):\n%s", diff)
	}
}

// TestUnwritable: Append refuses what Parse refuses.
func TestUnwritable(t *testing.T) {
	var lost rserpool.PoolElement
	codec.Unwritable(t, []tlvtest.UnwritableRow[Message]{
		{"rejected table with an entry", &HandleTableResponse{Reject: true, Pools: []PoolEntry{{Handle: "a", Elements: []rserpool.PoolElement{bare}}}}, "rejection"},
		{"table with an empty entry", &HandleTableResponse{Pools: []PoolEntry{{Handle: "a"}}}, "without a pool element"},
		{"table with an unreachable element", &HandleTableResponse{Pools: []PoolEntry{{Handle: "a", Elements: []rserpool.PoolElement{lost}}}}, "without a user transport"},
		{"table without a handle", &HandleTableResponse{Pools: []PoolEntry{{Elements: []rserpool.PoolElement{bare}}}}, "empty pool handle"},
		{"update that adds an unreachable element", &HandleUpdate{Handle: "a"}, "without a user transport"},
		{"update that adds a suspect", &HandleUpdate{Handle: "a", Element: bare, Suspect: true}, "as a suspect"},
		{"rejected list with an entry", &ListResponse{Reject: true, Servers: []rserpool.ServerInformation{server1}}, "rejection"},
		{"list with an unreachable server", &ListResponse{Servers: []rserpool.ServerInformation{{}}}, "not SCTP"},
		{"error without a cause", &Error{}, "without a cause"},
		{"unknown parameter to stop at", &ListRequest{Unknown: []rserpool.Parameter{{Type: 0x4123}}}, "could not skip"},
		{"message too long", &ListRequest{Unknown: []rserpool.Parameter{{Type: 0x8123, Value: make([]byte, 65521)}}}, "message of 65537 bytes"},
	})
}

func TestErrorReplyToOtherErrors(t *testing.T) { codec.OnlyParseErrors(t) }

func TestStrings(t *testing.T) {
	for _, tt := range []struct{ got, want string }{
		{MessageType(0).String(), "ENRP message 0x00"},
		{TypePresence.String(), "ENRP_PRESENCE"},
		{TypeError.String(), "ENRP_ERROR"},
		{MessageType(0x7f).String(), "ENRP message 0x7f"},
		{AddPE.String(), "ADD_PE"},
		{DelPE.String(), "DEL_PE"},
		{UpdateAction(7).String(), "update action 0x0007"},
	} {
		if tt.got != tt.want {
			t.Errorf("String() = %q, want %q", tt.got, tt.want)
		}
	}
}

// TestAllocs: what the codec may allocate for the messages that registrars
// send most.
func TestAllocs(t *testing.T) {
	codec.Allocs(t, map[string]float64{
		"presence with checksum": 1,
		"handle update":          4, // message, handle, 2 times addresses
	})
}
