package sctp

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
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

// AssocID names an association within its Endpoint, from Connect or the event Up
// to the event Down. It is never 0 and never used again.
type AssocID uint64

// IDs gives out AssocIDs that are unique over all transports of a process. The zero
// value is ready; any goroutine may use it.
type IDs struct{ last atomic.Uint64 }

// Next returns a name never given before, starting with 1.
func (a *IDs) Next() AssocID { return AssocID(a.last.Add(1)) }

// Message is one user message.
type Message struct {
	Data   []byte
	PPID   uint32
	Stream uint16
	// Unordered is for sending: the peer may get the message before others that were
	// sent earlier, for instance while a lost one is repeated (RFC 9260, Section 6.6).
	// TCP ignores it. It is not set in received messages.
	Unordered bool
}

// EventType says what happened to an association.
type EventType uint8

// The types of event.
const (
	// Up: the association is established, by us or by the peer.
	Up EventType = iota + 1
	// Received: a whole user message has arrived.
	Received
	// SendFailed: Message could not be delivered; the association may live on.
	SendFailed
	// PeerAddrs: the peer's addresses have changed, for example because more of
	// them are confirmed.
	PeerAddrs
	// Writable: Send returned ErrQueueFull before, and half of the queue is free now.
	// It also comes while the association is paused. If Send returned ErrQueueFull
	// before Up, Up says so.
	Writable
	// PeerDone: the peer, which has connected over TCP, sends no more and may wait
	// for answers to its requests. The user of the Endpoint sends those and then
	// calls Shutdown. Five seconds after PeerDone the transport ends the
	// association in any case.
	PeerDone
	// Down: the association has ended or could not be established. It is the last
	// event of its AssocID. Reason says why.
	Down
)

// Reason says how an association ended.
type Reason uint8

// The reasons for Down.
const (
	// PeerShutdown: the peer shut the association down.
	PeerShutdown Reason = iota + 1
	// PeerAbort: the peer aborted the association.
	PeerAbort
	// Lost: the peer no longer answers.
	Lost
	// ConnectFailed: the association could not be established.
	ConnectFailed
	// LocalClose: this side called Shutdown, Abort or Close.
	LocalClose
	// Overrun: the peer exceeded a limit (message size, queue, half-open time, ...)
	// or broke the protocol, and the association was aborted.
	Overrun
)

// Event is something that happened to an association.
type Event struct {
	Type  EventType
	Assoc AssocID
	Kind  Kind
	// Peer holds the peer's confirmed addresses and its SCTP or TCP port, the
	// primary one first (Up, PeerAddrs). An address is confirmed when the
	// association was established over it or it has acknowledged a HEARTBEAT
	// (RFC 9260, Section 5.4). With Down of SCTP it holds the
	// address used last, if the peer has ever answered.
	Peer []netip.AddrPort
	// Claimed holds the addresses that the peer lists but that are not confirmed:
	// they may belong to another host. Each is sent a HEARTBEAT. When it has
	// answered, usually after one round trip, PeerAddrs has it in Peer.
	Claimed []netip.AddrPort
	// Translated says that the peer's packets come from an address that the peer
	// does not list in its INIT or INIT ACK: an address translation (NAT) is in
	// between. The listed addresses are not in Peer then (Up, PeerAddrs; kind UDP).
	Translated bool
	// EncapPort is the UDP port from which the primary address was last heard
	// (Up); 0 for associations that are not in UDP.
	EncapPort uint16
	// Identity is the name in the peer's certificate (Up). It is empty if the peer has
	// none, and without TLS.
	Identity string
	// Message is set for Received and SendFailed. The Handler owns its Data.
	Message Message
	// Reason is set for Down. Err, if set, says more.
	Reason Reason
	Err    error
	// Farewell says that the peer has ended the association under TLS in good order, and not
	// only below it (Down, with PeerShutdown): it may be about to come back.
	Farewell bool
}

// String describes an event in a line.
func (ev Event) String() string {
	return fmt.Sprintf("{type %d assoc %d %v peer %v message %d bytes reason %d err %v}",
		ev.Type, ev.Assoc, ev.Kind, ev.Peer, len(ev.Message.Data), ev.Reason, ev.Err)
}

// Dest is where to connect to.
type Dest struct {
	// Addrs are the peer's addresses with its SCTP or TCP port. TCP tries them one
	// after the other.
	Addrs []netip.AddrPort
	Kind  Kind
	// EncapPort is the peer's UDP port for kind UDP. 0 is the UDP port that the
	// peer last used, or 9899 if it is not known (RFC 6951, Section 4). For kind Kernel
	// it counts only if the kernel itself uses SCTP in UDP (net.sctp.encap_port).
	EncapPort uint16
}

