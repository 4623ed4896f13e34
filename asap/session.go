package asap

import (
	"github.com/rserpool/coredns-rserpool/internal/tlv"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Cookie hands a state cookie to a pool user (RFC 5352, Section 2.2.11).
type Cookie struct {
	Cookie  []byte
	Unknown []rserpool.Parameter
}

// Type returns TypeCookie.
func (*Cookie) Type() MessageType { return TypeCookie }

// Append adds the message's wire form to b.
func (m *Cookie) Append(b []byte) ([]byte, error) {
	return appendCookie(b, TypeCookie, m.Cookie, m.Unknown)
}

func parseCookie(c *tlv.Cursor) *Cookie {
	m := new(Cookie)
	m.Cookie, m.Unknown = readCookie(c)
	return m
}

// CookieEcho hands the last cookie to the next element (RFC 5352, Section
// 2.2.12).
type CookieEcho struct {
	Cookie  []byte
	Unknown []rserpool.Parameter
}

// Type returns TypeCookieEcho.
func (*CookieEcho) Type() MessageType { return TypeCookieEcho }

// Append adds the message's wire form to b.
func (m *CookieEcho) Append(b []byte) ([]byte, error) {
	return appendCookie(b, TypeCookieEcho, m.Cookie, m.Unknown)
}

func parseCookieEcho(c *tlv.Cursor) *CookieEcho {
	m := new(CookieEcho)
	m.Cookie, m.Unknown = readCookie(c)
	return m
}

func appendCookie(b []byte, t MessageType, cookie []byte, unknown []rserpool.Parameter) ([]byte, error) {
	w := begin(b, t, 0)
	w.Cookie(cookie)
	w.Unknown(unknown)
	return w.Finish()
}

func readCookie(c *tlv.Cursor) (cookie []byte, unknown []rserpool.Parameter) {
	for c.Next() {
		switch c.Type() {
		case tlv.TypeCookie:
			c.Once()
			cookie = c.Cookie()
		default:
			unknown = c.Unknown(unknown)
		}
	}
	c.Require(tlv.TypeCookie)
	return cookie, unknown
}

// BusinessCard names the sender's pool and the order of failover (RFC 5352,
// Section 2.2.13).
type BusinessCard struct {
	Handle rserpool.PoolHandle
	// Elements have user transports, and need no policies.
	Elements []rserpool.PoolElement
	Unknown  []rserpool.Parameter
}

// Type returns TypeBusinessCard.
func (*BusinessCard) Type() MessageType { return TypeBusinessCard }

// Append adds the message's wire form to b.
func (m *BusinessCard) Append(b []byte) ([]byte, error) {
	w := begin(b, TypeBusinessCard, 0)
	w.PoolHandle(m.Handle)
	appendElements(&w, m.Elements)
	w.Unknown(m.Unknown)
	return w.Finish()
}

func parseBusinessCard(c *tlv.Cursor) *BusinessCard {
	m := new(BusinessCard)
	for c.Next() {
		switch c.Type() {
		case tlv.TypePoolHandle:
			c.Once()
			m.Handle = c.PoolHandle()
		case tlv.TypePoolElement:
			m.Elements = parseElement(c, m.Elements)
		default:
			m.Unknown = c.Unknown(m.Unknown)
		}
	}
	c.Require(tlv.TypePoolHandle)
	return m
}
