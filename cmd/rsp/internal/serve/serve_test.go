package serve

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rserpool/coredns-rserpool/internal/services"
	"github.com/rserpool/coredns-rserpool/rserpool"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// link is a session in memory, and its user.
type link struct {
	t         *testing.T
	toElement chan rserpool.Message // closed at the user's end
	toUser    chan rserpool.Message
	echoed    chan struct{}
	mu        sync.Mutex
	state     []byte // that the user has brought
	cookie    []byte // the last one that the user got
	cookies   int
	cancel    context.CancelFunc
	done      chan error
}

// serve has a service serve a session with a user.
func serve(t *testing.T, s Service) *link {
	ctx, cancel := context.WithCancel(t.Context())
	l := &link{
		t: t, toElement: make(chan rserpool.Message, 100), toUser: make(chan rserpool.Message, 100),
		echoed: make(chan struct{}), cancel: cancel, done: make(chan error, 1),
	}
	go func() {
		l.done <- s.Serve(ctx, l)
		close(l.toUser)
	}()
	return l
}

func (l *link) Receive(ctx context.Context) (rserpool.Message, error) {
	select {
	case m, ok := <-l.toElement:
		if !ok {
			return m, io.EOF
		}
		return m, nil
	case <-ctx.Done():
		return rserpool.Message{}, ctx.Err()
	}
}

func (l *link) SendMessage(ctx context.Context, m rserpool.Message) error {
	m.Data = bytes.Clone(m.Data)
	select {
	case l.toUser <- m:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *link) CookieCame() <-chan struct{} { return l.echoed }

func (l *link) Cookie() ([]byte, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state, l.state != nil
}

func (l *link) SetCookie(state []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cookie = bytes.Clone(state)
	l.cookies++
	return nil
}

// brings has the user bring a state.
func (l *link) brings(state []byte) {
	l.mu.Lock()
	l.state = state
	l.mu.Unlock()
	close(l.echoed)
}

// lastCookie returns the last cookie and how many there were.
func (l *link) lastCookie() ([]byte, int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cookie, l.cookies
}

func (l *link) says(ppid uint32, data []byte) {
	l.toElement <- rserpool.Message{Data: data, PPID: ppid}
}

// gets returns the next message to the user, also if the session has ended since.
func (l *link) gets(ppid uint32) []byte {
	l.t.Helper()
	select {
	case m, ok := <-l.toUser:
		if !ok {
			l.t.Fatalf("the session has ended: %v", <-l.done)
		}
		if m.PPID != ppid {
			l.t.Errorf("PPID %#x, want %#x", m.PPID, ppid)
		}
		return m.Data
	case <-time.After(20 * time.Second):
		l.t.Fatal("no message")
	}
	return nil
}

// ends waits for the end of the session.
func (l *link) ends() error {
	l.t.Helper()
	select {
	case err := <-l.done:
		return err
	case <-time.After(20 * time.Second):
		l.t.Fatal("the session does not end")
		return nil
	}
}

func TestEchoDiscardDaytime(t *testing.T) {
	l := serve(t, Echo{})
	l.says(7, []byte("hello"))
	if got := l.gets(7); string(got) != "hello" {
		t.Errorf("echo of %q", got)
	}
	close(l.toElement)
	if err := l.ends(); err != nil {
		t.Errorf("echo ends with %v", err)
	}
	l = serve(t, Discard{})
	l.says(0, []byte("hello"))
	close(l.toElement)
	if err := l.ends(); err != nil || len(l.toUser) > 0 {
		t.Errorf("discard ends with %v and %d messages", err, len(l.toUser))
	}
	l = serve(t, Daytime{})
	if got := string(l.gets(0)); !strings.Contains(got, time.Now().Format("January-2006")) || !strings.HasSuffix(got, "\n") {
		t.Errorf("daytime %q", got)
	}
	if err := l.ends(); err != nil {
		t.Errorf("daytime ends with %v", err)
	}
}

// TestChargen: lines as long as the user takes them, and an end when the user ends.
func TestChargen(t *testing.T) {
	l := serve(t, Chargen{})
	for n := range 300 {
		if got, want := l.gets(0), services.ChargenLine(nil, n); !bytes.Equal(got, want) {
			t.Fatalf("line %d: %q, want %q", n, got, want)
		}
	}
	l.says(0, []byte("stop it"))
	close(l.toElement)
	if err := l.ends(); err != nil {
		t.Errorf("chargen ends with %v", err)
	}
}

func ping(number uint64, data string) []byte {
	b, _ := (&services.Ping{Number: number, Data: []byte(data)}).Append(nil)
	return b
}

// TestPingPong: the count of the answers goes on at another element.
func TestPingPong(t *testing.T) {
	l := serve(t, PingPong{})
	for n := uint64(1); n <= 3; n++ {
		l.says(services.PPIDPingPong, ping(n, "x"))
		if pong, err := services.ParsePong(l.gets(services.PPIDPingPong)); err != nil || pong.Number != n || pong.Reply != n || string(pong.Data) != "x" {
			t.Errorf("%+v, %v", pong, err)
		}
	}
	close(l.toElement)
	if err := l.ends(); err != nil {
		t.Error(err)
	}
	state, _ := l.lastCookie()
	l = serve(t, PingPong{})
	l.brings(state)
	l.says(services.PPIDPingPong, ping(9, "y"))
	if pong, err := services.ParsePong(l.gets(services.PPIDPingPong)); err != nil || pong.Number != 9 || pong.Reply != 4 {
		t.Errorf("after the failover: %+v, %v, want reply 4", pong, err)
	}
	l.says(services.PPIDPingPong, []byte("garbage"))
	if err := l.ends(); err == nil {
		t.Error("garbage is no error")
	}
	l = serve(t, PingPong{})
	l.brings([]byte("a foreign state"))
	l.says(services.PPIDPingPong, ping(1, ""))
	if err := l.ends(); err == nil {
		t.Error("a foreign state is no error")
	}
}

func calcConfig() CalcConfig {
	return CalcConfig{Capacity: 1000, MaxJobs: 2, CookieTime: time.Second, CookieCalcs: 1e9, KeepAlive: time.Minute}
}

func calc(m services.CalcMessage) []byte { return m.Append(nil) }

// expect checks the next message to the user.
func (l *link) expect(want services.CalcMessage) {
	l.t.Helper()
	if got, err := services.ParseCalc(l.gets(services.PPIDCalc)); err != nil || got != want {
		l.t.Errorf("%+v, %v, want %+v", got, err, want)
	}
}

// TestCalc: two jobs share the machine, a third one is refused; the states go out each
// second, and a job goes on from its state.
func TestCalc(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewCalc(calcConfig())
		start := time.Now()
		a := serve(t, c)
		a.says(services.PPIDCalc, calc(services.CalcMessage{Type: services.CalcRequest, Job: 1, Size: 3000}))
		a.expect(services.CalcMessage{Type: services.CalcAccept, Job: 1})
		a.says(services.PPIDCalc, calc(services.CalcMessage{Type: services.CalcRequest, Job: 2, Size: 1}))
		a.expect(services.CalcMessage{Type: services.CalcReject, Job: 2})
		b := serve(t, c)
		b.brings((&services.CalcCookie{Job: 5, Size: 2000, Completed: 1000}).Append(nil))
		b.expect(services.CalcMessage{Type: services.CalcAccept, Job: 5})
		third := serve(t, c)
		third.says(services.PPIDCalc, calc(services.CalcMessage{Type: services.CalcRequest, Job: 9, Size: 1}))
		third.expect(services.CalcMessage{Type: services.CalcReject, Job: 9})
		third.cancel()
		if err := third.ends(); err != nil {
			t.Error(err)
		}
		b.says(services.PPIDCalc, calc(services.CalcMessage{Type: services.CalcKeepAlive, Job: 5}))
		b.expect(services.CalcMessage{Type: services.CalcKeepAliveAck, Job: 5})
		b.expect(services.CalcMessage{Type: services.CalcComplete, Job: 5, Size: 2000, Completed: 2000})
		if d := time.Since(start); d.Round(10*time.Millisecond) != 2*time.Second {
			t.Errorf("1000 calculations with half of 1000/s take %v", d)
		}
		if _, n := b.lastCookie(); n != 1 {
			t.Errorf("%d cookies in 2 s, want 1", n)
		}
		a.expect(services.CalcMessage{Type: services.CalcComplete, Job: 1, Size: 3000, Completed: 3000})
		if d := time.Since(start); d.Round(10*time.Millisecond) != 4*time.Second {
			t.Errorf("3000 calculations take %v, want 2 s at half the speed and 2 s alone", d)
		}
		close(a.toElement)
		b.says(services.PPIDCalc, []byte("garbage"))
		if err := b.ends(); err == nil {
			t.Error("garbage is no error")
		}
		if err := a.ends(); err != nil {
			t.Error(err)
		}
	})
}

