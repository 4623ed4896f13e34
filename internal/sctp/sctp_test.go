package sctp

import (
	"errors"
	"fmt"
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
	}{
		{"all refused", []error{refused, ErrRefused}, true, false},
		{"one is silent", []error{refused, ErrTimeout}, false, true},
		{"the other is silent", []error{ErrTimeout, refused}, false, true},
		{"silent", []error{ErrTimeout}, false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := JoinFailures(tt.errs)
			if errors.Is(err, ErrRefused) != tt.refused || errors.Is(err, ErrTimeout) != tt.timeout {
				t.Errorf("got %q: refused %t, timed out %t, want %t and %t", err, errors.Is(err, ErrRefused), errors.Is(err, ErrTimeout), tt.refused, tt.timeout)
			}
			if want := errors.Join(tt.errs...).Error(); err.Error() != want {
				t.Errorf("got the text %q, want %q", err, want)
			}
		})
	}
}
