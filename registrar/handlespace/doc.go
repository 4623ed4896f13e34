// Package handlespace holds the pools of an operational scope and selects their
// elements by policy (RFC 5356). One writer changes it. Any number of readers, DNS
// handlers and handle resolutions alike, look up pools without a lock, and share each
// pool's policy state under that pool's own lock.
//
// It knows nothing of messages, associations and time: the registrar decides which
// elements are registered, and for how long.
//
// # Selection
//
// Every selection is O(log N) in the number of the pool's elements, for every policy,
// with and without a family filter. All policies are exact; none samples. Where RFC
// 5356 leaves a choice, or the reference implementation differs:
//
//   - Round robin: the first element of an answer moves to the end, the others keep
//     their places, so that the head advances by one. A new element goes to the end. A
//     re-registration keeps the place: otherwise an element that re-registers more
//     often than its turn comes would never be served.
//   - Weighted round robin: in any sequence of selections as long as the sum of
//     weights, each element is first exactly as often as its weight says, at even
//     distances. The others in an answer are the next ones in turn.
//   - Weight 0 means that an element does not serve. It stays in the pool.
//   - Priority, and all least used policies: equal elements are first in turn, by the
//     rule of round robin.
//   - Policies with degradation: every element in an answer counts, not only the first.
//     A registration with other values sets the sum of degradations to the lowest in
//     the pool; see degradation.
//   - Random policies draw without replacement, each draw in proportion to the weights
//     that are left. If all candidates of randomized least used have a load of 100 %,
//     they have equal chances.
//   - Sums of loads and degradations are not cut at 100 %.
//   - Unknown policies are served as round robin.
package handlespace
