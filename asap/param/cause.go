package param

// CauseCode is the code of an error cause (RFC 5354, Section 3.12, Table 2).
type CauseCode uint16

// The error causes of RFC 5354, Table 2.
const (
	CauseUnspecified               CauseCode = 0x0
	CauseUnrecognizedParameter     CauseCode = 0x1
	CauseUnrecognizedMessage       CauseCode = 0x2
	CauseInvalidValues             CauseCode = 0x3
	CauseNonUniquePEIdentifier     CauseCode = 0x4
	CauseInconsistentPolicy        CauseCode = 0x5
	CauseLackOfResources           CauseCode = 0x6
	CauseInconsistentTransportType CauseCode = 0x7
	CauseInconsistentDataControl   CauseCode = 0x8
	CauseUnknownPoolHandle         CauseCode = 0x9
	CauseSecurity                  CauseCode = 0xa
)

// Cause is one error cause of an Operation Error parameter (RFC 5354, Section
// 3.12). Info is the cause-specific information without padding.
type Cause struct {
	Code CauseCode
	Info []byte
}
