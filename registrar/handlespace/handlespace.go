package handlespace

import (
	"iter"
	"math/rand/v2"
	"time"

	"github.com/rserpool/coredns-rserpool/asap/param"
)

// Families is a set of address families.
type Families uint8

// The address families; the zero set asks for no family in particular.
const (
	IPv4 Families = 1 << iota
	IPv6
)

// Element is a registered pool element. Elements are immutable once they have
// been put into a Space: a change puts another Element with the same ID.
type Element struct {
	param.PoolElement
	// Expires is when the registration life ends; zero for never.
	Expires time.Time
}

// Families returns the address families of the user transport.
func (e *Element) Families() Families {
	var f Families
	for _, a := range e.UserTransport.Addrs {
		if a.Is4() {
			f |= IPv4
		} else {
			f |= IPv6
		}
	}
	return f
}

// Selected is an element that a policy has picked.
type Selected struct {
	*Element
	// Value is what the policy compared or weighed: the weight, the priority
	// or the load with all that was added to it, at the time of selection;
	// 0 for policies without one.
	Value uint32
}

// InconsistentError says why an element does not fit into its pool (RFC 5352,
// Section 3.1, rules 2 and 3).
type InconsistentError struct {
	// Cause is CauseInconsistentPolicy, CauseInconsistentTransportType or
	// CauseInconsistentDataControl.
	Cause param.CauseCode
	// Policy and Transport are the pool's, from its first element.
	Policy    param.PolicyType
	Transport param.Type
	Use       param.TransportUse
}

// Space is a handlespace: all pools of an operational scope. Put, Remove and
// whatever else changes it are for one goroutine at a time; all other methods,
// and those of Pool, are safe for any number of goroutines beside it.
type Space struct{}

// New returns an empty handlespace. Its random policies draw from sources
// seeded by seed alone, and its serial starts at serial.
func New(seed *rand.Rand, serial uint32) *Space { panic("todo") }

// Put adds an element to the pool, which it creates where there is none, or
// replaces the one with the same ID, which it returns. An element that does
// not fit into the pool changes nothing: the error is an *InconsistentError.
func (s *Space) Put(h param.PoolHandle, e *Element) (old *Element, err error) { panic("todo") }

// Remove takes an element out and returns it, nil if it was not there. A pool
// without elements is gone.
func (s *Space) Remove(h param.PoolHandle, id param.PEID) *Element { panic("todo") }

// Pool returns the pool of that handle, nil if there is none.
func (s *Space) Pool(h param.PoolHandle) *Pool { panic("todo") }

// Lookup finds what a DNS name stands for. name is the name's labels joined
// by '.', with escapes undone; ASCII case does not count, and name is not
// kept. The pool is the one whose handle is exactly name, or else the bytewise
// lowest of those that differ in case only; nil if there is none. below tells
// that some handle ends in '.' and name, so that the name is an empty
// non-terminal if it is no pool itself. Lookup does not allocate.
func (s *Space) Lookup(name []byte) (p *Pool, below bool) { panic("todo") }

// Pools iterates over the pools in no particular order. Pools that come and go
// meanwhile may or may not be seen.
func (s *Space) Pools() iter.Seq[*Pool] { panic("todo") }

// Len returns the numbers of pools and elements.
func (s *Space) Len() (pools, elements int) { panic("todo") }

// Serial grows by at least one, in serial number arithmetic (RFC 1982), with
// every change of the handlespace.
func (s *Space) Serial() uint32 { panic("todo") }

// Pool is a pool with the state of its policy. A Pool that has lost its last
// element stays empty for ever: a new one takes its place in the Space.
type Pool struct{}

// Handle returns the pool's handle.
func (p *Pool) Handle() param.PoolHandle { panic("todo") }

// Policy returns the pool's policy type, that of its first element.
func (p *Pool) Policy() param.PolicyType { panic("todo") }

// Transport returns the type and use of the pool's user transport.
func (p *Pool) Transport() (param.Type, param.TransportUse) { panic("todo") }

// Len returns the number of elements.
func (p *Pool) Len() int { panic("todo") }

// Element returns the element with that identifier, nil if there is none.
func (p *Pool) Element(id param.PEID) *Element { panic("todo") }

// Elements appends all elements to dst, ordered by identifier.
func (p *Pool) Elements(dst []*Element) []*Element { panic("todo") }

// Select appends to dst the at most n different elements that the pool's
// policy picks now, in the policy's order, and advances the policy's state. If
// families is not 0, only elements with an address of one of those families
// are candidates. Select takes O(n log N) for N elements and allocates nothing
// but what dst needs to grow.
func (p *Pool) Select(dst []Selected, n int, families Families) []Selected { panic("todo") }

// Error tells what the pool has fixed.
func (e *InconsistentError) Error() string { return "todo" }
