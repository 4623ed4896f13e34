package param

// PolicyType is a pool member selection policy's type (RFC 5356, Section
// 3.1). Bit 31 marks private ones, bit 30 the adaptive ones of the RFC; the
// private ones of RSPLIB do not use bit 30, so ask [PolicyType.Adaptive].
type PolicyType uint32

// The policies of RFC 5356, and RSPLIB's private ones that have a wire format.
const (
	RoundRobin                             PolicyType = 0x00000001
	WeightedRoundRobin                     PolicyType = 0x00000002
	Random                                 PolicyType = 0x00000003
	WeightedRandom                         PolicyType = 0x00000004
	Priority                               PolicyType = 0x00000005
	LeastUsed                              PolicyType = 0x40000001
	LeastUsedDegradation                   PolicyType = 0x40000002
	PriorityLeastUsed                      PolicyType = 0x40000003
	RandomizedLeastUsed                    PolicyType = 0x40000004
	RandomizedPriorityLeastUsed            PolicyType = 0xb0001001
	RandomizedLeastUsedDegradation         PolicyType = 0xb0001002
	PriorityLeastUsedDegradation           PolicyType = 0xb0001003
	RandomizedPriorityLeastUsedDegradation PolicyType = 0xb0001004
	WeightedRandomDPF                      PolicyType = 0xb0002001
	LeastUsedDPF                           PolicyType = 0xb0002002
	LeastUsedDegradationDPF                PolicyType = 0xb0002003
)

// Policy is a pool member selection policy with its values (RFC 5354, Section
// 3.8; RFC 5356). Only the fields that the type has are on the wire. Policies
// are comparable.
type Policy struct {
	Type PolicyType
	// Weight is the relative capacity; 0 means that the element cannot
	// serve (RFC 5356, Section 3.2).
	Weight uint32
	// Priority is higher for elements to be preferred.
	Priority uint32
	// Load runs from 0 (idle) to 0xffffffff (100 %).
	Load uint32
	// LoadDegradation is what one more user adds to Load, in its unit.
	LoadDegradation uint32
	// DPF is the Load DPF or Weight DPF of the distance-sensitive policies:
	// the fraction of 0xffffffff that a unit of Distance costs.
	DPF uint32
	// Distance is written by registrars, in milliseconds.
	Distance uint32
	// Extra holds the bytes that follow the fields that are known: for an
	// unknown type, all of its data. They are kept byte for byte.
	Extra string
}
