package stack

import (
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/kernel"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
	"github.com/rserpool/coredns-rserpool/internal/sctp/secure"
)

const (
	nameX = "spiffe://example.org/rserpool/pool/web/x"
	nameY = "spiffe://example.org/rserpool/registrar/y"
)

// trust is the TLS of a side with a certificate for a name.
func trust(ca *sctptest.Authority, name string) *secure.Config {
	c := ca.Config(ca.Issue(name, time.Hour))
	give := func() *tls.Config { return c }
	return &secure.Config{Client: give, Server: sctptest.ToAll(give), Identify: sctptest.NameOf}
}

// tlsKinds runs a test for each kind of SCTP that this machine has. The kernel's is there in
// the kernel lab.
func tlsKinds(t *testing.T, run func(t *testing.T, kind sctp.Kind)) {
	t.Run("udp", func(t *testing.T) { run(t, sctp.UDP) })
	t.Run("kernel", func(t *testing.T) {
		if !kernel.Supported() {
			t.Skip("the kernel has no SCTP")
		}
		run(t, sctp.Kernel)
	})
}

// TestTLS has a client and a server talk over TLS.
func TestTLS(t *testing.T) {
	tlsKinds(t, func(t *testing.T, kind sctp.Kind) {
		ca := sctptest.NewAuthority(t)
		s1, s2 := newStack(t, Config{Only: kind, TLS: trust(ca, nameX)}), newStack(t, Config{Only: kind, TLS: trust(ca, nameY)})
		x, y := stackSite(t, s1, sctptest.On("127.0.0.1:0")), stackSite(t, s2, sctptest.On("127.0.0.1:0"))
		a := x.Connect(destOf(y, s2, sctp.Any))
		ours, theirs := x.Up(), y.Up()
		if ours.Identity != nameY || theirs.Identity != nameX {
			t.Errorf("Got %q and %q, want %q and %q", ours.Identity, theirs.Identity, nameY, nameX)
		}
		for _, n := range []int{60, 1000, 16000, 65535} {
			want := sctp.Message{Data: sctptest.Message(n, 7), PPID: 11}
			if err := x.Send(a, want); err != nil {
				t.Fatal(err)
			}
			got := y.Received()
			if err := y.Send(theirs.Assoc, got.Message); err != nil {
				t.Fatal(err)
			}
			if back := x.Received(); !sctptest.Same(back.Message, want) {
				t.Errorf("Got %d bytes back, want %d", len(back.Message.Data), n)
			}
		}
		x.Shutdown(a)
		x.Down(sctp.LocalClose)
		if ev := y.Down(sctp.PeerShutdown); ev.Err != nil {
			t.Errorf("Got %v, want no error", ev.Err)
		}
	})
}

// TestTLSAndPlain has TLS on one side only: both are told at once.
func TestTLSAndPlain(t *testing.T) {
	tlsKinds(t, func(t *testing.T, kind sctp.Kind) {
		ca := sctptest.NewAuthority(t)
		refused, cut := make(chan string, 1), make(chan string, 1)
		logs := func(format string, args ...any) {
			switch line := fmt.Sprintf(format, args...); {
			case strings.Contains(line, "refused"):
				refused <- line
			case strings.Contains(line, "aborted"):
				cut <- line
			}
		}
		s1, s2 := newStack(t, Config{Only: kind, TLS: trust(ca, nameX), Logf: logs}), newStack(t, Config{Only: kind, Logf: logs})
		x, y := stackSite(t, s1, sctptest.On("127.0.0.1:0")), stackSite(t, s2, sctptest.On("127.0.0.1:0"))
		x.Connect(destOf(y, s2, sctp.Any))
		y.Up()
		if ev := y.Down(sctp.Overrun); !errors.Is(ev.Err, secure.ErrTLSAtPlain) {
			t.Errorf("Plain server: got %v", ev.Err)
		}
		if line, from := <-cut, x.LocalAddrs()[0].String(); !strings.Contains(line, "peer speaks TLS at the plain port") || !strings.Contains(line, from) {
			t.Errorf("Plain server: got log %q, want what the peer at %s does", line, from)
		}
		if ev := x.Next(sctp.Down); ev.Reason != sctp.ConnectFailed || !errors.Is(ev.Err, sctp.ErrUntrusted) ||
			errors.Is(ev.Err, sctp.ErrRefused) || !strings.Contains(ev.Err.Error(), "peer does not speak TLS here") {
			t.Errorf("TLS client: got %v", ev)
		}

		a := y.Connect(destOf(x, s1, sctp.Any))
		y.Up()
		if err := y.Send(a, sctp.Message{Data: sctptest.Message(60, 1), PPID: 11}); err != nil {
			t.Fatal(err)
		}
		y.Down(sctp.PeerAbort)
		if line := <-refused; !strings.Contains(line, "peer speaks plain ASAP or ENRP at the TLS port") {
			t.Errorf("Got log %q, want what the peer does", line)
		}
		x.None()
		if n := s1.Stats().Refused; n != 1 {
			t.Errorf("Got %d refused, want 1", n)
		}
	})
}

