package interop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/asap/pu"
	"github.com/rserpool/coredns-rserpool/internal/services"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// user is a pool user of ours, in this process, which is on the bridge.
func (l *lab) user(cfg pu.Config) *pu.User {
	l.t.Helper()
	cfg.Registrars = []string{registrarIP}
	cfg.Local = []netip.AddrPort{netip.MustParseAddrPort("10.99.0.254:0")}
	u, err := pu.Open(cfg)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = u.Close() })
	return u
}

// conversation is a session of ours in a test.
type conversation struct {
	*pu.Session
	t   *testing.T
	ctx context.Context
}

func dial(t *testing.T, u *pu.User, cfg pu.SessionConfig) *conversation {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	s, err := u.DialSession(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return &conversation{Session: s, t: t, ctx: ctx}
}

func (c *conversation) send(data []byte) {
	c.t.Helper()
	if err := c.Send(c.ctx, data); err != nil {
		c.t.Fatalf("send %q: %v", data, err)
	}
}

func (c *conversation) receive() pu.Message {
	c.t.Helper()
	m, err := c.Receive(c.ctx)
	if err != nil {
		c.t.Fatalf("receive: %v", err)
	}
	return m
}

// element waits for the identifier of the element that serves the session.
func (c *conversation) element() (id rserpool.PEID) {
	c.t.Helper()
	eventually(c.t, "an element serves the session", func() error {
		e, ok := c.Element()
		if id = e.ID; !ok {
			return fmt.Errorf("state %v", c.State())
		}
		return nil
	})
	return id
}

// ping sends ping n and checks that the answers are counted on. It returns the time until
// the answer.
func (c *conversation) ping(n uint64) time.Duration {
	c.t.Helper()
	b, err := (&services.Ping{Number: n, Data: []byte("ping")}).Append(nil)
	if err != nil {
		c.t.Fatal(err)
	}
	start := time.Now()
	c.send(b)
	for {
		p, err := services.ParsePong(c.receive().Data)
		switch took := time.Since(start); {
		case err != nil:
			c.t.Fatal(err)
		case p.Number < n: // answered by the former element and by the next one
		case p.Number != n || p.Reply != n:
			c.t.Fatalf("ping %d: got answer %d to ping %d", n, p.Reply, p.Number)
		default:
			c.Ack(1)
			return took
		}
	}
}

// job is a job of CalcApp at an element.
type job struct {
	s     *conversation
	size  uint64
	done  uint64 // by the latest cookie
	inbox chan services.CalcMessage
}

// calculate starts a job.
func calculate(s *conversation, size uint64) *job {
	j := &job{s: s, size: size, inbox: make(chan services.CalcMessage, 100)}
	go func() {
		for {
			m, err := s.Receive(s.ctx)
			if err != nil {
				return
			}
			c, err := services.ParseCalc(m.Data)
			if err != nil {
				s.t.Error(err)
			}
			j.inbox <- c
		}
	}()
	j.send(services.CalcRequest, size)
	return j
}

func (j *job) send(typ services.CalcType, size uint64) {
	j.s.send((&services.CalcMessage{Type: typ, Job: 1, Size: size}).Append(nil))
}

// until waits until so many calculations are done, by the cookie or the answer.
func (j *job) until(calculations uint64) {
	t := j.s.t
	t.Helper()
	eventually(t, fmt.Sprintf("%d calculations are done", calculations), func() error {
		select {
		case m := <-j.inbox:
			switch m.Type {
			case services.CalcComplete:
				if m.Job != 1 || m.Size != j.size || m.Completed != j.size {
					t.Errorf("got %+v, want job 1 complete", m)
				}
				return nil
			case services.CalcKeepAlive:
				j.send(services.CalcKeepAliveAck, 0)
			}
		case <-time.After(100 * time.Millisecond):
			// rspserver looks at a COOKIE_ECHO only when another message comes.
			j.send(services.CalcKeepAlive, 0)
		}
		c, err := services.ParseCalcCookie(j.s.Cookie())
		switch {
		case err != nil:
			return err
		case c.Completed < j.done:
			t.Fatalf("%d calculations were done, then %d", j.done, c.Completed)
		}
		if j.done = c.Completed; calculations == j.size || c.Completed < calculations {
			return fmt.Errorf("the cookie has %d", c.Completed)
		}
		return nil
	})
}

// echoed checks, with tshark, that a capture of one session has n COOKIE_ECHOs, each the
// first message of its association and with the latest cookie.
func (c *capture) echoed(n int) {
	c.l.t.Helper()
	const isCookie, isEcho = "11", "12"
	latest := ""
	out := c.tshark("-Y", "asap.cookie", "-T", "fields", "-e", "asap.message_type", "-e", "asap.cookie", "-e", "sctp.data_ssn")
	for line := range strings.Lines(out) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		types, cookies := strings.Split(f[0], ","), strings.Split(f[1], ",")
		first, _, _ := strings.Cut(f[2], ",")
		for i, cookie := range cookies {
			switch {
			case types[i] == isCookie:
				latest = cookie
			case types[i] == isEcho && (cookie != latest || first != "0"):
				c.l.t.Errorf("COOKIE_ECHO of %s in message %s; the latest cookie is %s", cookie, first, latest)
			case types[i] == isEcho:
				n--
			}
		}
	}
	if n != 0 {
		c.l.t.Errorf("%d more COOKIE_ECHOs than seen are wanted:\n%s", n, out)
	}
}

