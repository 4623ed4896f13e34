package sctp

import (
	"maps"
	"slices"
	"sync"
)

// Association is one association of an [Endpoint], with the methods of the
// Endpoint that concern it.
type Association interface {
	Send(m Message) error
	Full() bool
	Behind() bool
	Pause()
	Resume()
	Heartbeat()
	Shutdown()
	Abort()
}

// Table holds the associations of an [Endpoint] by their names and passes the
// Endpoint's methods on to them.
type Table[A Association] struct {
	Mu     sync.RWMutex // guards All and Closed
	All    map[AssocID]A
	Closed bool
}

// Add enters an association. Mu is held.
func (t *Table[A]) Add(id AssocID, a A) {
	if t.All == nil {
		t.All = make(map[AssocID]A)
	}
	t.All[id] = a
}

// Remove removes an association.
func (t *Table[A]) Remove(id AssocID) {
	t.Mu.Lock()
	delete(t.All, id)
	t.Mu.Unlock()
}

// CloseTable refuses new associations from now on and returns those that are left.
// first is false if it was called before.
func (t *Table[A]) CloseTable() (left []A, first bool) {
	t.Mu.Lock()
	defer t.Mu.Unlock()
	first = !t.Closed
	t.Closed = true
	return slices.Collect(maps.Values(t.All)), first
}

// find returns an association, or the error that Send returns without one.
func (t *Table[A]) find(id AssocID) (a A, err error) {
	t.Mu.RLock()
	defer t.Mu.RUnlock()
	a, ok := t.All[id]
	switch {
	case ok:
		return a, nil
	case t.Closed:
		return a, ErrClosed
	}
	return a, ErrNoAssoc
}

// Send implements Endpoint.
func (t *Table[A]) Send(id AssocID, m Message) error {
	a, err := t.find(id)
	if err != nil {
		return err
	}
	return a.Send(m)
}

// Full implements Endpoint.
func (t *Table[A]) Full(id AssocID) bool {
	a, err := t.find(id)
	return err == nil && a.Full()
}

// Behind implements Endpoint.
func (t *Table[A]) Behind(id AssocID) bool {
	a, err := t.find(id)
	return err == nil && a.Behind()
}

// Pause implements Endpoint.
func (t *Table[A]) Pause(id AssocID) {
	if a, err := t.find(id); err == nil {
		a.Pause()
	}
}

// Resume implements Endpoint.
func (t *Table[A]) Resume(id AssocID) {
	if a, err := t.find(id); err == nil {
		a.Resume()
	}
}

// Heartbeat implements Endpoint.
func (t *Table[A]) Heartbeat(id AssocID) {
	if a, err := t.find(id); err == nil {
		a.Heartbeat()
	}
}

// Shutdown implements Endpoint.
func (t *Table[A]) Shutdown(id AssocID) {
	if a, err := t.find(id); err == nil {
		a.Shutdown()
	}
}

// Abort implements Endpoint.
func (t *Table[A]) Abort(id AssocID) {
	if a, err := t.find(id); err == nil {
		a.Abort()
	}
}
