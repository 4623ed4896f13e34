package main

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rserpool/coredns-rserpool/asap/pu"
	"github.com/rserpool/coredns-rserpool/internal/services"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// serves is the command line of a service.
func serves(r *registry, service string, more ...string) []string {
	return append([]string{"serve", service, "--via", "udp", "--registrar", r.at, "--address", "127.0.0.1"}, more...)
}

// newUser opens a pool user in this process.
func newUser(t *testing.T, r *registry) *pu.User {
	t.Helper()
	u, err := pu.Open(pu.Config{Registrars: []string{r.at}, Via: rserpool.ViaUDP})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = u.Close() })
	return u
}

// kills ends a process as kill -9 does.
func (p *proc) kills() {
	p.t.Helper()
	p.signal(syscall.SIGKILL)
	<-p.end
}

// input is the standard input of rsp connect: a pipe.
func startConnect(t *testing.T, args ...string) (*proc, io.WriteCloser) {
	t.Helper()
	p := newProc(t, args...)
	in, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.start(args)
	return p, in
}

// TestConnectEcho: lines are answered; after kill -9 of the element the session goes on
// with the other one, and rsp says so; the end of the input ends rsp.
func TestConnectEcho(t *testing.T) {
	slow(t)
	t.Parallel()
	r := newRegistry(t)
	elements := map[string]*proc{}
	for _, id := range []string{"00000001", "00000002"} {
		elements[id] = startRSP(t, serves(r, "echo", "--id", id)...)
	}
	r.has(t, services.EchoPool, 2)
	c, in := startConnect(t, "connect", "--via", "udp", "--registrar", r.at, "--resend", "--wait", "200ms", services.EchoPool)
	says := func(line string) {
		t.Helper()
		if _, err := io.WriteString(in, line); err != nil {
			t.Fatal(err)
		}
	}
	says("hello\n")
	c.says("hello\n")
	c.says("connected to element ")
	_, first, _ := strings.Cut(c.String(), "connected to element ")
	first = first[:8]
	elements[first].kills()
	says("again\n")
	c.says("again\n")
	c.says("element " + first + " has failed: ")
	c.says("failed over from element " + first)
	says("without a newline")
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	if status := c.wait(); status != exitOK {
		t.Errorf("status %d", status)
	}
	c.says("without a newline")
	if n := strings.Count(c.String(), "again\n"); n != 1 {
		t.Errorf("%d answers to one line", n)
	}
}

