package tlv

import (
	"testing"

	"github.com/rserpool/coredns-rserpool/internal/tlv/tlvtest"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// TestTransports: a cause names the transport that was offered and the one that is
// registered, or it has none.
func TestTransports(t *testing.T) {
	const udp = "0006 0010 0007 0000 0001 0008 ac110002"
	for _, tt := range []struct {
		name                string
		code                rserpool.CauseCode
		hex                 string
		offered, registered string // "" if the cause has none
	}{
		{"two", rserpool.CauseInvalidValues, udp + "0006 0010 0007 0000 0001 0008 c0000209", "udp 172.17.0.2 port 7", "udp 192.0.2.9 port 7"},
		{"another cause", rserpool.CauseUnrecognizedParameter, udp + udp, "", ""},
		{"one", rserpool.CauseInvalidValues, udp, "", ""},
		{"three", rserpool.CauseInvalidValues, udp + udp + udp, "", ""},
		{"cut", rserpool.CauseInvalidValues, udp + "0006 0010 0007", "", ""},
		{"none", rserpool.CauseInvalidValues, "05", "", ""},
	} {
		offered, registered, ok := Transports(rserpool.Cause{Code: tt.code, Info: tlvtest.Unhex(t, tt.hex)})
		if ok != (tt.offered != "") || ok && (offered.String() != tt.offered || registered.String() != tt.registered) {
			t.Errorf("%s: got %v, %v, %v, want %q, %q", tt.name, offered, registered, ok, tt.offered, tt.registered)
		}
	}
}
