package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// The known parameters of INIT and INIT ACK (RFC 9260, Section 3.3.2).
const (
	paramIPv4         = 5
	paramIPv6         = 6
	paramCookie       = 7
	ParamUnrecognized = 8
	paramPreservative = 9
	ParamHostName     = 11
	paramAddrTypes    = 12
)

const (
	initFixedLen = 16
	// MaxPeerAddrs is how many addresses are kept of a peer's INIT, and listed in
	// ours.
	MaxPeerAddrs = 32
	// maxCookie is the largest cookie of an INIT ACK, in bytes: the COOKIE ECHO has
	// to fit into one packet.
	maxCookie = 1100
	// MaxReported is how many bytes of unrecognized parameters are sent back.
	MaxReported = 128
	// MinRwnd is the smallest receive window that a peer may have, in bytes.
	MinRwnd = 1500
)

// InitParams is the content of an INIT or INIT ACK.
type InitParams struct {
	Tag, RWND  uint32
	Out, In    uint16 // streams
	TSN        uint32
	Addrs      []netip.Addr
	Translated bool // From has dropped the listed addresses
	Cookie     []byte
	Unreported []byte // whole parameters to report as unrecognized
}

var (
	errInitParams = errors.New("INIT is incomplete")
	ErrHostName   = errors.New("INIT has a host name as address")
)

// ParseInit reads the body of an INIT or INIT ACK. The high bits of the type of an
// unknown parameter say whether it is skipped and whether it is reported (RFC 9260,
// Section 3.2.1). The result does not alias b.
func ParseInit(b []byte) (InitParams, error) {
	if len(b) < initFixedLen {
		return InitParams{}, fmt.Errorf("%w: %d bytes of at least %d", errInitParams, len(b), initFixedLen)
	}
	p := InitParams{
		Tag:  binary.BigEndian.Uint32(b),
		RWND: binary.BigEndian.Uint32(b[4:]),
		Out:  binary.BigEndian.Uint16(b[8:]),
		In:   binary.BigEndian.Uint16(b[10:]),
		TSN:  binary.BigEndian.Uint32(b[12:]),
	}
	if p.Tag == 0 || p.Out == 0 || p.In == 0 || p.RWND < MinRwnd {
		return p, fmt.Errorf("%w: tag %#x, window %d, streams %d out and %d in", errInitParams, p.Tag, p.RWND, p.Out, p.In)
	}
	for b = b[initFixedLen:]; len(b) >= 4; {
		n := int(binary.BigEndian.Uint16(b[2:]))
		if n < 4 || n > len(b) {
			return p, fmt.Errorf("%w: parameter %d has length %d of %d", errInitParams, binary.BigEndian.Uint16(b), n, len(b))
		}
		more, err := p.parameter(binary.BigEndian.Uint16(b), b[4:n], b[:n])
		if err != nil {
			return p, err
		}
		if !more {
			break
		}
		b = b[min(Padded(n), len(b)):]
	}
	return p, nil
}

// parameter reads one parameter with value v; tlv is the whole parameter. more is
// false if the rest of the INIT is to be skipped.
func (p *InitParams) parameter(typ uint16, v, tlv []byte) (more bool, err error) {
	switch typ {
	case paramIPv4, paramIPv6:
		if a, ok := netip.AddrFromSlice(v); ok && a.Is4() == (typ == paramIPv4) {
			p.addAddr(a.Unmap())
		}
	case paramCookie:
		if len(v) > maxCookie {
			return false, fmt.Errorf("cookie of %d bytes: at most %d are accepted", len(v), maxCookie)
		}
		p.Cookie = slices.Clone(v)
	case ParamHostName:
		return false, ErrHostName
	case ParamUnrecognized, paramPreservative, paramAddrTypes:
	default:
		if typ&0x4000 != 0 && len(p.Unreported)+Padded(len(tlv)) <= MaxReported {
			p.Unreported = appendPadded(p.Unreported, tlv)
		}
		return typ&0x8000 != 0, nil
	}
	return true, nil
}

// addAddr adds an address if a peer can have it.
func (p *InitParams) addAddr(a netip.Addr) {
	if a.IsUnspecified() || a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}) ||
		len(p.Addrs) >= MaxPeerAddrs || slices.Contains(p.Addrs, a) {
		return
	}
	p.Addrs = append(p.Addrs, a)
}

// From says from which address the INIT or INIT ACK arrived. If it lists addresses and
// this one is not among them, a NAT is in between, and the listed addresses have no
// meaning on this side of it (RFC 6951, Section 5.7).
func (p *InitParams) From(a netip.Addr) {
	if len(p.Addrs) > 0 && !slices.Contains(p.Addrs, a.WithZone("")) {
		p.Addrs, p.Translated = nil, true
	}
}

// AppendFixed appends the part before the parameters.
func (p *InitParams) AppendFixed(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, p.Tag)
	b = binary.BigEndian.AppendUint32(b, p.RWND)
	b = binary.BigEndian.AppendUint16(b, p.Out)
	b = binary.BigEndian.AppendUint16(b, p.In)
	return binary.BigEndian.AppendUint32(b, p.TSN)
}

// Body returns the body of an INIT, or of an INIT ACK if p has a cookie. Unreported
// are the peer's unknown parameters, which it is told about.
func (p *InitParams) Body() []byte {
	b := p.AppendFixed(make([]byte, 0, 256))
	if p.Cookie != nil {
		b = AppendTLV(b, paramCookie, p.Cookie)
	}
	for _, a := range p.Addrs {
		if a.Is4() {
			b = AppendTLV(b, paramIPv4, a.AsSlice())
		} else {
			b = AppendTLV(b, paramIPv6, a.AsSlice())
		}
	}
	if p.Cookie == nil {
		b = AppendTLV(b, paramAddrTypes, []byte{0, paramIPv4, 0, paramIPv6})
	}
	for u := p.Unreported; len(u) >= 4; {
		n := int(binary.BigEndian.Uint16(u[2:]))
		b = AppendTLV(b, ParamUnrecognized, u[:n])
		u = u[min(Padded(n), len(u)):]
	}
	return b
}
