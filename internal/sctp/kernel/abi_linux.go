package kernel

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strconv"
	"unsafe"

	linuxsctp "github.com/ishidawataru/sctp"
	"golang.org/x/sys/unix"

	"github.com/rserpool/coredns-rserpool/internal/sctp/localaddr"
)

// The names, numbers and structures of linux/sctp.h that are used here. Numbers come from
// github.com/ishidawataru/sctp if it has them; its encoding of addresses and its SCTP_EOF
// are not those of Linux. The structures follow RFC 6458. Their integers are in the
// machine's byte order, except for payload protocol identifiers, ports and causes.

// Socket options of the level IPPROTO_SCTP (RFC 6458, Section 8).
const (
	optRTOInfo          = linuxsctp.SCTP_RTOINFO
	optAssocInfo        = linuxsctp.SCTP_ASSOCINFO
	optInitMsg          = linuxsctp.SCTP_INITMSG
	optNoDelay          = linuxsctp.SCTP_NODELAY
	optPrimaryAddr      = linuxsctp.SCTP_PRIMARY_ADDR
	optPeerAddrParams   = linuxsctp.SCTP_PEER_ADDR_PARAMS
	optEvents           = linuxsctp.SCTP_EVENTS
	optPeerAddrInfo     = linuxsctp.SCTP_GET_PEER_ADDR_INFO
	optFragInterleave   = 18
	optPartialDelivery  = 19
	optRecvRcvInfo      = 32
	optBindAdd          = linuxsctp.SCTP_SOCKOPT_BINDX_ADD
	optBindRemove       = linuxsctp.SCTP_SOCKOPT_BINDX_REM
	optPeerAddrs        = linuxsctp.SCTP_GET_PEER_ADDRS
	optLocalAddrs       = linuxsctp.SCTP_GET_LOCAL_ADDRS
	optPeelOff          = 122 // with flags; since Linux 4.13
	optConnect          = linuxsctp.SCTP_SOCKOPT_CONNECTX3
	optRemoteEncapsPort = 132
	sizeofSockaddr      = 128 // sockaddr_storage
	maxAddrsOption      = 8 + 64*unix.SizeofSockaddrInet6
	flagNotification    = linuxsctp.MSG_NOTIFICATION // in msg_flags
	ancillarySndInfo    = 2
	ancillaryRcvInfo    = 3
	hbEnable            = 1 // spp_flags
	hbDisable           = 2
	hbDemand            = 4
	pmtudEnable         = 1 << 3
	pmtudDisable        = 1 << 4
)

// snd_flags.
const (
	sndUnordered = 1 << 0
	sndAbort     = 1 << 2
	sndEOF       = 0x200
)

// sn_type of notifications (RFC 6458, Section 6.1).
const (
	noteAssocChange     = 0x8001
	notePeerAddrChange  = 0x8002
	notePartialDelivery = 0x8006
)

// sac_state.
const (
	commUp = iota
	commLost
	restart
	shutdownComp
	cantStartAssoc
)

// spc_state.
const (
	addrRemoved     = 2
	addrAdded       = 3
	addrMadePrimary = 4
	addrConfirmed   = 5
)

// sndInfo is sctp_sndinfo (RFC 6458, Section 5.3.4).
type sndInfo struct {
	stream, flags uint16
	ppid          uint32 // in network byte order
	context       uint32
	assoc         int32
}

// rcvInfo is sctp_rcvinfo (RFC 6458, Section 5.3.5).
type rcvInfo struct {
	stream, ssn, flags uint16
	ppid               uint32 // in network byte order
	tsn, cumTSN        uint32
	context            uint32
	assoc              int32
}

// sndControl is the ancillary data of one sendmsg.
type sndControl struct {
	hdr  unix.Cmsghdr
	info sndInfo
}

// rcvControl holds the ancillary data of one recvmsg. The kernel may append more, which is
// ignored.
type rcvControl struct {
	hdr  unix.Cmsghdr
	info rcvInfo
	rest [64]byte
}

// rtoInfo is sctp_rtoinfo for future associations. Times are in milliseconds; 0 changes
// nothing.
type rtoInfo struct {
	_            int32
	initial, max uint32
	_            uint32
}

// assocParams is sctp_assocparams; association 0 stands for future ones.
type assocParams struct {
	assoc      int32
	maxRetrans uint16
	_          uint16
	_          [3]uint32
}

// initMsg is sctp_initmsg.
type initMsg struct{ outStreams, maxInStreams, maxAttempts, maxTimeout uint16 }

