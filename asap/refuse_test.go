package asap

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rserpool/coredns-rserpool/internal/tlv"
	"github.com/rserpool/coredns-rserpool/internal/tlv/tlvtest"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// TestRefused parses messages whose parameters are good each, but not together.
// What is wrong inside a parameter is internal/tlv's to test.
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
	codec.Refused(t, []tlvtest.RefusedRow{
		{"registration without a handle", "01 00 002c " + pe, "ASAP_REGISTRATION: message: Pool Handle parameter is missing", 0, ""},
		{"registration without an element", "01 00 000c " + handle, "Pool Element parameter is missing", 0, ""},
		{"registration of two pools", "01 00 003c " + handle + handle + pe, "second one", tlv.TypePoolHandle, handle},
		{"registration of two elements", "01 00 005c " + handle + pe + pe, "second one", tlv.TypePoolElement, pe},
		{"registration without a policy", "01 00 002c " + handle + bare, "without a policy", tlv.TypePoolElement, bare},
		{"registration without a transport", "01 00 0024 " + handle + lost, "without a user transport", tlv.TypePoolElement, lost},
		{"registration with an identifier", "01 00 003c " + handle + pe + id, "not allowed", tlv.TypePEIdentifier, id},
		{"deregistration without an identifier", "02 00 000c " + handle, "PE Identifier parameter is missing", 0, ""},
		{"deregistration of two elements", "02 00 001c " + handle + id + id, "second one", tlv.TypePEIdentifier, id},
		{"deregistration with an error", "02 00 001c " + handle + id + "000c 0008 0000 0004", "not allowed", tlv.TypeOperationError, "000c 0008 0000 0004"},
		{"registration response without a handle", "03 00 000c " + id, "Pool Handle parameter is missing", 0, ""},
		{"handle resolution of two pools", "05 00 0014 " + handle + handle, "second one", tlv.TypePoolHandle, handle},
		{
			"handle resolution with two numbers of items", "05 00 001c " + handle + "803f 0008 00000001 803f 0008 00000002",
			"second one", tlv.TypeHandleResolutionItems, "803f 0008 00000002",
		},
		{"handle resolution response with two policies", "06 00 001c " + handle + policy + policy, "second one", tlv.TypePolicy, policy},
		{"handle resolution response with an unreachable element", "06 00 0024 " + handle + lost, "without a user transport", tlv.TypePoolElement, lost},
		{"keep-alive without a server", "07 00 0006 1000", "ends 2 bytes too early", 0, ""},
		{"keep-alive without a handle", "07 00 0008 10000001", "Pool Handle parameter is missing", 0, ""},
		{"keep-alive for two elements", "07 00 0020 10000001" + handle + id + id, "second one", tlv.TypePEIdentifier, id},
		{"server announce without a server", "0a 00 0004", "ends 4 bytes too early", 0, ""},
		{
			"server announce of UDP", "0a 00 0018 10000001 0006 0010 0f17 0000 0001 0008 c0000201", "only SCTP and TCP",
			tlv.TypeUDPTransport, "0006 0010 0f17 0000 0001 0008 c0000201",
		},
		{"cookie without a cookie", "0b 00 0004", "Cookie parameter is missing", 0, ""},
		{"two cookies", "0c 00 000c 000d 0004 000d 0004", "second one", tlv.TypeCookie, "000d 0004"},
		{"business card without a handle", "0d 00 0004", "Pool Handle parameter is missing", 0, ""},
		{"business card of an unreachable element", "0d 00 0024 " + handle + lost, "without a user transport", tlv.TypePoolElement, lost},
	})
}

// TestErrorsAreNotAnswered: two peers could otherwise answer each other without end.
func TestErrorsAreNotAnswered(t *testing.T) {
	codec.NotAnswered(t, map[string]string{
		"good":                      "0e 00 000c 000c 0008 0000 0004",
		"no cause":                  "0e 00 0004",
		"two parameters":            "0e 00 0014 000c 0008 0000 0004 000c 0008 0000 0004",
		"wrong length":              "0e 00 0010 000c 0008 0000 0004",
		"parameter to be reported":  "0e 00 0010 000c 0008 0000 0004 c123 0004",
		"parameter that also stops": "0e 00 0010 000c 0008 0000 0004 4123 0004",
		"pool handle":               "0e 00 0014 000c 0008 0000 0004 0009 0005 61 000000",
	}, "good", "parameter to be reported")
}

