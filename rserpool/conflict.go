package rserpool

import (
	"encoding/binary"
	"fmt"
)

// PoolKind is what all elements of a pool have in common (RFC 5352, Section 3.1, rules 2
// and 3). A value of 0 means unknown, except for Use.
type PoolKind struct {
	Policy    PolicyType
	Transport TransportType // of the user transport
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
		has, with = element.Transport.String(), "the pool's kind of user transport"
		if pool.Transport != 0 {
			want = pool.Transport.String()
			with, option = "user transport "+want, " (rsp: --serve "+want+":PORT)"
		}
		if pool.Transport == Opaque {
			option = ""
		}
	case CauseInconsistentDataControl:
		has, want = element.Use.String(), pool.Use.String()
		with, option = "a control channel", ", as rsp serve does"
		if pool.Use == DataOnly {
			with, option = "no control channel", ", as rsp register does"
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

// policyParameter is the type of a Pool Member Selection Policy parameter.
const policyParameter = 0x8

// Conflict is [Conflict] for a cause that a registrar has sent about an element.
// The cause names the pool's policy or transport (RFC 5354, Sections 3.12.6 and 3.12.8).
// If it does not, or if it names the element's, the pool's is unknown.
func (c Cause) Conflict(element PoolKind) string {
	var pool PoolKind
	switch {
	case c.Code == CauseInconsistentPolicy && len(c.Info) >= parameterHeader+4 && binary.BigEndian.Uint16(c.Info) == policyParameter:
		pool.Policy = PolicyType(binary.BigEndian.Uint32(c.Info[parameterHeader:]))
	case c.Code == CauseInconsistentTransportType && len(c.Info) >= parameterHeader && TransportType(binary.BigEndian.Uint16(c.Info)).Known():
		pool.Transport = TransportType(binary.BigEndian.Uint16(c.Info))
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
