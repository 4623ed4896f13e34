package rserpool

import "fmt"

// ParameterType is the type code of a parameter in ASAP and ENRP messages (RFC
// 5354, Section 3, Table 1). Its two highest bits say what a receiver that does
// not know the type has to do.
type ParameterType uint16

// parameterHeader is the length of a parameter's type and length fields, in bytes.
const parameterHeader = 4

var parameterNames = [...]string{
	0x1:  "IPv4 Address",
	0x2:  "IPv6 Address",
	0x3:  "DCCP Transport",
	0x4:  "SCTP Transport",
	0x5:  "TCP Transport",
	0x6:  "UDP Transport",
	0x7:  "UDP-Lite Transport",
	0x8:  "Pool Member Selection Policy",
	0x9:  "Pool Handle",
	0xa:  "Pool Element",
	0xb:  "Server Information",
	0xc:  "Operation Error",
	0xd:  "Cookie",
	0xe:  "PE Identifier",
	0xf:  "PE Checksum",
	0x10: "Opaque Transport",
}

// privateParameters are RSPLIB's private parameter, and four of ours.
var privateParameters = map[ParameterType]string{
	0x803f:        "Handle Resolution Items",
	0x8000 | 6951: "UDP Encapsulation Port",
	0x8000 | 6952: "User UDP Encapsulation Port",
	0x8000 | 5353: "Suspect",
	0x8000 | 5355: "Identity",
	0x8000 | 5356: "Identity Tail",
}

// String returns the name that RFC 5354 gives to the parameter, or the type in
// hexadecimal digits if it is unknown.
func (t ParameterType) String() string {
	if int(t) < len(parameterNames) && t != 0 {
		return parameterNames[t]
	}
	if name, ok := privateParameters[t]; ok {
		return name
	}
	return fmt.Sprintf("0x%04x", uint16(t))
}

// Known reports whether this package knows the type.
func (t ParameterType) Known() bool {
	_, private := privateParameters[t]
	return t != 0 && int(t) < len(parameterNames) || private
}

// Parameter is a parameter that was kept as received: its type is unknown, or unexpected
// in its place, and its high bits allow to skip it. Value has the bytes after the
// parameter header, without padding.
type Parameter struct {
	Type  ParameterType
	Value []byte
}
