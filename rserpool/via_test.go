package rserpool

import "testing"

func TestVia(t *testing.T) {
	for v, want := range map[Via]string{ViaAuto: "auto", ViaKernel: "kernel", ViaUDP: "udp", ViaTCP: "tcp", 9: "Via(9)"} {
		if got := v.String(); got != want {
			t.Errorf("String() of %d = %q, want %q", v, got, want)
		}
		if got, err := ParseVia(want); v <= ViaTCP && (got != v || err != nil) || v > ViaTCP && err == nil {
			t.Errorf("ParseVia(%q) = %v, %v", want, got, err)
		}
	}
	if _, err := ParseVia("sctp"); err == nil {
		t.Error("ParseVia takes sctp")
	}
}
