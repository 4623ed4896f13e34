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
	"sync"
	"syscall"
	"time"
)

// maxConns is the most connections that are served at the same time. Others wait in the
// queue of the socket.
const maxConns = 8

// lookEvery is how often a Server looks whether its socket is still there.
const lookEvery = 5 * time.Second

// Server serves a socket. [Listen] makes one.
type Server struct {
	handler Handler
	log     Log
	limit   time.Duration // of a connection
	path    string
	free    chan struct{} // has room for another connection

	// Only the goroutine that looks at the socket uses these, and Close after it.
	l    *net.UnixListener
	file os.FileInfo // of the socket
	lost bool        // it was deleted, and that was logged

	ctx     context.Context
	cancel  context.CancelFunc
	watched sync.WaitGroup // the goroutine that looks at the socket
	conns   sync.WaitGroup
	once    sync.Once
}

// Handler answers requests. It is called by several goroutines, and has to end with its
// context: after five seconds, or with the server.
type Handler func(context.Context, Request) Response

// Log gets lines for the operator, from one goroutine.
type Log func(warn bool, text string)

// Listen makes the socket at path and serves it until Close. A socket that a process has
// left behind when it was killed is replaced, and a socket that somebody deletes is made again.
// Only its owner and root may connect.
func Listen(path string, h Handler, log Log) (*Server, error) {
	s, err := listen(path, h, log, callTime)
	if err == nil {
		s.watched.Go(s.watch)
	}
	return s, err
}

func listen(path string, h Handler, log Log, limit time.Duration) (*Server, error) {
	if err := CheckPath(path); err != nil {
		return nil, err
	}
	s := &Server{handler: h, log: log, path: path, limit: limit, free: make(chan struct{}, maxConns)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	if err := s.open(); err != nil {
		s.cancel()
		return nil, err
	}
	return s, nil
}

// open makes the socket and begins to serve it. Without an error, it takes the place of the
// former one.
func (s *Server) open() error {
	if err := makeRoom(s.path); err != nil {
		return err
	}
	config := net.ListenConfig{Control: ownerOnly}
	listener, err := config.Listen(context.Background(), "unix", s.path)
	if err != nil {
		return fmt.Errorf("cannot make the socket %s: %w", s.path, cause(err))
	}
	l := listener.(*net.UnixListener)
	l.SetUnlinkOnClose(false) // removeSocket looks whether it is still ours
	file, err := os.Lstat(s.path)
	if err == nil && file.Mode().Perm() != 0o600 {
		err = os.Chmod(s.path, 0o600) // where the mode of the descriptor does not count
	}
	if err != nil {
		_ = l.Close()
		_ = removeSocket(s.path, file)
		return fmt.Errorf("cannot make the socket %s: %w", s.path, cause(err))
	}
	s.l, s.file = l, file
	s.conns.Go(func() { s.accept(l) })
	return nil
}

// removeSocket removes a socket, unless another file is at its path by now.
func removeSocket(path string, file os.FileInfo) error {
	if now, err := os.Lstat(path); err != nil || file == nil || !os.SameFile(now, file) {
		return nil
	}
	return os.Remove(path)
}

// watch looks at the socket until Close.
func (s *Server) watch() {
	for tick := time.NewTicker(lookEvery); ; {
		select {
		case <-tick.C:
			s.look()
		case <-s.ctx.Done():
			tick.Stop()
			return
		}
	}
}

// look makes the socket again if it is not at its path any more.
func (s *Server) look() {
	now, err := os.Lstat(s.path)
	if err == nil && os.SameFile(now, s.file) || err != nil && !errors.Is(err, fs.ErrNotExist) {
		return // it is there, or that cannot be found out
	}
	before := s.l
	switch err := s.open(); {
	case err == nil:
		_ = before.Close() // nobody can connect to it any more
		s.lost = false
		s.log(false, fmt.Sprintf("commands of rsp remove are taken at %s again: somebody has deleted the socket", s.path))
	case !s.lost:
		s.lost = true
		s.log(true, fmt.Sprintf("no commands of rsp remove are taken: somebody has deleted the socket, and %v. It is tried again every %v", err, lookEvery))
	}
}

// makeRoom removes a socket that no process serves.
func makeRoom(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("cannot make the socket %s: %w", path, cause(err))
	case info.IsDir():
		return fmt.Errorf("cannot make the socket %s: there is a directory; name a path in it, such as %s", path, filepath.Join(path, "control.sock"))
	case info.Mode().Type() != fs.ModeSocket: // a symbolic link is not followed
		return fmt.Errorf("cannot make the socket %s: there is a file of another kind (%v); remove it, or name another path", path, info.Mode())
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		_ = conn.Close()
	}
	if !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("another process serves the socket %s: name another path for one of them", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot replace the socket %s that a process has left: %w", path, cause(err))
	}
	return nil
}

// cause is the reason without the path, which the caller names.
func cause(err error) error {
	var e syscall.Errno
	if errors.As(err, &e) {
		return e
	}
	return err
}

// accept serves connections until the listener is closed.
func (s *Server) accept(l *net.UnixListener) {
	for {
		s.free <- struct{}{}
		conn, err := l.Accept()
		if err == nil {
			s.conns.Go(func() {
				defer func() { <-s.free }()
				s.serve(conn)
			})
			continue
		}
		<-s.free
		if s.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			return
		}
		select { // out of descriptors, for example
		case <-s.ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// serve answers a request.
func (s *Server) serve(conn net.Conn) {
	defer conn.Close()
	ctx, cancel := context.WithTimeout(s.ctx, s.limit)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	var req Request
	var resp Response
	if err := readLine(conn, &req); err != nil {
		resp.Error = fmt.Sprintf("the request cannot be read: %v", err)
	} else {
		ctx, cancel := context.WithTimeout(ctx, s.limit/2) // there is time left to answer
		defer cancel()
		resp = answer(ctx, s.handler, req)
	}
	_ = json.NewEncoder(conn).Encode(resp) // a client that has gone needs no answer
}

// answer calls the handler. A panic must not end the name server.
func answer(ctx context.Context, h Handler, req Request) (resp Response) {
	defer func() {
		if p := recover(); p != nil {
			resp = Response{Error: fmt.Sprintf("panic: %v; please report it", p)}
		}
	}()
	return h(ctx, req)
}

// Close ends the server, waits for its goroutines, and removes the socket unless it is
// another process's by now. It may be called more than once.
func (s *Server) Close() error {
	var err error
	s.once.Do(func() {
		s.cancel()
		s.watched.Wait()
		err = s.l.Close()
		s.conns.Wait()
		err = errors.Join(err, removeSocket(s.path, s.file))
	})
	return err
}