// TestCalcEnd: at the element's end, the user gets the state of its job.
func TestCalcEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := serve(t, NewCalc(calcConfig()))
		l.says(services.PPIDCalc, calc(services.CalcMessage{Type: services.CalcRequest, Job: 1, Size: 3000}))
		l.expect(services.CalcMessage{Type: services.CalcAccept, Job: 1})
		time.Sleep(500 * time.Millisecond)
		l.cancel()
		if err := l.ends(); err != nil {
			t.Error(err)
		}
		b, _ := l.lastCookie()
		if got, err := services.ParseCalcCookie(b); err != nil || got != (services.CalcCookie{Job: 1, Size: 3000, Completed: 500}) {
			t.Errorf("state %+v, %v", got, err)
		}
	})
}

// TestCalcSilent: the session of a user that does not answer keep-alives ends.
func TestCalcSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := calcConfig()
		cfg.KeepAlive = 2 * time.Second
		start := time.Now()
		l := serve(t, NewCalc(cfg))
		l.says(services.PPIDCalc, calc(services.CalcMessage{Type: services.CalcRequest, Job: 1, Size: 1e6}))
		l.expect(services.CalcMessage{Type: services.CalcAccept, Job: 1})
		l.expect(services.CalcMessage{Type: services.CalcKeepAlive, Job: 1})
		l.says(services.PPIDCalc, calc(services.CalcMessage{Type: services.CalcKeepAliveAck, Job: 1}))
		l.expect(services.CalcMessage{Type: services.CalcKeepAlive, Job: 1})
		if err := l.ends(); !errors.Is(err, errSilent) {
			t.Errorf("the session ends with %v", err)
		}
		if d := time.Since(start); d != 6*time.Second {
			t.Errorf("the session ended after %v", d)
		}
	})
}
