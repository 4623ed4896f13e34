package session

import (
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Unacked says what becomes in a failover of the messages that were sent and are not done
// with: Ack has not been called for them.
type Unacked uint8

// The choices for unacknowledged messages.
const (
	// Drop keeps no message that has been sent.
	Drop Unacked = iota
	// Resend sends them to the next element, in their order.
	Resend
	// AskApp has the application decide.
	AskApp
)

// Limits that are not options.
const (
	// MaxMessage is the largest message, in bytes.
	MaxMessage = 65536
	// maxCardElements is how many elements of a business card are used; more are passed
	// over.
	maxCardElements = 16
	// maxSilent is how many elements of a last will may be silent before it is given up.
	maxSilent = 2
	// maxCardAddrs is how many addresses of an element of a business card are used.
	maxCardAddrs = 8
	// vainTime is how long no last will is used after one of which no element has served.
	// With these limits, a hostile element can have few INITs sent to addresses of its choice.
	vainTime = 10 * time.Second
	// maxLeftOut is how many elements are left out of the selection. When so many have
	// failed, the search pauses and begins again with all.
	maxLeftOut = 64
	// maxAttempts is how many attempts a FailoverError keeps, the last ones.
	maxAttempts = 16
	// maxReplies is how many replies to a peer's faulty messages may wait. Further ones
	// are not made: a peer that reads no replies does not need more.
	maxReplies = 4
	// The receive queue pauses reading beyond its bound and resumes at half of it.
	defaultReceive = 256 << 10
	defaultUnacked = 1 << 20
	// steadyTime: an association counts as good when it has lasted so long, or the
	// element has sent a message. Until then the time of the failover goes on.
	steadyTime = 2 * time.Second
	// After maxFlaps associations in a row that have lasted less than flapTime, the search
	// pauses before the next one.
	flapTime = 100 * time.Millisecond
	maxFlaps = 3
	// maxStream is the greatest stream. RSPLIB asks for so many as well.
	maxStream = 9
	// failGrace is how long the end of an association may come after a failed delivery.
	failGrace = 100 * time.Millisecond
	// The pause when every candidate has failed: it doubles from firstPause to maxPause,
	// with up to a quarter more by chance.
	firstPause = 100 * time.Millisecond
	maxPause   = 3 * time.Second
)

// UserConfig configures a [User]. Zero fields stand for the defaults.
type UserConfig struct {
	Pool rserpool.PoolHandle
	// Element is tried first if the pool has it; 0: as the pool's policy selects.
	Element rserpool.PEID
	// Only, if set, is the only element that is tried. None is selected then. It implies
	// NoFailover.
	Only *rserpool.PoolElement
	// Cookie, if set, is echoed to the first element, too: the session goes on with what
	// an earlier one had.
	Cookie []byte
	// Card, if set, is the business card of the user, which is a pool element itself.
	Card *asap.BusinessCard
	// Unacked says what becomes of unacknowledged messages in a failover, MaxUnacked how
	// much memory they may take, in bytes with 64 for each message; default 1 MiB.
	Unacked    Unacked
	MaxUnacked int
	// MaxReceive is how much memory received messages may take, counted likewise, before
	// reading pauses; default 256 KiB.
	MaxReceive int
	// AnswerTimeout: the element has failed if it sends nothing for so long after a
	// message was sent to it, or, except with Drop and a stream, after an answer while it owes
	// another one; 0: no such limit.
	AnswerTimeout time.Duration
	// FailoverTime is how long the search for an element may last in all; default 30 s.
	FailoverTime time.Duration
	// ConnectTime is how long an association may take to come up; default 2 s.
	ConnectTime time.Duration
	// CloseTime is how long Close may take to deliver what has been sent; default 2 s.
	CloseTime time.Duration
	// EndOnShutdown: the session ends if the element shuts the association down.
	// Otherwise that is a failure as others are, but not reported.
	EndOnShutdown bool
	// NoFailover: the session ends when its first element fails (RFC 5352, Section 6.5.5,
	// ASAP_SEND_NO_FAILOVER).
	NoFailover bool
	// Seed varies the pauses of the search, so that sessions do not come in step.
	Seed uint64
}

func (c *UserConfig) fillDefaults() {
	fill := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	fill(&c.FailoverTime, 30*time.Second)
	fill(&c.ConnectTime, 2*time.Second)
	fill(&c.CloseTime, 2*time.Second)
	c.NoFailover = c.NoFailover || c.Only != nil
	if c.MaxUnacked <= 0 {
		c.MaxUnacked = defaultUnacked
	}
	if c.MaxReceive <= 0 {
		c.MaxReceive = defaultReceive
	}
}
