package handlespace

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
	"slices"

	"github.com/rserpool/coredns-rserpool/rserpool"
)

// addrTree finds elements by address, and tells whether there is any in a network. It is a
// crit-bit tree: an inner node has the first bit in which the addresses below it differ, so
// that both take a walk of at most 128 steps. IPv4 and IPv6 addresses have a tree each.
type addrTree struct{ roots [2]*addrNode }

// addrNode is an inner node, with the bit in which its children differ, or a leaf.
type addrNode struct {
	bit      uint8
	children [2]*addrNode
	leaf     *addrLeaf // nil in inner nodes
}

// addrLeaf has the elements of an address. The first ones have a place of their own, so
// that an answer need not choose of very many, and changes little.
type addrLeaf struct {
	key   addrKey
	first []holder // at most maxHolders
	rest  map[holder]struct{}
}

// holder is an element that has an address.
type holder struct {
	pool *Pool
	id   rserpool.PEID
}

// maxHolders is the most elements that a lookup finds at an address.
const maxHolders = 128

// addrKey has the bits of an address, the first one on the left. An IPv4 address has 32.
type addrKey struct{ hi, lo uint64 }

func keyOf(a netip.Addr) addrKey {
	if a.Is4() {
		b := a.As4()
		return addrKey{hi: uint64(binary.BigEndian.Uint32(b[:])) << 32}
	}
	b := a.As16()
	return addrKey{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

func (k addrKey) at(bit uint8) int {
	if bit < 64 {
		return int(k.hi >> (63 - bit) & 1)
	}
	return int(k.lo >> (127 - bit) & 1)
}

// differs returns the first bit in which two keys differ, 128 if they are equal.
func (k addrKey) differs(o addrKey) int {
	if n := bits.LeadingZeros64(k.hi ^ o.hi); n < 64 {
		return n
	}
	return 64 + bits.LeadingZeros64(k.lo^o.lo)
}

func (t *addrTree) root(a netip.Addr) **addrNode {
	if a.Is4() {
		return &t.roots[0]
	}
	return &t.roots[1]
}

// near returns a leaf that has the longest common prefix with the key; nil if the tree is
// empty.
func near(n *addrNode, k addrKey) *addrLeaf {
	if n == nil {
		return nil
	}
	for n.leaf == nil {
		n = n.children[k.at(n.bit)]
	}
	return n.leaf
}

// find returns the leaf of an address, nil if there is none.
func (t *addrTree) find(a netip.Addr) *addrLeaf {
	k := keyOf(a)
	if l := near(*t.root(a), k); l != nil && l.key == k {
		return l
	}
	return nil
}

// any reports whether there is an address of the network.
func (t *addrTree) any(p netip.Prefix) bool {
	k := keyOf(p.Addr())
	l := near(*t.root(p.Addr()), k)
	return l != nil && l.key.differs(k) >= p.Bits()
}

// add adds an element to an address, if it is not there.
func (t *addrTree) add(a netip.Addr, h holder) {
	k, at := keyOf(a), t.root(a)
	l := near(*at, k)
	if l != nil && l.key == k {
		l.add(h)
		return
	}
	leaf := &addrNode{leaf: &addrLeaf{key: k, first: []holder{h}}}
	if l == nil {
		*at = leaf
		return
	}
	bit := uint8(l.key.differs(k))
	for (*at).leaf == nil && (*at).bit < bit {
		at = &(*at).children[k.at((*at).bit)]
	}
	inner := &addrNode{bit: bit}
	inner.children[k.at(bit)], inner.children[1-k.at(bit)] = leaf, *at
	*at = inner
}

// remove undoes add.
func (t *addrTree) remove(a netip.Addr, h holder) {
	k, at := keyOf(a), t.root(a)
	if *at == nil {
		return
	}
	var parent **addrNode
	for (*at).leaf == nil {
		parent = at
		at = &(*at).children[k.at((*at).bit)]
	}
	if l := (*at).leaf; l.key != k || !l.remove(h) {
		return
	}
	if parent == nil {
		*at = nil
		return
	}
	*parent = (*parent).children[1-k.at((*parent).bit)]
}

func (l *addrLeaf) add(h holder) {
	if slices.Contains(l.first, h) {
		return
	}
	if len(l.first) < maxHolders {
		l.first = append(l.first, h)
		return
	}
	if l.rest == nil {
		l.rest = make(map[holder]struct{})
	}
	l.rest[h] = struct{}{}
}

// remove takes an element out, and reports whether it was the last one.
func (l *addrLeaf) remove(h holder) (empty bool) {
	i := slices.Index(l.first, h)
	if i < 0 {
		delete(l.rest, h)
		return false
	}
	for next := range l.rest { // any one
		delete(l.rest, next)
		l.first[i] = next
		return false
	}
	l.first = slices.Delete(l.first, i, i+1)
	return len(l.first) == 0
}
