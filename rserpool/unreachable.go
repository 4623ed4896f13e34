package rserpool

import (
	"errors"
	"slices"
	"strings"
	"time"
)

// ErrClosed says that the element, user or registrar has been closed.
var ErrClosed = errors.New("this element, user, session or registrar is closed")

// ErrTLSMismatch says that an association has ended as it does if only one of its sides speaks
// TLS, at a usual port of registrars, or that the peer has answered without TLS. At other ports,
// an end without an answer has other reasons, too, and is not ErrTLSMismatch. It is in the errors of
// elements and users about registrars, such as those of an [UnreachableError]. The text of the error says which side speaks none, and what to do.
var ErrTLSMismatch = errors.New("only one side speaks TLS")

// Attempt is the result of trying one registrar.
type Attempt struct {
	Registrar Registrar
	// Since is when the attempt began.
	Since time.Time
	// Err is why it failed, nil while it has not.
	Err error
}

// UnreachableError says that no registrar could be reached, with the reason for each one
// that was tried.
type UnreachableError struct {
	// Attempts has the registrars that were tried, in their order. It is empty if none
	// is known.
	Attempts []Attempt
	// Cause is why the hunt was ended, such as a context's error; nil if all
	// attempts had failed by themselves.
	Cause error
}

// Error lists the registrars with the reason for each.
func (e *UnreachableError) Error() string {
	if len(e.Attempts) == 0 {
		return "no registrar is known: none is configured, and none has announced itself"
	}
	parts := make([]string, len(e.Attempts))
	for i, a := range e.Attempts {
		why := "no answer"
		switch {
		case a.Err != nil:
			why = a.Err.Error()
		case a.Registrar.Host != "" && len(a.Registrar.Addrs) == 0:
			why = "cannot look up its name: no answer"
		}
		parts[i] = a.Registrar.describe() + ": " + why
	}
	what := "no registrar could be reached: "
	if slices.ContainsFunc(e.Attempts, Attempt.refused) {
		what = "no registrar accepts the registration: "
	}
	return what + strings.Join(parts, "; ")
}

// AllRefused reports whether each of the registrars was reached, and has refused.
func (e *UnreachableError) AllRefused() bool {
	return len(e.Attempts) > 0 && !slices.ContainsFunc(e.Attempts, func(a Attempt) bool { return !a.refused() })
}

// refused reports whether the registrar was reached and has refused. Then Err has
// a method Refused that says so.
func (a Attempt) refused() bool {
	var r interface{ Refused() bool }
	return errors.As(a.Err, &r) && r.Refused()
}

// Unwrap returns Cause and the errors of the attempts.
func (e *UnreachableError) Unwrap() []error {
	var errs []error
	if e.Cause != nil {
		errs = append(errs, e.Cause)
	}
	for _, a := range e.Attempts {
		if a.Err != nil {
			errs = append(errs, a.Err)
		}
	}
	return errs
}

// describe gives the address and the name that it comes from.
func (r Registrar) describe() string {
	if r.Host == "" || len(r.Addrs) == 0 {
		return r.String()
	}
	return r.Host + " (" + r.String() + ")"
}
