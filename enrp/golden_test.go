package enrp

import (
	"testing"

	"github.com/rserpool/coredns-rserpool/internal/tlv/tlvtest"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// malformed are the captured messages that are to be refused: a probe made
// them wrong on purpose.
var malformed = map[string]tlvtest.Refusal{
	// Unknown message type, with high bits 01.
	"g2-enrp-probe 40": {rserpool.CauseUnrecognizedMessage, true, 0, "7f00000c7000000700000000"},
	// Unknown parameter, with high bits 01.
	"g2-enrp-probe 43": {rserpool.CauseUnrecognizedParameter, true, 0x4123, "4123000861626364"},
	// Ends in the sender's identifier.
	"g2-enrp-probe 56": {rserpool.CauseInvalidValues, true, 0, "050000060000"},
}

// canonical are the captured messages that are good but not in the form that
// Append gives them: unknown parameters go to the end.
var canonical = map[string]string{
	"g2-enrp-probe 47": "010100347000000700000000000f0006ffff0000000b0018700000070004001026ad0000000100080a63001fc123000861626364",
}

func TestGolden(t *testing.T) { codec.Golden(t, malformed, canonical) }

func TestTruncated(t *testing.T) { codec.Truncated(t) }

func TestParseKeepsNothing(t *testing.T) { codec.KeepsNothing(t) }
