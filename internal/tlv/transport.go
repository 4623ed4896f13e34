package tlv

import (
	"net/netip"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Transport reads the current parameter as a transport. Unknown parameters
// inside are treated as their types say, and not kept.
func (c *Cursor) Transport() (t rserpool.Transport) {
	t.Type = rserpool.TransportType(c.cur.typ)
	f := c.open()
	switch t.Type {
	case rserpool.Opaque:
		t.Opaque = clone(c.rest())
	case rserpool.SCTP:
		t.Port, t.Use = c.Uint16(), rserpool.TransportUse(c.Uint16())
		t.Addrs = c.addresses()
	case rserpool.DCCP:
		t.Port, _ = c.Uint16(), c.Uint16()
		t.ServiceCode = c.Uint32()
		t.Addrs = c.addresses()
	default:
		t.Port, _ = c.Uint16(), c.Uint16()
		t.Addrs = c.addresses()
	}
	c.close(f)
	if why := t.Validate(); why != nil {
		c.Refuse(why.Error())
	}
	return t
}

// addresses reads the address parameters up to the end of the container.
func (c *Cursor) addresses() []netip.Addr {
	if c.pos == c.end {
		return nil
	}
	const shortest = 8 // an IPv4 Address parameter
	most := (c.end - c.pos) / shortest
	var addrs []netip.Addr
	switch {
	case most == 1 && c.lone != nil:
		addrs, c.lone = c.lone[:0], nil
	case c.room != nil:
		addrs = c.room(most)[:0]
	default:
		addrs = make([]netip.Addr, 0, most)
	}
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
func (w *Builder) Transport(t *rserpool.Transport) {
	if why := t.Validate(); why != nil {
		w.fail("%v: %v", *t, why)
		return
	}
	start := w.open(Type(t.Type))
	if t.Type == rserpool.Opaque {
		w.bytes(t.Opaque)
		w.close(start)
		return
	}
	w.Uint16(t.Port)
	w.Uint16(uint16(t.Use))
	if t.Type == rserpool.DCCP {
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
		w.fail("invalid address")
	case a.Zone() != "":
		w.fail("address %v has a zone, which is only valid on this machine", a)
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
func AppendTransport(b []byte, t *rserpool.Transport) ([]byte, error) {
	w := begin(b)
	w.Transport(t)
	return w.Finish()
}
