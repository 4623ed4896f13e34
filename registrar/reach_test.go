package registrar

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// TestPeerNotReached: the log names a configured peer that cannot be reached, once, and tells when
// it is reached, whichever side connects.
func TestPeerNotReached(t *testing.T) {
	const place = "10.0.0.9:9901"
	w := newWorld(t, func(c *Config) { c.Peers = peers(place) })
	w.logs = true
	next := AssocID(100)
	connects := func() (ref uint64, to []netip.AddrPort) {
		t.Helper()
		for _, c := range w.r.peers.seeds {
			ref, to = c.ref, c.addrs
		}
		if ref == 0 {
			t.Fatal("the registrar does not connect to its peer")
		}
		return ref, to
	}
	fails := func(err error) {
		t.Helper()
		ref, _ := connects()
		next++
		w.handle(Connecting{Ref: ref, Assoc: next})
		w.handle(AssocDown{Assoc: next, Reason: DownRefused, Err: err})
		w.pass(w.r.cfg.Timers.PeerCallGap)
	}
	lines := func(when string, want ...string) {
		t.Helper()
		var got []string
		for _, l := range w.trace {
			if strings.HasPrefix(l, "log peer ") {
				got = append(got, strings.TrimPrefix(l, "log "))
			}
		}
		w.trace = nil
		if !slices.Equal(got, want) {
			t.Errorf("%s: got the lines\n%s\nwant\n%s", when, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	const not = "peer " + place + " cannot be reached: "
	const once = ". This line is not repeated until it is"
	w.handle(Serving{ENRP: peers("10.0.0.1:9901")})
	fails(nil) // for instance, both sides connect at the same time
	lines("an end that says nothing")
	refused := errors.New("peer refused the association")
	for range 3 {
		fails(refused)
	}
	lines("nobody is there", not+refused.Error()+once)

	ref, to := connects()
	w.handle(Connecting{Ref: ref, Assoc: 7})
	w.handle(AssocUp{Assoc: 7, Peer: to, Via: rserpool.ViaKernel, ENRP: true})
	lines("somebody is there", "peer "+place+" is reached")
	w.handle(AssocDown{Assoc: 7, Reason: DownByPeer})
	w.pass(w.r.cfg.Timers.PeerCallGap)
	lines("a link that ends")
	fails(errors.Join(errors.New("certificate of \x1b[31m"), refused))
	lines("the next outage", not+`"certificate of \x1b[31m; peer refused the association"`+once)
	w.handle(AssocUp{Assoc: 8, Peer: to, Via: rserpool.ViaKernel, ENRP: true})
	lines("the peer connects", "peer "+place+" is reached")
}

// TestOtherNotReached: registrars that no operator has configured come and go.
func TestOtherNotReached(t *testing.T) {
	w := newWorld(t)
	w.handle(Serving{ENRP: peers("10.0.0.1:9901")})
	w.r.connect(w.r.addSeed(peers("10.0.0.9:9901"), heardTries, netip.MustParseAddr("10.0.0.9")))
	w.logs, w.trace = true, nil
	w.handle(Connecting{Ref: w.r.refs, Assoc: 7})
	w.handle(AssocDown{Assoc: 7, Reason: DownRefused, Err: errors.New("peer refused the association")})
	w.want()
}
