package registrar

import (
	"bytes"
	"net/netip"
	"slices"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// announcer sends server announces and counts the other registrars that do (RFC 5352,
// Section 3.6).
type announcer struct {
	// data is the last message, former the last one that was different: multicast may
	// return them.
	data, former []byte
	timer        timer
	heard        []heard
	// duplicate is the address of a registrar with this registrar's identifier.
	duplicate netip.Addr
}

// heard is another registrar, and when it was heard last.
type heard struct {
	id   rserpool.ServerID
	last time.Time
}

// maxAnnounced bounds the addresses in an announce, so that it fits into one datagram:
// 16 for SCTP, and each of them again for TCP, take less than 800 bytes.
const maxAnnounced = 16

// serverAnnounce returns the announce of the present addresses.
func (r *Registrar) serverAnnounce() *asap.ServerAnnounce {
	m := &asap.ServerAnnounce{Server: r.id}
	sctp := rserpool.Transport{Type: rserpool.SCTP}
	for _, addr := range r.places.asap[:min(len(r.places.asap), maxAnnounced)] {
		sctp.Port = addr.Port()
		sctp.Addrs = append(sctp.Addrs, addr.Addr())
	}
	if len(sctp.Addrs) > 0 {
		m.Transports = append(m.Transports, sctp)
	}
	if r.places.tcp {
		for _, addr := range sctp.Addrs {
			m.Transports = append(m.Transports, rserpool.Transport{
				Type: rserpool.TCP, Port: sctp.Port, Addrs: []netip.Addr{addr},
			})
		}
	}
	return m
}

// Due sends an announce.
func (n *announcer) Due(r *Registrar, _ *timer) {
	t := &r.cfg.Timers
	valid := max(t.ServerOutdate, 3*r.announceInterval())
	n.heard = slices.DeleteFunc(n.heard, func(h heard) bool { return r.now.Sub(h.last) > valid })
	r.timers.Arm(&n.timer, n, r.now.Add(r.announceInterval()))
	b, err := r.serverAnnounce().Append(nil)
	if err != nil {
		r.logf(true, "cannot announce the registrar: %v", err)
		return
	}
	if !bytes.Equal(b, n.data) {
		n.data, n.former = b, n.data
	}
	r.stats.AnnouncesSent.ASAP++
	r.act(Announce{Data: b})
}

// announceInterval is the time between two announces. In RFC 5352, Section 3.6, it is
// (N+1) times T6-Serverannounce. Here it stays below T7-ENRPoutdate, after which
// elements and users drop a registrar: anyone can send announces that count.
func (r *Registrar) announceInterval() time.Duration {
	t := &r.cfg.Timers
	n := time.Duration(len(r.announce.heard) + 1)
	return min(n*t.ServerAnnounce, max(t.ServerAnnounce, t.ServerOutdate*3/5))
}

func (r *Registrar) onAnnounced(ev Announced) {
	if ev.ENRP {
		r.onPresenceAnnounced(ev)
		return
	}
	msg, _, err := asap.Parse(ev.Data)
	m, ok := msg.(*asap.ServerAnnounce)
	if err != nil || !ok {
		r.stats.AnnouncesMalformed.ASAP++
		return
	}
	n := &r.announce
	if m.Server == r.id {
		if !bytes.Equal(ev.Data, n.data) && !bytes.Equal(ev.Data, n.former) { // otherwise it is one of this registrar's own
			r.onDuplicate(&r.stats.AnnouncesDuplicate.ASAP, ev.From)
		}
		return
	}
	r.stats.AnnouncesReceived.ASAP++
	i := slices.IndexFunc(n.heard, func(h heard) bool { return h.id == m.Server })
	switch {
	case i >= 0:
		n.heard[i].last = r.now
	case len(n.heard) < r.cfg.Limits.Servers:
		n.heard = append(n.heard, heard{m.Server, r.now})
		r.logf(false, "registrar %v announces itself from %v", m.Server, ev.From)
	}
}

// onDuplicate: another registrar announces itself with this registrar's identifier.
func (r *Registrar) onDuplicate(count *uint64, from netip.AddrPort) {
	*count++
	if at := plainAddr(from.Addr()); at != r.announce.duplicate {
		r.announce.duplicate = at
		r.warnOfNames("another registrar, at %v, has this registrar's server identifier %v: change server_id on one of the two", from, r.id)
	}
}
