package wire

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"net/netip"
	"time"
)

// CookieLife is how long a State Cookie is valid (Valid.Cookie.Life, RFC 9260,
// Section 16).
const CookieLife = 60 * time.Second

// Cookie is the State Cookie of an INIT ACK: the whole state of an association until
// the peer has shown that it receives our packets. A forged INIT costs one packet and
// no memory (RFC 9260, Section 5.1.3).
type Cookie struct {
	Made            int64 // stamp of the mux's clock
	Tag, TSN        uint32
	TieTag, TiePeer uint32 // of the association there was, or 0
	Local, PeerPort uint16 // SCTP ports
	From            netip.AddrPort
	To              netip.Addr
	Peer            InitParams // without cookie and unreported
}

var (
	ErrCookie      = errors.New("cookie was not made here")
	errCookieStale = errors.New("cookie is too old")
)

const (
	cookieFixed = 8 + 4*4 + 2*2 + 18 + 16 + initFixedLen + 1
	cookieMAC   = sha256.Size
)

// Seal returns the cookie as bytes, followed by their MAC with the key.
func (c *Cookie) Seal(key []byte) []byte {
	b := make([]byte, 0, cookieFixed+16*len(c.Peer.Addrs)+cookieMAC)
	b = binary.BigEndian.AppendUint64(b, uint64(c.Made))
	b = binary.BigEndian.AppendUint32(b, c.Tag)
	b = binary.BigEndian.AppendUint32(b, c.TSN)
	b = binary.BigEndian.AppendUint32(b, c.TieTag)
	b = binary.BigEndian.AppendUint32(b, c.TiePeer)
	b = binary.BigEndian.AppendUint16(b, c.Local)
	b = binary.BigEndian.AppendUint16(b, c.PeerPort)
	b = append16(b, c.From.Addr())
	b = binary.BigEndian.AppendUint16(b, c.From.Port())
	b = append16(b, c.To)
	b = c.Peer.AppendFixed(b)
	translated := byte(0)
	if c.Peer.Translated {
		translated = 1
	}
	b = append(b, translated)
	for _, a := range c.Peer.Addrs {
		b = append16(b, a)
	}
	mac := hmac.New(sha256.New, key)
	mac.Write(b)
	return mac.Sum(b)
}

// OpenCookie checks and reads a cookie. now is a stamp of the clock that Made is from.
// A cookie that is too old is returned with another error than ErrCookie.
func OpenCookie(b, key []byte, now int64) (Cookie, error) {
	n := len(b) - cookieMAC
	if n < cookieFixed {
		return Cookie{}, ErrCookie
	}
	mac := hmac.New(sha256.New, key)
	mac.Write(b[:n])
	if !hmac.Equal(mac.Sum(nil), b[n:]) {
		return Cookie{}, ErrCookie
	}
	c := Cookie{
		Made:     int64(binary.BigEndian.Uint64(b)),
		Tag:      binary.BigEndian.Uint32(b[8:]),
		TSN:      binary.BigEndian.Uint32(b[12:]),
		TieTag:   binary.BigEndian.Uint32(b[16:]),
		TiePeer:  binary.BigEndian.Uint32(b[20:]),
		Local:    binary.BigEndian.Uint16(b[24:]),
		PeerPort: binary.BigEndian.Uint16(b[26:]),
		From:     netip.AddrPortFrom(addr16(b[28:]), binary.BigEndian.Uint16(b[44:])),
		To:       addr16(b[46:]),
	}
	b = b[62:n]
	// A cookie with the right MAC is one of ours and has the right form.
	c.Peer, _ = ParseInit(b[:initFixedLen])
	c.Peer.Translated = b[initFixedLen] == 1
	for b = b[initFixedLen+1:]; len(b) >= 16; b = b[16:] {
		c.Peer.Addrs = append(c.Peer.Addrs, addr16(b))
	}
	if age := now - c.Made; age < 0 || age > int64(CookieLife) {
		return c, errCookieStale
	}
	return c, nil
}

// append16 adds an address as 16 bytes; the zero Addr becomes ::.
func append16(b []byte, a netip.Addr) []byte {
	if !a.IsValid() {
		a = netip.IPv6Unspecified()
	}
	v := a.As16()
	return append(b, v[:]...)
}

// addr16 is the inverse of append16.
func addr16(b []byte) netip.Addr {
	a := netip.AddrFrom16([16]byte(b[:16])).Unmap()
	if a == netip.IPv6Unspecified() {
		return netip.Addr{}
	}
	return a
}
