package pu

import (
	"errors"
	"fmt"
	"strings"

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
type NoElementsError = rserpool.NoElementsError

// TimeoutError says that a registrar accepted an association, but did not answer.
type TimeoutError = rserpool.TimeoutError
