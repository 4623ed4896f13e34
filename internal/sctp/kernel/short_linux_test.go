package kernel

import (
	"testing"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
)

// TestKernelShort has a peer send a message and shut the association down as soon as it is
// up. It has ended in the kernel before the endpoint learns of its beginning.
func TestKernelShort(t *testing.T) {
	for _, tt := range []struct {
		name   string
		called bool // the endpoint is called by the peer
	}{{"called", true}, {"calling", false}} {
		t.Run(tt.name, func(t *testing.T) {
			x, y, z := Side(t, "", sctp.Limits{}, "127.0.0.1:0"), Side(t, "", sctp.Limits{}, "127.0.0.1:0"), Side(t, "", sctp.Limits{}, "127.0.0.1:0")
			// x is busy with another association.
			busy, release := make(chan struct{}), make(chan struct{})
			first := true
			x.Hooked(func(sctp.Event) {
				if first {
					first = false
					close(busy)
					<-release
				}
			})
			z.Connect(sctp.Dest{Addrs: x.LocalAddrs(), Kind: sctp.Kernel})
			<-busy
			if tt.called {
				y.Connect(sctp.Dest{Addrs: x.LocalAddrs(), Kind: sctp.Kernel})
			} else {
				x.Connect(sctp.Dest{Addrs: y.LocalAddrs(), Kind: sctp.Kernel})
			}
			a := y.Up().Assoc
			y.Say(a, "short")
			y.Shutdown(a)
			y.Down(sctp.LocalClose)
			close(release)

			x.Next(sctp.Up) // of z
			up := x.Next(sctp.Up)
			if len(up.Peer) != 1 || up.Peer[0] != y.LocalAddrs()[0] {
				t.Errorf("Got %v, want the peer %v", up, y.LocalAddrs())
			}
			if got := x.Next(sctp.Received); string(got.Message.Data) != "short" || got.Assoc != up.Assoc {
				t.Errorf("Got %v", got)
			}
			if down := x.Next(sctp.Down); down.Reason != sctp.PeerShutdown || down.Assoc != up.Assoc {
				t.Errorf("Got %v, want PeerShutdown of %d", down, up.Assoc)
			}
		})
	}
}
