package session

import (
	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// Message is a user message.
type Message = rserpool.Message

// Ref names what a machine has begun and waits for: an association or a selection. It is
// never 0, and never used again in the same session.
type Ref uint64

// ActionType says what a machine wants done.
type ActionType uint8

// The types of action.
const (
	// Select: choose elements of the pool, and call Selected with Ref and the result.
	Select ActionType = iota + 1
	// Connect: start an association with Element, and call Up or Down with Ref.
	Connect
	// Shutdown: end association Ref in good order. Down follows.
	Shutdown
	// Abort: end association Ref at once. Its later events are of no interest.
	Abort
	// Pause: read nothing more from association Ref, until Resume. The few messages that
	// the performer has taken in by then may still come, and what is on its way when the
	// association ends.
	Pause
	// Resume undoes Pause.
	Resume
	// Report: Element cannot be reached; leave it out of the cache, and tell a registrar
	// (RFC 5352, Section 3.5).
	Report
	// Busy: Element lives, and has refused the session, or is not trusted; leave it out for
	// a while.
	Busy
	// Ask: ask the application which of Messages the next element shall get, if any, and
	// call Answer with Ref and the result.
	Ask
	// Notify: tell the application of Event.
	Notify
)

// Action is something that a machine wants done. What its pointers and slices lead to is
// read only.
type Action struct {
	Type ActionType
	Ref  Ref
	// Element is set for Connect, Report and Busy.
	Element *rserpool.PoolElement
	// Hearsay is set for a Report of an element that the machine knows only from another
	// element's business card. Without it, a hostile element could have others reported,
	// by naming them with addresses that nobody has: compare Element with what the
	// registrar says before telling it.
	Hearsay bool
	// Fresh, Want and Without are set for Select: whether a registrar must be asked; the
	// element that comes first if the pool has it, 0 for none; and elements to leave out.
	Fresh   bool
	Want    rserpool.PEID
	Without []rserpool.PEID
	// Messages is set for Ask.
	Messages []Message
	// Event is set for Notify.
	Event *Event
}

// State is where a session stands.
type State uint8

// The states of a session.
const (
	// Idle: not started.
	Idle State = iota
	// Dialing: an element is sought for the first time.
	Dialing
	// Connected: there is an association.
	Connected
	// FailingOver: the element has failed, and the next one is sought.
	FailingOver
	// Closing: the session is delivering what has been sent.
	Closing
	// Ended: it is over.
	Ended
)

// EventType says what has happened to a session.
type EventType uint8

// The types of event.
const (
	// EventConnected: the first element, Element, serves.
	EventConnected EventType = iota + 1
	// EventFailing: Element does not serve any more; Err says why.
	EventFailing
	// EventTryFailed: Element was tried in a failover, or when dialing, and could not be
	// reached, or has refused the session; Err says why.
	EventTryFailed
	// EventFailedOver: Element serves in place of From. The event comes when Element has
	// sent something, or 100 ms after the association came up: until then Element may
	// refuse the session.
	EventFailedOver
	// EventCookie: Element has sent a cookie. It takes the place of the one before.
	EventCookie
	// EventCard: Element has sent a business card, Card.
	EventCard
	// EventEnded: the session is over; Err says why, nil after Close.
	EventEnded
)

// Event is news of a session for the application.
type Event struct {
	Type    EventType
	Element rserpool.PEID
	From    rserpool.PEID
	Card    *asap.BusinessCard
	Err     error
}
