package handlespace

import "github.com/rserpool/coredns-rserpool/registrar/internal/slots"

// degradation is what selections have added to the load of each slot's element, for the
// policies that count them: the degradation counter times the Load Degradation (RFC
// 5356, Section 5.2.2). The zero value, without slots, is for the other policies.
//
// In RFC 5356 every registration sets the counter to 0. Here only a registration with
// other values of the policy changes it, and sets the sum to the lowest of the pool.
// With 0, an element that has just registered would get all requests until its sum has
// caught up, and then each of the others in turn. If there are few requests, the lowest
// sum is near 0, as in the RFC.
type degradation struct {
	sums heap // by the sum
	at   []uint32
}

// maxSum bounds the lowest sum: 2^30 selections of 100 %.
const maxSum = 1 << 62

func (d *degradation) of(slot uint32) uint64 { return d.sums[d.at[slot]].hi }

// lowest returns the lowest sum; 0 without slots.
func (d *degradation) lowest() uint64 {
	if len(d.sums) == 0 {
		return 0
	}
	return d.sums[0].hi
}

// insert adds the newest slot, with a sum that differs from the lowest by ahead, but is not
// below 0.
func (d *degradation) insert(slot uint32, ahead int64) {
	d.at = append(d.at, nowhere)
	s := d.lowest()
	if ahead < 0 {
		s -= min(s, -uint64(ahead))
	} else {
		s = sum(s, uint64(ahead))
	}
	d.sums.push(item{key{s, 0}, slot}, d.at)
}

// add counts a selection.
func (d *degradation) add(slot, step uint32) {
	at := d.at[slot]
	d.sums.down(at, item{key{sum(d.sums[at].hi, uint64(step)), 0}, slot}, d.at)
}

// reset sets a slot's sum to the lowest.
func (d *degradation) reset(slot uint32) {
	d.sums.set(d.at[slot], item{key{d.lowest(), 0}, slot}, d.at)
}

// rebase subtracts the lowest sum from all.
func (d *degradation) rebase() {
	lowest := d.lowest()
	for i := range d.sums {
		d.sums[i].hi -= lowest
	}
}

// remove takes a slot out and returns how far its sum was ahead of the lowest of the others.
func (d *degradation) remove(slot uint32) (ahead int64) {
	if len(d.at) == 0 {
		return 0
	}
	had := d.of(slot)
	d.sums.remove(d.at[slot], d.at)
	return int64(min(had, maxSum)) - int64(min(d.lowest(), maxSum))
}

// renumber gives the element of one slot the number of another.
func (d *degradation) renumber(from, to uint32) {
	if len(d.at) > 0 {
		d.at[to] = d.at[from]
		d.sums[d.at[to]].slot = to
	}
}

// cut leaves n slots, and only the memory that they need, unless room is to be left.
func (d *degradation) cut(n int, room bool) {
	if len(d.at) == 0 {
		return
	}
	if d.at = d.at[:n]; !room {
		d.at, d.sums = slots.Shrink(d.at), slots.Shrink(d.sums)
	}
}
