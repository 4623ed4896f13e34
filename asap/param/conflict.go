package param

import (
	"encoding/binary"
	"fmt"
)

// PoolKind is what all elements of a pool have in common (RFC 5352, Section
// 3.1, rules 2 and 3). A value of 0 is not known, but for Use.
type PoolKind struct {
	Policy    PolicyType
	Transport Type // of the user transport
	Use       TransportUse
}

// Kind is the part of an element that has to agree with its pool.
func (e *PoolElement) Kind() PoolKind {
	return PoolKind{e.Policy.Type, e.UserTransport.Type, e.UserTransport.Use}
}

// Conflict says in words how an element differs from its pool, and what to do
// about it, for the causes 5, 7 and 8. For other causes it is code's name.
func Conflict(code CauseCode, element, pool PoolKind) string {
	var has, want, with, option string
	switch code {
	case CauseInconsistentPolicy:
		has, with = element.Policy.String(), "the pool's policy"
		if pool.Policy != 0 {
			want = pool.Policy.String()
			with, option = "policy "+want, " (rsp: --policy "+want+")"
		}
	case CauseInconsistentTransportType:
		has, with = protocolName(element.Transport), "the pool's kind of user transport"
		if pool.Transport != 0 {
			want = protocolName(pool.Transport)
			with, option = "user transport "+want, " (rsp: --serve "+want+":PORT)"
		}
		if pool.Transport == TypeOpaqueTransport {
			option = ""
		}
	case CauseInconsistentDataControl:
		has, want = element.Use.String(), pool.Use.String()
		with, option = "a control channel", " (rsp: --control)"
		if pool.Use == DataOnly {
			with, option = "no control channel", " (rsp: no --control)"
		}
	default:
		return code.String()
	}
	text := fmt.Sprintf("%v: the element has %s", code, has)
	if want != "" {
		text += ", the pool has " + want
	}
	return text + ": start the element with " + with + option + ", or give it another pool"
}

// protocolName is a transport's name, or its parameter type if it is unknown.
func protocolName(t Type) string {
	if name := (Transport{Type: t}).Protocol(); name != "" {
		return name
	}
	return t.String()
}

// Conflict is [Conflict] for a cause that a registrar has sent about an element.
// The cause names the pool's policy or transport (RFC 5354, Sections 3.12.6 and
// 3.12.8). Without that, or if the cause names the element's, the pool's is not
// known.
func (c Cause) Conflict(element PoolKind) string {
	var pool PoolKind
	switch {
	case c.Code == CauseInconsistentPolicy && len(c.Info) >= headerLen+4 && Type(binary.BigEndian.Uint16(c.Info)) == TypePolicy:
		pool.Policy = PolicyType(binary.BigEndian.Uint32(c.Info[headerLen:]))
	case c.Code == CauseInconsistentTransportType && len(c.Info) >= headerLen && Type(binary.BigEndian.Uint16(c.Info)).IsTransport():
		pool.Transport = Type(binary.BigEndian.Uint16(c.Info))
	case c.Code == CauseInconsistentDataControl && element.Use == DataOnly:
		pool.Use = DataPlusControl // there are only two
	}
	if pool.Policy == element.Policy {
		pool.Policy = 0
	}
	if pool.Transport == element.Transport {
		pool.Transport = 0
	}
	return Conflict(c.Code, element, pool)
}
