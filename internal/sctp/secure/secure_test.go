package secure

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
)

// TestMessages sends messages of many lengths both ways. Both sides know each other's name.
func TestMessages(t *testing.T) {
	inWorld(t, sctp.Limits{}, nil, func(t *testing.T, w *world) {
		a := w.x.Endpoint.Connect(dest("10.0.0.2:3864"))
		ours, theirs := w.x.Up(), w.y.Up()
		if ours.Assoc != a || ours.Identity != nameY || theirs.Identity != nameX {
			t.Errorf("Got association %d with %q and %q, want %d with %q and %q", ours.Assoc, ours.Identity, theirs.Identity, a, nameY, nameX)
		}
		for _, n := range []int{4, 5, 60, 1000, 16379, 16384, 16385, 50001, 65535} {
			want := sctp.Message{Data: message(n, byte(n)), PPID: 11}
			for _, dir := range []struct {
				from, to *site
				id       sctp.AssocID
			}{{w.x, w.y, a}, {w.y, w.x, theirs.Assoc}} {
				if err := dir.from.Endpoint.Send(dir.id, want); err != nil {
					t.Fatalf("Send of %d bytes: %v", n, err)
				}
				if got := dir.to.Next(sctp.Received); !sctptest.Same(got.Message, want) {
					t.Fatalf("Got message of %d bytes, PPID %d, want %d bytes", len(got.Message.Data), got.Message.PPID, n)
				}
			}
		}
		w.x.Endpoint.Shutdown(a)
		w.x.Down(sctp.LocalClose)
		if ev := w.y.Down(sctp.PeerShutdown); ev.Err != nil {
			t.Errorf("Got %v, want no error", ev.Err)
		}
	})
}

// TestPlainPeer has a peer without TLS send a message.
func TestPlainPeer(t *testing.T) {
	inWorld(t, sctp.Limits{}, nil, func(t *testing.T, w *world) {
		z := w.plain("10.0.0.3:3864")
		defer z.Close()
		a := z.Connect(dest("10.0.0.2:3864"))
		z.Up()
		if err := z.Send(a, sctp.Message{Data: message(60, 1), PPID: 11}); err != nil {
			t.Fatal(err)
		}
		z.Down(sctp.PeerAbort)
		synctest.Wait()
		w.y.None()
		if log := w.log(); !strings.Contains(log, "peer speaks plain ASAP") || !strings.Contains(log, "10.0.0.3") {
			t.Errorf("Got log %q", log)
		}
	})
}

// TestBreaches has peers break the rules of TLS over SCTP.
func TestBreaches(t *testing.T) {
	for _, tc := range []struct {
		name string
		m    sctp.Message
		want string
	}{
		{"stream", sctp.Message{Data: []byte{0x17, 3, 3, 0, 1, 0}, Stream: 3, PPID: 11}, "stream 3"},
		{"PPID", sctp.Message{Data: []byte{0x17, 3, 3, 0, 1, 0}, PPID: 12}, "identifier 12"},
		{"record", sctp.Message{Data: []byte{0x17, 3, 3, 0, 20, 20: 9, 24: 1}, PPID: 11}, "bad record MAC"},
		{"too long", sctp.Message{Data: []byte{0x17, 3, 3, 0xff, 0xff, 0}, PPID: 11}, "oversized record"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inWorld(t, sctp.Limits{}, nil, func(t *testing.T, w *world) {
				a, _ := w.call()
				if err := w.x.below.Send(a, tc.m); err != nil {
					t.Fatal(err)
				}
				ev := w.y.Down(sctp.Overrun)
				if !errors.Is(ev.Err, sctp.ErrUntrusted) {
					t.Errorf("Got %v, want %v", ev.Err, sctp.ErrUntrusted)
				}
				mustSay(t, ev.Err, tc.want)
				if ev := w.x.Next(sctp.Down); ev.Reason != sctp.PeerAbort {
					t.Errorf("Got %v, want PeerAbort", ev)
				}
			})
		})
	}
}

