package rserpool

import "fmt"

// Via says what carries the associations of ASAP and ENRP. The zero value takes
// the kernel's SCTP or SCTP in UDP, whichever answers first.
type Via uint8

// The values of Via.
const (
	// ViaAuto takes the kernel's SCTP or SCTP in UDP.
	ViaAuto Via = iota
	// ViaKernel takes only the kernel's SCTP.
	ViaKernel
	// ViaUDP takes only SCTP in UDP (RFC 6951).
	ViaUDP
	// ViaTCP takes TCP. Only pool users can (RFC 5352, Section 3.3).
	ViaTCP
)

var viaNames = [...]string{ViaAuto: "auto", ViaKernel: "kernel", ViaUDP: "udp", ViaTCP: "tcp"}

// ParseVia reads auto, kernel, udp or tcp.
func ParseVia(s string) (Via, error) {
	for v, name := range viaNames {
		if s == name {
			return Via(v), nil
		}
	}
	return 0, fmt.Errorf("unknown transport %q: use auto, kernel, udp or tcp", s)
}

// String returns "auto", "kernel", "udp" or "tcp".
func (v Via) String() string {
	if int(v) < len(viaNames) {
		return viaNames[v]
	}
	return fmt.Sprintf("Via(%d)", uint8(v))
}

// MarshalText returns what String returns.
func (v Via) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText reads what [ParseVia] reads.
func (v *Via) UnmarshalText(text []byte) (err error) {
	*v, err = ParseVia(string(text))
	return err
}
