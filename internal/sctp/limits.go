package sctp

import (
	"fmt"
	"time"
)

// withDefaults fills in what is not set.
func (l Limits) withDefaults() Limits {
	setDefault(&l.Associations, 65536)
	setDefault(&l.HalfOpen, 1024)
	setDefault(&l.HandshakeTime, 10*time.Second)
	setDefault(&l.MessageSize, 65536+64)
	setDefault(&l.SendQueueMessages, 4096)
	setDefault(&l.SendQueueBytes, 1<<20)
	setDefault(&l.SendQueueTotal, 32<<20)
	setDefault(&l.IdleTCP, 5*time.Minute)
	setDefault(&l.Heartbeat, 10*time.Second)
	setDefault(&l.Misses, 3)
	return l
}

// errFull says that an endpoint has as many associations as it may have.
func (l *Limits) errFull() error {
	return fmt.Errorf("this endpoint has %d associations, its limit", l.Associations)
}

func setDefault[T int | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}
