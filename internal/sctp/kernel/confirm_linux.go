package kernel

import "net/netip"

// maxAsked bounds the addresses of a peer that are asked beside the kernel's own
// HEARTBEATs.
const maxAsked = 8

// confirmed tells the addresses of a peer that are confirmed from those that it
// only claims to have (RFC 9260, Section 5.4). The kernel takes those for confirmed
// that we have called.
func (s *socket) confirmed(kid int32, peer []netip.AddrPort) (confirmed, claimed []netip.AddrPort) {
	if len(peer) < 2 {
		return peer, nil
	}
	for _, ap := range peer {
		var info peerAddrInfo
		ne.PutUint32(info[:], uint32(kid))
		copy(info[4:], appendSockaddr(nil, ap))
		if getOption(s, "SCTP_GET_PEER_ADDR_INFO", optPeerAddrInfo, &info) == nil && ne.Uint32(info[132:]) != addrUnconfirmed {
			confirmed = append(confirmed, ap)
		} else {
			claimed = append(claimed, ap)
		}
	}
	return confirmed, claimed
}

// askClaimed sends a HEARTBEAT to addresses that a peer claims to have, for which
// the kernel by itself takes half a second to one and a half.
func (s *socket) askClaimed(kid int32, claimed []netip.AddrPort) {
	for _, ap := range claimed[:min(len(claimed), maxAsked)] {
		_ = setOption(s, "SCTP_PEER_ADDR_PARAMS", optPeerAddrParams, pathParams(kid, ap, hbDemand))
	}
}
