package rserpool

import (
	"errors"
	"testing"
	"time"
)

// TestFailoverError: an element that fails again and again stands in the text once.
func TestFailoverError(t *testing.T) {
	silent, refused := errors.New("silent"), errors.New("refused")
	one := PoolElement{ID: 1, UserTransport: MustParseTransport("sctp:10.0.0.1:99")}
	two := PoolElement{ID: 2, UserTransport: MustParseTransport("sctp:10.0.0.2:99")}
	err := &FailoverError{
		Pool: "web", Cause: silent, After: 3 * time.Second,
		Attempts:  []ElementAttempt{{one, silent}, {two, refused}, {one, silent}, {one, refused}},
		Selection: ErrClosed,
	}
	want := `no element of pool "web" serves after 3s; the former one failed: silent; ` +
		"element 00000001 (sctp 10.0.0.1 port 99): silent (2 times); element 00000002 (sctp 10.0.0.2 port 99): refused; " +
		"element 00000001 (sctp 10.0.0.1 port 99): refused; " + ErrClosed.Error()
	if got := err.Error(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if !errors.Is(err, silent) || !errors.Is(err, refused) || !errors.Is(err, ErrClosed) {
		t.Error("a reason is not in the error")
	}
}
