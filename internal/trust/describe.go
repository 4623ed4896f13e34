package trust

import (
	"fmt"

	"github.com/rserpool/coredns-rserpool/internal/identity"
)

// Describe says whose certificate these credentials have, and who has signed it; "" without
// one.
func (c *Credentials) Describe() string {
	l := c.loaded.Load()
	switch {
	case len(l.own.Certificate) == 0:
		return ""
	case l.roots == nil:
		return "that of our " + identity.Shared
	}
	return fmt.Sprintf("%s, signed by %s", l.name, issuer(l.own.Leaf))
}
