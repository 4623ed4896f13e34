package rserpool

import (
	"errors"
	"strings"
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

// TestSendToAllError: it says how many elements did not get the message, and lists the first ones.
func TestSendToAllError(t *testing.T) {
	silent, refused := errors.New("silent"), errors.New("refused")
	one := PoolElement{ID: 1, UserTransport: MustParseTransport("sctp:10.0.0.1:99")}
	two := PoolElement{ID: 2, UserTransport: MustParseTransport("sctp:10.0.0.2:99")}
	err := &SendToAllError{Pool: "web", Elements: 40, After: 3 * time.Second, Attempts: []ElementAttempt{{one, silent}, {two, refused}}}
	want := `2 of 40 elements of pool "web" did not get the message, after 3s; ` +
		"element 00000001 (sctp 10.0.0.1 port 99): silent; element 00000002 (sctp 10.0.0.2 port 99): refused"
	if got := err.Error(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if !errors.Is(err, silent) || !errors.Is(err, refused) || errors.Is(err, ErrClosed) {
		t.Error("the reasons in the error are not those of the elements")
	}
	for len(err.Attempts) < 40 {
		err.Attempts = append(err.Attempts, ElementAttempt{PoolElement{ID: PEID(len(err.Attempts) + 1), UserTransport: one.UserTransport}, silent})
	}
	text := err.Error()
	if !strings.HasPrefix(text, "40 of 40 elements") || strings.Count(text, "; element ") != 16 || !strings.HasSuffix(text, "; and 24 others") {
		t.Errorf("got %s", text)
	}
}
