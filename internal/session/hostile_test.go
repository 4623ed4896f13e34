package session

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// TestReflection: the only element of a pool takes each session, sends a card that names
// victims, and aborts; the victims refuse at once, or say nothing. What a session sends to
// addresses of the element's choice is limited.
func TestReflection(t *testing.T) {
	for _, c := range []struct {
		name   string
		silent bool
		lasts  time.Duration // an association with the element
	}{
		{"refused, aborts at once", false, 0},
		{"refused, aborts after 100 ms", false, flapTime},
		{"silent, aborts after 100 ms", true, flapTime},
	} {
		t.Run(c.name, func(t *testing.T) {
			const most = 7 * 16 * 8 // a card in 10 s
			n := reflect(t, c.silent, c.lasts)
			if n > most {
				t.Errorf("INITs go to %d addresses of victims in a minute, want at most %d", n, most)
			}
			t.Logf("INITs go to %d addresses of victims in a minute", n)
		})
	}
}

// reflect returns how many addresses of victims a session is told to connect to in a minute.
func reflect(t *testing.T, silent bool, lasts time.Duration) (addrs int) {
	t.Helper()
	card := hostileCard(t)
	start := time.Unix(0, 0)
	now := start
	u, err := NewUser(UserConfig{Pool: "pool"})
	if err != nil {
		t.Fatal(err)
	}
	u.Start(now)
	var abortAt time.Time
	var assoc Ref
	for now.Before(start.Add(time.Minute)) && u.State() != Ended {
		actions := slices.Clone(u.Take())
		for _, a := range actions {
			switch a.Type {
			case Select:
				u.Selected(now, a.Ref, []rserpool.PoolElement{victim(1, 1)}, true, nil)
			case Connect:
				if a.Element.ID != 1 {
					addrs += len(a.Element.UserTransport.Addrs)
					if !silent {
						u.Down(now, a.Ref, false, ErrPeerAborted)
					}
					continue
				}
				assoc, abortAt = a.Ref, now.Add(lasts)
				u.Up(now, assoc)
				u.Received(now, assoc, Message{Data: card, PPID: asap.PPID})
				u.Received(now, assoc, Message{Data: []byte("x")}) // the time of a failover begins anew
				u.Receive(now)
			default:
			}
		}
		if len(actions) > 0 {
			continue
		}
		switch next, ok := u.NextDeadline(); {
		case !abortAt.IsZero() && !now.Before(abortAt):
			abortAt = time.Time{}
			u.Down(now, assoc, false, ErrPeerAborted)
		case !abortAt.IsZero() && (!ok || abortAt.Before(next)):
			now = abortAt
		case ok && next.After(now):
			now = next
			u.Tick(now)
		case ok:
			u.Tick(now)
		}
	}
	return addrs
}

func victim(id rserpool.PEID, n int) rserpool.PoolElement {
	e := rserpool.PoolElement{ID: id, UserTransport: rserpool.Transport{Type: rserpool.SCTP, Use: rserpool.DataPlusControl, Port: 1}}
	for i := range n {
		e.UserTransport.Addrs = append(e.UserTransport.Addrs, netip.AddrFrom4([4]byte{10, 0, byte(id), byte(i)}))
	}
	return e
}

// hostileCard names 16 victims with 32 addresses each.
func hostileCard(t *testing.T) []byte {
	t.Helper()
	card := &asap.BusinessCard{Handle: "pool"}
	for i := range rserpool.PEID(16) {
		card.Elements = append(card.Elements, victim(100+i, 32))
	}
	data, err := card.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
