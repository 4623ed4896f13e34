package pe

import (
	"context"
	"errors"
	"net"

	"github.com/rserpool/coredns-rserpool/internal/session/msgconn"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Conn returns the session as a stream of bytes: Read reads the messages of the user one
// after the other, and Write sends messages of ListenConfig.PPID, of at most 16 KiB. Close
// closes the session. Do not use Send and Receive beside it.
func (s *Session) Conn() net.Conn { return msgconn.New(streamed{s}) }

// streamed is a session for package msgconn.
type streamed struct{ *Session }

func (s streamed) Receive(ctx context.Context) ([]byte, error) {
	m, err := s.Session.Receive(ctx)
	return m.Data, err
}

func (s streamed) LocalAddr() net.Addr { return msgconn.Addr(s.l.local) }

func (s streamed) RemoteAddr() net.Addr { return msgconn.Addr(s.RemoteAddrs()) }

// NetListener returns the Listener in the form of package net, for servers that know
// nothing of sessions: each session is a stream of bytes.
//
// As in package net, its Close accepts no more sessions, and those that were accepted go on. So
// http.Server.Shutdown waits for the requests that are being served. In contrast to package net,
// Close
//
//   - deregisters the element for good, and waits for that for Timers.Stop at most: the program
//     may end afterwards. The error is a *DeregistrationError if a registrar refuses, or another
//     one if the deregistration was not confirmed
//   - leaves the sockets open, which the sessions need: the port is in use until the Listener is
//     closed
//
// Close the Listener afterwards, which ends all sessions and closes the sockets.
func (l *Listener) NetListener() net.Listener { return netListener{l} }

type netListener struct{ *Listener }

func (l netListener) Accept() (net.Conn, error) {
	s, err := l.Listener.Accept(context.Background())
	if errors.Is(err, rserpool.ErrClosed) {
		err = net.ErrClosed
	}
	if err != nil {
		return nil, &net.OpError{Op: "accept", Net: "sctp", Addr: l.Addr(), Err: err}
	}
	return s.Conn(), nil
}

// Close also ends the sessions that nobody has accepted: their users fail over.
func (l netListener) Close() error {
	l.begin()
	for s := l.take(); s != nil; s = l.take() {
		_ = s.Close()
	}
	return l.element.awaitParted()
}

func (l netListener) Addr() net.Addr { return msgconn.Addr(l.local) }
