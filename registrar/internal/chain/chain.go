// Package chain has lists whose values hold their own place, so that a value leaves its
// list in constant time and joins one without an allocation. It is for one goroutine.
package chain

// List holds values in the order in which they were added. The zero List is empty.
type List[T any] struct {
	head, tail *Place[T]
	n          int
}

// Place is a field of a value that can be in one list at a time. The zero Place is in
// none.
type Place[T any] struct {
	list       *List[T]
	prev, next *Place[T]
	value      *T
}

// Add puts a value at the end of the list, and takes it out of the list that it is in.
// at is the value's own place.
func (l *List[T]) Add(v *T, at *Place[T]) {
	at.Leave()
	*at = Place[T]{list: l, prev: l.tail, value: v}
	if l.tail != nil {
		l.tail.next = at
	} else {
		l.head = at
	}
	l.tail = at
	l.n++
}

// First is the value that has been in the list longest; nil if the list is empty.
func (l *List[T]) First() *T { return l.head.get() }

// Len is the number of values.
func (l *List[T]) Len() int { return l.n }

// Next is the value behind this one; nil if this is the last one, or is in no list.
func (p *Place[T]) Next() *T { return p.next.get() }

// In reports whether the value is in the list.
func (p *Place[T]) In(l *List[T]) bool { return p.list == l }

// Leave takes the value out of its list, if it is in one.
func (p *Place[T]) Leave() {
	l := p.list
	if l == nil {
		return
	}
	if p.prev != nil {
		p.prev.next = p.next
	} else {
		l.head = p.next
	}
	if p.next != nil {
		p.next.prev = p.prev
	} else {
		l.tail = p.prev
	}
	l.n--
	*p = Place[T]{}
}

func (p *Place[T]) get() *T {
	if p == nil {
		return nil
	}
	return p.value
}