// peelOff is sctp_peeloff_flags_arg_t.
type peelOff struct {
	assoc, fd int32
	flags     uint32
}

// connectAddrs is sctp_getaddrs_old, the argument of CONNECTX3; size is in bytes.
type connectAddrs struct {
	assoc int32
	size  int32
	addrs unsafe.Pointer
}

// peerAddrParams is sctp_paddrparams, which is packed.
type peerAddrParams [156]byte

// heartbeatParams returns the parameters of future associations.
func heartbeatParams(milliseconds uint32, pathMaxRetrans uint16) *peerAddrParams {
	var p peerAddrParams
	ne.PutUint16(p[4:], unix.AF_INET)
	ne.PutUint32(p[132:], milliseconds)
	ne.PutUint16(p[136:], pathMaxRetrans)
	ne.PutUint32(p[138:], pathMTU)
	ne.PutUint32(p[146:], hbEnable|pmtudDisable)
	return &p
}

// pathParams returns flags for one of a peer's addresses.
func pathParams(kid int32, peer netip.AddrPort, flags uint32) *peerAddrParams {
	var p peerAddrParams
	ne.PutUint32(p[:], uint32(kid))
	copy(p[4:], appendSockaddr(nil, peer))
	ne.PutUint32(p[146:], flags)
	return &p
}

// missesParams returns how many time-outs each address of an association survives.
func missesParams(kid int32, pathMaxRetrans uint16) *peerAddrParams {
	var p peerAddrParams
	ne.PutUint32(p[:], uint32(kid))
	ne.PutUint16(p[4:], unix.AF_INET)
	ne.PutUint16(p[136:], pathMaxRetrans)
	return &p
}

// udpEncaps is sctp_udpencaps, which is not packed: the address is aligned as a pointer is.
type udpEncaps struct {
	assoc int32
	addr  [sizeofSockaddr / unsafe.Sizeof(uintptr(0))]uintptr
	port  [2]byte // in network byte order
}

// address returns the bytes of the address.
func (u *udpEncaps) address() []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(&u.addr)), sizeofSockaddr)
}

// peerAddrInfo is sctp_paddrinfo, which is packed. Only the association, the address and its
// state are used.
type peerAddrInfo [152]byte

// spinfo_state.
const addrUnconfirmed = 3

// prim is sctp_prim.
type prim struct {
	assoc int32
	addr  [sizeofSockaddr]byte
}

var ne = binary.NativeEndian

// htonl returns v in network byte order, as a field of a structure.
func htonl(v uint32) uint32 {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], v)
	return ne.Uint32(b[:])
}

// appendSockaddr appends an address as sockaddr_in or sockaddr_in6.
func appendSockaddr(b []byte, ap netip.AddrPort) []byte {
	a := ap.Addr().Unmap()
	if a.Is4() {
		b = ne.AppendUint16(b, unix.AF_INET)
		b = binary.BigEndian.AppendUint16(b, ap.Port())
		b = append(b, a.AsSlice()...)
		return append(b, make([]byte, 8)...)
	}
	b = ne.AppendUint16(b, unix.AF_INET6)
	b = binary.BigEndian.AppendUint16(b, ap.Port())
	b = ne.AppendUint32(b, 0) // flow information
	b = append(b, a.AsSlice()...)
	return ne.AppendUint32(b, scopeID(a.Zone()))
}

// parseSockaddr reads an address and returns its length; 0 if it is not an address.
func parseSockaddr(b []byte) (netip.AddrPort, int) {
	if len(b) < unix.SizeofSockaddrInet4 {
		return netip.AddrPort{}, 0
	}
	port := binary.BigEndian.Uint16(b[2:])
	switch family := ne.Uint16(b); {
	case family == unix.AF_INET:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), port), unix.SizeofSockaddrInet4
	case family == unix.AF_INET6 && len(b) >= unix.SizeofSockaddrInet6:
		a := netip.AddrFrom16([16]byte(b[8:24])).Unmap()
		if a.Is6() && a.IsLinkLocalUnicast() {
			a = a.WithZone(localaddr.Zone(ne.Uint32(b[24:])))
		}
		return netip.AddrPortFrom(a, port), unix.SizeofSockaddrInet6
	}
	return netip.AddrPort{}, 0
}

// scopeID returns the number of an interface named or numbered by zone, or 0.
func scopeID(zone string) uint32 {
	if zone == "" {
		return 0
	}
	if ifi, err := net.InterfaceByName(zone); err == nil {
		return uint32(ifi.Index)
	}
	n, _ := strconv.ParseUint(zone, 10, 32)
	return uint32(n)
}
