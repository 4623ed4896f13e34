package sctp

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
	paramUnrecognized = 8
	paramPreservative = 9
	paramHostName     = 11
	paramAddrTypes    = 12
)

const (
	initFixedLen = 16
	// maxPeerAddrs bounds the addresses that we remember of a peer, and that
	// we list; the kernel's limit on paths is of the same kind.
	maxPeerAddrs = 32
	// maxCookie bounds the cookie of an INIT ACK, so that it fits the COOKIE
	// ECHO into one packet.
	maxCookie = 1100
	// maxReported bounds the unrecognized parameters that we send back.
	maxReported = 128
	// minRwnd is the least receive window that a peer may have.
	minRwnd = 1500
)

// initParams is what an INIT or INIT ACK says.
type initParams struct {
	tag, rwnd  uint32
	out, in    uint16 // streams
	tsn        uint32
	addrs      []netip.Addr
	translated bool // from: addrs were listed, and dropped
	cookie     []byte
	unreported []byte // whole parameters to send back as unrecognized
}

var (
	errInitParams = errors.New("INIT lacks what it must have")
	errHostName   = errors.New("INIT gives a host name as address")
)

// parseInit reads the body of an INIT or INIT ACK. Unknown parameters are
// skipped, and kept for a report, as the high bits of their type say
// (RFC 9260, Section 3.2.1). What it returns aliases nothing of b.
func parseInit(b []byte) (initParams, error) {
	if len(b) < initFixedLen {
		return initParams{}, fmt.Errorf("%w: %d bytes of at least %d", errInitParams, len(b), initFixedLen)
	}
	p := initParams{
		tag:  binary.BigEndian.Uint32(b),
		rwnd: binary.BigEndian.Uint32(b[4:]),
		out:  binary.BigEndian.Uint16(b[8:]),
		in:   binary.BigEndian.Uint16(b[10:]),
		tsn:  binary.BigEndian.Uint32(b[12:]),
	}
	if p.tag == 0 || p.out == 0 || p.in == 0 || p.rwnd < minRwnd {
		return p, fmt.Errorf("%w: tag %#x, window %d, streams %d out and %d in", errInitParams, p.tag, p.rwnd, p.out, p.in)
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
		b = b[min(padded(n), len(b)):]
	}
	return p, nil
}

// parameter takes in one parameter with value v; tlv is all of it.
func (p *initParams) parameter(typ uint16, v, tlv []byte) (more bool, err error) {
	switch typ {
	case paramIPv4, paramIPv6:
		if a, ok := netip.AddrFromSlice(v); ok && a.Is4() == (typ == paramIPv4) {
			p.addAddr(a.Unmap())
		}
	case paramCookie:
		if len(v) > maxCookie {
			return false, fmt.Errorf("cookie of %d bytes, at most %d are taken", len(v), maxCookie)
		}
		p.cookie = slices.Clone(v)
	case paramHostName:
		return false, errHostName
	case paramUnrecognized, paramPreservative, paramAddrTypes:
	default:
		if typ&0x4000 != 0 && len(p.unreported)+padded(len(tlv)) <= maxReported {
			p.unreported = appendPadded(p.unreported, tlv)
		}
		return typ&0x8000 != 0, nil
	}
	return true, nil
}

// addAddr remembers an address that a peer may have.
func (p *initParams) addAddr(a netip.Addr) {
	if a.IsUnspecified() || a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}) ||
		len(p.addrs) >= maxPeerAddrs || slices.Contains(p.addrs, a) {
		return
	}
	p.addrs = append(p.addrs, a)
}

// from takes in where an INIT or INIT ACK came from. If it lists addresses and
// that one is not among them, there is a NAT between, and the listed ones mean
// nothing on this side of it (RFC 6951, Section 5.7).
func (p *initParams) from(a netip.Addr) {
	if len(p.addrs) > 0 && !slices.Contains(p.addrs, a.WithZone("")) {
		p.addrs, p.translated = nil, true
	}
}

// appendFixed adds the part without parameters.
func (p *initParams) appendFixed(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, p.tag)
	b = binary.BigEndian.AppendUint32(b, p.rwnd)
	b = binary.BigEndian.AppendUint16(b, p.out)
	b = binary.BigEndian.AppendUint16(b, p.in)
	return binary.BigEndian.AppendUint32(b, p.tsn)
}

// body is the body of an INIT, or of an INIT ACK where p has a cookie. The
// unreported parameters are the peer's, sent back to it.
func (p *initParams) body() []byte {
	b := p.appendFixed(make([]byte, 0, 256))
	if p.cookie != nil {
		b = appendTLV(b, paramCookie, p.cookie)
	}
	for _, a := range p.addrs {
		if a.Is4() {
			b = appendTLV(b, paramIPv4, a.AsSlice())
		} else {
			b = appendTLV(b, paramIPv6, a.AsSlice())
		}
	}
	if p.cookie == nil {
		b = appendTLV(b, paramAddrTypes, []byte{0, paramIPv4, 0, paramIPv6})
	}
	for u := p.unreported; len(u) >= 4; {
		n := int(binary.BigEndian.Uint16(u[2:]))
		b = appendTLV(b, paramUnrecognized, u[:n])
		u = u[min(padded(n), len(u)):]
	}
	return b
}
