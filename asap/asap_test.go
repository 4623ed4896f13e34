package asap

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/rserpool/coredns-rserpool/internal/tlv/tlvtest"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

var (
	sctp1 = rserpool.Transport{
		Type: rserpool.SCTP, Port: 5001, Use: rserpool.DataPlusControl,
		Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")},
	}
	sctp2 = rserpool.Transport{
		Type: rserpool.SCTP, Port: 5901,
		Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")},
	}
	tcp1 = rserpool.Transport{
		Type: rserpool.TCP, Port: 3863,
		Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")},
	}
	unknown = []rserpool.Parameter{{Type: 0x8123, Value: []byte("ab")}}
	element = rserpool.PoolElement{
		ID: 0x51, Life: 60, UserTransport: sctp1, Policy: rserpool.Policy{Type: rserpool.WeightedRoundRobin, Weight: 7},
		ASAPTransport: sctp2,
	}
)

// messages are messages with their form on the wire, both ways.
var messages = []tlvtest.Row[Message]{
	{"registration", &Registration{
		Handle:  "EchoPool",
		Element: rserpool.PoolElement{ID: 0x51, Life: -1, UserTransport: sctp1, Policy: rserpool.Policy{Type: rserpool.RoundRobin}},
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
		Element: rserpool.PoolElement{
			ID: 0x51, UserTransport: sctp1, Policy: rserpool.Policy{Type: rserpool.RoundRobin}, ASAPTransport: sctp1,
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
		Causes: []rserpool.Cause{{Code: rserpool.CauseInconsistentPolicy, Info: []byte{0, 8, 0, 8, 0, 0, 0, 3}}, {Code: rserpool.CauseUnspecified}},
	}, `
		03 01 0028                   # R
		0009 0005 61 000000
		000e 0008 00000051
		000c 0014                    # operation error:
		  0005 000c 0008 0008 00000003 # inconsistent policy, the pool's
		  0000 0004`},
	{"registration with a warning", &RegistrationResponse{
		Handle: "a", ID: 0x51, Causes: []rserpool.Cause{{Code: rserpool.CauseLackOfResources}}, Unknown: unknown,
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
		Handle: "a", ID: 0x51, Causes: []rserpool.Cause{{Code: rserpool.CauseSecurity, Info: []byte("no")}},
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
		Accept: true, Handle: "a", Policy: rserpool.Policy{Type: rserpool.Random},
		Elements: []rserpool.PoolElement{
			{ID: 1, Home: 0x10000001, UserTransport: sctp1, Policy: rserpool.Policy{Type: rserpool.Random}},
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
	{
		"handle resolution response without elements", &HandleResolutionResponse{Handle: "a", Policy: rserpool.Policy{Type: rserpool.RoundRobin}},
		"06 00 0014 0009 0005 61 000000 0008 0008 00000001",
	},
	{"negative handle resolution response", &HandleResolutionResponse{
		Handle: "a", Causes: []rserpool.Cause{{Code: rserpool.CauseUnknownPoolHandle}}, Unknown: unknown,
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
	{"keep-alive acknowledgement, unordered", &EndpointKeepAliveAck{Handle: "a", ID: 0x51, Unordered: true}, "08 80 0014 0009 0005 61 000000 000e 0008 00000051"},
	{
		"endpoint unreachable", &EndpointUnreachable{Handle: "a", ID: 0x51, Unknown: unknown},
		"09 00 001c 0009 0005 61 000000 000e 0008 00000051 8123 0006 6162 0000",
	},
	{"server announce", &ServerAnnounce{Server: 0x10000001}, "0a 00 0008 10000001"},
	{"server announce with transports", &ServerAnnounce{Server: 0x10000001, Transports: []rserpool.Transport{sctp2, tcp1}, Unknown: unknown}, `
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
	{"business card", &BusinessCard{Handle: "a", Elements: []rserpool.PoolElement{{ID: 1, UserTransport: tcp1}}, Unknown: unknown}, `
		0d 00 0034
		0009 0005 61 000000
		000a 0020 00000001 00000000 00000000
		  0005 0010 0f17 0000 0001 0008 c0000201
		8123 0006 6162 0000`},
	{"business card of nobody", &BusinessCard{Handle: "a"}, "0d 00 000c 0009 0005 61 000000"},
	{"error", &Error{Causes: []rserpool.Cause{{Code: rserpool.CauseUnrecognizedMessage, Info: []byte{0x7f, 0, 0, 4}}}, Unknown: unknown}, `
		0e 00 0018
		000c 000c
		  0002 0008 7f000004         # unrecognized message, which
		8123 0006 6162 0000`},
}

// codec is this package under test.
var codec = tlvtest.Codec[MessageType, Message]{
	Parse: Parse,
	Reply: func(err error, _ []byte) (Message, bool) { return ErrorReply(err) },
	WantReply: func(err error, _ rserpool.ServerID, causes []rserpool.Cause) Message {
		var req *RequestError
		switch {
		case !errors.As(err, &req) || causes[0].Code != rserpool.CauseInvalidValues:
			return &Error{Causes: causes}
		case req.Type == TypeDeregistration:
			return &DeregistrationResponse{Handle: req.Handle, ID: req.ID, Causes: causes}
		}
		return &RegistrationResponse{Reject: true, Handle: req.Handle, ID: req.ID, Causes: causes}
	},
	Report:   func(causes []rserpool.Cause) Message { return &Error{Causes: causes} },
	Error:    TypeError,
	Messages: messages,
}

func TestMessages(t *testing.T) { codec.BothWays(t) }

func TestEveryMessage(t *testing.T) { codec.Complete(t, TypeRegistration, TypeError) }
