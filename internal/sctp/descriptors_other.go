//go:build !unix

package sctp

import "math"

// Descriptors is how many associations, each with a descriptor, an endpoint may
// have. Here it is not known.
func Descriptors() int { return math.MaxInt }

// NoDescriptor returns err.
func NoDescriptor(err error) error { return err }