// TestTruncated has a peer end the association within a message, and within a record.
func TestTruncated(t *testing.T) {
	for _, tc := range []struct {
		name string
		send func(w *world, a sctp.AssocID)
	}{
		{"message", func(w *world, a sctp.AssocID) {
			_, _ = w.x.assoc(a).conn.Write([]byte{1, 0, 0, 60, 1, 2, 3, 4})
		}},
		{"record", func(w *world, a sctp.AssocID) {
			_ = w.x.below.Send(a, sctp.Message{Data: []byte{0x17, 3, 3, 0, 20, 1}, PPID: 11})
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inWorld(t, sctp.Limits{}, nil, func(t *testing.T, w *world) {
				a, _ := w.call()
				tc.send(w, a)
				w.x.below.Shutdown(a)
				mustSay(t, w.y.Down(sctp.PeerAbort).Err, "ended within a message")
			})
		})
	}
}

func (s *site) assoc(a sctp.AssocID) *assoc {
	s.Endpoint.Mu.RLock()
	defer s.Endpoint.Mu.RUnlock()
	return s.Endpoint.All[a]
}

// TestBothClients has both sides be TLS client, as after simultaneous INITs.
func TestBothClients(t *testing.T) {
	for range 50 {
		inWorld(t, sctp.Limits{}, nil, func(t *testing.T, w *world) {
			w.both = true
			a, b := w.call()
			if ours, theirs := w.x.assoc(a).session.Name, w.y.assoc(b).session.Name; ours != nameY || theirs != nameX {
				t.Fatalf("Got %s and %s", ours, theirs)
			}
			w.x.say(a, 60, 1)
			w.y.Next(sctp.Received)
			w.y.say(b, 60000, 2)
			w.x.Next(sctp.Received)
		})
	}
}

// TestReflected sends a client its own ClientHello.
func TestReflected(t *testing.T) {
	inWorld(t, sctp.Limits{}, nil, func(t *testing.T, w *world) {
		z := w.plain("10.0.0.3:3864")
		defer z.Close()
		z.Hooked(func(ev sctp.Event) {
			if ev.Type == sctp.Received {
				_ = z.Send(ev.Assoc, ev.Message)
			}
		})
		w.x.Endpoint.Connect(dest("10.0.0.3:3864"))
		mustSay(t, w.x.Down(sctp.ConnectFailed).Err, "our own ClientHello")
	})
}

// TestPause has an application read nothing from one of its associations.
func TestPause(t *testing.T) {
	inWorld(t, sctp.Limits{}, nil, func(t *testing.T, w *world) {
		a, b := w.call()
		w.y.Endpoint.Pause(b)
		sent := 0
		for err := error(nil); err == nil; sent++ {
			m := message(1000, 0)
			binary.BigEndian.PutUint32(m[4:], uint32(sent))
			err = w.x.Endpoint.Send(a, sctp.Message{Data: m, PPID: 11})
			if err != nil && !errors.Is(err, sctp.ErrQueueFull) {
				t.Fatal(err)
			}
		}
		sent--
		if !w.x.Endpoint.Full(a) || !w.x.Endpoint.Behind(a) && sent == 0 {
			t.Error("The queue is not full")
		}
		synctest.Wait()
		early := len(w.y.Events)
		if early > 4 {
			t.Errorf("Got %d messages while paused, want at most 4", early)
		}
		w.y.Endpoint.Resume(b)
		for i := range sent {
			if got := number(w.y.Next(sctp.Received)); got != i {
				t.Fatalf("Got message %d, want %d", got, i)
			}
		}
		w.x.Next(sctp.Writable)
		w.x.numbered(a, sent, 5, 100)
		for i := range 5 {
			if got := number(w.y.Next(sctp.Received)); got != sent+i {
				t.Fatalf("Got message %d, want %d", got, sent+i)
			}
		}
		// What has arrived is reported before Down, without Resume.
		w.y.Endpoint.Pause(b)
		w.x.numbered(a, 0, 5, 100)
		w.x.Endpoint.Shutdown(a)
		w.y.Endpoint.Resume(b)
		for i := range 5 {
			if got := number(w.y.Next(sctp.Received)); got != i {
				t.Fatalf("Got message %d, want %d", got, i)
			}
		}
		w.y.Down(sctp.PeerShutdown)
	})
}

