package host

import (
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/registrar"
)

// translate puts a transport's event into the registrar's words.
func translate(ev sctp.Event) registrar.Event {
	id := registrar.AssocID(ev.Assoc)
	switch ev.Type {
	case sctp.Up:
		return registrar.AssocUp{Assoc: id, Peer: ev.Peer, Claimed: ev.Claimed, Translated: ev.Translated, Via: via(ev.Kind), EncapPort: ev.EncapPort}
	case sctp.PeerAddrs:
		return registrar.AssocAddrs{Assoc: id, Peer: ev.Peer, Claimed: ev.Claimed, Translated: ev.Translated}
	case sctp.Received:
		return registrar.Received{Assoc: id, PPID: ev.Message.PPID, Data: ev.Message.Data}
	case sctp.SendFailed:
		return registrar.SendFailed{Assoc: id, Data: ev.Message.Data}
	case sctp.PeerDone:
		return registrar.AssocDone{Assoc: id}
	case sctp.Down:
		return registrar.AssocDown{Assoc: id}
	}
	return nil
}

func via(k sctp.Kind) registrar.Via {
	switch k {
	case sctp.Kernel:
		return registrar.ViaKernel
	case sctp.UDP:
		return registrar.ViaUDP
	case sctp.TCP:
		return registrar.ViaTCP
	}
	return 0
}

func kind(v registrar.Via) sctp.Kind {
	switch v {
	case registrar.ViaKernel:
		return sctp.Kernel
	case registrar.ViaUDP:
		return sctp.UDP
	case registrar.ViaTCP:
		return sctp.TCP
	}
	return sctp.Any
}