// TestTLSAny calls a server over all kinds of SCTP that there are. If they do not trust each
// other, the reason comes at once.
func TestTLSAny(t *testing.T) {
	ca, other := sctptest.NewAuthority(t), sctptest.NewAuthority(t)
	s1, s2 := newStack(t, Config{TLS: trust(ca, nameX)}), newStack(t, Config{TLS: trust(other, nameY)})
	x, y := stackSite(t, s1, sctptest.On("127.0.0.1:0")), stackSite(t, s2, sctptest.On("127.0.0.1:0"))
	x.Connect(destOf(y, s2, sctp.Any))
	ev := x.Next(sctp.Down)
	if ev.Reason != sctp.ConnectFailed || !errors.Is(ev.Err, sctp.ErrUntrusted) || !strings.Contains(ev.Err.Error(), "certificate of the peer is not accepted") {
		t.Errorf("Got %v, want what is wrong with the certificate", ev)
	}
	y.None()
}

// listening is where a site of the tests listens.
func listening() sctp.ListenConfig {
	cfg := sctptest.On("127.0.0.1:0")
	cfg.TCP = true
	return cfg
}

// TestTLSOverTCP has a client ask over TLS over TCP, and close its direction before the answer.
func TestTLSOverTCP(t *testing.T) {
	ca := sctptest.NewAuthority(t)
	s1, s2 := newStack(t, Config{Only: sctp.UDP, TLS: trust(ca, nameX)}), newStack(t, Config{Only: sctp.UDP, TLS: trust(ca, nameY)})
	x, y := stackSite(t, s1, sctptest.On("127.0.0.1:0")), stackSite(t, s2, listening())
	a := x.Connect(destOf(y, s2, sctp.TCP))
	ours, theirs := x.Up(), y.Up()
	if ours.Identity != nameY || theirs.Identity != nameX {
		t.Errorf("Got %q and %q, want %q and %q", ours.Identity, theirs.Identity, nameY, nameX)
	}
	b := theirs.Assoc
	for _, n := range []int{5, 60, 16384, 65535} {
		want := sctp.Message{Data: sctptest.Message(n, 7), PPID: 11}
		if err := x.Send(a, want); err != nil {
			t.Fatal(err)
		}
		if got := y.Received(); !sctptest.Same(got.Message, want) {
			t.Errorf("Got %d bytes, want %d", len(got.Message.Data), n)
		}
	}
	x.Shutdown(a)
	y.Next(sctp.PeerDone)
	answer := sctp.Message{Data: sctptest.Message(50000, 9), PPID: 11}
	if err := y.Send(b, answer); err != nil {
		t.Fatal(err)
	}
	y.Shutdown(b)
	if got := x.Next(sctp.Received); !sctptest.Same(got.Message, answer) {
		t.Errorf("Got an answer of %d bytes, want %d", len(got.Message.Data), len(answer.Data))
	}
	x.Down(sctp.LocalClose)
	y.Down(sctp.PeerShutdown)
}

