package sctp

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"net/netip"
	"time"
)

// cookieLife is how long a State Cookie is good (Valid.Cookie.Life, RFC 9260,
// Section 16).
const cookieLife = 60 * time.Second

// cookie is the State Cookie of an INIT ACK: all that we need to know of an
// association until the peer has shown that it gets our packets. Nothing else
// is kept, so forged INITs cost a packet and no memory (RFC 9260,
// Section 5.1.3).
type cookie struct {
	made            int64 // stamp of the mux's clock
	tag, tsn        uint32
	tieTag, tiePeer uint32 // of the association there was, or 0
	local, peerPort uint16 // SCTP ports
	from            netip.AddrPort
	to              netip.Addr
	peer            initParams // without cookie and unreported
}

var (
	errCookie      = errors.New("cookie is not one of ours")
	errCookieStale = errors.New("cookie is too old")
)

const (
	cookieFixed = 8 + 4*4 + 2*2 + 18 + 16 + initFixedLen + 1
	cookieMAC   = sha256.Size
)

// seal gives the cookie as bytes with their MAC under key.
func (c *cookie) seal(key []byte) []byte {
	b := make([]byte, 0, cookieFixed+16*len(c.peer.addrs)+cookieMAC)
	b = binary.BigEndian.AppendUint64(b, uint64(c.made))
	b = binary.BigEndian.AppendUint32(b, c.tag)
	b = binary.BigEndian.AppendUint32(b, c.tsn)
	b = binary.BigEndian.AppendUint32(b, c.tieTag)
	b = binary.BigEndian.AppendUint32(b, c.tiePeer)
	b = binary.BigEndian.AppendUint16(b, c.local)
	b = binary.BigEndian.AppendUint16(b, c.peerPort)
	b = append16(b, c.from.Addr())
	b = binary.BigEndian.AppendUint16(b, c.from.Port())
	b = append16(b, c.to)
	b = c.peer.appendFixed(b)
	translated := byte(0)
	if c.peer.translated {
		translated = 1
	}
	b = append(b, translated)
	for _, a := range c.peer.addrs {
		b = append16(b, a)
	}
	mac := hmac.New(sha256.New, key)
	mac.Write(b)
	return mac.Sum(b)
}

// openCookie checks and reads a cookie; now is a stamp of the clock that made it. A cookie past its life comes with
// errCookieStale.
func openCookie(b, key []byte, now int64) (cookie, error) {
	n := len(b) - cookieMAC
	if n < cookieFixed {
		return cookie{}, errCookie
	}
	mac := hmac.New(sha256.New, key)
	mac.Write(b[:n])
	if !hmac.Equal(mac.Sum(nil), b[n:]) {
		return cookie{}, errCookie
	}
	c := cookie{
		made:     int64(binary.BigEndian.Uint64(b)),
		tag:      binary.BigEndian.Uint32(b[8:]),
		tsn:      binary.BigEndian.Uint32(b[12:]),
		tieTag:   binary.BigEndian.Uint32(b[16:]),
		tiePeer:  binary.BigEndian.Uint32(b[20:]),
		local:    binary.BigEndian.Uint16(b[24:]),
		peerPort: binary.BigEndian.Uint16(b[26:]),
		from:     netip.AddrPortFrom(addr16(b[28:]), binary.BigEndian.Uint16(b[44:])),
		to:       addr16(b[46:]),
	}
	b = b[62:n]
	// What we sealed ourselves has the right form.
	c.peer, _ = parseInit(b[:initFixedLen])
	c.peer.translated = b[initFixedLen] == 1
	for b = b[initFixedLen+1:]; len(b) >= 16; b = b[16:] {
		c.peer.addrs = append(c.peer.addrs, addr16(b))
	}
	if age := now - c.made; age < 0 || age > int64(cookieLife) {
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
