package pu

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Resolution is what a registrar says of a pool.
type Resolution struct {
	Pool rserpool.PoolHandle
	// Policy is the pool's policy; round robin if the registrar gives none.
	Policy rserpool.Policy
	// Elements are the elements that the policy selects, at least one, the
	// first choice first.
	Elements []rserpool.PoolElement
	// Subscribed reports that the registrar will send updates.
	Subscribed bool
	// Registrar is the address of the registrar that has answered.
	Registrar string
}

// first returns a resolution with the first n elements, or all if n is 0. It shares no
// memory with r, as several watches may get the same answer; nil for nil.
func (r *Resolution) first(n uint32) *Resolution {
	if r == nil {
		return nil
	}
	list := r.Elements
	if n > 0 {
		list = list[:min(n, uint32(len(list)))]
	}
	c := *r
	c.Elements = make([]rserpool.PoolElement, len(list))
	for i := range list {
		c.Elements[i] = list[i].Clone()
	}
	return &c
}

// ErrUnknownPool says that a registrar knows no pool of that handle. The error
// that wraps it tells which registrar.
var ErrUnknownPool = errors.New("unknown pool")

// RefusedError says that a registrar answered a request, and refused it.
type RefusedError struct {
	Pool      rserpool.PoolHandle
	Registrar string
	Causes    []rserpool.Cause
}

// Error gives the causes in words.
func (e *RefusedError) Error() string {
	if errors.Is(e, ErrUnknownPool) {
		return fmt.Sprintf("registrar %s knows no pool %q", e.Registrar, string(e.Pool))
	}
	words := make([]string, len(e.Causes))
	for i, c := range e.Causes {
		words[i] = c.String()
	}
	if len(words) == 0 {
		words = []string{"it gives no cause"}
	}
	return fmt.Sprintf("registrar %s refuses the request for pool %q: %s", e.Registrar, string(e.Pool), strings.Join(words, "; "))
}

// Is reports whether target is a [rserpool.CauseCode] among the causes, or
// [ErrUnknownPool] and the causes say so.
func (e *RefusedError) Is(target error) bool {
	return rserpool.HasCause(e.Causes, target) || target == ErrUnknownPool && e.has(rserpool.CauseUnknownPoolHandle)
}

func (e *RefusedError) has(code rserpool.CauseCode) bool { return rserpool.HasCause(e.Causes, code) }

// NoElementsError says that a registrar answered a request, but named no element.
// A positive response has at least one (RFC 5352, Section 2.2.6), so there is
// nothing to connect to.
type NoElementsError struct {
	Pool      rserpool.PoolHandle
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
