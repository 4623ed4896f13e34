package sctp_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
)

// TestCutsLogged: one line in ten seconds for each reason, which says how many there were
// before. Reasons without number do not fill the log.
func TestCutsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n sctp.Counters
		peer := netip.MustParseAddrPort("192.0.2.1:3863")
		n.Cut(sctp.UDP, peer, sctp.ErrStalled) // nobody wants to know
		lines := sctptest.KeepLog(&n)
		for range 1000 {
			n.Cut(sctp.UDP, peer, errors.New("message is too long"))
			n.Refuse(sctp.TCP, peer, errors.New("no room"))
			time.Sleep(10 * time.Millisecond)
		}
		n.Refuse(sctp.TCP, peer, errors.New("no room"))
		want := "sctp: aborted the association (udp) with 192.0.2.1:3863: message is too long\n" +
			"sctp: refused an association (tcp) with 192.0.2.1:3863: no room\n" +
			"sctp: refused an association (tcp) with 192.0.2.1:3863: no room (1998 more aborted or refused since the last such line)\n"
		if got := lines(); got != want {
			t.Errorf("Got %q, want %q", got, want)
		}
		if s := n.Stats(); s.Overruns != 1001 || s.Refused != 1001 {
			t.Errorf("Got %d cut off and %d refused, want 1001 each", s.Overruns, s.Refused)
		}
		for i := range 1000 {
			n.Refuse(sctp.TCP, peer, fmt.Errorf("reason %d", i))
		}
		if got := strings.Count(lines(), "\n"); got > 60 {
			t.Errorf("%d lines, want 60 at most", got)
		}
	})
}