// TestTLSAndPlainOverTCP has TLS on one side only.
func TestTLSAndPlainOverTCP(t *testing.T) {
	ca := sctptest.NewAuthority(t)
	s1, s2 := newStack(t, Config{Only: sctp.UDP, TLS: trust(ca, nameX)}), newStack(t, Config{Only: sctp.UDP})
	x, y := stackSite(t, s1, listening()), stackSite(t, s2, listening())
	x.Connect(destOf(y, s2, sctp.TCP))
	y.Up()
	if ev := y.Down(sctp.Overrun); !errors.Is(ev.Err, secure.ErrTLSAtPlain) {
		t.Errorf("Plain server: got %v", ev.Err)
	}
	if ev := x.Next(sctp.Down); ev.Reason != sctp.ConnectFailed || !errors.Is(ev.Err, sctp.ErrUntrusted) || !strings.Contains(ev.Err.Error(), "peer does not speak TLS here") {
		t.Errorf("TLS client: got %v", ev)
	}

	a := y.Connect(destOf(x, s1, sctp.TCP))
	y.Up()
	if err := y.Send(a, sctp.Message{Data: sctptest.Message(60, 1), PPID: 11}); err != nil {
		t.Fatal(err)
	}
	if ev := y.Next(sctp.Down); ev.Reason == sctp.LocalClose {
		t.Errorf("Plain client: got %v", ev)
	}
	x.None()
}

// TestTLSRefused has servers refuse a client's certificate. The client, which is up already,
// learns why.
func TestTLSRefused(t *testing.T) {
	ca, other := sctptest.NewAuthority(t), sctptest.NewAuthority(t)
	client := ca.Config(nil)
	client.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return other.Issue(nameX, time.Hour), nil }
	expired := ca.Config(ca.Issue(nameX, -time.Minute))
	denied := ca.Config(ca.Issue(nameX, time.Hour))
	server := trust(ca, nameY)
	server.Identify = func(cs tls.ConnectionState) (string, time.Time, error) {
		if len(cs.PeerCertificates) > 0 {
			return "", time.Time{}, errors.New("not this one")
		}
		return sctptest.NameOf(cs)
	}
	for _, tc := range []struct {
		name   string
		client *tls.Config
		want   string
	}{
		{"authority", client, "peer refuses our certificate: unknown authority"},
		{"expired", expired, "peer refuses our certificate: it has expired"},
		{"denied", denied, "peer refuses our certificate: its log says why"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, kind := range []sctp.Kind{sctp.UDP, sctp.TCP, sctp.Kernel} {
				t.Run(kind.String(), func(t *testing.T) {
					if kind == sctp.Kernel && !kernel.Supported() {
						t.Skip("the kernel has no SCTP")
					}
					only := kind
					if kind == sctp.TCP {
						only = sctp.UDP
					}
					give := func() *tls.Config { return tc.client }
					own := &secure.Config{Client: give, Server: sctptest.ToAll(give), Identify: sctptest.NameOf}
					s1, s2 := newStack(t, Config{Only: only, TLS: own}), newStack(t, Config{Only: only, TLS: server})
					x, y := stackSite(t, s1, sctptest.On("127.0.0.1:0")), stackSite(t, s2, listening())
					x.Connect(destOf(y, s2, kind))
					x.Up()
					ev := x.Down(sctp.PeerAbort)
					if !errors.Is(ev.Err, sctp.ErrUntrusted) || !strings.Contains(ev.Err.Error(), tc.want) {
						t.Errorf("Got %v, want %q", ev.Err, tc.want)
					}
					y.None()
				})
			}
		})
	}
}

