package rserpool

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// TransportType is a transport protocol for users of a pool (RFC 5354, Sections
// 3.3 to 3.7 and 3.16). The zero value is no transport.
type TransportType uint16

// The transport protocols, with the codes of their parameters.
const (
	DCCP    TransportType = 0x3
	SCTP    TransportType = 0x4
	TCP     TransportType = 0x5
	UDP     TransportType = 0x6
	UDPLite TransportType = 0x7
	Opaque  TransportType = 0x10
)

var transportNames = [...]string{DCCP: "dccp", SCTP: "sctp", TCP: "tcp", UDP: "udp", UDPLite: "udplite", Opaque: "opaque"}

// name is the protocol's name, "" if it has none.
func (t TransportType) name() string {
	if int(t) < len(transportNames) {
		return transportNames[t]
	}
	return ""
}

// transportNamed is the inverse of name, for any case; 0 if there is none.
func transportNamed(name string) TransportType {
	for t, n := range transportNames {
		if n != "" && strings.EqualFold(n, name) {
			return TransportType(t)
		}
	}
	return 0
}

// ParseTransportType reads a transport protocol's name, in any case.
func ParseTransportType(s string) (TransportType, error) {
	if t := transportNamed(s); t != 0 {
		return t, nil
	}
	return 0, fmt.Errorf("unknown transport protocol %q: want tcp, udp, sctp, udplite, dccp or opaque", s)
}

// MarshalText returns what String returns.
func (t TransportType) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText reads what [ParseTransportType] reads, and the zero value from no
// text.
func (t *TransportType) UnmarshalText(text []byte) (err error) {
	if len(text) == 0 {
		*t = 0
		return nil
	}
	*t, err = ParseTransportType(string(text))
	return err
}

// Known reports whether the type is one of the constants above.
func (t TransportType) Known() bool { return t >= DCCP && t <= UDPLite || t == Opaque }

// String returns the transport protocol's name in lower case: "sctp", "tcp",
// "udp", "udplite", "dccp" or "opaque"; "" for the zero value, the code in
// hexadecimal digits if it is
// unknown.
func (t TransportType) String() string {
	if t == 0 {
		return ""
	}
	if name := t.name(); name != "" {
		return name
	}
	return fmt.Sprintf("0x%04x", uint16(t))
}

// TransportUse says what a transport address carries (RFC 5354, Section 3.4).
type TransportUse uint16

// The transport uses of RFC 5354, Section 3.4.
const (
	DataOnly        TransportUse = 0
	DataPlusControl TransportUse = 1
)

// String returns "data only" or "data plus control", or the number.
func (u TransportUse) String() string {
	switch u {
	case DataOnly:
		return "data only"
	case DataPlusControl:
		return "data plus control"
	}
	return fmt.Sprintf("transport use 0x%04x", uint16(u))
}

// Transport is a user transport, an ASAP transport or a server transport (RFC
// 5354, Sections 3.3 to 3.7 and 3.16). The zero value, with Type 0, is no
// transport at all.
type Transport struct {
	// Type is the transport protocol.
	Type TransportType
	Port uint16
	// Use is on the wire only for SCTP; the other protocols are DataOnly.
	Use TransportUse
	// ServiceCode is DCCP's (RFC 5354, Section 3.3).
	ServiceCode uint32
	// Addrs holds at least one address for SCTP, exactly one for the other
	// protocols with addresses; IPv4 addresses are in 4-byte form. Addresses
	// have no zone.
	Addrs []netip.Addr
	// Opaque is the value of an opaque transport.
	Opaque []byte
}

// Present reports whether there is a transport at all.
func (t Transport) Present() bool { return t.Type != 0 }

// Equal reports whether two transports are the same on the wire. The order of
// the addresses counts.
func (t Transport) Equal(u Transport) bool {
	return t.Type == u.Type && t.Port == u.Port && t.Use == u.Use && t.ServiceCode == u.ServiceCode &&
		slices.Equal(t.Addrs, u.Addrs) && bytes.Equal(t.Opaque, u.Opaque)
}

// Clone returns a transport that shares no memory with t.
func (t Transport) Clone() Transport {
	t.Addrs = slices.Clone(t.Addrs)
	t.Opaque = slices.Clone(t.Opaque)
	return t
}

// String returns, for example, "sctp 192.0.2.1,2001:db8::1 port 5001 (data
// plus control)".
func (t Transport) String() string {
	switch {
	case t.Type == 0:
		return "no transport"
	case t.Type == Opaque:
		return fmt.Sprintf("opaque %x", t.Opaque)
	}
	var s strings.Builder
	s.WriteString(t.Type.String())
	for i, a := range t.Addrs {
		s.WriteByte(" ,"[min(i, 1)])
		s.WriteString(a.String())
	}
	fmt.Fprintf(&s, " port %d", t.Port)
	if t.Use != DataOnly {
		fmt.Fprintf(&s, " (%v)", t.Use)
	}
	if t.ServiceCode != 0 {
		fmt.Fprintf(&s, " service code %d", t.ServiceCode)
	}
	return s.String()
}

// What is wrong with a transport. Validate makes no error itself: it is called for each
// transport that is read or written.
var (
	errNotTransport = errors.New("not a transport")
	errNoAddress    = errors.New("transport without an address")
	errAddresses    = errors.New("more than one address, which only SCTP transports may have")
	errControl      = errors.New("data plus control, which only SCTP transports can be")
	errUse          = errors.New("transport use is neither 0 (data only) nor 1 (data plus control)")
)

// Validate says what is wrong with a transport, nil if nothing is.
func (t *Transport) Validate() error {
	switch {
	case t.Type == Opaque:
		return nil
	case !t.Type.Known():
		return errNotTransport
	case len(t.Addrs) == 0:
		return errNoAddress
	case len(t.Addrs) > 1 && t.Type != SCTP:
		return errAddresses
	case t.Use != DataOnly && t.Type != SCTP:
		return errControl
	case t.Use > DataPlusControl:
		return errUse
	}
	return nil
}
