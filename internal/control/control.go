// Package control is the local socket by which an operator's tool commands a registrar: a UNIX
// socket that only its owner and root may connect to. A connection carries one request and one
// answer, each a line of JSON.
package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Request is what a registrar is asked to do. One field is set.
type Request struct {
	Remove *Element `json:"remove,omitempty"`
}

// Element is a pool element. A pool handle can have any octets, so that it is no text.
type Element struct {
	Pool []byte        `json:"pool_base64"`
	ID   rserpool.PEID `json:"element"`
}

// Response answers a request. If Error is set, nothing else is.
type Response struct {
	Error  string `json:"error,omitempty"`
	Result Result `json:"result,omitempty"`
	// Home is the element's home if that is another registrar, and At are the addresses at
	// which it serves ENRP, the best one first.
	Home rserpool.ServerID `json:"home,omitempty"`
	At   []string          `json:"at,omitempty"`
}

// Result is what has become of an element that was to be removed.
type Result string

const (
	// Removed: it was removed.
	Removed Result = "removed"
	// Replaced: it was removed, and a process that has waited for that has its identifier.
	Replaced Result = "replaced"
	// Unknown: there is no such element.
	Unknown Result = "unknown"
	// Elsewhere: another registrar is its home.
	Elsewhere Result = "elsewhere"
	// Yielded: another registrar says that it is its home, and is that now.
	Yielded Result = "yielded"
)

const (
	// maxPath is the longest path of a socket, a limit of the system.
	maxPath = 107
	// maxLine is the longest request or answer: a pool handle has up to 60000 octets.
	maxLine = 96 << 10
	// callTime is how long a request may take, from the connection to the end of the answer.
	callTime = 10 * time.Second
)

// CheckPath says why there can be no socket at a path, nil if there can.
func CheckPath(path string) error {
	if len(path) > maxPath {
		return fmt.Errorf("%s has %d octets, and the path of a socket has at most %d: use a shorter one, or a link to its directory", path, len(path), maxPath)
	}
	return nil
}

// UnreachableError says that no registrar has answered at a path.
type UnreachableError struct {
	path string
	err  error
}

// Error says what has happened, and what to do.
func (e *UnreachableError) Error() string {
	why := fmt.Sprintf("no answer at %s: %v", e.path, e.err)
	switch {
	case errors.Is(e.err, fs.ErrNotExist):
		why = fmt.Sprintf("there is no socket at %s: give --control the path of the option control in the Corefile, or DIR/control.sock if it has state DIR; the log says if the registrar serves no socket", e.path)
	case errors.Is(e.err, syscall.ECONNREFUSED) && !isSocket(e.path):
		why = fmt.Sprintf("%s is no socket: name the path of the registrar's option control, or control.sock in the directory of its option state", e.path)
	case errors.Is(e.err, syscall.ECONNREFUSED):
		why = fmt.Sprintf("no registrar runs that serves %s: its process has ended", e.path)
	case errors.Is(e.err, fs.ErrPermission):
		why = fmt.Sprintf("no permission to connect to %s: use the user that runs the registrar, or root", e.path)
	case errors.Is(e.err, os.ErrDeadlineExceeded):
		why = fmt.Sprintf("no answer at %s in time: the registrar is busy or hangs. It may still do what it was asked", e.path)
	}
	return why
}

// isSocket reports whether there is a socket at a path, as far as that can be found out.
func isSocket(path string) bool {
	info, err := os.Stat(path)
	return err != nil || info.Mode().Type() == fs.ModeSocket
}

func (e *UnreachableError) Unwrap() error { return e.err }

// Call sends a request to the registrar that serves the socket at path, and returns the
// answer. The error is an *UnreachableError, or what the registrar says.
func Call(ctx context.Context, path string, req Request) (Response, error) {
	if err := CheckPath(path); err != nil {
		return Response{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	resp, err := call(ctx, path, req)
	switch {
	case ctx.Err() != nil && err != nil:
		return resp, &UnreachableError{path, os.ErrDeadlineExceeded}
	case err != nil:
		return resp, &UnreachableError{path, err}
	case resp.Error != "":
		return resp, errors.New(resp.Error)
	}
	return resp, nil
}

func call(ctx context.Context, path string, req Request) (resp Response, err error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return resp, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	if err := json.NewEncoder(conn).Encode(req); err != nil {
		return resp, err
	}
	return resp, readLine(conn, &resp)
}

// readLine reads a line of JSON.
func readLine(r io.Reader, v any) error {
	line, err := bufio.NewReader(io.LimitReader(r, maxLine)).ReadBytes('\n')
	if err != nil {
		if len(line) == maxLine {
			err = fmt.Errorf("more than %d octets in a line", maxLine)
		}
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	return json.Unmarshal(line, v)
}