// TestSessionsWithReferenceElements: our user and each service of RSPLIB. Where there is
// more than one element, the one in use is killed, and the session goes on. rspserver
// 3.4.4 cannot start its service chargen.
func TestSessionsWithReferenceElements(t *testing.T) {
	l := newLab(t)
	r, pe1, pe2 := l.node("r1", registrarIP+"/24"), l.node("pe1", "10.99.0.11/24"), l.node("pe2", "10.99.0.12/24")
	c := l.capture()
	r.coredns(registrarIP, corefile())
	u := l.user(pu.Config{Via: rserpool.ViaKernel})
	kill := map[rserpool.PEID]*proc{}
	serve := func(service string, elements int, args ...string) {
		for _, n := range []*node{pe1, pe2}[:elements] {
			id := rserpool.PEID(len(kill) + 1)
			kill[id] = n.rspserver(service, "0x"+id.String(), append(args, "-"+service)...)
		}
		l.registered(registrarIP, service, elements)
	}

	t.Run("echo", func(t *testing.T) {
		serve("echo", 2)
		s := dial(t, u, pu.SessionConfig{Pool: "echo", PPID: 7, Unacked: pu.Resend})
		for i, text := range []string{"one", "two", "three"} {
			if i == 1 {
				kill[s.element()].kill(syscall.SIGKILL)
			}
			s.send([]byte(text))
			if m := s.receive(); string(m.Data) != text || m.PPID != 7 {
				t.Errorf("sent %q with PPID 7, got %q with %d", text, m.Data, m.PPID)
			}
			s.Ack(1)
		}
	})
	t.Run("discard", func(t *testing.T) {
		serve("discard", 1)
		s := dial(t, u, pu.SessionConfig{Pool: "discard"})
		for range 100 {
			s.send(bytes.Repeat([]byte("discard"), 1000))
		}
		if err := s.Close(); err != nil || !errors.Is(s.Err(), rserpool.ErrClosed) {
			t.Errorf("Close: %v, session ended with %v", err, s.Err())
		}
	})
	t.Run("daytime", func(t *testing.T) {
		serve("daytime", 1)
		s := dial(t, u, pu.SessionConfig{Pool: "daytime", EndOnShutdown: true})
		day := time.Now().Format("02-January-2006")
		if m := s.receive(); !bytes.Contains(m.Data, []byte(day)) {
			t.Errorf("got %q, want it to have %s", m.Data, day)
		}
		if m, err := s.Receive(s.ctx); !errors.Is(err, io.EOF) {
			t.Errorf("then got %q, %v, want %v", m.Data, err, io.EOF)
		}
	})
	t.Run("pingpong", func(t *testing.T) {
		serve("pingpong", 2)
		s := dial(t, u, pu.SessionConfig{Pool: "pingpong", PPID: services.PPIDPingPong, Unacked: pu.Resend})
		for n := uint64(1); n <= 30; n++ {
			if n == 15 {
				eventually(t, "the cookie after the last answer is here", func() error {
					next, err := services.ParsePingPongCookie(s.Cookie())
					if err == nil && next != n {
						err = fmt.Errorf("it has %d", next)
					}
					return err
				})
				kill[s.element()].kill(syscall.SIGKILL)
			}
			s.ping(n)
		}
		c.echoed(1)
	})
	t.Run("calcapp", func(t *testing.T) {
		const second = 1_000_000
		serve("calcapp", 2, fmt.Sprintf("-capcapacity=%d", second), "-capcookiemaxtime=0.2", "-capvector=/dev/null", "-capscalar=/dev/null")
		s := dial(t, u, pu.SessionConfig{Pool: "calcapp", PPID: services.PPIDCalc})
		job := calculate(s, 3*second)
		job.until(2 * second)
		kill[s.element()].kill(syscall.SIGKILL)
		job.until(3 * second)
	})
	if n := c.countOf(asap.TypeBusinessCard); n != 0 {
		t.Errorf("%d packets with a BUSINESS_CARD, want none: neither side is to send one", n)
	}
}
