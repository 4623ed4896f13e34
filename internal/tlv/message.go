package tlv

import "github.com/rserpool/coredns-rserpool/rserpool"

// Registrars write two messages straight from their handlespace, without the structs
// that packages asap and enrp have for them. These packages call the same functions.

const (
	handleResolutionResponse = 0x06 // asap.TypeHandleResolutionResponse
	handleTableResponse      = 0x03 // enrp.TypeHandleTableResponse
)

// BeginHandleResolutionResponse begins an ASAP_HANDLE_RESOLUTION_RESPONSE behind b, to
// be followed by pool elements or by error causes (RFC 5352, Section 2.2.6).
func (w *Builder) BeginHandleResolutionResponse(b []byte, accept bool, h rserpool.PoolHandle, policy rserpool.Policy) {
	*w = BeginMessage(b, handleResolutionResponse, flag(accept, 0x01))
	w.PoolHandle(h)
	if policy.Type != 0 {
		w.Policy(policy)
	}
}

// BeginHandleTableResponse begins an ENRP_HANDLE_TABLE_RESPONSE behind b, to be followed
// by pool entries: a pool handle and at least one pool element each (RFC 5353, Section
// 2.3).
func (w *Builder) BeginHandleTableResponse(b []byte, sender, receiver rserpool.ServerID, reject, more bool) {
	*w = BeginMessage(b, handleTableResponse, flag(reject, 0x01)|flag(more, 0x02))
	w.Uint32(uint32(sender))
	w.Uint32(uint32(receiver))
}

func flag(set bool, value uint8) uint8 {
	if set {
		return value
	}
	return 0
}
