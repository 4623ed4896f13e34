// Package handlespace holds the pools of an operational scope and selects
// their elements by policy (RFC 5356). One writer changes it, and any number
// of readers, DNS handlers and handle resolutions alike, look up pools without
// a lock and share each pool's policy state under that pool's own lock.
//
// It knows nothing of messages, associations and time: who may register what,
// and when a registration ends, is the registrar's to decide.
//
// # Selection
//
// Every selection is O(log N) in the number of the pool's elements, for every
// policy, with and without a family filter. All policies are exact, none is
// sampled. Where RFC 5356 leaves a choice, or the reference implementation
// differs, it is made thus:
//
//   - Round robin: the first element of an answer goes to the end, the others
//     keep their places, so that the head advances by one. A newcomer goes to
//     the end. A re-registration keeps the place: elements that re-register
//     more often than their turn comes would never be served otherwise.
//   - Weighted round robin: within every run of selections as long as the sum
//     of weights, each element is first exactly as often as its weight says,
//     at even distances. The others in an answer are those whose turns come
//     next.
//   - Weight 0 means that an element does not serve. It stays in the pool.
//   - Priority, and all least used policies: equal elements are first in turn,
//     by the rule of round robin.
//   - Policies with degradation: every element in an answer counts, not only
//     the first. A registration with other values sets what the selections have
//     added to the lowest that any element of the pool has; see degradation.
//   - Random policies draw without putting back, each draw by what is left.
//     Where all candidates of randomized least used are loaded to 100 %, they
//     have equal chances.
//   - Sums of loads and degradations have no ceiling at 100 %.
//   - Unknown policies are served as round robin.
package handlespace
