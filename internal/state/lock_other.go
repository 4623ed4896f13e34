//go:build !unix

package state

import (
	"io"
	"os"
	"time"
)

// acquire locks nothing: bbolt locks its file.
func acquire(string, time.Duration) (io.Closer, error) { return nil, nil }

// exposed does not know: the mode says nothing about who may write.
func exposed(string) os.FileMode { return 0 }

// isLocked does not know: a file that is open cannot be renamed.
func isLocked(string) bool { return false }

// unlock does nothing: a lock ends with its file descriptor.
func unlock(*os.File) {}
