package host

import (
	"bytes"
	"errors"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/enrp"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/registrar"
)

// perform performs the core's actions. The events that they cause are handled later, so
// that the core is never entered twice.
func (l *loop) perform(acts []registrar.Action) {
	for _, act := range acts {
		switch a := act.(type) {
		case *registrar.Send:
			l.send(a)
		case registrar.Connect:
			l.connect(a)
		case registrar.Close:
			switch ep := l.open[a.Assoc]; {
			case ep == nil: // it has ended
			case a.Abort:
				ep.Abort(sctp.AssocID(a.Assoc))
			default:
				ep.Shutdown(sctp.AssocID(a.Assoc))
			}
		case registrar.Announce:
			for _, g := range l.groups {
				if g.enrp == a.ENRP {
					g.Send(a.Data)
				}
			}
		case registrar.Removed:
			l.removed(a)
		case registrar.Log:
			l.h.log.add(a.Warn, a.Text)
		case registrar.Keep, registrar.KeepPeers:
			l.h.keeper.keep(a)
		case registrar.KeptAll:
			l.keeping = false
			l.h.keeper.keep(a)
		}
	}
}

// endpoint is the endpoint of ENRP or of ASAP.
func (l *loop) endpoint(enrp bool) sctp.Endpoint {
	if enrp {
		return l.enrp
	}
	return l.ep
}

func (l *loop) connect(a registrar.Connect) {
	to := sctp.Dest{Addrs: a.To, Kind: a.Via, EncapPort: a.EncapPort}
	peer := a.PPID == enrp.PPID
	if peer {
		to.EncapPort = l.h.cfg.PeerEncapPort
	}
	ep := l.endpoint(peer)
	id := registrar.AssocID(ep.Connect(to))
	if id != 0 {
		l.open[id] = ep
	}
	l.later = append(l.later, registrar.Connecting{Ref: a.Ref, Assoc: id})
}

func (l *loop) send(a *registrar.Send) {
	ep := l.open[a.Assoc]
	if ep == nil {
		return // Down was its last event
	}
	err := ep.Send(sctp.AssocID(a.Assoc), sctp.Message{Data: bytes.Clone(a.Data), PPID: a.PPID, Unordered: a.Unordered})
	switch {
	case err == nil:
		l.stats.Sent++
		if asap.MessageType(a.Data[0]) == asap.TypeEndpointKeepAlive && a.PPID == asap.PPID && ep.Behind(sctp.AssocID(a.Assoc)) {
			l.unsent[a.Assoc] = ep
		}
	case errors.Is(err, sctp.ErrNoAssoc), errors.Is(err, sctp.ErrClosed): // Down is on its way
	default:
		l.stats.SendsRefused++
		l.later = append(l.later, registrar.SendFailed{Assoc: a.Assoc})
	}
}
