package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rserpool/coredns-rserpool/rserpool"
	"github.com/rserpool/coredns-rserpool/test/here"
)

func socketPath(t *testing.T) string { return filepath.Join(here.ShortDir(t), "s") }

// quiet is the log of a server that has nothing to say.
func quiet(bool, string) {}

func serve(t *testing.T, path string, h Handler) *Server {
	t.Helper()
	s, err := Listen(path, h, quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func removeRequest(pool string, id rserpool.PEID) Request {
	return Request{Remove: &Element{Pool: []byte(pool), ID: id}}
}

// echo answers with what was asked.
func echo(_ context.Context, req Request) Response {
	return Response{Result: Elsewhere, Home: rserpool.ServerID(req.Remove.ID), At: []string{string(req.Remove.Pool)}}
}

func call1(t *testing.T, path string) (Response, error) {
	t.Helper()
	return Call(context.Background(), path, removeRequest("web", 7))
}

// TestCall: requests and answers pass unchanged, with the longest handle and octets that are
// no text.
func TestCall(t *testing.T) {
	path := socketPath(t)
	var got []byte
	serve(t, path, func(_ context.Context, req Request) Response {
		got = req.Remove.Pool
		return Response{Result: Elsewhere, Home: 0xcafe, At: []string{"[2001:db8::1]:9901", fmt.Sprint(req.Remove.ID)}}
	})
	for _, pool := range []string{"web", "\xff\x00\n\"", strings.Repeat("\xfe", 60000)} {
		resp, err := Call(context.Background(), path, removeRequest(pool, 0xfe000001))
		if err != nil || string(got) != pool {
			t.Fatalf("got pool %.30q, %v; want %.30q", got, err, pool)
		}
		if diff := cmp.Diff(Response{Result: Elsewhere, Home: 0xcafe, At: []string{"[2001:db8::1]:9901", "fe000001"}}, resp); diff != "" {
			t.Errorf("answer (-want +got):\n%s", diff)
		}
	}
}

// TestOwnerOnly: nobody else may connect, whatever the umask is.
func TestOwnerOnly(t *testing.T) {
	for _, mask := range []int{0, 0o777} {
		path := socketPath(t)
		old := syscall.Umask(mask)
		s, err := Listen(path, echo, quiet)
		syscall.Umask(old)
		if err != nil {
			t.Fatal(err)
		}
		if info, err := os.Lstat(path); err != nil || info.Mode() != fs.ModeSocket|0o600 {
			t.Errorf("umask %o: got %v, %v; want a socket with mode 0600", mask, info.Mode(), err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("after Close: %v, want no file", err)
		}
	}
}

// TestOwnerOnlyFromTheStart: the file never has another mode, not even before Listen returns.
func TestOwnerOnlyFromTheStart(t *testing.T) {
	path := socketPath(t)
	defer syscall.Umask(syscall.Umask(0))
	l, err := (&net.ListenConfig{Control: ownerOnly}).Listen(context.Background(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if info, err := os.Lstat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v; want mode 0600", info.Mode(), err)
	}
}

// leave leaves a socket behind, as a process does that is killed.
func leave(t *testing.T, path string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestLeftBehind: the socket of a killed process is in no one's way.
func TestLeftBehind(t *testing.T) {
	path := socketPath(t)
	leave(t, path)
	if _, err := call1(t, path); !strings.Contains(fmt.Sprint(err), "no registrar runs that serves "+path) {
		t.Errorf("before Listen: got error %v", err)
	}
	serve(t, path, echo)
	if _, err := call1(t, path); err != nil {
		t.Error(err)
	}
}

// TestTwoServers: a process does not take another one's socket away, and does not remove it
// when it ends.
func TestTwoServers(t *testing.T) {
	path := socketPath(t)
	first := serve(t, path, echo)
	if _, err := Listen(path, echo, quiet); !strings.Contains(fmt.Sprint(err), "another process serves the socket "+path) {
		t.Errorf("second server: got error %v", err)
	}
	if _, err := call1(t, path); err != nil {
		t.Errorf("first server: %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	serve(t, path, echo)
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	if _, err := call1(t, path); err != nil {
		t.Errorf("after the end of the first server: %v", err)
	}
}

// TestDeleted: a socket that somebody deletes is made again as soon as that is possible, and the
// log says so once.
func TestDeleted(t *testing.T) {
	dir := filepath.Join(here.ShortDir(t), "d")
	path := filepath.Join(dir, "s")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	var lines []string
	s, err := listen(path, echo, func(warn bool, text string) { lines = append(lines, fmt.Sprint(warn, " ", text)) }, callTime)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for range 2 {
		s.look() // it is there
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		s.look()
		s.look()
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		s.look()
		if _, err := call1(t, path); err != nil {
			t.Error(err)
		}
	}
	lost := "true no commands of rsp remove are taken: somebody has deleted the socket, and cannot make the socket " + path + ": no such file or directory. It is tried again every 5s"
	again := "false commands of rsp remove are taken at " + path + " again: somebody has deleted the socket"
	if diff := cmp.Diff([]string{lost, again, lost, again}, lines); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after Close: %v, want no file", err)
	}
}

// TestOtherFiles: a file that is no socket stays, and links are not followed.
func TestOtherFiles(t *testing.T) {
	path, target := socketPath(t), socketPath(t)
	leave(t, target)
	for name, make := range map[string]func() error{
		"file":           func() error { return os.WriteFile(path, []byte("precious"), 0o644) },
		"directory":      func() error { return os.Mkdir(path, 0o755) },
		"link to socket": func() error { return os.Symlink(target, path) },
		"dangling link":  func() error { return os.Symlink(target+"x", path) },
	} {
		if err := make(); err != nil {
			t.Fatal(err)
		}
		before, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		want := "there is a file of another kind"
		if name == "directory" {
			want = "there is a directory; name a path in it, such as " + path + "/control.sock"
		}
		if _, err := Listen(path, echo, quiet); !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%s: got error %v", name, err)
		}
		after, err := os.Lstat(path)
		if err != nil || !os.SameFile(before, after) {
			t.Errorf("%s: it is not there any more: %v", name, err)
		}
		if _, err := os.Lstat(target); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

// TestListenErrors: each error names the path and what to do.
func TestListenErrors(t *testing.T) {
	for path, want := range map[string]string{
		"/tmp/" + strings.Repeat("a", 103): "has 108 octets, and the path of a socket has at most 107",
		"/nonexistent/s":                   "cannot make the socket /nonexistent/s: no such file or directory",
		"/dev/null/s":                      "cannot make the socket /dev/null/s: not a directory",
	} {
		if _, err := Listen(path, echo, quiet); !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%s: got error %v, want %s", path, err, want)
		}
	}
	path := "/tmp/" + strings.Repeat("a", 102)
	if s, err := Listen(path, echo, quiet); err != nil {
		t.Errorf("the longest path: %v", err)
	} else if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestCallErrors: each error says what to do.
func TestCallErrors(t *testing.T) {
	path := socketPath(t)
	want := func(what, want string) {
		t.Helper()
		_, err := call1(t, path)
		if e := (*UnreachableError)(nil); !strings.Contains(fmt.Sprint(err), want) || errors.As(err, &e) != strings.Contains(want, path) {
			t.Errorf("%s: got error %v (%T), want %s", what, err, err, want)
		}
	}
	want("none", "there is no socket at "+path)
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	want("directory", path+" is no socket: name the path")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	s := serve(t, path, func(context.Context, Request) Response { return Response{Error: "no such thing"} })
	want("error", "no such thing")
	_ = s.Close()
	s = serve(t, path, func(context.Context, Request) Response { panic("a mistake") })
	want("panic", "panic: a mistake; please report it")
	want("panic again", "panic: a mistake; please report it")
	_ = s.Close()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		if conn, err := l.Accept(); err == nil {
			_ = conn.Close()
		}
	}()
	want("no answer", "no answer at "+path+": ")
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if _, err := Call(ctx, path, removeRequest("web", 7)); !strings.Contains(fmt.Sprint(err), "no answer at "+path+" in time") {
		t.Errorf("hangs: got error %v", err)
	}
	_ = l.Close()
}

// TestSlowClients: clients that say nothing, or stop in the middle, are cut off, and keep
// others out no longer than that.
func TestSlowClients(t *testing.T) {
	path := socketPath(t)
	s, err := listen(path, echo, quiet, 50*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for i := range 3 * maxConns {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if i%2 == 0 {
			fmt.Fprint(conn, `{"remove":`)
		}
	}
	if _, err := call1(t, path); err != nil {
		t.Error(err)
	}
}

// TestBusyRegistrar: the handler ends in time to say that it could not answer.
func TestBusyRegistrar(t *testing.T) {
	path := socketPath(t)
	s, err := listen(path, func(ctx context.Context, _ Request) Response {
		<-ctx.Done()
		return Response{Error: "busy"}
	}, quiet, 50*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := call1(t, path); fmt.Sprint(err) != "busy" {
		t.Errorf("got error %v, want busy", err)
	}
}

// TestBadRequests: what is no request is refused, and takes no more memory than a request.
func TestBadRequests(t *testing.T) {
	path := socketPath(t)
	serve(t, path, func(context.Context, Request) Response { return Response{Result: Removed} })
	for request, want := range map[string]string{
		"remove web\n":                         "the request cannot be read: invalid character",
		"[]\n":                                 "the request cannot be read: json: cannot unmarshal array",
		`{"remove":{"element":"pe-x"}}` + "\n": "the request cannot be read: ",
		strings.Repeat(" ", maxLine):           "more than 98304 octets in a line",
	} {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write([]byte(request)); err != nil {
			t.Fatal(err)
		}
		var resp Response
		if err := json.NewDecoder(conn).Decode(&resp); err != nil || !strings.Contains(resp.Error, want) {
			t.Errorf("%.20q: got %+v, %v; want error %s", request, resp, err, want)
		}
		_ = conn.Close()
	}
}

// TestClose ends connections that say nothing.
func TestClose(t *testing.T) {
	path := socketPath(t)
	s := serve(t, path, echo)
	for range 2 * maxConns {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	done := make(chan error)
	go func() { done <- s.Close() }()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(callTime - time.Second):
		t.Error("Close waits for clients that say nothing")
	}
	if err := s.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}
