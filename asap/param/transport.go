package param

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

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
	// Type tells the transport protocol: one of TypeDCCPTransport,
	// TypeSCTPTransport, TypeTCPTransport, TypeUDPTransport,
	// TypeUDPLiteTransport and TypeOpaqueTransport.
	Type Type
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

// Protocol returns the transport protocol's name in lower case: "sctp", "tcp",
// "udp", "udplite", "dccp" or "opaque"; "" if there is no transport.
func (t Transport) Protocol() string {
	switch t.Type {
	case TypeDCCPTransport:
		return "dccp"
	case TypeSCTPTransport:
		return "sctp"
	case TypeTCPTransport:
		return "tcp"
	case TypeUDPTransport:
		return "udp"
	case TypeUDPLiteTransport:
		return "udplite"
	case TypeOpaqueTransport:
		return "opaque"
	}
	return ""
}

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
	switch t.Type {
	case 0:
		return "no transport"
	case TypeOpaqueTransport:
		return fmt.Sprintf("opaque %x", t.Opaque)
	}
	var s strings.Builder
	s.WriteString(t.Protocol())
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

// unfit says what is wrong with a transport, "" if nothing is.
func (t *Transport) unfit() string {
	switch {
	case t.Type == TypeOpaqueTransport:
		return ""
	case !t.Type.IsTransport():
		return "not a transport"
	case len(t.Addrs) == 0:
		return "transport without an address"
	case len(t.Addrs) > 1 && t.Type != TypeSCTPTransport:
		return "more than one address, which only SCTP transports may have"
	case t.Use != DataOnly && t.Type != TypeSCTPTransport:
		return "data plus control, which only SCTP transports can be"
	case t.Use > DataPlusControl:
		return "transport use is neither 0 (data only) nor 1 (data plus control)"
	}
	return ""
}

// Transport reads the current parameter as a transport. Unknown parameters
// inside are treated as their types want it, but not kept.
func (c *Cursor) Transport() (t Transport) {
	t.Type = c.cur.typ
	f := c.open()
	switch t.Type {
	case TypeOpaqueTransport:
		t.Opaque = clone(c.rest())
	case TypeSCTPTransport:
		t.Port, t.Use = c.Uint16(), TransportUse(c.Uint16())
		t.Addrs = c.addresses()
	case TypeDCCPTransport:
		t.Port, _ = c.Uint16(), c.Uint16()
		t.ServiceCode = c.Uint32()
		t.Addrs = c.addresses()
	default:
		t.Port, _ = c.Uint16(), c.Uint16()
		t.Addrs = c.addresses()
	}
	c.close(f)
	if why := t.unfit(); why != "" {
		c.Refuse(why)
	}
	return t
}

// addresses reads the address parameters up to the end of the container.
func (c *Cursor) addresses() []netip.Addr {
	if c.pos == c.end {
		return nil
	}
	const shortest = 8 // an IPv4 Address parameter
	addrs := make([]netip.Addr, 0, (c.end-c.pos)/shortest)
	for c.Next() {
		switch c.Type() {
		case TypeIPv4Address:
			f := c.open()
			if b := c.take(4); b != nil {
				addrs = append(addrs, netip.AddrFrom4([4]byte(b)))
			}
			c.close(f)
		case TypeIPv6Address:
			f := c.open()
			if b := c.take(16); b != nil {
				addrs = append(addrs, netip.AddrFrom16([16]byte(b)))
			}
			c.close(f)
		default:
			c.mayskip()
		}
	}
	return addrs
}

// Transport writes a transport parameter.
func (w *Builder) Transport(t *Transport) {
	if why := t.unfit(); why != "" {
		w.fail("%v: %s", *t, why)
		return
	}
	start := w.open(t.Type)
	if t.Type == TypeOpaqueTransport {
		w.bytes(t.Opaque)
		w.close(start)
		return
	}
	w.Uint16(t.Port)
	w.Uint16(uint16(t.Use))
	if t.Type == TypeDCCPTransport {
		w.Uint32(t.ServiceCode)
	}
	for _, a := range t.Addrs {
		w.address(a)
	}
	w.close(start)
}

func (w *Builder) address(a netip.Addr) {
	switch {
	case !a.IsValid():
		w.fail("address without a value")
	case a.Zone() != "":
		w.fail("address %v has a zone, which means nothing to others", a)
	case a.Is4():
		start := w.open(TypeIPv4Address)
		v := a.As4()
		w.bytes(v[:])
		w.close(start)
	default:
		start := w.open(TypeIPv6Address)
		v := a.As16()
		w.bytes(v[:])
		w.close(start)
	}
}

// AppendTransport adds a transport parameter to b; on error it returns b as it
// was.
func AppendTransport(b []byte, t *Transport) ([]byte, error) {
	w := begin(b)
	w.Transport(t)
	return w.Finish()
}
