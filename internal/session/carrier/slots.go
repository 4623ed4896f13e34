package carrier

import (
	"math/bits"
	"net/netip"
	"slices"
)

// slotSet is a set of small numbers: the slots whose endpoints have an association with a
// peer.
type slotSet struct{ words []uint64 }

func (s *slotSet) add(n int) {
	for len(s.words) <= n/64 {
		s.words = append(s.words, 0)
	}
	s.words[n/64] |= 1 << (n % 64)
}

func (s *slotSet) remove(n int) {
	s.words[n/64] &^= 1 << (n % 64)
	for len(s.words) > 0 && s.words[len(s.words)-1] == 0 {
		s.words = s.words[:len(s.words)-1]
	}
}

func (s *slotSet) empty() bool { return len(s.words) == 0 }

// freeSlot returns the first slot, from the given one on, that has no association with
// a peer at any of its addresses. c.mu is held.
func (c *Carrier) freeSlot(peer []netip.AddrPort, from int) int {
	var sets []*slotSet
	for _, ap := range peer {
		if s := c.peers[plain(ap)]; s != nil {
			sets = append(sets, s)
		}
	}
	for i := from / 64; ; i++ {
		var used uint64
		if i == from/64 {
			used = 1<<(from%64) - 1
		}
		for _, s := range sets {
			if i < len(s.words) {
				used |= s.words[i]
			}
		}
		if used != ^uint64(0) {
			return 64*i + bits.TrailingZeros64(^used)
		}
	}
}

// learn notes addresses of the peer of an association. c.mu is held.
func (c *Carrier) learn(a *Assoc, e *endpoint, peer []netip.AddrPort) {
	if e.slot < 0 {
		return
	}
	for _, ap := range peer {
		ap = plain(ap)
		if slices.Contains(a.keys, ap) {
			continue
		}
		if c.peers[ap] == nil {
			c.peers[ap] = new(slotSet)
		}
		c.peers[ap].add(e.slot)
		e.peers[ap]++
		a.keys = append(a.keys, ap)
	}
}

// unlearn forgets the addresses of an association that has ended. c.mu is held.
func (c *Carrier) unlearn(a *Assoc, e *endpoint) {
	for _, ap := range a.keys {
		if e.peers[ap]--; e.peers[ap] > 0 {
			continue // two associations, until one of them is tried at another endpoint
		}
		delete(e.peers, ap)
		c.peers[ap].remove(e.slot)
		if c.peers[ap].empty() {
			delete(c.peers, ap)
		}
	}
	a.keys = nil
}

// plain returns an address as a key.
func plain(ap netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()) }