// TestPingPongKilled: after kill -9 of rsp serve pingpong in the middle, the session goes on
// with its count at the next element, by the state cookie. The cookies are sealed in one run.
func TestPingPongKilled(t *testing.T) {
	slow(t)
	t.Parallel()
	key, _, _ := rsp(t, "cookie-key")
	keys := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(keys, []byte(key), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, more := range map[string][]string{"raw": nil, "sealed": {"--cookie-keys", keys}} {
		t.Run(name, func(t *testing.T) {
			r := newRegistry(t)
			elements := map[string]*proc{}
			for _, id := range []string{"00000001", "00000002", "00000003"} {
				elements[id] = startRSP(t, serves(r, "pingpong", append(more, "--id", id)...)...)
			}
			r.has(t, services.PingPongPool, 3)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			s, err := newUser(t, r).DialSession(ctx, pu.SessionConfig{
				Pool: services.PingPongPool, PPID: services.PPIDPingPong, Unacked: pu.Resend, AnswerTimeout: 5 * time.Second,
			})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			served := map[string]bool{}
			for n := uint64(1); n <= 30; n++ {
				e, _ := s.Element()
				served[e.ID.String()] = true
				if n == 10 || n == 20 {
					elements[e.ID.String()].kills()
				}
				data, err := (&services.Ping{Number: n, Data: []byte("x")}).Append(nil)
				if err != nil {
					t.Fatal(err)
				}
				if err := s.Send(ctx, data); err != nil {
					t.Fatal(err)
				}
				m, err := s.Receive(ctx)
				if err != nil {
					t.Fatal(err)
				}
				s.Ack(1)
				pong, err := services.ParsePong(m.Data)
				if err != nil || m.PPID != services.PPIDPingPong || pong.Number != n || pong.Reply != n {
					t.Fatalf("answer to request %d: %+v, PPID %d, %v", n, pong, m.PPID, err)
				}
			}
			if len(served) != 3 {
				t.Errorf("elements %v have served, want all three", served)
			}
			state := s.Cookie()
			if next, err := services.ParsePingPongCookie(state); (err == nil) != (name == "raw") || err == nil && next != 31 {
				t.Errorf("%s cookie %x: %d, %v", name, state, next, err)
			}
		})
	}
}

// TestCalcMoves: a job goes on at another element when its element ends; the load follows
// the jobs.
func TestCalcMoves(t *testing.T) {
	slow(t)
	t.Parallel()
	r := newRegistry(t)
	elements := map[string]*proc{}
	for _, id := range []string{"00000001", "00000002"} {
		elements[id] = startRSP(t, serves(r, "calc", "--id", id, "--speed", "1000", "--max-jobs", "4", "-v")...)
	}
	r.has(t, services.CalcPool, 2)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s, err := newUser(t, r).DialSession(ctx, pu.SessionConfig{Pool: services.CalcPool, PPID: services.PPIDCalc})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	start := time.Now()
	if err := s.Send(ctx, (&services.CalcMessage{Type: services.CalcRequest, Job: 7, Size: 4000}).Append(nil)); err != nil {
		t.Fatal(err)
	}
	next := func(want services.CalcType) services.CalcMessage {
		t.Helper()
		for {
			m, err := s.Receive(ctx)
			if err != nil {
				t.Fatal(err)
			}
			c, err := services.ParseCalc(m.Data)
			if err != nil {
				t.Fatal(err)
			}
			if c.Type == services.CalcKeepAlive {
				if err := s.Send(ctx, (&services.CalcMessage{Type: services.CalcKeepAliveAck, Job: c.Job}).Append(nil)); err != nil {
					t.Fatal(err)
				}
				continue
			}
			if c.Type != want || c.Job != 7 {
				t.Fatalf("message %+v, want type %d of job 7", c, want)
			}
			return c
		}
	}
	next(services.CalcAccept)
	e, _ := s.Element()
	eventually(t, "the element's load is that of one session of four", func() bool {
		return slices.ContainsFunc(r.elements(t, services.CalcPool), func(j jsonElement) bool {
			return j.ID == e.ID.String() && *j.Load == 0.25
		})
	})
	time.Sleep(time.Until(start.Add(1500 * time.Millisecond))) // the job has to make progress
	elements[e.ID.String()].signal(syscall.SIGTERM)
	if status := elements[e.ID.String()].wait(); status != exitOK {
		t.Errorf("status %d", status)
	}
	next(services.CalcAccept) // the other element goes on
	if c := next(services.CalcComplete); c.Completed != 4000 {
		t.Errorf("%+v", c)
	}
	// 1.5 s of 4 s were done, and nothing is done twice.
	if d := time.Since(start); d < 4*time.Second || d > 6*time.Second {
		t.Errorf("the job took %v, want little more than 4 s", d)
	}
}

// TestServeText: daytime and chargen speak first; --end-on-shutdown ends with the element.
func TestServeText(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	startRSP(t, serves(r, "daytime")...)
	startRSP(t, serves(r, "chargen", "--pool", "chars", "--policy", "LU")...)
	r.has(t, services.DaytimePool, 1)
	r.has(t, "chars", 1)
	d, in := startConnect(t, "connect", "--via", "udp", "--registrar", r.at, "--end-on-shutdown", "-q", services.DaytimePool)
	if status := d.wait(); status != exitOK || !strings.Contains(d.String(), time.Now().Format("January-2006")) {
		t.Errorf("status %d, %q", status, d)
	}
	in.Close()
	c, in := startConnect(t, "connect", "--via", "udp", "--registrar", r.at, "-q", "chars")
	want := services.ChargenLine(services.ChargenLine(nil, 0), 1)
	eventually(t, "lines of characters", func() bool { return bytes.HasPrefix([]byte(c.String()), want) })
	c.signal(syscall.SIGINT)
	if status := c.wait(); status != 130 {
		t.Errorf("status %d after SIGINT, want 130", status)
	}
	in.Close()
}

// echoTCP is a server that sends back what it gets, until the test ends. It tells of each
// connection. The result is its port.
func echoTCP(t *testing.T, accepted func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted(c)
			go func() { _, _ = io.Copy(c, c); c.Close() }()
		}
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// TestConnectTCP: a session with a pool of TCP elements fails over when the connection
// breaks.
func TestConnectTCP(t *testing.T) {
	slow(t)
	t.Parallel()
	r := newRegistry(t)
	conns := make(chan net.Conn, 10)
	for i := range 2 {
		port := echoTCP(t, func(c net.Conn) { conns <- c })
		startRSP(t, "register", "-p", "web", "-s", "tcp:"+port, "--via", "udp", "-r", r.at, "--id", fmt.Sprint(i+1))
	}
	r.has(t, "web", 2)
	c, in := startConnect(t, "connect", "--tcp", "--via", "udp", "--registrar", r.at, "web")
	_, _ = io.WriteString(in, "hello\n")
	c.says("hello\n")
	first := <-conns
	_ = first.(*net.TCPConn).SetLinger(0)
	first.Close() // a reset
	c.says("failed over from element")
	_, _ = io.WriteString(in, "again\n")
	c.says("again\n")
	in.Close()
	if status := c.wait(); status != exitOK {
		t.Errorf("status %d", status)
	}
	c, in = startConnect(t, "connect", "--tcp", "--via", "udp", "--registrar", r.at, "web")
	_, _ = io.WriteString(in, "once more\n")
	c.says("once more\n")
	c.signal(syscall.SIGINT)
	if status := c.wait(); status != 130 {
		t.Errorf("status %d after SIGINT, want 130", status)
	}
	in.Close()
}

// TestConnectRefused: the exit statuses of a connection that cannot be.
func TestConnectRefused(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	startRSP(t, "register", "-p", "web", "-s", "tcp:1", "--via", "udp", "-r", r.at) // nothing listens there
	startRSP(t, "register", "-p", "udps", "-s", "udp:1", "--via", "udp", "-r", r.at)
	r.has(t, "web", 1)
	r.has(t, "udps", 1)
	for _, c := range []struct {
		args   []string
		status int
		want   string
	}{
		{[]string{"nobody"}, exitRefused, `knows no pool "nobody"`},
		{[]string{"udps"}, exitFailed, "its elements serve udp"},
		{[]string{"--failover-time", "2s", "web"}, exitUnreachable, "refused"},
		{[]string{"--ppid", "11", "web"}, exitUsage, "--ppid"},
		{[]string{"--element", "x", "web"}, exitUsage, "--element"},
		{[]string{"--tcp", "--resend", "web"}, exitUsage, "--resend: no effect with --tcp"},
		{[]string{"--wait", "-1s", "web"}, exitUsage, "--wait"},
	} {
		_, errs, status := rsp(t, append([]string{"connect", "--via", "udp", "-r", r.at}, c.args...)...)
		if status != c.status || !strings.Contains(errs, c.want) {
			t.Errorf("%v: status %d, %s, want %d and %q", c.args, status, errs, c.status, c.want)
		}
	}
}

// TestConnectFull: an element that is full is no good end of rsp at the end of the input.
func TestConnectFull(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	startRSP(t, serves(r, "echo", "--max-sessions", "1")...)
	r.has(t, services.EchoPool, 1)
	first, err := newUser(t, r).Dial(t.Context(), services.EchoPool)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	_, errs, status := rsp(t, "connect", "--via", "udp", "-r", r.at, "--wait", "200ms", "--failover-time", "1s", services.EchoPool)
	if want := "it takes no session now, because it is full"; status != exitUnreachable || !strings.Contains(errs, want) {
		t.Errorf("status %d, %s, want %d and %q", status, errs, exitUnreachable, want)
	}
}

// TestScriptingServed: a package runs at an element, by a session over the network, with
// parts of both directions in their order.
func TestScriptingServed(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	dir, err := os.MkdirTemp("/tmp", "rsp-scripting-test-") // another user must reach it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	args := serves(r, "scripting", "--allow-commands", "--no-isolation", "--dir", dir)
	if os.Geteuid() == 0 {
		args = append(args, "--run-as", "65534")
	}
	p := startRSP(t, args...)
	r.has(t, services.ScriptingPool, 1)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s, err := newUser(t, r).DialSession(ctx, pu.SessionConfig{Pool: services.ScriptingPool, PPID: services.PPIDScripting})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	receive := func(want services.ScriptingType) services.ScriptingMessage {
		t.Helper()
		m, err := s.Receive(ctx)
		if err != nil {
			t.Fatal(err)
		}
		sm, err := services.ParseScripting(m.Data)
		if err != nil || sm.Type != want {
			t.Fatalf("%+v, %v, want type %d", sm, err, want)
		}
		return sm
	}
	upload := func(part []byte) {
		t.Helper()
		data, err := (&services.ScriptingMessage{Type: services.ScriptingUpload, Data: part}).Append(nil)
		if err == nil {
			err = s.Send(ctx, data)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	noise := bytes.Repeat([]byte("0123456789abcdef"), 20000)
	var pack bytes.Buffer
	w := tar.NewWriter(&pack)
	for name, text := range map[string][]byte{"ssrun": []byte("#!/bin/sh\ncat noise >\"$1\"; exit 5\n"), "noise": noise} {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(text)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	receive(services.ScriptingReady)
	for part := range slices.Chunk(pack.Bytes(), services.MaxPart) {
		upload(part)
	}
	upload(nil)
	receive(services.ScriptingStatus)
	if m := receive(services.ScriptingStatus); m.Status() != 5 {
		t.Errorf("status %d, want 5", m.Status())
	}
	var got []byte
	for {
		m := receive(services.ScriptingDownload)
		if len(m.Data) == 0 {
			break
		}
		got = append(got, m.Data...)
	}
	if !bytes.Equal(got, noise) {
		t.Errorf("%d bytes came back, want the %d that were sent", len(got), len(noise))
	}
	_ = s.Close()
	eventually(t, "nothing is left of the package", func() bool {
		left, _ := filepath.Glob(filepath.Join(dir, "work-*"))
		return len(left) == 0
	})
	p.signal(syscall.SIGTERM)
	if status := p.wait(); status != exitOK {
		t.Errorf("status %d", status)
	}
}
