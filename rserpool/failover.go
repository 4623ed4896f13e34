package rserpool

import (
	"fmt"
	"strings"
	"time"
)

// ElementAttempt is an element that does not serve a session.
type ElementAttempt struct {
	Element PoolElement
	// Err is the reason.
	Err error
}

// FailoverError says that no element of a pool serves a session.
type FailoverError struct {
	Pool PoolHandle
	// Cause is why the last element that had served failed, nil if none had.
	Cause error
	// Attempts are the elements that were tried, 16 at most, the last ones.
	Attempts []ElementAttempt
	// Selection is why no further element was tried, such as the error of a registrar or
	// that of a context; nil if the time of the failover was over.
	Selection error
	// After is how long an element was sought.
	After time.Duration
}

// Error lists the elements with the reason for each, and how often, if it is more than once.
func (e *FailoverError) Error() string {
	var s strings.Builder
	fmt.Fprintf(&s, "no element of pool %q serves after %v", string(e.Pool), e.After.Round(time.Millisecond))
	if e.Cause != nil {
		fmt.Fprintf(&s, "; the former one failed: %v", e.Cause)
	}
	var texts []string
	times := map[string]int{}
	for _, a := range e.Attempts {
		text := fmt.Sprintf("element %v (%v): %v", a.Element.ID, a.Element.UserTransport, a.Err)
		if times[text]++; times[text] == 1 {
			texts = append(texts, text)
		}
	}
	for _, text := range texts {
		fmt.Fprintf(&s, "; %s", text)
		if n := times[text]; n > 1 {
			fmt.Fprintf(&s, " (%d times)", n)
		}
	}
	if e.Selection != nil {
		fmt.Fprintf(&s, "; %v", e.Selection)
	}
	return s.String()
}

// Unwrap returns all reasons.
func (e *FailoverError) Unwrap() []error {
	var list []error
	for _, err := range []error{e.Cause, e.Selection} {
		if err != nil {
			list = append(list, err)
		}
	}
	for _, a := range e.Attempts {
		list = append(list, a.Err)
	}
	return list
}
