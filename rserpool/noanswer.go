package rserpool

import (
	"errors"
	"fmt"
	"time"
)

// NoElementsError says that a registrar answered a request, but named no element.
// A positive response has at least one (RFC 5352, Section 2.2.6), so there is
// nothing to connect to.
type NoElementsError struct {
	Pool      PoolHandle
	Registrar string
}

// Error tells which registrar said so.
func (e *NoElementsError) Error() string {
	return fmt.Sprintf("registrar %s knows pool %q, but no element in it", e.Registrar, string(e.Pool))
}

// TimeoutError says that a registrar accepted an association, but did not answer.
type TimeoutError struct {
	Registrar string
	// Requests were sent, and each was given After to be answered.
	Requests int
	After    time.Duration
	// Cause is why the wait was ended early, such as a context's error.
	Cause error
}

// Error names the registrar that has not answered.
func (e *TimeoutError) Error() string {
	var late interface{ Timeout() bool } // the context's error
	switch {
	case errors.As(e.Cause, &late) && late.Timeout():
		return fmt.Sprintf("registrar %s accepts the association but does not answer in time", e.Registrar)
	case e.Cause != nil:
		return fmt.Sprintf("registrar %s accepts the association but does not answer: %v", e.Registrar, e.Cause)
	}
	return fmt.Sprintf("registrar %s accepts the association but has not answered %d requests within %v each", e.Registrar, e.Requests, e.After.Round(time.Millisecond))
}

// Unwrap gives Cause.
func (e *TimeoutError) Unwrap() error { return e.Cause }
