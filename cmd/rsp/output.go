package main

import (
	"io"
	"os"
	"sync"
)

// output is the standard output. It keeps the first error, because not every writer looks
// at it: cobra's help does not, and neither do the heads of tables. It may be used by any
// goroutine.
type output struct {
	w   io.Writer
	mu  sync.Mutex
	err error
}

// Write writes to the standard output.
func (o *output) Write(b []byte) (int, error) {
	n, err := o.w.Write(b)
	if err != nil {
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.err == nil {
			o.err = err
		}
	}
	return n, err
}

// failed returns the first error of Write.
func (o *output) failed() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

// fileOf returns the file that w writes to, if it is one.
func fileOf(w io.Writer) (*os.File, bool) {
	if o, ok := w.(*output); ok {
		w = o.w
	}
	f, ok := w.(*os.File)
	return f, ok
}
