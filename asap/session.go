package asap

import (
	"github.com/rserpool/coredns-rserpool/internal/tlv"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Cookie hands the state of a session to a pool user (RFC 5352, Section 2.2.11).
type Cookie struct {
	Cookie  []byte
	Unknown []rserpool.Parameter
}

// Type returns TypeCookie.
func (*Cookie) Type() MessageType { return TypeCookie }

// Append adds the message's wire form to b.
func (m *Cookie) Append(b []byte) ([]byte, error) { return m.append(b, TypeCookie) }

func (m *Cookie) append(b []byte, t MessageType) ([]byte, error) {
	w := begin(b, t, 0)
	w.Cookie(m.Cookie)
	w.Unknown(m.Unknown)
	return w.Finish()
}

func parseCookie(c *tlv.Cursor) *Cookie {
	m := new(Cookie)
	for c.Next() {
		switch c.Type() {
		case tlv.TypeCookie:
			c.Once()
			m.Cookie = c.Cookie()
		default:
			m.Unknown = c.Unknown(m.Unknown)
		}
	}
	c.Require(tlv.TypeCookie)
	return m
}

// CookieEcho hands the last cookie to the next pool element (RFC 5352, Section 2.2.12).
type CookieEcho struct {
	Cookie  []byte
	Unknown []rserpool.Parameter
}

// Type returns TypeCookieEcho.
func (*CookieEcho) Type() MessageType { return TypeCookieEcho }

// Append adds the message's wire form to b.
func (m *CookieEcho) Append(b []byte) ([]byte, error) { return (*Cookie)(m).append(b, TypeCookieEcho) }

// BusinessCard names the sender's pool, and the pool elements to fail over to, in their
// order (RFC 5352, Section 2.2.13).
type BusinessCard struct {
	Handle rserpool.PoolHandle
	// Elements have user transports. Their policies are optional.
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
