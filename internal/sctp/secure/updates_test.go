package secure

import (
	"bytes"
	"crypto/tls"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/sctp/sctptest"
)

// rogue is a peer that makes its records itself after the handshake.
type rogue struct {
	*sctptest.Site
	*sctptest.Records
	a sctp.AssocID
}

// rogue has a peer do the handshake with y as client, or with x as server.
func (w *world) rogue(client bool) *rogue {
	w.t.Helper()
	r := &rogue{Site: w.plain("10.0.0.3:3864")}
	w.t.Cleanup(func() { _ = r.Close() })
	conn := newWire(client, newTurns(1), func(b []byte) error { return r.Send(r.a, sctp.Message{Data: b, PPID: 11}) })
	r.Hooked(func(ev sctp.Event) {
		if ev.Type == sctp.Received {
			conn.push(bytes.Clone(ev.Message.Data))
		}
	})
	cfg, side, secrets := w.ca.Config(w.ca.Issue(nameX, life)), tls.Server, new(sctptest.Secrets)
	cfg.KeyLogWriter, cfg.SessionTicketsDisabled = secrets, true
	if client {
		side = tls.Client
		r.Connect(dest("10.0.0.2:3864"))
	} else {
		w.x.Endpoint.Connect(dest("10.0.0.3:3864"))
	}
	r.a = r.Up().Assoc
	conn.turns.take(false)
	c := side(conn, cfg)
	if err := c.Handshake(); err != nil {
		w.t.Fatal(err)
	}
	r.Records = secrets.Records(w.t, c, client)
	synctest.Wait()
	r.Drain()
	r.Hooked(func(sctp.Event) {})
	return r
}

// put sends a record.
func (r *rogue) put(content byte, data []byte) error {
	return r.Send(r.a, sctp.Message{Data: r.Seal(content, data), PPID: 11})
}

// next opens the next record.
func (r *rogue) next() (content byte, data []byte) {
	r.T.Helper()
	return r.Open(r.Next(sctp.Received).Message.Data)
}

// updateBoth asks for new keys in both directions.
func (r *rogue) updateBoth() error {
	err := r.put(sctptest.RecordHandshake, sctptest.KeyUpdateBoth)
	r.Out.Update()
	return err
}

// answered checks that the next record is the answer to updateBoth.
func (r *rogue) answered() {
	r.T.Helper()
	if content, data := r.next(); content != sctptest.RecordHandshake || !bytes.Equal(data, sctptest.KeyUpdate) {
		r.T.Fatalf("Got %x of type %#x, want a key update", data, content)
	}
	r.In.Update()
}

// TestKeyUpdate has a peer change its keys, and ask for new ones. Messages go on both ways.
func TestKeyUpdate(t *testing.T) {
	inWorld(t, sctp.Limits{}, nil, func(t *testing.T, w *world) {
		r := w.rogue(true)
		b := w.y.Up().Assoc
		for i := range byte(50) {
			switch i % 3 {
			case 0:
				_ = r.updateBoth()
				r.answered()
			case 1:
				_ = r.put(sctptest.RecordHandshake, sctptest.KeyUpdate)
				r.Out.Update()
			}
			_ = r.put(sctptest.RecordData, message(60, i))
			if got := w.y.Next(sctp.Received); !bytes.Equal(got.Message.Data, message(60, i)) {
				t.Fatalf("Got %v, want message %d", got, i)
			}
			w.y.say(b, 64, i)
			if content, data := r.next(); content != sctptest.RecordData || !bytes.Equal(data, message(64, i)) {
				t.Fatalf("Got %d bytes of type %#x, want message %d", len(data), content, i)
			}
		}
	})
}

// TestUselessRecords has peers send nothing but records without content. After 16 in a row the
// association ends.
func TestUselessRecords(t *testing.T) {
	for _, tc := range []struct {
		name    string
		client  bool
		content byte
		data    []byte
		useless int // how many are allowed
		want    string
	}{
		{"key updates", true, sctptest.RecordHandshake, sctptest.KeyUpdate, 16, "nothing but key updates"},
		{"tickets", false, sctptest.RecordHandshake, sctptest.Ticket, 16, "nothing but key updates"},
		{"empty", true, sctptest.RecordData, nil, 16, "nothing but empty records"},
		{"ticket of a client", true, sctptest.RecordHandshake, sctptest.Ticket, 0, "new session ticket from a client"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inWorld(t, sctp.Limits{}, nil, func(t *testing.T, w *world) {
				r := w.rogue(tc.client)
				s := w.y
				if !tc.client {
					s = w.x
				}
				s.Up()
				put := func(n int) {
					for range n {
						_ = r.put(tc.content, tc.data)
						if bytes.Equal(tc.data, sctptest.KeyUpdate) {
							r.Out.Update()
						}
					}
				}
				for range 20 {
					put(tc.useless)
					_ = r.put(sctptest.RecordData, message(60, 1))
					s.Next(sctp.Received)
				}
				put(tc.useless + 1)
				ev := s.Down(sctp.Overrun)
				if !errors.Is(ev.Err, sctp.ErrUntrusted) {
					t.Errorf("Got %v, want %v", ev.Err, sctp.ErrUntrusted)
				}
				mustSay(t, ev.Err, tc.want)
			})
		})
	}
}

// TestKeyUpdateFlood has a peer ask for new keys 16 times before each message. All are answered.
// A peer that does not take the answers is cut off when there is no room for them.
func TestKeyUpdateFlood(t *testing.T) {
	flood := func(r *rogue, messages int) error {
		for range messages {
			for range 16 {
				if err := r.updateBoth(); err != nil {
					return err
				}
			}
			if err := r.put(sctptest.RecordData, message(8, 1)); err != nil {
				return err
			}
		}
		return nil
	}
	inWorld(t, sctp.Limits{}, nil, func(t *testing.T, w *world) {
		r := w.rogue(true)
		b := w.y.Up().Assoc
		for range 20 {
			if err := flood(r, 1); err != nil {
				t.Fatal(err)
			}
			w.y.Next(sctp.Received)
			for range 16 {
				r.answered()
			}
		}
		w.y.say(b, 60, 1)
		r.next()
	})
	inWorld(t, sctp.Limits{}, nil, func(t *testing.T, w *world) {
		r := w.rogue(true)
		r.Pause(r.a)
		b := w.y.Up().Assoc
		a, most := w.y.assoc(b), 0
		for w.y.Endpoint.Send(b, sctp.Message{Data: message(60000, 1), PPID: 11}) == nil {
		}
		before := a.w.backlogSize
		a.w.maxBacklog = before + 8<<10
		w.y.Hooked(func(sctp.Event) { most = max(most, a.w.backlogSize) })
		for w.y.assoc(b) != nil && flood(r, 1) == nil {
			synctest.Wait()
		}
		ev := w.y.Down(sctp.Overrun)
		mustSay(t, ev.Err, "more key updates than it takes")
		if !errors.Is(ev.Err, sctp.ErrUntrusted) {
			t.Errorf("Got %v, want %v", ev.Err, sctp.ErrUntrusted)
		}
		if most <= before || most > a.w.maxBacklog {
			t.Errorf("Got up to %d bytes waiting, want %d to %d", most, before+1, a.w.maxBacklog)
		}
	})
}
