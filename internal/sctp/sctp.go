package sctp

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Kind says what carries an association.
type Kind = rserpool.Via

// The kinds of association.
const (
	// Any lets the endpoint choose: the first kind of SCTP that answers.
	Any = rserpool.ViaAuto
	// Kernel is the operating system's SCTP, either directly over IP or
	// encapsulated by the kernel itself.
	Kernel = rserpool.ViaKernel
	// UDP is user-space SCTP encapsulated in UDP (RFC 6951).
	UDP = rserpool.ViaUDP
	// TCP is a TCP connection, which counts as an association for requests of
	// pool users (RFC 5352, Section 3.3).
	TCP = rserpool.ViaTCP
)

// EncapPort is the UDP port of SCTP in UDP (RFC 6951, Section 5.1).
const EncapPort = 9899

// AssocID names an association within its Endpoint, from the call of Connect
// or the event Up until the event Down. It is never 0 and never used again.
type AssocID uint64

// Message is one user message.
type Message struct {
	Data   []byte
	PPID   uint32
	Stream uint16
}

// EventType says what happened to an association.
type EventType uint8

// The types of event.
const (
	// Up: the association is established, by us or by the peer.
	Up EventType = iota + 1
	// Received: a whole user message has come.
	Received
	// SendFailed: Message could not be delivered; the association may live on.
	SendFailed
	// PeerAddrs: the peer's addresses have changed: more of them are confirmed,
	// say.
	PeerAddrs
	// PeerDone: the peer, which has connected by TCP, will send no more and may
	// wait for answers to what it has sent. The user of the Endpoint gives
	// those and then calls Shutdown; if it does not within five seconds, the
	// transport ends the association.
	PeerDone
	// Down: the association is gone, or never came up. It is the last event
	// of its AssocID. Reason says how.
	Down
)

// Reason says how an association ended.
type Reason uint8

// The reasons for Down.
const (
	// PeerShutdown: the peer shut it down in good order.
	PeerShutdown Reason = iota + 1
	// PeerAbort: the peer aborted it.
	PeerAbort
	// Lost: the peer no longer answers.
	Lost
	// ConnectFailed: it never came up.
	ConnectFailed
	// LocalClose: Shutdown, Abort or Close was called here.
	LocalClose
	// Overrun: the peer went past a limit of ours (message size, queue,
	// half-open time, ...) and was cut off.
	Overrun
)

// Event is something that happened to an association.
type Event struct {
	Type  EventType
	Assoc AssocID
	Kind  Kind
	// Peer holds the peer's confirmed addresses and its SCTP or TCP port, the
	// primary one first (Up, PeerAddrs). An address is confirmed once the
	// association was established by it, or a HEARTBEAT was acknowledged from it
	// (RFC 9260, Section 5.4).
	Peer []netip.AddrPort
	// Claimed holds the addresses that the peer lists and has not confirmed. They
	// may be those of somebody else. Each is asked, and once it has answered,
	// which takes a round trip as a rule, PeerAddrs has it in Peer.
	Claimed []netip.AddrPort
	// Translated says that the address of Peer, from which the packets come, is
	// none of those that the peer lists in its INIT or INIT ACK: there is an
	// address translation (NAT) in between, and what it lists is not in Peer (Up
	// and PeerAddrs, kind UDP).
	Translated bool
	// EncapPort is the UDP port from which the primary address was last heard
	// (Up); 0 for associations that are not in UDP.
	EncapPort uint16
	// Message is set for Received and SendFailed. The receiver of the event
	// owns its Data.
	Message Message
	// Reason is set for Down, Err where there is more to say.
	Reason Reason
	Err    error
}

// String describes an event in a line.
func (ev Event) String() string {
	return fmt.Sprintf("{type %d assoc %d %v peer %v message %d bytes reason %d err %v}",
		ev.Type, ev.Assoc, ev.Kind, ev.Peer, len(ev.Message.Data), ev.Reason, ev.Err)
}

// Dest is where to connect to.
type Dest struct {
	// Addrs are the peer's addresses with its SCTP or TCP port; kinds that
	// have no multi-homing try them in turn.
	Addrs []netip.AddrPort
	Kind  Kind
	// EncapPort is the peer's UDP port for kind UDP. 0 stands for the port
	// that the peer was last heard from, or else 9899 (RFC 6951, Section 4).
	EncapPort uint16
}

// The errors that Send gives; others mean that the message is unfit.
var (
	// ErrQueueFull: the peer does not take what was sent to it before.
	ErrQueueFull = errors.New("send queue to this peer is full")
	// ErrNoAssoc: there is no such association (any more).
	ErrNoAssoc = errors.New("no such association")
	// ErrClosed: the endpoint is closed.
	ErrClosed = errors.New("endpoint is closed")
)

// The errors that an Event may have as its Err.
var (
	// ErrConnected: the endpoint has an association with this peer already.
	ErrConnected = errors.New("there is an association with this peer already")
	// ErrTimeout: the peer did not answer.
	ErrTimeout = errors.New("peer did not answer in time")
	// ErrStalled: the peer was cut off after Limits.Stalled.
	ErrStalled = errors.New("peer does not take what is sent to it")
	// ErrRefused: nobody listens there, or the peer aborted the handshake.
	ErrRefused = errors.New("peer refused the association")
	// ErrRestarted: a new association with the peer takes the place of this one.
	ErrRestarted = errors.New("peer has restarted")
)

// GraceTime is how long a peer has to let an association end in good order.
const GraceTime = 5 * time.Second

// Endpoint is a local SCTP endpoint with all its associations, accepted and
// called. Its methods may be called from any goroutine, never block on a peer,
// and report what becomes of an association through the Handler given at the
// endpoint's making.
type Endpoint interface {
	// Connect starts an association and returns its name at once; Up or Down
	// follows. It gives 0 after Close.
	Connect(to Dest) AssocID
	// Send queues a message, taking a copy of nothing: the caller must not
	// change m.Data afterwards.
	Send(a AssocID, m Message) error
	// Full reports whether the peer does not take what was sent to it before, so
	// that Send would refuse all but short messages.
	Full(a AssocID) bool
	// Shutdown ends an association after what is queued has been delivered,
	// or some seconds later in any case.
	Shutdown(a AssocID)
	// Abort ends an association at once.
	Abort(a AssocID)
	// LocalAddrs are the addresses and the port that the endpoint listens on,
	// without unspecified ones: those are replaced by the machine's addresses.
	LocalAddrs() []netip.AddrPort
	// Close aborts what is left, waits for all goroutines and returns.
	// Nothing is handled after it has returned.
	Close() error
}

// Handler takes the events of an Endpoint. The calls for one association come
// in order, one after the other; those for different ones may come at the same
// time. It may block, which slows down the peers (their receive windows close)
// and nobody else's Send.
type Handler func(Event)
