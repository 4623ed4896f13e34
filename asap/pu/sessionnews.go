package pu

import (
	"fmt"

	"github.com/rserpool/coredns-rserpool/asap"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// SessionState is where a session stands.
type SessionState uint8

// The states of a session.
const (
	// Dialing: an element is sought for the first time. (Idle, 0, is not seen.)
	Dialing SessionState = iota + 1
	// Connected: an element serves.
	Connected
	// FailingOver: the element has failed, and the next one is sought.
	FailingOver
	// Closing: after Close, what has been sent is being delivered.
	Closing
	// Ended: the session is over; Session.Err says why.
	Ended
)

var stateNames = [...]string{"idle", "dialing", "connected", "failing over", "closing", "ended"}

// String returns the state in lower case, such as "failing over".
func (s SessionState) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return fmt.Sprintf("state %d", uint8(s))
}

// SessionEventType says what has happened to a session.
type SessionEventType uint8

// The types of SessionEvent.
const (
	// SessionConnected: Element serves, the first one of the session.
	SessionConnected SessionEventType = iota + 1
	// ElementFailing: Element does not serve any more; Err says why. The failover begins.
	ElementFailing
	// ElementTryFailed: Element could not be reached, or has refused the session; Err says
	// why. The next one is tried.
	ElementTryFailed
	// FailedOver: Element serves now, From did before. The event comes when Element has sent
	// something, or 100 ms after the association came up, because until then Element may
	// refuse the session. Messages are sent to it before.
	FailedOver
	// CookieReceived: Element has sent a cookie.
	CookieReceived
	// CardReceived: Element has sent a business card: Card.
	CardReceived
	// SessionEnded: the session is over. Err says why, nil after Close.
	SessionEnded
)

// SessionEvent is news of a session.
type SessionEvent struct {
	Type    SessionEventType
	Element rserpool.PEID
	From    rserpool.PEID
	Card    *asap.BusinessCard
	Err     error
}

// String describes the event in a line.
func (ev SessionEvent) String() string {
	switch ev.Type {
	case SessionConnected:
		return fmt.Sprintf("connected to element %v", ev.Element)
	case ElementFailing:
		return fmt.Sprintf("element %v has failed: %v", ev.Element, ev.Err)
	case ElementTryFailed:
		return fmt.Sprintf("element %v does not serve: %v", ev.Element, ev.Err)
	case FailedOver:
		return fmt.Sprintf("failed over from element %v to %v", ev.From, ev.Element)
	case CookieReceived:
		return fmt.Sprintf("element %v has sent a cookie", ev.Element)
	case CardReceived:
		return fmt.Sprintf("element %v of pool %q has sent a business card; elements that it recommends: %d", ev.Element, string(ev.Card.Handle), len(ev.Card.Elements))
	case SessionEnded:
		if ev.Err == nil {
			return "closed"
		}
		return fmt.Sprintf("ended: %v", ev.Err)
	}
	return fmt.Sprintf("event %d", uint8(ev.Type))
}

// FailoverError says that no element of a pool serves a session.
type FailoverError = rserpool.FailoverError