// TestPausedWithin pauses at the first of several messages in one record.
func TestPausedWithin(t *testing.T) {
	inWorld(t, sctp.Limits{}, nil, func(t *testing.T, w *world) {
		a, b := w.call()
		w.y.Hooked(func(ev sctp.Event) {
			if ev.Type == sctp.Received {
				w.y.Endpoint.Pause(b)
			}
		})
		var all []byte
		for i := range 10 {
			all = append(all, message(100, byte(i))...)
		}
		if _, err := w.x.assoc(a).conn.Write(all); err != nil {
			t.Fatal(err)
		}
		for i := range 10 {
			if got := w.y.Next(sctp.Received); !sctptest.Same(got.Message, sctp.Message{Data: message(100, byte(i)), PPID: 11}) {
				t.Fatalf("Got %v, want message %d", got.Message, i)
			}
			synctest.Wait()
			w.y.None()
			w.y.Endpoint.Resume(b)
		}
	})
}

// TestBeforeUp sends, and shuts down, before the handshake is over.
func TestBeforeUp(t *testing.T) {
	inWorld(t, sctp.Limits{}, nil, func(t *testing.T, w *world) {
		a := w.x.Endpoint.Connect(dest("10.0.0.2:3864"))
		w.x.numbered(a, 0, 50, 20000)
		w.x.Endpoint.Shutdown(a)
		if err := w.x.Endpoint.Send(a, sctp.Message{Data: message(60, 1), PPID: 11}); !errors.Is(err, sctp.ErrNoAssoc) {
			t.Errorf("Send after Shutdown: got %v, want %v", err, sctp.ErrNoAssoc)
		}
		for i := range 50 {
			if got := number(w.y.Received()); got != i {
				t.Fatalf("Got message %d, want %d", got, i)
			}
		}
		w.y.Down(sctp.PeerShutdown)
		w.x.Down(sctp.LocalClose)
	})
}

// TestSilence has peers say nothing in the handshake. A client waits longer, since its server may
// have many others.
func TestSilence(t *testing.T) {
	inWorld(t, sctp.Limits{HandshakeTime: 5 * time.Second}, nil, func(t *testing.T, w *world) {
		z := w.plain("10.0.0.3:3864")
		defer z.Close()
		z.Connect(dest("10.0.0.2:3864"))
		z.Up()
		w.x.Endpoint.Connect(dest("10.0.0.3:3864"))
		z.Up()
		began := time.Now()
		z.Down(sctp.PeerAbort)
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("the server has waited %v for its client, want 5 s", took)
		}
		ev := w.x.Down(sctp.ConnectFailed)
		if took := time.Since(began); !errors.Is(ev.Err, sctp.ErrTimeout) || took != 15*time.Second {
			t.Errorf("Got %v after %v, want a time-out after 15 s", ev.Err, took)
		}
		z.Down(sctp.PeerAbort)
		w.y.None()
	})
}

// TestStorm has one host begin more handshakes than there is room for. They make room for each
// other, and not those of other hosts, old or new.
func TestStorm(t *testing.T) {
	inWorld(t, sctp.Limits{HalfOpen: 3}, nil, func(t *testing.T, w *world) {
		silent := func(addr string) *sctptest.Site {
			z := w.plain(addr)
			t.Cleanup(func() { _ = z.Close() })
			z.Connect(dest("10.0.0.2:3864"))
			z.Up()
			synctest.Wait()
			return z
		}
		other := silent("10.0.2.1:3864")
		var flood []*sctptest.Site
		for i := range 4 {
			flood = append(flood, silent(fmt.Sprintf("10.0.1.1:%d", 4000+i)))
		}
		flood[0].Down(sctp.PeerAbort)
		flood[1].Down(sctp.PeerAbort)
		synctest.Wait()
		if n := w.n.Stats().Refused; n != 2 {
			t.Errorf("Got %d refused, want 2", n)
		}
		w.call()
		flood[2].Down(sctp.PeerAbort)
		flood[3].None()
		other.None()
		// Many hosts: the oldest one makes room.
		silent("10.0.3.1:3864")
		silent("10.0.4.1:3864")
		other.Down(sctp.PeerAbort)
		w.y.Endpoint.Mu.Lock()
		half, hosts := len(w.y.Endpoint.half), len(w.y.Endpoint.byHost)
		w.y.Endpoint.Mu.Unlock()
		if half != 3 || hosts != 3 {
			t.Errorf("Got %d handshakes of %d hosts, want 3 of 3", half, hosts)
		}
	})
}

