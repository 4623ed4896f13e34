package pe

import (
	"fmt"
	"math"
	"slices"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// prepareLoad sets the load of an element without sessions, and what one session adds.
func (c *ListenConfig) prepareLoad() error {
	if c.Capacity == 0 {
		return nil
	}
	fields := c.Policy.Type.Fields()
	if !slices.Contains(fields, rserpool.FieldLoad) {
		return fmt.Errorf("field Capacity is set, but policy %v has no load: use one such as LeastUsed", c.Policy.Type)
	}
	if slices.Contains(fields, rserpool.FieldLoadDegradation) && c.Policy.LoadDegradation == 0 {
		c.Policy.LoadDegradation = load(1, c.Capacity)
	}
	return nil
}

// load is the load of n sessions.
func load(n, capacity int) uint32 {
	if n >= capacity {
		return math.MaxUint32
	}
	return uint32(uint64(n) * math.MaxUint32 / uint64(capacity))
}
