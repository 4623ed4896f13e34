package rserpool

import "fmt"

// ParseError says why a message was refused, and has the data for the error reply.
type ParseError struct {
	// Cause is what is wrong in the terms of RFC 5354, Section 3.12.
	Cause CauseCode
	// Report says whether to send an error to the sender. It is false if the type of an
	// unknown parameter or message says so, and for a message that is an error report.
	Report bool
	// Message is the type of the refused message.
	Message uint8
	// Param is the type of the parameter at fault, 0 for the message itself.
	Param ParameterType
	// Offset is where that parameter begins, in bytes from the message's
	// beginning.
	Offset int
	// Bytes is a copy of that parameter or message, header and padding
	// included. What goes beyond 4096 bytes is cut off.
	Bytes []byte
	// Err says what is wrong in words.
	Err error

	// Earlier are the causes of unknown parameters that were skipped before the
	// error and are to be reported with it.
	Earlier []Cause
}

// Error says what is wrong, and where.
func (e *ParseError) Error() string {
	if e.Param == 0 && e.Offset == 0 {
		return fmt.Sprintf("message: %v", e.Err)
	}
	return fmt.Sprintf("%v parameter at byte %d: %v", e.Param, e.Offset, e.Err)
}

// Unwrap returns e.Err.
func (e *ParseError) Unwrap() error { return e.Err }

// ErrorCause is the error cause for the sender. It carries the TLV at fault
// if RFC 5354, Section 3.12, requires it.
func (e *ParseError) ErrorCause() Cause {
	switch e.Cause {
	case CauseUnrecognizedParameter, CauseUnrecognizedMessage, CauseInvalidValues:
		return Cause{e.Cause, e.Bytes}
	}
	return Cause{Code: e.Cause}
}

// Causes are all error causes for the sender: those of unknown parameters that were
// skipped before the error, then the error's own. Without any, no error is sent.
func (e *ParseError) Causes() []Cause {
	causes := e.Earlier[:len(e.Earlier):len(e.Earlier)]
	if e.Report {
		causes = append(causes, e.ErrorCause())
	}
	return causes
}
