package host

import (
	"errors"

	"github.com/rserpool/coredns-rserpool/internal/member"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/secure"
	"github.com/rserpool/coredns-rserpool/registrar"
)

// translate returns the registrar's event for a transport's; nil if there is none.
func translate(ev sctp.Event) registrar.Event {
	id := registrar.AssocID(ev.Assoc)
	switch ev.Type {
	case sctp.Up:
		return registrar.AssocUp{Assoc: id, Peer: ev.Peer, Claimed: ev.Claimed, Translated: ev.Translated, Via: ev.Kind, EncapPort: ev.EncapPort, Identity: ev.Identity}
	case sctp.PeerAddrs:
		return registrar.AssocAddrs{Assoc: id, Peer: ev.Peer, Claimed: ev.Claimed, Translated: ev.Translated}
	case sctp.Received:
		return registrar.Received{Assoc: id, PPID: ev.Message.PPID, Data: ev.Message.Data}
	case sctp.SendFailed:
		return registrar.SendFailed{Assoc: id, Data: ev.Message.Data}
	case sctp.PeerDone:
		return registrar.AssocDone{Assoc: id}
	case sctp.Down:
		return registrar.AssocDown{Assoc: id, Reason: downReason(ev), Err: connectError(ev)}
	case sctp.Writable: // the registrar drops what does not fit
	}
	return nil
}

// connectError returns why a Connect has failed; nil if something else has ended, or if there is an
// association with the peer already.
func connectError(ev sctp.Event) error {
	if failed := ev.Reason == sctp.ConnectFailed || errors.Is(ev.Err, sctp.ErrUntrusted); !failed || errors.Is(ev.Err, sctp.ErrConnected) {
		return nil
	}
	return ev.Err
}

// downReason returns how much the end of an association tells about the peer.
func downReason(ev sctp.Event) registrar.DownReason {
	switch {
	case errors.Is(ev.Err, sctp.ErrRenew):
		return registrar.DownRenew // also if the peer may have a new certificate
	case member.Untimely(ev.Err):
		return registrar.DownUntimely
	case errors.Is(ev.Err, secure.ErrTheirs):
		return registrar.DownUntrusted
	case errors.Is(ev.Err, sctp.ErrUntrusted):
		return registrar.DownSilent // it refuses our certificate, or speaks no TLS
	case ev.Farewell:
		return registrar.DownFarewell
	}
	switch ev.Reason {
	case sctp.PeerShutdown, sctp.PeerAbort:
		return registrar.DownByPeer
	case sctp.ConnectFailed:
		if errors.Is(ev.Err, sctp.ErrRefused) {
			return registrar.DownRefused
		}
	case sctp.Lost, sctp.LocalClose, sctp.Overrun:
	}
	return registrar.DownSilent
}