// TestTLSHeap bounds what TLS adds to the heap of each end of an association, and has it add
// no goroutine.
func TestTLSHeap(t *testing.T) {
	const most = 12.0 // KiB
	run := func(t *testing.T, kind sctp.Kind) {
		ca := sctptest.NewAuthority(t)
		some(t, kind, nil, nil, false) // the runtime keeps some memory of the first goroutines
		heap, goroutines := math.Inf(1), 0.0
		// On a busy machine some messages are not acknowledged yet, and are counted: that only adds.
		for tries := 0; heap > most && tries < 3; tries++ {
			plain := some(t, kind, nil, nil, false)
			tls := some(t, kind, trust(ca, nameX), trust(ca, nameY), false)
			heap, goroutines = tls[1]-plain[1], tls[3]-plain[3]
			t.Logf("TLS adds %.2f KiB to %.2f KiB, and %.2f goroutines", heap, plain[1], goroutines)
		}
		if heap > most {
			t.Errorf("TLS adds %.2f KiB to the heap of each end, want at most %.0f KiB", heap, most)
		}
		if goroutines > 0.1 {
			t.Errorf("TLS adds %.2f goroutines to each end, want none", goroutines)
		}
	}
	tlsKinds(t, run)
	t.Run("tcp", func(t *testing.T) { run(t, sctp.TCP) })
}

// TestTLSCollision has two ends connect to each other at the same time, 100 times. Each time there
// is one association, with TLS at both ends.
func TestTLSCollision(t *testing.T) {
	tlsKinds(t, func(t *testing.T, kind sctp.Kind) {
		inLab := os.Getenv("IN_UML") != ""
		if kind == sctp.Kernel && inLab {
			// Without it, the first Connect is over before the second one begins.
			tc(t, "qdisc add dev lo root netem delay 1ms")
			t.Cleanup(func() { tc(t, "qdisc del dev lo root") })
		}
		ca := sctptest.NewAuthority(t)
		s1, s2 := newStack(t, Config{Only: kind, TLS: trust(ca, nameX)}), newStack(t, Config{Only: kind, TLS: trust(ca, nameY)})
		x, y := stackSite(t, s1, sctptest.On("127.0.0.1:0")), stackSite(t, s2, sctptest.On("127.0.0.1:0"))
		both := 0
		tries := 100
		if kind == sctp.Kernel && testing.Short() {
			tries = 10
		}
		for i := range byte(tries) {
			var a, b sctp.AssocID
			var wg sync.WaitGroup
			wg.Go(func() { a = x.Connect(destOf(y, s2, kind)) })
			wg.Go(func() { b = y.Connect(destOf(x, s1, kind)) })
			wg.Wait()
			ours, theirs := oneUp(x, a), oneUp(y, b)
			if ours.Identity != nameY || theirs.Identity != nameX {
				t.Fatalf("Got %q and %q, want %q and %q", ours.Identity, theirs.Identity, nameY, nameX)
			}
			if ours.Assoc == a && theirs.Assoc == b {
				both++
			}
			one, two := sctp.Message{Data: sctptest.Message(60, i), PPID: 11}, sctp.Message{Data: sctptest.Message(20000, i), PPID: 11}
			if err := errors.Join(x.Send(ours.Assoc, one), y.Send(theirs.Assoc, two)); err != nil {
				t.Fatal(err)
			}
			if !sctptest.Same(y.Next(sctp.Received).Message, one) || !sctptest.Same(x.Next(sctp.Received).Message, two) {
				t.Fatal("Got another message than was sent")
			}
			if n, m := associations(x), associations(y); n != 1 || m != 1 {
				t.Fatalf("Got %d and %d associations, want 1 and 1", n, m)
			}
			if i%10 == 0 {
				x.Shutdown(ours.Assoc)
			} else {
				x.Abort(ours.Assoc)
			}
			x.Next(sctp.Down)
			y.Next(sctp.Down)
			if n, m := associations(x), associations(y); n != 0 || m != 0 {
				t.Fatalf("Got %d and %d associations that are left, want none", n, m)
			}
		}
		if both == 0 && (kind == sctp.UDP || inLab) {
			t.Error("Both ends have never connected at the same time")
		}
		t.Logf("%d of %d associations were opened by both ends", both, tries)
	})
}

// tc changes how the kernel sends packets.
func tc(t *testing.T, args string) {
	t.Helper()
	if out, err := exec.Command("tc", strings.Fields(args)...).CombinedOutput(); err != nil {
		t.Fatalf("tc %s: %v\n%s", args, err, out)
	}
}

