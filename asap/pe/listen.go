package pe

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"time"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/internal/session"
	"github.com/rserpool/coredns-rserpool/internal/session/carrier"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Message is a message of a session.
type Message = rserpool.Message

// Cookies seals the states that a [Session] hands out as cookies, and opens those that
// users bring back. *[github.com/rserpool/coredns-rserpool/asap/cookie.Sealer] is one. The
// identity is who the user has proved to be, its [Session.Identity]; it is "" without TLS,
// and for a user without a certificate. Open must refuse a cookie that was sealed for another
// identity. Both methods may be called from several goroutines at a time. A panic of Open ends
// the session: see [Handler].
type Cookies interface {
	Seal(identity string, state []byte) (cookie []byte, err error)
	Open(identity string, cookie []byte) (state []byte, err error)
}

// Cards says when an element sends its business card, which names its pool and the
// elements that it recommends for failover (RFC 5352, Section 3.9).
type Cards uint8

// The rules for business cards.
const (
	// CardsAlways sends one when a session begins, and when the recommendation changes.
	// RSPLIB's users ignore them.
	CardsAlways Cards = iota
	// CardsAfterPeer sends one only to users that have sent one themselves: pool users
	// that are pool elements, too.
	CardsAfterPeer
	// CardsNever sends none.
	CardsNever
)

// ListenConfig configures a [Listener]. Config.Pool and one of Config.Registrars and
// Config.AnnounceGroup are required; other zero fields stand for the defaults.
type ListenConfig struct {
	// Config is that of the registration. Transport is the service's: its type is SCTP,
	// port 0 takes a free one, and its use is data plus control. Without addresses, the
	// service listens on Config.Local, else on all addresses of the machine. UserEncapPort
	// is the service's UDP port for SCTP in UDP; 0 takes a free one. The default policy is
	// round robin.
	Config

	// Cookies seals and opens the cookies. Without it, they are the bytes that SetCookie
	// gets, as with RSPLIB: users can then read, change and forge them.
	Cookies Cookies
	// Cards says when to send business cards.
	Cards Cards
	// PPID is the payload protocol identifier of messages that Session.Send sends; not 11
	// or 12, which belong to RSerPool.
	PPID uint32

	// Capacity, if set, is how many sessions are a load of 100%. The element then tells
	// the pool its load as sessions begin and end, at most once in Timers.MinUpdate. The
	// policy must have a load, such as least used. Its load degradation, if it has one and
	// it is not set, is that of one session.
	Capacity int
	// MaxSessions is the greatest number of sessions, MaxSessionsPerHost that of one
	// user's address; defaults 16384 and half of MaxSessions. Further ones are refused, so
	// that their users try another element. A session counts until it has ended, Accept has
	// returned it, and its Handler has returned.
	MaxSessions, MaxSessionsPerHost int
	// Backlog is how many sessions may wait for Accept, half of them of one address; default
	// 1024. Further ones are refused.
	Backlog int
	// MaxCookie is the length of the longest cookie, in octets, as it is on the wire: a
	// sealed one is longer than its state. Longer ones are refused, from users and from
	// SetCookie. Default 16 KiB, at most 65,527, which fit into a message; all elements of a pool should have the same.
	MaxCookie int
	// MaxReceive is how much memory the messages of one session may take that were not
	// received yet, in bytes with 64 for each message; default 256 KiB. Beyond it, the
	// user must wait. MaxSend is likewise for messages to the user, beyond what SCTP
	// queues; default 64 KiB. Beyond it, Send waits.
	MaxReceive, MaxSend int
	// CloseTime is how long the end of a session may take to send what waits; default 2 s.
	CloseTime time.Duration

	// LeaveTime is how long sessions may go on when Serve and ListenAndServe end; default
	// 10 s.
	LeaveTime time.Duration

	// NotifySession, if set, is called for each event of a session, in the order of its
	// events. It must not block for long, and must not call Close or Leave of the
	// Listener; it may call the Session's methods, and those that wait with a context that
	// has ended. A panic of it ends the session: see [Handler].
	NotifySession func(*Session, SessionEvent)
}

// enrpPPID is the payload protocol identifier of ENRP (RFC 5353, Section 6).
const enrpPPID = 12

const (
	defaultSessions = 16384
	defaultBacklog  = 1024
	defaultCookie   = 16 << 10
	// maxCookie is the longest cookie that fits into a message of ASAP with its header and
	// that of the parameter (RFC 5354, Section 3.13).
	maxCookie = math.MaxUint16 - 8
)

