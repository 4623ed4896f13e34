package pe

import (
	"fmt"
	"math"
	"time"
)

const (
	// MaxAddrs is the most addresses that an element can have: SCTP stacks
	// remember no more of a peer, and a registrar refuses addresses that it
	// does not see in the association (RFC 5352, Section 2.2.1).
	MaxAddrs = 32
	// MinReregistration is the least time between two registrations. Each
	// one is a message to the home registrar, and to all of its peers.
	MinReregistration = time.Second
)

// checkLimits refuses what would be refused by every registrar, or be a load
// on all of them.
func (c *Config) checkLimits() error {
	for _, n := range []int{len(c.Transport.Addrs), len(c.Advertise), len(c.Local)} {
		if n > MaxAddrs {
			return fmt.Errorf("%d addresses: an element can have at most %d, because SCTP stacks remember no more of a peer", n, MaxAddrs)
		}
	}
	if c.Life/c.Dialect.Unit() > math.MaxInt32 {
		return fmt.Errorf("registration life of %v: it must be at most %v, or negative for an infinite one", c.Life, math.MaxInt32*c.Dialect.Unit())
	}
	if life := c.lifetime(); life > 0 && life < 2*MinReregistration {
		return fmt.Errorf("registration life of %v: it must be at least %v, because the time between two registrations must be at least %v", life, 2*MinReregistration, MinReregistration)
	}
	if t := c.Timers.Reregistration; t < MinReregistration {
		return fmt.Errorf("re-registration every %v: the time between two registrations must be at least %v", t, MinReregistration)
	}
	return nil
}
