package asap

import (
	"testing"

	"github.com/rserpool/coredns-rserpool/internal/tlv"
	"github.com/rserpool/coredns-rserpool/internal/tlv/tlvtest"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// malformed are the captured messages that are to be refused: a probe made
// them wrong on purpose.
var malformed = map[string]tlvtest.Refusal{
	// Pool elements without a user transport, and without a policy.
	"g1-asap-probe 17": {rserpool.CauseInvalidValues, true, tlv.TypePoolElement, "000a001800000059000000000000ea600008000800000001"},
	"g1-asap-probe 18": {rserpool.CauseInvalidValues, true, tlv.TypePoolElement, "000a00200000005a000000000000ea600004001013920000000100080a63001f"},
	// Unknown message types, with high bits 01 and 11.
	"g1-asap-probe 64": {rserpool.CauseUnrecognizedMessage, true, 0, "7f00000c0009000578000000"},
	"g1-asap-probe 67": {rserpool.CauseUnrecognizedMessage, false, 0, "ff00000c0009000578000000"},
	// Unknown parameters, with high bits 00 and 01.
	"g1-asap-probe 70": {rserpool.CauseUnrecognizedParameter, false, 0x0123, "0123000861626364"},
	"g1-asap-probe 73": {rserpool.CauseUnrecognizedParameter, true, 0x4123, "4123000861626364"},
	// No pool handle; message length too long, and too short.
	"g1-asap-probe 89": {rserpool.CauseInvalidValues, true, 0, "05000004"},
	"g1-asap-probe 93": {rserpool.CauseInvalidValues, true, 0, "050000c80009000d50726f6265506f6f6c000000"},
	"g1-asap-probe 97": {rserpool.CauseInvalidValues, true, 0, "050000060009000d50726f6265506f6f6c000000"},
	// Parameter length too long, and 0; empty pool handle; three bytes.
	"g1-asap-probe 101": {rserpool.CauseInvalidValues, true, tlv.TypePoolHandle, "0009006461626364"},
	"g1-asap-probe 105": {rserpool.CauseInvalidValues, true, tlv.TypePoolHandle, "00090000"},
	"g1-asap-probe 109": {rserpool.CauseInvalidValues, true, tlv.TypePoolHandle, "00090004"},
	"g1-asap-probe 113": {rserpool.CauseInvalidValues, true, 0, "050000"},
}

// canonical are the captured messages that are good but not in the form that
// Append gives them: unknown flags are ignored (RFC 5354, Section 4), unknown
// parameters go to the end.
var canonical = map[string]string{
	"g1-asap-probe 85":  "0500001c0009000d50726f6265506f6f6c000000c123000861626364",
	"g1-asap-probe 138": "050100100009000b4e6f776865726500",
}

func TestGolden(t *testing.T) { codec.Golden(t, malformed, canonical) }

func TestTruncated(t *testing.T) { codec.Truncated(t) }

func TestParseKeepsNothing(t *testing.T) { codec.KeepsNothing(t) }
