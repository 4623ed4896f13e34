package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// The parameters of INIT and INIT ACK that we know (RFC 9260, Section 3.3.2).
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
	// MaxPeerAddrs bounds the addresses that we remember of a peer, and that
	// we list; the kernel's limit on paths is of the same kind.
	MaxPeerAddrs = 32
	// maxCookie bounds the cookie of an INIT ACK, so that it fits the COOKIE
	// ECHO into one packet.
	maxCookie = 1100
	// MaxReported bounds the unrecognized parameters that we send back.
	MaxReported = 128
	// MinRwnd is the least receive window that a peer may have.
	MinRwnd = 1500
)

// InitParams is what an INIT or INIT ACK says.
type InitParams struct {
	Tag, RWND  uint32
	Out, In    uint16 // streams
	TSN        uint32
	Addrs      []netip.Addr
	Translated bool // from: addrs were listed, and dropped
	Cookie     []byte
	Unreported []byte // whole parameters to send back as unrecognized
}

var (
	errInitParams = errors.New("INIT lacks what it must have")
	ErrHostName   = errors.New("INIT gives a host name as address")
)

// ParseInit reads the body of an INIT or INIT ACK. Unknown parameters are
// skipped, and kept for a report, as the high bits of their type say
// (RFC 9260, Section 3.2.1). What it returns aliases nothing of b.
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

// parameter takes in one parameter with value v; tlv is all of it.
func (p *InitParams) parameter(typ uint16, v, tlv []byte) (more bool, err error) {
	switch typ {
	case paramIPv4, paramIPv6:
		if a, ok := netip.AddrFromSlice(v); ok && a.Is4() == (typ == paramIPv4) {
			p.addAddr(a.Unmap())
		}
	case paramCookie:
		if len(v) > maxCookie {
			return false, fmt.Errorf("cookie of %d bytes, at most %d are taken", len(v), maxCookie)
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

// addAddr remembers an address that a peer may have.
func (p *InitParams) addAddr(a netip.Addr) {
	if a.IsUnspecified() || a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}) ||
		len(p.Addrs) >= MaxPeerAddrs || slices.Contains(p.Addrs, a) {
		return
	}
	p.Addrs = append(p.Addrs, a)
}

// From takes in where an INIT or INIT ACK came from. If it lists addresses and
// that one is not among them, there is a NAT between, and the listed ones mean
// nothing on this side of it (RFC 6951, Section 5.7).
func (p *InitParams) From(a netip.Addr) {
	if len(p.Addrs) > 0 && !slices.Contains(p.Addrs, a.WithZone("")) {
		p.Addrs, p.Translated = nil, true
	}
}

// AppendFixed adds the part without parameters.
func (p *InitParams) AppendFixed(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, p.Tag)
	b = binary.BigEndian.AppendUint32(b, p.RWND)
	b = binary.BigEndian.AppendUint16(b, p.Out)
	b = binary.BigEndian.AppendUint16(b, p.In)
	return binary.BigEndian.AppendUint32(b, p.TSN)
}

// Body is the body of an INIT, or of an INIT ACK where p has a cookie. The
// unreported parameters are the peer's, sent back to it.
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
