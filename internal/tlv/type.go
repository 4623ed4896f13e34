package tlv

import "github.com/rserpool/coredns-rserpool/rserpool"

// To add a parameter:
//
//  1. its type: a constant here, its name in rserpool/parameter.go, and its bit (see
//     [Cursor.Once]) if it is not one of 0x1 to 0x1f;
//  2. a method of [Cursor] that reads its value;
//  3. a method of [Builder] that writes it, and an Append function if it is of
//     use on its own;
//  4. the case in the messages or containers that hold it;
//  5. rows in the tables of the tests, and real bytes in testdata/golden of the
//     protocol that carries it.

// Type is a parameter type code (RFC 5354, Section 3, Table 1). Its two
// highest bits say what a receiver that does not know the type has to do.
type Type = rserpool.ParameterType

// The parameter types of RFC 5354, Table 1, one private parameter of the
// reference implementation, and five of ours.
const (
	TypeIPv4Address       Type = 0x1
	TypeIPv6Address       Type = 0x2
	TypeDCCPTransport          = Type(rserpool.DCCP)
	TypeSCTPTransport          = Type(rserpool.SCTP)
	TypeTCPTransport           = Type(rserpool.TCP)
	TypeUDPTransport           = Type(rserpool.UDP)
	TypeUDPLiteTransport       = Type(rserpool.UDPLite)
	TypePolicy            Type = 0x8
	TypePoolHandle        Type = 0x9
	TypePoolElement       Type = 0xa
	TypeServerInformation Type = 0xb
	TypeOperationError    Type = 0xc
	TypeCookie            Type = 0xd
	TypePEIdentifier      Type = 0xe
	TypePEChecksum        Type = 0xf
	TypeOpaqueTransport        = Type(rserpool.Opaque)
	// TypeHandleResolutionItems is RSPLIB's request for a number of pool
	// elements in a handle resolution response. Its high bits are 10, so
	// that a receiver without it skips it.
	TypeHandleResolutionItems Type = 0x803f
	// TypeEncapPort is ours: the UDP port at which an element in a Pool Element
	// parameter is reached over SCTP in UDP (RFC 6951), which RFC 5354 does not
	// have. Its high bits are 10, so that a receiver without it skips it; the
	// others are the RFC's number.
	//
	//	 0                   1                   2                   3
	//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
	//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
	//	|         Type = 0x9b27         |          Length = 8           |
	//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
	//	|           UDP port            |           Reserved            |
	//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
	TypeEncapPort Type = 0x8000 | 6951
	// TypeUserEncapPort is ours: the UDP port of the element's user transport,
	// where that is SCTP in UDP. It has the layout of TypeEncapPort. The element
	// sends it, and registrars pass it on to each other and to users.
	TypeUserEncapPort Type = TypeEncapPort + 1
	// TypeSuspect is ours: in a Pool Element parameter of ENRP, it says that the element is
	// suspect: its home hears nothing of it, but does not know it to be gone. Its high bits are
	// 10, so that a receiver without it skips it; the others are the RFC's number.
	//
	//	 0                   1                   2                   3
	//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
	//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
	//	|         Type = 0x94e9         |          Length = 8           |
	//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
	//	|             Seconds for which it has been suspect             |
	//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
	TypeSuspect Type = 0x8000 | 5353
	// TypeIdentity is ours: in a Pool Element parameter of ENRP, it is the name of the
	// certificate with which the element has registered at its home (RFC 5355, Section 3).
	// Its high bits are 10, so that a receiver without it skips it; the others are the RFC's
	// number.
	//
	//	 0                   1                   2                   3
	//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
	//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
	//	|         Type = 0x94eb         |        Length = 5..260        |
	//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
	//	:                 Name of 1 to 256 bytes, UTF-8                 :
	//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
	TypeIdentity Type = 0x8000 | 5355
	// TypeIdentityTail is ours: TypeIdentity without the bytes at its beginning that the one
	// before it in the message has as well, in either form. Shared is how many these are. The
	// elements of a pool or of a host have much of their names in common.
	//
	//	 0                   1                   2                   3
	//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
	//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
	//	|         Type = 0x94ec         |        Length = 5..260        |
	//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
	//	|    Shared     |       Rest of the name: 0 to 255 bytes        :
	//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
	TypeIdentityTail Type = TypeIdentity + 1
)

// IsTransport reports whether the type is one of the transport parameters.
func IsTransport(t Type) bool {
	return t >= TypeDCCPTransport && t <= TypeUDPLiteTransport || t == TypeOpaqueTransport
}

// skippable reports whether a receiver that does not know the type skips it
// and continues; otherwise it discards the message.
func skippable(t Type) bool { return t&0x8000 != 0 }

// reportable reports whether such a receiver tells the sender.
func reportable(t Type) bool { return t&0x4000 != 0 }