// prepareSessions checks what is beside Config, and fills in the defaults.
func (c *ListenConfig) prepareSessions() (*session.ElementConfig, error) {
	for _, n := range []int{c.Capacity, c.MaxSessions, c.MaxSessionsPerHost, c.Backlog, c.MaxCookie, c.MaxReceive, c.MaxSend, int(c.CloseTime), int(c.LeaveTime)} {
		if n < 0 {
			return nil, errors.New("the limits of sessions must not be negative; 0 stands for the defaults")
		}
	}
	fill := func(n *int, v int) {
		if *n == 0 {
			*n = v
		}
	}
	fill(&c.MaxSessions, defaultSessions)
	fill(&c.MaxSessionsPerHost, max(1, c.MaxSessions/2))
	fill(&c.MaxCookie, defaultCookie)
	fill(&c.Backlog, min(defaultBacklog, c.MaxSessions))
	if c.LeaveTime == 0 {
		c.LeaveTime = 10 * time.Second
	}
	if c.Policy.Type == 0 {
		c.Policy.Type = rserpool.RoundRobin
	}
	t := &c.Transport
	if t.Type == 0 {
		t.Type = rserpool.SCTP
	}
	t.Use = rserpool.DataPlusControl
	switch {
	case t.Type != rserpool.SCTP:
		return nil, fmt.Errorf("sessions are over SCTP, not %v: register servers of other protocols with Open", t.Type)
	case c.Via == rserpool.ViaTCP:
		return nil, errTCP
	case c.PPID == asap.PPID || c.PPID == enrpPPID:
		return nil, fmt.Errorf("field PPID is %d, which belongs to RSerPool: choose another one", c.PPID)
	case c.MaxCookie > maxCookie:
		return nil, fmt.Errorf("field MaxCookie is %d: at most %d octets fit into a message", c.MaxCookie, maxCookie)
	case c.Cards > CardsNever:
		return nil, fmt.Errorf("field Cards is %d: use CardsAlways, CardsAfterPeer or CardsNever", c.Cards)
	}
	if err := c.prepareLoad(); err != nil {
		return nil, err
	}
	rules := [...]session.CardRule{session.CardAlways, session.CardAfterPeer, session.CardNever}
	return session.NewElementConfig(session.ElementConfig{Cards: rules[c.Cards], MaxReceive: c.MaxReceive, MaxSend: c.MaxSend, CloseTime: c.CloseTime}), nil
}

// Validate says what is wrong with the configuration, nil if nothing is. [Listen] checks it,
// too.
func (c ListenConfig) Validate() error {
	if _, err := c.prepareSessions(); err != nil {
		return err
	}
	if c.Transport.Port == 0 {
		c.Transport.Port = 1 // Listen takes a free one
	}
	return c.Config.Validate()
}

// local are the addresses to listen on.
func (c *ListenConfig) local() []netip.AddrPort {
	var all []netip.AddrPort
	for _, a := range c.Transport.Addrs {
		all = append(all, netip.AddrPortFrom(a, c.Transport.Port))
	}
	if len(all) > 0 {
		return all
	}
	for _, l := range c.Local {
		all = append(all, netip.AddrPortFrom(l.Addr(), c.Transport.Port))
	}
	if len(all) > 0 {
		return all
	}
	return []netip.AddrPort{netip.AddrPortFrom(netip.IPv6Unspecified(), c.Transport.Port)}
}

// Listen opens the service's SCTP port, and registers it as [Open] does. Sessions can
// come as soon as a registrar has accepted the element.
func Listen(cfg ListenConfig) (*Listener, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	sessions, err := cfg.prepareSessions()
	if err != nil {
		return nil, err
	}
	m, err := cfg.trust().Sessions()
	if err != nil {
		return nil, err
	}
	l := newListener(cfg, sessions)
	if l.carrier, err = carrier.Open(carrier.Config{
		Via: cfg.Via, EncapPort: cfg.UserEncapPort, Member: m, Logger: cfg.Logger, Listen: cfg.listen,
	}); err != nil {
		return nil, err
	}
	if err := l.open(cfg); err != nil {
		return nil, errors.Join(err, l.carrier.Close())
	}
	return l, nil
}

// open opens the port and the element. Sessions that come meanwhile wait for the element, and
// are refused if there is none. l.mu is not held afterwards: Close of the carrier waits for
// accept.
func (l *Listener) open(cfg ListenConfig) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	port, err := l.carrier.Listen(cfg.local(), l.accept)
	if err != nil {
		return fmt.Errorf("listen for sessions at %v: %w", cfg.local(), err)
	}
	l.local, cfg.Transport.Port, cfg.UserEncapPort = port.LocalAddrs(), port.LocalAddrs()[0].Port(), port.EncapPort()
	l.element, err = Open(cfg.Config)
	l.transport, l.encapPort, l.left = cfg.Transport, cfg.UserEncapPort, err != nil
	return err
}
