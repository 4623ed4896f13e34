//go:build !linux

package localaddr

import "errors"

// watch waits for changes of the machine's interfaces and addresses.
type watch struct{}

// newWatch returns errors.ErrUnsupported.
func newWatch() (*watch, error) { return nil, errors.ErrUnsupported }

// wait returns errors.ErrUnsupported.
func (*watch) wait() error { return errors.ErrUnsupported }

// close does nothing.
func (*watch) close() error { return nil }