// TestHerd has more good peers of different hosts come at a time than there is room for. Those
// that were first wait for their turn, and all of them come up.
func TestHerd(t *testing.T) {
	inWorld(t, sctp.Limits{HalfOpen: 1}, nil, func(t *testing.T, w *world) {
		free := w.y.busy()
		var herd []*site
		for i := range maxHalf + 2 {
			z := w.site(w.config(nameX), sctp.Limits{}, fmt.Sprintf("10.0.5.%d:3864", i+1))
			t.Cleanup(func() { z.Endpoint.Close() })
			z.Endpoint.Connect(dest("10.0.0.2:3864"))
			synctest.Wait()
			herd = append(herd, z)
		}
		for _, z := range herd[maxHalf:] {
			z.Down(sctp.ConnectFailed)
		}
		synctest.Wait()
		mustSay(t, errors.New(w.log()), errFull.Error())
		free()
		for _, z := range herd[:maxHalf] {
			z.Up()
			w.y.Up()
		}
	})
}

// busy takes all turns of an endpoint, and returns a function that gives them back.
func (s *site) busy() (free func()) {
	n := s.Endpoint.turns.free
	for range n {
		s.Endpoint.turns.take(false)
	}
	return func() {
		for range n {
			s.Endpoint.turns.give()
		}
	}
}

// TestSlowServer has a server be busy for longer than a client may take. The client that has sent
// its part waits.
func TestSlowServer(t *testing.T) {
	inWorld(t, sctp.Limits{HandshakeTime: 5 * time.Second}, nil, func(t *testing.T, w *world) {
		free := w.y.busy()
		w.x.Endpoint.Connect(dest("10.0.0.2:3864"))
		time.Sleep(14 * time.Second)
		synctest.Wait()
		free()
		w.x.Up()
		w.y.Up()
	})
}

// slow connects a client that does not answer the server before goOn is closed.
func (w *world) slow(addr string, goOn chan struct{}) *site {
	c := w.ca.Config(w.ca.Issue(nameX, life))
	own := c.Certificates[0]
	c.Certificates = nil
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		<-goOn
		return &own, nil
	}
	z := w.site(w.as(c), sctp.Limits{}, addr)
	z.Endpoint.Connect(dest("10.0.0.2:3864"))
	synctest.Wait()
	return z
}

// TestSlowClient: a client may take HandshakeTime for its answer, and no longer.
func TestSlowClient(t *testing.T) {
	inWorld(t, sctp.Limits{HandshakeTime: 5 * time.Second}, nil, func(t *testing.T, w *world) {
		goOn := make(chan struct{})
		began := time.Now()
		z := w.slow("10.0.6.1:3864", goOn)
		for w.n.Stats().Refused == 0 {
			time.Sleep(100 * time.Millisecond)
			synctest.Wait()
		}
		if took := time.Since(began); took < 5*time.Second || took > 6*time.Second {
			t.Errorf("the server has waited %v for its client, want 5s", took)
		}
		close(goOn)
		z.Endpoint.Close()
	})
}

// TestManyPieces: a client that sends its part a byte at a time gains no time.
func TestManyPieces(t *testing.T) {
	inWorld(t, sctp.Limits{HandshakeTime: 5 * time.Second}, nil, func(t *testing.T, w *world) {
		z := w.plain("10.0.0.3:3864")
		defer z.Close()
		a := z.Connect(dest("10.0.0.2:3864"))
		z.Up()
		began := time.Now()
		for hello := []byte{recordHandshake, 3, 1, 2, 0}; w.n.Stats().Refused == 0; hello = append(hello[1:], 0) {
			_ = z.Send(a, sctp.Message{Data: hello[:1], PPID: 11})
			time.Sleep(900 * time.Millisecond)
			synctest.Wait()
		}
		if took := time.Since(began); took > 7*time.Second {
			t.Errorf("the server has waited %v for its client, want 5s", took)
		}
	})
}

// TestBegunFirst: a handshake that has begun does not wait behind those that have not.
func TestBegunFirst(t *testing.T) {
	inWorld(t, sctp.Limits{}, nil, func(t *testing.T, w *world) {
		goOn := make(chan struct{})
		z := w.slow("10.0.6.1:3864", goOn)
		free := w.y.busy()
		w.x.Endpoint.Connect(dest("10.0.0.2:3864"))
		synctest.Wait()
		close(goOn)
		synctest.Wait()
		if x := w.y.Endpoint.turns; len(x.begun) != 1 || len(x.fresh) != 1 {
			t.Errorf("%d wait that have begun, and %d others, want one of each", len(x.begun), len(x.fresh))
		}
		free()
		w.y.Up()
		w.y.Up()
		w.x.Up()
		z.Up()
		z.Endpoint.Close()
	})
}

