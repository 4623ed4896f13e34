package sctp

import (
	"errors"
	"fmt"
	"net"
	"testing"
)

// TestJoinFailures: a peer has refused only if all attempts to reach it were refused. Other
// errors can be recognized in any case.
func TestJoinFailures(t *testing.T) {
	refused := fmt.Errorf("here: %w", ErrRefused)
	for _, tt := range []struct {
		name             string
		errs             []error
		refused, timeout bool
		text             string
	}{
		{"all refused", []error{refused, ErrRefused}, true, false, "here: peer refused the association; peer refused the association"},
		{"one is silent", []error{refused, ErrTimeout}, false, true, "here: peer refused the association; peer did not answer in time"},
		{"the other is silent", []error{ErrTimeout, refused}, false, true, "peer did not answer in time; here: peer refused the association"},
		{"silent", []error{ErrTimeout}, false, true, "peer did not answer in time"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := JoinFailures(tt.errs)
			if errors.Is(err, ErrRefused) != tt.refused || errors.Is(err, ErrTimeout) != tt.timeout {
				t.Errorf("got %q: refused %t, timed out %t, want %t and %t", err, errors.Is(err, ErrRefused), errors.Is(err, ErrTimeout), tt.refused, tt.timeout)
			}
			if err.Error() != tt.text {
				t.Errorf("got the text %q, want %q", err, tt.text)
			}
		})
	}
}

// TestJoin: no errors are no error, and each error can be found. The text is one line.
func TestJoin(t *testing.T) {
	if err := Join(nil, nil); err != nil {
		t.Errorf("no errors: got %v", err)
	}
	err := Join(nil, ErrQueueFull, nil, &net.OpError{Op: "dial", Err: ErrClosed})
	if op := (*net.OpError)(nil); !errors.Is(err, ErrQueueFull) || !errors.Is(err, ErrClosed) || !errors.As(err, &op) {
		t.Errorf("not every error can be found in %#v", err)
	}
	if want := "send queue to this peer is full; dial: endpoint is closed"; err.Error() != want {
		t.Errorf("got the text %q, want %q", err, want)
	}
}
