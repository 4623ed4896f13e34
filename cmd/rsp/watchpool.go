package main

import (
	"cmp"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/rserpool/coredns-rserpool/asap/pu"
	"github.com/rserpool/coredns-rserpool/rserpool"
)

// changeKind is what rsp watch tells of a pool. `rsp watch --help` explains each.
type changeKind string

const (
	changeRegistrar changeKind = "registrar"
	changePolicy    changeKind = "policy"
	changePresent   changeKind = "present"
	changeJoined    changeKind = "joined"
	changeLeft      changeKind = "left"
	changeChanged   changeKind = "changed"
	changeUnknown   changeKind = "unknown"
	changeEmpty     changeKind = "empty"
	changeError     changeKind = "error"
	changeRestored  changeKind = "restored"
)

// change is one change of a pool.
type change struct {
	at         time.Time
	pool       rserpool.PoolHandle
	kind       changeKind
	element    *rserpool.PoolElement // of present, joined, left and changed
	was        *rserpool.PoolElement // of changed
	fields     []string              // of changed: what differs
	policy     rserpool.Policy       // the pool's
	registrar  string
	subscribed bool
	err        error // of unknown, empty and error
}

// leftTime is how long the table shows an element that has left, and freshTime how long
// it highlights a change.
const (
	leftTime  = 15 * time.Second
	freshTime = 5 * time.Second
)

// watchedElement is a row of the table.
type watchedElement struct {
	rserpool.PoolElement
	since time.Time // when it joined; zero if the first answer had it
	at    time.Time // of the last change; zero without one
	last  changeKind
	what  string // changed, in words
}

// watchedPool follows one pool. It takes what the pool user tells, and returns the
// changes.
type watchedPool struct {
	handle     rserpool.PoolHandle
	started    time.Time
	elements   []watchedElement // by identifier, those that have left lately included
	answered   bool             // a registrar has described the pool, or does not know it
	registrar  string
	policy     rserpool.Policy
	subscribed bool
	err        error // in place of an answer; nil if the last news was an answer
	errAt      time.Time
}

// update takes an answer, or an error in its place.
func (p *watchedPool) update(now time.Time, r *pu.Resolution, err error) []change {
	var changes []change
	add := func(c change) {
		c.at, c.pool, c.policy, c.registrar, c.subscribed = now, p.handle, p.policy, p.registrar, p.subscribed
		changes = append(changes, c)
	}
	if err != nil {
		p.fail(now, err, add)
		return changes
	}
	failed := p.err
	p.err = nil
	policy := p.policy.Type
	if moved := p.registrar != r.Registrar || p.subscribed != r.Subscribed; moved {
		p.registrar, p.subscribed, p.policy = r.Registrar, r.Subscribed, r.Policy
		add(change{kind: changeRegistrar})
	} else if failed != nil && !gone(failed) {
		add(change{kind: changeRestored})
	}
	p.policy = r.Policy
	if policy != r.Policy.Type {
		add(change{kind: changePolicy})
	}
	p.setElements(now, r.Elements, add)
	p.answered = true
	return changes
}

// gone reports whether an error means that the pool has no elements. After other errors,
// the elements are as they were, as far as anyone knows.
func gone(err error) bool {
	var empty *pu.NoElementsError
	return errors.Is(err, pu.ErrUnknownPool) || errors.As(err, &empty)
}

// fail takes an error.
func (p *watchedPool) fail(now time.Time, err error, add func(change)) {
	same := p.err != nil && p.err.Error() == err.Error()
	p.err = err
	if same {
		return
	}
	p.errAt = now
	switch {
	case errors.Is(err, pu.ErrUnknownPool):
		p.setElements(now, nil, add)
		p.answered = true
		add(change{kind: changeUnknown, err: err})
	case gone(err):
		p.setElements(now, nil, add)
		p.answered = true
		add(change{kind: changeEmpty, err: err})
	default:
		add(change{kind: changeError, err: err})
	}
}

// setElements compares the elements with the former ones.
func (p *watchedPool) setElements(now time.Time, list []rserpool.PoolElement, add func(change)) {
	present := make(map[rserpool.PEID]bool, len(list))
	for i := range list {
		e := &list[i]
		present[e.ID] = true
		at, known := p.find(e.ID)
		if !known || p.elements[at].last == changeLeft {
			row := watchedElement{PoolElement: *e, since: now, at: now, last: changeJoined}
			if !p.answered {
				row = watchedElement{PoolElement: *e, last: changePresent}
			}
			if known {
				p.elements[at] = row
			} else {
				p.elements = slices.Insert(p.elements, at, row)
			}
			add(change{kind: row.last, element: e})
			continue
		}
		row := &p.elements[at]
		was := row.PoolElement
		row.PoolElement = *e
		if fields := differences(&was, e); len(fields) > 0 {
			row.at, row.last, row.what = now, changeChanged, strings.Join(fields, ", ")
			add(change{kind: changeChanged, element: e, was: &was, fields: fields})
		}
	}
	for i := range p.elements {
		row := &p.elements[i]
		if row.last != changeLeft && !present[row.ID] {
			row.at, row.last = now, changeLeft
			gone := row.PoolElement
			add(change{kind: changeLeft, element: &gone})
		}
	}
	p.forget(now)
}

// find returns the place of an element in the order.
func (p *watchedPool) find(id rserpool.PEID) (int, bool) {
	return slices.BinarySearchFunc(p.elements, id, func(e watchedElement, id rserpool.PEID) int { return cmp.Compare(e.ID, id) })
}

// forget removes the elements that have left some time ago.
func (p *watchedPool) forget(now time.Time) {
	p.elements = slices.DeleteFunc(p.elements, func(e watchedElement) bool {
		return e.last == changeLeft && now.Sub(e.at) >= leftTime
	})
}

// size is the number of elements in the pool.
func (p *watchedPool) size() int {
	n := 0
	for i := range p.elements {
		if p.elements[i].last != changeLeft {
			n++
		}
	}
	return n
}

// differences names what differs between two states of an element.
func differences(a, b *rserpool.PoolElement) []string {
	var list []string
	if a.UserTransport.Type != b.UserTransport.Type || a.UserTransport.Port != b.UserTransport.Port || a.UserTransport.Use != b.UserTransport.Use {
		list = append(list, "transport")
	}
	if !slices.Equal(a.UserTransport.Addrs, b.UserTransport.Addrs) {
		list = append(list, "addresses")
	}
	if a.Policy != b.Policy {
		list = append(list, "values")
	}
	if a.Home != b.Home {
		list = append(list, "home")
	}
	if a.Life != b.Life {
		list = append(list, "life")
	}
	return list
}
