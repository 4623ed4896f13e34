package trust

import (
	"errors"
	"fmt"
)

// fileError is an error about one of the Files. Its text does not say which one it is: the
// option that names the file has another name in each program, see Name.
type fileError struct {
	option func(Files) string
	err    error
}

func (e *fileError) Error() string { return e.err.Error() }
func (e *fileError) Unwrap() error { return e.err }

func ofCert(err error) error   { return &fileError{func(f Files) string { return f.Cert }, err} }
func ofKey(err error) error    { return &fileError{func(f Files) string { return f.Key }, err} }
func ofCA(err error) error     { return &fileError{func(f Files) string { return f.CA }, err} }
func ofSecret(err error) error { return &fileError{func(f Files) string { return f.Secret }, err} }

// Name puts before an error of Check or Open the name of the option with the file that the
// error is about. options has the options' names in place of the files.
func Name(err error, options Files) error {
	var of *fileError
	if errors.As(err, &of) {
		return fmt.Errorf("%s: %w", of.option(options), err)
	}
	return err
}

// ErrUntimely is in the error of a certificate that has ended, or has not begun. Time, or the
// next certificate in the same file, can mend it.
var ErrUntimely = errors.New("not valid at this time")

// untimely is an ErrUntimely with a text of its own.
type untimely struct{ what, now string }

func (e untimely) Error() string        { return e.what + e.now }
func (e untimely) Is(target error) bool { return target == ErrUntimely }

// mistake is the text of an error without the time at which it was found, so that the same
// mistake, found again, has the same text.
func mistake(err error) string {
	var e untimely
	if errors.As(err, &e) {
		return e.what
	}
	return err.Error()
}
