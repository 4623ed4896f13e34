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
	writeAttempts(&s, e.Attempts)
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
	return append(list, attemptErrors(e.Attempts)...)
}

// SendToAllError says which elements of a pool did not get a message that was for all. All others
// have got it.
type SendToAllError struct {
	Pool PoolHandle
	// Elements is how many elements the message was for.
	Elements int
	// Attempts are the elements that did not get it, or have not acknowledged it in time, by
	// identifier.
	Attempts []ElementAttempt
	// After is how long it took until all had the message or had failed.
	After time.Duration
}

// maxListed is how many elements the text of a SendToAllError lists.
const maxListed = 16

// Error says how many elements did not get the message, and lists up to 16 of them with their
// reasons.
func (e *SendToAllError) Error() string {
	var s strings.Builder
	fmt.Fprintf(&s, "%d of %d elements of pool %q did not get the message, after %v",
		len(e.Attempts), e.Elements, string(e.Pool), e.After.Round(time.Millisecond))
	listed := e.Attempts[:min(len(e.Attempts), maxListed)]
	writeAttempts(&s, listed)
	if n := len(e.Attempts) - len(listed); n > 0 {
		fmt.Fprintf(&s, "; and %d others", n)
	}
	return s.String()
}

// Unwrap returns the reasons of all elements.
func (e *SendToAllError) Unwrap() []error { return attemptErrors(e.Attempts) }

// writeAttempts lists elements with the reason for each, and how often, if it is more than once.
func writeAttempts(s *strings.Builder, list []ElementAttempt) {
	var texts []string
	times := map[string]int{}
	for _, a := range list {
		text := fmt.Sprintf("element %v (%v): %v", a.Element.ID, a.Element.UserTransport, a.Err)
		if times[text]++; times[text] == 1 {
			texts = append(texts, text)
		}
	}
	for _, text := range texts {
		fmt.Fprintf(s, "; %s", text)
		if n := times[text]; n > 1 {
			fmt.Fprintf(s, " (%d times)", n)
		}
	}
}

// attemptErrors are the reasons of elements.
func attemptErrors(list []ElementAttempt) (errs []error) {
	for _, a := range list {
		errs = append(errs, a.Err)
	}
	return errs
}