// The errors that Send returns. Any other error means that the message is invalid.
var (
	// ErrQueueFull: the peer has not read enough of what was sent to it before.
	ErrQueueFull = errors.New("send queue to this peer is full")
	// ErrNoAssoc: the association does not exist, or has ended.
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
	// ErrStalled: the peer has read nothing for Limits.Stalled.
	ErrStalled = errors.New("peer does not read what is sent to it")
	// ErrAddrGone: the machine no longer has an address that the peer knows
	// (ListenConfig.Mobile).
	ErrAddrGone = errors.New("this machine has lost its address toward the peer")
	// ErrRefused: nobody listens at any of the addresses, or the peer aborted the
	// handshake. The peer's host itself has said so. What routers, firewalls and this
	// machine report does not count, nor does an ABORT for want of resources.
	ErrRefused = errors.New("peer refused the association")
	// ErrAborted: the peer aborted the association.
	ErrAborted = errors.New("peer aborted the association")
	// ErrUntrusted: the TLS handshake failed, or one side does not accept the other's
	// certificate. The text says what is wrong, and at which end. The peer lives.
	ErrUntrusted = errors.New("no trusted connection")
	// ErrRenew: the association was shut down so that a new one has the present
	// certificates, and new keys: see Renewal. The peer lives, and expects the new one. It is
	// also in the error if the peer's certificate is not accepted any more, because the peer
	// may have another one by now.
	ErrRenew = errors.New("the association is made anew, with the present certificates and new keys")
	// ErrRestarted: a new association with the peer replaces this one.
	ErrRestarted = errors.New("peer has restarted")
)

// JoinFailures joins the errors of attempts to reach one peer. The result is ErrRefused only
// if all of them are: where one attempt is refused and another one gets no answer, the peer
// may live. Its text is one line.
func JoinFailures(errs []error) error {
	for _, err := range errs {
		if !errors.Is(err, ErrRefused) {
			return joinPlain(errs)
		}
	}
	return Join(errs...)
}

// joinPlain joins errors, of which only those that are not ErrRefused can be unwrapped.
func joinPlain(errs []error) error {
	out := make([]error, len(errs))
	for i, err := range errs {
		if out[i] = err; errors.Is(err, ErrRefused) {
			out[i] = errors.New(err.Error())
		}
	}
	return Join(out...)
}

// Join is errors.Join with a text of one line, since the text becomes part of a line in a
// log: a semicolon separates the errors.
func Join(errs ...error) error {
	errs = slices.DeleteFunc(slices.Clone(errs), func(err error) bool { return err == nil })
	if len(errs) == 0 {
		return nil
	}
	return joined(errs)
}

// joined are one or more errors.
type joined []error

func (j joined) Error() string {
	texts := make([]string, len(j))
	for i, err := range j {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}

// Unwrap returns the errors.
func (j joined) Unwrap() []error { return j }

// GraceTime is how long a shutdown may last before the association is aborted.
const GraceTime = 5 * time.Second

// Endpoint is a local SCTP endpoint with all its associations. Any goroutine may
// call its methods. They never block on a peer; results are reported to the Handler
// that was given when the Endpoint was made.
type Endpoint interface {
	// Connect starts an association and returns its name at once. The event Up or
	// Down follows. After Close it returns 0.
	Connect(to Dest) AssocID
	// Send queues a message. It does not copy m.Data, which the caller must not
	// change afterwards. After ErrQueueFull, the event Writable follows.
	Send(a AssocID, m Message) error
	// Full reports whether so much is queued for the peer that Send would refuse
	// all but short messages.
	Full(a AssocID) bool
	// Behind reports whether more than 16 KiB are queued for the peer, so that a
	// message that was sent last may not have left yet.
	Behind(a AssocID) bool
	// Pause stops the events of an association that is up: up to 4 more messages
	// may be reported, and then nothing but Writable until Resume. What the peer
	// sends meanwhile fills its receive window, so that it must wait, and other
	// associations are not affected. Shutdown, Abort and Close resume. So does, within a
	// second, the end of the association: what its receive window holds is reported, and
	// then Down.
	Pause(a AssocID)
	Resume(a AssocID)
	// Heartbeat sends a HEARTBEAT to the peer's primary address now. A peer that has
	// restarted, and no longer knows the association, answers with an ABORT. Over TCP it
	// does nothing.
	Heartbeat(a AssocID)
	// Shutdown ends an association when all queued messages are delivered, or
	// after GraceTime.
	Shutdown(a AssocID)
	// Abort ends an association at once.
	Abort(a AssocID)
	// LocalAddrs returns the addresses that the endpoint listens on, with its port.
	// The machine's addresses stand in place of an unspecified one.
	LocalAddrs() []netip.AddrPort
	// Close aborts the remaining associations and waits for all goroutines. The
	// Handler is not called after Close has returned.
	Close() error
}

// Handler is called with the events of an Endpoint: those of one association one
// after the other in their order, those of different associations possibly at the
// same time. A Handler that blocks slows down the peers, whose receive windows
// close, and no Send. So that only one peer must wait, the Handler calls Pause instead.
type Handler func(Event)
