package interop

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/rserpool/coredns-rserpool/asap/cookie"
	"github.com/rserpool/coredns-rserpool/asap/pe"
	"github.com/rserpool/coredns-rserpool/asap/pu"
	"github.com/rserpool/coredns-rserpool/internal/services"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// roleVariable has this test binary run as an element or a user of a pool.
const roleVariable = "INTEROP_ROLE"

// role is what it then is. The pool has the name of the service.
type role struct {
	Service, Address, Via, Key string
	ID                         rserpool.PEID // 0: a user
}

// role starts an element or a user of ours in a process that can be killed.
func (n *node) role(r role) *proc {
	n.l.t.Helper()
	self, err := os.Executable()
	if err != nil {
		n.l.t.Fatal(err)
	}
	r.Address, r.Key = n.ip, n.l.key.Secret()
	text, err := json.Marshal(r)
	if err != nil {
		n.l.t.Fatal(err)
	}
	return n.start("env", roleVariable+"="+string(text), self)
}

// play is the process's main program.
func play(text string) error {
	var r role
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return err
	}
	switch addrs := strings.Split(r.Address, ","); {
	case r.Service == "amf":
		return playAMF(addrs)
	case strings.Contains(r.Service, ":"):
		return playRAN(r.Service, addrs)
	}
	via, err := rserpool.ParseVia(r.Via)
	if err != nil {
		return err
	}
	if r.ID == 0 {
		return playUser(via)
	}
	return playElement(r, via)
}

func playElement(r role, via rserpool.Via) error {
	key, err := cookie.ParseKey(r.Key)
	if err != nil {
		return err
	}
	cfg := pe.ListenConfig{PPID: services.PPIDPingPong}
	cfg.Pool, cfg.ID, cfg.Via = rserpool.PoolHandle(r.Service), r.ID, via
	cfg.Registrars = []string{registrarIP}
	cfg.Transport.Addrs = []netip.Addr{netip.MustParseAddr(r.Address)}
	if cfg.Cookies, err = cookie.New(cookie.Config{Pool: cfg.Pool, Keys: []cookie.Key{key}}); err != nil {
		return err
	}
	handler := servePingPong
	if r.Service == "fractal" {
		handler = serveFractal
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	return pe.ListenAndServe(ctx, cfg, handler)
}

// playUser pings without end, and says which element answers.
func playUser(via rserpool.Via) error {
	u, err := pu.Open(pu.Config{Registrars: []string{registrarIP}, Via: via})
	if err != nil {
		return err
	}
	ctx := context.Background()
	s, err := u.DialSession(ctx, pu.SessionConfig{
		Pool: "pingpong", PPID: services.PPIDPingPong, Unacked: pu.Resend,
		Notify: func(ev pu.SessionEvent) {
			if ev.Type != pu.CookieReceived && ev.Type != pu.CardReceived {
				fmt.Println(ev)
			}
		},
	})
	if err != nil {
		return err
	}
	for n := uint64(1); ; n++ {
		b, err := (&services.Ping{Number: n}).Append(nil)
		if err != nil {
			return err
		}
		if err := s.Send(ctx, b); err != nil {
			return err
		}
		m, err := s.Receive(ctx)
		if err != nil {
			return err
		}
		p, err := services.ParsePong(m.Data)
		if err != nil {
			return err
		}
		s.Ack(1)
		e, _ := s.Element()
		fmt.Printf("pong %d, answer %d, from %v\n", p.Number, p.Reply, e.ID)
		time.Sleep(20 * time.Millisecond)
	}
}

// servePingPong counts the answers of a session. Its state is the number of the next
// answer, and the ping that was answered last, which a user may send again. The state goes
// out first: a user that has an answer must not come back without it.
func servePingPong(ctx context.Context, s *pe.Session) {
	next, last := uint64(1), uint64(0)
	for first := true; ; first = false {
		m, err := s.Receive(ctx)
		if err != nil {
			return
		}
		if state, ok := s.Cookie(); ok && first {
			next, last = binary.BigEndian.Uint64(state), binary.BigEndian.Uint64(state[8:])
		}
		p, err := services.ParsePing(m.Data)
		if err != nil {
			return
		}
		if p.Number != last {
			next, last = next+1, p.Number
		}
		state := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, next), last)
		pong, err := (&services.Pong{Number: p.Number, Reply: next - 1, Data: p.Data}).Append(nil)
		if err != nil || s.SetCookie(state) != nil || s.Send(ctx, pong) != nil {
			return
		}
	}
}

// fractalPPID is the PPID of RSPLIB's fractal generator service.
const fractalPPID = 0x20

// serveFractal sends a plain picture instead of a fractal one, which RSPLIB's fractalpooluser
// cannot tell. The user asks for one with 4 bytes of head, the width, the height, and what
// to calculate. A message has 4 bytes of head, the place of its first point, the number of
// points, and their values. The last message has no points.
func serveFractal(ctx context.Context, s *pe.Session) {
	request, row, err := fractalState(ctx, s)
	if err != nil || len(request) < 12 {
		fmt.Println("request:", request, err)
		return
	}
	width, height := binary.BigEndian.Uint32(request[4:]), binary.BigEndian.Uint32(request[8:])
	fmt.Printf("row %d of %d\n", row, height)
	for ; row < min(height, 300); row++ {
		if s.SetCookie(binary.BigEndian.AppendUint32(request[:len(request):len(request)], row)) != nil ||
			sendPoints(ctx, s, 0, row, min(width, 300)) != nil {
			return
		}
		time.Sleep(50 * time.Millisecond) // as if it took time to calculate it
	}
	if sendPoints(ctx, s, 1<<32-1, 1<<32-1, 0) != nil {
		return
	}
	if _, err := s.Receive(ctx); errors.Is(err, io.EOF) { // the user ends the session when it has all
		fmt.Println("picture complete")
	}
}

// fractalState waits for a request, or for a cookie, which has the request and the next row.
func fractalState(ctx context.Context, s *pe.Session) (request []byte, row uint32, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-s.CookieCame():
			cancel()
		case <-ctx.Done():
		}
	}()
	m, err := s.Receive(ctx)
	if state, ok := s.Cookie(); ok && len(state) > 4 {
		n := len(state) - 4
		return state[:n], binary.BigEndian.Uint32(state[n:]), nil
	}
	return m.Data, 0, err
}

func sendPoints(ctx context.Context, s *pe.Session, x, y, count uint32) error {
	b := binary.BigEndian.AppendUint16([]byte{2, 0}, uint16(16+4*count))
	for _, v := range []uint32{x, y, count} {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return s.SendMessage(ctx, pe.Message{Data: append(b, make([]byte, 4*count)...), PPID: fractalPPID})
}
