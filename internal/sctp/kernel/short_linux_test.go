package kernel

import (
	"testing"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
)

// TestKernelShort has either side send a message and shut the association down as soon
// as it is up. It may have ended in the kernel before anybody is told of its beginning.
func TestKernelShort(t *testing.T) {
	for _, tt := range []struct {
		name   string
		server bool // the side that is called speaks
	}{{"called side", true}, {"calling side", false}} {
		t.Run(tt.name, func(t *testing.T) {
			x, y := Side(t, "", sctp.Limits{}, "127.0.0.1:0"), Side(t, "", sctp.Limits{}, "127.0.0.1:0")
			speaker, hearer := x, y
			if tt.server {
				speaker, hearer = y, x
			}
			speak := func(a sctp.AssocID) {
				speaker.Say(a, "short")
				speaker.Shutdown(a)
			}
			if tt.server {
				speaker.Hooked(func(ev sctp.Event) {
					if ev.Type == sctp.Up {
						speak(ev.Assoc)
					}
				})
			}
			for range 100 {
				a := x.Connect(sctp.Dest{Addrs: y.LocalAddrs(), Kind: sctp.Kernel})
				if !tt.server {
					speak(a)
				}
				check(t, hearer)
				speaker.Up()
				speaker.Down(sctp.LocalClose)
			}
		})
	}
}

// check waits for a short association.
func check(t *testing.T, hearer *sctptest.Site) {
	t.Helper()
	up := hearer.Next(sctp.Up)
	if len(up.Peer) == 0 {
		t.Errorf("Got %v, want the peer's address", up)
	}
	if got := hearer.Next(sctp.Received); string(got.Message.Data) != "short" {
		t.Errorf("Got %q", got.Message.Data)
	}
	if down := hearer.Next(sctp.Down); down.Reason != sctp.PeerShutdown || down.Assoc != up.Assoc {
		t.Errorf("Got %v, want PeerShutdown of %d", down, up.Assoc)
	}
}