// TestSlowPeers has peers begin a handshake and not go on with it. After a second they make room
// for others.
func TestSlowPeers(t *testing.T) {
	inWorld(t, sctp.Limits{HalfOpen: 1}, nil, func(t *testing.T, w *world) {
		goOn := make(chan struct{})
		first, second := w.slow("10.0.6.1:3864", goOn), w.slow("10.0.6.2:3864", goOn)
		if n := w.n.Stats().Refused; n != 0 {
			t.Errorf("Got %d refused at once, want none", n)
		}
		time.Sleep(2 * slowPeer)
		w.call()
		synctest.Wait()
		mustSay(t, errors.New(w.log()), errSlowPeer.Error())
		close(goOn)
		second.Up()
		w.y.Up()
		first.Endpoint.Close()
		second.Endpoint.Close()
	})
}

// TestLongHandshake has a peer send a handshake without end.
func TestLongHandshake(t *testing.T) {
	inWorld(t, sctp.Limits{}, nil, func(t *testing.T, w *world) {
		z := w.plain("10.0.0.3:3864")
		defer z.Close()
		a := z.Connect(dest("10.0.0.2:3864"))
		z.Up()
		b := make([]byte, 5+16000)
		copy(b, []byte{0x16, 3, 1, 16000 >> 8, 16000 & 0xff, 1, 0, 0xff, 0xff})
		for i := range 5 {
			m := bytes.Clone(b)
			if i > 0 {
				copy(m[5:], make([]byte, 4))
			}
			if err := z.Send(a, sctp.Message{Data: m, PPID: 11}); err != nil {
				break
			}
		}
		z.Wait("Down", func(ev sctp.Event) bool { return ev.Type == sctp.Down })
		w.y.None()
	})
}

// TestExpiry ends an association when the peer's certificate has run out.
func TestExpiry(t *testing.T) {
	inWorld(t, sctp.Limits{}, func(w *world, x, _ *Config) {
		w.renew = sctp.RenewNone
		*x = *w.as(w.ca.Config(w.ca.Issue(nameX, time.Hour)))
	}, func(t *testing.T, w *world) {
		w.call()
		began := time.Now()
		w.y.Patience = 2 * time.Hour
		ev := w.y.Down(sctp.LocalClose)
		mustSay(t, ev.Err, "has expired")
		if !errors.Is(ev.Err, ErrTheirs) || !errors.Is(ev.Err, ErrEnded) {
			t.Errorf("Got %v, want %v and %v", ev.Err, ErrTheirs, ErrEnded)
		}
		if d := time.Since(began).Round(time.Minute); d != time.Hour {
			t.Errorf("Got Down after %v, want an hour", d)
		}
		w.x.Down(sctp.PeerShutdown)
	})
}

// TestRecheck refuses one of two peers from now on.
func TestRecheck(t *testing.T) {
	var deny atomic.Value
	deny.Store("")
	inWorld(t, sctp.Limits{}, func(_ *world, _, y *Config) {
		y.Identify = func(cs tls.ConnectionState) (string, time.Time, error) {
			name, until, err := sctptest.NameOf(cs)
			if name != "" && name == deny.Load() {
				return "", until, errors.New("denied")
			}
			return name, until, err
		}
	}, func(t *testing.T, w *world) {
		w.call()
		z := w.site(w.config(nameX+"z"), sctp.Limits{}, "10.0.0.3:3864")
		defer z.Endpoint.Close()
		c := z.Endpoint.Connect(dest("10.0.0.2:3864"))
		z.Up()
		w.y.Up()
		w.y.Recheck()
		synctest.Wait()
		w.x.None()
		deny.Store(nameX)
		w.y.Recheck()
		ev := w.y.Down(sctp.LocalClose)
		mustSay(t, ev.Err, "not accepted any more: denied")
		if ev := w.x.Down(sctp.PeerShutdown); ev.Err != nil {
			t.Errorf("Got %v", ev)
		}
		z.say(c, 60, 1)
		w.y.Next(sctp.Received)
	})
}