// TestUnknownMessages: the two high bits of the type decide (RFC 5354, Section
// 4), before anything else.
func TestUnknownMessages(t *testing.T) {
	codec.UnknownTypes(t, map[string]bool{
		"00 00 0004":           false,
		"0f 00 0004":           false,
		"3f 00 0004":           false,
		"40 00 0008 01020304":  true,
		"7f ff 0007 010203 00": true,
		"7f 00 0100":           true,
		"80 00 0004":           false,
		"c0 00 0004":           false,
		"ff 00 0100":           false,
	})
}

// TestReports: unknown parameters that are skipped come with the message, and
// are reported if their type says so, wherever they are.
func TestReports(t *testing.T) {
	m, reports, err := Parse(tlvtest.Unhex(t, `
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
		Element: rserpool.PoolElement{
			ID: 0x51, UserTransport: sctp1, Policy: rserpool.Policy{Type: rserpool.RoundRobin},
			Unknown: []rserpool.Parameter{{Type: 0xc002}, {Type: 0x8004, Value: []byte{0, 0, 0, 4}}},
		},
		Unknown: []rserpool.Parameter{{Type: 0xc001}, {Type: 0x8005}},
	}
	if diff := cmp.Diff(Message(want), m, tlvtest.CompareAddrs); diff != "" {
		t.Errorf("message (-want +got):\n%s", diff)
	}
	wantReports := []rserpool.Cause{
		{Code: rserpool.CauseUnrecognizedParameter, Info: []byte{0xc0, 1, 0, 4}},
		{Code: rserpool.CauseUnrecognizedParameter, Info: []byte{0xc0, 2, 0, 4}},
		{Code: rserpool.CauseUnrecognizedParameter, Info: []byte{0xc0, 3, 0, 4}},
	}
	if diff := cmp.Diff(wantReports, reports); diff != "" {
		t.Errorf("reports (-want +got):\n%s", diff)
	}
}

// TestUnwritable: Append refuses what Parse refuses.
func TestUnwritable(t *testing.T) {
	noTransport := rserpool.PoolElement{Policy: rserpool.Policy{Type: rserpool.RoundRobin}}
	codec.Unwritable(t, []tlvtest.UnwritableRow[Message]{
		{"registration without a handle", &Registration{Element: element}, "empty pool handle"},
		{"registration without a transport", &Registration{Handle: "a", Element: noTransport}, "without a user transport"},
		{"registration without a policy", &Registration{Handle: "a", Element: rserpool.PoolElement{UserTransport: sctp1}}, "without a policy"},
		{"deregistration without a handle", &Deregistration{}, "empty pool handle"},
		{"response with an unreachable element", &HandleResolutionResponse{Handle: "a", Elements: []rserpool.PoolElement{noTransport}}, "without a user transport"},
		{"business card with an unreachable element", &BusinessCard{Handle: "a", Elements: []rserpool.PoolElement{noTransport}}, "without a user transport"},
		{"announce of UDP", &ServerAnnounce{Transports: []rserpool.Transport{{Type: rserpool.UDP, Addrs: sctp1.Addrs}}}, "only SCTP and TCP"},
		{"error without a cause", &Error{}, "without a cause"},
		{"too many elements", &HandleResolutionResponse{Handle: "a", Elements: make([]rserpool.PoolElement, 2048)}, "without a user transport"},
		{"message too long", &Cookie{Cookie: make([]byte, 65528)}, "message of 65536 bytes"},
		{"unknown parameter to stop at", &Cookie{Unknown: []rserpool.Parameter{{Type: 0x4123}}}, "could not skip"},
	})
}

// TestRegistrationRefused: invalid values in a registration are answered with a
// registration response, wherever it can say whose (RFC 5352, Section 3.1).
func TestRegistrationRefused(t *testing.T) {
	const (
		handle = "0009 0005 61 000000 "
		user   = "0004 0010 1389 0000 0001 0008 c0000201 "
		rr     = "0008 0008 00000001 "
		use2   = "0004 0010 1389 0002 0001 0008 c0000201 "
		type0  = "0008 0008 00000000 "
		noLoad = "0008 0008 40000001 "
	)
	element := func(values string) string {
		n := 16 + len(strings.ReplaceAll(values, " ", ""))/2
		return fmt.Sprintf("000a %04x 00000051 00000000 00000000 %s", n, values)
	}
	message := func(parameters string) []byte {
		n := 4 + len(strings.ReplaceAll(parameters, " ", ""))/2
		return tlvtest.Unhex(t, fmt.Sprintf("01 00 %04x %s", n, parameters))
	}
	for name, parameters := range map[string]string{
		"transport use 2":      handle + element(use2+rr),
		"policy type 0":        handle + element(user+type0),
		"no policy":            handle + element(user),
		"no user transport":    handle + element(rr),
		"no load":              handle + element(user+noLoad),
		"a parameter too many": handle + element(user+rr) + "000e 0008 00000051",

		"pool handle behind the element": element(user) + handle,
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := Parse(message(parameters))
			reply, ok := ErrorReply(err)
			r, isResponse := reply.(*RegistrationResponse)
			if !ok || !isResponse || !r.Reject || r.Handle != "a" || r.ID != 0x51 || len(r.Causes) != 1 || r.Causes[0].Code != rserpool.CauseInvalidValues {
				t.Errorf("%v is answered by %+v, want a registration response that refuses a:51 for invalid values", err, reply)
			}
		})
	}
	for name, parameters := range map[string]string{
		"no pool handle":               handle[:0] + element(user+type0),
		"empty pool handle":            "0009 0004 " + element(user+type0),
		"no identifier":                handle + "000a 0006 0000 0000 ",
		"unknown parameter that stops": handle + element(user+rr) + "4123 0004",
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := Parse(message(parameters))
			if reply, ok := ErrorReply(err); !ok || reply.Type() != TypeError {
				t.Errorf("%v is answered by %+v, want an error message", err, reply)
			}
		})
	}
}

// TestIdentifierZero: 0 is an identifier like any other (RFC 5354, Section 3.14).
func TestIdentifierZero(t *testing.T) {
	_, _, err := Parse(tlvtest.Unhex(t, "01 00 002c 0009 0005 61 000000 000a 0020 00000000 00000000 00000001 0004 0010 1389 0000 0001 0008 c0000201"))
	reply, ok := ErrorReply(err)
	if r, is := reply.(*RegistrationResponse); !ok || !is || !r.Reject || r.Handle != "a" || r.ID != 0 {
		t.Errorf("%v is answered by %+v, want a registration response that refuses a:0", err, reply)
	}
}

// TestDeregistrationRefused: invalid values in a deregistration are answered with a
// deregistration response, wherever it can say whose (RFC 5352, Section 3.2).
func TestDeregistrationRefused(t *testing.T) {
	for name, text := range map[string]string{
		"a parameter too many": "02 00 001c 0009 0005 70 000000 000e 0008 00000001 000f 0006 0001 0000",
		"behind it":            "02 00 001c 000f 0006 0001 0000 000e 0008 00000001 0009 0005 70 000000",
		"two identifiers":      "02 00 001c 0009 0005 70 000000 000e 0008 00000001 000e 0008 00000002",
	} {
		_, _, err := Parse(tlvtest.Unhex(t, text))
		reply, ok := ErrorReply(err)
		r, is := reply.(*DeregistrationResponse)
		if !ok || !is || r.Handle != "p" || r.ID != 1 || len(r.Causes) != 1 || r.Causes[0].Code != rserpool.CauseInvalidValues {
			t.Errorf("%s: %v is answered by %+v, want a deregistration response for p:1 with invalid values", name, err, reply)
		}
	}
	for name, text := range map[string]string{
		"long identifier":              "02 00 0018 0009 0005 70 000000 000e 000c 00000001 00000002",
		"no identifier":                "02 00 000c 0009 0005 70 000000",
		"unknown parameter that stops": "02 00 0018 0009 0005 70 000000 000e 0008 00000001 4123 0004",
	} {
		_, _, err := Parse(tlvtest.Unhex(t, text))
		if reply, ok := ErrorReply(err); !ok || reply.Type() != TypeError {
			t.Errorf("%s: %v is answered by %+v, want an error message", name, err, reply)
		}
	}
}

func TestErrorReplyToOtherErrors(t *testing.T) { codec.OnlyParseErrors(t) }

// TestHandleResolutionParse reuses one struct for many messages.
func TestHandleResolutionParse(t *testing.T) {
	m := HandleResolution{Subscribe: true, Handle: "b", Items: 1, HasItems: true, Unknown: unknown}
	for _, tt := range messages {
		want, ok := tt.Message.(*HandleResolution)
		if !ok {
			if _, err := m.Parse(tlvtest.Unhex(t, tt.Hex), nil); err == nil {
				t.Errorf("%s: no error", tt.Name)
			}
			continue
		}
		for _, known := range []func([]byte) rserpool.PoolHandle{nil, knows("another"), knows(want.Handle)} {
			if _, err := m.Parse(tlvtest.Unhex(t, tt.Hex), known); err != nil {
				t.Errorf("%s: %v", tt.Name, err)
			} else if diff := cmp.Diff(*want, m); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tt.Name, diff)
			}
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
