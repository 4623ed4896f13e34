package pu

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/nettest"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/sctp"
	"github.com/rserpool/coredns-rserpool/internal/session/msgconn"
)

// TestSessionConnAnswers: with each value of Unacked, SessionConfig.AnswerTimeout leaves an element
// that has answered a stream, and then is idle, and finds one that hangs.
func TestSessionConnAnswers(t *testing.T) {
	for name, unacked := range map[string]Unacked{"drop": Drop, "resend": Resend, "ask": Ask} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, 2, func(t *testing.T, w *world) {
				cfg := SessionConfig{Unacked: unacked, AnswerTimeout: 5 * time.Second}
				if unacked == Ask {
					cfg.OnFailover = func([]Message) []Message { return nil }
				}
				s := dial(t, w, cfg)
				e, c := w.serving(s), s.Conn()
				e.mu.Lock()
				e.silent = true
				e.mu.Unlock()
				say := func(text string) {
					t.Helper()
					if _, err := c.Write([]byte(text)); err != nil {
						t.Fatal(err)
					}
				}
				say("a question ")
				say("in two parts")
				synctest.Wait()
				e.mu.Lock()
				_ = e.ep.Send(e.assocs[0], sctp.Message{Data: []byte("the answer")})
				e.mu.Unlock()
				buf := make([]byte, 100)
				if n, err := c.Read(buf); err != nil || string(buf[:n]) != "the answer" {
					t.Fatalf("read %q, %v", buf[:n], err)
				}
				_ = c.SetReadDeadline(time.Now().Add(time.Minute))
				if _, err := c.Read(buf); !errors.Is(err, os.ErrDeadlineExceeded) || w.serving(s) != e {
					t.Fatalf("Read from an idle element: %v, want its deadline", err)
				}
				_ = c.SetReadDeadline(time.Time{})
				say("another question")
				began := time.Now()
				if _, err := c.Read(buf); !errors.Is(err, ErrFailover) || time.Since(began) != 5*time.Second {
					t.Errorf("Read from an element that hangs: %v after %v, want ErrFailover after 5 s", err, time.Since(began))
				}
			})
		})
	}
}

func TestSessionConn(t *testing.T) {
	inWorld(t, 2, func(t *testing.T, w *world) {
		s := dial(t, w, SessionConfig{})
		c := s.Conn()
		if c.RemoteAddr().String() != w.serving(s).at.String() || c.LocalAddr().Network() != "sctp" {
			t.Errorf("addresses %v, %v", c.LocalAddr(), c.RemoteAddr())
		}
		lines := bufio.NewReader(c)
		say := func(c net.Conn, text string) {
			t.Helper()
			if _, err := fmt.Fprint(c, text); err != nil {
				t.Fatal(err)
			}
		}
		say(c, "one\nt")
		say(c, "wo\nthree\n")
		for _, want := range []string{"one\n", "two\n", "three\n"} {
			if got, err := lines.ReadString('\n'); got != want || err != nil {
				t.Errorf("read %q, %v; want %q", got, err, want)
			}
		}
		say(c, "unread")
		synctest.Wait()
		w.kill(w.serving(s).id)
		synctest.Wait()
		if _, err := c.Read(make([]byte, 10)); !errors.Is(err, ErrFailover) {
			t.Errorf("Read: %v, want ErrFailover", err)
		}
		if _, err := c.Write([]byte("x")); !errors.Is(err, ErrFailover) {
			t.Errorf("Write: %v, want ErrFailover", err)
		}
		c = s.Conn()
		say(c, "again\n")
		if got, err := bufio.NewReader(c).ReadString('\n'); got != "again\n" || err != nil {
			t.Errorf("read %q, %v; want what the next element has sent", got, err)
		}
		if err := c.Close(); err != nil || s.State() != Ended {
			t.Errorf("Close: %v, state %v", err, s.State())
		}
	})
}

// peer is the element's end of a session, as a stream: without a session of its own.
type peer struct {
	ep    sctp.Endpoint
	assoc sctp.AssocID
	local net.Addr

	mu     sync.Mutex
	in     [][]byte
	paused bool
	over   bool
	news   chan struct{}
	room   chan struct{}
	up     chan struct{} // closed when assoc is set
}

func (p *peer) handle(ev sctp.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch ev.Type {
	case sctp.Up:
		p.assoc = ev.Assoc
		close(p.up)
	case sctp.Received:
		if ev.Message.PPID == asap.PPID {
			return
		}
		p.in = append(p.in, ev.Message.Data)
		if len(p.in) > 8 {
			p.paused = true
			p.ep.Pause(p.assoc)
		}
	case sctp.Down:
		p.over = true
	}
	for _, ch := range []chan struct{}{p.news, p.room} {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

func (p *peer) Receive(ctx context.Context) ([]byte, error) {
	for {
		p.mu.Lock()
		if len(p.in) > 0 {
			m := p.in[0]
			p.in = p.in[1:]
			if p.paused && len(p.in) < 4 {
				p.paused = false
				p.ep.Resume(p.assoc)
			}
			p.mu.Unlock()
			return m, nil
		}
		over := p.over
		p.mu.Unlock()
		if over {
			return nil, io.EOF
		}
		select {
		case <-p.news:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (p *peer) Send(ctx context.Context, data []byte) error {
	for {
		switch err := p.ep.Send(p.assoc, sctp.Message{Data: slices.Clone(data)}); {
		case err == nil:
			return nil
		case !errors.Is(err, sctp.ErrQueueFull):
			return io.ErrClosedPipe
		}
		select {
		case <-p.room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (p *peer) Close() error         { p.ep.Shutdown(p.assoc); return nil }
func (p *peer) LocalAddr() net.Addr  { return p.local }
func (p *peer) RemoteAddr() net.Addr { return p.local }

func TestSessionNetConn(t *testing.T) {
	nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
		w := newWorld(t, 0)
		e := &server{w: w, id: 1, at: netip.MustParseAddrPort("10.0.1.1:5001")}
		p := &peer{news: make(chan struct{}, 1), room: make(chan struct{}, 1), up: make(chan struct{}), local: msgconn.Addr{e.at}}
		p.mu.Lock()
		p.ep = w.listen(e.at.String(), p.handle)
		p.mu.Unlock()
		e.ep = p.ep
		w.elements = append(w.elements, e)
		s := dial(t, w, SessionConfig{EndOnShutdown: true, MaxReceive: 4 << 10})
		c := s.Conn()
		<-p.up
		return c, msgconn.New(p), func() { _ = c.Close(); w.close() }, nil
	})
}

// TestConfigIsCopied: the program may change what it has passed to Open.
func TestConfigIsCopied(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		local := []netip.AddrPort{netip.MustParseAddrPort("10.0.0.22:0")}
		u := w.open(Config{Local: local})
		defer u.Close()
		local[0] = netip.MustParseAddrPort("10.0.0.23:0")
		s, err := u.Dial(t.Context(), testPool)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Conn().LocalAddr().String(); !strings.HasPrefix(got, "10.0.0.22:") {
			t.Errorf("the session is at %s, want the address that Open got", got)
		}
	})
}