// TestRestart has the machine of a peer restart: the old association ends, and the new one
// is up only after a handshake of its own.
func TestRestart(t *testing.T) {
	inWorld(t, sctp.Limits{}, nil, func(t *testing.T, w *world) {
		w.call()
		w.nw.Vanish(w.x.below)
		other := w.site(w.config(nameX+"2"), sctp.Limits{}, "10.0.0.1:3864")
		defer other.Endpoint.Close()
		other.Endpoint.Connect(dest("10.0.0.2:3864"))
		if ev := w.y.Down(sctp.PeerAbort); !errors.Is(ev.Err, sctp.ErrRestarted) {
			t.Errorf("Got %v, want %v", ev.Err, sctp.ErrRestarted)
		}
		if ev := w.y.Up(); ev.Identity != nameX+"2" {
			t.Errorf("Got %q, want the new name", ev.Identity)
		}
	})
}

// TestOldVersion has a client speak TLS 1.2.
func TestOldVersion(t *testing.T) {
	inWorld(t, sctp.Limits{}, nil, func(t *testing.T, w *world) {
		z := w.plain("10.0.0.3:3864")
		defer z.Close()
		a := z.Connect(dest("10.0.0.2:3864"))
		z.Up()
		old := newWire(true, newTurns(1), func(b []byte) error { return z.Send(a, sctp.Message{Data: b, PPID: 11}) })
		z.Hooked(func(ev sctp.Event) {
			if ev.Type == sctp.Received {
				old.push(ev.Message.Data)
			}
		})
		old.turns.take(false)
		c := w.ca.Config(nil)
		c.MaxVersion = tls.VersionTLS12
		err := tls.Client(old, c).Handshake()
		if err == nil || !strings.Contains(err.Error(), "protocol version not supported") {
			t.Errorf("TLS 1.2: got %v", err)
		}
	})
}

// TestPlainAlert has a client refuse the server's certificate before it encrypts, as OpenSSL does.
func TestPlainAlert(t *testing.T) {
	inWorld(t, sctp.Limits{}, nil, func(t *testing.T, w *world) {
		z := w.plain("10.0.0.3:3864")
		defer z.Close()
		a := z.Connect(dest("10.0.0.2:3864"))
		z.Up()
		conn := newWire(true, newTurns(1), func(b []byte) error {
			if b[0] == sctptest.RecordData {
				b = []byte{recordAlert, 3, 3, 0, 2, 2, 48}
			}
			return z.Send(a, sctp.Message{Data: b, PPID: 11})
		})
		z.Hooked(func(ev sctp.Event) {
			if ev.Type == sctp.Received {
				conn.push(bytes.Clone(ev.Message.Data))
			}
		})
		conn.turns.take(false)
		c := w.ca.Config(nil)
		c.VerifyConnection = func(tls.ConnectionState) error { return errors.New("not this one") }
		_ = tls.Client(conn, c).Handshake()
		z.Wait("Down", func(ev sctp.Event) bool { return ev.Type == sctp.Down })
		synctest.Wait()
		w.y.None()
		if log := w.log(); !strings.Contains(log, "peer refuses our certificate: unknown authority") {
			t.Errorf("Got log %q, want what the alert says", log)
		}
	})
}

// TestLateFarewell: the transport has ended before the peer's close_notify is read. It counts all the
// same, and the end of a transport alone is still none.
func TestLateFarewell(t *testing.T) {
	for _, farewell := range []bool{true, false} {
		inWorld(t, sctp.Limits{}, nil, func(t *testing.T, w *world) {
			a, b := w.call()
			y := w.y.assoc(b)
			y.mu.Lock()
			y.paused = true // the transport goes on, as it may until it has learned of a Pause
			y.mu.Unlock()
			w.x.say(a, 60, 1)
			if farewell {
				w.x.Endpoint.Shutdown(a)
			} else {
				w.x.below.Shutdown(a)
			}
			w.y.Next(sctp.Received)
			if ev := w.y.Down(sctp.PeerShutdown); ev.Farewell != farewell || ev.Err != nil {
				t.Errorf("Got %v, farewell %v, want %v", ev, ev.Farewell, farewell)
			}
			w.x.Next(sctp.Down)
		})
	}
}
