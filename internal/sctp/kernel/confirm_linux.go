package kernel

import "net/netip"

// maxAsked is how many addresses of a peer are sent a HEARTBEAT beside those of the kernel.
const maxAsked = 8

// confirmed splits a peer's addresses into confirmed ones and those that the peer only
// lists (RFC 9260, Section 5.4). For the kernel, the addresses of Connect are confirmed.
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

// askClaimed sends a HEARTBEAT to addresses that are not confirmed. The kernel itself does
// so only after 0.5 to 1.5 s.
func (s *socket) askClaimed(kid int32, claimed []netip.AddrPort) {
	for _, ap := range claimed[:min(len(claimed), maxAsked)] {
		_ = setOption(s, "SCTP_PEER_ADDR_PARAMS", optPeerAddrParams, pathParams(kid, ap, hbDemand))
	}
}