// oneUp waits for the association of a Connect, or for that of the peer's in its place.
func oneUp(x *sctptest.Site, own sctp.AssocID) (up sctp.Event) {
	x.T.Helper()
	for ended := false; up.Assoc == 0 || up.Assoc != own && !ended; {
		ev := x.Wait("Up or Down", func(ev sctp.Event) bool { return ev.Type != sctp.PeerAddrs })
		switch {
		case ev.Type == sctp.Up && up.Assoc == 0:
			up = ev
		case ev.Type == sctp.Down && ev.Assoc == own && errors.Is(ev.Err, sctp.ErrConnected):
			ended = true
		default:
			x.T.Fatalf("Got %v for association %d, %v for another one", ev, own, up)
		}
	}
	return up
}

// associations is how many associations the transport of a site has under TLS.
func associations(x *sctptest.Site) int {
	e := x.Endpoint.(*endpoint).kinds[0].Endpoint.(*secure.Endpoint)
	e.Mu.Lock()
	defer e.Mu.Unlock()
	return len(e.All)
}

// TestTLSQueueFull sends more than a peer reads that is paused. TLS accepts about as much as
// there is without it. What was accepted arrives, and the association goes on.
func TestTLSQueueFull(t *testing.T) {
	run := func(t *testing.T, kind sctp.Kind) {
		ca := sctptest.NewAuthority(t)
		plain, tls := fillQueue(t, kind, nil, nil), fillQueue(t, kind, trust(ca, nameX), trust(ca, nameY))
		t.Logf("accepted %d bytes without TLS, %d with it", plain, tls)
		// The kernel's buffers of TCP connections grow as it likes.
		if kind != sctp.TCP && (tls < plain/2 || tls > 2*plain) {
			t.Errorf("Got %d bytes accepted with TLS, %d without it, want about the same", tls, plain)
		}
	}
	tlsKinds(t, run)
	t.Run("tcp", func(t *testing.T) { run(t, sctp.TCP) })
}

// fillQueue fills the queue to a paused peer, and returns how many bytes were accepted.
func fillQueue(t *testing.T, kind sctp.Kind, client, server *secure.Config) (accepted int) {
	t.Helper()
	only := kind
	if kind == sctp.TCP {
		only = sctp.UDP
	}
	s1 := newStack(t, Config{Only: only, TLS: client})
	s2 := newStack(t, Config{Only: only, TLS: server})
	x, y := stackSite(t, s1, sctptest.On("127.0.0.1:0")), stackSite(t, s2, listening())
	a := x.Connect(destOf(y, s2, kind))
	x.Up()
	b := y.Up().Assoc
	y.Pause(b)
	var sent []sctp.Message
	send := func(n int) error {
		m := sctp.Message{Data: sctptest.Message(n, byte(len(sent))), PPID: 11}
		err := x.Send(a, m)
		if err == nil {
			sent, accepted = append(sent, m), accepted+n
		}
		return err
	}
	var err error
	for i := 0; err == nil; i++ {
		err = send([]int{60, 1000, 16384, 20000, 60000}[i%5])
	}
	for errors.Is(err, sctp.ErrQueueFull) && send(60) == nil {
	}
	// The kernel's buffers of TCP connections grow, and take more a moment later.
	if !errors.Is(err, sctp.ErrQueueFull) || kind != sctp.TCP && !x.Full(a) {
		t.Errorf("Got %v, want a full queue", err)
	}
	full := accepted
	y.Resume(b)
	writable := func(ev sctp.Event) bool { return ev.Type == sctp.Writable }
	x.Wait("Writable", writable)
	for _, n := range []int{60, 50000, 60} {
		err := send(n)
		for errors.Is(err, sctp.ErrQueueFull) { // that event was of a moment before
			x.Wait("Writable", writable)
			err = send(n)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for i, m := range sent {
		if got := y.Received(); !sctptest.Same(got.Message, m) {
			t.Fatalf("Message %d of %d bytes: got another one, of %d bytes", i, len(m.Data), len(got.Message.Data))
		}
	}
	x.Shutdown(a)
	if kind == sctp.TCP {
		y.Shutdown(y.Next(sctp.PeerDone).Assoc)
	}
	x.Down(sctp.LocalClose)
	return full
}
