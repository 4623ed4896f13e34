package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// maxConns is the most connections that are served at the same time. Others wait in the
// queue of the socket.
const maxConns = 8

// Server serves a socket. [Listen] makes one.
type Server struct {
	l      *net.UnixListener
	limit  time.Duration // of a connection
	path   string
	file   os.FileInfo // of the socket
	ctx    context.Context
	cancel context.CancelFunc
	conns  sync.WaitGroup
	once   sync.Once
}

// Handler answers requests. It is called by several goroutines, and has to end with its
// context: after five seconds, or with the server.
type Handler func(context.Context, Request) Response

// Listen makes the socket at path and serves it until Close. A socket that a process has
// left behind when it was killed is replaced. Only its owner and root may connect.
func Listen(path string, h Handler) (*Server, error) { return listen(path, h, callTime) }

func listen(path string, h Handler, limit time.Duration) (*Server, error) {
	if err := CheckPath(path); err != nil {
		return nil, err
	}
	if err := makeRoom(path); err != nil {
		return nil, err
	}
	config := net.ListenConfig{Control: ownerOnly}
	l, err := config.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, fmt.Errorf("cannot make the socket %s: %w", path, cause(err))
	}
	s := &Server{l: l.(*net.UnixListener), path: path, limit: limit}
	s.l.SetUnlinkOnClose(false) // Close looks whether it is still ours
	s.ctx, s.cancel = context.WithCancel(context.Background())
	if s.file, err = os.Lstat(path); err == nil && s.file.Mode().Perm() != 0o600 {
		err = os.Chmod(path, 0o600) // where the mode of the descriptor does not count
	}
	if err != nil {
		_ = s.Close()
		return nil, fmt.Errorf("cannot make the socket %s: %w", path, cause(err))
	}
	s.conns.Go(func() { s.accept(h) })
	return s, nil
}

// makeRoom removes a socket that no process serves.
func makeRoom(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("cannot make the socket %s: %w", path, cause(err))
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
func (s *Server) accept(h Handler) {
	free := make(chan struct{}, maxConns)
	for {
		free <- struct{}{}
		conn, err := s.l.Accept()
		switch {
		case err == nil:
			s.conns.Go(func() {
				defer func() { <-free }()
				s.serve(conn, h)
			})
			continue
		case s.ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			return
		}
		<-free
		select { // out of descriptors, for example
		case <-s.ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// serve answers a request.
func (s *Server) serve(conn net.Conn, h Handler) {
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
		resp = answer(ctx, h, req)
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
		err = s.l.Close()
		s.conns.Wait()
		if now, e := os.Lstat(s.path); e == nil && s.file != nil && os.SameFile(now, s.file) {
			err = errors.Join(err, os.Remove(s.path))
		}
	})
	return err
}
